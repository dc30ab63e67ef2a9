//! The exchange on the socket before the rings carry anything.
//!
//! The client speaks first; each side sends one message of 64 bytes, and with it its segment. With that comes the reading end
//! of the pipe by which it rings, if both sides trust each other so far; otherwise both ring by the socket. `docs/shared-memory.md` has the message byte by byte.

#![allow(unsafe_code)] // Descriptors that come with a message get an owner.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::iter;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::pin;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::bell::{self, Bell, Incoming};
use super::line::Bells;
use super::memory::{OwnMemory, PeerMemory};
use super::ring::{BLOCKS_MAX, Blocks, Shape};
use super::segment;
use crate::suspect::Suspect;
use crate::sys;

/// A longer segment is not made on a thread that drives tasks: its pages take milliseconds.
const AT_ONCE: usize = 4 << 20;
/// The version of the set-up and of what stands in the rings beside frames.
const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"TRNKSHM\0";
const LEN: usize = 64;
/// The most descriptors with a message that brings a ring.
const DESCRIPTORS: usize = 2;
/// The most that the kernel lets a message have: with room for all of them, none can be left without an owner.
const DESCRIPTORS_MAX: usize = 253;

/// The least and the most a ring can hold, in bytes.
pub(super) const CAPACITY_MIN: usize = 64 << 10;
pub(super) const CAPACITY_MAX: usize = 64 << 20;
/// The least and the most a block can hold, and all of them: multiples of a page.
pub(super) const BLOCK_LEN_MIN: usize = 16 << 10;
pub(super) const BLOCK_LEN_MAX: usize = (64 << 20) + (16 << 10);
pub(super) const BLOCKS_BYTES_MAX: usize = 1 << 30;

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
    #[error("{count} blocks of {len} bytes beside the peer's ring")]
    Blocks { count: u64, len: u64 },
    #[error("{0} descriptors, where there is a segment and perhaps a doorbell")]
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
    pub(super) own_shape: Shape,
    pub(super) peer: PeerMemory,
    pub(super) peer_shape: Shape,
    pub(super) bells: Bells,
    /// Bytes that this side has to answer for.
    pub(super) memory: usize,
}

/// The client's side. What it brings was made before it connected: from then on a server's place is taken up.
pub(super) async fn connect(stream: &UnixStream, mut own: Own, stranger: bool) -> Result<Rings, SetupError> {
    if stranger {
        own.doorbell = None;
    }
    send(stream, 0, Some(&own)).await?;
    let theirs = receive(stream).await?.open(own.doorbell.is_none())?;
    end(stream)?;
    Ok(own.join(theirs))
}

/// The server's side: nothing is made before the client has shown what it has; then `make` is, with whether the client is a
/// stranger. `waits` is told whether it is the client that is waited for.
pub(super) async fn accept(
    stream: &UnixStream,
    stranger: bool,
    waits: impl Fn(bool),
    make: impl AsyncFnOnce(bool) -> Result<Own, SetupError>,
) -> Result<Rings, SetupError> {
    let made = async {
        let mut receiving = pin!(receive(stream));
        let sent = poll_fn(|cx| {
            let sent = receiving.as_mut().poll(cx);
            waits(sent.is_pending());
            sent
        });
        let theirs = sent.await?.open(stranger)?;
        end(stream)?;
        Ok((make(theirs.incoming.is_none()).await?, theirs))
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
    shape: Shape,
    /// What this side rings, and what the peer listens to. Without it, the socket is the doorbell of both.
    doorbell: Option<(Bell, OwnedFd)>,
}

impl Own {
    /// Takes the memory from the system, all of it: on a thread that may block, where that is much.
    pub(super) async fn create(shape: Shape, stranger: bool) -> Result<Own, SetupError> {
        let (segment, memory) = if shape.len() > AT_ONCE {
            let made = tokio::task::spawn_blocking(move || segment::create(shape)).await;
            made.map_err(|error| SetupError::io("taking memory")(io::Error::other(error)))??
        } else {
            segment::create(shape)?
        };
        let doorbell = if stranger { None } else { Some(bell::pair().map_err(SetupError::io("making a doorbell"))?) };
        Ok(Own { segment, memory, shape, doorbell })
    }

    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let sound = self.doorbell.as_ref().map(|(_, sound)| sound);
        iter::once(&self.segment).chain(sound).map(AsRawFd::as_raw_fd)
    }

    fn join(self, theirs: Theirs) -> Rings {
        let Theirs { memory: peer, shape: peer_shape, incoming, stranger } = theirs;
        let Own { memory: own, shape: own_shape, doorbell, .. } = self;
        let bells = match (doorbell, incoming) {
            (Some((bell, _)), Some(incoming)) => Bells::Pipes { bell, incoming },
            _ => Bells::Socket,
        };
        // A stranger's may have holes, whose pages would be made, and counted as this side's, when they are read.
        let memory = own_shape.len() + if stranger { peer_shape.len() } else { 0 };
        Rings { own, own_shape, peer, peer_shape, bells, memory }
    }
}

/// What the other side sent.
struct Sent {
    /// The segment, and a doorbell unless that is to be the socket, if that is what they are.
    descriptors: Suspect<Vec<OwnedFd>>,
    shape: Shape,
}

/// The same, looked at and found good.
struct Theirs {
    memory: PeerMemory,
    shape: Shape,
    /// Without it, the socket is the doorbell of both.
    incoming: Option<Incoming>,
    stranger: bool,
}

impl Sent {
    /// With a `stranger`, a doorbell of its making is not listened to.
    fn open(self, stranger: bool) -> Result<Theirs, SetupError> {
        let (segment, sound) = match &self.descriptors[..] {
            [segment] => (segment, None),
            [segment, sound] => (segment, Some(sound)),
            other => return Err(SetupError::Descriptors(other.len())),
        };
        let memory = segment::open(segment, self.shape, stranger)?;
        if stranger {
            // What came beside the segment is not looked at: even that a stranger could make last.
            return Ok(Theirs { memory, shape: self.shape, incoming: None, stranger });
        }
        let incoming = sound.map(Incoming::new).transpose()?;
        // A memory file and a pipe: nobody can make it take long to close them.
        drop(self.descriptors.trust());
        Ok(Theirs { memory, shape: self.shape, incoming, stranger })
    }
}

async fn send(stream: &UnixStream, status: u16, half: Option<&Own>) -> Result<(), SetupError> {
    let mut message = [0; LEN];
    message[..8].copy_from_slice(MAGIC);
    message[8..10].copy_from_slice(&VERSION.to_le_bytes());
    message[10..12].copy_from_slice(&status.to_le_bytes());
    if let Some(Own { shape: Shape { capacity, blocks }, .. }) = half {
        for (at, size) in [(16, *capacity), (24, blocks.len), (32, blocks.count)] {
            message[at..at + 8].copy_from_slice(&(size as u64).to_le_bytes());
        }
    }
    let descriptors: Vec<RawFd> = half.into_iter().flat_map(Own::descriptors).collect();
    let control = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &control };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let write =
        || sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&message)], control, flags, None).map_err(io::Error::from);
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
    let size = |at: usize| message[at..at + 8].iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte));
    Ok(Sent { descriptors, shape: check_shape(size(16), size(24), size(32))? })
}

/// What a peer says of its segment: a ring of `capacity` bytes, and `count` blocks of `len`.
pub(super) fn check_shape(capacity: u64, len: u64, count: u64) -> Result<Shape, SetupError> {
    if !capacity.is_power_of_two() || !(CAPACITY_MIN as u64..=CAPACITY_MAX as u64).contains(&capacity) {
        return Err(SetupError::Capacity(capacity));
    }
    let lens = BLOCK_LEN_MIN as u64..=BLOCK_LEN_MAX as u64;
    let whole = count <= BLOCKS_MAX as u64 && lens.contains(&len) && len % 4096 == 0;
    if (count, len) != (0, 0) && !(count > 0 && whole && count * len <= BLOCKS_BYTES_MAX as u64) {
        return Err(SetupError::Blocks { count, len });
    }
    Ok(Shape { capacity: capacity as usize, blocks: Blocks { count: count as usize, len: len as usize } })
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
