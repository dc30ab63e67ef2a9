//! What the connections of one server have in common: calls in flight and memory, each with a limit.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::limits::{Limit, Limits};

/// Counters that every connection of a server adds to. They order nothing, so Relaxed does.
#[derive(Debug)]
pub(crate) struct Share {
    calls: AtomicUsize,
    calls_max: usize,
    bytes: AtomicU64,
    bytes_max: u64,
}

impl Share {
    pub(crate) fn new(limits: &Limits) -> Share {
        Share {
            calls: AtomicUsize::new(0),
            calls_max: limits.in_flight_per_server,
            bytes: AtomicU64::new(0),
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
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.bytes_max {
            self.release(bytes);
            return Err(Limit::MemoryTotal);
        }
        Ok(())
    }

    /// The memory is free again.
    pub(crate) fn release(&self, bytes: u64) {
        if bytes > 0 {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}
