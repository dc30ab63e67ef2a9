//! Limits at N and at N+1.

use std::future::IntoFuture;
use std::pin::pin;

use tokio::task::JoinSet;
use trunkline::{CallError, CloseReason, ConnectError, Connection, ConnectionError, Limit, Reason};

use crate::cases::cancel::poll_once;
use crate::cases::payloads::pattern;
use crate::fixture::{Fixture, Served, Setup};
use crate::harness::{soon, until};
use crate::ledger::{Mark, token};
use crate::service::SuiteClient;

fn overloaded(limit: Limit) -> CallError {
    CallError::NotExecuted(Reason::Overloaded { limit })
}

pub(crate) async fn calls_in_flight_at_the_limit_and_one_over(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 8)])).await;
    let (connection, suite) = served.suite().await;
    let (call, extra) = (token(), token());
    let mut stuck = Vec::new();
    for _ in 0..8 {
        stuck.push(soon("a call within the limit", suite.never(call).send()).await.expect("it is sent"));
    }
    until("all run", async || served.ledger.executions(call) == 8).await;
    // The one over it waits for its turn; nothing is refused.
    let mut waiting = pin!(suite.delay(extra, 0, 5).into_future());
    assert!(poll_once(waiting.as_mut()).await.is_pending());
    let stats = connection.stats();
    assert_eq!((stats.calls_in_flight, stats.calls_waiting), (8, 1));
    assert_eq!(served.ledger.executions_after_all(extra).await, 0);
    drop(stuck.pop());
    assert_eq!(soon("its turn", waiting).await, Ok(5));
    drop(stuck);
    served.rests_with(&connection).await;
    assert_eq!(served.accounts().await.requests_refused, 0);
}

pub(crate) async fn waiting_calls_at_the_limit_and_one_over(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 1)])).await;
    let (connection, suite) = served.suite_with(&[("calls_waiting", 4)]).await;
    let (first, extra) = (token(), token());
    let stuck = suite.never(first).send().await.expect("it is sent");
    let mut waiting = JoinSet::new();
    for at in 0..4 {
        let suite = suite.clone();
        waiting.spawn(async move { suite.delay(extra, 0, at).await });
    }
    until("four wait", async || connection.stats().calls_waiting == 4).await;
    let refused = soon("a refusal", suite.delay(extra, 0, 4)).await;
    assert_eq!(refused, Err(overloaded(Limit::CallsWaiting)));
    assert!(refused.is_err_and(|error| error.is_retryable()));
    assert_eq!(connection.stats().calls_refused, 1);
    drop(stuck);
    while let Some(ended) = soon("its turn", waiting.join_next()).await {
        ended.expect("no panic").expect("a value");
    }
    assert_eq!(served.ledger.executions(extra), 4);
    served.rests_with(&connection).await;
}

pub(crate) async fn calls_of_a_server_at_the_limit_and_one_over(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_server", 4)])).await;
    let (one, first) = served.suite().await;
    let (other, second) = served.suite().await;
    let (call, extra) = (token(), token());
    let mut stuck = Vec::new();
    for suite in [&first, &second, &first, &second] {
        stuck.push(suite.never(call).send().await.expect("it is sent"));
    }
    until("all run", async || served.ledger.executions(call) == 4).await;
    assert_eq!(soon("a refusal", first.delay(extra, 0, 1)).await, Err(overloaded(Limit::InFlightPerServer)));
    assert_eq!(served.ledger.executions_after_all(extra).await, 0);
    drop(stuck.pop());
    served.ledger.seen(Mark::Dropped, call).await;
    until("there is room again", async || first.delay(extra, 0, 1).await == Ok(1)).await;
    drop(stuck);
    served.rests_with(&one).await;
    served.rests_with(&other).await;
}

pub(crate) async fn connections_at_the_limit_and_one_over(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("connections", 3)])).await;
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(served.connect().await);
    }
    let refused = soon("a refusal", served.endpoint().connect(Connection::builder())).await;
    let error = refused.expect_err("one too many");
    let ConnectError::Lost(ConnectionError::ClosedByPeer(CloseReason::TooManyConnections)) = &error else {
        panic!("{error:?}");
    };
    assert!(error.to_string().contains("it has too many connections"), "{error}");
    for connection in &connections {
        let suite: SuiteClient = connection.client();
        assert_eq!(soon("a call", suite.echo(b"served")).await, Ok(b"served".to_vec()));
    }
    assert_eq!(served.accounts().await.connections_refused, 1);
    connections.pop();
    served.rests_at(2).await;
    connections.push(served.connect().await);
    drop(connections);
    served.rests_at(0).await;
}

/// Forty calls with large arguments at once, each of which is held for a moment.
async fn forty_uploads(served: &Served, suite: &SuiteClient, len: usize) {
    let call = token();
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let suite = suite.clone();
        calls.spawn(async move { suite.hold(call, 5, &vec![7; len]).await });
    }
    while let Some(ended) = soon("an upload", calls.join_next()).await {
        assert_eq!(ended.expect("no panic"), Ok(len as u64));
    }
    assert_eq!(served.ledger.executions(call), 40);
}

pub(crate) async fn big_requests_wait_for_the_receivers_memory(fixture: Fixture) {
    // Room for three of them.
    let served = fixture.serve_with(Setup::limits(&[("memory_in", 1 << 20), ("message_len", 1 << 20)])).await;
    let (connection, suite) = served.suite().await;
    forty_uploads(&served, &suite, 300_000).await;
    served.rests_with(&connection).await;
    assert_eq!(served.accounts().await.requests_refused, 0);
}

pub(crate) async fn big_requests_wait_for_the_senders_memory(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 4)])).await;
    let (connection, suite) = served.suite_with(&[("memory_out", 1 << 20)]).await;
    forty_uploads(&served, &suite, 300_000).await;
    // One that is larger than all the memory there is goes when nothing else waits.
    let call = token();
    assert_eq!(soon("an upload", suite.count(call, &vec![7; 3 << 20])).await, Ok(3 << 20));
    served.rests_with(&connection).await;
    assert_eq!(connection.stats().calls_refused, 0);
}

pub(crate) async fn big_replies_wait_for_memory(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("memory_out", 1 << 20)])).await;
    let (connection, suite) = served.suite_with(&[("memory_in", 1 << 20), ("message_len", 1 << 20)]).await;
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let suite = suite.clone();
        calls.spawn(async move {
            // A server that holds too many replies says so; then it has not run the call.
            loop {
                match suite.reply_of(400_000).await {
                    Err(CallError::NotExecuted(Reason::Overloaded { limit: Limit::MemoryOut })) => {
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                    outcome => return outcome,
                }
            }
        });
    }
    while let Some(ended) = soon("a reply", calls.join_next()).await {
        assert_eq!(ended.expect("no panic").map(|reply| reply.len()), Ok(400_000));
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn the_servers_memory_has_a_limit(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("memory_total", 1 << 20)])).await;
    let (connection, suite) = served.suite().await;
    let (call, extra) = (token(), token());
    // One fits, two do not; what is borrowed from the request counts once.
    let bytes = pattern(600_000);
    let holding = suite.hold(call, 60_000, &bytes).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, call).await;
    let refused = soon("a refusal", suite.count(extra, &bytes)).await;
    assert_eq!(refused, Err(overloaded(Limit::MemoryTotal)));
    assert_eq!(soon("a small one", suite.echo(b"small")).await, Ok(b"small".to_vec()));
    assert_eq!(served.ledger.executions_after_all(extra).await, 0);
    drop(holding);
    served.rests_with(&connection).await;
    assert_eq!(soon("there is room again", suite.count(extra, &bytes)).await, Ok(600_000));
    served.rests_with(&connection).await;
}

pub(crate) async fn decoding_has_a_memory_limit(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("decode_memory", 100_000)])).await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let strings = |n| vec![String::new(); n];
    assert_eq!(soon("an answer", suite.strings(call, strings(1_000))).await, Ok(1_000));
    let refused = soon("a refusal", suite.strings(call, strings(10_000))).await;
    assert!(
        matches!(refused, Err(CallError::NotExecuted(Reason::InvalidArguments { argument: 1, .. }))),
        "{refused:?}"
    );
    assert_eq!(served.ledger.executions_after_all(call).await, 1);
    served.rests_with(&connection).await;
}
