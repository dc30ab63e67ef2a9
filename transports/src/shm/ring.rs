//! One direction of frames through shared memory: a ring with one producer and one consumer.
//!
//! Each side has a segment that only it writes. In it are its outgoing ring, and three words for the peer to read, each on
//! a block of its own, so that a store to one costs nobody who watches another:
//!
//! ```text
//! 0x0080  park        odd: this side's consumer sleeps, or is about to
//! 0x0100  want_space  odd: this side's producer sleeps for lack of room, or is about to
//! 0x0180  head        up to where this side has consumed the peer's ring
//! 0x0400  returned    for each of the peer's blocks, 64 bytes apart: how often this side has given it back
//! 0x1000  data        the ring's records; behind them the blocks, if there are any
//! ```
//!
//! A record is a frame, at a multiple of 64 bytes. It has been published once its first word, the frame's own first
//! word, is not zero; so the consumer watches the very line that it will read. There is no tail to share.
//!
//! The frame of a record may lie in a block instead: then the record has the block's number, and the frame's first word
//! behind its own.
//!
//! Positions count bytes and only grow; a position's place is its remainder by the capacity, a power of two. A record
//! does not cross the ring's end: a pad fills what is left, and the record begins at the beginning.
//!
//! # Invariants
//!
//! - Before a record is published, the word at the position after it is zero. Only then does the consumer, which comes
//!   there next, wait instead of taking bytes of long ago for a record.
//! - The producer writes below `head + capacity` only, and to blocks that were given back as often as it used them.
//! - Of a batch, the first record's first word is stored last, `Release`. Up to there nothing of the batch is visible.
//! - Nothing that the peer writes is read twice, and nothing is believed that has not been checked.

mod blocks;
mod consumer;
mod index;
#[cfg(all(test, trunkline_loom))]
mod models;
mod producer;
mod sleep;
#[cfg(all(test, not(trunkline_loom)))]
mod tests;

pub(crate) use blocks::{BLOCKS_MAX, Blocks, Loan};
pub(crate) use consumer::{Consumer, Record};
pub(crate) use producer::{Producer, Room};
pub(crate) use sleep::{Bell, Sleep};

/// Where the data begin, in bytes of the segment.
pub(crate) const DATA: usize = 0x1000;

/// What a segment has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Of the ring, in bytes.
    pub(crate) capacity: usize,
    pub(crate) blocks: Blocks,
}

impl Shape {
    /// Bytes of the segment.
    pub(crate) fn len(self) -> usize {
        DATA + self.capacity + self.blocks.bytes()
    }
}

impl From<usize> for Shape {
    /// A ring of so many bytes, and no blocks.
    fn from(capacity: usize) -> Shape {
        Shape { capacity, blocks: Blocks::default() }
    }
}

/// The longest frame of a ring of `capacity` bytes, header included.
pub(crate) const fn record_len_max(capacity: usize) -> usize {
    capacity / 8
}

/// What no honest peer does in its segment. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} in the peer's shared memory: {value:#x}")]
pub(crate) struct Violation {
    /// Which rule.
    pub(crate) what: &'static str,
    /// What was found.
    pub(crate) value: u64,
}

const PARK: usize = 0x080;
const WANT_SPACE: usize = 0x100;
const HEAD: usize = 0x180;
const RETURNED: usize = 0x400;
