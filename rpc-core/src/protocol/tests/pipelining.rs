//! Results that are called before they are there; and every order in which what ends them can cross on the wire.

use super::objects::{handles, is, permute, release, thing, things};
use super::streams::WATCH;
use super::*;
use crate::error::NoResult;
use crate::frame::RESULT;
use crate::limits::Limit;
use crate::object::{Object, Passed};

impl Node {
    /// Makes a call whose result may be called, on `object` or on a service.
    fn promise(&mut self, object: u64) -> u64 {
        self.promise_with(object, 0)
    }

    fn promise_with(&mut self, object: u64, len: usize) -> u64 {
        placed(self.begin(NewCall { result: true, object, ..new_call() }, bytes(len, 0), None))
    }

    /// Makes a call on the result of another.
    fn call_result(&mut self, call: u64) -> u64 {
        placed(self.call_object(call | RESULT))
    }

    /// Ids of the requests that have been started, in order.
    fn started(&self) -> Vec<u64> {
        self.requests.iter().map(|request| request.id).collect()
    }

    /// What a request is made on, if that is an object.
    fn target_of(&mut self, id: u64) -> Option<Arc<Object>> {
        let request = self.requests.iter_mut().find(|request| request.id == id).unwrap();
        request.extras.as_mut()?.brought.as_mut()?.target.take()?.take()
    }

    fn no_result(&mut self, id: u64) -> NoResult {
        match not_executed(&self.failure(id)) {
            Reason::NoResult(why) => why.clone(),
            other => panic!("expected no result, not {other:?}"),
        }
    }
}

/// A pair whose client has made a call, and two on its result.
fn opened() -> (Pair, [u64; 3]) {
    let mut pair = Pair::new();
    let open = pair.client.promise(0);
    let calls = [open, pair.client.call_result(open), pair.client.call_result(open)];
    (pair, calls)
}

/// The client lets go of a result, and of what its call has returned.
fn let_go(pair: &mut Pair, open: u64, returned: &[u64]) {
    pair.client.protocol.release(open | RESULT);
    returned.iter().for_each(|id| pair.client.protocol.release(*id));
    pair.advance(SWEEP * 2);
    pair.client.drop_spent();
    pair.server.drop_spent();
}

#[test]
fn calls_on_a_result_wait_for_it_and_run_in_order() {
    let (mut pair, [open, first, second]) = opened();
    pair.settle();
    assert_eq!(pair.server.started(), [open]);
    assert_eq!(pair.server.stats().handlers_in_flight, 3);
    let (object, dropped) = thing();
    pair.server.return_objects(open, &[Passed::Object(Arc::clone(&object))], 4);
    let third = pair.client.call_result(open);
    pair.settle();
    assert_eq!(pair.server.started(), [first, second, third]);
    for id in [first, second, third] {
        assert!(Arc::ptr_eq(&pair.server.target_of(id).unwrap(), &object));
    }
    pair.server.echo_all();
    pair.settle();
    for id in [first, second, third] {
        assert_eq!(pair.client.reply(id), b"x");
    }
    assert_eq!(pair.client.ids_of_reply(open), [2]);
    drop(object);
    assert!(!is(&dropped));
    let_go(&mut pair, open, &[2]);
    assert!(is(&dropped));
    pair.assert_at_rest();
}

#[test]
fn results_of_calls_on_results_are_called_as_well() {
    let mut pair = Pair::new();
    let ids: Vec<u64> = (0..5)
        .scan(0, |object, _| {
            let id = pair.client.promise(*object);
            *object = id | RESULT;
            Some(id)
        })
        .collect();
    let last = pair.client.call_result(ids[4]);
    // All of it has left before anything has come back.
    pair.settle();
    let mut kept = Vec::new();
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(pair.server.started(), [*id]);
        let (object, dropped) = thing();
        if at > 0 {
            assert!(pair.server.target_of(*id).is_some());
        }
        pair.server.return_objects(*id, &[Passed::Object(object)], 4);
        kept.push(dropped);
        pair.settle();
    }
    pair.server.echo_all();
    pair.settle();
    assert_eq!(pair.client.reply(last), b"x");
    for id in ids {
        let returned = pair.client.ids_of_reply(id);
        let_go(&mut pair, id, &returned);
    }
    assert!(kept.iter().all(|dropped| is(dropped)));
    pair.assert_at_rest();
}

#[test]
fn a_row_of_calls_fails_with_what_the_first_has_met() {
    for (failure, why) in [
        (Failure::maybe_executed(Reason::Panicked), NoResult::Failed(Box::new(Reason::Panicked))),
        (Failure::not_executed(Reason::PermissionDenied), NoResult::Failed(Box::new(Reason::PermissionDenied))),
        (
            Failure::maybe_executed(Reason::TooLarge { len: 1 << 40, max: 9 }),
            NoResult::Failed(Box::new(Reason::TooLarge { len: 1 << 40, max: 9 })),
        ),
    ] {
        let mut pair = Pair::new();
        let open = pair.client.promise(0);
        let next = pair.client.promise(open | RESULT);
        let last = pair.client.call_result(next);
        let beside = pair.client.call_result(open);
        pair.settle();
        pair.server.finish_with(open, failure.clone());
        pair.settle();
        for id in [next, last, beside] {
            assert_eq!(pair.client.no_result(id), why);
        }
        assert_eq!(pair.client.failure(open), failure);
        // Behind the end of it the same is said, and behind the release that it is gone.
        let late = pair.client.call_result(open);
        pair.settle();
        assert_eq!(pair.client.no_result(late), why);
        assert_eq!(pair.server.requests.len(), 0);
        let_go(&mut pair, open, &[]);
        let_go(&mut pair, next, &[]);
        pair.assert_at_rest();
    }
}

#[test]
fn what_is_no_object_of_the_callees_is_no_result() {
    // Nothing, a value of its own, an error, one of the caller's own.
    let (mut pair, [open, first, second]) = opened();
    pair.settle();
    pair.server.finish(open, b"x");
    pair.settle();
    assert_eq!([first, second].map(|id| pair.client.no_result(id)), [NoResult::NoClient, NoResult::NoClient]);
    pair.client.reply(open);
    let_go(&mut pair, open, &[]);
    pair.assert_at_rest();

    let (mut pair, [open, first, second]) = opened();
    pair.settle();
    pair.server.requests.clear();
    let returned = Finish::Returned(Half::Err, None);
    pair.server.protocol.finish(open, returned, Encoded::There(b"no"), &mut pair.server.out);
    pair.settle();
    assert_eq!([first, second].map(|id| pair.client.no_result(id)), [NoResult::App, NoResult::App]);
    pair.client.reply(open);
    let_go(&mut pair, open, &[]);
    pair.assert_at_rest();

    let mut pair = Pair::new();
    let (passed, dropped) = things(1);
    let extras = pair.client.pack(&passed).unwrap();
    drop(passed);
    let open = placed(pair.client.begin(NewCall { result: true, extras, ..new_call() }, vec![], None));
    let call = pair.client.call_result(open);
    pair.settle();
    assert_eq!(pair.server.ids_of_request(open), [1]);
    let extras = Sent::load(None, pair.server.protocol.objects().pack_back(1));
    pair.server.requests.clear();
    pair.server.protocol.finish(open, Finish::Returned(Half::Ok, extras), Encoded::EMPTY, &mut pair.server.out);
    pair.server.protocol.release(1);
    pair.settle();
    assert_eq!(pair.client.no_result(call), NoResult::Own);
    pair.client.poll(open);
    assert!(matches!(pair.client.claim.take().unwrap().into_held()[..], [Held::Ours(_)]));
    let_go(&mut pair, open, &[]);
    assert!(is(&dropped[0]));
    pair.assert_at_rest();
}

#[test]
fn a_reply_that_is_too_long_is_no_result() {
    let mut pair = Pair::with(Limits::default().message_len(2 * CHUNK), Limits::default());
    let open = pair.client.promise(0);
    let call = pair.client.call_result(open);
    pair.settle();
    let (passed, dropped) = things(1);
    pair.server.return_objects(open, &passed, 3 * CHUNK);
    drop(passed);
    pair.settle();
    assert!(matches!(pair.client.no_result(call), NoResult::Failed(_)));
    pair.client.failure(open);
    let_go(&mut pair, open, &[]);
    assert!(is(&dropped[0]));
    pair.assert_at_rest();
}

#[test]
fn a_parked_call_keeps_its_deadline_and_hears_of_cancel() {
    let (mut pair, [open, first, second]) = opened();
    let now = pair.client.now;
    let short = placed(pair.client.begin(NewCall { object: open | RESULT, ..timed(now, MS * 50) }, vec![], None));
    pair.settle();
    pair.client.abandon(first);
    pair.settle();
    pair.advance(MS * 100);
    assert_eq!(*maybe_executed(&pair.client.failure(short)), Reason::DeadlineExceeded);
    assert_eq!(pair.server.stats().handlers_in_flight, 2);
    assert_eq!((pair.server.cancelled.len(), pair.server.expired.len()), (0, 0));
    let (passed, _dropped) = things(1);
    pair.server.return_objects(open, &passed, 4);
    pair.settle();
    // Of the one that is left, the time that it has waited is over.
    assert_eq!(pair.server.started(), [second]);
    let brought = pair.server.requests[0].extras.as_ref().unwrap().brought.as_ref().unwrap();
    assert!(brought.deadline.unwrap() < pair.server.now + Duration::from_secs(30));
    pair.server.echo_all();
    pair.settle();
    pair.client.reply(second);
    let returned = pair.client.ids_of_reply(open);
    let_go(&mut pair, open, &returned);
    pair.assert_at_rest();
}

#[test]
fn what_ends_the_call_without_a_handler_ends_those_that_wait_for_it() {
    // Half of it has come when it is cancelled, or its time is over.
    for cancelled in [true, false] {
        let mut pair = Pair::new();
        pair.client.out.room = 2 * CHUNK;
        let open = pair.client.promise_with(0, 3 * CHUNK);
        pair.client.out.room = 600;
        let call = pair.client.call_result(open);
        pair.settle();
        let why = if cancelled {
            pair.client.abandon(open);
            Reason::Cancelled
        } else {
            pair.advance(Duration::from_secs(31));
            Reason::DeadlineExceeded
        };
        pair.client.out.room = usize::MAX;
        pair.settle();
        if cancelled {
            assert_eq!(pair.client.no_result(call), NoResult::Failed(Box::new(why)));
        } else {
            pair.client.failure(call);
            pair.client.failure(open);
        }
        let_go(&mut pair, open, &[]);
        pair.assert_at_rest();
    }
    // It is refused: because of a limit, because it has no time left, because of what it was made on.
    let mut pair = Pair::with(Limits::default(), Limits::default().hops(1));
    let open = placed(pair.client.begin(NewCall { result: true, hops: 5, ..new_call() }, vec![], None));
    let call = pair.client.call_result(open);
    pair.settle();
    let why = Reason::Overloaded { limit: Limit::Hops };
    assert_eq!(pair.client.no_result(call), NoResult::Failed(Box::new(why.clone())));
    assert_eq!(*not_executed(&pair.client.failure(open)), why);
    let_go(&mut pair, open, &[]);
    pair.assert_at_rest();
}

#[test]
fn a_call_in_chunks_waits_as_well() {
    // Its result is there, or not to be had, before the call is whole, or after.
    for (kept, whole) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut pair = Pair::new();
        let open = pair.client.promise(0);
        pair.settle();
        pair.client.out.room = if whole { usize::MAX } else { 2 * CHUNK };
        let call = NewCall { object: open | RESULT, ..new_call() };
        let id = placed(pair.client.begin(call, bytes(3 * CHUNK, 0), None));
        // Who makes it lets go before it is whole: it was made.
        pair.client.protocol.release(open | RESULT);
        pair.settle();
        pair.server.receive(&release(&[open | RESULT])).unwrap();
        let (passed, dropped) = things(1);
        match kept {
            true => pair.server.return_objects(open, &passed, 4),
            false => pair.server.finish_with(open, Failure::maybe_executed(Reason::Panicked)),
        }
        drop(passed);
        pair.server.output().into_iter().for_each(|frame| pair.client.inbox.push_back(frame));
        pair.client.out.room = usize::MAX;
        pair.settle();
        if kept {
            assert_eq!(pair.server.started(), [id]);
            assert!(pair.server.target_of(id).is_some());
            assert_eq!(pair.server.requests[0].payload.as_slice(), bytes(3 * CHUNK, 0));
            pair.server.echo_all();
            pair.settle();
            pair.client.reply(id);
            let returned = pair.client.ids_of_reply(open);
            pair.client.protocol.release(returned[0]);
        } else {
            assert_eq!(pair.client.no_result(id), NoResult::Failed(Box::new(Reason::Panicked)));
            pair.client.failure(open);
        }
        assert!(!is(&dropped[0]) || !kept);
        // The release that has been said above is not said twice by an honest peer.
        let mut wakers = Vec::new();
        pair.server.inbox.clear();
        pair.client.end(ConnectionError::PeerGone, 0);
        pair.server.end(ConnectionError::PeerGone, 0);
        pair.server.effects.wakers.append(&mut wakers);
        pair.server.drop_spent();
        assert_eq!((pair.server.share.calls(), pair.server.share.bytes()), (0, 0));
        assert_eq!(pair.server.objects(), (0, 0));
    }
}

#[test]
fn a_result_that_was_let_go_of_is_there_for_calls_made_before() {
    let (mut pair, [open, first, second]) = opened();
    pair.client.protocol.release(open | RESULT);
    pair.advance(SWEEP * 2);
    assert_eq!(pair.client.objects(), (0, 0));
    let (passed, dropped) = things(1);
    pair.server.return_objects(open, &passed, 4);
    drop(passed);
    pair.settle();
    assert_eq!(pair.server.started(), [first, second]);
    pair.server.echo_all();
    pair.settle();
    [first, second].into_iter().for_each(|id| drop(pair.client.reply(id)));
    let returned = pair.client.ids_of_reply(open);
    pair.client.protocol.release(returned[0]);
    pair.advance(SWEEP * 2);
    pair.server.drop_spent();
    assert!(is(&dropped[0]));
    // No honest holder calls what it has let go of; one that does is told.
    let object = extension(tag::OBJECT, &(open | RESULT).to_le_bytes());
    pair.server.receive(&raw(2, 0, 99, &object, &call_body(b""))).unwrap();
    assert_eq!(pair.server.output(), [raw(4, 0, 99, &[], &[0, 13])]);
    pair.assert_at_rest();
}

#[test]
fn nobody_waits_for_a_call_that_is_left_to_itself() {
    let mut pair = Pair::new();
    let open = pair.client.promise(0);
    let call = NewCall { object: open | RESULT, oneway: true, ..new_call() };
    let oneway = placed(pair.client.begin(call, vec![], None));
    pair.client.protocol.caller().detach(open, &mut Vec::new());
    pair.client.protocol.release(open | RESULT);
    pair.advance(SWEEP * 2);
    assert_eq!(pair.server.cancelled, []);
    let (passed, dropped) = things(1);
    pair.server.return_objects(open, &passed, 4);
    drop(passed);
    pair.settle();
    assert_eq!(pair.server.started(), [oneway]);
    pair.server.finish(oneway, b"");
    pair.advance(SWEEP * 2);
    pair.server.drop_spent();
    assert!(is(&dropped[0]));
    pair.assert_at_rest();
}

#[test]
fn a_result_is_revoked_like_any_object() {
    let mut pair = Pair::new();
    let open = pair.client.promise(0);
    pair.settle();
    let (object, dropped) = thing();
    pair.server.return_objects(open, &[Passed::Object(Arc::clone(&object))], 4);
    pair.server.protocol.withdraw(&object);
    let crossing = pair.client.call_result(open);
    pair.settle();
    assert_eq!(*not_executed(&pair.client.failure(crossing)), Reason::ObjectGone);
    assert!(pair.client.protocol.is_gone(open | RESULT));
    assert!(
        matches!(pair.client.call_object(open | RESULT), Begun::Failed(reason) if matches!(*reason, Reason::ObjectGone))
    );
    // One that is returned when it has been revoked.
    object.revoke();
    let again = pair.client.promise(0);
    let call = pair.client.call_result(again);
    pair.settle();
    pair.server.return_objects(again, &[Passed::Object(Arc::clone(&object))], 4);
    pair.settle();
    assert!(pair.client.protocol.is_gone(again | RESULT));
    // What was made before has not begun.
    assert_eq!(*not_executed(&pair.client.failure(call)), Reason::ObjectGone);
    drop(object);
    for open in [open, again] {
        let returned = pair.client.ids_of_reply(open);
        let_go(&mut pair, open, &returned);
    }
    assert!(is(&dropped));
    pair.assert_at_rest();
}

/// What can be under way at the same time about one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// It is called.
    Call,
    /// That call is dropped.
    Cancel,
    /// The call that promised it is dropped.
    Abandon,
    /// Its caller lets go of it.
    Release,
    /// The call that promised it ends, with what is to be tried.
    End,
    /// The object is revoked.
    Gone,
    /// One frame reaches either side.
    Deliver,
    /// Time passes, so that releases go.
    Sweep,
    /// One side closes the connection.
    Close(Side),
}

#[test]
fn every_order_of_calls_ends_releases_cancels_and_revocations_ends_well() {
    use Move::{Abandon, Call, Cancel, Deliver, End, Gone, Release, Sweep};
    let moves = [Call, Cancel, Abandon, Release, End, Gone, Sweep];
    let mut orders = 0;
    permute(&mut moves.to_vec(), 0, &mut |order| {
        orders += 1;
        // In eight more than there are patterns one side closes somewhere.
        for number in 0..20u32 {
            let closes = (number >= 12).then_some(if number % 2 == 0 { Side::Client } else { Side::Server });
            let pattern = if closes.is_some() { (orders as u32 * 5 + number) % 12 } else { number };
            let mut order = order.to_vec();
            if let Some(side) = closes {
                order.insert((orders / 12 + number as usize) % (order.len() + 1), Move::Close(side));
            }
            let mut pair = Pair::new();
            let open = pair.client.promise(0);
            let (object, dropped) = thing();
            let mut state = Orders { open, kept: pattern % 3, calls: Vec::new(), released: false, ended: false };
            for (at, step) in order.iter().enumerate() {
                state.take(&mut pair, &object, *step);
                if (pattern / 3) >> (at % 2) & 1 == 1 {
                    state.take(&mut pair, &object, Deliver);
                }
            }
            let context = format!("{order:?} {pattern}");
            pair.settle();
            state.end(&mut pair, &object);
            pair.settle();
            pair.server.echo_all();
            pair.settle();
            if closes.is_some() {
                pair.settle_closed(&context);
            }
            for call in &state.calls {
                match pair.client.poll(*call) {
                    Some(Answer::Small { bytes: [b'x', ..], len: 1, .. }) => assert_eq!(state.kept, 0, "{context}"),
                    Some(Answer::Failed(Failure { reason: Reason::ConnectionLost(_), .. })) if closes.is_some() => {}
                    Some(Answer::Failed(failure)) => match not_executed(&failure) {
                        Reason::ObjectGone => {}
                        Reason::ShuttingDown { .. } if closes == Some(Side::Server) => {}
                        Reason::NoResult(NoResult::Failed(reason)) if **reason == Reason::Cancelled => {}
                        Reason::NoResult(why) => match state.kept {
                            1 => assert_eq!(*why, NoResult::Failed(Box::new(Reason::Panicked)), "{context}"),
                            _ => assert_eq!((state.kept, why), (2, &NoResult::NoClient), "{context}"),
                        },
                        other => panic!("{context}: {other:?}"),
                    },
                    other => panic!("{context}: {other:?}"),
                }
            }
            drop(object);
            if closes.is_some() {
                pair.client.abandon(open);
                pair.assert_nothing_left(&context);
            } else {
                pair.assert_at_rest();
            }
            pair.server.drop_spent();
            assert!(is(&dropped), "{context}");
        }
    });
    assert_eq!(orders, 5040);
}

struct Orders {
    open: u64,
    /// 0: an object is returned; 1: it fails; 2: something else is returned.
    kept: u32,
    calls: Vec<u64>,
    released: bool,
    ended: bool,
}

impl Orders {
    fn take(&mut self, pair: &mut Pair, object: &Arc<Object>, step: Move) {
        match step {
            // Its client is gone with the last handle.
            Move::Call if self.released => {}
            Move::Call => {
                for _ in 0..2 {
                    match pair.client.call_object(self.open | RESULT) {
                        Begun::Placed(call) => self.calls.push(call),
                        Begun::Failed(reason) if matches!(*reason, Reason::ObjectGone) => {}
                        Begun::Failed(reason) if pair.is_closed() && matches!(*reason, Reason::ConnectionLost(_)) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            Move::Cancel => {
                if let Some(call) = self.calls.pop() {
                    pair.client.abandon(call);
                }
            }
            Move::Abandon => pair.client.abandon(self.open),
            Move::Release => {
                self.released = true;
                pair.client.protocol.release(self.open | RESULT);
            }
            Move::End => self.end(pair, object),
            Move::Gone => pair.server.protocol.withdraw(object),
            Move::Deliver => {
                pair.flush();
                pair.server_takes();
                pair.client_takes();
                let open = self.open;
                let others: Vec<u64> = pair.server.started().into_iter().filter(|id| *id != open).collect();
                others.into_iter().for_each(|id| pair.server.finish(id, b"x"));
            }
            Move::Sweep => pair.advance(SWEEP),
            Move::Close(side) => pair.close(side),
        }
        pair.end_closed();
    }

    /// The handler of the call ends, if it has been started.
    fn end(&mut self, pair: &mut Pair, object: &Arc<Object>) {
        if self.ended || !pair.server.started().contains(&self.open) {
            return;
        }
        self.ended = true;
        match self.kept {
            _ if pair.server.cancelled.contains(&self.open) => {
                pair.server.finish_with(self.open, Failure::maybe_executed(Reason::Cancelled));
            }
            // There is nobody left to hand it to.
            0 if pair.server.error.is_some() => {
                pair.server.finish_with(self.open, Failure::maybe_executed(Reason::Cancelled));
            }
            0 => pair.server.return_objects(self.open, &[Passed::Object(Arc::clone(object))], 4),
            1 => pair.server.finish_with(self.open, Failure::maybe_executed(Reason::Panicked)),
            _ => pair.server.finish(self.open, b"no client"),
        }
    }
}

#[test]
fn results_are_charged_and_have_a_limit() {
    let mut pair = Pair::with(Limits::default(), Limits::default().memory_total(600));
    let ids = [0; 3].map(|_| pair.client.promise(0));
    let call = pair.client.call_result(ids[2]);
    pair.settle();
    assert_eq!(pair.server.started(), ids[..2]);
    let reason = Reason::Overloaded { limit: Limit::MemoryTotal };
    assert_eq!(*not_executed(&pair.client.failure(ids[2])), reason);
    // Nothing is kept of it, so nothing is known.
    assert_eq!(*not_executed(&pair.client.failure(call)), Reason::ObjectGone);
    pair.server.echo_all();
    pair.settle();
    ids[..2].iter().for_each(|id| drop(pair.client.reply(*id)));
    ids.iter().for_each(|id| let_go(&mut pair, *id, &[]));
    pair.assert_at_rest();

    // Those that nobody releases.
    let mut pair = Pair::with(Limits::default(), Limits::default().objects(2));
    let ids = [0; 3].map(|_| pair.client.promise(0));
    pair.settle();
    let reason = Reason::Overloaded { limit: Limit::Objects };
    assert_eq!(*not_executed(&pair.client.failure(ids[2])), reason);
    pair.server.echo_all();
    pair.settle();
    ids[..2].iter().for_each(|id| drop(pair.client.reply(*id)));
    assert_eq!((pair.client.objects(), pair.server.objects()), ((0, 3), (2, 0)));
    ids.iter().for_each(|id| let_go(&mut pair, *id, &[]));
    pair.assert_at_rest();
}

#[test]
fn parked_calls_are_calls() {
    let mut pair = Pair::with(Limits::default(), Limits::default().in_flight_per_connection(3));
    let open = pair.client.promise(0);
    let calls = [pair.client.call_result(open), pair.client.call_result(open)];
    // An honest peer waits, and others are refused.
    let waits = pair.client.queue(vec![]);
    pair.settle();
    assert_eq!(pair.server.stats().handlers_in_flight, 3);
    assert_eq!(pair.server.share.calls(), 3);
    let object = extension(tag::OBJECT, &(open | RESULT).to_le_bytes());
    pair.server.receive(&raw(2, 0, 99, &object, &call_body(b""))).unwrap();
    assert_eq!(pair.server.output(), [raw(4, 0, 99, &[], &[0, 1, 1])]);
    pair.server.finish_with(open, Failure::maybe_executed(Reason::Panicked));
    pair.server.requests.clear();
    pair.client.abandon_waiting(waits);
    pair.client.protocol.caller().last_given();
    let frames = pair.server.output();
    assert_eq!(frames.len(), 3, "all three have been answered");
    for frame in frames {
        pair.client.receive(&frame).unwrap();
    }
    calls.into_iter().for_each(|id| drop(pair.client.no_result(id)));
}

#[test]
fn who_closes_says_that_what_waits_has_not_run() {
    let (mut pair, [open, first, second]) = opened();
    pair.settle();
    pair.server.protocol.close(CloseReason::ShuttingDown);
    let frames = pair.server.output();
    let kinds: Vec<_> = frames.iter().map(|frame| kind_and_id(frame)).collect();
    assert_eq!(kinds, [(Kind::Fail, first), (Kind::Fail, second), (Kind::Close, 0)]);
    for frame in &frames[..2] {
        pair.client.receive(frame).unwrap();
    }
    for id in [first, second] {
        assert_eq!(*not_executed(&pair.client.failure(id)), Reason::ShuttingDown { retry_after: None });
    }
    pair.client.end(ConnectionError::PeerGone, u64::MAX);
    maybe_executed(&pair.client.failure(open));
    pair.server.end(ConnectionError::ClosedHere, 0);
    pair.server.finish_with(open, Failure::maybe_executed(Reason::Cancelled));
    assert_eq!((pair.server.share.calls(), pair.server.share.bytes()), (0, 0));
}

#[test]
fn calls_with_streams_that_waited_leave_nothing_where_their_end_cannot_be_said() {
    for closes in [true, false] {
        let mut pair = Pair::new();
        let open = pair.client.promise(0);
        for _ in 0..3 {
            let call = NewCall { object: open | RESULT, streams: WATCH, ..new_call() };
            placed(pair.client.begin(call, vec![], None));
        }
        pair.settle();
        assert_eq!(pair.server.share.calls(), 4);
        // The peer reads no more.
        pair.server.out.room = 0;
        if closes {
            pair.server.protocol.close(CloseReason::ShuttingDown);
            pair.server.end(ConnectionError::PeerGone, 0);
            assert_eq!(pair.server.share.calls(), 1);
            pair.server.finish(open, b"");
        } else {
            pair.server.finish_with(open, Failure::not_executed(Reason::PermissionDenied));
            pair.server.end(ConnectionError::PeerGone, 0);
        }
        assert_eq!((pair.server.share.calls(), pair.server.share.bytes()), (0, 0));
    }
}

#[test]
fn who_leaves_a_call_to_itself_leaves_its_half_received_reply() {
    let mut pair = Pair::new();
    let open = pair.client.promise(0);
    pair.settle();
    pair.server.out.room = 2 * CHUNK;
    let half = Finish::Returned(Half::Err, None);
    pair.server.protocol.finish(open, half, Encoded::There(&bytes(3 * CHUNK, 0)), &mut pair.server.out);
    pair.settle();
    pair.client.protocol.caller().detach(open, &mut Vec::new());
    pair.server.out.room = usize::MAX;
    pair.settle();
    pair.client.protocol.release(open | RESULT);
    pair.advance(SWEEP * 2);
    pair.assert_at_rest();
}

#[test]
fn calls_on_a_result_start_in_the_order_in_which_they_were_whole() {
    let mut pair = Pair::new();
    let open = pair.client.promise(0);
    let short = pair.client.call_result(open);
    pair.settle();
    pair.client.out.room = 2 * CHUNK;
    let call = NewCall { object: open | RESULT, ..new_call() };
    let long = placed(pair.client.begin(call, bytes(3 * CHUNK, 0), None));
    pair.settle();
    // The result is there. Before anybody starts what has waited for it, the rest of the long one comes.
    let (passed, _dropped) = things(1);
    pair.server.return_objects(open, &passed, 4);
    pair.client.out.room = usize::MAX;
    for frame in pair.client.output() {
        pair.server.receive(&frame).unwrap();
    }
    pair.settle();
    assert_eq!(pair.server.started(), [short, long]);
}

#[test]
fn a_drain_waits_for_what_waits() {
    let (mut pair, [open, first, second]) = opened();
    pair.settle();
    let now = pair.server.now;
    pair.server.protocol.drain(now);
    pair.settle();
    assert!(!pair.server.protocol.drained());
    let (passed, _dropped) = things(1);
    pair.server.return_objects(open, &passed, 4);
    pair.settle();
    assert_eq!(pair.server.started(), [first, second]);
    pair.server.echo_all();
    pair.settle();
    assert!(pair.server.protocol.drained());
    [first, second].into_iter().for_each(|id| drop(pair.client.reply(id)));
    // One above the last, of a peer that has not heard yet: nothing is kept of it for longer than until its release.
    pair.server.receive(&raw(2, 0, 99, &extension(tag::RESULT, &[]), &call_body(b""))).unwrap();
    pair.server.receive(&release(&[99 | RESULT])).unwrap();
    let returned = pair.client.ids_of_reply(open);
    let_go(&mut pair, open, &returned);
    pair.assert_at_rest();
}

#[test]
fn the_end_of_the_connection_ends_what_waits() {
    let (mut pair, [open, first, second]) = opened();
    pair.settle();
    pair.client.end(ConnectionError::PeerGone, u64::MAX);
    for id in [open, first, second] {
        maybe_executed(&pair.client.failure(id));
    }
    pair.server.end(ConnectionError::PeerGone, 0);
    // The handler that was started is still there, and nothing else.
    assert_eq!(pair.server.share.calls(), 1);
    let extras = pair.server.pack(&things(1).0);
    assert!(extras.is_err());
    pair.server.finish(open, b"");
    assert_eq!((pair.server.share.calls(), pair.server.share.bytes()), (0, 0));
    assert_eq!((pair.client.objects(), pair.server.objects()), ((0, 0), (0, 0)));
}

#[test]
fn a_peer_that_knows_no_results_gets_none() {
    let now = Instant::now();
    let mut node = Node::new(Side::Server, Limits::default(), CHUNK, false, now);
    let mut other = Node::new(Side::Client, Limits::default(), CHUNK, false, now);
    let mut hello = other.output().remove(0);
    // The features that it offers are its first field.
    let offered = HEADER_LEN + 6 + 4;
    assert_eq!(hello[offered..offered + 8], 1u64.to_le_bytes());
    hello[offered] = 0;
    node.receive(&hello).unwrap();
    let begun = node.begin(NewCall { result: true, ..new_call() }, vec![], None);
    assert!(matches!(begun, Begun::Failed(reason) if matches!(*reason, Reason::UnknownExtension(tag::RESULT))));
}

#[test]
fn no_honest_peer_names_results_that_cannot_be() {
    let object = |id: u64| extension(tag::OBJECT, &id.to_le_bytes());
    let result = || extension(tag::RESULT, &[]);
    let call = |id: u64, extensions: &[u8]| raw(2, 0, id, extensions, &call_body(b""));
    let hostile: &[(Vec<u8>, ProtocolError)] = &[
        // Of a call that has not been made, of this side's own, of the call itself in either order.
        (call(9, &object(7 | RESULT)), ProtocolError::UnknownObject(7 | RESULT)),
        (call(9, &object(2 | RESULT)), ProtocolError::UnknownObject(2 | RESULT)),
        (call(9, &[object(9 | RESULT), result()].concat()), ProtocolError::UnknownObject(9 | RESULT)),
        (call(9, &[result(), object(9 | RESULT)].concat()), ProtocolError::UnknownObject(9 | RESULT)),
        // Twice, with a value, of a call whose id is not above the last, or of this side's.
        (call(9, &[result(), result()].concat()), ProtocolError::Unexpected("value or second one of RESULT")),
        (call(9, &extension(tag::RESULT, &[1])), ProtocolError::Unexpected("value or second one of RESULT")),
        (call(1, &result()), ProtocolError::Unexpected("RESULT of a call that cannot be")),
        (call(8, &result()), ProtocolError::Unexpected("RESULT of a call that cannot be")),
        (call(9 | RESULT, &result()), ProtocolError::Unexpected("RESULT of a call that cannot be")),
        // Handed over, by whomever; released before it was promised; withdrawn, or this side's.
        (call(9, &handles(&[1 | RESULT])), ProtocolError::UnknownObject(1 | RESULT)),
        (call(9, &handles(&[2 | RESULT])), ProtocolError::UnknownObject(2 | RESULT)),
        (release(&[7 | RESULT]), ProtocolError::UnknownObject(7 | RESULT)),
        (release(&[2 | RESULT]), ProtocolError::UnknownObject(2 | RESULT)),
        (raw(16, 0, 1 | RESULT, &[], &[]), ProtocolError::UnknownObject(1 | RESULT)),
        (raw(16, 0, 2 | RESULT, &[], &[]), ProtocolError::UnknownObject(2 | RESULT)),
        (raw(3, 0, 1, &result(), b""), ProtocolError::UnknownCall(1)),
    ];
    for (frame, expected) in hostile {
        let (mut pair, _) = opened();
        pair.settle();
        assert_eq!(violation(pair.server.receive(frame)), *expected, "{frame:?}");
        pair.server.end(ConnectionError::PeerGone, 0);
        assert_eq!(pair.server.objects(), (0, 0));
    }
}
