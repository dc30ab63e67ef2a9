//! Calls without async.

use std::time::Duration;

use trunkline::{CallError, Reason, allow_wait};

use crate::fixture::{Endpoint, Fixture};
use crate::harness::{on_plain_thread, soon};
use crate::ledger::token;
use crate::service::SuiteClient;

pub(crate) async fn a_plain_thread_may_wait(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    on_plain_thread(move || {
        for at in 0..50 {
            assert_eq!(suite.delay(call, 1, at).wait(), Ok(at));
        }
        let overdue = suite.never(token()).timeout(Duration::from_millis(50)).wait();
        assert_eq!(overdue, Err(CallError::MaybeExecuted(Reason::DeadlineExceeded)));
    })
    .await;
    assert_eq!(served.ledger.executions(call), 50);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_thread_of_a_runtime_may_not_wait(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let refused = suite.count(call, b"").wait();
    assert_eq!(refused, Err(CallError::NotExecuted(Reason::WouldBlockRuntime)));
    let client = suite.clone();
    let refused = tokio::task::spawn_blocking(move || client.count(call, b"").wait()).await.expect("no panic");
    assert_eq!(refused, Err(CallError::NotExecuted(Reason::WouldBlockRuntime)));
    let pending = suite.count(call, b"").send().await.expect("it is sent");
    assert_eq!(pending.wait(), Err(CallError::MaybeExecuted(Reason::WouldBlockRuntime)));
    assert!(served.ledger.executions_after_all(call).await <= 1);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_thread_that_may_block_may_wait(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let waiting = tokio::task::spawn_blocking(move || allow_wait(|| suite.delay(token(), 1, 5).wait()));
    assert_eq!(soon("an answer", waiting).await.expect("no panic"), Ok(5));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_connection_without_a_runtime(fixture: Fixture) {
    let served = fixture.serve().await;
    let Endpoint::Uri(uri) = served.endpoint().clone() else {
        panic!("the table should say that there is no URI");
    };
    on_plain_thread(move || {
        let suite = SuiteClient::connect_blocking(&uri).expect("a client");
        let other = SuiteClient::connect_blocking(&uri).expect("a client");
        for at in 0..20 {
            assert_eq!(suite.delay(token(), 0, at).wait(), Ok(at));
            assert_eq!(other.delay(token(), 0, at).wait(), Ok(at));
        }
    })
    .await;
    served.rests_at(0).await;
}
