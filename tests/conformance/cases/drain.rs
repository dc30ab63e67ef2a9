//! An orderly end: GOAWAY, the grace, the report.

use std::time::Duration;

use trunkline::{CallError, CloseReason, ConnectionError, Reason};

use crate::fixture::{Fixture, Setup, is_over};
use crate::harness::{soon, until};
use crate::ledger::{Mark, token};

const SHUTTING_DOWN: CallError = CallError::NotExecuted(Reason::ShuttingDown { retry_after: None });

pub(crate) async fn accepted_calls_finish_and_new_ones_are_refused(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let (accepted, refused) = (token(), token());
    let mut running = Vec::new();
    for at in 0..50 {
        running.push(suite.delay(accepted, 400, at).send().await.expect("it is sent"));
    }
    until("all run", async || served.ledger.executions(accepted) == 50).await;
    served.begin_shutdown().await;
    until("the client hears of it", async || connection.is_peer_draining()).await;
    let outcome = soon("a refusal", suite.count(refused, b"")).await;
    assert_eq!(outcome, Err(SHUTTING_DOWN));
    assert!(outcome.is_err_and(|error| error.is_retryable()));
    for (at, call) in running.into_iter().enumerate() {
        assert_eq!(soon("an accepted call", call).await, Ok(at as u64));
    }
    let report = served.report().await;
    assert_eq!((report.connections, report.calls_cut), (1, 0));
    let end = soon("the end", connection.closed()).await;
    assert_eq!(end, ConnectionError::ClosedByPeer(CloseReason::ShuttingDown));
    assert_eq!(served.ledger.executions(refused), 0);
    is_over(&connection);
}

pub(crate) async fn waiting_calls_are_refused_by_a_drain(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 2)])).await;
    let (connection, suite) = served.suite().await;
    let (running, waiting) = (token(), token());
    let first = suite.delay(running, 300, 1).send().await.expect("it is sent");
    let second = suite.delay(running, 300, 2).send().await.expect("it is sent");
    until("both run", async || served.ledger.executions(running) == 2).await;
    let queued = tokio::spawn({
        let suite = suite.clone();
        async move { suite.count(waiting, b"").await }
    });
    until("one waits", async || connection.stats().calls_waiting == 1).await;
    served.begin_shutdown().await;
    assert_eq!(soon("a refusal", queued).await.expect("no panic"), Err(SHUTTING_DOWN));
    assert_eq!((soon("the first", first).await, soon("the second", second).await), (Ok(1), Ok(2)));
    assert_eq!(served.report().await.calls_cut, 0);
    assert_eq!(served.ledger.executions(waiting), 0);
}

pub(crate) async fn a_stuck_handler_is_cut_when_the_grace_ends(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("drain_grace", 200), ("linger", 200)])).await;
    let (connection, suite) = served.suite().await;
    let (stuck, quick) = (token(), token());
    let mut never = Vec::new();
    for _ in 0..3 {
        never.push(suite.never(stuck).timeout(Duration::from_secs(3600)).send().await.expect("it is sent"));
    }
    let ends = suite.delay(quick, 50, 8).send().await.expect("it is sent");
    until("all run", async || served.ledger.executions(stuck) == 3 && served.ledger.executions(quick) == 1).await;
    served.begin_shutdown().await;
    assert_eq!(soon("the quick one", ends).await, Ok(8));
    let report = served.report().await;
    assert_eq!((report.connections, report.calls_cut), (1, 3));
    assert!(report.elapsed >= Duration::from_millis(200) && report.elapsed < Duration::from_secs(5), "{report:?}");
    for call in never {
        let cut = soon("its end", call).await.expect_err("it was cut");
        assert!(matches!(cut, CallError::MaybeExecuted(_)), "{cut:?}");
    }
    until("all are dropped", async || served.ledger.count(Mark::Dropped, stuck) == 3).await;
    soon("the end", connection.closed()).await;
}

pub(crate) async fn a_drain_at_rest_is_quick(fixture: Fixture) {
    let served = fixture.serve().await;
    let mut connections = Vec::new();
    for _ in 0..10 {
        connections.push(served.connect().await);
    }
    served.begin_shutdown().await;
    let report = served.report().await;
    assert_eq!((report.connections, report.calls_cut), (10, 0));
    assert!(report.elapsed < Duration::from_secs(3), "{report:?}");
    for connection in &connections {
        let end = soon("the end", connection.closed()).await;
        assert_eq!(end, ConnectionError::ClosedByPeer(CloseReason::ShuttingDown));
    }
}
