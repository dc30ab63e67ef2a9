//! Frames of callers that call in the same turn leave together; what a task has sent is on its way when it goes on.

mod accepting;

use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{self, available_parallelism};

use accepting::One;
use tokio::runtime::{Builder, Runtime};
use trunkline::transport::mem::{self, MemTransport};
use trunkline::transport::{BatchWriter, BoxTransport, Listener, Properties, Transport, Written, async_trait};
use trunkline::{Connection, Server};

#[trunkline::service]
trait Echo {
    async fn echo(&self, number: u64) -> u64;
    #[rpc(oneway)]
    async fn tell(&self, number: u64);
}

struct Plain;

impl Echo for Plain {
    async fn echo(&self, number: u64) -> u64 {
        number
    }

    async fn tell(&self, _: u64) {}
}

/// Counts what is written.
struct Counted {
    inner: MemTransport,
    writes: Arc<AtomicU64>,
}

impl Transport for Counted {
    type Sender = <MemTransport as Transport>::Sender;
    type Writer = Counting<<MemTransport as Transport>::Writer>;
    type Receiver = <MemTransport as Transport>::Receiver;

    fn properties(&self) -> Properties {
        Properties::new("counted", self.inner.properties().peer)
    }

    fn split(self, frame_len_max: usize) -> (Self::Sender, Self::Writer, Self::Receiver) {
        let (sender, writer, receiver) = self.inner.split(frame_len_max);
        (sender, Counting { writer, writes: self.writes }, receiver)
    }
}

struct Counting<W> {
    writer: W,
    writes: Arc<AtomicU64>,
}

impl<W: BatchWriter> BatchWriter for Counting<W> {
    type Batch = W::Batch;

    fn try_write(&mut self, batch: &mut W::Batch) -> io::Result<Written> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.writer.try_write(batch)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, batch: &mut W::Batch) -> Poll<io::Result<()>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.writer.poll_write(cx, batch)
    }

    fn written(&self) -> u64 {
        self.writer.written()
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_shutdown(cx)
    }
}

/// Runs `test` with a client in this runtime, of which every write is counted, and a server in another.
fn counted(test: impl AsyncFnOnce(EchoClient, &AtomicU64)) {
    let (ours, theirs) = mem::pair();
    let server = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    server.spawn(async { Server::builder().service(EchoServer::new(Plain)).listen(One(Some(theirs))).run().await });
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let writes = Arc::new(AtomicU64::new(0));
        let transport = Counted { inner: ours, writes: Arc::clone(&writes) };
        let connection = Connection::builder().over_transport(transport).await.expect("the server is there");
        test(connection.client(), &writes).await;
    });
}

#[test]
fn calls_of_one_turn_leave_together() {
    counted(async |client, writes| {
        for round in 0..20 {
            let before = writes.load(Ordering::Relaxed);
            let calls = (0..CALLS).map(|number| client.echo(round * CALLS + number).into_future());
            let mut calls: Vec<_> = calls.map(|call| (Box::pin(call), None)).collect();
            // All in one turn of one task.
            poll_fn(|cx| {
                for (call, reply) in calls.iter_mut().filter(|(_, reply)| reply.is_none()) {
                    if let Poll::Ready(ready) = call.as_mut().poll(cx) {
                        *reply = Some(ready);
                    }
                }
                if calls.iter().all(|(_, reply)| reply.is_some()) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            for (number, (_, reply)) in (0..CALLS).zip(calls) {
                assert_eq!(reply, Some(Ok(round * CALLS + number)));
            }
            let written = writes.load(Ordering::Relaxed) - before;
            // One for the first, one for all others; what is owed to the peer may ask for more.
            assert!(written <= 6, "{written} writes for {CALLS} calls");
        }
    });
}

#[test]
fn what_was_sent_is_on_its_way_when_the_task_goes_on() {
    counted(async |client, writes| {
        // Nobody but this task has had a turn meanwhile.
        let mut all = pin!(async {
            let mut sent = Vec::new();
            for number in 0..CALLS {
                let before = writes.load(Ordering::Relaxed);
                sent.push(client.echo(number).send().await.expect("it is sent"));
                assert!(writes.load(Ordering::Relaxed) > before, "call {number} waits for company");
                let before = writes.load(Ordering::Relaxed);
                client.tell(number).await.expect("it is sent");
                assert!(writes.load(Ordering::Relaxed) > before, "oneway call {number} waits for company");
            }
            sent
        });
        let sent = match all.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(sent) => sent,
            Poll::Pending => panic!("there is room for all of them"),
        };
        for (number, pending) in (0..CALLS).zip(sent) {
            assert_eq!(pending.await, Ok(number));
        }
    });
}

/// A server that stands still when it is asked to, and notes what it had written when each call began.
#[trunkline::service]
trait Standing {
    async fn stand_still(&self);
    async fn note(&self);
    async fn tell(&self);
}

struct Stood {
    go_on: Mutex<Receiver<()>>,
    stands: Sender<()>,
    told: Sender<()>,
    writes: Arc<AtomicU64>,
    noted: Arc<Mutex<Vec<u64>>>,
}

impl Standing for Stood {
    async fn stand_still(&self) {
        self.stands.send(()).expect("the test waits");
        self.go_on.lock().expect("nothing panics").recv().expect("the test lets go");
    }

    async fn note(&self) {
        self.noted.lock().expect("nothing panics").push(self.writes.load(Ordering::Relaxed));
    }

    async fn tell(&self) {
        self.told.send(()).expect("the test waits");
    }
}

struct OneCounted(Option<Counted>);

#[async_trait]
impl Listener for OneCounted {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        match self.0.take() {
            Some(transport) => Ok(Some(BoxTransport::new(transport))),
            None => std::future::pending().await,
        }
    }

    fn endpoint(&self) -> String {
        "one:".to_owned()
    }
}

/// Neither side looks again before it sleeps, so each wakes the other with the first of many frames.
#[test]
fn the_first_of_many_frames_for_a_peer_that_sleeps_leaves_ahead() {
    let ahead = u64::from(available_parallelism().is_ok_and(|processors| processors.get() > 1));
    let (ours, theirs) = mem::pair();
    let (let_go, go_on) = channel();
    let (stands, standing) = channel();
    let (told, telling) = channel();
    let noted = Arc::new(Mutex::new(Vec::new()));
    let writes = Arc::new(AtomicU64::new(0));
    let stood =
        Stood { go_on: Mutex::new(go_on), stands, told, writes: Arc::clone(&writes), noted: Arc::clone(&noted) };
    let listener = OneCounted(Some(Counted { inner: theirs, writes }));
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(Server::builder().service(StandingServer::new(stood)).listen(listener).run())
    });
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let writes = Arc::new(AtomicU64::new(0));
        let transport = Counted { inner: ours, writes: Arc::clone(&writes) };
        let connection = Connection::builder().over_transport(transport).await.expect("the server is there");
        let client: StandingClient = connection.client();
        let still = client.stand_still().send().await.expect("it is sent");
        standing.recv().expect("it stands");
        // All of these are there when it goes on.
        let ahead_of_others = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..TURN)
            .map(|_| {
                let (client, writes, count) = (client.clone(), Arc::clone(&writes), Arc::clone(&ahead_of_others));
                tokio::spawn(async move {
                    client.note().await.expect("it is answered");
                    let mut next = pin!(client.note().into_future());
                    let before = writes.load(Ordering::Relaxed);
                    let first = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
                    count.fetch_add(writes.load(Ordering::Relaxed) - before, Ordering::Relaxed);
                    match first {
                        Poll::Ready(answer) => answer,
                        Poll::Pending => next.await,
                    }
                })
            })
            .collect();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let tell = client.tell().send().await.expect("it is sent");
        let_go.send(()).expect("it stands");
        // That is the next turn of its driver: the replies to all others are on their way. Here nobody has had a turn.
        telling.recv().expect("it is told");
        for caller in callers {
            caller.await.expect("no panic").expect("it is answered");
        }
        still.await.expect("it is answered");
        tell.await.expect("it is answered");
        let noted = noted.lock().expect("nothing panics");
        assert_eq!(noted[TURN - 1] - noted[0], ahead, "writes before the last of {TURN} was served: {noted:?}");
        assert_eq!(ahead_of_others.load(Ordering::Relaxed), ahead, "calls that left alone");
    });
}

const CALLS: u64 = 32;
/// Of so many events a turn of the driver is made.
const TURN: usize = 32;
