//! Blocks beside a ring: a long frame may lie whole in one of them, for as long as its reader wants.
//!
//! A ring is read in order, and what is kept in it keeps everything behind it. Blocks are given back in any order: the
//! consumer says for each how often it has done so, in a word of its own segment. A block is free when that is as often as
//! the producer has used it. Where none is free, frames go through the ring, so nobody ever waits for one.

#[cfg(all(test, not(trunkline_loom)))]
mod tests;

use std::sync::atomic::Ordering;

use super::RETURNED;
use super::index::LINE;
use crate::shm::memory::{Own, Peer, fence};

/// The blocks of one segment: `count` of them, `len` bytes each, behind the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) count: usize,
    pub(crate) len: usize,
}

/// As many as there are words to say that they were given back.
pub(crate) const BLOCKS_MAX: usize = (super::DATA - RETURNED) / LINE as usize;

impl Blocks {
    pub(crate) fn bytes(self) -> usize {
        self.count * self.len
    }

    /// The byte of the segment at which block `index` begins.
    pub(super) fn byte(self, capacity: u64, index: usize) -> usize {
        super::DATA + capacity as usize + index * self.len
    }
}

/// The byte of the consumer's segment at which it says how often it has given block `index` back.
fn returned(index: usize) -> usize {
    RETURNED + index * LINE as usize
}

/// The producer's side.
#[derive(Debug)]
pub(super) struct Free {
    pub(super) blocks: Blocks,
    /// How often each has been used.
    used: Box<[u64]>,
    /// One that was found to be free. It stays so, whatever the peer may write by then.
    found: Option<usize>,
}

impl Free {
    pub(super) fn new(blocks: Blocks) -> Free {
        assert!(blocks.count <= BLOCKS_MAX, "{} blocks", blocks.count);
        Free { blocks, used: vec![0; blocks.count].into(), found: None }
    }

    /// The first that is free: it is the likeliest to be in a cache.
    pub(super) fn find<P: Peer>(&mut self, peer: &P) -> Option<usize> {
        if self.found.is_none() {
            self.found = self.used.iter().enumerate().position(|(index, used)| peer.load(returned(index)) == *used);
            // Pairs with the Release in `Loan::drop`: what was there has been read before it is written again.
            fence(Ordering::Acquire);
        }
        self.found
    }

    /// It has been used.
    pub(super) fn take(&mut self, index: usize) {
        self.used[index] += 1;
        self.found = None;
    }
}

/// A block that has been published and not yet given back. Its drop does that, on whichever thread.
#[derive(Debug)]
#[must_use]
pub(crate) struct Loan<O: Own> {
    own: O,
    at: usize,
    /// How often it will have been given back.
    times: u64,
}

impl<O: Own> Drop for Loan<O> {
    fn drop(&mut self) {
        // Pairs with the Acquire fence in `Free::find`. Nobody has to be woken: nobody waits for a block.
        self.own.store(self.at, self.times, Ordering::Release);
    }
}

/// The consumer's side.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) blocks: Blocks,
    /// How often each has been published.
    times: Box<[u64]>,
}

impl Taken {
    pub(super) fn new(blocks: Blocks) -> Taken {
        assert!(blocks.count <= BLOCKS_MAX, "{} blocks", blocks.count);
        Taken { blocks, times: vec![0; blocks.count].into() }
    }

    /// A block that the peer has published. One that publishes it again before it was given back makes a mess of its own
    /// memory.
    pub(super) fn take<O: Own>(&mut self, own: &O, index: usize) -> Loan<O> {
        self.times[index] += 1;
        Loan { own: own.clone(), at: returned(index), times: self.times[index] }
    }
}
