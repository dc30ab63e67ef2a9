//! Stream sockets as byte streams, of whatever family.
//!
//! Reads and writes go straight to the system; tokio is only asked when there is nothing to do but wait.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use trunkline_core::transport::Properties;

use crate::fd::{Readable, register_in, retry_interrupted};
use crate::framing::{ByteReader, ByteTransport, ByteWriter};

/// A connected socket as a transport.
pub type SocketTransport = ByteTransport<SocketReader, SocketWriter>;

/// Makes a transport of a connected, non-blocking stream socket. Only inside a runtime.
pub(crate) fn transport(socket: Socket, properties: Properties) -> io::Result<SocketTransport> {
    #[cfg(target_vendor = "apple")]
    socket.set_nosigpipe(true)?;
    enlarge(&socket);
    let readable = Readable::new(socket)?;
    let socket = Arc::clone(readable.get_ref());
    let writer = SocketWriter { socket, runtime: Handle::current(), room: None, unblocked: 0 };
    Ok(ByteTransport::new(properties, SocketReader { readable }, writer))
}

/// A long message should fit, so that its sender need not wait for the reader in the middle of it. The system gives less
/// where its administrator says so, and reserves nothing: what is not used costs nothing.
fn enlarge(socket: &Socket) {
    // TCP finds its own size, and stops doing so when it is told one.
    if socket.local_addr().is_ok_and(|address| address.is_unix()) {
        let _ = socket.set_send_buffer_size(BUFFER_LEN);
        let _ = socket.set_recv_buffer_size(BUFFER_LEN);
    }
}

const BUFFER_LEN: usize = 2 << 20;

/// The incoming half of a socket.
#[derive(Debug)]
pub struct SocketReader {
    readable: Readable<Socket>,
}

impl ByteReader for SocketReader {
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        retry_interrupted(|| (&**self.readable.get_ref()).read(into))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        self.readable.poll_read(cx, into.len(), |mut socket| socket.read(into))
    }

    fn try_read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        retry_interrupted(|| (&**self.readable.get_ref()).read_vectored(into))
    }

    fn poll_read_vectored(&mut self, cx: &mut Context<'_>, into: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        let len = into.iter().map(|place| place.len()).sum();
        self.readable.poll_read(cx, len, |mut socket| socket.read_vectored(into))
    }

    const DETACHES: bool = true;

    fn detach(&mut self) {
        self.readable.detach();
    }
}

/// The outgoing half of a socket.
///
/// A Unix socket says that it is writable each time its peer has read something. Whoever listens for that is woken once
/// more for every call, so nobody does, but while there is something to write and no room: then a duplicate of the
/// descriptor is registered for it.
#[derive(Debug)]
pub struct SocketWriter {
    socket: Arc<Socket>,
    /// In whose poll the reading half is.
    runtime: Handle,
    /// The duplicate.
    room: Option<AsyncFd<Socket>>,
    /// Writes in a row that found room while `room` was there.
    unblocked: u32,
}

/// After so many writes that found room, nobody listens for it any more.
const UNBLOCKED_MAX: u32 = 64;

impl SocketWriter {
    fn try_send(&mut self, send: impl Fn(&Socket) -> io::Result<usize>) -> io::Result<usize> {
        let sent = retry_interrupted(|| send(&self.socket))?;
        if self.room.is_some() {
            self.unblocked += 1;
            if self.unblocked > UNBLOCKED_MAX {
                self.room = None;
            }
        }
        Ok(sent)
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        send: impl Fn(&Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.try_send(&send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
            self.unblocked = 0;
            let room = match &mut self.room {
                Some(room) => room,
                none => none.insert(register_in(&self.runtime, self.socket.try_clone()?, Interest::WRITABLE)?),
            };
            // Room that came after the write above has made it ready, so that clearing loses nothing: it is written to
            // again before anybody waits.
            let mut guard = ready!(room.poll_write_ready(cx))?;
            match retry_interrupted(|| send(&self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl ByteWriter for SocketWriter {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_send(|socket| socket.send_with_flags(bytes, SEND_FLAGS))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.send_with_flags(bytes, SEND_FLAGS))
    }

    const VECTORED: bool = true;

    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_send(|socket| socket.send_vectored_with_flags(slices, SEND_FLAGS))
    }

    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.send_vectored_with_flags(slices, SEND_FLAGS))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(Shutdown::Write))
    }
}

/// No signal when the peer is gone, whatever the program does with SIGPIPE. Elsewhere a property of the socket.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: i32 = 0;
