//! Messages that are read where the peer has put them.

#![allow(unsafe_code)] // Memory of a peer that is vouched for becomes a slice.

use std::ops::Range;

use trunkline_core::transport::Lease;

use super::memory::{OwnMemory, PeerMemory};
use super::options::Vouched;
use super::ring::Loan;

/// A part of a block of the peer's. Its drop gives the block back; until then both segments stay mapped.
struct Part {
    memory: PeerMemory,
    range: Range<usize>,
    _loan: Loan<OwnMemory>,
}

/// Lends out `range` of the peer's segment, which lies in the block that `loan` stands for.
pub(super) fn lease(_: Vouched, memory: PeerMemory, range: Range<usize>, loan: Loan<OwnMemory>) -> Lease {
    Lease::new(Part { memory, range, _loan: loan })
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the block has been published, and not given back as long as `_loan` lives. Whoever has a `Vouched` has
        // been promised that the peer does not write it before that. This process does not write it at all, unless it is
        // the peer itself, whose producer writes to blocks that were given back.
        unsafe { self.memory.bytes(self.range.clone()) }
    }
}
