//! What everything made of a descriptor needs: its place in the runtime's poll, and patience with signals.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

// Deprecated since tokio 1.54 for the sake of types whose descriptor may change or be closed behind its back; what
// replaces it is unsafe, and absent from older versions. What is registered here owns its descriptor and keeps it.
#[allow(deprecated)]
pub(crate) fn register<F: AsRawFd>(fd: F, interest: Interest) -> io::Result<AsyncFd<F>> {
    AsyncFd::with_interest(fd, interest)
}

/// The same in the poll of the runtime that a transport was made in: whoever waits may be in another, which need not have one.
pub(crate) fn register_in<F: AsRawFd>(runtime: &Handle, fd: F, interest: Interest) -> io::Result<AsyncFd<F>> {
    let _entered = runtime.enter();
    register(fd, interest)
}

pub(crate) fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// A descriptor to read from. It is in the runtime's poll from the beginning; once it has been taken out, only from when
/// somebody waits for it.
#[derive(Debug)]
pub(crate) struct Readable<F: AsRawFd> {
    fd: Arc<F>,
    registered: Option<AsyncFd<Arc<F>>>,
    /// In whose poll it is.
    runtime: Handle,
}

impl<F: AsRawFd> Readable<F> {
    pub(crate) fn new(fd: F) -> io::Result<Readable<F>> {
        let fd = Arc::new(fd);
        Ok(Readable {
            registered: Some(register(Arc::clone(&fd), Interest::READABLE)?),
            fd,
            runtime: Handle::current(),
        })
    }

    pub(crate) fn get_ref(&self) -> &Arc<F> {
        &self.fd
    }

    /// Reads up to `len` bytes, or registers the task to be woken when there is something.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        read: impl FnMut(&F) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let registered = match &mut self.registered {
            Some(registered) => registered,
            // What is there already is told as soon as it is registered.
            none => none.insert(register_in(&self.runtime, Arc::clone(&self.fd), Interest::READABLE)?),
        };
        poll_read(registered, cx, len, read)
    }

    /// Takes it out of the runtime's poll: whatever is in there wakes the runtime's thread when something comes, also where
    /// no task waits for it.
    pub(crate) fn detach(&mut self) {
        self.registered = None;
    }
}

/// One read of up to `len` bytes a wake-up. Readiness is taken before reading. A read that comes out short has emptied
/// what there was, and what came later has made it ready anew, so that clearing loses nothing.
fn poll_read<F: AsRawFd>(
    fd: &AsyncFd<Arc<F>>,
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
