//! `local`: client and server in one process without an endpoint, and all that holds between two processes.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use trunkline::transport::PeerIdentity;
use trunkline::{
    CallError, Connection, ConnectionError, Context, Limit, Limits, Reason, Server, Stream, StreamError, Streaming,
    TraceContext,
};

#[trunkline::service]
trait Desk {
    async fn twice(&self, n: u32) -> u32;
    async fn fail(&self, why: &str) -> Result<u32, String>;
    async fn panic(&self);
    async fn never(&self);
    async fn time_left(&self, cx: &Context) -> Duration;
    async fn peer(&self, cx: &Context) -> (String, String);
    async fn up_to(&self, n: u32) -> impl Stream<Item = u32>;
    async fn sum(&self, numbers: Streaming<u32>) -> Result<u32, String>;
    /// Asks its caller for twice `n`.
    async fn ask_back(&self, n: u32, cx: &Context) -> Result<u32, String>;
    #[rpc(blocking)]
    async fn block(&self, n: u32, cx: &Context) -> Result<u32, String>;
}

#[trunkline::service]
trait Home {
    async fn triple(&self, n: u32) -> u32;
}

struct Triples;

impl Home for Triples {
    async fn triple(&self, n: u32) -> u32 {
        n * 3
    }
}

/// What is known of a desk from outside.
#[derive(Default)]
struct Seen {
    running: AtomicU32,
    changed: Notify,
    gone: Notify,
}

impl Seen {
    async fn running_is(&self, n: u32) {
        loop {
            let changed = self.changed.notified();
            if self.running.load(Ordering::SeqCst) == n {
                return;
            }
            changed.await;
        }
    }
}

struct Running(Arc<Seen>);

impl Running {
    fn new(seen: &Arc<Seen>) -> Running {
        seen.running.fetch_add(1, Ordering::SeqCst);
        seen.changed.notify_waiters();
        Running(Arc::clone(seen))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

#[derive(Default)]
struct Clerk(Arc<Seen>);

impl Drop for Clerk {
    fn drop(&mut self) {
        self.0.gone.notify_one();
    }
}

impl Desk for Clerk {
    async fn twice(&self, n: u32) -> u32 {
        n * 2
    }

    async fn fail(&self, why: &str) -> Result<u32, String> {
        Err(why.to_owned())
    }

    async fn panic(&self) {
        panic!("as it was asked to");
    }

    async fn never(&self) {
        let _running = Running::new(&self.0);
        pending::<()>().await;
    }

    async fn time_left(&self, cx: &Context) -> Duration {
        cx.time_left()
    }

    async fn peer(&self, cx: &Context) -> (String, String) {
        (cx.connection().transport().to_owned(), cx.peer().identity().to_string())
    }

    async fn up_to(&self, n: u32) -> impl Stream<Item = u32> {
        Count(0..n)
    }

    async fn sum(&self, mut numbers: Streaming<u32>) -> Result<u32, String> {
        let mut sum = 0;
        while let Some(n) = numbers.next().await {
            sum += n.map_err(|error: StreamError| error.to_string())?;
        }
        Ok(sum)
    }

    async fn ask_back(&self, n: u32, cx: &Context) -> Result<u32, String> {
        cx.peer().client::<HomeClient>().triple(n).await.map_err(|error| error.to_string())
    }

    async fn block(&self, n: u32, cx: &Context) -> Result<u32, String> {
        cx.peer().client::<HomeClient>().triple(n).wait().map_err(|error| error.to_string())
    }
}

struct Count(std::ops::Range<u32>);

impl Stream for Count {
    type Item = u32;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Option<u32>> {
        Poll::Ready(self.0.next())
    }
}

fn desk() -> (DeskClient, Arc<Seen>) {
    let clerk = Clerk::default();
    let seen = Arc::clone(&clerk.0);
    (DeskClient::local(DeskServer::new(clerk)), seen)
}

/// The output of what has to happen at once.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("not within 20 s")
}

#[tokio::test]
async fn calls_give_values_errors_and_panics() {
    let (desk, _) = desk();
    assert_eq!(desk.twice(21).await, Ok(42));
    assert_eq!(desk.fail("no paper").await, Err(CallError::App("no paper".to_owned())));
    assert_eq!(desk.panic().await, Err(CallError::MaybeExecuted(Reason::Panicked)));
    assert_eq!(desk.twice(4).await, Ok(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_from_several_threads() {
    let (desk, _) = desk();
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let desk = desk.clone();
            tokio::spawn(async move { assert_eq!(desk.twice(n).await, Ok(2 * n)) })
        })
        .collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
}

#[tokio::test]
async fn both_sides_know_that_they_are_one_process() {
    let (desk, _) = desk();
    assert_eq!(desk.connection().transport(), "local");
    assert_eq!(*desk.connection().peer(), PeerIdentity::SameProcess);
    assert_eq!(desk.peer().await, Ok(("local".to_owned(), "this process".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_call_has_a_deadline_which_its_handler_knows() {
    let (desk, seen) = desk();
    let left = desk.time_left().timeout(Duration::from_secs(2)).await.unwrap();
    assert!(left <= Duration::from_secs(2) && left > Duration::from_secs(1), "{left:?}");
    let outcome = desk.never().timeout(Duration::from_millis(20)).await;
    assert_eq!(outcome, Err(CallError::MaybeExecuted(Reason::DeadlineExceeded)));
    seen.running_is(0).await;
}

#[tokio::test]
async fn a_dropped_call_is_cancelled() {
    let (desk, seen) = desk();
    {
        let mut call = pin!(desk.never().into_future());
        let running = seen.running_is(1);
        soon(async {
            tokio::select! {
                _ = call.as_mut() => unreachable!("it never returns"),
                () = running => {}
            }
        })
        .await;
    }
    soon(seen.running_is(0)).await;
    assert_eq!(desk.twice(1).await, Ok(2));
}

#[tokio::test]
async fn streams_go_both_ways() {
    let (desk, _) = desk();
    let mut numbers = desk.up_to(1000).await.unwrap();
    let mut expected = 0..1000;
    while let Some(n) = soon(numbers.next()).await {
        assert_eq!(Some(n.unwrap()), expected.next());
    }
    assert_eq!(expected.next(), None);
    assert_eq!(desk.sum(Count(0..101)).await, Ok(5050));
}

#[tokio::test]
async fn the_server_calls_back_and_has_limits_of_its_own() {
    let seen = Arc::new(Seen::default());
    let server = Server::builder()
        .service(DeskServer::new(Clerk(Arc::clone(&seen))))
        .limits(Limits::default().in_flight_per_connection(1));
    let client = Connection::builder().service(HomeServer::new(Triples)).limits(Limits::default().calls_waiting(0));
    let connection = client.local(server).unwrap();
    let desk: DeskClient = connection.client();
    assert_eq!(desk.ask_back(5).await, Ok(15));
    assert_eq!(desk.block(6).await, Ok(18));
    let first = desk.never().send().await.unwrap();
    let second = desk.twice(1).await;
    assert!(
        matches!(second, Err(CallError::NotExecuted(Reason::Overloaded { limit: Limit::CallsWaiting }))),
        "{second:?}"
    );
    drop(first);
    soon(seen.running_is(0)).await;
}

#[tokio::test]
async fn the_last_clone_ends_both_sides() {
    let (desk, seen) = desk();
    let clone = desk.clone();
    let connection = desk.connection();
    assert_eq!(desk.twice(1).await, Ok(2));
    drop(connection);
    drop(desk);
    assert_eq!(clone.twice(2).await, Ok(4));
    drop(clone);
    soon(seen.gone.notified()).await;
}

#[tokio::test]
async fn a_client_that_was_never_used_ends_both_sides() {
    let (desk, seen) = desk();
    drop(desk);
    soon(seen.gone.notified()).await;
}

#[tokio::test]
async fn a_closed_connection_says_so() {
    let (desk, seen) = desk();
    let call = desk.never().send().await.unwrap();
    soon(seen.running_is(1)).await;
    let connection = desk.connection();
    connection.close();
    assert_eq!(soon(connection.closed()).await, ConnectionError::ClosedHere);
    let lost = Reason::ConnectionLost(ConnectionError::ClosedHere);
    assert_eq!(call.await, Err(CallError::MaybeExecuted(lost.clone())));
    assert_eq!(desk.twice(1).await, Err(CallError::NotExecuted(lost)));
    // The server is its client's: it could still be handed over.
    drop(desk);
    soon(seen.gone.notified()).await;
}

#[test]
fn a_plain_thread_needs_no_runtime() {
    let (desk, seen) = desk();
    assert_eq!(desk.twice(21).wait(), Ok(42));
    assert_eq!(desk.panic().wait(), Err(CallError::MaybeExecuted(Reason::Panicked)));
    let outcome = desk.never().timeout(Duration::from_millis(10)).wait();
    assert_eq!(outcome, Err(CallError::MaybeExecuted(Reason::DeadlineExceeded)));
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let desk = desk.clone();
            std::thread::spawn(move || desk.twice(n).wait())
        })
        .collect();
    for (n, thread) in (0..).zip(threads) {
        assert_eq!(thread.join().unwrap(), Ok(2 * n));
    }
    drop(desk);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(soon(seen.gone.notified()));
}

#[tokio::test]
async fn a_thread_that_may_block_may_wait() {
    let (desk, _) = desk();
    assert_eq!(desk.twice(1).wait(), Err(CallError::NotExecuted(Reason::WouldBlockRuntime)));
    let waited = tokio::task::spawn_blocking(move || trunkline::allow_wait(|| desk.twice(3).wait()));
    assert_eq!(soon(waited).await.unwrap(), Ok(6));
}

#[cfg(feature = "postcard")]
#[tokio::test]
async fn no_common_codec_is_said_so() {
    use trunkline::codec::CodecId;
    use trunkline::{ConnectError, HandshakeError};

    let server = Server::builder().service(DeskServer::new(Clerk::default())).codecs(&[CodecId::Postcard]);
    let made = Connection::builder().codecs(&[CodecId::Bincode]).local(server);
    assert!(matches!(made, Err(ConnectError::Handshake(HandshakeError::NoCommonCodec { .. }))), "{made:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_come_and_go_leave_nothing() {
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            tokio::spawn(async move {
                let (desk, seen) = desk();
                // Some are gone before they are used, some in the middle of a call, some after one.
                if n % 4 > 0 {
                    assert_eq!(desk.twice(n).await, Ok(2 * n));
                }
                let call = if n % 2 > 0 { desk.never().send().await.ok() } else { None };
                if n % 3 > 0 {
                    drop(call);
                    drop(desk);
                } else {
                    drop(desk);
                    drop(call);
                }
                soon(seen.gone.notified()).await;
                soon(seen.running_is(0)).await;
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
}

/// Asks a desk, in a trace of its own and after a while, how much time is left, in milliseconds.
struct Traced(DeskClient);

impl Home for Traced {
    async fn triple(&self, _: u32) -> u32 {
        let asked = TraceContext::root().scope(async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.0.time_left().await.expect("the desk answers")
        });
        asked.await.as_millis() as u32
    }
}

#[tokio::test]
async fn a_trace_of_its_own_takes_no_time_off_the_clock() {
    let (desk, _seen) = desk();
    let home = HomeClient::local(HomeServer::new(Traced(desk)));
    let left = home.triple(0).timeout(Duration::from_secs(10)).await.expect("it answers");
    assert!((1..=9_800).contains(&left), "{left} ms of 10 s, of which 200 ms have passed");
}
