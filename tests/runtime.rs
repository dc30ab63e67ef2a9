//! The runtime that drives a connection may end before the connection's users do.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use trunkline::{CallError, ConnectionError, Reason};

#[trunkline::service]
trait Waiting {
    async fn never(&self);
    async fn now(&self, number: u64) -> u64;
}

struct Patient;

impl Waiting for Patient {
    async fn never(&self) {
        std::future::pending().await
    }

    async fn now(&self, number: u64) -> u64 {
        number
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

#[test]
fn calls_end_with_the_runtime_that_drives_them() {
    let (serving, driving, waiting) = (runtime(), runtime(), runtime());
    let server = serving.block_on(async {
        trunkline::Server::builder().service(WaitingServer::new(Patient)).bind("tcp://127.0.0.1:0").await
    });
    let server = server.expect("a free port");
    let endpoint = server.endpoints().remove(0);
    serving.spawn(server.run());

    let client = driving.block_on(WaitingClient::connect(&endpoint)).expect("the server is there");
    let sent = driving.block_on(client.never().send()).expect("it is sent");
    let closed = client.connection();
    driving.shutdown_timeout(Duration::from_secs(20));

    let gone = ConnectionError::RuntimeGone;
    let (outcome, again, why) = waiting.block_on(async {
        let all = async { (sent.await, client.never().await, closed.closed().await) };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("nobody waits for ever")
    });
    assert_eq!(outcome, Err(CallError::MaybeExecuted(Reason::ConnectionLost(gone.clone()))));
    assert_eq!(again, Err(CallError::NotExecuted(Reason::ConnectionLost(gone.clone()))));
    assert_eq!(why, gone);
}

/// The thread may read at that moment, and sleep at another.
#[test]
fn a_thread_that_waits_ends_with_the_runtime_that_drives_its_connection() {
    let serving = runtime();
    let directory = tempfile::tempdir().expect("a directory of our own");
    let path = |scheme| format!("{scheme}:{}/{scheme}", directory.path().display());
    for endpoint in ["tcp://127.0.0.1:0".to_owned(), path("unix"), path("shm")] {
        let server = serving.block_on(async {
            trunkline::Server::builder().service(WaitingServer::new(Patient)).bind(&endpoint).await
        });
        let server = server.expect("the endpoint is free");
        let endpoint = server.endpoints().remove(0);
        serving.spawn(server.run());
        for millis in 0..12 {
            let driving = runtime();
            let client = driving.block_on(WaitingClient::connect(&endpoint)).expect("the server is there");
            let (sender, ended) = std::sync::mpsc::channel();
            let waiting = std::thread::spawn(move || {
                let calls = (0..).map(|number| client.now(number).wait().map(|answer| assert_eq!(answer, number)));
                let error = calls.filter_map(Result::err).next();
                let _ = sender.send(error.expect("calls go on until one fails"));
            });
            std::thread::sleep(Duration::from_millis(millis));
            driving.shutdown_timeout(Duration::from_secs(20));
            let error = ended.recv_timeout(Duration::from_secs(20)).expect("nobody waits for ever");
            assert_eq!(error.reason(), Some(&Reason::ConnectionLost(ConnectionError::RuntimeGone)));
            waiting.join().expect("no panic");
        }
    }
}
