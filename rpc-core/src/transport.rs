//! The seam between the protocol and whatever joins two processes.
//!
//! A [`Transport`] moves whole frames in order, both ways, and says who the peer is. It comes apart into three halves,
//! because three parties use it:
//!
//! - a [`FrameSender`] lives under the connection's lock: frames are placed in it without a system call;
//! - a [`BatchWriter`] hands what was placed to the operating system, outside the lock, whoever's turn it is;
//! - a [`FrameReceiver`] belongs to the connection's driver, which lends it to those who wait, if it
//!   [detaches](FrameReceiver::DETACHES).
//!
//! Transports know frames; they do not know calls. [`BatchBuffer`] is the sender of everything that writes bytes.
//!
//! The connection ends with the first error that any half returns. One that was made of a [`ConnectionError`], by
//! [`io::Error::other`], ends it with exactly that; others are told by what the system said.
//!
//! [`ConnectionError`]: crate::ConnectionError

mod batch;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use crate::connection::{Connection, Start};
use crate::error::ConnectError;
use crate::frame::FrameError;

pub use crate::landing::{LANDING_LEN_MIN, Landing, Lease, Partial};
pub use batch::{Apart, BatchBuffer, Bytes, Lent};

/// A connected pair of directions that carry frames.
///
/// # Examples
///
/// `examples/custom_transport.rs` is one in a screen.
pub trait Transport: Send + 'static {
    /// Where frames are placed.
    type Sender: FrameSender;
    /// What hands them over.
    type Writer: BatchWriter<Batch = <Self::Sender as FrameSender>::Batch>;
    /// Where frames come in.
    type Receiver: FrameReceiver;

    /// What there is to know about this transport and its peer.
    fn properties(&self) -> Properties;

    /// Takes it apart. `frame_len_max` is the longest frame, header included, that the receiver may accept.
    fn split(self, frame_len_max: usize) -> (Self::Sender, Self::Writer, Self::Receiver);
}

/// The half under the connection's lock. Nothing here blocks, makes a system call, or runs anybody else's code.
pub trait FrameSender: Send + 'static {
    /// What [`take_batch`](FrameSender::take_batch) moves out and the writer hands over.
    type Batch: Default + Send + 'static;

    /// Room for all but the first 8 bytes of a frame of `len` bytes, or `None` until the writer has made progress.
    ///
    /// The first 8 bytes are [`commit`](FrameSender::commit)'s alone: in shared memory they are what makes the frame
    /// visible. A reservation that is not committed is forgotten at the next one.
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Ends the frame reserved last; `first_word` is its first 8 bytes, little-endian, never 0.
    fn commit(&mut self, first_word: u64);

    /// Whether the ends of long frames may stay where they are, until they are written: see
    /// [`place_apart`](FrameSender::place_apart). A sender that contains a [`BatchBuffer`] may pass both on to it.
    fn gathers(&self) -> bool {
        false
    }

    /// Commits a whole frame that begins with `head` and ends with `end`; `false` if there is no room until the writer has
    /// made progress. Only asked of a sender that [gathers](FrameSender::gathers).
    fn place_apart(&mut self, head: &[u8], end: Apart) -> bool {
        let _ = (head, end);
        false
    }

    /// The longest frame for which there is a place of its own just now, beyond those that a chunk fills; 0 without any. It
    /// stays until a frame is committed to it. Others have to be cut.
    fn frame_len_now(&mut self) -> usize {
        0
    }

    /// Moves what was committed into `batch`, which is empty; `false` if there was nothing, and nobody
    /// [wants room](FrameSender::wants_room).
    ///
    /// From here on the peer may see it. What was committed and is neither taken nor [sent at once](FrameSender::send_at_once)
    /// nor [shown](FrameSender::show), it never sees.
    fn take_batch(&mut self, batch: &mut Self::Batch) -> bool;

    /// Sends all that was committed, where that takes no system call. What the peer may see from here on need not be in a
    /// batch any more.
    fn send_at_once(&mut self) -> Sent {
        Sent::Nothing
    }

    /// Lets the peer see all that was committed, where that is no more than a store: for a frame that goes alone, before the
    /// books are kept. [`send_at_once`](FrameSender::send_at_once) or a batch comes soon, and does what else there is to do.
    fn show(&mut self) {}

    /// Up to which [position](FrameSender::position) the peer may see frames because they were [shown](FrameSender::show). Only
    /// grows.
    fn shown(&self) -> u64 {
        0
    }

    /// Whether a reservation failed for lack of room although all that was committed has been taken: then it is the
    /// writer, given the batch, that finds out when there is room. Not so where frames wait in a buffer of this side's.
    fn wants_room(&self) -> bool {
        false
    }

    /// Called when nothing has come for 100 ms: a moment to give buffers back. Frames may be placed and not yet taken.
    fn idle(&mut self) {}

    /// Called once, when the connection has ended: gives back what it has of the system, since clients may hold the
    /// connection for long yet. From here on there is room for nothing.
    fn release(&mut self) {}

    /// The position after the frame committed last: a number that only grows, on the scale of [`BatchWriter::written`].
    fn position(&self) -> u64;
}

/// What became of an attempt to send at once what was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// None of it: that is for a batch and the writer.
    Nothing,
    /// The peer may see all of it, and all that was taken before. The writer has something left to do, given the next batch:
    /// to wake the peer, say.
    Shown,
    /// The same, and there is nothing left to do.
    All,
}

/// What became of an attempt to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All of the batch has reached the mechanism; the batch is empty again.
    All,
    /// The mechanism takes no more now. What is left is in the batch, or in a buffer of the mechanism's own that it has
    /// yet to flush: the batch may be empty.
    Blocked,
}

/// The half that hands batches to the mechanism. Used by one party at a time, outside the connection's lock.
pub trait BatchWriter: Send + 'static {
    /// The sender's batch.
    type Batch: Default + Send + 'static;

    /// Whether a write costs much more than a frame, a system call for instance, so that frames of callers that are
    /// about to call as well had better leave together, but for the first of many where the peer sleeps. Where it does not, and
    /// the receiver [detaches](FrameReceiver::DETACHES), a task whose calls go alone reads its own replies.
    const COSTLY: bool = true;

    /// Writes without waiting and without registering anybody for a wake-up.
    ///
    /// # Errors
    ///
    /// Those of the mechanism; the connection then ends.
    fn try_write(&mut self, batch: &mut Self::Batch) -> io::Result<Written>;

    /// Whether [`try_write_lent`](BatchWriter::try_write_lent) can be used. Otherwise nothing is ever lent, but copied into
    /// the batch.
    const LENDS: bool = false;

    /// As [`try_write`](BatchWriter::try_write), for a batch of which parts are only `lent`: what the mechanism does not take
    /// of them has been [kept](Bytes::keep) when this returns.
    ///
    /// # Errors
    ///
    /// Those of the mechanism; the connection then ends.
    fn try_write_lent(&mut self, batch: &mut Self::Batch, lent: Lent<'_>) -> io::Result<Written> {
        let _ = (batch, lent);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Writes all of `batch`, or registers the task (the driver's) to be woken when more can be written.
    ///
    /// # Errors
    ///
    /// Those of the mechanism; the connection then ends.
    fn poll_write(&mut self, cx: &mut Context<'_>, batch: &mut Self::Batch) -> Poll<io::Result<()>>;

    /// Up to which [`position`](FrameSender::position) everything has reached the mechanism, but for what the sender has
    /// [shown](FrameSender::show) or [sent at once](FrameSender::send_at_once). What has not can't have been seen by the peer, so
    /// a call beyond all of them is certain not to have run.
    fn written(&self) -> u64;

    /// Says to the peer that nothing more will come, where the mechanism can. Called once, after the last batch.
    ///
    /// # Errors
    ///
    /// Those of the mechanism; they change nothing, since the connection is ending.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What became of an attempt to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Something came in; there may or may not be a whole frame.
    Some,
    /// The peer will send no more.
    Closed,
}

/// The receiving half. Three steps, because lending a frame out of one poll function runs into the borrow checker:
/// fill, look at the frames one after the other, consume each.
///
/// A receiver can spare long frames a copy: it shows the beginning of one ([`partial`](FrameReceiver::partial)), is given
/// the place that its payload belongs to ([`land`](FrameReceiver::land)), fills that, and hands it back
/// ([`landed`](FrameReceiver::landed)). It need not, nor need it be given a place: then the frame is taken in like any
/// other.
///
/// Or a long frame stays where it came in: then its payload is [lent](FrameReceiver::lend), and there is no copy at all.
pub trait FrameReceiver: Send + 'static {
    /// Really asks the mechanism whether anything is there, without waiting and without registering anybody;
    /// `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// Those of the mechanism; the connection then ends.
    fn try_fill(&mut self) -> io::Result<Option<Filled>>;

    /// How often [`try_fill`](FrameReceiver::try_fill) is asked before other tasks get their turn: as often as takes a
    /// microsecond at most, since a turn that finds nothing costs about as much as asking the kernel does. Once where the peer
    /// is on the same processor.
    const TRIES_PER_TURN: u32 = 3;

    /// Receives, or registers the task to be woken when something comes.
    ///
    /// # Errors
    ///
    /// Those of the mechanism; the connection then ends.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>>;

    /// Whether it can be [detached](FrameReceiver::detach). Then a thread that [waits](crate::Call::wait), or the future of a
    /// call, may receive what it waits for itself, by [`try_fill`](FrameReceiver::try_fill), which is then called on threads
    /// of no runtime as well.
    const DETACHES: bool = false;

    /// Takes back what [`poll_fill`](FrameReceiver::poll_fill) has registered. Until that is called again, what comes need
    /// wake nobody. Called on threads of no runtime as well, and where a connection is so busy that it does not sleep.
    fn detach(&mut self) {}

    /// The next whole frame, header included, if it is there.
    ///
    /// # Errors
    ///
    /// If the bytes cannot be an honest peer's frame; the connection then ends.
    fn frame(&self) -> Result<Option<&[u8]>, FrameError>;

    /// Lets go of the frame that [`frame`](FrameReceiver::frame) shows.
    fn consume(&mut self);

    /// The beginning of the next frame, if that is long and not taken in yet: at least the first
    /// [`HEAD_LEN_MAX`](crate::frame::HEAD_LEN_MAX) bytes, or what has come of them.
    fn partial(&self) -> Option<Partial<'_>> {
        None
    }

    /// Takes the rest of the frame that [`partial`](FrameReceiver::partial) shows into `place`, from now on: what it
    /// showed is there already.
    fn land(&mut self, place: Landing) {
        let _ = place;
    }

    /// The frame that is landing, once it has. It is the next frame; until it has been taken,
    /// [`frame`](FrameReceiver::frame) shows none.
    fn landed(&mut self) -> Option<Landing> {
        None
    }

    /// Whether [`lend`](FrameReceiver::lend) is worth asking.
    const LENDS: bool = false;

    /// The payload of the frame that [`partial`](FrameReceiver::partial) shows, from byte `start` of the frame on, where it
    /// is, if it is all there and may stay there for as long as anybody wants. With that the frame is consumed.
    fn lend(&mut self, start: usize) -> Option<Lease> {
        let _ = start;
        None
    }

    /// Called when no frame has come for 100 ms: a moment to give buffers back. Part of a frame may have been received.
    fn idle(&mut self) {}
}

/// What there is to know about a connected transport.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Properties {
    /// The scheme of its URIs: `tcp`, `unix`, …
    pub name: &'static str,
    /// Who is at the other end.
    pub peer: PeerIdentity,
    /// Messages longer than this many payload bytes travel in chunks of it, so that others can pass.
    pub chunk_len: usize,
    /// Payload bytes that a frame from the peer may have, if that is more than a chunk: where messages can come whole that
    /// are longer.
    pub whole_len: usize,
    /// Whether the peer can vanish without the mechanism saying so (a network): then silence is probed also at rest.
    pub silent_loss: bool,
    /// Bytes of memory that it takes from the beginning to the end, busy or not: a ring, say. A server counts them
    /// towards [`Limits::memory_total`](crate::Limits::memory_total).
    pub memory: usize,
}

impl Properties {
    /// Properties with a chunk of 128 KiB, no silent loss, and no memory of its own.
    pub fn new(name: &'static str, peer: PeerIdentity) -> Properties {
        Properties { name, peer, chunk_len: 128 * 1024, whole_len: 0, silent_loss: false, memory: 0 }
    }

    /// Sets the chunk length, in bytes.
    pub fn chunk_len(mut self, len: usize) -> Properties {
        self.chunk_len = len;
        self
    }

    /// Sets how long the payload of a frame from the peer may be, in bytes, if that is more than a chunk.
    pub fn whole_len(mut self, len: usize) -> Properties {
        self.whole_len = len;
        self
    }

    /// Sets how much memory it holds, in bytes.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Sets whether the peer can vanish without a sign.
    pub fn silent_loss(mut self, yes: bool) -> Properties {
        self.silent_loss = yes;
        self
    }
}

/// Who is at the other end, as far as the mechanism vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerIdentity {
    /// The kernel's word about the process that connected or listened.
    Unix {
        /// Its effective user.
        uid: u32,
        /// Its effective group.
        gid: u32,
        /// Its process, where the system tells.
        pid: Option<i32>,
    },
    /// An address, which proves nothing about who is there.
    Tcp {
        /// The peer's address.
        addr: SocketAddr,
    },
    /// A process that this one has started.
    Child {
        /// Its process id.
        pid: u32,
    },
    /// The process that has started this one.
    Parent {
        /// Its process id, as of when it was asked for.
        pid: u32,
    },
    /// This process itself. Connections to it never look again before they sleep, whatever their
    /// [`Latency`](crate::Latency).
    SameProcess,
    /// Nobody vouches for it: a stream or a transport that the program brought along.
    Unknown,
}

impl PeerIdentity {
    /// The peer's process, where it is on this machine and the system tells.
    ///
    /// ```
    /// # use trunkline_core::transport::PeerIdentity;
    /// assert_eq!(PeerIdentity::Child { pid: 7 }.pid(), Some(7));
    /// assert_eq!(PeerIdentity::Unknown.pid(), None);
    /// ```
    pub fn pid(&self) -> Option<u32> {
        match *self {
            PeerIdentity::Unix { pid, .. } => pid.and_then(|pid| u32::try_from(pid).ok()),
            PeerIdentity::Child { pid } | PeerIdentity::Parent { pid } => Some(pid),
            PeerIdentity::SameProcess => Some(std::process::id()),
            PeerIdentity::Tcp { .. } | PeerIdentity::Unknown => None,
        }
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerIdentity::Unix { uid, gid, pid: Some(pid) } => write!(f, "pid {pid} (uid {uid}, gid {gid})"),
            PeerIdentity::Unix { uid, gid, pid: None } => write!(f, "uid {uid}, gid {gid}"),
            PeerIdentity::Tcp { addr } => write!(f, "{addr}"),
            PeerIdentity::Child { pid } => write!(f, "child process {pid}"),
            PeerIdentity::Parent { pid } => write!(f, "parent process {pid}"),
            PeerIdentity::SameProcess => f.write_str("this process"),
            PeerIdentity::Unknown => f.write_str("unknown"),
        }
    }
}

/// A [`Transport`] without its type, for the cold paths: listeners and connectors hand these out.
pub struct BoxTransport {
    properties: Properties,
    run: Box<dyn FnOnce(Start) -> Connection + Send>,
}

impl BoxTransport {
    /// Erases `transport`.
    pub fn new<T: Transport>(transport: T) -> BoxTransport {
        BoxTransport { properties: transport.properties(), run: Box::new(move |start| start.run(transport)) }
    }

    /// What there is to know about it.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    pub(crate) fn start(self, start: Start) -> Connection {
        (self.run)(start)
    }
}

impl fmt::Debug for BoxTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxTransport").field("properties", &self.properties).finish_non_exhaustive()
    }
}

/// Where connections come from.
#[async_trait::async_trait]
pub trait Listener: Send + 'static {
    /// The next peer, once it is identified and allowed; `None` if there will never be another. A server whose
    /// listeners have all said so ends when its connections have. It spaces out its calls after errors.
    ///
    /// # Errors
    ///
    /// Those of the mechanism. None of them ends the server, which waits a little and asks again.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: the server drops the future when it stops.
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>>;

    /// The URI under which it can be reached, with the real port number.
    fn endpoint(&self) -> String;
}

#[async_trait::async_trait]
impl Listener for Box<dyn Listener> {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        (**self).accept().await
    }

    fn endpoint(&self) -> String {
        (**self).endpoint()
    }
}

/// How to reach a peer.
#[async_trait::async_trait]
pub trait Connector: Send + Sync + 'static {
    /// Connects once.
    ///
    /// # Errors
    ///
    /// Says what was tried and what to do about it.
    async fn connect(&self) -> Result<BoxTransport, ConnectError>;

    /// The URI it leads to.
    fn endpoint(&self) -> String;
}
