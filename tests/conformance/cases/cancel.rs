//! Cancelling at every stage.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use trunkline::{CallError, Reason};

use crate::cases::payloads::pattern;
use crate::fixture::{Fixture, Setup};
use crate::harness::{soon, until};
use crate::ledger::{Mark, token};

/// Polls a future once.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

pub(crate) async fn a_call_that_is_never_polled_does_nothing(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    drop(suite.never(call));
    drop(suite.never(call).into_future());
    let kept = suite.never(call).into_future();
    assert_eq!(suite.echo(b"and on").await, Ok(b"and on".to_vec()));
    assert_eq!(served.ledger.executions_after_all(call).await, 0);
    assert_eq!(connection.stats().calls_in_flight, 0);
    drop(kept);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_waiting_call_is_taken_back(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 1)])).await;
    let (connection, suite) = served.suite().await;
    let (first, second) = (token(), token());
    let never = suite.never(first).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, first).await;
    {
        let mut waiting = pin!(suite.count(second, &[0; 100_000]).into_future());
        assert!(poll_once(waiting.as_mut()).await.is_pending());
        assert_eq!(connection.stats().calls_waiting, 1);
    }
    assert_eq!(connection.stats().calls_waiting, 0);
    assert_eq!(connection.stats().memory_out, 0);
    drop(never);
    served.ledger.seen(Mark::Dropped, first).await;
    assert_eq!(soon("a call in its place", suite.echo(b"and on")).await, Ok(b"and on".to_vec()));
    assert_eq!(served.ledger.executions(second), 0);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_half_sent_call_is_cut_off(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let bytes = pattern(4_000_000);
    for _ in 0..10 {
        let call = token();
        {
            let mut upload = pin!(suite.count(call, &bytes).into_future());
            // A server on another thread may be quick enough to have answered already.
            let _ = poll_once(upload.as_mut()).await;
        }
        assert!(served.ledger.executions(call) <= 1);
    }
    // The window is whole again: what was cut off does not count.
    for _ in 0..5 {
        let call = token();
        assert_eq!(soon("an upload", suite.count(call, &bytes)).await, Ok(4_000_000));
        assert_eq!(served.ledger.executions(call), 1);
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn a_running_handler_is_dropped(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    // A method that is called often runs on the driver's own task at first, so both ways are met.
    for _ in 0..30 {
        let call = token();
        {
            let mut never = pin!(suite.never(call).into_future());
            assert!(poll_once(never.as_mut()).await.is_pending());
            served.ledger.seen(Mark::Started, call).await;
        }
        served.ledger.seen(Mark::Dropped, call).await;
    }
    let pending = suite.never(token()).send().await.expect("it is sent");
    drop(pending);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_spawned_and_a_blocking_handler_can_ask(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let pending = suite.block_until_cancelled(call).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, call).await;
    assert_eq!(soon("a call beside", suite.echo(b"beside")).await, Ok(b"beside".to_vec()));
    drop(pending);
    served.ledger.seen(Mark::Finished, call).await;

    let call = token();
    let overdue = soon("an error", suite.block_until_cancelled(call).timeout(Duration::from_millis(50))).await;
    assert_eq!(overdue, Err(CallError::MaybeExecuted(Reason::DeadlineExceeded)));
    served.ledger.seen(Mark::Finished, call).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn a_handler_may_refuse_to_be_cancelled(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let pending = suite.regardless(call, 100).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, call).await;
    drop(pending);
    // It keeps its slot until it is gone.
    assert_eq!(connection.stats().calls_in_flight, 1);
    served.ledger.seen(Mark::Finished, call).await;
    assert_eq!(served.ledger.count(Mark::Dropped, call), 0);
    // Nor before it has begun.
    let call = token();
    drop(suite.regardless(call, 0).send().await.expect("it is sent"));
    served.ledger.seen(Mark::Finished, call).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn an_abandoned_reply_is_let_go(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    // Cancelled before the call is looked at, and more at once than the server's memory holds replies for.
    for _ in 0..40 {
        let _ = poll_once(pin!(suite.reply_of(1 << 20).into_future())).await;
    }
    assert_eq!(soon("a reply", suite.reply_of(4_000_000)).await.map(|reply| reply.len()), Ok(4_000_000));
    // While the reply is on its way, and after it has come: more than any window holds, all in all.
    for round in 0..30u64 {
        let mut pending = pin!(suite.reply_of(1 << 20).into_future());
        let _ = poll_once(pending.as_mut()).await;
        match round % 3 {
            0 => {}
            1 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_millis(round)).await,
        }
    }
    let reply = soon("a reply", suite.reply_of(4_000_000)).await.expect("a reply");
    assert_eq!(reply.len(), 4_000_000);
    served.rests_with(&connection).await;
}

pub(crate) async fn five_hundred_cancels_at_once_are_no_offence(fixture: Fixture) {
    let raised = [("in_flight_per_connection", 500)];
    let served = fixture.serve_with(Setup::limits(&raised)).await;
    let (connection, suite) = served.suite_with(&raised).await;
    for _ in 0..3 {
        let call = token();
        let mut calls = Vec::new();
        for _ in 0..500 {
            calls.push(suite.never(call).send().await.expect("it is sent"));
        }
        until("all run", async || served.ledger.executions(call) == 500).await;
        drop(calls);
        until("all are dropped", async || served.ledger.count(Mark::Dropped, call) == 500).await;
    }
    assert_eq!(soon("a call after it", suite.echo(b"and on")).await, Ok(b"and on".to_vec()));
    served.rests_with(&connection).await;
}

pub(crate) async fn an_abandoned_call_keeps_its_place_to_its_last_byte(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 1)])).await;
    let (connection, suite) = served.suite().await;
    for round in 0..30u64 {
        {
            let mut pending = pin!(suite.reply_of(1 << 20).into_future());
            let _ = poll_once(pending.as_mut()).await;
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
        }
        // Whoever comes next waits for the place; the server is never asked for one more than it has.
        assert_eq!(soon("the next call", suite.echo(b"next")).await, Ok(b"next".to_vec()), "round {round}");
    }
    served.rests_with(&connection).await;
    assert_eq!(served.accounts().await.requests_refused, 0);
}
