//! What everything made of a descriptor needs: its place in the runtime's poll, and patience with signals.

use std::io;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

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

/// One read of up to `len` bytes a wake-up. Readiness is taken before reading. A read that comes out short has emptied what there was, and what
/// came later has made it ready anew, so that clearing loses nothing.
pub(crate) fn poll_read<F: AsRawFd>(
    fd: &AsyncFd<F>,
    cx: &mut Context<'_>,
    len: usize,
    mut read: impl FnMut(&F) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        let mut guard = ready!(fd.poll_read_ready(cx))?;
        match retry_interrupted(|| read(fd.get_ref())) {
            Ok(n) => {
                if 0 < n && n < len {
                    guard.clear_ready();
                }
                return Poll::Ready(Ok(n));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}
