//! Who keeps a connection open, and what its end says.

use std::time::Duration;

use trunkline::{CallError, CloseReason, Connection, ConnectionError, Reason};

use crate::fixture::{Fixture, Setup, is_over};
use crate::harness::soon;
use crate::ledger::{Mark, token};
use crate::service::SuiteClient;

pub(crate) async fn a_borrowed_client_does_not_keep_the_connection(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let second: SuiteClient = connection.client();
    drop(second);
    assert_eq!(suite.echo(b"still").await, Ok(b"still".to_vec()));
    drop(connection);
    served.rests_at(0).await;
    let refused = suite.echo(b"gone").await;
    assert_eq!(refused, Err(CallError::NotExecuted(Reason::ConnectionLost(ConnectionError::ClosedHere))));
}

pub(crate) async fn the_last_owner_closes(fixture: Fixture) {
    let served = fixture.serve().await;
    let suite = soon("a client", served.endpoint().client()).await.expect("a client");
    let clone = suite.clone();
    let connection = suite.connection();
    drop(suite);
    assert_eq!(clone.echo(b"still").await, Ok(b"still".to_vec()));
    drop(clone);
    // A connection that a client of its owner's has shown is an owner's, too.
    let again: SuiteClient = connection.client();
    assert_eq!(again.echo(b"still").await, Ok(b"still".to_vec()));
    served.rests_at(1).await;
    drop(connection);
    served.rests_at(0).await;

    // A call on its way keeps it open like the client that made it.
    let suite = soon("a client", served.endpoint().client()).await.expect("a client");
    let call = token();
    let pending = suite.delay(call, 100, 6).send().await.expect("it is sent");
    drop(suite);
    assert_eq!(soon("its outcome", pending).await, Ok(6));
    served.rests_at(0).await;
}

pub(crate) async fn closed_tells_why(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, _) = served.suite().await;
    connection.close();
    assert_eq!(soon("the end", connection.closed()).await, ConnectionError::ClosedHere);
    assert_eq!(soon("the end, again", connection.closed()).await, ConnectionError::ClosedHere);

    let (connection, _) = served.suite().await;
    let (end, ()) = tokio::join!(soon("the end", connection.closed()), served.begin_shutdown());
    assert_eq!(end, ConnectionError::ClosedByPeer(CloseReason::ShuttingDown));
    assert!(connection.is_peer_draining());
    served.report().await;
}

pub(crate) async fn a_connection_is_closed_whoever_holds_it(fixture: Fixture) {
    let served = fixture.serve().await;
    let suite = soon("a client", served.endpoint().client()).await.expect("a client");
    let clone = suite.clone();
    suite.connection().close();
    soon("the end", clone.connection().closed()).await;
    served.rests_at(0).await;
    let refused = clone.echo(b"gone").await.expect_err("it is closed");
    assert!(matches!(refused, CallError::NotExecuted(Reason::ConnectionLost(_))), "{refused:?}");
}

pub(crate) async fn calls_in_flight_end_when_the_connection_is_closed(fixture: Fixture) {
    let served = fixture.serve().await;
    let builder = Connection::builder().limits(crate::fixture::limits(&[("linger", 200)]));
    let connection = served.connect_with(builder).await;
    let suite: SuiteClient = connection.client();
    let (quick, stuck) = (token(), token());
    let pending = suite.delay(quick, 50, 4).send().await.expect("it is sent");
    connection.close();
    // Within the linger what was accepted ends well.
    assert_eq!(soon("its outcome", pending).await, Ok(4));
    soon("the end", connection.closed()).await;

    let builder = Connection::builder().limits(crate::fixture::limits(&[("linger", 200)]));
    let connection = served.connect_with(builder).await;
    let suite: SuiteClient = connection.client();
    let pending = suite.never(stuck).timeout(Duration::from_secs(3600)).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, stuck).await;
    drop(connection);
    let lost = soon("its outcome", pending).await;
    assert_eq!(lost, Err(CallError::MaybeExecuted(Reason::ConnectionLost(ConnectionError::ClosedHere))));
    served.ledger.seen(Mark::Dropped, stuck).await;
    served.rests_at(0).await;
}

pub(crate) async fn a_dropped_server_ends_every_call(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 1)])).await;
    let (connection, suite) = served.suite().await;
    let (running, waiting) = (token(), token());
    let stuck = suite.never(running).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, running).await;
    let queued = tokio::spawn({
        let suite = suite.clone();
        async move { suite.count(waiting, b"").await }
    });
    crate::harness::until("one waits", async || connection.stats().calls_waiting == 1).await;
    served.drop_server().await;
    let by_peer = ConnectionError::ClosedByPeer(CloseReason::ShuttingDown);
    let lost = Reason::ConnectionLost(by_peer.clone());
    assert_eq!(soon("its outcome", stuck).await, Err(CallError::MaybeExecuted(lost.clone())));
    let outcome = soon("its outcome", queued).await.expect("no panic");
    assert_eq!(outcome, Err(CallError::NotExecuted(lost)));
    assert_eq!(soon("the end", connection.closed()).await, by_peer);
    served.ledger.seen(Mark::Dropped, running).await;
    assert_eq!(served.ledger.executions(waiting), 0);
    is_over(&connection);
}

pub(crate) async fn an_ended_connection_has_no_accounts(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite_with(&[("linger", 100)]).await;
    let call = token();
    let stuck = suite.hold(call, 60_000, &[0; 5_000]).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, call).await;
    // It has more than the linger of this side's, so it is cut.
    let closing = connection.clone();
    connection.close();
    soon("the end", closing.closed()).await;
    soon("its outcome", stuck).await.expect_err("the connection is closed");
    assert!(connection.stats().is_at_rest(), "{:?}", connection.stats());
    served.rests_at(0).await;
}
