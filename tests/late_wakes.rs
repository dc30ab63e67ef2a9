//! A thread that has placed a call for somebody else, and is slow to say so, costs that one nothing.

mod accepting;

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};
use std::time::Duration;

use accepting::One;
use trunkline::transport::mem::{self, MemTransport};
use trunkline::transport::{BatchWriter, Properties, Transport, Written};
use trunkline::{Connection, Limits, Server};

#[trunkline::service]
trait Shop {
    async fn hold(&self, bytes: &[u8]);
    async fn shelf(&self, bytes: &[u8]) -> ShelfClient;
}

#[trunkline::service]
trait Shelf {
    async fn take(&self) -> u64;
}

struct Corner;

impl Shop for Corner {
    async fn hold(&self, _bytes: &[u8]) {
        std::future::pending().await
    }

    async fn shelf(&self, _bytes: &[u8]) -> ShelfClient {
        ShelfClient::local(ShelfServer::new(Wood))
    }
}

struct Wood;

impl Shelf for Wood {
    async fn take(&self) -> u64 {
        7
    }
}

/// Holds one thread up, once it has written.
#[derive(Default)]
struct Gate {
    who: Mutex<Option<ThreadId>>,
    changed: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.who.lock().expect("nobody panics with it") = None;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let me = Some(thread::current().id());
        let who = self.who.lock().expect("nobody panics with it");
        // Not for ever, so that a test that fails ends.
        drop(self.changed.wait_timeout_while(who, Duration::from_secs(20), |who| *who == me));
    }
}

struct Slow(MemTransport, Arc<Gate>);

struct SlowWriter(<MemTransport as Transport>::Writer, Arc<Gate>);

impl Transport for Slow {
    type Sender = <MemTransport as Transport>::Sender;
    type Writer = SlowWriter;
    type Receiver = <MemTransport as Transport>::Receiver;

    fn properties(&self) -> Properties {
        Properties::new("slow", self.0.properties().peer).chunk_len(1024)
    }

    fn split(self, frame_len_max: usize) -> (Self::Sender, Self::Writer, Self::Receiver) {
        let (sender, writer, receiver) = self.0.split(frame_len_max);
        (sender, SlowWriter(writer, self.1), receiver)
    }
}

impl BatchWriter for SlowWriter {
    type Batch = <<MemTransport as Transport>::Writer as BatchWriter>::Batch;

    fn try_write(&mut self, batch: &mut Self::Batch) -> io::Result<Written> {
        let written = self.0.try_write(batch);
        self.1.pass();
        written
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, batch: &mut Self::Batch) -> Poll<io::Result<()>> {
        self.0.poll_write(cx, batch)
    }

    fn written(&self) -> u64 {
        self.0.written()
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}

async fn until(connection: &Connection, what: &str, is_so: impl Fn(&trunkline::ConnectionStats) -> bool) {
    for _ in 0..5_000 {
        if is_so(&connection.stats()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{what}: {:?}", connection.stats());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_overtakes_the_word_that_its_call_is_placed_is_not_lost() {
    let (here, there) = mem::pair();
    let limits = Limits::default().message_len(4096).memory_in(4096);
    tokio::spawn(Server::builder().limits(limits).service(ShopServer::new(Corner)).listen(One(Some(there))).run());
    let gate = Arc::new(Gate::default());
    let connection = Connection::builder().over_transport(Slow(here, Arc::clone(&gate))).await;
    let connection = connection.expect("a server");
    let shop: ShopClient = connection.client();
    // There is credit for a little more, but not for the next call; and the one behind that is in the same lane.
    let held = shop.hold(&[7; 2000]).send().await.expect("it leaves");
    let ahead = shop.clone();
    let mut next = Box::pin(async move { ahead.hold(&[7; 3000]).await });
    assert!(std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await.is_pending());
    let shelf = shop.shelf(&[7; 1500]).pipelined();
    until(&connection, "both wait", |stats| stats.calls_waiting == 2).await;
    let slow = {
        let gate = Arc::clone(&gate);
        thread::spawn(move || {
            *gate.who.lock().expect("nobody panics with it") = Some(thread::current().id());
            drop(next);
        })
    };
    // One has been promised, one has come.
    until(&connection, "the answer is there", |stats| stats.objects_imported == 2).await;
    gate.open();
    slow.join().expect("no panic");
    let shelf = tokio::time::timeout(Duration::from_secs(20), shelf).await.expect("an answer").expect("a shelf");
    assert_eq!(shelf.take().await, Ok(7));
    drop(held);
}
