//! The exchange on the socket before the rings carry anything.
//!
//! The client speaks first; each side sends one message of 64 bytes, and with it two descriptors: its segment, and the read
//! end of the pipe by which it rings. `docs/shared-memory.md` has the message byte by byte.

#![allow(unsafe_code)] // Descriptors that come with a message get an owner.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::pin;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::bell::{self, Bell, Incoming};
use super::memory::{OwnMemory, PeerMemory};
use super::segment;
use crate::suspect::Suspect;
use crate::sys;

/// The version of the set-up and of what stands in the rings beside frames.
const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"TRNKSHM\0";
const LEN: usize = 64;
/// Descriptors with a message that brings a ring.
const DESCRIPTORS: usize = 2;
/// The most that the kernel lets a message have: with room for all of them, none can be left without an owner.
const DESCRIPTORS_MAX: usize = 253;

/// The least and the most a ring can hold, in bytes.
pub(super) const CAPACITY_MIN: usize = 64 << 10;
pub(super) const CAPACITY_MAX: usize = 64 << 20;

/// Why two sides have no rings between them.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    #[error("what is there sets up no shared memory: is it a `unix:` endpoint?")]
    NotShm,
    #[error("version {VERSION} of shared memory here, {theirs} there")]
    Version { theirs: u16 },
    #[error("the peer refuses to share memory: {0}")]
    Refused(Refusal),
    #[error("the peer's ring of {0} bytes, which is no power of two from {CAPACITY_MIN} to {CAPACITY_MAX}")]
    Capacity(u64),
    #[error("{0} descriptors where 2 belong")]
    Descriptors(usize),
    #[error("the peer's segment {0}")]
    Segment(&'static str),
    #[error("the peer's doorbell {0}")]
    Bell(&'static str),
    #[error("the peer says more than it should")]
    TooMuch,
    #[error("the peer left")]
    Left,
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

impl SetupError {
    pub(super) fn io(what: &'static str) -> impl Fn(io::Error) -> SetupError {
        move |source| SetupError::Io { what, source }
    }

    /// What the peer is told.
    fn refusal(&self) -> Refusal {
        match self {
            SetupError::Version { .. } => Refusal::Version,
            SetupError::Io { .. } => Refusal::System,
            _ => Refusal::Message,
        }
    }
}

/// What a side says that sends no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it has another version")]
    Version,
    #[error("it finds fault with what this side sent")]
    Message,
    #[error("it lacks memory or descriptors")]
    System,
    #[error("reason {0}")]
    Other(u16),
}

impl Refusal {
    fn to_wire(self) -> u16 {
        match self {
            Refusal::Version => 1,
            Refusal::Message => 2,
            Refusal::System => 3,
            Refusal::Other(status) => status,
        }
    }

    fn from_wire(status: u16) -> Refusal {
        match status {
            1 => Refusal::Version,
            2 => Refusal::Message,
            3 => Refusal::System,
            status => Refusal::Other(status),
        }
    }
}

/// One side's half of what joins two processes.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) own: OwnMemory,
    pub(super) own_capacity: usize,
    pub(super) peer: PeerMemory,
    pub(super) peer_capacity: usize,
    pub(super) bell: Bell,
    pub(super) incoming: Incoming,
}

/// The client's side. What it brings was made before it connected: from then on a server's place is taken up.
pub(super) async fn connect(stream: &UnixStream, own: Own) -> Result<Rings, SetupError> {
    send(stream, 0, Some(&own)).await?;
    let theirs = receive(stream).await?.open()?;
    end(stream)?;
    Ok(own.join(theirs))
}

/// The server's side: nothing is made before the client has shown what it has. `waits` is told whether it is the client
/// that is waited for.
pub(super) async fn accept(stream: &UnixStream, capacity: usize, waits: impl Fn(bool)) -> Result<Rings, SetupError> {
    let made = async {
        let mut receiving = pin!(receive(stream));
        let sent = poll_fn(|cx| {
            let sent = receiving.as_mut().poll(cx);
            waits(sent.is_pending());
            sent
        });
        let theirs = sent.await?.open()?;
        end(stream)?;
        Ok((Own::create(capacity)?, theirs))
    };
    match made.await {
        Ok((own, theirs)) => {
            send(stream, 0, Some(&own)).await?;
            Ok(own.join(theirs))
        }
        Err(error) => {
            // Whether the peer hears it changes nothing.
            let _ = send(stream, SetupError::refusal(&error).to_wire(), None).await;
            Err(error)
        }
    }
}

/// What this side brings.
pub(super) struct Own {
    segment: OwnedFd,
    memory: OwnMemory,
    capacity: usize,
    bell: Bell,
    /// For the peer, to listen to.
    sound: OwnedFd,
}

impl Own {
    pub(super) fn create(capacity: usize) -> Result<Own, SetupError> {
        let (segment, memory) = segment::create(capacity)?;
        let (bell, sound) = bell::pair().map_err(SetupError::io("making a doorbell"))?;
        Ok(Own { segment, memory, capacity, bell, sound })
    }

    fn join(self, theirs: Theirs) -> Rings {
        let Theirs { memory: peer, capacity: peer_capacity, incoming } = theirs;
        let Own { memory: own, capacity: own_capacity, bell, .. } = self;
        Rings { own, own_capacity, peer, peer_capacity, bell, incoming }
    }
}

/// What the other side sent.
struct Sent {
    /// The segment and the doorbell, if that is what they are.
    descriptors: Suspect<Vec<OwnedFd>>,
    capacity: usize,
}

/// The same, looked at and found good.
struct Theirs {
    memory: PeerMemory,
    capacity: usize,
    incoming: Incoming,
}

impl Sent {
    fn open(self) -> Result<Theirs, SetupError> {
        let [segment, sound] = &self.descriptors[..] else {
            return Err(SetupError::Descriptors(self.descriptors.len()));
        };
        let memory = segment::open(segment, self.capacity)?;
        let incoming = Incoming::new(sound)?;
        // A memory file and a pipe: nobody can make it take long to close them.
        drop(self.descriptors.trust());
        Ok(Theirs { memory, capacity: self.capacity, incoming })
    }
}

async fn send(stream: &UnixStream, status: u16, half: Option<&Own>) -> Result<(), SetupError> {
    let mut message = [0; LEN];
    message[..8].copy_from_slice(MAGIC);
    message[8..10].copy_from_slice(&VERSION.to_le_bytes());
    message[10..12].copy_from_slice(&status.to_le_bytes());
    message[16..24].copy_from_slice(&half.map_or(0, |half| half.capacity as u64).to_le_bytes());
    let descriptors = half.map(|half| [half.segment.as_raw_fd(), half.sound.as_raw_fd()]);
    let control: Vec<ControlMessage<'_>> = descriptors.iter().map(|fds| ControlMessage::ScmRights(fds)).collect();
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let write =
        || sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&message)], &control, flags, None).map_err(io::Error::from);
    // A socket on which nothing was sent before takes so little whole, and at once.
    let sent = match write() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.async_io(Interest::WRITABLE, write).await,
        sent => sent,
    };
    match sent {
        Ok(LEN) => Ok(()),
        Ok(_) => Err(SetupError::Left),
        Err(error) if is_gone(&error) => Err(SetupError::Left),
        // A socket that takes no descriptors.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(SetupError::NotShm),
        Err(error) => Err(SetupError::io("sending the ring")(error)),
    }
}

async fn receive(stream: &UnixStream) -> Result<Sent, SetupError> {
    let mut message = [0; LEN];
    let mut descriptors = Suspect::new(Vec::new());
    let mut len = 0;
    while len < LEN {
        let rest = &mut message[len..];
        len += match stream.async_io(Interest::READABLE, || receive_some(stream, rest, &mut descriptors)).await {
            Ok(0) => return Err(SetupError::Left),
            Ok(n) => n,
            Err(error) if is_gone(&error) => return Err(SetupError::Left),
            Err(error) => return Err(SetupError::io("receiving the peer's ring")(error)),
        };
        let known = len.min(MAGIC.len());
        if message[..known] != MAGIC[..known] {
            return Err(SetupError::NotShm);
        }
        if descriptors.len() > DESCRIPTORS {
            return Err(SetupError::Descriptors(descriptors.len()));
        }
    }
    let word = |at: usize| u16::from_le_bytes([message[at], message[at + 1]]);
    let (theirs, status) = (word(8), word(10));
    if theirs != VERSION {
        return Err(SetupError::Version { theirs });
    }
    if status != 0 {
        return Err(SetupError::Refused(Refusal::from_wire(status)));
    }
    let capacity = message[16..24].iter().rev().fold(0, |capacity, byte| capacity << 8 | u64::from(*byte));
    if !capacity.is_power_of_two() || !(CAPACITY_MIN as u64..=CAPACITY_MAX as u64).contains(&capacity) {
        return Err(SetupError::Capacity(capacity));
    }
    if descriptors.len() != DESCRIPTORS {
        return Err(SetupError::Descriptors(descriptors.len()));
    }
    Ok(Sent { descriptors, capacity: capacity as usize })
}

/// No more descriptors from here on, and nothing else either.
fn end(stream: &UnixStream) -> Result<(), SetupError> {
    sys::refuse_descriptors(stream.as_fd());
    let mut byte = [MaybeUninit::uninit()];
    // Not taken off the socket: descriptors may be with it.
    match SockRef::from(stream).peek(&mut byte) {
        Ok(1..) => Err(SetupError::TooMuch),
        // Its end is noticed when it is waited for.
        Ok(0) | Err(_) => Ok(()),
    }
}

/// One `recvmsg`. Descriptors that come along are owned at once, whatever becomes of the message.
///
/// By hand: where the kernel had to leave some out, since this process may have no more, `nix` does not show the others.
fn receive_some(stream: &UnixStream, into: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    // Words, so that it is aligned for the headers in it.
    let mut control = [0_u64; CONTROL_LEN / size_of::<u64>()];
    let mut slice = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: a plain C structure, of which all zeroes are a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &mut slice;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header names two buffers that are borrowed here, with their lengths.
    let len = unsafe { libc::recvmsg(stream.as_raw_fd(), &mut header, flags) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled the header in.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(&header) };
    // SAFETY: null, or a header in `control`, which is aligned for it.
    while let Some(message) = unsafe { at.as_ref() } {
        if (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: the first only computes; the second is where this message's data begin.
            let (empty, data) = unsafe { (libc::CMSG_LEN(0) as usize, libc::CMSG_DATA(at).cast::<RawFd>()) };
            for n in 0..message.cmsg_len.saturating_sub(empty) / size_of::<RawFd>() {
                // SAFETY: inside the data, by the length that the kernel gave. It has just made these descriptors for this
                // message; nobody else knows them.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(data.add(n).read_unaligned()) });
            }
        }
        // SAFETY: `at` is a header of this message.
        at = unsafe { libc::CMSG_NXTHDR(&header, at) };
    }
    // All that a message can have has room in `control`: what is left out, this process cannot have.
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    Ok(len)
}

/// What the control part of a message with [`DESCRIPTORS_MAX`] takes, in whole words.
// SAFETY: it only computes.
const CONTROL_LEN: usize = unsafe { libc::CMSG_SPACE((DESCRIPTORS_MAX * size_of::<RawFd>()) as u32) as usize }
    .next_multiple_of(size_of::<u64>());

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
