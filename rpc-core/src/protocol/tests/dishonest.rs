//! What no honest peer sends.

use super::*;

#[test]
fn call_ids_only_grow_and_have_the_callers_parity() {
    for id in [0, 2, 3, 4, 5] {
        let mut pair = Pair::new();
        pair.server.receive(&raw(2, 0, 5, &[], &call_body(b"x"))).unwrap();
        let error = violation(pair.server.receive(&raw(2, 0, id, &[], &call_body(b"x"))));
        assert_eq!(error, ProtocolError::CallId { id, last: 5 });
    }
    let mut pair = Pair::new();
    pair.server.receive(&raw(2, 0, u64::MAX, &[], &call_body(b"x"))).unwrap();
    violation(pair.server.receive(&raw(2, 0, 1, &[], &call_body(b"x"))));
    violation(pair.client.receive(&raw(2, 0, 7, &[], &call_body(b"x"))));
}

#[test]
fn an_id_stays_used_after_its_call() {
    let mut pair = Pair::new();
    let id = pair.client.place(vec![]);
    pair.settle();
    pair.server.finish(id, b"");
    pair.settle();
    violation(pair.server.receive(&raw(2, 0, id, &[], &call_body(b"x"))));
}

#[test]
fn a_reply_to_a_call_that_was_never_made_closes() {
    for id in [0, 1, 2, 3, u64::MAX] {
        for frame in [raw(3, 0, id, &[], b"x"), raw(4, 0, id, &[], &[1, 1]), raw(5, 0, id, &[], b"x")] {
            let mut pair = Pair::new();
            violation(pair.client.receive(&frame));
            if id != 1 {
                let mut pair = Pair::new();
                pair.client.place(vec![]);
                violation(pair.client.receive(&frame));
            }
        }
    }
}

#[test]
fn a_cancel_of_a_call_that_was_never_made_closes() {
    for id in [0, 1, 2, 7] {
        let mut pair = Pair::new();
        violation(pair.server.receive(&raw(6, 0, id, &[], &[])));
        violation(pair.client.receive(&raw(6, 0, id, &[], &[])));
    }
}

#[test]
fn a_body_that_ends_too_early_closes() {
    let mut pair = Pair::new();
    let id = pair.client.place(vec![]);
    violation(pair.client.receive(&raw(4, 0, id, &[], &[0])));
    for len in 0..16 {
        let mut pair = Pair::new();
        violation(pair.server.receive(&raw(2, 0, 1, &[], &call_body(&[])[..len])));
    }
}

#[test]
fn a_reply_to_a_half_sent_call_ends_it() {
    let unknown = extension(tag::CRITICAL | 0x7ff, &[]);
    for frame in [raw(3, 0, 1, &[], b"early"), raw(4, 0, 1, &[], &[0, 1, 1]), raw(3, 0, 1, &unknown, b"early")] {
        let mut pair = Pair::new();
        let id = pair.client.place(bytes(3 * CHUNK, 0));
        pair.client.receive(&frame).unwrap();
        assert_eq!(pair.client.stats().memory_out, 0);
        pair.client.poll(id).unwrap();
        assert_eq!(pair.client.stats().calls_in_flight, 0);
        assert_eq!(pair.client.output().len(), 1);
    }
}

#[test]
fn a_second_reply_amid_the_first_is_dropped() {
    let mut pair = Pair::new();
    let id = pair.client.place(vec![]);
    pair.settle();
    pair.client.receive(&raw(3, 1, id, &total(4000), &bytes(2000, 0))).unwrap();
    pair.client.receive(&raw(3, 1, id, &total(9000), &bytes(2000, 1))).unwrap();
    pair.client.receive(&raw(3, 0, id, &[], b"small")).unwrap();
    pair.client.receive(&raw(5, 0, id, &[], &bytes(4000, 0)[2000..])).unwrap();
    assert_eq!(pair.client.reply(id), bytes(4000, 0));
    assert_eq!(pair.client.stats().replies_late, 2);
    assert_eq!((pair.client.stats().memory_in, pair.client.stats().credit_owed), (0, 6000));
}

#[test]
fn a_goaway_that_takes_back_what_was_answered_changes_nothing() {
    let mut pair = Pair::new();
    let answered = pair.client.place(vec![]);
    let open = pair.client.place(vec![]);
    pair.client.receive(&raw(3, 0, answered, &[], b"yes")).unwrap();
    let goaway = raw(13, 0, 0, &[], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    pair.client.receive(&goaway).unwrap();
    pair.client.receive(&goaway).unwrap();
    assert_eq!(pair.client.reply(answered), b"yes");
    not_executed(&pair.client.failure(open));
    // What it says of them afterwards is too late.
    pair.client.receive(&raw(3, 0, open, &[], &bytes(100, 0))).unwrap();
    assert_eq!(pair.client.stats().replies_late, 1);
    assert_eq!(pair.client.stats().calls_in_flight, 0);
}

#[test]
fn a_flood_of_control_frames_takes_no_memory() {
    let mut pair = Pair::new();
    pair.server.out.room = 0;
    for number in 0..10_000u64 {
        pair.server.receive(&raw(11, 0, 0, &[], &number.to_le_bytes())).unwrap();
        pair.server.receive(&raw(13, 0, 0, &[], &[0; 13])).unwrap();
        pair.server.receive(&raw(0xff, 0, number, &[], &[0; 100])).unwrap();
    }
    pair.server.out.room = usize::MAX;
    assert_eq!(pair.server.output().len(), 1);
}
