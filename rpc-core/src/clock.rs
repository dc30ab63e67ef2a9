//! The time of the runtime, so that a program's tests can pause it.

use std::time::Instant;

/// Now. On a thread without a runtime, the system's monotonic clock.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
