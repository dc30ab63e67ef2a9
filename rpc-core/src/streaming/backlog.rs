//! Items that have no room yet, where a slow reader is to miss some rather than wait for all.

use super::send::LITTLE_LEN;
use crate::frame::ITEM_HEAD_LEN;
use crate::method::Slow;

/// Encoded items, each behind its length, oldest first.
#[derive(Debug)]
pub(super) struct Backlog {
    keeps: Keeps,
    bytes: Vec<u8>,
    /// Where the oldest item begins. What is before it makes room for the next ones when it is more than half of all.
    start: usize,
    /// Items left out so far.
    missed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Keeps {
    /// The newest of them, together no longer than this; at least one.
    Bytes(usize),
    One,
}

impl Backlog {
    /// `None` where nobody misses anything. At most `max` bytes are kept, or one item.
    pub(super) fn new(slow: Slow, max: impl FnOnce() -> usize) -> Option<Backlog> {
        let keeps = match slow {
            Slow::Block => return None,
            Slow::DropOldest => Keeps::Bytes(max()),
            Slow::Latest => Keeps::One,
        };
        Some(Backlog { keeps, bytes: Vec::new(), start: 0, missed: 0 })
    }

    /// Whether items go one by one, each when the one before was taken.
    pub(super) fn goes_singly(&self) -> bool {
        matches!(self.keeps, Keeps::One)
    }

    pub(super) fn missed(&self) -> u64 {
        self.missed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Bytes of items.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Adds whole items, which are gone from `items` then, and leaves out the oldest. In a `glut` it becomes no longer, but for a
    /// little.
    pub(super) fn add(&mut self, items: &mut Vec<u8>, glut: bool) {
        let most = if glut { self.len().max(LITTLE_LEN) } else { usize::MAX };
        if self.is_empty() && matches!(self.keeps, Keeps::Bytes(max) if items.len() <= max.min(most)) {
            // As long as the reader keeps up, nothing is copied.
            self.bytes.clear();
            self.start = 0;
            return std::mem::swap(&mut self.bytes, items);
        }
        // Only where less has to be moved than is gone: a full one would else move all of itself for each item.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..std::mem::take(&mut self.start));
        }
        self.bytes.append(items);
        loop {
            let first = self.len_at(self.start);
            let rest = self.len();
            let keeps = match self.keeps {
                Keeps::Bytes(max) => rest <= max.min(most),
                Keeps::One => false,
            };
            if keeps || rest <= first {
                break;
            }
            self.start += first;
            self.missed += 1;
        }
    }

    /// Moves the oldest items into `batch`, which is empty: one, or as many as make `len` bytes.
    pub(super) fn take(&mut self, len: usize, batch: &mut Vec<u8>) {
        let mut end = self.start;
        while end < self.bytes.len() && end - self.start < len {
            end += self.len_at(end);
            if self.goes_singly() {
                break;
            }
        }
        if self.start == 0 && end == self.bytes.len() {
            std::mem::swap(&mut self.bytes, batch);
            return;
        }
        batch.extend_from_slice(&self.bytes[self.start..end]);
        self.start = end;
    }

    /// The length, head included, of the item that begins at `at`; all that is left if there is no head.
    fn len_at(&self, at: usize) -> usize {
        let rest = &self.bytes[at..];
        match rest.first_chunk::<ITEM_HEAD_LEN>() {
            Some(head) => (ITEM_HEAD_LEN + u32::from_le_bytes(*head) as usize).min(rest.len()),
            None => rest.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Items of one byte each.
    fn items(numbers: impl IntoIterator<Item = u8>) -> Vec<u8> {
        numbers.into_iter().flat_map(|number| [1, 0, 0, 0, number]).collect()
    }

    fn take(backlog: &mut Backlog, len: usize) -> Vec<u8> {
        let mut batch = Vec::new();
        backlog.take(len, &mut batch);
        batch
    }

    #[test]
    fn the_oldest_are_left_out() {
        let mut backlog = Backlog::new(Slow::DropOldest, || 15).unwrap();
        backlog.add(&mut items(0..2), false);
        assert_eq!(backlog.missed(), 0);
        backlog.add(&mut items(2..6), false);
        assert_eq!(backlog.missed(), 3);
        assert_eq!(take(&mut backlog, 6), items(3..5));
        backlog.add(&mut items(6..7), false);
        assert_eq!((backlog.missed(), take(&mut backlog, 100)), (3, items(5..7)));
        assert!(backlog.is_empty() && take(&mut backlog, 100).is_empty());
        // Also of those that come at once, and one is kept however long it is.
        backlog.add(&mut items(0..100), false);
        assert_eq!((backlog.missed(), take(&mut backlog, 100)), (100, items(97..100)));
        let mut long = [&[40, 0, 0, 0][..], &[7; 40]].concat();
        backlog.add(&mut [items(0..1), long.clone()].concat(), false);
        assert_eq!((backlog.missed(), take(&mut backlog, 1)), (101, long.clone()));
        backlog.add(&mut long, false);
        backlog.add(&mut items(1..2), false);
        assert_eq!((backlog.missed(), take(&mut backlog, 1)), (102, items(1..2)));
    }

    #[test]
    fn in_a_glut_it_becomes_no_longer() {
        let mut backlog = Backlog::new(Slow::DropOldest, || 1 << 20).unwrap();
        backlog.add(&mut items((0..250).chain(0..250)), false);
        assert_eq!((backlog.len(), backlog.missed()), (2500, 0));
        backlog.add(&mut items(0..100), true);
        assert_eq!((backlog.len(), backlog.missed()), (2500, 100));
        take(&mut backlog, 2000);
        backlog.add(&mut items(0..250), true);
        assert_eq!((backlog.len(), backlog.missed()), (1020, 246));
        backlog.add(&mut items(0..250), false);
        assert_eq!((backlog.len(), backlog.missed()), (2270, 246));
    }

    #[test]
    fn a_full_one_moves_no_more_than_is_added() {
        const ITEMS: usize = 1000;
        let mut backlog = Backlog::new(Slow::DropOldest, || ITEMS * 5).unwrap();
        let (mut added, mut moved) = (0, 0);
        for number in 0..20 * ITEMS {
            let before = (backlog.start, backlog.missed());
            backlog.add(&mut items([number as u8]), false);
            added += 5;
            let dropped = 5 * (backlog.missed() - before.1) as usize;
            if backlog.start != before.0 + dropped {
                moved += backlog.bytes.len() - backlog.start;
            }
            assert!(backlog.bytes.len() <= 2 * ITEMS * 5 + 10, "{} bytes", backlog.bytes.len());
        }
        assert!(moved <= added, "{moved} of {added} bytes");
        assert_eq!(backlog.missed(), 19 * ITEMS as u64);
        let kept = items((19 * ITEMS..20 * ITEMS).map(|number| number as u8));
        assert_eq!(take(&mut backlog, usize::MAX), kept);
    }

    #[test]
    fn the_newest_is_kept() {
        let mut backlog = Backlog::new(Slow::Latest, || 1000).unwrap();
        backlog.add(&mut items(0..5), false);
        assert_eq!((backlog.missed(), take(&mut backlog, 100)), (4, items(4..5)));
        backlog.add(&mut items(5..6), false);
        backlog.add(&mut items(6..7), false);
        assert_eq!((backlog.missed(), take(&mut backlog, 100)), (5, items(6..7)));
        assert!(backlog.is_empty());
    }
}
