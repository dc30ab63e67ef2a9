//! Who reads changes hands without anything being lost.
//!
//! The client's clock stands still, so no sweep and no second look makes good what was missed: a lost wake-up is a hang,
//! which a watchdog on another clock ends. tokio lets a paused clock run on while nothing is left to do, but not while a
//! thread of the blocking pool is at work: one always is.

#![cfg(target_os = "linux")]

use std::future::{IntoFuture, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::spawn_blocking;
use tokio::time::{Interval, interval};
use trunkline::{CallError, Connection, Latency, Limits, Reason, ServerHandle, Stream, allow_wait};

#[trunkline::service]
trait Paced {
    async fn after(&self, millis: u64) -> u64;
    /// Numbers, each so long after the one before.
    async fn each(&self, millis: u64) -> impl Stream<Item = u64>;
    /// Tells so long after it has returned.
    async fn tell(&self, told: ToldClient, millis: u64);
    /// Has the server drain, and never returns.
    async fn drain(&self);
    /// The length of something long.
    async fn long(&self, text: &str) -> usize;
}

#[trunkline::service]
trait Told {
    async fn told(&self);
}

#[derive(Default)]
struct Clock {
    server: Arc<OnceLock<ServerHandle>>,
}

impl Paced for Clock {
    async fn after(&self, millis: u64) -> u64 {
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        millis
    }

    async fn each(&self, millis: u64) -> impl Stream<Item = u64> {
        Ticks { interval: interval(Duration::from_millis(millis)), count: 0 }
    }

    async fn tell(&self, told: ToldClient, millis: u64) {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let _ = told.told().await;
        });
    }

    async fn long(&self, text: &str) -> usize {
        text.len()
    }

    async fn drain(&self) {
        self.server.get().expect("it serves this call").shutdown();
        std::future::pending().await
    }
}

/// One number a tick.
struct Ticks {
    interval: Interval,
    count: u64,
}

impl Stream for Ticks {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        self.interval.poll_tick(cx).map(|_| {
            self.count += 1;
            Some(self.count - 1)
        })
    }
}

struct Tells(UnboundedSender<()>);

impl Told for Tells {
    async fn told(&self) {
        let _ = self.0.send(());
    }
}

/// A server on a clock that runs, and where it is.
fn serve(scheme: &str) -> (Runtime, String) {
    serve_within(Limits::default(), scheme)
}

fn serve_within(limits: Limits, scheme: &str) -> (Runtime, String) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory of our own");
    let endpoint = match scheme {
        "tcp" => "tcp://127.0.0.1:0".to_owned(),
        _ => format!("{scheme}:{}/s", directory.path().display()),
    };
    let clock = Clock::default();
    let handle = clock.server.clone();
    let bind = trunkline::Server::builder().limits(limits).service(PacedServer::new(clock)).bind(&endpoint);
    let server = runtime.block_on(bind).expect("the endpoint is free");
    assert!(handle.set(server.handle()).is_ok(), "it is one server");
    let endpoint = server.endpoints().remove(0);
    runtime.spawn(async move {
        let _directory = directory;
        server.run().await;
    });
    (runtime, endpoint)
}

/// Runs `test` for each transport and latency while the client's clock stands still.
fn with_time_at_rest(test: impl AsyncFn(PacedClient) + Copy + Send + 'static) {
    with_time_at_rest_within(&Limits::default(), test);
}

fn with_time_at_rest_within(limits: &Limits, test: impl AsyncFn(PacedClient) + Copy + Send + 'static) {
    for scheme in ["unix", "tcp", "shm"] {
        for latency in [Latency::Balanced, Latency::Low, Latency::PowerSave] {
            let (server, endpoint) = serve_within(limits.clone(), scheme);
            let limits = limits.clone();
            let (done, finished) = mpsc::channel();
            let client = std::thread::spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let connection = Connection::builder().latency(latency).limits(limits);
                    let connection = connection.connect(&endpoint).await.expect("a server");
                    let (over, busy) = mpsc::channel::<()>();
                    tokio::time::pause();
                    let busy = spawn_blocking(move || busy.recv());
                    test(connection.client()).await;
                    drop(over);
                    let _ = busy.await;
                });
                let _ = done.send(());
            });
            let outcome = finished.recv_timeout(Duration::from_secs(20));
            assert!(outcome != Err(mpsc::RecvTimeoutError::Timeout), "{scheme}, {latency:?}: nobody reads");
            client.join().expect("no panic");
            drop(server);
        }
    }
}

/// On a thread that may wait, calls in a row: the thread reads.
async fn on_thread(client: &PacedClient, millis: &'static [u64]) {
    let client = client.clone();
    let waits =
        move || allow_wait(|| millis.iter().for_each(|millis| assert_eq!(client.after(*millis).wait(), Ok(*millis))));
    spawn_blocking(waits).await.expect("no panic");
}

#[test]
fn a_thread_that_has_waited_long_enough_hands_the_reading_on() {
    with_time_at_rest(async |client| {
        for _ in 0..20 {
            on_thread(&client, &[0, 0, 0, 2, 0, 0]).await;
        }
    });
}

#[test]
fn a_task_that_calls_after_a_thread_has_waited_is_answered() {
    with_time_at_rest(async |client| {
        for _ in 0..100 {
            on_thread(&client, &[0; 5]).await;
            assert_eq!(client.after(0).await, Ok(0));
            assert_eq!(client.after(1).await, Ok(1));
        }
    });
}

#[test]
fn a_task_that_calls_while_a_thread_reads_is_answered() {
    with_time_at_rest(async |client| {
        for _ in 0..20 {
            let beside = async {
                for _ in 0..20 {
                    assert_eq!(client.after(0).await, Ok(0));
                    tokio::task::yield_now().await;
                }
                // Its answer comes once the thread is through.
                assert_eq!(client.after(2).await, Ok(2));
            };
            tokio::join!(on_thread(&client, &[0; 40]), beside);
        }
    });
}

#[test]
fn threads_that_wait_at_once_are_answered() {
    with_time_at_rest(async |client| {
        for _ in 0..20 {
            let calls = &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
            tokio::join!(on_thread(&client, calls), on_thread(&client, calls), on_thread(&client, calls));
        }
    });
}

#[test]
fn a_stream_goes_on_after_a_thread_has_waited() {
    with_time_at_rest(async |client| {
        let mut stream = client.each(3).await.expect("a stream");
        for number in 0..10 {
            on_thread(&client, &[0; 5]).await;
            assert_eq!(stream.next().await.map(|item| item.expect("the stream goes on")), Some(number));
        }
    });
}

#[test]
fn who_has_an_object_of_this_side_is_heard_after_a_thread_has_waited() {
    with_time_at_rest(async |client| {
        let (tells, mut told) = unbounded_channel();
        let object = ToldClient::local(ToldServer::new(Tells(tells)));
        for _ in 0..5 {
            client.tell(object.clone(), 3).await.expect("it will be told");
            on_thread(&client, &[0; 5]).await;
            told.recv().await.expect("it has been told");
        }
    });
}

/// Polls once, whatever comes of it.
async fn polled_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// What `block_on` was given reads for itself, and hands the reading on when that takes too long.
#[test]
fn a_future_that_is_in_no_task_is_answered() {
    with_time_at_rest(async |client| {
        for _ in 0..20 {
            for millis in [0, 0, 2, 0, 0] {
                assert_eq!(client.after(millis).await, Ok(millis));
            }
            on_thread(&client, &[0, 1, 0]).await;
            let of_a_task = client.clone();
            let task = tokio::spawn(async move { of_a_task.after(0).await });
            assert_eq!(client.after(1).await, Ok(1));
            assert_eq!(task.await.expect("no panic"), Ok(0));
        }
    });
}

/// A task whose calls go alone for long reads for itself over shared memory, and hands the reading on when that takes too
/// long, when others call as well, and when it is not polled any more.
#[test]
fn a_task_whose_calls_go_alone_is_answered_and_holds_up_no_others() {
    with_time_at_rest(async |client| {
        let calls = async move {
            let after = async |millis| assert_eq!(client.after(millis).await, Ok(millis));
            let alone = async || {
                for _ in 0..100 {
                    after(0).await;
                }
            };
            for polls in 0..6 {
                alone().await;
                after(2).await;
                after(0).await;
                tokio::join!(after(0), after(1), after(0));
                alone().await;
                on_thread(&client, &[0, 0]).await;
                alone().await;
                let mut left = Box::pin(client.after(1).into_future());
                for _ in 0..polls {
                    let _ = polled_once(left.as_mut()).await.is_some_and(|answer| panic!("too early: {answer:?}"));
                }
                if polls % 2 == 0 {
                    drop(left);
                    after(0).await;
                    continue;
                }
                let other = client.clone();
                assert_eq!(tokio::spawn(async move { other.after(0).await }).await.expect("no panic"), Ok(0));
                assert_eq!(left.await, Ok(1));
            }
        };
        tokio::spawn(calls).await.expect("no panic");
    });
}

/// After calls that have gone alone for long others come together, of which some are sent in pieces, some wait for their turn,
/// and some for memory to wait in.
#[test]
fn calls_that_do_not_go_alone_any_more_are_answered() {
    let mut limits = Limits::default();
    (limits.in_flight_per_connection, limits.memory_out) = (2, 1 << 20);
    with_time_at_rest_within(&limits, async |client| {
        let calls = async move {
            let text = "x".repeat(3_000_000);
            let after = async || assert_eq!(client.after(0).await, Ok(0));
            let long = async || assert_eq!(client.long(&text).await, Ok(text.len()));
            for _ in 0..4 {
                for _ in 0..100 {
                    after().await;
                }
                tokio::join!(after(), long(), long(), after(), long(), long());
                for _ in 0..100 {
                    after().await;
                }
                long().await;
                tokio::join!(long(), after(), long(), after());
                let waiting = (0..4).map(|_| {
                    let (client, text) = (client.clone(), text.clone());
                    spawn_blocking(move || allow_wait(|| assert_eq!(client.long(&text).wait(), Ok(text.len()))))
                });
                for waiting in waiting.collect::<Vec<_>>() {
                    waiting.await.expect("no panic");
                }
            }
        };
        tokio::spawn(calls).await.expect("no panic");
    });
}

#[test]
fn a_future_that_has_looked_and_is_not_polled_any_more_holds_up_no_others() {
    with_time_at_rest(async |client| {
        for polls in 0..20 {
            let mut left = Box::pin(client.after(1).into_future());
            let mut answer = None;
            for _ in 0..polls {
                if answer.is_none() {
                    answer = polled_once(left.as_mut()).await;
                }
            }
            let of_a_task = client.clone();
            assert_eq!(tokio::spawn(async move { of_a_task.after(0).await }).await.expect("no panic"), Ok(0));
            on_thread(&client, &[0, 0]).await;
            if polls % 2 == 0 && answer.is_none() {
                answer = Some(left.await);
            }
            assert!(matches!(answer, None | Some(Ok(1))), "{answer:?}");
            assert_eq!(client.after(0).await, Ok(0));
        }
    });
}

#[test]
fn a_thread_that_waits_for_the_place_of_a_future_that_is_not_polled_any_more_is_answered() {
    let mut limits = Limits::default();
    limits.in_flight_per_connection = 1;
    with_time_at_rest_within(&limits, async |client| {
        for polls in 1..6 {
            assert_eq!(client.after(0).await, Ok(0));
            let mut left = Box::pin(client.after(1).into_future());
            for _ in 0..polls {
                let _ = polled_once(left.as_mut()).await.is_some_and(|answer| panic!("too early: {answer:?}"));
            }
            on_thread(&client, &[0, 0]).await;
            assert_eq!(left.await, Ok(1));
        }
    });
}

/// A thread that drives a runtime may wait as well, if it says so: the scheduler that it keeps from running wakes nobody.
#[test]
fn a_thread_that_keeps_a_scheduler_from_running_is_answered() {
    with_time_at_rest(async |client| {
        let client = client.clone();
        let waits = async move {
            for millis in [0, 0, 2].repeat(10) {
                assert_eq!(allow_wait(|| client.after(millis).wait()), Ok(millis));
            }
        };
        let runs = || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { tokio::spawn(waits).await.expect("no panic") });
        };
        spawn_blocking(runs).await.expect("no panic");
    });
}

/// On a clock that runs: nobody else waits, so it is time that has the driver read.
#[test]
fn the_end_is_heard_although_a_future_that_has_looked_is_not_polled_any_more() {
    let both = |scheme, multi_thread| [(scheme, multi_thread, false), (scheme, multi_thread, true)];
    let cases = [both("unix", false), both("shm", false), both("unix", true), both("shm", true)];
    for (scheme, multi_thread, in_task) in cases.into_iter().flatten() {
        let (server, endpoint) = serve(scheme);
        let (done, finished) = mpsc::channel();
        let client = std::thread::spawn(move || {
            let mut runtime = if multi_thread { Builder::new_multi_thread() } else { Builder::new_current_thread() };
            let calls = async move {
                let client = PacedClient::connect(&endpoint).await.expect("a server");
                for _ in 0..100 {
                    assert_eq!(client.after(0).await, Ok(0));
                }
                // Long enough for the driver to read again.
                tokio::time::sleep(Duration::from_millis(100)).await;
                let mut left = pin!(client.after(60_000).into_future());
                for _ in 0..3 {
                    assert_eq!(polled_once(left.as_mut()).await, None);
                }
                server.shutdown_background();
                client.connection().closed().await;
                assert!(left.await.is_err());
            };
            runtime
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(async { if in_task { tokio::spawn(calls).await.expect("no panic") } else { calls.await } });
            let _ = done.send(());
        });
        let outcome = finished.recv_timeout(Duration::from_secs(20));
        let case = format!("{scheme}, several threads: {multi_thread}, in a task: {in_task}");
        assert!(outcome != Err(mpsc::RecvTimeoutError::Timeout), "{case}: nobody reads");
        client.join().expect("no panic");
    }
}

/// What is read for one call may be about another that waits for its turn, and both belong to one task.
#[test]
fn a_call_that_waits_behind_one_that_looks_hears_that_the_server_drains() {
    for scheme in ["unix", "tcp", "shm"] {
        let mut limits = Limits::default();
        limits.in_flight_per_connection = 1;
        let (server, endpoint) = serve_within(limits, scheme);
        let (done, finished) = mpsc::channel();
        let client = std::thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
                let connection =
                    Connection::builder().latency(Latency::Low).connect(&endpoint).await.expect("a server");
                let client: PacedClient = connection.client();
                assert_eq!(client.after(0).await, Ok(0));
                // Until the driver sleeps.
                tokio::time::sleep(Duration::from_millis(50)).await;
                let mut looks = pin!(client.drain().into_future());
                let mut waits = pin!(client.after(0).into_future());
                assert_eq!(polled_once(looks.as_mut()).await, None);
                let outcome = poll_fn(|cx| {
                    let outcome = waits.as_mut().poll(cx);
                    assert!(looks.as_mut().poll(cx).is_pending());
                    outcome
                });
                let outcome = outcome.await;
                assert!(matches!(outcome, Err(CallError::NotExecuted(Reason::ShuttingDown { .. }))), "{outcome:?}");
            });
            let _ = done.send(());
        });
        let outcome = finished.recv_timeout(Duration::from_secs(20));
        assert!(outcome != Err(mpsc::RecvTimeoutError::Timeout), "{scheme}: it does not hear");
        client.join().expect("no panic");
        drop(server);
    }
}
