//! How a side that sleeps is woken, at most once a sleep, and never missed.
//!
//! ```text
//! who has something                    who waits for it
//!   store it, Release                    clear the doorbell's readiness
//!   fence(SeqCst)                        store an odd number, Release
//!   load the other's number              fence(SeqCst)
//!   odd, and not rung for:               look for it: withdraw, or sleep
//!     fence(Acquire), ring
//! ```
//!
//! One of the two `SeqCst` fences comes first. If it is the waker's, the other side finds what was stored; if it is the
//! sleeper's, the waker finds the odd number. Release and Acquire alone would let each pass the other's store by.
//!
//! They have a task of their own. A waker whose fence came first may find the odd number all the same, and then will not
//! ring for it again. Its ring must not be overtaken by the clearing that preceded the number.

use std::sync::atomic::Ordering;

use super::{PARK, WANT_SPACE};
use crate::shm::memory::{Own, Peer, fence};

/// This side's announcements that it is about to sleep.
#[derive(Debug)]
pub(crate) struct Sleep {
    at: usize,
    /// Odd while announced. What the peer may read, as far as it has heard.
    epoch: u64,
}

impl Sleep {
    /// A consumer's, until something is published.
    pub(crate) fn park() -> Sleep {
        Sleep { at: PARK, epoch: 0 }
    }

    /// A producer's, until something is consumed.
    pub(crate) fn want_space() -> Sleep {
        Sleep { at: WANT_SPACE, epoch: 0 }
    }

    /// Announces that this side is about to sleep, and looks once more whether what it waits for is there. If `true`, it
    /// may sleep: from here on the peer rings. Otherwise the announcement has been withdrawn.
    ///
    /// `clear` forgets earlier rings. It comes before the announcement: a ring that is an answer to it is not forgotten.
    ///
    /// # Errors
    ///
    /// Those of `there`.
    ///
    /// # Cancel safety
    ///
    /// Who sleeps no longer and does not [withdraw](Sleep::withdraw) is rung for once, needlessly.
    pub(crate) fn announce<O: Own, E>(
        &mut self,
        own: &O,
        clear: impl FnOnce(),
        there: impl FnOnce() -> Result<bool, E>,
    ) -> Result<bool, E> {
        clear();
        // The next odd number, even if the last one still stands: that one may have been rung for.
        self.epoch += 1 + self.epoch % 2;
        // Pairs with the Acquire fence in `Bell::is_due`: who rings for this number rings after the clearing.
        own.store(self.at, self.epoch, Ordering::Release);
        // Pairs with the SeqCst fence in `Bell::is_due`.
        fence(Ordering::SeqCst);
        let there = there();
        if !matches!(there, Ok(false)) {
            self.withdraw(own);
        }
        there.map(|there| !there)
    }

    /// Takes the announcement back, if there is one.
    pub(crate) fn withdraw<O: Own>(&mut self, own: &O) {
        if self.epoch % 2 == 1 {
            self.epoch += 1;
            own.store(self.at, self.epoch, Ordering::Relaxed);
        }
    }
}

/// The other side of a [`Sleep`]: whether its peer is to be rung for.
#[derive(Debug)]
pub(crate) struct Bell {
    at: usize,
    /// The announcement that was rung for last. What the peer writes is its own business: a number that makes no sense
    /// costs one ring.
    rung: u64,
}

impl Bell {
    /// A producer's, who has published something.
    pub(crate) fn park() -> Bell {
        Bell { at: PARK, rung: 0 }
    }

    /// A consumer's, who has released something.
    pub(crate) fn want_space() -> Bell {
        Bell { at: WANT_SPACE, rung: 0 }
    }

    /// Whether the peer sleeps and has not been rung for. If so, it now is: the caller rings.
    pub(crate) fn is_due<P: Peer>(&mut self, peer: &P) -> bool {
        // Pairs with the SeqCst fence in `Sleep::announce`.
        fence(Ordering::SeqCst);
        let epoch = peer.load(self.at);
        if epoch % 2 == 0 || epoch == self.rung {
            return false;
        }
        self.rung = epoch;
        // Pairs with the Release in `Sleep::announce`.
        fence(Ordering::Acquire);
        true
    }
}
