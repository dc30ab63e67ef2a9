//! Calls on results that are not there yet.

use std::time::Duration;

use trunkline::{CallError, Closed, Connection, Limits, NoResult, Pipelined, Reason, ServiceClient};

use crate::fixture::{Fixture, Served, Setup};
use crate::harness::{on_plain_thread, soon, until};
use crate::ledger::{Mark, token};
use crate::nests::{NestClient, NestServer, Twigs};

async fn nest(served: &Served) -> (Connection, NestClient) {
    nest_with(served, Limits::default()).await
}

async fn nest_with(served: &Served, limits: Limits) -> (Connection, NestClient) {
    let connection = served.connect_with(Connection::builder().limits(limits)).await;
    let nest = connection.client();
    (connection, nest)
}

/// Waits until so many nests with this token, and handlers that would have opened one, have been dropped.
async fn dropped(served: &Served, token: u64, nests: usize) {
    until("the nests are let go of", async || served.ledger.count(Mark::Dropped, token) == nests).await;
}

fn no_result<T>(result: Result<T, CallError>) -> NoResult {
    match result {
        Err(CallError::NotExecuted(Reason::NoResult(why))) => why,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was executed"),
    }
}

pub(crate) async fn calls_on_a_result_leave_right_behind_its_call(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    let (gate, opened, notes) = (token(), token(), [0; 5].map(|_| token()));
    let inner = root.open(opened, gate).pipelined();
    let mut calls = Vec::new();
    for token in notes {
        calls.push(soon("it leaves", inner.note(token).send()).await.expect("it leaves"));
    }
    // All have gone out, and one runs.
    served.ledger.seen(Mark::Started, opened).await;
    until("the server has them", async || served.accounts().await.calls_in_flight == 6).await;
    for token in notes {
        assert_eq!(served.ledger.executions(token), 0);
    }
    soon("an answer", root.open_gate(gate)).await.expect("it is opened");
    for (at, call) in (1..).zip(calls) {
        // In the order in which they were made, unless they run beside each other.
        let place = soon("an answer", call).await.expect("it ran");
        assert!((1..=5).contains(&place), "{at}: {place}");
    }
    assert_eq!(soon("an answer", inner.way()).await, Ok(vec![opened]));
    let mut came = soon("an answer", inner.notes()).await.expect("they are there");
    came.sort_unstable();
    assert_eq!(came, notes);
    // The client itself has nothing to do with the call any more.
    let itself = soon("an answer", inner).await.expect("it was opened");
    assert_eq!(soon("an answer", itself.note(token())).await, Ok(6));
    assert_eq!(served.ledger.count(Mark::Dropped, opened), 0);
    drop(itself);
    dropped(&served, opened, 1).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn results_of_results_are_called(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    let gate = token();
    let way: Vec<u64> = (0..8).map(|_| token()).collect();
    let first = root.open(way[0], gate).pipelined();
    let mut inner = (*first).clone();
    for token in &way[1..] {
        inner = (*inner.open(*token, 0).pipelined()).clone();
    }
    let asks = soon("it leaves", inner.way().send()).await.expect("it leaves");
    until("the server has all of it", async || served.accounts().await.calls_in_flight == 9).await;
    soon("an answer", root.open_gate(gate)).await.expect("it is opened");
    assert_eq!(soon("an answer", asks).await.expect("an answer"), way);
    // Those in between stay as long as they are needed, and no longer than the last.
    drop(first);
    assert_eq!(soon("an answer", inner.note(token())).await, Ok(1));
    drop(inner);
    for token in way {
        dropped(&served, token, 1).await;
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn a_call_that_gives_no_result_is_told_of(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    let notes = [0; 4].map(|_| token());
    // An error of the method's.
    let inner = root.try_open(token(), 0, true).pipelined();
    assert_eq!(no_result(soon("an answer", inner.note(notes[0])).await), NoResult::App);
    assert_eq!(soon("its end", inner.closed()).await, Closed::NoResult);
    assert_eq!(no_result(soon("an answer", inner.note(notes[0])).await), NoResult::App);
    let failed = soon("an answer", inner).await.map(drop);
    assert_eq!(failed, Err(CallError::App("as it was asked to".to_owned())));
    // A panic, in the middle of a row.
    let inner = root.panic(token()).pipelined();
    let further = inner.open(token(), 0).pipelined();
    let panicked = NoResult::Failed(Box::new(Reason::Panicked));
    assert_eq!(no_result(soon("an answer", further.note(notes[1])).await), panicked);
    let failed = soon("an answer", further).await.map(drop);
    assert_eq!(failed, Err(CallError::NotExecuted(Reason::NoResult(panicked))));
    assert_eq!(soon("an answer", inner).await.map(drop), Err(CallError::MaybeExecuted(Reason::Panicked)));
    // Nobody serves it.
    let nowhere = connection.client::<NowhereClient>();
    let inner = nowhere.open().pipelined();
    let why = no_result(soon("an answer", inner.note(notes[2])).await);
    assert!(matches!(why, NoResult::Failed(reason) if matches!(*reason, Reason::UnknownMethod { .. })));
    drop(inner);
    // One of this side's own comes back.
    let ours = NestClient::local(NestServer::new(Twigs::new(served.ledger.clone())));
    let back = root.give_back(ours.clone()).pipelined();
    assert_eq!(no_result(soon("an answer", back.note(notes[3])).await), NoResult::Own);
    let back = soon("an answer", back).await.expect("it comes back");
    let noted = token();
    assert_eq!(soon("an answer", back.note(noted)).await, Ok(1));
    assert_eq!(soon("an answer", ours.notes()).await, Ok(vec![noted]));
    // One that nobody may call any more.
    let inner = root.revoked(token()).pipelined();
    let late = soon("an answer", inner).await.expect("it was opened");
    assert_eq!(soon("its end", late.closed()).await, Closed::Revoked);
    for token in notes {
        assert_eq!(served.ledger.executions_after_all(token).await, 0);
    }
    drop((back, ours, late));
    served.rests_with(&connection).await;
}

#[trunkline::service]
trait Nowhere {
    async fn open(&self) -> NestClient;
}

pub(crate) async fn what_is_dropped_ends_what_nobody_wants(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    // All of it, before there is an answer.
    let (gate, opened) = (token(), token());
    let inner = root.open(opened, gate).pipelined();
    served.ledger.seen(Mark::Started, opened).await;
    drop(inner);
    dropped(&served, opened, 1).await;
    // With a call on it.
    let (opened, noted) = (token(), token());
    let inner = root.open(opened, gate).pipelined();
    let call = soon("it leaves", inner.note(noted).send()).await.expect("it leaves");
    served.ledger.seen(Mark::Started, opened).await;
    drop((inner, call));
    dropped(&served, opened, 1).await;
    assert_eq!(served.ledger.executions_after_all(noted).await, 0);
    // Of the client and the call on it, one is left.
    let (opened, noted) = (token(), token());
    let inner = root.open(opened, gate).pipelined();
    let call = soon("it leaves", inner.note(noted).send()).await.expect("it leaves");
    drop(inner);
    served.ledger.seen(Mark::Started, opened).await;
    // And of the client and the outcome.
    let second = token();
    let (client, outcome) = Pipelined::split(root.open(second, gate).pipelined());
    drop(client);
    served.ledger.seen(Mark::Started, second).await;
    soon("an answer", root.open_gate(gate)).await.expect("it is opened");
    assert_eq!(soon("an answer", call).await, Ok(1));
    let itself = soon("an answer", outcome).await.expect("it was opened");
    assert_eq!(soon("an answer", itself.way()).await, Ok(vec![second]));
    drop(itself);
    dropped(&served, opened, 1).await;
    dropped(&served, second, 1).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn a_oneway_call_on_a_result_is_wanted(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    let (gate, opened, told) = (token(), token(), token());
    let inner = root.open(opened, gate).pipelined();
    soon("it leaves", inner.tell(told)).await.expect("it leaves");
    drop(inner);
    served.ledger.seen(Mark::Started, opened).await;
    assert_eq!(served.ledger.executions_after_all(told).await, 0);
    soon("an answer", root.open_gate(gate)).await.expect("it is opened");
    served.ledger.seen(Mark::Started, told).await;
    dropped(&served, opened, 1).await;
    // At the end of a row.
    let (gate, way, told) = (token(), [0; 3].map(|_| token()), token());
    let mut inner = (*root.open(way[0], gate).pipelined()).clone();
    for token in &way[1..] {
        inner = (*inner.open(*token, 0).pipelined()).clone();
    }
    soon("it leaves", inner.tell(told)).await.expect("it leaves");
    drop(inner);
    served.ledger.seen(Mark::Started, way[0]).await;
    assert_eq!(served.ledger.executions_after_all(told).await, 0);
    soon("an answer", root.open_gate(gate)).await.expect("it is opened");
    served.ledger.seen(Mark::Started, told).await;
    for token in way {
        dropped(&served, token, 1).await;
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn deadlines_run_while_calls_wait_for_a_result(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    let (gate, opened, noted, cancelled) = (token(), token(), token(), token());
    let inner = root.open(opened, gate).pipelined();
    let late = soon("its deadline", inner.note(noted).timeout(Duration::from_millis(50))).await;
    assert_eq!(late.map_err(|error| error.reason().cloned()), Err(Some(Reason::DeadlineExceeded)));
    let call = soon("it leaves", inner.note(cancelled).send()).await.expect("it leaves");
    drop(call);
    // That of the call itself.
    let hurried = root.open(token(), gate).timeout(Duration::from_millis(50)).pipelined();
    let failed = soon("its deadline", hurried.note(cancelled)).await;
    assert!(failed.is_err());
    let failed = soon("an answer", hurried).await.map(drop);
    assert_eq!(failed, Err(CallError::MaybeExecuted(Reason::DeadlineExceeded)));
    soon("an answer", root.open_gate(gate)).await.expect("it is opened");
    assert_eq!(soon("an answer", inner.note(token())).await, Ok(1));
    for token in [noted, cancelled] {
        assert_eq!(served.ledger.executions_after_all(token).await, 0);
    }
    drop(inner);
    dropped(&served, opened, 1).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn a_row_of_results_waits_at_the_limit(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 2)])).await;
    let (connection, root) = nest(&served).await;
    let (gate, opened) = (token(), token());
    let first = soon("it leaves", root.open(opened, gate).send()).await.expect("it leaves");
    let second = soon("it leaves", root.open(opened, gate).send()).await.expect("it leaves");
    served.ledger.seen(Mark::Started, opened).await;
    // None of these has a place.
    let way = [0; 4].map(|_| token());
    let mut inner = (*root.open(way[0], 0).pipelined()).clone();
    for token in &way[1..] {
        inner = (*inner.open(*token, 0).pipelined()).clone();
    }
    let late = soon("its deadline", inner.way().timeout(Duration::from_millis(50))).await;
    assert_eq!(late, Err(CallError::NotExecuted(Reason::DeadlineExceeded)));
    let outcome = inner.open(token(), 0).timeout(Duration::from_millis(50)).pipelined();
    let late = soon("its deadline", outcome).await.map(drop);
    assert_eq!(late, Err(CallError::NotExecuted(Reason::DeadlineExceeded)));
    let asks = tokio::spawn(async move { inner.way().await });
    drop(first);
    drop(second);
    assert_eq!(soon("an answer", asks).await.expect("no panic"), Ok(way.to_vec()));
    for token in way {
        dropped(&served, token, 1).await;
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn long_calls_are_made_on_results_and_give_them(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    for len in [100, 10_000, 300_000, 1_500_000] {
        let padding = vec![7; len];
        let opened = token();
        let inner = root.open_with(opened, &padding).pipelined();
        assert_eq!(soon("an answer", inner.note_with(token(), &padding)).await, Ok(1), "{len}");
        let call = inner.note_with(token(), &padding).send();
        let call = soon("it leaves", call).await.expect("it leaves");
        assert_eq!(soon("an answer", call).await, Ok(2), "{len}");
        drop(inner);
        dropped(&served, opened, 1).await;
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn a_result_that_is_not_there_yet_is_not_handed_over(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    let opened = token();
    let inner = root.open(opened, 0).pipelined();
    let refused = soon("an answer", root.give_back((*inner).clone())).await.map(drop);
    let Err(CallError::NotExecuted(Reason::Unencodable(why))) = refused else {
        panic!("it cannot be handed over: {refused:?}")
    };
    assert!(why.contains("`.await`"), "{why}");
    let itself = soon("an answer", inner).await.expect("it was opened");
    let again = soon("an answer", root.give_back(itself)).await.expect("it comes back");
    assert_eq!(soon("an answer", again.way()).await, Ok(vec![opened]));
    drop(again);
    dropped(&served, opened, 1).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn many_results_come_and_go(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    let opened = token();
    let tasks = (0..20).map(|task: u64| {
        let root = root.clone();
        tokio::spawn(async move {
            for round in 0..20 {
                let first = root.open(opened, 0).pipelined();
                let second = first.try_open(opened, 0, (task + round) % 7 == 0).pipelined();
                let (noted, way) = tokio::join!(second.note(token()), first.way());
                assert_eq!(way, Ok(vec![opened]));
                match (task + round) % 7 {
                    0 => assert_eq!(no_result(noted), NoResult::App),
                    1 => drop(second.await),
                    _ => assert_eq!(noted, Ok(1)),
                }
                if round % 5 == 0 {
                    drop(root.open(opened, 0).pipelined());
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        soon("it is done", task).await.expect("no panic");
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn a_drain_waits_for_calls_on_results(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    let (gate, opened, noted, refused) = (token(), token(), token(), token());
    let opens = soon("it leaves", root.open_gate_later(gate, 300).send()).await.expect("it leaves");
    let inner = root.open(opened, gate).pipelined();
    let call = soon("it leaves", inner.note(noted).send()).await.expect("it leaves");
    until("the server has them", async || served.accounts().await.calls_in_flight == 3).await;
    served.begin_shutdown().await;
    until("the client hears of it", async || connection.is_peer_draining()).await;
    let late = soon("a refusal", inner.note(refused)).await;
    assert!(matches!(late, Err(CallError::NotExecuted(Reason::ShuttingDown { .. }))), "{late:?}");
    assert_eq!(soon("an answer", call).await, Ok(1));
    assert_eq!(soon("an answer", opens).await, Ok(()));
    assert_eq!(served.report().await.calls_cut, 0);
    assert_eq!(served.ledger.executions(refused), 0);
}

pub(crate) async fn calls_on_results_have_not_run_when_the_grace_ends(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("drain_grace", 200), ("linger", 200)])).await;
    let (_connection, root) = nest(&served).await;
    let (gate, opened, noted) = (token(), token(), token());
    let inner = root.open(opened, gate).pipelined();
    let call = soon("it leaves", inner.note(noted).send()).await.expect("it leaves");
    served.ledger.seen(Mark::Started, opened).await;
    until("the server has them", async || served.accounts().await.calls_in_flight == 2).await;
    served.begin_shutdown().await;
    let cut = soon("an answer", call).await;
    assert!(matches!(cut, Err(CallError::NotExecuted(Reason::ShuttingDown { .. }))), "{cut:?}");
    assert!(matches!(soon("an answer", inner).await.map(drop), Err(CallError::MaybeExecuted(_))));
    served.report().await;
    assert_eq!(served.ledger.executions(noted), 0);
}

pub(crate) async fn the_end_of_the_connection_ends_all_of_it(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    let (gate, opened, noted) = (token(), token(), token());
    let inner = root.open(opened, gate).pipelined();
    let call = soon("it leaves", inner.note(noted).send()).await.expect("it leaves");
    served.ledger.seen(Mark::Started, opened).await;
    connection.close();
    assert!(matches!(soon("its end", inner.closed()).await, Closed::Connection(_) | Closed::NoResult));
    assert!(soon("an answer", call).await.is_err());
    assert!(soon("an answer", inner).await.is_err());
    assert_eq!(served.ledger.executions_after_all(noted).await, 0);
    let refused = soon("an answer", root.open(token(), 0).pipelined()).await.map(drop);
    assert!(matches!(refused, Err(CallError::NotExecuted(Reason::ConnectionLost(_)))), "{refused:?}");
    served.rests_at(0).await;
}

pub(crate) async fn a_plain_thread_may_call_a_result(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, root) = nest(&served).await;
    let opened = token();
    on_plain_thread(move || {
        for n in 1..=3 {
            let inner = root.open(opened, 0).pipelined();
            let further = inner.open(n, 0).pipelined();
            assert_eq!(further.way().wait(), Ok(vec![opened, n]));
            let (client, outcome) = Pipelined::split(further);
            assert_eq!(outcome.wait().expect("it was opened").note(token()).wait(), Ok(1));
            assert_eq!(client.note(token()).wait(), Ok(2));
        }
    })
    .await;
    dropped(&served, opened, 3).await;
    served.rests_with(&connection).await;
}
