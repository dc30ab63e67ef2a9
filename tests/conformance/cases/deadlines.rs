//! Deadlines, from every source.

use std::future::IntoFuture;
use std::pin::pin;
use std::time::{Duration, Instant};

use trunkline::{CallError, Reason};

use crate::cases::cancel::poll_once;
use crate::fixture::{Fixture, Setup};
use crate::harness::soon;
use crate::ledger::{Mark, token};

const OVERDUE: CallError = CallError::MaybeExecuted(Reason::DeadlineExceeded);
const NEVER_RAN: CallError = CallError::NotExecuted(Reason::DeadlineExceeded);

pub(crate) async fn a_call_ends_at_its_timeout(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let began = Instant::now();
    let overdue = soon("its end", suite.never(call).timeout(Duration::from_millis(100))).await;
    assert_eq!(overdue, Err(OVERDUE));
    assert!(began.elapsed() >= Duration::from_millis(100), "it ended after {:?}", began.elapsed());
    served.ledger.seen(Mark::Dropped, call).await;
    assert_eq!(served.ledger.executions(call), 1);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_call_ends_at_its_deadline(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let (slow, fast) = (token(), token());
    let deadline = Instant::now() + Duration::from_millis(100);
    // The later option counts.
    let call = suite.never(slow).timeout(Duration::from_secs(3600)).deadline(deadline);
    let (overdue, value) = tokio::join!(soon("its end", call), soon("a call beside", suite.delay(fast, 0, 1)));
    assert_eq!((overdue, value), (Err(OVERDUE), Ok(1)));
    assert!(Instant::now() >= deadline);
    served.ledger.seen(Mark::Dropped, slow).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn a_call_without_time_is_not_made(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    assert_eq!(suite.never(call).timeout(Duration::ZERO).await, Err(NEVER_RAN));
    assert_eq!(suite.never(call).deadline(Instant::now()).await, Err(NEVER_RAN));
    assert_eq!(suite.never(call).timeout(Duration::ZERO).send().await.map(drop), Err(NEVER_RAN));
    assert_eq!(served.ledger.executions_after_all(call).await, 0);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_method_has_its_own_timeout(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let began = Instant::now();
    assert_eq!(soon("its end", suite.hurried(call)).await, Err(OVERDUE));
    assert!(began.elapsed() >= Duration::from_millis(150));
    // The call's own word counts more.
    let began = Instant::now();
    assert_eq!(soon("its end", suite.hurried(call).timeout(Duration::from_millis(300))).await, Err(OVERDUE));
    assert!(began.elapsed() >= Duration::from_millis(300));
    served.rests_with(&connection).await;
}

pub(crate) async fn the_default_and_the_maximum_apply(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite_with(&[("deadline_default", 100)]).await;
    assert_eq!(soon("its end", suite.never(token())).await, Err(OVERDUE));
    served.rests_with(&connection).await;

    let (connection, suite) = served.suite_with(&[("deadline_max", 100)]).await;
    let hour = Duration::from_secs(3600);
    assert_eq!(soon("its end", suite.never(token()).timeout(hour)).await, Err(OVERDUE));
    assert_eq!(soon("its end", suite.never(token())).await, Err(OVERDUE));
    let forever = Duration::MAX;
    assert_eq!(soon("its end", suite.never(token()).timeout(forever)).await, Err(OVERDUE));
    served.rests_with(&connection).await;
}

pub(crate) async fn the_server_knows_the_time_left(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let left = soon("an answer", suite.time_left().timeout(Duration::from_secs(10))).await.expect("an answer");
    assert!((5_000..=10_000).contains(&left), "{left} ms");
    let left = soon("an answer", suite.time_left()).await.expect("an answer");
    assert!((25_000..=30_000).contains(&left), "{left} ms");
    // A day, whatever anybody asks for.
    let left = soon("an answer", suite.time_left().timeout(Duration::MAX)).await.expect("an answer");
    assert!((86_000_000..=86_400_000).contains(&left), "{left} ms");
    served.rests_with(&connection).await;
}

pub(crate) async fn a_waiting_call_ends_at_its_deadline_unexecuted(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 1)])).await;
    let (connection, suite) = served.suite().await;
    let (first, second) = (token(), token());
    let never = suite.never(first).send().await.expect("it is sent");
    let waiting = suite.count(second, b"").timeout(Duration::from_millis(100));
    assert_eq!(soon("its end", waiting).await, Err(NEVER_RAN));
    let sending = suite.count(second, b"").timeout(Duration::from_millis(100)).send();
    assert_eq!(soon("its end", sending).await.map(drop), Err(NEVER_RAN));
    drop(never);
    served.rests_with(&connection).await;
    assert_eq!(served.ledger.executions(second), 0);
}

pub(crate) async fn a_call_without_memory_ends_at_its_deadline_unexecuted(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 1)])).await;
    let (connection, suite) = served.suite_with(&[("memory_out", 1000), ("deadline_default", 500)]).await;
    let (first, second, third) = (token(), token(), token());
    let never = suite.never(first).timeout(Duration::from_secs(60)).send().await.expect("it is sent");
    // One may wait with its bytes, whatever their number; the others wait without.
    let mut waiting = pin!(suite.count(second, &[0; 2000]).timeout(Duration::from_secs(60)).into_future());
    assert!(poll_once(waiting.as_mut()).await.is_pending());
    let starved = suite.count(third, &[0; 2000]).timeout(Duration::from_millis(100));
    assert_eq!(soon("its end", starved).await, Err(NEVER_RAN));
    let starved = suite.count(third, &[0; 2000]).deadline(Instant::now() + Duration::from_millis(100));
    assert_eq!(soon("its end", starved).await, Err(NEVER_RAN));
    assert_eq!(soon("its end", suite.count(third, &[0; 2000])).await, Err(NEVER_RAN));
    drop(never);
    assert_eq!(soon("the waiting one", waiting).await, Ok(2000));
    assert_eq!(soon("one that finds room", suite.count(third, &[0; 2000])).await, Ok(2000));
    served.rests_with(&connection).await;
    assert_eq!((served.ledger.executions(second), served.ledger.executions(third)), (1, 1));
}

pub(crate) async fn an_overdue_no_cancel_handler_is_not_waited_for(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let overdue = soon("its end", suite.regardless(call, 1500).timeout(Duration::from_millis(50))).await;
    assert_eq!(overdue, Err(OVERDUE));
    assert_eq!(served.ledger.count(Mark::Finished, call), 0);
    assert_eq!(connection.stats().calls_in_flight, 1);
    served.ledger.seen(Mark::Finished, call).await;
    served.rests_with(&connection).await;
}
