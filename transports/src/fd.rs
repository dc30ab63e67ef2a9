//! What everything made of a descriptor needs: its place in the runtime's poll, and patience with signals.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

// Deprecated since tokio 1.54 for the sake of types whose descriptor may change or be closed behind its back; what
// replaces it is unsafe, and absent from older versions. What is registered here owns its descriptor and keeps it.
#[allow(deprecated)]
pub(crate) fn register<F: AsRawFd>(fd: F, interest: Interest) -> io::Result<AsyncFd<F>> {
    AsyncFd::with_interest(fd, interest)
}

pub(crate) fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
