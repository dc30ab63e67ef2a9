//! Bytes of a stream that have come and were not fetched, in buffers of a bounded length.
//!
//! So they take little more memory than they are long, where one buffer that grows takes twice as much, and whoever fetches
//! them takes a part at a time. As long as they are few, they all lie in one buffer, which is swapped for the receiver's.

use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Those that nothing is added to, oldest first.
    full: VecDeque<Piece>,
    last: Piece,
    /// A buffer that is empty, for the piece after the last.
    spare: Vec<u8>,
    len: usize,
    free: usize,
    /// Items left out before the last piece, in all.
    missed: u64,
}

#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    /// How many of them do not count in the window of all streams.
    free: usize,
    /// Items left out before it, in all.
    missed: u64,
}

impl Pieces {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that do not count in the window of all streams.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Those that do.
    pub(super) fn counted(&self) -> u64 {
        (self.len - self.free) as u64
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], free: bool) {
        self.len += bytes.len();
        self.free += if free { bytes.len() } else { 0 };
        while !bytes.is_empty() {
            if self.last.bytes.len() >= PIECE_LEN {
                self.close();
            }
            let last = &mut self.last;
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_LEN - last.bytes.len()));
            let len = last.bytes.len() + now.len();
            if len > last.bytes.capacity() && len > PIECE_LEN / 2 {
                last.bytes.reserve_exact(PIECE_LEN - last.bytes.len());
            }
            last.bytes.extend_from_slice(now);
            last.free += if free { now.len() } else { 0 };
            bytes = later;
        }
    }

    /// So many items were left out, in all, before what comes next. A peer that says fewer than before is not believed.
    pub(super) fn mark(&mut self, missed: u64) {
        if missed <= self.missed {
            return;
        }
        // A piece for each mark, but not for one in every few bytes: then it counts a little early.
        if !self.last.bytes.is_empty() && self.full.len() < MARKS_MAX + self.len / PIECE_LEN {
            self.close();
        }
        self.missed = missed;
        self.last.missed = missed;
    }

    /// Nothing is added to the last piece any more.
    fn close(&mut self) {
        let next = Piece { bytes: std::mem::take(&mut self.spare), free: 0, missed: self.missed };
        self.full.push_back(std::mem::replace(&mut self.last, next));
    }

    /// Swaps the oldest piece for `buffer`, which is empty. How many of its bytes count in the window of all streams, and how
    /// many items were left out before it, in all.
    pub(super) fn take(&mut self, buffer: &mut Vec<u8>) -> (u64, u64) {
        let (free, missed) = match self.full.pop_front() {
            Some(piece) => {
                let emptied = std::mem::replace(buffer, piece.bytes);
                if self.spare.capacity() == 0 {
                    self.spare = emptied;
                }
                (piece.free, piece.missed)
            }
            None => {
                std::mem::swap(buffer, &mut self.last.bytes);
                (std::mem::take(&mut self.last.free), self.missed)
            }
        };
        self.len -= buffer.len();
        self.free -= free;
        ((buffer.len() - free) as u64, missed)
    }

    /// What one that is dropped holds of the window of all streams.
    pub(super) fn clear(&mut self) -> (u64, u64) {
        let dropped = std::mem::take(self);
        (dropped.len as u64, dropped.counted())
    }
}

/// A receiver fetches so many bytes at a time. A quarter of the usual window, so that the next credit can leave with it.
const PIECE_LEN: usize = 64 << 10;
/// So many pieces may be shorter because a mark stands behind them.
const MARKS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_and_take_no_more_than_their_length() {
        let (mut pieces, mut buffer, mut taken) = (Pieces::default(), Vec::new(), Vec::new());
        let mut sent = Vec::new();
        let mut counted = 0;
        for round in 0..400_usize {
            let bytes: Vec<u8> = (0..round * 97 % 9000).map(|at| (at ^ round) as u8).collect();
            pieces.push(&bytes, round % 3 == 0);
            counted += if round % 3 == 0 { 0 } else { bytes.len() as u64 };
            sent.extend(bytes);
            if round % 40 == 39 {
                let capacity: usize = pieces.full.iter().map(|piece| piece.bytes.capacity()).sum();
                assert!(capacity + pieces.last.bytes.capacity() <= pieces.len() + PIECE_LEN);
                while pieces.len() > 0 {
                    buffer.clear();
                    counted -= pieces.take(&mut buffer).0;
                    assert!(!buffer.is_empty() && buffer.len() <= PIECE_LEN);
                    taken.extend_from_slice(&buffer);
                }
                assert_eq!((counted, pieces.free(), pieces.counted()), (0, 0, 0));
            }
        }
        assert_eq!(taken, sent);
    }

    #[test]
    fn marks_stand_where_they_came() {
        let (mut pieces, mut buffer) = (Pieces::default(), Vec::new());
        pieces.push(&[0; 10], false);
        for missed in [3, 7] {
            pieces.mark(missed);
            pieces.push(&[missed as u8; 10], false);
            pieces.push(&[missed as u8; 10], true);
        }
        for (len, counted, missed) in [(10, 10, 0), (20, 10, 3), (20, 10, 7)] {
            buffer.clear();
            assert_eq!(pieces.take(&mut buffer), (counted, missed));
            assert_eq!(buffer, vec![missed as u8; len]);
        }
        // However many there are, they do not cost more than the bytes.
        for missed in 8..10_000 {
            pieces.mark(missed);
            pieces.push(&[1], false);
        }
        assert!(pieces.full.len() <= MARKS_MAX);
        buffer.clear();
        while pieces.len() > 0 {
            pieces.take(&mut buffer);
            buffer.clear();
        }
        pieces.push(&[1], false);
        assert_eq!(pieces.take(&mut buffer), (1, 9999));
    }

    #[test]
    fn marks_do_not_go_back() {
        let (mut pieces, mut buffer) = (Pieces::default(), Vec::new());
        for (said, missed) in [(7, 7), (3, 7), (0, 7), (8, 8)] {
            pieces.mark(said);
            pieces.push(&[1], false);
            buffer.clear();
            assert_eq!(pieces.take(&mut buffer), (1, missed));
        }
    }

    #[test]
    fn what_is_dropped_says_what_it_held() {
        let mut pieces = Pieces::default();
        pieces.push(&[1; 100_000], false);
        pieces.push(&[1; 1000], true);
        assert_eq!(pieces.clear(), (101_000, 100_000));
        assert_eq!((pieces.len(), pieces.free()), (0, 0));
    }
}
