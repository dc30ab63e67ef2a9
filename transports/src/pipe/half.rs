//! The two halves of a pair of pipes as halves of a byte stream.
//!
//! Reads and writes go straight to the system; tokio is only asked when there is nothing to do but wait.

use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep};

use super::Kind;
use super::child::{ChildEnd, PATIENCE};
use crate::fd::{Readable, register, retry_interrupted};
use crate::framing::{ByteReader, ByteWriter};
use crate::sys;

/// The incoming half: the reading end of a pipe.
#[derive(Debug)]
pub struct PipeReader {
    readable: Readable<OwnedFd>,
    /// The process at the other end, if it was started here.
    child: Option<ChildEnd>,
}

impl PipeReader {
    pub(super) fn new(fd: OwnedFd, child: Option<ChildEnd>) -> io::Result<PipeReader> {
        Ok(PipeReader { readable: Readable::new(fd)?, child })
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        retry_interrupted(|| Ok(nix::unistd::read(self.readable.get_ref(), into)?))
    }

    /// Notes the end of file, if it is one, with a child at the other end, whose own end is then the news.
    fn note(&mut self, read: &io::Result<usize>) -> bool {
        let Some(child) = &mut self.child else {
            return false;
        };
        match read {
            Ok(0) => child.closed(),
            Ok(_) => child.spoke(),
            Err(_) => {}
        }
        child.is_closed()
    }
}

impl ByteReader for PipeReader {
    /// At the end of what a child sends, nothing is there until [`poll_read`](ByteReader::poll_read) knows why.
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.read(into);
        if self.note(&read) { Err(io::ErrorKind::WouldBlock.into()) } else { read }
    }

    /// With a child at the other end, its end is noticed also while somebody else holds the pipe open; what it has sent
    /// is read before it is told.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.child.as_ref().is_some_and(ChildEnd::is_closed) {
            let read = match self.readable.poll_read(cx, into.len(), |fd| Ok(nix::unistd::read(fd, into)?)) {
                Poll::Ready(read) => read,
                Poll::Pending => {
                    let Some(child) = &mut self.child else {
                        return Poll::Pending;
                    };
                    ready!(child.poll_exit(cx));
                    match self.read(into) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                        read => read,
                    }
                }
            };
            if !self.note(&read) {
                return Poll::Ready(read);
            }
        }
        match &mut self.child {
            Some(child) => child.poll_end(cx),
            None => Poll::Ready(Ok(0)),
        }
    }

    const DETACHES: bool = true;

    fn detach(&mut self) {
        self.readable.detach();
    }
}

/// The outgoing half: the writing end of a pipe.
#[derive(Debug)]
pub struct PipeWriter {
    /// `None` once it is closed.
    fd: Option<AsyncFd<OwnedFd>>,
    kind: Kind,
    /// With a child at the other end, of whose end the reader can tell more than "broken pipe": how long it has to find
    /// out. Made beforehand, because whoever writes need not be in a runtime.
    patience: Option<Pin<Box<Sleep>>>,
    /// Whether the child reads no more, and `patience` runs.
    broken: bool,
}

impl PipeWriter {
    pub(super) fn new(fd: OwnedFd, kind: Kind, child: bool) -> io::Result<PipeWriter> {
        let patience = child.then(|| Box::pin(sleep(PATIENCE)));
        Ok(PipeWriter { fd: Some(register(fd, Interest::WRITABLE)?), kind, patience, broken: false })
    }

    /// What an attempt comes to. A pipe that a child reads no more takes nothing, until the reader's time is over.
    fn judge(&mut self, written: io::Result<usize>) -> io::Result<usize> {
        match (written, &mut self.patience) {
            (Err(error), Some(patience)) if error.kind() == io::ErrorKind::BrokenPipe => {
                patience.as_mut().reset(Instant::now() + PATIENCE);
                self.broken = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
            (written, _) => written,
        }
    }
}

fn write(fd: &OwnedFd, kind: Kind, bytes: &[u8]) -> io::Result<usize> {
    retry_interrupted(|| match kind {
        Kind::Pipe => sys::write_nosignal(fd.as_fd(), bytes),
        Kind::Socket => sys::send_nosignal(fd.as_fd(), bytes),
    })
}

impl ByteWriter for PipeWriter {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.fd {
            None => Err(io::ErrorKind::BrokenPipe.into()),
            Some(_) if self.broken => Err(io::ErrorKind::WouldBlock.into()),
            Some(fd) => {
                let written = write(fd.get_ref(), self.kind, bytes);
                self.judge(written)
            }
        }
    }

    /// Readiness is taken before writing, so that clearing it after a write that found no room loses nothing.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while !self.broken {
            let Some(fd) = &self.fd else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            let mut guard = ready!(fd.poll_write_ready(cx))?;
            match write(fd.get_ref(), self.kind, bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                written => match self.judge(written) {
                    Err(_) if self.broken => {}
                    written => return Poll::Ready(written),
                },
            }
        }
        if let Some(patience) = &mut self.patience {
            ready!(patience.as_mut().poll(cx));
        }
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Closes the writing end, which is what the other side reads as the end.
    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(fd) = self.fd.take() else {
            return Poll::Ready(Ok(()));
        };
        if self.kind == Kind::Socket {
            // The reader may hold the same one. Any socket can be treated so.
            return Poll::Ready(UnixStream::from(fd.into_inner()).shutdown(Shutdown::Write));
        }
        Poll::Ready(Ok(()))
    }
}
