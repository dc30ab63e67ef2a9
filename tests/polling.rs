//! Connections that ask again before they sleep leave everybody else their turn, and sleep when nothing happens.

#![cfg(target_os = "linux")]

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tempfile::tempdir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{MissedTickBehavior, interval};
use trunkline::transport::{BoxTransport, Connector, UnixConnector, async_trait};
use trunkline::{ConnectError, Connection, Latency, Server};

#[trunkline::service]
trait Echo {
    async fn echo(&self, number: u64) -> u64;
    /// Computes for a while first.
    async fn compute(&self, number: u64) -> u64;
}

struct Plain;

impl Echo for Plain {
    async fn echo(&self, number: u64) -> u64 {
        number
    }

    async fn compute(&self, number: u64) -> u64 {
        let began = Instant::now();
        while began.elapsed() < COMPUTING {
            std::hint::spin_loop();
        }
        number
    }
}

const COMPUTING: Duration = Duration::from_micros(100);

/// They look at the processor time of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const SCHEMES: [&str; 3] = ["tcp", "unix", "shm"];

/// A server on a thread of its own, for as long as the runtime lives.
fn serve(scheme: &str, latency: Latency) -> (Runtime, String) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let directory = tempdir().expect("a directory of our own");
    let endpoint = match scheme {
        "tcp" => "tcp://127.0.0.1:0".to_owned(),
        _ => format!("{scheme}:{}/s", directory.path().display()),
    };
    let server = runtime
        .block_on(Server::builder().service(EchoServer::new(Plain)).latency(latency).bind(endpoint))
        .expect("the endpoint is free");
    let endpoint = server.endpoints().remove(0);
    runtime.spawn(async move {
        let _directory = directory;
        server.run().await;
    });
    (runtime, endpoint)
}

async fn connect(endpoint: &str, latency: Latency) -> (Connection, EchoClient) {
    let connection = Connection::builder().latency(latency).connect(endpoint).await.expect("the server is there");
    let client = connection.client();
    (connection, client)
}

/// A task that never waits for long, and counts its turns.
fn neighbour() -> Arc<AtomicU64> {
    let turns = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&turns);
    tokio::spawn(async move {
        loop {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    turns
}

/// Fires each millisecond, as often as it is let.
fn ticker() -> Arc<AtomicU64> {
    let ticks = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ticks);
    tokio::spawn(async move {
        let mut interval = interval(Duration::from_millis(1));
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            interval.tick().await;
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    ticks
}

/// The neighbour asks for its turn behind everybody else's, as tokio's `yield_now` does, and still has some thousands a
/// second.
#[test]
fn a_timer_and_a_neighbour_have_their_turns_beside_a_busy_client() {
    let _alone = alone();
    for (latency, in_task) in
        [(Latency::Balanced, true), (Latency::Low, true), (Latency::Balanced, false), (Latency::Low, false)]
    {
        for scheme in SCHEMES {
            let (server, endpoint) = serve(scheme, latency);
            let client = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let (millis, calls, ticks, turns) = client.block_on(async {
                let (connection, client) = connect(&endpoint, latency).await;
                let (turns, ticks) = (neighbour(), ticker());
                let began = Instant::now();
                let calls = async move {
                    let mut calls = 0;
                    while began.elapsed() < Duration::from_millis(300) {
                        assert_eq!(client.echo(calls).await, Ok(calls));
                        calls += 1;
                    }
                    calls
                };
                // What `block_on` was given reads for itself.
                let calls = if in_task { tokio::spawn(calls).await.expect("the calls went well") } else { calls.await };
                let millis = began.elapsed().as_millis() as u64;
                drop(connection);
                (millis, calls, ticks.load(Ordering::Relaxed), turns.load(Ordering::Relaxed))
            });
            let seen =
                format!("{endpoint} {latency:?} {in_task}: {millis} ms, {calls} calls, {ticks} ticks, {turns} turns");
            assert!(calls > 0 && ticks * 10 > millis, "{seen}");
            assert!(turns > millis, "{seen}");
            drop(server);
        }
    }
}

/// A connection that waits for one answer asks again and again, and between any two times whoever can run does: it never
/// keeps the thread until the answer is there. What it keeps it for shows in how many turns a neighbour has a call.
#[test]
fn between_two_looks_others_have_a_turn() {
    let _alone = alone();
    for scheme in SCHEMES {
        let (_server, endpoint) = serve(scheme, Latency::Low);
        let client = Builder::new_current_thread().enable_all().build().expect("a runtime");
        client.block_on(async {
            let (_connection, client) = connect(&endpoint, Latency::Low).await;
            let turns = queued_neighbour();
            let began = Instant::now();
            tokio::spawn(async move {
                // As long as this computer has no processor left for one of the two, they may have to sleep.
                loop {
                    let before = turns.load(Ordering::Relaxed);
                    for number in 0..CALLS {
                        assert_eq!(client.compute(number).await, Ok(number));
                    }
                    let turns_a_call = (turns.load(Ordering::Relaxed) - before) / CALLS;
                    if turns_a_call >= TURNS_A_CALL {
                        break;
                    }
                    assert!(began.elapsed() < Duration::from_secs(20), "{endpoint}: {turns_a_call} turns a call");
                }
            })
            .await
            .expect("the calls went well");
        });
    }
}

const CALLS: u64 = 100;
/// With one look a turn there are some hundred, with one wait a turn two.
const TURNS_A_CALL: u64 = 10;

/// A task that always stands in the runtime's queue, and counts its turns.
fn queued_neighbour() -> Arc<AtomicU64> {
    let turns = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&turns);
    tokio::spawn(poll_fn(move |cx| {
        count.fetch_add(1, Ordering::Relaxed);
        cx.waker().wake_by_ref();
        std::task::Poll::<()>::Pending
    }));
    turns
}

/// Whether a test of connections that do not sleep is to be skipped, and says so.
fn has_one_processor() -> bool {
    let one = available_parallelism().is_ok_and(|processors| processors.get() == 1);
    if one {
        eprintln!("skipped: on one processor each of the two sleeps for the other's sake");
    }
    one
}

/// Who wakes a task: itself, or another.
struct Spy {
    task: tokio::task::Id,
    waker: Waker,
    /// How often it was another.
    others: Arc<AtomicU64>,
}

impl Wake for Spy {
    fn wake(self: Arc<Self>) {
        if tokio::task::try_id() != Some(self.task) {
            self.others.fetch_add(1, Ordering::Relaxed);
        }
        self.waker.wake_by_ref();
    }
}

/// Makes a call; how often anybody else has woken the task for it.
async fn woken_by_others(client: &EchoClient, number: u64) -> u64 {
    let mut call = pin!(client.echo(number).into_future());
    let others = Arc::new(AtomicU64::new(0));
    let answer = poll_fn(|cx| {
        let spy = Spy { task: tokio::task::id(), waker: cx.waker().clone(), others: Arc::clone(&others) };
        call.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(spy))))
    });
    assert_eq!(answer.await, Ok(number));
    others.load(Ordering::Relaxed)
}

/// On one thread, over shared memory: no driver wakes it. As soon as it does not go alone any more, the driver reads.
#[test]
fn a_task_whose_calls_go_alone_reads_its_own_replies() {
    let _alone = alone();
    if has_one_processor() {
        return;
    }
    let (_server, endpoint) = serve("shm", Latency::Low);
    let client = Builder::new_current_thread().enable_all().build().expect("a runtime");
    client.block_on(async {
        let (_connection, client) = connect(&endpoint, Latency::Low).await;
        let calls = async move {
            assert!(woken_by_others(&client, 0).await > 0, "it has not gone alone for long");
            let began = Instant::now();
            let (mut number, mut by_itself) = (0, 0);
            // As long as others take the processors away, the driver takes over now and then.
            while by_itself < 100 {
                number += 1;
                by_itself = if woken_by_others(&client, number).await == 0 { by_itself + 1 } else { 0 };
                assert!(began.elapsed() < Duration::from_secs(60), "{number} calls, and the driver reads");
            }
            let (one, other) = tokio::join!(woken_by_others(&client, 1), woken_by_others(&client, 2));
            assert!(one + other > 0, "nobody else can have read for both");
        };
        tokio::spawn(calls).await.expect("the calls went well");
    });
}

/// A runtime of several threads, and a driver on a thread of its own: a worker that looked might keep another from sleeping.
#[test]
fn a_task_of_another_runtime_has_the_driver_read() {
    let _alone = alone();
    let (_server, endpoint) = serve("shm", Latency::Low);
    let connection =
        Connection::builder().latency(Latency::Low).connect_blocking(&endpoint).expect("the server is there");
    let client: EchoClient = connection.client();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let calls = runtime.spawn(async move {
        for number in 0..500 {
            assert!(woken_by_others(&client, number).await > 0, "call {number}");
        }
    });
    runtime.block_on(calls).expect("the calls went well");
}

/// How often a thread of this process has gone to sleep.
fn sleeps(thread: nix::unistd::Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).expect("a count")
}

/// It hands the reading to the driver, and has it back: from then on the driver sleeps.
#[test]
fn a_thread_that_has_waited_for_long_once_reads_again() {
    let _alone = alone();
    if has_one_processor() {
        return;
    }
    for scheme in SCHEMES {
        let (_server, endpoint) = serve(scheme, Latency::Low);
        let (tell, told) = std::sync::mpsc::channel();
        let at = endpoint.clone();
        let driver = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (_connection, client) = connect(&at, Latency::Balanced).await;
                let (over, is_over) = tokio::sync::oneshot::channel::<()>();
                tell.send((client, nix::unistd::gettid(), over)).expect("the test waits for it");
                let _ = is_over.await;
            });
        });
        let (client, thread, over) = told.recv().expect("a connection");
        let began = Instant::now();
        loop {
            assert_eq!(client.compute(1).wait(), Ok(1));
            let calls = || (0..500).for_each(|number| assert_eq!(client.echo(number).wait(), Ok(number)));
            calls();
            let before = sleeps(thread);
            calls();
            let slept = sleeps(thread) - before;
            // As long as others take the processors away, answers are late now and then.
            if slept < 100 {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{endpoint}: the driver was woken {slept} times");
        }
        drop(over);
        driver.join().expect("no panic");
    }
}

#[test]
fn every_latency_carries_calls() {
    let _alone = alone();
    for latency in [Latency::Balanced, Latency::Low, Latency::PowerSave] {
        for scheme in SCHEMES {
            let (_server, endpoint) = serve(scheme, latency);
            let client = Builder::new_current_thread().enable_all().build().expect("a runtime");
            client.block_on(async {
                let (_connection, client) = connect(&endpoint, latency).await;
                for number in 0..300 {
                    assert_eq!(client.echo(number).await, Ok(number));
                    if number % 100 == 0 {
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                }
            });
        }
    }
}

/// Sockets and pipes that this process has in any runtime's poll.
fn polled() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fdinfo").expect("Linux").flatten();
    // One that has been closed meanwhile has nothing to say.
    let infos = descriptors.filter_map(|descriptor| std::fs::read_to_string(descriptor.path()).ok());
    infos.map(|info| info.lines().filter(|line| line.starts_with("tfd:")).count()).sum()
}

#[test]
fn a_connection_busy_for_long_leaves_the_runtimes_poll_until_it_sleeps() {
    let _alone = alone();
    if has_one_processor() {
        return;
    }
    for scheme in ["tcp", "unix"] {
        let (server, endpoint) = serve(scheme, Latency::Low);
        let client = Builder::new_current_thread().enable_all().build().expect("a runtime");
        client.block_on(async {
            let (connection, client) = connect(&endpoint, Latency::Low).await;
            let rest = || tokio::time::sleep(Duration::from_millis(100));
            let calls = tokio::spawn(async move {
                assert_eq!(client.echo(0).await, Ok(0));
                rest().await;
                let at_rest = polled();
                let began = Instant::now();
                let mut calls = 0;
                // As long as others take the processors away, both ends sleep now and then.
                while polled() + 2 > at_rest {
                    assert!(began.elapsed() < Duration::from_secs(120), "{calls} calls, and both are still polled");
                    for _ in 0..10_000 {
                        calls += 1;
                        assert_eq!(client.echo(calls).await, Ok(calls));
                    }
                }
                rest().await;
                assert_eq!(polled(), at_rest);
                // Both sleep, and each hears of the other.
                assert_eq!(client.echo(0).await, Ok(0));
                rest().await;
            });
            calls.await.expect("the calls went well");
            server.shutdown_background();
            tokio::time::timeout(Duration::from_secs(20), connection.closed()).await.expect("the end is heard of");
        });
    }
}

/// Connects in another runtime than that which the connection is driven in.
struct Elsewhere {
    runtime: Runtime,
    path: String,
}

#[async_trait]
impl Connector for Elsewhere {
    async fn connect(&self) -> Result<BoxTransport, ConnectError> {
        let connector = UnixConnector::new(&self.path);
        self.runtime.spawn(async move { connector.connect().await }).await.expect("it does not panic")
    }

    fn endpoint(&self) -> String {
        format!("unix:{}", self.path)
    }
}

#[test]
fn a_transport_of_another_runtime_goes_back_into_that_ones_poll() {
    let _alone = alone();
    let (_server, endpoint) = serve("unix", Latency::Low);
    let path = endpoint.strip_prefix("unix:").expect("a path").to_owned();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let elsewhere = Elsewhere { runtime, path };
    // It has no poll of its own.
    let client = Builder::new_current_thread().enable_time().build().expect("a runtime");
    client.block_on(async {
        let connected = Connection::builder().latency(Latency::Low).connect_with(&elsewhere).await;
        let connection = connected.expect("the server is there");
        let client: EchoClient = connection.client();
        let calls = tokio::spawn(async move {
            for _ in 0..3 {
                for number in 0..10_000 {
                    assert_eq!(client.echo(number).await, Ok(number));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        calls.await.expect("the calls went well");
    });
}

/// Both ends of many connections in this process: were one of them to go on asking, it would take a whole processor.
#[test]
fn connections_at_rest_take_no_processor_time() {
    let _alone = alone();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (mut servers, mut kept) = (Vec::new(), Vec::new());
    for latency in [Latency::Balanced, Latency::Low] {
        for scheme in SCHEMES {
            let (server, endpoint) = serve(scheme, latency);
            for number in 0..5 {
                let (connection, client) = runtime.block_on(connect(&endpoint, latency));
                assert_eq!(runtime.block_on(client.echo(number).into_future()), Ok(number));
                kept.push((connection, client));
            }
            servers.push(server);
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    let before = cpu();
    std::thread::sleep(Duration::from_millis(1000));
    let used = cpu() - before;
    assert!(used < Duration::from_millis(100), "{used:?} of a second, at rest");
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock").into()
}
