//! Any `AsyncRead + AsyncWrite` as a transport: a TLS stream, an SSH channel, the two ends of a test.
//!
//! It is the fallback, slower than the transports that know their mechanism: such a stream can be polled but not
//! asked, and both halves go through one lock.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use trunkline_core::transport::{BatchBuffer, PeerIdentity, Properties, Transport};

use crate::framing::{BatchedWriter, ByteReader, ByteWriter, FrameReader};

/// A stream that the program brings along, as a transport. Nobody vouches for the peer: see [`Over::properties_with`].
///
/// ```
/// # use trunkline_transports::over::Over;
/// let (ours, theirs) = tokio::io::duplex(4096);
/// let (ours, theirs) = (Over::new(ours), Over::new(theirs));
/// ```
pub struct Over<S> {
    stream: S,
    properties: Properties,
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Over<S> {
    /// Carries frames over `stream`. What was written is flushed whenever nothing follows at once.
    pub fn new(stream: S) -> Over<S> {
        Over { stream, properties: Properties::new("over", PeerIdentity::Unknown).silent_loss(true) }
    }

    /// Replaces what there is to know about the stream: a program that knows more can say who the peer is, or that the
    /// peer cannot vanish silently.
    pub fn properties_with(mut self, change: impl FnOnce(Properties) -> Properties) -> Over<S> {
        self.properties = change(self.properties);
        self
    }
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Transport for Over<S> {
    type Sender = BatchBuffer;
    type Writer = BatchedWriter<OverWriter<S>>;
    type Receiver = FrameReader<OverReader<S>>;

    fn properties(&self) -> Properties {
        self.properties.clone()
    }

    fn split(self, frame_len_max: usize) -> (Self::Sender, Self::Writer, Self::Receiver) {
        let shared =
            Shared(Arc::new(Mutex::new(State { stream: Box::pin(self.stream), reading: None, writing: None })));
        let writer = BatchedWriter::new(OverWriter(Shared(Arc::clone(&shared.0))));
        (BatchBuffer::default(), writer, FrameReader::new(OverReader(shared), frame_len_max))
    }
}

impl<S> fmt::Debug for Over<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Over").field("properties", &self.properties).finish_non_exhaustive()
    }
}

struct State<S> {
    stream: Pin<Box<S>>,
    /// Who waited last for bytes to read. A try polls on behalf of that task: a stream remembers one waker, and with
    /// another in its place the one who waits would sleep for ever. At worst it is woken once for nothing.
    reading: Option<Waker>,
    /// The same, for room to write.
    writing: Option<Waker>,
}

/// The lock protects the stream from being polled by both halves at once; it is held while the stream is polled.
struct Shared<S>(Arc<Mutex<State<S>>>);

impl<S> Shared<S> {
    fn lock(&self) -> io::Result<MutexGuard<'_, State<S>>> {
        self.0.lock().map_err(|_| io::Error::other("the stream panicked while it was polled"))
    }
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

/// What a poll on behalf of `waiting` says, with "not now" as an error.
fn attempt<T>(waiting: &Option<Waker>, poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>) -> io::Result<T> {
    match poll(&mut Context::from_waker(waiting.as_ref().unwrap_or(Waker::noop()))) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn poll_read<S: AsyncRead>(stream: Pin<&mut S>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut into = ReadBuf::new(into);
    stream.poll_read(cx, &mut into).map_ok(|()| into.filled().len())
}

/// The incoming half of a stream.
pub struct OverReader<S>(Shared<S>);

impl<S: AsyncRead + Send + 'static> ByteReader for OverReader<S> {
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let State { stream, reading, .. } = &mut *self.0.lock()?;
        attempt(reading, |cx| poll_read(stream.as_mut(), cx, into))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let State { stream, reading, .. } = &mut *self.0.lock()?;
        remember(reading, cx);
        poll_read(stream.as_mut(), cx, into)
    }
}

/// The outgoing half of a stream.
pub struct OverWriter<S>(Shared<S>);

impl<S: AsyncWrite + Send + 'static> ByteWriter for OverWriter<S> {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let State { stream, writing, .. } = &mut *self.0.lock()?;
        attempt(writing, |cx| stream.as_mut().poll_write(cx, bytes))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let State { stream, writing, .. } = &mut *self.0.lock()?;
        remember(writing, cx);
        stream.as_mut().poll_write(cx, bytes)
    }

    fn try_flush(&mut self) -> io::Result<()> {
        let State { stream, writing, .. } = &mut *self.0.lock()?;
        attempt(writing, |cx| stream.as_mut().poll_flush(cx))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State { stream, writing, .. } = &mut *self.0.lock()?;
        remember(writing, cx);
        stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State { stream, writing, .. } = &mut *self.0.lock()?;
        remember(writing, cx);
        stream.as_mut().poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for OverReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverReader").finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for OverWriter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverWriter").finish_non_exhaustive()
    }
}
