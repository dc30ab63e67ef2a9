//! A table of calls by id: open addressing, linear probing, at most half full.
//!
//! Of two entries that want the same place the one further from its home has it ("Robin Hood hashing", Celis 1985). So
//! whoever stands at home ends the way of all before it, and a search or a removal need not look beyond.

/// Something with an id of its own.
pub(super) trait Keyed {
    fn key(&self) -> u64;
}

/// Has one place as long as nothing has been in it, then grows with what it holds.
#[derive(Debug)]
pub(super) struct Table<T> {
    places: Vec<Option<T>>,
    len: usize,
}

const PLACES_BUSY: usize = 32;

impl<T: Keyed> Table<T> {
    pub(super) fn new() -> Table<T> {
        Table { places: Vec::from([None]), len: 0 }
    }

    /// Gives memory back, if it is empty.
    pub(super) fn rest(&mut self) {
        if self.len == 0 {
            *self = Table::new();
        }
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

    /// How far the entry at `at`, if there is one, is from its home.
    fn distance(&self, at: usize) -> Option<usize> {
        self.places[at].as_ref().map(|entry| at.wrapping_sub(self.home(entry.key())) & self.mask())
    }

    fn find(&self, key: u64) -> Option<usize> {
        let mut at = self.home(key);
        let mut way = 0;
        // Mostly it stands at home. One that is nearer to its own home would have had to give way.
        while self.places[at].as_ref()?.key() != key {
            if self.distance(at)? < way {
                return None;
            }
            at = (at + 1) & self.mask();
            way += 1;
        }
        Some(at)
    }

    /// Adds an entry, of whose key there is none yet.
    #[inline(always)]
    pub(super) fn insert(&mut self, entry: T) {
        if (self.len + 1) * 2 > self.places.len() {
            let len = (self.places.len() * 2).max(PLACES_BUSY);
            let old = std::mem::replace(&mut self.places, (0..len).map(|_| None).collect());
            for entry in old.into_iter().flatten() {
                self.settle(entry);
            }
        }
        self.len += 1;
        let home = self.home(entry.key());
        match &mut self.places[home] {
            free @ None => *free = Some(entry),
            Some(_) => self.settle(entry),
        }
    }

    fn settle(&mut self, entry: T) {
        let mut at = self.home(entry.key());
        let mut homeless = Some(entry);
        let mut way = 0;
        while homeless.is_some() {
            match self.distance(at) {
                Some(distance) if distance >= way => {}
                distance => {
                    std::mem::swap(&mut self.places[at], &mut homeless);
                    way = distance.unwrap_or(0);
                }
            }
            at = (at + 1) & self.mask();
            way += 1;
        }
    }

    pub(super) fn get(&self, key: u64) -> Option<&T> {
        self.places[self.find(key)?].as_ref()
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let at = self.find(key)?;
        self.places[at].as_mut()
    }

    /// Drops an entry, and moves back those that gave way to it; whether there was one.
    pub(super) fn remove(&mut self, key: u64) -> bool {
        let found = self.find(key);
        if let Some(at) = found {
            self.close(at);
        }
        found.is_some()
    }

    /// Takes an entry out.
    pub(super) fn take(&mut self, key: u64) -> Option<T> {
        let at = self.find(key)?;
        let entry = self.places[at].take();
        self.close(at);
        entry
    }

    fn close(&mut self, mut hole: usize) {
        self.len -= 1;
        loop {
            let next = (hole + 1) & self.mask();
            if self.distance(next).unwrap_or(0) == 0 {
                self.places[hole] = None;
                return;
            }
            self.places[hole] = self.places[next].take();
            hole = next;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
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
        let mut table = Table::new();
        let mut model = HashMap::new();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let key = 1 + 2 * (random >> 8) % 512;
            if random & 1 == 0 && model.len() < 200 && !model.contains_key(&key) {
                table.insert((key, step));
                model.insert(key, step);
            } else {
                assert_eq!(table.remove(key), model.remove(&key).is_some());
            }
            assert_eq!(table.get_mut(key).map(|entry| entry.1), model.get(&key).copied());
            assert_eq!(table.len(), model.len());
        }
        for (key, value) in model {
            assert_eq!(table.get_mut(key), Some(&mut (key, value)));
        }
    }
}
