//! From a byte stream to a transport: what streams must offer, and the frames laid over it.
//!
//! A mechanism that moves bytes implements [`ByteReader`] and [`ByteWriter`], a dozen lines each, and is a transport
//! through [`ByteTransport`]. tokio's `AsyncRead` would not do: it answers from cached readiness, so that it cannot be
//! asked again and again without sleeping; streams that have nothing else go through [`Over`](crate::over::Over).

mod reader;
mod spare;

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll, ready};

use trunkline_core::transport::{BatchBuffer, BatchWriter, Bytes, Lent, Properties, Transport, Written};

pub use reader::FrameReader;

/// The incoming half of a byte stream.
pub trait ByteReader: Send + 'static {
    /// Really asks the mechanism for bytes, without waiting; 0 means that the peer will send no more.
    ///
    /// `into` is never empty.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there. Never `Interrupted`. Any other error ends the connection.
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Reads, or registers the task to be woken when there is something; 0 as in [`try_read`](ByteReader::try_read).
    ///
    /// # Errors
    ///
    /// Never `WouldBlock` or `Interrupted`. Any error ends the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;

    /// [`try_read`](ByteReader::try_read) into several places, of which the first is not empty, one after the other. As it
    /// is given here, into the first alone.
    ///
    /// # Errors
    ///
    /// Those of [`try_read`](ByteReader::try_read).
    fn try_read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.try_read(&mut into[0])
    }

    /// [`poll_read`](ByteReader::poll_read) into several places, likewise.
    ///
    /// # Errors
    ///
    /// Those of [`poll_read`](ByteReader::poll_read).
    fn poll_read_vectored(&mut self, cx: &mut Context<'_>, into: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        self.poll_read(cx, &mut into[0])
    }

    /// Whether it can be [detached](ByteReader::detach), and then be read by threads of no runtime. See
    /// [`FrameReceiver::DETACHES`](trunkline_core::transport::FrameReceiver::DETACHES).
    const DETACHES: bool = false;

    /// Takes back what [`poll_read`](ByteReader::poll_read) has registered: until that is called again, what comes need
    /// wake nobody. Called on threads of no runtime as well.
    fn detach(&mut self) {}
}

/// The outgoing half of a byte stream.
pub trait ByteWriter: Send + 'static {
    /// Writes as much of `bytes` as is taken without waiting. `bytes` is never empty.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is taken now. Never `Interrupted`. Any other error ends the connection; none of `bytes`
    /// has then been written.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes some of `bytes`, or registers the task to be woken when some can be written.
    ///
    /// # Errors
    ///
    /// Never `WouldBlock` or `Interrupted`. Any error ends the connection.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Whether several slices at a time are worth more than one after the other. Otherwise what leaves is copied into one
    /// slice before.
    const VECTORED: bool = false;

    /// As [`try_write`](ByteWriter::try_write), of several slices, one behind the other; at least one, and none is empty.
    ///
    /// # Errors
    ///
    /// As those of [`try_write`](ByteWriter::try_write).
    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write(&slices[0])
    }

    /// As [`poll_write`](ByteWriter::poll_write), of several slices, one behind the other; at least one, and none is empty.
    ///
    /// # Errors
    ///
    /// As those of [`poll_write`](ByteWriter::poll_write).
    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.poll_write(cx, &slices[0])
    }

    /// Sees to it that nothing written lies in a buffer on this side, without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if that takes time. Any other error ends the connection.
    fn try_flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Flushes, or registers the task to be woken when that can go on.
    ///
    /// # Errors
    ///
    /// Never `WouldBlock`. Any error ends the connection.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Says to the peer that nothing more will come.
    ///
    /// # Errors
    ///
    /// Those of the mechanism; the connection is ending anyway.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A transport made of the two halves of a byte stream.
pub struct ByteTransport<R, W> {
    properties: Properties,
    reader: R,
    writer: W,
}

impl<R: ByteReader, W: ByteWriter> ByteTransport<R, W> {
    /// Lays frames over a byte stream.
    pub fn new(properties: Properties, reader: R, writer: W) -> ByteTransport<R, W> {
        ByteTransport { properties, reader, writer }
    }
}

impl<R: ByteReader, W: ByteWriter> Transport for ByteTransport<R, W> {
    type Sender = BatchBuffer;
    type Writer = BatchedWriter<W>;
    type Receiver = FrameReader<R>;

    fn properties(&self) -> Properties {
        self.properties.clone()
    }

    fn split(self, frame_len_max: usize) -> (BatchBuffer, BatchedWriter<W>, FrameReader<R>) {
        let sender = if W::VECTORED { BatchBuffer::gathering() } else { BatchBuffer::default() };
        (sender, BatchedWriter::new(self.writer), FrameReader::new(self.reader, frame_len_max))
    }
}

impl<R, W> fmt::Debug for ByteTransport<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteTransport").field("properties", &self.properties).finish_non_exhaustive()
    }
}

/// Hands batches of frames to a byte stream.
pub struct BatchedWriter<W> {
    sink: W,
    /// Bytes that the stream has taken since the beginning of time, flushed or not: a stream with a buffer of its own
    /// may pass them on at any moment, so from here on nobody can say that the peer has not seen them.
    written: u64,
    /// Whether the stream has taken bytes that it was not seen to flush.
    flush_owed: bool,
}

impl<W: ByteWriter> BatchedWriter<W> {
    /// Writes to `sink`, of which nothing has been used yet.
    pub fn new(sink: W) -> BatchedWriter<W> {
        BatchedWriter { sink, written: 0, flush_owed: false }
    }

    fn took(&mut self, n: usize, batch: &mut Bytes) -> io::Result<()> {
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += n as u64;
        self.flush_owed = true;
        batch.advance(n);
        Ok(())
    }

    #[inline]
    fn write(&mut self, batch: &mut Bytes, lent: Lent<'_>) -> io::Result<Written> {
        let outcome = loop {
            if batch.is_empty() {
                break if self.flush_owed { self.sink.try_flush() } else { Ok(()) };
            }
            let written = if batch.is_contiguous() {
                self.sink.try_write(batch.as_slice())
            } else {
                gather(batch, lent, |slices| match slices {
                    [] => Err(missing()),
                    slices => self.sink.try_write_vectored(slices),
                })
            };
            match written {
                Ok(n) => self.took(n, batch)?,
                Err(error) => break Err(error),
            }
        };
        match outcome {
            Ok(()) => {
                self.flush_owed = false;
                Ok(Written::All)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Written::Blocked),
            Err(error) => Err(error),
        }
    }
}

/// Does something with what is to be written next of a batch, which is not empty.
fn gather<T>(batch: &Bytes, lent: Lent<'_>, write: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let filled = batch.slices(lent, &mut slices);
    write(&slices[..filled])
}

/// Whoever lent it has gone, by a panic.
fn missing() -> io::Error {
    io::Error::other("what was lent to the transport is missing")
}

/// How many slices are written at a time.
const SLICES_MAX: usize = 16;

impl<W: ByteWriter> BatchWriter for BatchedWriter<W> {
    type Batch = Bytes;

    /// The batch can be empty and the answer [`Written::Blocked`]: then it is the flush that takes time.
    fn try_write(&mut self, batch: &mut Bytes) -> io::Result<Written> {
        self.write(batch, Lent::default())
    }

    const LENDS: bool = W::VECTORED;

    fn try_write_lent(&mut self, batch: &mut Bytes, lent: Lent<'_>) -> io::Result<Written> {
        let written = self.write(batch, lent);
        batch.keep(lent);
        written
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, batch: &mut Bytes) -> Poll<io::Result<()>> {
        while !batch.is_empty() {
            let n = ready!(gather(batch, Lent::default(), |slices| match slices {
                [] => Poll::Ready(Err(missing())),
                slices => self.sink.poll_write_vectored(cx, slices),
            }))?;
            self.took(n, batch)?;
        }
        if self.flush_owed {
            ready!(self.sink.poll_flush(cx))?;
            self.flush_owed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink.poll_shutdown(cx)
    }
}

impl<W> fmt::Debug for BatchedWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchedWriter").field("written", &self.written).finish_non_exhaustive()
    }
}
