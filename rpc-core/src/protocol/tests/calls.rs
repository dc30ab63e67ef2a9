//! CALL, REPLY and FAIL, and the ids that join them.

use super::*;
use crate::codec::DecodeError;
use crate::limits::Limit;

#[test]
fn a_call_gets_its_reply() {
    let mut pair = Pair::new();
    let count = Count::new();
    let id = placed(pair.client.begin(new_call(), b"ping".to_vec(), count.waker()));
    pair.settle();
    assert_eq!(pair.server.requests[0].payload.as_slice(), b"ping");
    assert_eq!(pair.server.requests[0].timeout, Duration::from_secs(30));
    assert!(pair.client.poll(id).is_none());
    pair.server.finish(id, b"pong");
    pair.settle();
    assert_eq!(count.woken(), 1);
    assert_eq!(pair.client.reply(id), b"pong");
    pair.assert_at_rest();
}

#[test]
fn both_sides_call_at_once_with_ids_of_their_own_parity() {
    let mut pair = Pair::new();
    let mine: Vec<u64> = (0..40).map(|i| pair.client.place(bytes(i * 7, 1))).collect();
    let theirs: Vec<u64> = (0..40).map(|i| pair.server.place(bytes(i * 9, 2))).collect();
    assert!(mine.iter().all(|id| id % 2 == 1) && theirs.iter().all(|id| id % 2 == 0));
    pair.settle();
    pair.client.echo_all();
    pair.server.requests.reverse();
    pair.server.echo_all();
    pair.settle();
    for (i, (mine, theirs)) in mine.into_iter().zip(theirs).enumerate() {
        assert_eq!(pair.client.reply(mine), bytes(i * 7, 1));
        assert_eq!(pair.server.reply(theirs), bytes(i * 9, 2));
    }
    pair.assert_at_rest();
}

#[test]
fn ids_grow_and_skip_slots_that_are_taken() {
    let mut pair = Pair::new();
    let first = pair.client.place(vec![]);
    let mut last = first;
    for _ in 0..100 {
        let id = pair.client.place(vec![]);
        assert!(id > last);
        last = id;
        pair.settle();
        pair.server.finish(id, b"");
        pair.settle();
        assert_eq!(pair.client.reply(id), b"");
    }
    // 16 slots: the one that the first call holds is passed over each time round.
    assert!(last > first + 200, "{last}");
    pair.server.finish(first, b"late");
    pair.settle();
    assert_eq!(pair.client.reply(first), b"late");
    pair.assert_at_rest();
}

#[test]
fn requests_arrive_in_the_order_they_were_made() {
    let mut pair = Pair::new();
    let ids: Vec<u64> = (0..100).map(|i| pair.client.place(vec![i as u8])).collect();
    pair.settle();
    assert_eq!(pair.server.requests.iter().map(|request| request.id).collect::<Vec<_>>(), ids);
    pair.server.echo_all();
    pair.settle();
    for id in ids {
        pair.client.reply(id);
    }
    pair.assert_at_rest();
}

#[test]
fn every_class_of_failure_arrives_as_it_was_meant() {
    let reasons = [
        Reason::Overloaded { limit: Limit::MemoryTotal },
        Reason::InvalidArguments { argument: 2, why: DecodeError::Malformed },
        Reason::PermissionDenied,
        Reason::Panicked,
    ];
    for reason in reasons {
        for class in [Class::NotExecuted, Class::MaybeExecuted] {
            let mut pair = Pair::new();
            let id = pair.client.place(b"x".to_vec());
            pair.settle();
            pair.server.finish_with(id, Failure { class, reason: reason.clone() });
            pair.settle();
            assert_eq!(pair.client.failure(id), Failure { class, reason: reason.clone() });
            pair.assert_at_rest();
        }
    }
}

#[test]
fn the_methods_own_error_is_a_payload_of_any_length() {
    for len in [0, 64, 65, CHUNK, CHUNK + 1, 3 * CHUNK] {
        let mut pair = Pair::new();
        let id = pair.client.place(vec![]);
        pair.settle();
        pair.server.requests.clear();
        let error = bytes(len, 3);
        pair.server.protocol.finish(
            id,
            Finish::Returned(Half::Err, None),
            Encoded::There(&error),
            &mut pair.server.out,
        );
        pair.settle();
        match pair.client.poll(id) {
            Some(Answer::Small { half: Half::Err, bytes, len: n }) => assert_eq!(&bytes[..usize::from(n)], error),
            Some(Answer::Large { half: Half::Err, bytes }) => assert_eq!(*bytes, error),
            other => panic!("{other:?}"),
        }
        pair.assert_at_rest();
    }
}

#[test]
fn a_class_from_a_later_version_means_maybe_executed() {
    let mut pair = Pair::new();
    let id = pair.client.place(vec![]);
    pair.client.receive(&raw(4, 0, id, &[], &[9, 99])).unwrap();
    assert_eq!(pair.client.failure(id), Failure::maybe_executed(Reason::Unknown(99)));
}

#[test]
fn a_oneway_call_keeps_its_slot_until_its_terminal_frame() {
    let mut pair = Pair::new();
    let call = NewCall { oneway: true, ..new_call() };
    let id = placed(pair.client.begin(call.clone(), bytes(10, 0), None));
    pair.settle();
    assert_eq!(pair.client.stats().calls_in_flight, 1);
    pair.server.finish(id, b"");
    pair.settle();
    assert_eq!(pair.client.stats().calls_in_flight, 0);
    // A failure, or a reply that should have been empty, changes nothing.
    for reply in [Some(200), Some(3 * CHUNK), None] {
        let id = placed(pair.client.begin(call.clone(), bytes(3 * CHUNK, 0), None));
        pair.settle();
        match reply {
            Some(len) => pair.server.finish(id, &bytes(len, 0)),
            None => pair.server.finish_with(id, Failure::maybe_executed(Reason::Panicked)),
        }
        pair.settle();
        assert_eq!(pair.client.stats().calls_in_flight, 0);
    }
    pair.assert_at_rest();
}

#[test]
fn a_reply_over_the_callers_maximum_becomes_a_failure() {
    let mut pair = Pair::with(Limits::default().message_len(1000), Limits::default());
    let id = pair.client.place(vec![]);
    pair.settle();
    pair.server.finish(id, &bytes(1001, 0));
    pair.settle();
    assert_eq!(*maybe_executed(&pair.client.failure(id)), Reason::TooLarge { len: 1001, max: 1000 });
    match pair.server.begin(new_call(), bytes(1001, 0), None) {
        Begun::Failed(reason) if matches!(*reason, Reason::TooLarge { len: 1001, max: 1000 }) => {}
        other => panic!("{other:?}"),
    }
    pair.assert_at_rest();
}

#[test]
fn a_call_before_the_handshake_fails() {
    let mut pair = Pair::apart(Limits::default(), Limits::default(), false);
    assert!(
        matches!(pair.client.begin(new_call(), vec![], None), Begun::Failed(reason) if matches!(*reason, Reason::ConnectionLost(_)))
    );
}

#[test]
fn late_and_duplicate_replies_are_dropped_and_their_credit_comes_back() {
    let mut pair = Pair::new();
    let id = pair.client.place(vec![]);
    pair.settle();
    pair.server.finish(id, &bytes(500, 0));
    pair.flush();
    let reply = pair.client.inbox[0].clone();
    pair.settle();
    // A second one before the first is taken, and a third after.
    pair.client.receive(&reply).unwrap();
    assert_eq!(pair.client.reply(id), bytes(500, 0));
    pair.client.receive(&reply).unwrap();
    pair.client.receive(&raw(4, 0, id, &[], &[0, 1, 1])).unwrap();
    assert_eq!(pair.client.stats().replies_late, 3);
    assert_eq!(pair.client.stats().credit_owed, 1500);
    assert_eq!(pair.client.stats().memory_in, 0);
    // A chunked one, too, and its chunks.
    pair.client.receive(&raw(3, 1, id, &total(5000), &bytes(CHUNK, 0))).unwrap();
    pair.client.receive(&raw(5, 0, id, &[], &bytes(904, 0))).unwrap();
    assert_eq!(pair.client.stats().credit_owed, 6500);
}
