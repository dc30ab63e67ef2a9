//! Credit: every payload byte is counted, on both sides, both ways.

use super::*;

/// A window of 16 KiB, and messages as long.
fn narrow() -> Limits {
    Limits::default().message_len(16 << 10).memory_in(16 << 10)
}

#[test]
fn every_payload_byte_is_counted_and_comes_back() {
    let mut pair = Pair::new();
    let id = pair.client.place(bytes(10_000, 0));
    assert_eq!(pair.client.stats().credit_in_use, 10_000);
    pair.settle();
    assert_eq!(pair.server.stats().memory_in, 10_000);
    pair.server.finish(id, &bytes(20_000, 0));
    assert_eq!(pair.server.stats().memory_in, 0);
    pair.settle();
    assert_eq!(pair.client.stats().memory_in, 20_000);
    assert_eq!(pair.client.reply(id).len(), 20_000);
    pair.assert_at_rest();
}

#[test]
fn small_replies_cost_no_credit() {
    let mut pair = Pair::new();
    for (len, cost) in [(64, 0), (65, 65)] {
        let id = pair.client.place(vec![]);
        pair.settle();
        pair.server.finish(id, &bytes(len, 0));
        pair.settle();
        assert_eq!(pair.server.stats().credit_in_use, cost);
        assert_eq!(pair.client.stats().memory_in, cost);
        assert_eq!(pair.client.reply(id), bytes(len, 0));
    }
    pair.assert_at_rest();
}

#[test]
fn a_call_without_credit_waits_until_some_comes() {
    let mut pair = Pair::with(narrow(), narrow());
    let first = pair.client.place(bytes(10_000, 1));
    let count = Count::new();
    let Begun::Queued(ticket) = pair.client.begin(new_call(), bytes(10_000, 2), count.waker()) else {
        panic!("there is no credit for it");
    };
    pair.settle();
    assert_eq!(pair.server.requests.len(), 1);
    assert!(matches!(pair.client.poll_waiting(ticket), Waited::Waiting));
    pair.server.finish(first, b"");
    pair.settle();
    assert_eq!(count.woken(), 1);
    let Waited::Placed(second) = pair.client.poll_waiting(ticket) else { panic!("there is credit now") };
    assert_eq!(pair.server.requests[0].payload.as_slice(), bytes(10_000, 2));
    pair.server.finish(second, b"");
    pair.settle();
    pair.client.reply(first);
    pair.client.reply(second);
    pair.assert_at_rest();
}

#[test]
fn a_reply_without_credit_waits_until_some_comes() {
    let mut pair = Pair::with(narrow(), narrow());
    let ids: Vec<u64> = (0..3).map(|_| pair.client.place(vec![])).collect();
    pair.settle();
    for id in &ids {
        pair.server.finish(*id, &bytes(10_000, *id));
    }
    pair.settle();
    assert_eq!(pair.server.stats().memory_out, 20_000);
    // Small ones pass.
    let small = pair.client.place(vec![]);
    pair.settle();
    pair.server.finish(small, &bytes(64, 0));
    pair.settle();
    assert_eq!(pair.client.reply(small), bytes(64, 0));
    for id in ids {
        assert_eq!(pair.client.reply(id), bytes(10_000, id));
        pair.settle();
    }
    pair.assert_at_rest();
}

#[test]
fn little_credit_waits_for_the_sweep_and_much_leaves_at_once() {
    let mut pair = Pair::with(narrow(), narrow());
    let id = pair.client.place(bytes(100, 0));
    pair.settle();
    pair.server.finish(id, b"");
    pair.settle();
    assert_eq!(pair.server.stats().credit_owed, 100);
    pair.advance(SWEEP - MS);
    assert_eq!(pair.server.stats().credit_owed, 100);
    pair.advance(MS);
    assert_eq!(pair.server.stats().credit_owed, 0);
    pair.client.reply(id);
    let id = pair.client.place(bytes(4096, 0));
    pair.settle();
    pair.server.finish(id, b"");
    pair.settle();
    assert_eq!(pair.server.stats().credit_owed, 0);
    pair.client.reply(id);
    pair.assert_at_rest();
}

#[test]
fn more_than_the_window_closes() {
    let mut pair = Pair::with(narrow(), narrow());
    let body = call_body(&bytes(4000, 0));
    for id in [1, 3, 5, 7] {
        pair.server.receive(&raw(2, 0, id, &[], &body)).unwrap();
    }
    let error = violation(pair.server.receive(&raw(2, 0, 9, &[], &body)));
    assert_eq!(error, ProtocolError::CreditOverrun { over: 4 * 4000 + 4000 - 16384 });
    // What has been promised to a message counts.
    let mut pair = Pair::with(narrow(), narrow());
    pair.server.receive(&raw(2, 1, 1, &total(14_000), &call_body(&bytes(2000, 0)))).unwrap();
    let error = violation(pair.server.receive(&raw(2, 0, 3, &[], &body)));
    assert_eq!(error, ProtocolError::CreditOverrun { over: 18_000 - 16384 });
}

#[test]
fn replies_over_the_window_close() {
    let mut pair = Pair::with(narrow(), narrow());
    let ids: Vec<u64> = (0..5).map(|_| pair.client.place(vec![])).collect();
    for id in &ids[..4] {
        pair.client.receive(&raw(3, 0, *id, &[], &bytes(4000, 0))).unwrap();
    }
    let error = violation(pair.client.receive(&raw(3, 0, ids[4], &[], &bytes(4000, 0))));
    assert!(matches!(error, ProtocolError::CreditOverrun { .. }));
}

#[test]
fn credit_that_was_never_taken_closes() {
    for window in [1, 2] {
        let mut pair = Pair::new();
        let mut body = vec![window];
        body.extend_from_slice(&1u64.to_le_bytes());
        let error = violation(pair.client.receive(&raw(10, 0, 0, &[], &body)));
        assert_eq!(error, ProtocolError::CreditOverflow);
        body[1..].copy_from_slice(&u64::MAX.to_le_bytes());
        let error = violation(pair.server.receive(&raw(10, 0, 0, &[], &body)));
        assert_eq!(error, ProtocolError::CreditOverflow);
    }
}

#[test]
fn credit_for_anything_but_a_window_closes() {
    let mut pair = Pair::new();
    for (id, window) in [(0, 0), (0, 4), (1, 1), (1, 3)] {
        let mut body = vec![window];
        body.extend_from_slice(&[0; 8]);
        violation(pair.client.receive(&raw(10, 0, id, &[], &body)));
    }
    violation(pair.client.receive(&raw(10, 0, 0, &[], &[1; 8])));
}

#[test]
fn short_calls_pass_a_long_one_that_waits_for_credit_but_not_for_ever() {
    let mut pair = Pair::with(narrow(), narrow());
    let first = pair.client.place(bytes(2000, 0));
    let long = pair.client.queue(bytes(16 << 10, 0));
    // An eighth of the window: 2048 bytes.
    let passing: Vec<u64> = (0..4).map(|_| pair.client.place(bytes(500, 0))).collect();
    let behind = pair.client.queue(bytes(500, 0));
    pair.settle();
    assert_eq!(pair.server.requests.len(), 5);
    for id in passing.into_iter().chain([first]) {
        pair.server.finish(id, b"");
        pair.settle();
        pair.client.reply(id);
    }
    pair.advance(SWEEP * 2);
    assert!(matches!(pair.client.poll_waiting(behind), Waited::Waiting));
    let Waited::Placed(long) = pair.client.poll_waiting(long) else { panic!("its turn") };
    pair.server.finish(long, b"");
    pair.settle();
    let Waited::Placed(behind) = pair.client.poll_waiting(behind) else { panic!("its turn") };
    pair.server.finish(behind, b"");
    pair.settle();
    pair.client.reply(long);
    pair.client.reply(behind);
    pair.assert_at_rest();
}

#[test]
fn short_calls_do_not_take_the_slot_that_a_long_one_waits_for() {
    let limits = Limits::default().in_flight_per_connection(1);
    let mut pair = Pair::with(limits.clone(), limits);
    let first = pair.client.place(vec![]);
    let long = pair.client.queue(bytes(3 * CHUNK, 0));
    pair.settle();
    pair.server.finish(first, b"");
    pair.flush();
    pair.client_takes();
    // The caller takes its answer and calls again at once, with nothing to pay.
    let mut answer = Answer::EMPTY;
    assert!(pair.client.protocol.caller().poll(first, &mut None, &mut answer));
    let next = pair.client.queue(vec![]);
    pair.settle();
    let Waited::Placed(long) = pair.client.poll_waiting(long) else { panic!("it came first") };
    pair.server.finish(long, b"");
    pair.settle();
    pair.client.reply(long);
    pair.settle();
    let Waited::Placed(next) = pair.client.poll_waiting(next) else { panic!("its turn") };
    pair.server.finish(next, b"");
    pair.settle();
    pair.client.reply(next);
    pair.assert_at_rest();
}
