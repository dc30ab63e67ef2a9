//! What a transport has sent at once has been sent, also if its writer fails at the rest.

mod accepting;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use accepting::One;
use tokio::runtime::Builder;
use trunkline::transport::mem::{self, MemTransport};
use trunkline::transport::{BatchWriter, FrameSender, Properties, Sent, Transport, Written};
use trunkline::{CallError, Connection, Server};

#[trunkline::service]
trait Work {
    async fn echo(&self, number: u64) -> u64;
    /// Does not end.
    async fn work(&self);
}

struct Worker;

impl Work for Worker {
    async fn echo(&self, number: u64) -> u64 {
        number
    }

    async fn work(&self) {
        std::future::pending().await
    }
}

type MemSender = <MemTransport as Transport>::Sender;
type MemWriter = <MemTransport as Transport>::Writer;
type MemBatch = <MemSender as FrameSender>::Batch;

/// Frames leave as soon as they are placed. Once it is broken, its writer has something left to do, and fails.
struct Eager {
    inner: MemTransport,
    broken: Arc<AtomicBool>,
}

struct EagerSender {
    sender: MemSender,
    writer: Arc<Mutex<MemWriter>>,
    broken: Arc<AtomicBool>,
    /// The writer has something left to do.
    unfinished: bool,
}

struct EagerWriter {
    writer: Arc<Mutex<MemWriter>>,
    broken: Arc<AtomicBool>,
    written: u64,
}

impl Transport for Eager {
    type Sender = EagerSender;
    type Writer = EagerWriter;
    type Receiver = <MemTransport as Transport>::Receiver;

    fn properties(&self) -> Properties {
        Properties::new("eager", self.inner.properties().peer)
    }

    fn split(self, frame_len_max: usize) -> (EagerSender, EagerWriter, Self::Receiver) {
        let (sender, writer, receiver) = self.inner.split(frame_len_max);
        let (writer, broken) = (Arc::new(Mutex::new(writer)), self.broken);
        let eager = EagerSender { sender, writer: Arc::clone(&writer), broken: Arc::clone(&broken), unfinished: false };
        (eager, EagerWriter { writer, broken, written: 0 }, receiver)
    }
}

impl FrameSender for EagerSender {
    type Batch = MemBatch;

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.sender.reserve(len)
    }

    fn commit(&mut self, first_word: u64) {
        self.sender.commit(first_word);
    }

    fn take_batch(&mut self, batch: &mut MemBatch) -> bool {
        self.sender.take_batch(batch) | std::mem::take(&mut self.unfinished)
    }

    fn send_at_once(&mut self) -> Sent {
        let mut batch = MemBatch::default();
        if self.sender.take_batch(&mut batch) {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(matches!(writer.try_write(&mut batch), Ok(Written::All)), "there is room");
        }
        self.unfinished = self.broken.load(Ordering::Relaxed);
        if self.unfinished { Sent::Shown } else { Sent::All }
    }

    fn position(&self) -> u64 {
        self.sender.position()
    }
}

impl EagerWriter {
    fn inner<R>(&mut self, f: impl FnOnce(&mut MemWriter) -> R) -> R {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let result = f(&mut writer);
        self.written = writer.written();
        result
    }
}

impl BatchWriter for EagerWriter {
    type Batch = MemBatch;

    fn try_write(&mut self, batch: &mut MemBatch) -> io::Result<Written> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.inner(|writer| writer.try_write(batch))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, batch: &mut MemBatch) -> Poll<io::Result<()>> {
        if self.broken.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.inner(|writer| writer.poll_write(cx, batch))
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_call_that_was_shown_may_have_run() {
    let (here, there) = mem::pair();
    let elsewhere = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    elsewhere.spawn(Server::builder().service(WorkServer::new(Worker)).listen(One(Some(there))).run());
    let broken = Arc::new(AtomicBool::new(false));
    let transport = Eager { inner: here, broken: Arc::clone(&broken) };
    let connection = Connection::builder().over_transport(transport).await.expect("the server is there");
    let client: WorkClient = connection.client();
    for number in 0..100 {
        assert_eq!(client.echo(number).await, Ok(number));
    }
    broken.store(true, Ordering::Relaxed);
    let outcome = client.work().timeout(Duration::from_secs(60)).await;
    assert!(matches!(outcome, Err(CallError::MaybeExecuted(_))), "{outcome:?}");
    elsewhere.shutdown_background();
}
