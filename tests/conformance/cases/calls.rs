//! Calls beside each other.

use std::future::IntoFuture;
use std::pin::pin;
use std::task::Poll;

use tokio::task::JoinSet;

use crate::cases::cancel::poll_once;
use crate::cases::payloads::pattern;
use crate::fixture::{Fixture, Setup};
use crate::harness::{soon, until};
use crate::ledger::{Mark, token};
use crate::service::{OtherClient, SuiteClient};

pub(crate) async fn a_thousand_calls_complete_out_of_order(fixture: Fixture) {
    const CALLS: u64 = 1000;
    let raised = [("in_flight_per_connection", CALLS)];
    let served = fixture.serve_with(Setup::limits(&raised)).await;
    let (connection, suite) = served.suite_with(&raised).await;
    let mut calls = JoinSet::new();
    let first = token();
    for at in 0..CALLS {
        let suite = suite.clone();
        // The later they are made, the sooner they end.
        let millis = 300 + (CALLS - at) / 3;
        calls.spawn(async move { suite.delay(first, millis, at).await });
    }
    until("a thousand calls in flight", async || connection.stats().calls_in_flight == CALLS as usize).await;
    let mut ended = Vec::new();
    while let Some(value) = soon("the next call", calls.join_next()).await {
        ended.push(value.expect("no panic").expect("a value"));
    }
    assert!(ended.first() > ended.last(), "they ended in the order they were made");
    ended.sort_unstable();
    assert!(ended.into_iter().eq(0..CALLS), "each has its own reply");
    assert_eq!(served.ledger.executions(first), CALLS as usize);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_sent_call_is_awaited_later(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let pending = {
        let bytes = pattern(300);
        let pending = soon("the sending", suite.echo(&bytes).send()).await.expect("it is sent");
        drop(bytes);
        pending
    };
    let call = token();
    let slow = suite.delay(call, 50, 2).send().await.expect("it is sent");
    assert_eq!(suite.echo(b"between").await, Ok(b"between".to_vec()));
    assert_eq!(soon("its outcome", pending).await, Ok(pattern(300)));
    let slow = tokio::spawn(slow);
    assert_eq!(soon("its outcome", slow).await.expect("no panic"), Ok(2));
    assert_eq!(served.ledger.executions(call), 1);

    // The bytes of a large one are needed no longer, either.
    let bytes = pattern(3 << 20);
    let pending = soon("the sending", suite.echo(&bytes).send()).await.expect("it is sent");
    let echo = soon("its outcome", pending).await.expect("an echo");
    assert!(echo == bytes, "the bytes have changed");
    served.rests_with(&connection).await;
}

pub(crate) async fn a_oneway_call_arrives_and_frees_its_slot(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    // More than may be in flight: each frees its slot when it is done, though nobody waits for it.
    let call = token();
    for _ in 0..500 {
        assert_eq!(soon("a oneway call", suite.note(call)).await, Ok(()));
    }
    until("all of them", async || served.ledger.executions(call) == 500).await;
    let panics = token();
    assert_eq!(suite.note_and_panic(panics).await, Ok(()));
    served.ledger.seen(Mark::Started, panics).await;
    assert_eq!(suite.note(call).send().await.expect("it is sent").await, Ok(()));
    served.rests_with(&connection).await;
    assert_eq!(served.ledger.executions(call), 501);
    assert_eq!(served.accounts().await.handlers_panicked, 1);
}

pub(crate) async fn several_services_share_a_connection(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let other: OtherClient = connection.client();
    let call = token();
    let (value, name) = tokio::join!(suite.delay(call, 20, 1).into_future(), other.name().into_future());
    assert_eq!((value, name), (Ok(1), Ok("neighbour".to_owned())));
    assert_eq!(served.accounts().await.connections, 1);
    served.rests_with(&connection).await;
}

pub(crate) async fn several_listeners_share_a_server(fixture: Fixture) {
    let served = fixture.serve_with(Setup { listeners: 3, ..Setup::default() }).await;
    assert_eq!(served.endpoints.len(), 3);
    let call = token();
    let mut connections = Vec::new();
    for (at, endpoint) in served.endpoints.iter().enumerate() {
        let connection = endpoint.connect(trunkline::Connection::builder()).await.expect("a connection");
        let suite: SuiteClient = connection.client();
        assert_eq!(suite.delay(call, 0, at as u64).await, Ok(at as u64));
        connections.push(connection);
    }
    assert_eq!(served.accounts().await.connections, 3);
    assert_eq!(served.ledger.executions(call), 3);
    served.rests_with(&connections[0]).await;
    drop(connections);
    served.rests_at(0).await;
}

pub(crate) async fn a_call_polled_once_holds_up_nobody(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let large = pattern(3 << 20);
    let (call, delayed) = (token(), token());
    let mut never = pin!(suite.never(call).into_future());
    let mut upload = pin!(suite.echo(&large).into_future());
    let mut short = pin!(suite.delay(delayed, 50, 9).into_future());
    assert!(poll_once(never.as_mut()).await.is_pending());
    let uploaded = poll_once(upload.as_mut()).await;
    assert!(poll_once(short.as_mut()).await.is_pending());
    for round in 0..200u64 {
        assert_eq!(soon("a call beside", suite.delay(delayed, 0, round)).await, Ok(round));
    }
    let other = pattern(2 << 20);
    let echo = soon("a large call beside", suite.echo(&other)).await.expect("an echo");
    assert!(echo == other, "the bytes have changed");
    // Whoever comes back finds what he left.
    assert_eq!(soon("the short one", short).await, Ok(9));
    let echo = match uploaded {
        // A server on another thread may be that quick.
        Poll::Ready(echo) => echo,
        Poll::Pending => soon("the upload", upload).await,
    };
    assert!(echo.expect("an echo") == large, "the bytes have changed");
    drop(connection);
}

pub(crate) async fn many_clients_at_once(fixture: Fixture) {
    let served = fixture.serve().await;
    let mut clients = JoinSet::new();
    for at in 0..20u64 {
        let endpoint = served.endpoint().clone();
        clients.spawn(async move {
            let suite = endpoint.client().await.expect("a client");
            for round in 0..50 {
                let bytes = pattern((at * 50 + round) as usize);
                assert_eq!(suite.echo(&bytes).await, Ok(bytes));
            }
        });
    }
    while let Some(ended) = soon("a client", clients.join_next()).await {
        ended.expect("no panic");
    }
    served.rests_at(0).await;
}
