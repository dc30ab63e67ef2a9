//! Calls without async.

use std::time::Duration;

use tokio::task::JoinSet;
use trunkline::{CallError, Connection, Latency, Reason, allow_wait};

use crate::fixture::{Endpoint, Fixture};
use crate::harness::{on_plain_thread, soon, until};
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
    let (Endpoint::Uri(uri) | Endpoint::InPlace(uri)) = served.endpoint().clone() else {
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

/// Calls one after another, so that the thread reads its replies itself. At times it lets the connection be: for longer
/// than it takes the driver to come back, or a little less.
fn calls_in_a_row(suite: &SuiteClient, calls: u64) {
    for at in 0..calls {
        let bytes = at.to_le_bytes();
        assert_eq!(suite.echo(&bytes).wait(), Ok(bytes.to_vec()));
        if at % 64 == 63 {
            std::thread::sleep(Duration::from_millis(at / 64 % 4 * 6));
        }
    }
}

pub(crate) async fn threads_wait_beside_each_other_and_beside_tasks(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    for (threads, tasks) in [(1, 0), (2, 0), (1, 1), (3, 2)] {
        let mut all = JoinSet::new();
        for _ in 0..threads {
            let suite = suite.clone();
            all.spawn(on_plain_thread(move || calls_in_a_row(&suite, 300)));
        }
        for _ in 0..tasks {
            let suite = suite.clone();
            all.spawn(async move {
                for at in 0..300 {
                    assert_eq!(soon("an answer", suite.delay(token(), at % 3 / 2, at)).await, Ok(at));
                }
            });
        }
        while let Some(over) = soon("the end of the calls", all.join_next()).await {
            over.expect("no panic");
        }
    }
    served.rests_with(&connection).await;
}

/// Large replies keep the thread reading, in pieces; small calls of tasks go on meanwhile.
pub(crate) async fn a_thread_that_waits_takes_large_replies(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let large = suite.clone();
    let uploads = tokio::spawn(on_plain_thread(move || {
        for len in [0, 65, 5_000, 300_000, 1 << 20] {
            let bytes = vec![7; len];
            for _ in 0..5 {
                assert!(large.echo(&bytes).wait().as_ref() == Ok(&bytes));
            }
        }
    }));
    for at in 0..100 {
        assert_eq!(soon("an answer", suite.delay(token(), 0, at)).await, Ok(at));
    }
    soon("the large ones", uploads).await.expect("no panic");
    served.rests_with(&connection).await;
}

/// Others' replies keep the thread reading, whose own call has no end but its deadline.
pub(crate) async fn a_deadline_passes_while_a_thread_reads(fixture: Fixture) {
    let served = fixture.serve().await;
    let connection = served.connect_with(Connection::builder().latency(Latency::Low)).await;
    let suite: SuiteClient = connection.client();
    let others = suite.clone();
    let mut overdue = tokio::spawn(on_plain_thread(move || {
        for _ in 0..5 {
            calls_in_a_row(&suite, 20);
            let overdue = suite.never(token()).timeout(Duration::from_millis(30)).wait();
            assert_eq!(overdue, Err(CallError::MaybeExecuted(Reason::DeadlineExceeded)));
        }
    }));
    let mut at = 0;
    until("the deadlines have passed", async || {
        for _ in 0..50 {
            at += 1;
            assert_eq!(soon("an answer", others.delay(token(), 0, at)).await, Ok(at));
        }
        overdue.is_finished()
    })
    .await;
    (&mut overdue).await.expect("no panic");
    served.rests_with(&connection).await;
}

/// Where a thread has read last, nobody is told of what comes; the driver finds it all the same.
pub(crate) async fn what_comes_between_two_waits_is_read(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    for _ in 0..5 {
        let waiting = suite.clone();
        let sent = on_plain_thread(move || {
            calls_in_a_row(&waiting, 20);
            waiting
        })
        .await;
        assert_eq!(soon("an answer", sent.delay(token(), 1, 5)).await, Ok(5));
        let pending = sent.delay(token(), 2, 6).send().await.expect("it is sent");
        assert_eq!(on_plain_thread(move || pending.wait()).await, Ok(6));
    }
    let last = suite.clone();
    on_plain_thread(move || calls_in_a_row(&last, 20)).await;
    served.begin_shutdown().await;
    soon("the end", connection.closed()).await;
}

pub(crate) async fn a_thread_that_waits_hears_of_the_close(fixture: Fixture) {
    let served = fixture.serve().await;
    for wait in 0..10 {
        let (connection, suite) = served.suite().await;
        let waiting = tokio::spawn(on_plain_thread(move || {
            loop {
                if let Err(error) = suite.echo(b"again").wait() {
                    return error;
                }
            }
        }));
        tokio::time::sleep(Duration::from_millis(wait)).await;
        connection.close();
        let error = soon("its outcome", waiting).await.expect("no panic");
        assert!(matches!(error.reason(), Some(Reason::ConnectionLost(_))), "{error:?}");
        soon("the end", connection.closed()).await;
    }
    served.rests_at(0).await;
}
