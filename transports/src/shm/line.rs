//! What both halves wait with: the doorbell and the socket. Both belong to the driver's task when they wait.

use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UnixStream;
use trunkline_core::{ConnectionError, ProtocolError};

use super::bell::{Bell, Incoming, rung};
use crate::fd::retry_interrupted;

/// How the two sides wake each other, and learn of each other's end.
#[derive(Debug)]
pub(super) struct Line {
    /// Its end is the peer's.
    socket: UnixStream,
    bells: Bells,
    /// How often rings have been forgotten: once for each announcement, so that the peer has rung no more often.
    cleared: AtomicU64,
    /// Where the socket is the doorbell: whether the peer has said that nothing more will come. Either half may be the one
    /// that hears it.
    heard_end: AtomicBool,
}

/// What is rung with.
#[derive(Debug)]
pub(super) enum Bells {
    /// The quicker: between processes of one user, who can stop each other anyway, and with root.
    Pipes {
        /// Rung by this side.
        bell: Bell,
        /// Listened to by this side.
        incoming: Incoming,
    },
    /// Bytes on the socket. Who writes to a pipe waits while somebody else reads from it, and a reader can make that last
    /// as long as it likes: it reads into memory that somebody has yet to bring. A socket's two ends have no lock in
    /// common.
    Socket,
}

/// A pipe holds 65,536 rings.
const CLEARED_PER_DRAIN: u64 = 1024;
/// On a socket: "look".
const RING: u8 = 0;
/// On a socket: "nothing more comes".
const END: u8 = 1;
/// Reads of a socket after which other tasks get their turn.
const READS_MAX: usize = 16;

/// Whether anybody is there to ring, and to be rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Lives,
    Ended,
}

impl Line {
    pub(super) fn new(socket: UnixStream, bells: Bells) -> Line {
        Line { socket, bells, cleared: AtomicU64::new(0), heard_end: AtomicBool::new(false) }
    }

    /// Wakes the peer. Never waits.
    pub(super) fn ring(&self) -> io::Result<()> {
        match &self.bells {
            Bells::Pipes { bell, .. } => bell.ring(),
            Bells::Socket => self.say(RING),
        }
    }

    /// Forgets rings up to now and has the task woken at the next, and when the peer says that nothing more will come.
    ///
    /// Either half may forget a ring that was meant for the other: the ring has woken the task they share, which asks
    /// both again, and each looks at the ring of frames itself.
    pub(super) fn clear(&self, cx: &mut Context<'_>) -> io::Result<Peer> {
        match &self.bells {
            Bells::Pipes { incoming, .. } => {
                // A count, ordered with nothing.
                if self.cleared.fetch_add(1, Ordering::Relaxed) % CLEARED_PER_DRAIN == CLEARED_PER_DRAIN - 1 {
                    incoming.drain()?;
                }
                incoming.clear(cx)
            }
            Bells::Socket => self.listen(cx),
        }
    }

    /// Ready when nothing more will come: the peer has [said so](Line::shut), or its socket is closed, as the kernel does
    /// for it however it ends. Asked after [`clear`](Line::clear), which takes bytes off a socket that is the doorbell.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Bells::Socket = self.bells {
            // Both halves are in one task.
            return if self.heard_end.load(Ordering::Relaxed) { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.read(&mut [0])? {
                Some(0) => return Poll::Ready(Ok(())),
                Some(_) => return Poll::Ready(Err(unexpected())),
                None => {}
            }
        }
    }

    /// Tells the peer that nothing more will come; it can still be rung.
    pub(super) fn shut(&self) -> io::Result<()> {
        match &self.bells {
            Bells::Pipes { .. } => SockRef::from(&self.socket).shutdown(Shutdown::Write),
            Bells::Socket => self.say(END),
        }
    }

    fn say(&self, byte: u8) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        rung(retry_interrupted(|| SockRef::from(&self.socket).send_with_flags(&[byte], flags)))
    }

    /// Takes what there is off the socket, and registers the task for more.
    fn listen(&self, cx: &mut Context<'_>) -> io::Result<Peer> {
        let mut bytes = [0; 256];
        for _ in 0..READS_MAX {
            let Poll::Ready(()) = self.socket.poll_read_ready(cx)? else {
                return Ok(Peer::Lives);
            };
            match self.read(&mut bytes)? {
                Some(0) => return Ok(Peer::Ended),
                Some(len) if bytes[..len].iter().any(|byte| ![RING, END].contains(byte)) => return Err(unexpected()),
                Some(len) if bytes[..len].contains(&END) => self.heard_end.store(true, Ordering::Relaxed),
                Some(_) | None => {}
            }
        }
        cx.waker().wake_by_ref();
        Ok(Peer::Lives)
    }

    /// `None` if there is nothing, 0 at the end.
    fn read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let mut read = None;
        let asked = self.socket.try_io(Interest::READABLE, || {
            let len = (&*SockRef::from(&self.socket)).read(into)?;
            read = Some(len);
            // One that comes out short has emptied the socket: that is the same as nothing more for the runtime, and what
            // comes later makes it ready anew. To ask once more would be a system call for each ring.
            if 0 < len && len < into.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match asked {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(read),
            // Whatever else it says, there is nobody at the other end.
            Err(_) => Ok(Some(0)),
            Ok(()) => Ok(read),
        }
    }
}

fn unexpected() -> io::Error {
    let error = ProtocolError::Unexpected("message on the socket of a ring");
    io::Error::other(ConnectionError::Protocol(error))
}
