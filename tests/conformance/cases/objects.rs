//! Clients as arguments and results.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use trunkline::{CallError, Closed, Connection, ConnectionError, Limit, Limits, Reason, ServiceClient};

use crate::exchange::{Belfry, BellClient, ExchangeClient, Instead, Unreadable, bell};
use crate::fixture::{Fixture, Served, Setup};
use crate::harness::{on_plain_thread, soon, until};
use crate::ledger::{Mark, token};

async fn exchange(served: &Served) -> (Connection, ExchangeClient) {
    exchange_with(served, Limits::default()).await
}

async fn exchange_with(served: &Served, limits: Limits) -> (Connection, ExchangeClient) {
    let connection = served.connect_with(Connection::builder().limits(limits)).await;
    let exchange = connection.client();
    (connection, exchange)
}

/// Waits until so many bells with this token have been dropped.
async fn dropped(served: &Served, token: u64, bells: usize) {
    until("the bells are let go of", async || served.ledger.count(Mark::Dropped, token) == bells).await;
}

pub(crate) async fn a_client_is_an_argument(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let token = token();
    let ours = bell(&served.ledger, token);
    for round in 1..=3 {
        assert_eq!(soon("an answer", exchange.ring(ours.clone(), 10)).await, Ok(round * 10));
    }
    // Calls from here reach the same one.
    assert_eq!(soon("an answer", ours.ring()).await, Ok(31));
    drop(ours);
    dropped(&served, token, 1).await;
    assert_eq!(served.ledger.executions(token), 31);
    served.rests_with(&connection).await;
}

pub(crate) async fn clients_are_parts_of_arguments(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let token = token();
    for padding in [0, 100_000, 700_000] {
        let belfry = Belfry {
            name: "belfry".to_owned(),
            first: bell(&served.ledger, token),
            others: vec![Some(bell(&served.ledger, token)), None, Some(bell(&served.ledger, token))],
            more: HashMap::from([(1, bell(&served.ledger, token)), (2, bell(&served.ledger, token))]),
        };
        let rung = soon("an answer", exchange.ring_all(belfry, &vec![7; padding])).await;
        assert_eq!(rung, Ok(5), "{padding}");
    }
    dropped(&served, token, 15).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn clients_are_results(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let (one, many, others) = (token(), token(), token());
    let theirs = soon("an answer", exchange.bell(one)).await.expect("a bell");
    for n in 1..=5 {
        assert_eq!(soon("an answer", theirs.ring()).await, Ok(n));
    }
    // A panic in it is the end of that call.
    assert_eq!(soon("an answer", theirs.panic()).await, Err(CallError::MaybeExecuted(Reason::Panicked)));
    assert_eq!(soon("an answer", theirs.ring()).await, Ok(6));
    for padding in [0, 100_000, 700_000] {
        let (bells, bytes) = soon("an answer", exchange.belfry(many, 20, padding)).await.expect("bells");
        assert_eq!((bells.len(), bytes.len() as u64), (20, padding));
        for bell in &bells {
            assert_eq!(soon("an answer", bell.ring()).await, Ok(1));
        }
    }
    dropped(&served, many, 60).await;
    let good = soon("an answer", exchange.bell_or(others, false)).await.expect("a bell");
    let Err(CallError::App(Instead(bad))) = soon("an answer", exchange.bell_or(others, true)).await else {
        panic!("an error brings one, too")
    };
    assert_eq!((soon("an answer", good.ring()).await, soon("an answer", bad.ring()).await), (Ok(1), Ok(1)));
    drop((theirs, good, bad));
    dropped(&served, one, 1).await;
    dropped(&served, others, 2).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn an_object_lives_as_long_as_its_last_client(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let (name, token) = (token(), token());
    let ours = bell(&served.ledger, token);
    soon("nobody has it yet", ours.released()).await;
    soon("an answer", exchange.keep(name, ours.clone())).await.expect("it is kept");
    // It outlives the call that brought it.
    assert_eq!(soon("an answer", exchange.ring_kept(name)).await, Ok(1));
    let released = tokio::time::timeout(Duration::from_millis(30), ours.released()).await;
    assert!(released.is_err(), "the server has it");
    assert_eq!(connection.stats().objects_exported, 1);
    assert_eq!(soon("an answer", exchange.let_go(name)).await, Ok(true));
    soon("the last one is gone", ours.released()).await;
    assert_eq!(served.ledger.count(Mark::Dropped, token), 0);
    drop(ours);
    dropped(&served, token, 1).await;
    // One that is handed over and not kept here is the holder's alone.
    soon("an answer", exchange.keep(name, bell(&served.ledger, token))).await.expect("it is kept");
    assert_eq!(soon("an answer", exchange.ring_kept(name)).await, Ok(1));
    assert_eq!(served.ledger.count(Mark::Dropped, token), 1);
    assert_eq!(soon("an answer", exchange.let_go(name)).await, Ok(true));
    dropped(&served, token, 2).await;
    // And of clones the last one counts.
    let theirs = soon("an answer", exchange.bell(token)).await.expect("a bell");
    let clone = theirs.clone();
    drop(theirs);
    assert_eq!(soon("an answer", clone.ring()).await, Ok(1));
    drop(clone);
    dropped(&served, token, 3).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn an_object_that_comes_back_is_the_very_one(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let (mine, yours) = (token(), token());
    let ours = soon("an answer", exchange.give_back(bell(&served.ledger, mine))).await.expect("it comes back");
    let theirs = soon("an answer", exchange.bell(yours)).await.expect("a bell");
    let again = soon("an answer", exchange.give_back(theirs.clone())).await.expect("it comes back");
    for n in 1..=3 {
        assert_eq!(soon("an answer", ours.ring()).await, Ok(n));
        assert_eq!(soon("an answer", exchange.ring(ours.clone(), 0)).await, Ok(0));
        assert_eq!(soon("an answer", theirs.ring()).await, Ok(2 * n - 1));
        assert_eq!(soon("an answer", again.ring()).await, Ok(2 * n));
    }
    // The server rings its own.
    assert_eq!(soon("an answer", exchange.ring(theirs.clone(), 1)).await, Ok(7));
    assert_eq!(served.ledger.count(Mark::Dropped, mine), 0);
    drop((ours, theirs, again));
    dropped(&served, mine, 1).await;
    dropped(&served, yours, 1).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn either_end_hears_of_the_others_end(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let (name, token) = (token(), token());
    let ours = bell(&served.ledger, token);
    soon("an answer", exchange.keep(name, ours.clone())).await.expect("it is kept");
    let watch = exchange.watch(name).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, name).await;
    let theirs = soon("an answer", exchange.bell(token)).await.expect("a bell");
    connection.close();
    // The handler that watches is dropped with the connection; another on the server hears of it through the client itself.
    drop(watch);
    assert!(matches!(soon("its end", theirs.closed()).await, Closed::Connection(ConnectionError::ClosedHere)));
    soon("the server's is gone with the connection", ours.released()).await;
    assert!(matches!(soon("an answer", theirs.ring()).await, Err(CallError::NotExecuted(Reason::ConnectionLost(_)))));
    let (again, exchange) = self::exchange(&served).await;
    let why = soon("an answer", exchange.watch(name)).await.expect("an answer");
    assert!(why.starts_with("the connection has ended"), "{why}");
    let error = soon("an answer", exchange.ring_kept(name)).await.expect_err("it is gone").to_string();
    assert!(error.contains("the connection was lost"), "{error}");
    assert_eq!(soon("an answer", exchange.let_go(name)).await, Ok(true));
    drop((ours, theirs));
    dropped(&served, token, 2).await;
    served.rests_with(&again).await;
}

pub(crate) async fn an_end_is_not_taken_for_a_revocation(fixture: Fixture) {
    let served = fixture.serve().await;
    for round in 0..20 {
        let (connection, exchange) = exchange(&served).await;
        let theirs = soon("an answer", exchange.bell(token())).await.expect("a bell");
        // Somebody who asks again and again, and is not woken.
        let asking = on_plain_thread(move || {
            loop {
                let closed = pin!(theirs.closed());
                if let Poll::Ready(why) = closed.poll(&mut Context::from_waker(Waker::noop())) {
                    return why;
                }
            }
        });
        let close = async {
            tokio::time::sleep(Duration::from_micros(300)).await;
            connection.close();
        };
        let (why, ()) = tokio::join!(asking, close);
        assert!(matches!(why, Closed::Connection(ConnectionError::ClosedHere)), "round {round}: {why:?}");
    }
}

pub(crate) async fn a_revoked_object_is_called_no_more(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let (name, token, other) = (token(), token(), token());
    let ours = bell(&served.ledger, token);
    soon("an answer", exchange.keep(name, ours.clone())).await.expect("it is kept");
    let watch = exchange.watch(name).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, name).await;
    let never = token_of_never(&served, &exchange, &ours).await;
    ours.revoke();
    assert_eq!(soon("an answer", watch).await, Ok("the object was revoked".to_owned()));
    let error = soon("an answer", exchange.ring_kept(name)).await.expect_err("it is revoked").to_string();
    assert!(error.contains("not executed: the object is not there any more"), "{error}");
    assert_eq!(soon("it is revoked", ours.closed()).await, Closed::Revoked);
    // Calls that had begun go on, and calls from here as well.
    assert_eq!(soon("an answer", ours.ring()).await, Ok(1));
    drop(never);
    // Whoever gets it from now on has nothing of it.
    let error = soon("an answer", exchange.ring(ours.clone(), 1)).await.expect_err("it is revoked").to_string();
    assert!(error.contains("the object is not there any more"), "{error}");
    // The other way.
    let theirs = soon("an answer", exchange.revocable(other)).await.expect("a bell");
    assert_eq!(soon("an answer", theirs.ring()).await, Ok(1));
    soon("an answer", exchange.revoke(other)).await.expect("it is revoked");
    assert_eq!(soon("its end", theirs.closed()).await, Closed::Revoked);
    assert_eq!(soon("an answer", theirs.ring()).await, Err(CallError::NotExecuted(Reason::ObjectGone)));
    assert_eq!(soon("an answer", exchange.let_go(name)).await, Ok(true));
    drop((ours, theirs));
    dropped(&served, token, 1).await;
    dropped(&served, other, 1).await;
    served.rests_with(&connection).await;
}

/// A call of the server's that has begun on `bell` and does not end by itself.
async fn token_of_never(served: &Served, exchange: &ExchangeClient, bell: &BellClient) -> impl Sized + use<> {
    let name = token();
    let exchange = exchange.clone();
    let bell = bell.clone();
    let task = tokio::spawn(async move { exchange.never(name, bell).await });
    served.ledger.seen(Mark::Started, name).await;
    Abort(task)
}

struct Abort<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) async fn objects_of_a_call_that_fails_are_let_go_of(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 2)])).await;
    let (connection, exchange) = exchange(&served).await;
    let token = token();
    // Never polled, and so never handed over.
    drop(exchange.keep(0, bell(&served.ledger, token)));
    dropped(&served, token, 1).await;
    // Refused, since another argument cannot be decoded.
    let refused = soon("an answer", exchange.wrong(bell(&served.ledger, token), Unreadable)).await;
    assert!(
        matches!(refused, Err(CallError::NotExecuted(Reason::InvalidArguments { argument: 1, .. }))),
        "{refused:?}"
    );
    dropped(&served, token, 2).await;
    // Cancelled while its handler runs.
    let name = self::token();
    let call = exchange.never(name, bell(&served.ledger, token)).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, name).await;
    drop(call);
    dropped(&served, token, 3).await;
    // Cancelled while it waits.
    let first = exchange.never(name, bell(&served.ledger, self::token())).send().await.expect("it is sent");
    let second = exchange.never(name, bell(&served.ledger, self::token())).send().await.expect("it is sent");
    let mut waits = Box::pin(exchange.keep(name, bell(&served.ledger, token)).into_future());
    let pending = poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await;
    assert!(pending);
    assert_eq!(connection.stats().objects_exported, 3);
    drop(waits);
    dropped(&served, token, 4).await;
    drop((first, second));
    // A reply that nobody waits for.
    let call = exchange.bell(token).send().await.expect("it is sent");
    until("it is answered", async || connection.stats().objects_imported == 1).await;
    drop(call);
    dropped(&served, token, 5).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn what_cannot_be_handed_over_is_not_sent(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let (other, second) = self::exchange(&served).await;
    // A client of a connection is no object.
    let bell = connection.client::<BellClient>();
    let Err(CallError::NotExecuted(Reason::Unencodable(why))) = soon("an answer", exchange.ring(bell, 1)).await else {
        panic!("it cannot be handed over")
    };
    assert!(why.contains("make it with `local`"), "{why}");
    // Nor can it be returned.
    let returned = soon("an answer", exchange.not_its_own()).await;
    assert!(matches!(returned, Err(CallError::MaybeExecuted(Reason::UnencodableReply))), "{returned:?}");
    // One that came by another connection stays there.
    let token = token();
    let theirs = soon("an answer", exchange.bell(token)).await.expect("a bell");
    let Err(CallError::NotExecuted(Reason::Unencodable(why))) = soon("an answer", second.ring(theirs, 1)).await else {
        panic!("it cannot be handed over")
    };
    assert!(why.contains("on another"), "{why}");
    dropped(&served, token, 1).await;
    served.rests_with(&connection).await;
    served.rests_with(&other).await;
}

pub(crate) async fn objects_at_the_limit_and_one_over(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("objects", 10)])).await;
    let (connection, exchange) = exchange_with(&served, Limits::default().objects(20)).await;
    let token = token();
    for name in 0..10 {
        soon("an answer", exchange.keep(name, bell(&served.ledger, token))).await.expect("it is kept");
    }
    let over = soon("an answer", exchange.keep(10, bell(&served.ledger, token))).await;
    assert_eq!(over, Err(CallError::NotExecuted(Reason::Overloaded { limit: Limit::Objects })));
    dropped(&served, token, 1).await;
    // What the server returns counts on its own.
    let (bells, _) = soon("an answer", exchange.belfry(token, 10, 0)).await.expect("bells");
    let over = soon("an answer", exchange.bell(token)).await;
    assert!(matches!(over, Err(CallError::MaybeExecuted(Reason::Overloaded { limit: Limit::Objects }))), "{over:?}");
    drop(bells);
    dropped(&served, token, 12).await;
    assert_eq!(soon("an answer", exchange.let_go(3)).await, Ok(true));
    until("there is room", async || connection.stats().objects_exported == 9).await;
    soon("an answer", exchange.keep(3, bell(&served.ledger, token))).await.expect("it is kept");
    for name in 0..10 {
        assert_eq!(soon("an answer", exchange.let_go(name)).await, Ok(true));
    }
    dropped(&served, token, 23).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn many_objects_come_and_go(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let token = token();
    let mut tasks = Vec::new();
    for task in 0..8 {
        let (exchange, ledger) = (exchange.clone(), served.ledger.clone());
        tasks.push(tokio::spawn(async move {
            for round in 0..40 {
                match (task + round) % 4 {
                    0 => assert_eq!(exchange.ring(bell(&ledger, token), 2).await, Ok(2)),
                    1 => assert_eq!(exchange.bell(token).await.expect("a bell").ring().await, Ok(1)),
                    2 => drop(exchange.give_back(bell(&ledger, token)).await.expect("it comes back")),
                    _ => drop(exchange.bell(token).send().await.expect("it is sent")),
                }
            }
        }));
    }
    for task in tasks {
        soon("a task", task).await.expect("no panic");
    }
    served.rests_with(&connection).await;
    // Those whose call was cancelled before it began were never made.
    let made = served.ledger.count(Mark::Dropped, token);
    assert!((240..=320).contains(&made), "{made}");
}

pub(crate) async fn a_drain_of_one_side_leaves_the_other_working(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let (name, token) = (token(), token());
    let ours = bell(&served.ledger, token);
    let theirs = soon("an answer", exchange.bell(token)).await.expect("a bell");
    // Its handler goes on calling while the server takes no more calls.
    let ringing = {
        let (exchange, bell) = (exchange.clone(), ours.clone());
        tokio::spawn(async move { exchange.never(name, bell).await })
    };
    served.ledger.seen(Mark::Started, name).await;
    served.begin_shutdown().await;
    until("the client hears of it", async || connection.is_peer_draining()).await;
    for refused in [exchange.let_go(name).await.map(|_| 0), theirs.ring().await] {
        assert!(matches!(refused, Err(CallError::NotExecuted(Reason::ShuttingDown { .. }))), "{refused:?}");
    }
    // The call on this side's object is under way as before.
    until("it rings", async || served.ledger.executions(token) > 0).await;
    ringing.abort();
    let _ = ringing.await;
    served.report().await;
    soon("the server has nothing any more", ours.released()).await;
    drop((ours, theirs));
    dropped(&served, token, 2).await;
}

pub(crate) async fn a_plain_thread_may_call_an_object(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let token = token();
    let theirs = soon("an answer", exchange.bell(token)).await.expect("a bell");
    let ours = bell(&served.ledger, token);
    let ring = move || {
        assert_eq!(theirs.ring().wait(), Ok(1));
        assert_eq!(exchange.ring(ours, 3).wait(), Ok(3));
        assert_eq!(theirs.ring().wait(), Ok(2));
    };
    on_plain_thread(ring).await;
    dropped(&served, token, 2).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn a_service_is_handed_over_twice(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, exchange) = exchange(&served).await;
    let token = token();
    // The same object under two ids, in one message.
    let ours = bell(&served.ledger, token);
    let belfry = Belfry {
        name: "belfry".to_owned(),
        first: ours.clone(),
        others: vec![Some(ours.clone())],
        more: HashMap::new(),
    };
    assert_eq!(soon("an answer", exchange.ring_all(belfry, &[])).await, Ok(2));
    assert_eq!(soon("an answer", ours.ring()).await, Ok(3));
    drop(ours);
    dropped(&served, token, 1).await;
    served.rests_with(&connection).await;
}
