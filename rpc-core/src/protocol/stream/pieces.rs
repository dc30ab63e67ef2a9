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
}

#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    /// How many of them do not count in the window of all streams.
    free: usize,
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

    /// Nothing is added to the last piece any more.
    fn close(&mut self) {
        let next = Piece { bytes: std::mem::take(&mut self.spare), free: 0 };
        self.full.push_back(std::mem::replace(&mut self.last, next));
    }

    /// Swaps the oldest piece for `buffer`, which is empty. How many of its bytes count in the window of all streams.
    pub(super) fn take(&mut self, buffer: &mut Vec<u8>) -> u64 {
        let free = match self.full.pop_front() {
            Some(piece) => {
                let emptied = std::mem::replace(buffer, piece.bytes);
                if self.spare.capacity() == 0 {
                    self.spare = emptied;
                }
                piece.free
            }
            None => {
                std::mem::swap(buffer, &mut self.last.bytes);
                std::mem::take(&mut self.last.free)
            }
        };
        self.len -= buffer.len();
        self.free -= free;
        (buffer.len() - free) as u64
    }

    /// What one that is dropped holds of the window of all streams.
    pub(super) fn clear(&mut self) -> (u64, u64) {
        let dropped = std::mem::take(self);
        (dropped.len as u64, dropped.counted())
    }
}

/// A receiver fetches so many bytes at a time. A quarter of the usual window, so that the next credit can leave with it.
const PIECE_LEN: usize = 64 << 10;

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
                    counted -= pieces.take(&mut buffer);
                    assert!(!buffer.is_empty() && buffer.len() <= PIECE_LEN);
                    taken.extend_from_slice(&buffer);
                }
                assert_eq!((counted, pieces.free(), pieces.counted()), (0, 0, 0));
            }
        }
        assert_eq!(taken, sent);
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
