//! What either side can say about its rings.

#![allow(unsafe_code)] // Has the function by which a program vouches for its peers.

use trunkline_core::frame::FRAME_OVERHEAD_MAX;
use trunkline_core::transport::PeerIdentity;

use super::ring::{BLOCKS_MAX, Blocks, Shape};
use super::setup::{BLOCK_LEN_MAX, BLOCK_LEN_MIN, BLOCKS_BYTES_MAX, CAPACITY_MAX, CAPACITY_MIN};

/// Fits into the second-level cache of most processors, next to the other direction's.
const CAPACITY_DEFAULT: usize = 256 << 10;
/// What arguments take besides the bytes that they are about.
const BESIDE: usize = 1024;
const PAGE: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Of this side's segment.
    pub(super) shape: Shape,
    /// Whether this process's own user and root are no strangers.
    pub(super) trusting: bool,
    /// Whether blocks of the peer's are read where they are.
    pub(super) in_place: Option<Vouched>,
}

/// The program's word, given to an unsafe function, that no peer writes to a block before it has been given back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vouched(());

impl Default for Options {
    fn default() -> Self {
        Options { shape: CAPACITY_DEFAULT.into(), trusting: true, in_place: None }
    }
}

impl Options {
    /// Whether the peer could not stop this process anyway, as its own user and root can.
    pub(super) fn is_stranger(&self, peer: &PeerIdentity) -> bool {
        let own = [nix::unistd::geteuid().as_raw(), 0];
        !self.trusting || !matches!(peer, PeerIdentity::Unix { uid, .. } if own.contains(uid))
    }

    pub(super) fn set_capacity(&mut self, bytes: usize) {
        self.shape.capacity = bytes.clamp(CAPACITY_MIN, CAPACITY_MAX).next_power_of_two();
    }

    pub(super) fn set_blocks(&mut self, count: usize, len: usize) {
        let len = len.saturating_add(FRAME_OVERHEAD_MAX + BESIDE).clamp(BLOCK_LEN_MIN, BLOCK_LEN_MAX);
        let len = len.next_multiple_of(PAGE);
        let count = count.min(BLOCKS_MAX).min(BLOCKS_BYTES_MAX / len);
        self.shape.blocks = if count > 0 { Blocks { count, len } } else { Blocks::default() };
    }

    /// # Safety
    ///
    /// As long as a block has not been given back, no peer of these options writes to it.
    pub(super) unsafe fn vouch(&mut self) {
        self.in_place = Some(Vouched(()));
    }
}

/// The setters of [`Options`], which both sides have.
macro_rules! ring_options {
    ($from_whom:literal, $peers:literal) => {
        #[doc = concat!("Sets how many bytes the ring ", $from_whom, " holds: rounded up to a power of two from 64 KiB")]
        /// to 64 MiB. 256 KiB by default. Messages over an eighth of the smaller of the two rings, less some 4 KiB, travel
        /// in chunks: to send larger ones, enlarge both, or have [blocks](Self::blocks).
        pub fn capacity(mut self, bytes: usize) -> Self {
            self.options.set_capacity(bytes);
            self
        }

        #[doc = concat!("Sets aside blocks for long messages ", $from_whom, ": `count` of them, 48 at most, for arguments or")]
        /// a reply of `len` bytes each, up to 64 MiB; all together, 1 GiB at most. None by default.
        ///
        /// A message that would travel through the ring in chunks, and finds a block free, lies in it whole. That pays where
        /// the other side [reads it in place](Self::assume_peer_trusted), for as long as it likes: blocks are given back in
        /// any order, and a message that finds none free takes the ring. It is copied there in one go: other calls of this
        /// connection wait for it, for some milliseconds where it has tens of megabytes. The memory is taken from the
        /// beginning, for each connection, and counts as this side's.
        pub fn blocks(mut self, count: usize, len: usize) -> Self {
            self.options.set_blocks(count, len);
            self
        }

        #[doc = concat!("Reads messages that lie in [blocks](Self::blocks) of ", $peers, " where they are.")]
        ///
        /// Otherwise whatever a peer has written is copied, once, before anything looks at it. With this, `&[u8]` and
        /// `&str` arguments of a handler point into the memory that the two processes share, until the handler's future is
        /// gone, and replies are decoded there. The peer sets the blocks aside. What comes through the ring is copied as
        /// always, chunks of longer messages too; nothing else changes, limits and credit least of all.
        ///
        /// # Safety
        ///
        #[doc = concat!("The caller vouches for ", $peers, ": whoever is admitted there. As long as a message in a block")]
        /// has not been given back, that process must not change a byte of it, by whatever means: it has the memory mapped,
        /// and can write it. One that uses this crate, and in which nothing else writes at random, does not. One that does
        /// has undefined behaviour happen in *this* process, the same as if a thread of its own wrote to memory that is
        /// borrowed: checks that were passed may not hold any more, `&str` may be no UTF-8.
        ///
        /// It is this process's word about this endpoint only. A peer need not trust this side, and connections to other
        /// endpoints are not affected.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # use trunkline_transports::shm::{ShmConnector, ShmListener};
        /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// // In the client: blocks for eight uploads of up to 1 MiB at a time.
        /// let connector = ShmConnector::new("/run/kv.sock").blocks(8, 1 << 20);
        /// // In the server.
        /// // SAFETY: only this user's clients of trunkline are admitted, and they change nothing that they have sent.
        /// let listener = unsafe { ShmListener::builder("/run/kv.sock").assume_peer_trusted() }.bind()?;
        /// # Ok(())
        /// # }
        /// ```
        #[allow(unsafe_code, reason = "the contract is the caller's")]
        pub unsafe fn assume_peer_trusted(mut self) -> Self {
            // SAFETY: the caller's own promise.
            unsafe { self.options.vouch() };
            self
        }

        /// Treats processes of this process's own user, and root's, as strangers too: those in a sandbox, say, that could
        /// not stop or inspect this one.
        ///
        /// With strangers the doorbell is the socket. It takes two or three microseconds longer to ring than a pipe, which a
        /// stranger could block.
        pub fn distrust_own_user(mut self) -> Self {
            self.options.trusting = false;
            self
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::setup::check_shape;

    #[test]
    fn whatever_is_asked_for_can_be_had() {
        for capacity in [0, 1, 100_000, 64 << 20, usize::MAX] {
            for count in [0, 1, 3, 48, 49, usize::MAX] {
                for len in [0, 1, 4096, 1 << 20, 64 << 20, usize::MAX] {
                    let mut options = Options::default();
                    options.set_capacity(capacity);
                    options.set_blocks(count, len);
                    let Shape { capacity, blocks } = options.shape;
                    let checked = check_shape(capacity as u64, blocks.len as u64, blocks.count as u64);
                    assert_eq!(checked.unwrap(), options.shape);
                    let room = blocks.len.saturating_sub(FRAME_OVERHEAD_MAX);
                    assert!(count == 0 || room >= len.min(64 << 20), "{len} bytes in blocks of {}", blocks.len);
                }
            }
        }
    }
}
