//! A transport of a program's own, as anybody could write it: over the memory pair, cut into short chunks, and refusing
//! every third attempt to write at once, so that what others rarely meet happens all the time.

use std::io;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use trunkline::ConnectError;
use trunkline::transport::mem::{self, MemTransport};
use trunkline::transport::{
    BatchWriter, BoxTransport, Connector, Filled, FrameError, FrameReceiver, Listener, Properties, Transport, Written,
};

pub(crate) struct Own {
    inner: MemTransport,
}

impl Own {
    pub(crate) fn pair() -> (Own, Own) {
        let (here, there) = mem::pair();
        (Own { inner: here }, Own { inner: there })
    }
}

impl Transport for Own {
    type Sender = <MemTransport as Transport>::Sender;
    type Writer = Reluctant<<MemTransport as Transport>::Writer>;
    type Receiver = Plain<<MemTransport as Transport>::Receiver>;

    fn properties(&self) -> Properties {
        Properties::new("own", self.inner.properties().peer).chunk_len(1024)
    }

    fn split(self, frame_len_max: usize) -> (Self::Sender, Self::Writer, Self::Receiver) {
        let (sender, writer, receiver) = self.inner.split(frame_len_max);
        (sender, Reluctant { writer, attempts: 0 }, Plain(receiver))
    }
}

pub(crate) struct Reluctant<W> {
    writer: W,
    attempts: u32,
}

impl<W: BatchWriter> BatchWriter for Reluctant<W> {
    type Batch = W::Batch;

    fn try_write(&mut self, batch: &mut W::Batch) -> io::Result<Written> {
        self.attempts += 1;
        if self.attempts % 3 == 0 {
            return Ok(Written::Blocked);
        }
        self.writer.try_write(batch)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, batch: &mut W::Batch) -> Poll<io::Result<()>> {
        self.writer.poll_write(cx, batch)
    }

    fn written(&self) -> u64 {
        self.writer.written()
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_shutdown(cx)
    }
}

pub(crate) struct Plain<R>(R);

impl<R: FrameReceiver> FrameReceiver for Plain<R> {
    fn try_fill(&mut self) -> io::Result<Option<Filled>> {
        self.0.try_fill()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        self.0.poll_fill(cx)
    }

    fn frame(&self) -> Result<Option<&[u8]>, FrameError> {
        self.0.frame()
    }

    fn consume(&mut self) {
        self.0.consume();
    }

    fn idle(&mut self) {
        self.0.idle();
    }
}

/// Accepts whatever its connectors bring, made by `pair`.
pub(crate) struct Handed<T> {
    name: &'static str,
    arriving: mpsc::UnboundedReceiver<T>,
}

/// Makes a pair, keeps one end, hands the other over.
pub(crate) struct Handing<T> {
    name: &'static str,
    pair: fn() -> (T, T),
    sender: mpsc::UnboundedSender<T>,
}

impl<T> Clone for Handing<T> {
    fn clone(&self) -> Self {
        Handing { name: self.name, pair: self.pair, sender: self.sender.clone() }
    }
}

pub(crate) fn handed<T>(name: &'static str, pair: fn() -> (T, T)) -> (Handed<T>, Handing<T>) {
    let (sender, arriving) = mpsc::unbounded_channel();
    (Handed { name, arriving }, Handing { name, pair, sender })
}

impl<T> Handed<T> {
    pub(crate) async fn next(&mut self) -> io::Result<T> {
        match self.arriving.recv().await {
            Some(transport) => Ok(transport),
            // Nobody is left to connect.
            None => std::future::pending().await,
        }
    }
}

impl<T> Handing<T> {
    pub(crate) fn connect_own(&self) -> Result<T, ConnectError> {
        let (here, there) = (self.pair)();
        self.sender.send(there).map_err(|_| ConnectError::Unreachable {
            endpoint: self.name.to_owned(),
            source: io::Error::new(io::ErrorKind::NotFound, "nobody listens"),
        })?;
        Ok(here)
    }
}

#[async_trait::async_trait]
impl<T: Transport> Listener for Handed<T> {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        self.next().await.map(|transport| Some(BoxTransport::new(transport)))
    }

    fn endpoint(&self) -> String {
        self.name.to_owned()
    }
}

#[async_trait::async_trait]
impl<T: Transport> Connector for Handing<T> {
    async fn connect(&self) -> Result<BoxTransport, ConnectError> {
        self.connect_own().map(BoxTransport::new)
    }

    fn endpoint(&self) -> String {
        self.name.to_owned()
    }
}
