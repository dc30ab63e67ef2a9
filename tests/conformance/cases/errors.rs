//! Every error, and whether the call has run.

use trunkline::codec::DecodeError;
use trunkline::{CallError, ConnectionError, Execution, Reason};

use crate::fixture::{Fixture, Setup};
use crate::harness::soon;
use crate::ledger::token;
use crate::service::{Bomb, Liar, Mute, NowhereClient, SuiteError, SuiteOfTomorrowClient};

pub(crate) async fn the_methods_own_error_is_told(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let small = SuiteError::Small { code: 404 };
    // On the wire a reply of more than 64 bytes goes another way, and one of more than a chunk yet another.
    let long = SuiteError::Long("x".repeat(500));
    let longest = SuiteError::Long("y".repeat(300_000));
    for error in [small, long, longest] {
        let outcome = soon("an error", suite.fail(call, error.clone())).await;
        let told = outcome.expect_err("an error");
        assert_eq!((told.execution(), told.is_retryable()), (Execution::Executed, false));
        assert!(told == CallError::App(error), "another error than the handler's");
    }
    assert_eq!(served.ledger.executions(call), 3);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_panic_is_told_and_ends_nothing_else(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let (beside, panics) = (token(), token());
    let slow = suite.delay(beside, 50, 3).send().await.expect("it is sent");
    for _ in 0..20 {
        let panicked = soon("a panic", suite.panic(panics)).await;
        assert_eq!(panicked, Err(CallError::MaybeExecuted(Reason::Panicked)));
    }
    let panicked = soon("a panic", suite.panic_later(panics)).await;
    assert_eq!(panicked, Err(CallError::MaybeExecuted(Reason::Panicked)));
    assert_eq!(served.ledger.executions(panics), 21);
    assert_eq!(soon("the call beside", slow).await, Ok(3));
    served.rests_with(&connection).await;
    assert_eq!(served.accounts().await.handlers_panicked, 21);
}

pub(crate) async fn an_argument_that_panics_in_its_drop_is_a_panic(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    for _ in 0..3 {
        let panicked = soon("a panic", suite.drop_bomb(call, Bomb::new())).await;
        assert_eq!(panicked, Err(CallError::MaybeExecuted(Reason::Panicked)));
    }
    assert_eq!(suite.echo(b"and on").await, Ok(b"and on".to_vec()));
    assert_eq!(served.ledger.executions(call), 3);
    served.rests_with(&connection).await;
}

pub(crate) async fn arguments_that_cannot_be_encoded_are_not_sent(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let refused = suite.tell_mute(Mute).await.expect_err("it cannot be encoded");
    assert!(
        matches!(&refused, CallError::NotExecuted(Reason::Unencodable(why)) if why.contains("it will not be told"))
    );
    assert!(!refused.is_retryable());
    assert_eq!(suite.echo(b"and on").await, Ok(b"and on".to_vec()));
    served.rests_with(&connection).await;
}

pub(crate) async fn arguments_that_cannot_be_decoded_are_not_executed(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let refused = soon("a refusal", suite.tell_liar(call, Liar)).await;
    let Err(CallError::NotExecuted(Reason::InvalidArguments { argument: 1, why })) = refused else {
        panic!("{refused:?}");
    };
    assert!(!matches!(why, DecodeError::TrailingBytes { .. }), "{why}");
    assert_eq!(served.ledger.executions_after_all(call).await, 0);
    assert_eq!(suite.echo(b"and on").await, Ok(b"and on".to_vec()));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_reply_that_cannot_be_encoded_was_executed(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let lost = soon("an error", suite.mute(call)).await;
    assert_eq!(lost, Err(CallError::MaybeExecuted(Reason::UnencodableReply)));
    assert_eq!(served.ledger.executions(call), 1);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_reply_that_cannot_be_decoded_was_executed(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let lost = soon("an error", suite.liar(call)).await;
    assert!(matches!(lost, Err(CallError::MaybeExecuted(Reason::InvalidReply(_)))), "{lost:?}");
    assert_eq!(served.ledger.executions(call), 1);
    served.rests_with(&connection).await;
}

pub(crate) async fn an_unknown_service_or_method_is_named(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let nowhere: NowhereClient = connection.client();
    let unknown = soon("a refusal", nowhere.anything()).await;
    let reason = Reason::UnknownMethod { service: "Nowhere".to_owned(), method: "anything".to_owned() };
    assert_eq!(unknown, Err(CallError::NotExecuted(reason)));
    let tomorrow: SuiteOfTomorrowClient = connection.client();
    let unknown = soon("a refusal", tomorrow.not_yet()).await;
    let reason = Reason::UnknownMethod { service: "Suite".to_owned(), method: "not_yet".to_owned() };
    assert_eq!(unknown, Err(CallError::NotExecuted(reason)));
    assert_eq!(suite.echo(b"and on").await, Ok(b"and on".to_vec()));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_request_over_the_peers_limit_is_not_sent(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("message_len", 1000)])).await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let fits = suite.count(call, &[0; 984]).await;
    assert_eq!(fits, Ok(984));
    let over = suite.count(call, &[0; 985]).await;
    assert_eq!(over, Err(CallError::NotExecuted(Reason::TooLarge { len: 1001, max: 1000 })));
    assert_eq!(served.ledger.executions_after_all(call).await, 1);
    // The client's own limit is the default, and its server respects that one.
    assert_eq!(suite.reply_of(100_000).await.map(|reply| reply.len()), Ok(100_000));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_call_after_the_close_is_not_executed(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    assert_eq!(suite.echo(b"before").await, Ok(b"before".to_vec()));
    connection.close();
    soon("the end", connection.closed()).await;
    let call = token();
    let refused = suite.count(call, b"").await.expect_err("it is closed");
    assert_eq!(refused, CallError::NotExecuted(Reason::ConnectionLost(ConnectionError::ClosedHere)));
    assert!(refused.is_retryable());
    served.rests_at(0).await;
    assert_eq!(served.ledger.executions(call), 0);
}
