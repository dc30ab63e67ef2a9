//! SIGKILL, at every moment; and the ledger afterwards.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use trunkline::{CallError, ConnectionError, Reason};

use crate::child::Child;
use crate::fixture::{Fixture, Setup, is_over};
use crate::harness::{on_plain_thread, soon, until};
use crate::ledger::{Mark, token};

pub(crate) async fn a_server_killed_mid_call(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite_with(&[("linger", 60_000)]).await;
    let call = token();
    let pending = suite.never(call).timeout(Duration::from_secs(3600)).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, call).await;
    served.kill().await;
    let began = Instant::now();
    let lost = soon("its outcome", pending).await;
    assert_eq!(lost, Err(CallError::MaybeExecuted(Reason::ConnectionLost(ConnectionError::PeerGone))));
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert_eq!(soon("the end", connection.closed()).await, ConnectionError::PeerGone);
    let refused = suite.count(call, b"").await;
    assert_eq!(refused, Err(CallError::NotExecuted(Reason::ConnectionLost(ConnectionError::PeerGone))));
    assert_eq!(served.ledger.executions(call), 1);
    is_over(&connection);
}

pub(crate) async fn a_server_killed_with_calls_in_every_state(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 4)])).await;
    let (connection, suite) = served.suite().await;
    let (running, waiting) = (token(), token());
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.push(suite.never(running).send().await.expect("it is sent"));
    }
    until("all run", async || served.ledger.executions(running) == 4).await;
    let mut queued = JoinSet::new();
    for _ in 0..4 {
        let suite = suite.clone();
        queued.spawn(async move { suite.count(waiting, &[0; 1000]).await });
    }
    until("four wait", async || connection.stats().calls_waiting == 4).await;
    served.kill().await;
    for call in sent {
        let lost = soon("its outcome", call).await.expect_err("the server is dead");
        assert!(matches!(lost, CallError::MaybeExecuted(Reason::ConnectionLost(_))), "{lost:?}");
    }
    while let Some(outcome) = soon("its outcome", queued.join_next()).await {
        let lost = outcome.expect("no panic").expect_err("the server is dead");
        assert!(matches!(lost, CallError::NotExecuted(Reason::ConnectionLost(_))), "{lost:?}");
    }
    assert_eq!(served.ledger.executions(waiting), 0);
    is_over(&connection);
}

/// A client says `what`, is killed, and nobody minds.
async fn killed_after(fixture: Fixture, what: &str) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    for _ in 0..2 {
        let mut rude = Child::raw_client(served.endpoint(), what).await;
        until("it is there", async || served.accounts().await.connections == 2).await;
        rude.kill();
        assert_eq!(soon("a call beside", suite.echo(b"beside")).await, Ok(b"beside".to_vec()));
        until("it is gone", async || served.accounts().await.connections == 1).await;
    }
    served.rests_with(&connection).await;
    assert_eq!(served.accounts().await.protocol_errors, 0);
}

pub(crate) async fn a_client_killed_mid_handshake(fixture: Fixture) {
    killed_after(fixture, "half-a-hello").await;
}

pub(crate) async fn a_client_killed_mid_frame(fixture: Fixture) {
    killed_after(fixture, "hello half-a-call").await;
}

pub(crate) async fn calls_and_kills_keep_the_ledger(fixture: Fixture) {
    for round in 0..3u64 {
        let served = fixture.serve().await;
        let (connection, suite) = served.suite().await;
        let mut callers = JoinSet::new();
        for _ in 0..16 {
            let suite = suite.clone();
            callers.spawn(async move {
                let mut outcomes = Vec::new();
                loop {
                    let call = token();
                    let outcome = suite.delay(call, call % 3, call).await;
                    let over = outcome.is_err();
                    outcomes.push((call, outcome));
                    if over {
                        return outcomes;
                    }
                }
            });
        }
        until("they are at it", async || connection.stats().frames_received > 200 + 50 * round).await;
        served.kill().await;
        let mut done = 0;
        while let Some(outcomes) = soon("a caller", callers.join_next()).await {
            for (call, outcome) in outcomes.expect("no panic") {
                let executions = served.ledger.executions(call);
                match outcome {
                    Ok(value) => {
                        assert_eq!((value, executions), (call, 1));
                        done += 1;
                    }
                    Err(CallError::NotExecuted(_)) => assert_eq!(executions, 0),
                    Err(CallError::MaybeExecuted(_)) => assert!(executions <= 1, "{executions} executions"),
                }
            }
        }
        assert!(done > 0);
        is_over(&connection);
    }
}

pub(crate) async fn a_server_killed_while_threads_wait(fixture: Fixture) {
    for (round, threads) in [1, 1, 1, 3].into_iter().enumerate() {
        let served = fixture.serve().await;
        let (connection, suite) = served.suite().await;
        let call = token();
        let mut waiting = JoinSet::new();
        for _ in 0..threads {
            let suite = suite.clone();
            waiting.spawn(on_plain_thread(move || {
                let mut done = 0;
                loop {
                    match suite.count(call, b"").wait() {
                        Ok(_) => done += 1,
                        Err(error) => return (done, error),
                    }
                }
            }));
        }
        until("calls are made", async || served.ledger.executions(call) > 100).await;
        tokio::time::sleep(Duration::from_millis(3 * round as u64)).await;
        served.kill().await;
        let (mut done, mut unknown) = (0, 0);
        while let Some(ended) = soon("its outcome", waiting.join_next()).await {
            let (executed, error) = ended.expect("no panic");
            done += executed;
            unknown += usize::from(matches!(error, CallError::MaybeExecuted(_)));
            assert!(matches!(error.reason(), Some(Reason::ConnectionLost(_))), "{error:?}");
        }
        let ran = served.ledger.executions(call);
        assert!(done <= ran && ran <= done + unknown, "{done} answered, {unknown} unknown, {ran} ran");
        is_over(&connection);
    }
}
