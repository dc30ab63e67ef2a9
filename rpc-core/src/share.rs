//! What the connections of one server have in common: calls in flight and memory, each with a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::limits::{Limit, Limits};

/// Counters that every connection of a server adds to. They order nothing, so Relaxed does.
#[derive(Debug)]
pub(crate) struct Share {
    calls: AtomicUsize,
    calls_max: usize,
    bytes: AtomicU64,
    /// Of the transports themselves.
    held: AtomicU64,
    bytes_max: u64,
}

impl Share {
    pub(crate) fn new(limits: &Limits) -> Share {
        Share {
            calls: AtomicUsize::new(0),
            calls_max: limits.in_flight_per_server,
            bytes: AtomicU64::new(0),
            held: AtomicU64::new(0),
            bytes_max: limits.memory_total as u64,
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Room for one more call with `bytes` of payload, or the limit that is reached.
    pub(crate) fn enter(&self, bytes: u64) -> Result<(), Limit> {
        if self.calls.fetch_add(1, Ordering::Relaxed) >= self.calls_max {
            self.leave();
            return Err(Limit::InFlightPerServer);
        }
        self.charge(bytes).inspect_err(|_| self.leave())
    }

    /// The call has ended.
    pub(crate) fn leave(&self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }

    /// Memory for a call that is in.
    pub(crate) fn charge(&self, bytes: u64) -> Result<(), Limit> {
        if bytes == 0 {
            return Ok(());
        }
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed) + self.held.load(Ordering::Relaxed);
        if before.saturating_add(bytes) > self.bytes_max {
            self.release(bytes);
            return Err(Limit::MemoryTotal);
        }
        Ok(())
    }

    /// The same for what can wait until there is more: at most half of all is taken then, so that calls find the other.
    pub(crate) fn charge_spare(&self, bytes: u64) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed) + self.held.load(Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.bytes_max / 2;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    /// Memory of a transport, until what comes back is dropped; `None` if there is not so much.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let held = Held { share: Arc::clone(self), bytes: bytes as u64 };
        let before = self.held.fetch_add(held.bytes, Ordering::Relaxed) + self.bytes();
        (bytes == 0 || before.saturating_add(held.bytes) <= self.bytes_max).then_some(held)
    }

    /// The memory is free again.
    pub(crate) fn release(&self, bytes: u64) {
        if bytes > 0 {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// Memory that a transport has for as long as it lives.
#[derive(Debug)]
pub(crate) struct Held {
    share: Arc<Share>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_transports_hold_is_not_there_for_calls() {
        let share = Arc::new(Share::new(&Limits::default().memory_total(1000)));
        let ring = share.hold(600).unwrap();
        assert!(share.hold(401).is_none());
        assert_eq!(share.charge(401), Err(Limit::MemoryTotal));
        assert_eq!(share.charge(400), Ok(()));
        assert!(share.hold(1).is_none());
        assert!(share.hold(0).is_some());
        drop(ring);
        assert!(share.hold(600).is_some());
        assert_eq!(share.bytes(), 400);
    }
}
