//! A table of calls by id: open addressing, linear probing, at most half full.

/// Something with an id of its own.
pub(super) trait Keyed {
    fn key(&self) -> u64;
}

/// Starts small and doubles with the calls it holds; never shrinks below its start.
#[derive(Debug)]
pub(super) struct Table<T> {
    places: Vec<Option<T>>,
    len: usize,
}

const PLACES_START: usize = 32;

impl<T: Keyed> Table<T> {
    /// For at most `limit` entries, which the caller sees to.
    pub(super) fn new(limit: usize) -> Table<T> {
        let places = PLACES_START.min((2 * limit).next_power_of_two());
        Table { places: (0..places).map(|_| None).collect(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn mask(&self) -> usize {
        self.places.len() - 1
    }

    /// Ids of one side are all odd or all even, and follow each other: a hash could only spread them worse.
    fn home(&self, key: u64) -> usize {
        (key >> 1) as usize & self.mask()
    }

    /// Where `key` is, or the first free place on the way to it.
    fn find(&self, key: u64) -> usize {
        let mut at = self.home(key);
        while self.places[at].as_ref().is_some_and(|entry| entry.key() != key) {
            at = (at + 1) & self.mask();
        }
        at
    }

    pub(super) fn insert(&mut self, entry: T) {
        if (self.len + 1) * 2 > self.places.len() {
            let len = self.places.len() * 2;
            let old = std::mem::replace(&mut self.places, (0..len).map(|_| None).collect());
            for entry in old.into_iter().flatten() {
                let at = self.find(entry.key());
                self.places[at] = Some(entry);
            }
        }
        let at = self.find(entry.key());
        if self.places[at].replace(entry).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let at = self.find(key);
        self.places[at].as_mut()
    }

    /// Takes an entry out and moves back those that probed past it.
    pub(super) fn remove(&mut self, key: u64) -> Option<T> {
        let mut hole = self.find(key);
        let entry = self.places[hole].take()?;
        self.len -= 1;
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask();
            let Some(other) = &self.places[at] else {
                return Some(entry);
            };
            // Its way from home to here passes the hole: it moves into it.
            let way = at.wrapping_sub(self.home(other.key())) & self.mask();
            if way >= at.wrapping_sub(hole) & self.mask() {
                self.places[hole] = self.places[at].take();
                hole = at;
            }
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten()
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.len = 0;
        self.places.iter_mut().filter_map(Option::take).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    impl Keyed for (u64, u32) {
        fn key(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn it_holds_what_a_hash_map_holds() {
        let mut table = Table::new(1 << 10);
        let mut model = HashMap::new();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let key = 1 + 2 * (random >> 8) % 512;
            if random & 1 == 0 && model.len() < 200 {
                table.insert((key, step));
                model.insert(key, step);
            } else {
                assert_eq!(table.remove(key).map(|entry| entry.1), model.remove(&key));
            }
            assert_eq!(table.len(), model.len());
        }
        for (key, value) in model {
            assert_eq!(table.get_mut(key), Some(&mut (key, value)));
        }
    }
}
