//! What happens at each limit: an honest side waits or is told, a dishonest one is refused or closed on.

use super::*;
use crate::limits::Limit;

fn in_flight(n: usize) -> Limits {
    Limits::default().in_flight_per_connection(n)
}

#[test]
fn the_call_after_the_last_slot_waits_for_one() {
    for (ours, theirs) in [(3, 128), (128, 3), (3, 3)] {
        let mut pair = Pair::with(in_flight(ours), in_flight(theirs));
        let ids: Vec<u64> = (0..3).map(|_| pair.client.place(vec![])).collect();
        let count = Count::new();
        let Begun::Queued(ticket) = pair.client.begin(new_call(), b"4th".to_vec(), count.waker()) else {
            panic!("there are three slots");
        };
        pair.settle();
        assert_eq!((pair.server.requests.len(), pair.server.stats().requests_refused), (3, 0));
        pair.server.finish(ids[1], b"");
        pair.settle();
        // The answer lies in its slot until its caller comes for it, and holds up nobody there.
        assert_eq!(count.woken(), 1);
        pair.client.reply(ids[1]);
        let Waited::Placed(last) = pair.client.poll_waiting(ticket) else { panic!("a slot is free") };
        pair.settle();
        for id in [ids[0], ids[2], last] {
            pair.server.finish(id, b"");
            pair.settle();
            pair.client.reply(id);
        }
        pair.assert_at_rest();
    }
}

#[test]
fn a_peer_that_ignores_the_limit_is_refused() {
    let mut pair = Pair::with(in_flight(128), in_flight(2));
    for id in [1, 3, 5] {
        pair.server.receive(&raw(2, 0, id, &[], &call_body(b"x"))).unwrap();
    }
    assert_eq!(pair.server.requests.len(), 2);
    let out = pair.server.output();
    // FAIL, not executed, overloaded, the limit's number.
    assert_eq!(out, [raw(4, 0, 5, &[], &[0, 1, 1])]);
    assert_eq!(pair.server.stats().requests_refused, 1);
}

#[test]
fn refusals_that_are_not_read_close() {
    let mut pair = Pair::with(in_flight(128), in_flight(2));
    pair.server.out.room = 0;
    for id in [1, 3, 5, 7] {
        pair.server.receive(&raw(2, 0, id, &[], &call_body(b"x"))).unwrap();
    }
    let error = violation(pair.server.receive(&raw(2, 0, 9, &[], &call_body(b"x"))));
    assert_eq!(error, ProtocolError::RefusalOverflow);
}

#[test]
fn calls_over_the_limit_of_those_who_wait_fail() {
    let limits = in_flight(1).calls_waiting(2);
    let mut pair = Pair::with(limits.clone(), limits);
    let first = pair.client.place(vec![]);
    let waiting = [pair.client.queue(vec![]), pair.client.queue(vec![])];
    match pair.client.begin(new_call(), vec![], None) {
        Begun::Failed(reason) if matches!(*reason, Reason::Overloaded { limit: Limit::CallsWaiting }) => {}
        other => panic!("{other:?}"),
    }
    waiting.into_iter().for_each(|ticket| pair.client.abandon_waiting(ticket));
    pair.settle();
    pair.server.finish(first, b"");
    pair.settle();
    pair.client.reply(first);
    pair.assert_at_rest();
}

#[test]
fn a_call_from_inside_a_handler_fails_at_the_limit_at_once() {
    let mut pair = Pair::with(in_flight(2), in_flight(2));
    let nested = NewCall { nested: true, ..new_call() };
    let first = pair.client.place(vec![]);
    // There is a slot, but no room in the sender: that is no cycle, it waits.
    pair.client.out.room = 0;
    let Begun::Queued(second) = pair.client.begin(nested.clone(), vec![], None) else { panic!("it may wait") };
    // Behind it the limit is reached.
    match pair.client.begin(nested.clone(), vec![], None) {
        Begun::Failed(reason) if matches!(*reason, Reason::Overloaded { limit: Limit::InFlightPerConnection }) => {}
        other => panic!("{other:?}"),
    }
    pair.client.out.room = usize::MAX;
    pair.settle();
    let Waited::Placed(second) = pair.client.poll_waiting(second) else { panic!("there was a slot") };
    assert!(matches!(pair.client.begin(nested, vec![], None), Begun::Failed(_)));
    for id in [first, second] {
        pair.server.finish(id, b"");
        pair.settle();
        pair.client.reply(id);
    }
    pair.assert_at_rest();
}

#[test]
fn a_call_from_inside_a_handler_fails_when_the_window_is_spent() {
    let limits = Limits::default().message_len(1000).memory_in(1000);
    let mut pair = Pair::with(limits.clone(), limits);
    let first = pair.client.place(bytes(600, 0));
    let nested = NewCall { nested: true, ..new_call() };
    match pair.client.begin(nested, bytes(600, 0), None) {
        Begun::Failed(reason) if matches!(*reason, Reason::Overloaded { limit: Limit::MemoryIn }) => {}
        other => panic!("{other:?}"),
    }
    pair.settle();
    pair.server.finish(first, b"");
    pair.settle();
    pair.client.reply(first);
    pair.assert_at_rest();
}

#[test]
fn a_call_that_finds_no_memory_to_wait_in_is_woken_when_there_is_some() {
    let mut pair = Pair::with(in_flight(1).memory_out(1000), in_flight(1));
    let first = pair.client.place(vec![]);
    let ticket = pair.client.queue(bytes(900, 0));
    let count = Count::new();
    for _ in 0..5 {
        // However often it asks meanwhile.
        assert!(matches!(pair.client.begin(new_call(), bytes(200, 0), count.waker()), Begun::Starved));
    }
    assert_eq!(pair.client.stats().calls_waiting, 2);
    pair.settle();
    pair.server.finish(first, b"");
    pair.settle();
    assert_eq!(count.woken(), 1);
    pair.client.reply(first);
    let Waited::Placed(second) = pair.client.poll_waiting(ticket) else { panic!("a slot is free") };
    let ticket = pair.client.queue(bytes(200, 0));
    pair.client.abandon_waiting(ticket);
    pair.settle();
    pair.server.finish(second, b"");
    pair.settle();
    pair.client.reply(second);
    pair.assert_at_rest();
}

#[test]
fn a_short_call_that_finds_no_memory_to_wait_in_is_woken_when_it_need_not_wait() {
    let mut pair = Pair::with(in_flight(2).memory_out(1000), in_flight(2));
    let first = pair.client.place(vec![]);
    pair.settle();
    let room = pair.client.out.room;
    // All the memory is taken by what is left of this one, and stays so.
    let long = pair.client.place(bytes(4 * CHUNK, 0));
    pair.client.out.room = 0;
    let counts = [2 * CHUNK, 20, 20].map(|len| {
        let count = Count::new();
        assert!(matches!(pair.client.begin(new_call(), bytes(len, 0), count.waker()), Begun::Starved));
        count
    });
    pair.settle();
    assert_eq!(counts.each_ref().map(|count| count.woken()), [0, 0, 0]);
    pair.server.finish(first, b"");
    pair.settle();
    // As many as there are slots, and nobody in vain.
    assert_eq!(counts.each_ref().map(|count| count.woken()), [0, 1, 0]);
    pair.client.reply(first);
    pair.client.out.room = room;
    let short = pair.client.place(bytes(20, 0));
    pair.settle();
    assert_eq!(counts.each_ref().map(|count| count.woken()), [1, 1, 1]);
    for id in [long, short] {
        pair.server.finish(id, b"");
        pair.settle();
        pair.client.reply(id);
    }
    pair.assert_at_rest();
}

#[test]
fn long_calls_being_sent_count_as_memory() {
    let mut pair = Pair::with(Limits::default().memory_out(4 * CHUNK), Limits::default());
    let first = pair.client.place(bytes(4 * CHUNK, 0));
    let count = Count::new();
    assert!(matches!(pair.client.begin(new_call(), bytes(4 * CHUNK, 0), count.waker()), Begun::Starved));
    // Once it has been sent there is room for the next.
    pair.settle();
    assert_eq!(count.woken(), 1);
    let second = pair.client.place(bytes(4 * CHUNK, 0));
    pair.settle();
    for id in [first, second] {
        pair.server.finish(id, b"");
        pair.settle();
        pair.client.reply(id);
    }
    pair.assert_at_rest();
}

#[test]
fn the_limits_of_the_whole_server_refuse_and_are_given_back() {
    let limits = Limits::default().memory_total(1000);
    let mut pair = Pair::with(Limits::default(), limits);
    let a = pair.client.place(bytes(900, 0));
    let b = pair.client.place(bytes(900, 0));
    let small = pair.client.place(bytes(96, 0));
    pair.settle();
    let failure = pair.client.failure(b);
    assert_eq!(*not_executed(&failure), Reason::Overloaded { limit: Limit::MemoryTotal });
    assert_eq!((pair.server.share.calls(), pair.server.share.bytes()), (2, 900));
    for id in [a, small] {
        pair.server.finish(id, b"");
        pair.settle();
        pair.client.reply(id);
    }
    pair.assert_at_rest();
    let mut pair = Pair::with(Limits::default(), Limits::default().in_flight_per_server(1));
    let a = pair.client.place(vec![]);
    let b = pair.client.place(vec![]);
    pair.settle();
    let failure = pair.client.failure(b);
    assert_eq!(*not_executed(&failure), Reason::Overloaded { limit: Limit::InFlightPerServer });
    pair.server.finish(a, b"");
    pair.settle();
    pair.client.reply(a);
    pair.assert_at_rest();
}

#[test]
fn replies_over_the_memory_for_output_hold_up_encoders_and_refuse_calls() {
    let narrow = Limits::default().message_len(2000).memory_in(2000);
    let mut pair = Pair::with(narrow, Limits::default().memory_out(1000));
    let ids: Vec<u64> = (0..2).map(|_| pair.client.place(vec![])).collect();
    pair.settle();
    for id in &ids {
        pair.server.finish(*id, &bytes(1500, 0));
    }
    assert!(pair.server.protocol.is_crowded());
    let count = Count::new();
    for _ in 0..5 {
        assert!(!pair.server.protocol.may_encode(&mut count.waker()));
    }
    let refused = pair.client.place(vec![]);
    pair.settle();
    assert_eq!(*not_executed(&pair.client.failure(refused)), Reason::Overloaded { limit: Limit::MemoryOut });
    assert_eq!(count.woken(), 0);
    pair.client.reply(ids[0]);
    pair.settle();
    assert_eq!(count.woken(), 1);
    assert!(pair.server.protocol.may_encode(&mut count.waker()));
    pair.client.reply(ids[1]);
    pair.assert_at_rest();
}

#[test]
fn encoders_go_on_when_the_chunks_of_a_reply_have_made_room() {
    let mut pair = Pair::with(Limits::default(), Limits::default().memory_out(CHUNK / 2));
    let id = pair.client.place(vec![]);
    pair.settle();
    pair.server.out.room = 0;
    pair.server.finish(id, &bytes(3 * CHUNK, 0));
    let count = Count::new();
    assert!(!pair.server.protocol.may_encode(&mut count.waker()));
    pair.server.out.room = usize::MAX;
    // In one go, and nothing else happens after it.
    pair.server.protocol.transmit(&mut pair.server.out, &mut pair.server.effects.wakers);
    pair.server.sort_effects();
    assert_eq!(count.woken(), 1);
    pair.settle();
    assert_eq!(pair.client.reply(id).len(), 3 * CHUNK);
    pair.assert_at_rest();
}
