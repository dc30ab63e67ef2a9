//! Who reads changes hands without anything being lost.
//!
//! The client's clock stands still, so no sweep and no second look makes good what was missed: a lost wake-up is a hang,
//! which a watchdog on another clock ends. tokio lets a paused clock run on while nothing is left to do, but not while a
//! thread of the blocking pool is at work: one always is.

#![cfg(target_os = "linux")]

use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;
use trunkline::{Connection, Latency, allow_wait};

#[trunkline::service]
trait Paced {
    async fn after(&self, millis: u64) -> u64;
}

struct Clock;

impl Paced for Clock {
    async fn after(&self, millis: u64) -> u64 {
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        millis
    }
}

/// A server on a clock that runs, and where it is.
fn serve(scheme: &str, name: &str) -> (Runtime, String) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let endpoint = match scheme {
        "tcp" => "tcp://127.0.0.1:0".to_owned(),
        _ => format!("{scheme}:{}/trunkline-{name}-{}.{scheme}", std::env::temp_dir().display(), std::process::id()),
    };
    let bind = trunkline::Server::builder().service(PacedServer::new(Clock)).bind(&endpoint);
    let server = runtime.block_on(bind).expect("the endpoint is free");
    let endpoint = server.endpoints().remove(0);
    runtime.spawn(server.run());
    (runtime, endpoint)
}

/// Runs `test` for each transport and latency while the client's clock stands still.
fn with_time_at_rest(name: &str, test: impl AsyncFn(PacedClient) + Copy + Send + 'static) {
    for scheme in ["unix", "tcp", "shm"] {
        for latency in [Latency::Balanced, Latency::Low, Latency::PowerSave] {
            let (server, endpoint) = serve(scheme, name);
            let (done, finished) = mpsc::channel();
            let client = std::thread::spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let connection = Connection::builder().latency(latency).connect(&endpoint).await.expect("a server");
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
    with_time_at_rest("hands-on", async |client| {
        for _ in 0..20 {
            on_thread(&client, &[0, 0, 0, 2, 0, 0]).await;
        }
    });
}

#[test]
fn a_task_that_calls_after_a_thread_has_waited_is_answered() {
    with_time_at_rest("after", async |client| {
        for _ in 0..100 {
            on_thread(&client, &[0; 5]).await;
            assert_eq!(client.after(0).await, Ok(0));
            assert_eq!(client.after(1).await, Ok(1));
        }
    });
}

#[test]
fn a_task_that_calls_while_a_thread_reads_is_answered() {
    with_time_at_rest("while", async |client| {
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
    with_time_at_rest("at-once", async |client| {
        for _ in 0..20 {
            let calls = &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
            tokio::join!(on_thread(&client, calls), on_thread(&client, calls), on_thread(&client, calls));
        }
    });
}
