//! CANCEL at every stage of a call.

use super::*;

/// One call at a time, so that a slot that is not given back is noticed.
fn single() -> Pair {
    let limits = || Limits::default().in_flight_per_connection(1);
    Pair::with(limits(), limits())
}

/// One more call goes through.
#[track_caller]
fn still_works(pair: &mut Pair) {
    let id = pair.client.place(b"after".to_vec());
    pair.settle();
    pair.server.finish(id, b"fine");
    pair.settle();
    assert_eq!(pair.client.reply(id), b"fine");
    pair.assert_at_rest();
}

#[test]
fn a_queued_call_is_taken_back() {
    let mut pair = single();
    let first = pair.client.place(vec![]);
    let ticket = pair.client.queue(bytes(100, 0));
    assert_eq!(pair.client.stats().memory_out, 100);
    pair.client.abandon_waiting(ticket);
    assert_eq!(pair.client.stats().memory_out, 0);
    pair.settle();
    assert_eq!(pair.server.requests.len(), 1);
    pair.server.finish(first, b"");
    pair.settle();
    pair.client.reply(first);
    still_works(&mut pair);
    assert!(pair.server.cancelled.is_empty());
}

#[test]
fn a_call_that_was_queued_and_then_placed_is_cancelled() {
    let mut pair = single();
    let first = pair.client.place(vec![]);
    let ticket = pair.client.queue(bytes(100, 0));
    pair.settle();
    pair.server.finish(first, b"");
    pair.settle();
    pair.client.reply(first);
    pair.settle();
    assert_eq!(pair.server.requests.len(), 1);
    pair.client.abandon_waiting(ticket);
    pair.settle();
    let id = pair.server.cancelled[0];
    pair.server.finish_with(id, Failure::maybe_executed(Reason::Cancelled));
    pair.settle();
    still_works(&mut pair);
}

#[test]
fn a_half_sent_call_is_aborted_and_owed_its_failure() {
    let mut pair = single();
    let id = pair.client.place(bytes(3 * CHUNK, 0));
    pair.client.out.room = 0;
    pair.flush();
    assert!(pair.server_takes());
    assert_eq!(pair.server.stats().handlers_in_flight, 1);
    pair.client.abandon(id);
    assert_eq!(pair.client.stats().memory_out, 0);
    // Its slot is taken until the terminal frame is in.
    assert_eq!(pair.client.stats().calls_in_flight, 1);
    pair.client.queue(b"after".to_vec());
    pair.client.out.room = usize::MAX;
    pair.flush();
    assert_eq!(pair.server.coming(), [(Kind::Cancel, id)]);
    pair.settle();
    assert!(pair.server.cancelled.is_empty(), "there is no handler yet");
    assert_eq!(pair.server.requests[0].payload.as_slice(), b"after");
    let id = pair.server.requests[0].id;
    pair.server.finish(id, b"");
    pair.settle();
    assert_eq!(pair.client.reply(id), b"");
    still_works(&mut pair);
}

#[test]
fn a_cancelled_call_keeps_its_slot_until_the_handler_is_gone() {
    let mut pair = single();
    let id = pair.client.place(b"x".to_vec());
    pair.settle();
    pair.client.abandon(id);
    pair.settle();
    assert_eq!(pair.server.cancelled, [id]);
    assert_eq!((pair.client.stats().calls_in_flight, pair.server.stats().handlers_in_flight), (1, 1));
    let ticket = pair.client.queue(b"y".to_vec());
    pair.settle();
    assert!(matches!(pair.client.poll_waiting(ticket), Waited::Waiting));
    pair.server.finish_with(id, Failure::maybe_executed(Reason::Cancelled));
    pair.settle();
    assert!(matches!(pair.client.poll_waiting(ticket), Waited::Placed(_)));
    let id = pair.server.requests[0].id;
    pair.server.finish(id, b"");
    pair.settle();
    pair.client.reply(id);
    still_works(&mut pair);
}

#[test]
fn what_a_cancelled_handler_returns_takes_no_memory() {
    for len in [REPLY_INLINE_MAX, REPLY_INLINE_MAX + 1, 1000, 3 * CHUNK] {
        let mut pair = single();
        let id = pair.client.place(b"x".to_vec());
        pair.settle();
        pair.client.abandon(id);
        pair.settle();
        assert_eq!(pair.server.cancelled, [id]);
        // It has run to its end all the same.
        pair.server.out.room = 0;
        pair.server.finish(id, &bytes(len, 0));
        assert!(pair.server.stats().memory_out <= REPLY_INLINE_MAX as u64, "{len}");
        pair.server.out.room = usize::MAX;
        pair.settle();
        assert_eq!(pair.client.stats().memory_in, 0);
        still_works(&mut pair);
    }
}

#[test]
fn a_cancel_that_crosses_the_reply_changes_nothing() {
    for len in [0, 64, 65, CHUNK, 3 * CHUNK] {
        let mut pair = single();
        let id = pair.client.place(vec![]);
        pair.settle();
        pair.server.finish(id, &bytes(len, 0));
        pair.flush();
        pair.client.abandon(id);
        pair.settle();
        assert!(pair.server.cancelled.is_empty());
        assert_eq!(pair.client.stats().replies_late, 0);
        still_works(&mut pair);
    }
}

#[test]
fn a_reply_that_nobody_took_is_let_go_of() {
    let mut pair = single();
    let id = pair.client.place(vec![]);
    pair.settle();
    pair.server.finish(id, &bytes(1000, 0));
    pair.settle();
    assert_eq!(pair.client.stats().memory_in, 1000);
    pair.client.abandon(id);
    pair.flush();
    assert!(pair.server.coming().is_empty());
    still_works(&mut pair);
}

#[test]
fn a_half_received_reply_that_was_wholly_sent_still_ends_its_call() {
    // The cancel reaches a server that has nothing left to say of this call.
    for delivered in 1..=2 {
        let mut pair = single();
        let id = pair.client.place(vec![]);
        pair.settle();
        pair.server.finish(id, &bytes(3 * CHUNK, 0));
        pair.flush();
        for _ in 0..delivered {
            assert!(pair.client_takes());
        }
        pair.client.abandon(id);
        assert_eq!(pair.client.stats().memory_in, 0);
        assert_eq!(pair.client.stats().calls_in_flight, 1);
        pair.settle();
        assert_eq!(pair.client.stats().calls_in_flight, 0);
        still_works(&mut pair);
    }
}

#[test]
fn a_slot_is_not_given_away_before_the_last_chunk_of_a_reply_nobody_wants() {
    let mut pair = single();
    let id = pair.client.place(vec![]);
    pair.settle();
    pair.client.abandon(id);
    pair.server.out.room = CHUNK + 100;
    pair.server.finish(id, &bytes(3 * CHUNK, 0));
    pair.flush();
    assert!(pair.client_takes());
    // The server's slot is taken: a call now would be refused.
    assert_eq!(pair.client.stats().calls_in_flight, 1);
    pair.server.out.room = usize::MAX;
    pair.settle();
    still_works(&mut pair);
}

#[test]
fn a_failure_supersedes_a_half_sent_reply() {
    let mut pair = single();
    let id = pair.client.place(vec![]);
    pair.settle();
    pair.server.out.room = 2 * CHUNK;
    pair.server.finish(id, &bytes(4 * CHUNK, 0));
    pair.flush();
    assert!(pair.client_takes());
    pair.client.abandon(id);
    pair.flush();
    assert!(pair.server_takes());
    assert_eq!(pair.server.stats().memory_out, 0);
    pair.server.out.room = usize::MAX;
    pair.flush();
    assert_eq!(pair.client.coming(), [(Kind::Fail, id)]);
    pair.settle();
    still_works(&mut pair);
}

#[test]
fn cancelling_twice_and_cancelling_what_is_over_is_harmless() {
    let mut pair = single();
    let id = pair.client.place(vec![]);
    pair.settle();
    for _ in 0..3 {
        pair.server.receive(&raw(6, 0, id, &[], &[])).unwrap();
    }
    assert_eq!(pair.server.cancelled, [id; 3]);
    pair.server.finish(id, b"no_cancel");
    pair.server.receive(&raw(6, 0, id, &[], &[])).unwrap();
    assert_eq!(pair.server.cancelled.len(), 3);
    pair.settle();
    assert_eq!(pair.client.reply(id), b"no_cancel");
    still_works(&mut pair);
}

#[test]
fn a_cancel_for_a_reply_that_waits_for_credit_frees_its_memory() {
    let limits = Limits::default().message_len(8000).memory_in(8000);
    let mut pair = Pair::with(limits, Limits::default());
    let first = pair.client.place(vec![]);
    let second = pair.client.place(vec![]);
    pair.settle();
    pair.server.finish(first, &bytes(8000, 1));
    pair.server.finish(second, &bytes(8000, 2));
    pair.settle();
    assert_eq!(pair.server.stats().memory_out, 8000);
    pair.client.abandon(second);
    pair.settle();
    assert_eq!(pair.server.stats().memory_out, 0);
    assert_eq!(pair.client.reply(first), bytes(8000, 1));
    pair.assert_at_rest();
}

/// A window of 16 KiB, and messages as long.
fn narrow() -> Pair {
    let limits = || Limits::default().message_len(16 << 10).memory_in(16 << 10);
    Pair::with(limits(), limits())
}

#[test]
fn nothing_is_sent_on_the_credit_of_a_call_whose_cancel_is_not_out() {
    let mut pair = narrow();
    let cut = pair.client.place(bytes(3 * CHUNK, 0));
    pair.client.out.room = 0;
    pair.client.abandon(cut);
    pair.flush();
    // There is room again, and the next call comes before anybody has placed what is owed.
    pair.client.out.room = usize::MAX;
    let ticket = pair.client.queue(bytes(3 * CHUNK, 1));
    pair.settle();
    assert_eq!(pair.server.error, None);
    let Waited::Placed(id) = pair.client.poll_waiting(ticket) else { panic!("there is credit now") };
    pair.server.finish(id, b"");
    pair.settle();
    pair.client.reply(id);
    still_works(&mut pair);
}

#[test]
fn nothing_is_sent_on_the_credit_of_a_reply_whose_failure_is_not_out() {
    let mut pair = narrow();
    let cut = pair.client.place(vec![]);
    let next: Vec<u64> = (0..2).map(|_| pair.client.place(vec![])).collect();
    pair.settle();
    pair.server.out.room = CHUNK + 100;
    pair.server.finish(cut, &bytes(4 * CHUNK, 0));
    pair.flush();
    pair.server.out.room = 0;
    pair.client.abandon(cut);
    pair.settle();
    // There is room again, and the next replies come before anybody has placed what is owed.
    pair.server.out.room = usize::MAX;
    for id in &next {
        pair.server.finish(*id, &bytes(3000, *id));
    }
    pair.settle();
    assert_eq!(pair.client.error, None);
    for id in next {
        assert_eq!(pair.client.reply(id), bytes(3000, id));
    }
    still_works(&mut pair);
}
