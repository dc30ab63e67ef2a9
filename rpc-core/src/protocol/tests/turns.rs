//! Who goes first where room is short.

use super::*;
use crate::priority::Priority;

/// Room for one chunk's frame at a time, again and again.
fn trickle(pair: &mut Pair, rounds: usize, mut between: impl FnMut(&mut Pair)) {
    for _ in 0..rounds {
        pair.server.out.room = CHUNK + 100;
        pair.settle();
        between(pair);
    }
    pair.server.out.room = usize::MAX;
    pair.settle();
}

#[test]
fn long_requests_do_not_starve_behind_long_replies() {
    let mut pair = Pair::new();
    let replies: Vec<u64> = (0..4).map(|_| pair.client.place(vec![])).collect();
    pair.settle();
    pair.server.out.room = 0;
    for id in &replies {
        pair.server.finish(*id, &bytes(20 * CHUNK, 0));
    }
    pair.server.out.room = CHUNK + 100;
    let request = pair.server.place(bytes(4 * CHUNK, 0));
    trickle(&mut pair, 24, |_| {});
    assert_eq!(pair.client.requests[0].id, request);
    // It was through when the replies were not, which are twenty times as long.
    pair.client.echo_all();
    pair.settle();
    for id in replies {
        assert_eq!(pair.client.reply(id).len(), 20 * CHUNK);
    }
    pair.server.reply(request);
    pair.assert_at_rest();
}

#[test]
fn a_stream_of_middling_replies_keeps_nobody_waiting() {
    let mut pair = Pair::new();
    pair.server.out.room = 0;
    let long = pair.client.place(vec![]);
    let calls: Vec<u64> = (0..60).map(|_| pair.client.place(vec![])).collect();
    pair.settle();
    pair.server.finish(long, &bytes(8 * CHUNK, 0));
    let mut calls_left = calls.clone();
    // There are always some that wait, each as long as there is room.
    for id in calls_left.drain(..10) {
        pair.server.finish(id, &bytes(CHUNK, 0));
    }
    let request = pair.server.queue(b"short".to_vec());
    let mut rounds = 0;
    let mut request_after = None;
    trickle(&mut pair, 45, |pair| {
        rounds += 1;
        if !pair.client.requests.is_empty() && request_after.is_none() {
            request_after = Some(rounds);
        }
        if let Some(id) = calls_left.pop() {
            pair.server.finish(id, &bytes(CHUNK, 0));
        }
    });
    assert!(request_after.is_some_and(|rounds| rounds <= 3), "{request_after:?}");
    let Waited::Placed(request) = pair.server.poll_waiting(request) else { panic!("it was placed") };
    pair.client.echo_all();
    for id in calls_left {
        pair.server.finish(id, b"");
    }
    pair.settle();
    assert_eq!(pair.client.reply(long).len(), 8 * CHUNK);
    for id in calls {
        pair.client.reply(id);
    }
    assert_eq!(pair.server.reply(request), b"short");
    pair.assert_at_rest();
}

#[test]
fn short_frames_fit_where_long_ones_do_not() {
    let mut pair = Pair::new();
    let id = pair.client.place(vec![]);
    pair.settle();
    pair.server.out.room = 0;
    pair.server.finish(id, &bytes(CHUNK, 0));
    let other = pair.server.queue(b"short".to_vec());
    pair.server.out.room = 200;
    pair.settle();
    assert!(matches!(pair.server.poll_waiting(other), Waited::Placed(_)));
    assert_eq!(pair.client.requests.len(), 1);
}

#[test]
fn probes_credit_and_goaway_overtake_what_waits() {
    let mut pair = Pair::new();
    pair.client.out.room = 0;
    for _ in 0..3 {
        pair.client.queue(bytes(CHUNK, 0));
    }
    pair.client.receive(&raw(11, 0, 0, &[], &[5; 8])).unwrap();
    pair.client.protocol.drain(pair.client.now);
    pair.client.out.room = usize::MAX;
    pair.flush();
    let kinds: Vec<Kind> = pair.server.coming().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::Pong, Kind::GoAway, Kind::Ping, Kind::Call, Kind::Call, Kind::Call]);
}

fn of(priority: Priority) -> NewCall {
    NewCall { extras: Some(Sent::with_call(&Metadata::new(), None, None, priority, false).into()), ..new_call() }
}

/// The payloads' first bytes, in the order in which requests come where one has a place at a time.
fn order_one_by_one(pair: &mut Pair, first: u64) -> Vec<u8> {
    let mut order = Vec::new();
    let mut current = first;
    loop {
        pair.server.finish(current, b"");
        pair.settle();
        let Some(request) = pair.server.requests.first() else {
            return order;
        };
        current = request.id;
        order.push(request.payload.as_slice()[0]);
    }
}

#[test]
fn of_waiting_calls_the_urgent_go_first_and_low_ones_have_their_turn() {
    for len in [1, 2 * CHUNK] {
        let mut pair = Pair::with(Limits::default(), Limits::default().in_flight_per_connection(1));
        let first = pair.client.place(vec![]);
        let mut tickets = Vec::new();
        for (priority, mark) in [(Priority::Low, b'l'), (Priority::Normal, b'n'), (Priority::High, b'h')] {
            for _ in 0..12 {
                // A long one and a short one have the same turns.
                let payload = if mark == b'n' { vec![mark] } else { vec![mark; len] };
                let begun = pair.client.begin(of(priority), payload, None);
                let Begun::Queued(ticket) = begun else { panic!("it waits, and not {begun:?}") };
                tickets.push(ticket);
            }
        }
        pair.settle();
        let order = order_one_by_one(&mut pair, first);
        assert_eq!(String::from_utf8(order).unwrap(), "hhhnhhhlhhhnhhhlnnnnnnnlnnnlllllllll");
        for ticket in tickets {
            let Waited::Placed(id) = pair.client.poll_waiting(ticket) else { panic!("it was placed") };
            pair.client.reply(id);
        }
        pair.client.reply(first);
        pair.assert_at_rest();
    }
}

#[test]
fn chunks_of_an_urgent_request_pass_those_of_others() {
    let mut pair = Pair::new();
    pair.client.out.room = 0;
    let waits = |begun| match begun {
        Begun::Queued(ticket) => ticket,
        other => panic!("it waits, and not {other:?}"),
    };
    let low = waits(pair.client.begin(of(Priority::Low), bytes(30 * CHUNK, 0), None));
    let high = waits(pair.client.begin(of(Priority::High), bytes(30 * CHUNK, 1), None));
    let mut came = Vec::new();
    for _ in 0..70 {
        pair.client.out.room = CHUNK + 200;
        pair.settle();
        came.extend(pair.server.requests.drain(..).map(|request| (request.id, request.payload.as_slice()[0])));
        if came.len() == 1 && pair.server.stats().memory_in > 0 {
            assert_eq!(came[0].1, bytes(1, 1)[0], "the urgent one first");
        }
    }
    pair.client.out.room = usize::MAX;
    pair.settle();
    assert_eq!(came.len(), 2);
    for (id, _) in came {
        pair.server.finish(id, b"");
    }
    pair.settle();
    for ticket in [low, high] {
        let Waited::Placed(id) = pair.client.poll_waiting(ticket) else { panic!("it was placed") };
        pair.client.reply(id);
    }
    pair.assert_at_rest();
}

#[test]
fn urgent_replies_pass_those_of_others() {
    for len in [1, CHUNK] {
        let mut pair = Pair::new();
        let calls: Vec<u64> = [Priority::Low, Priority::Normal, Priority::High]
            .map(|priority| placed(pair.client.begin(of(priority), vec![], None)))
            .to_vec();
        pair.settle();
        pair.server.out.room = 0;
        for id in &calls {
            pair.server.finish(*id, &bytes(len, 0));
        }
        pair.server.out.room = usize::MAX;
        pair.flush();
        let replies: Vec<u64> = pair.client.coming().into_iter().map(|(_, id)| id).collect();
        assert_eq!(replies, [calls[2], calls[1], calls[0]]);
        pair.settle();
        for id in calls {
            pair.client.reply(id);
        }
        pair.assert_at_rest();
    }
}

#[test]
fn the_end_of_a_stream_lets_the_next_call_go_at_once() {
    let mut pair = Pair::with(Limits::default(), Limits::default().in_flight_per_connection(1));
    // Whoever's turn it is.
    for _ in 0..8 {
        let streams = StreamCounts { given: 1, returned: 0 };
        let id = placed(pair.client.begin(NewCall { streams, ..new_call() }, vec![], None));
        pair.settle();
        pair.server.protocol.claim_stream(id + 2).expect("a stream");
        pair.server.finish(id, b"");
        pair.settle();
        pair.client.reply(id);
        let ticket = pair.client.queue(vec![]);
        pair.settle();
        assert_eq!(pair.client.stats().calls_waiting, 1);
        pair.client.protocol.end_items(id + 2, Ok(()));
        pair.client.protocol.transmit(&mut pair.client.out, &mut pair.client.effects.wakers);
        assert_eq!(pair.client.stats().calls_waiting, 0);
        pair.settle();
        pair.server.echo_all();
        pair.settle();
        let Waited::Placed(next) = pair.client.protocol.caller().poll_waiting(ticket, &mut None) else {
            panic!("it was placed");
        };
        pair.client.reply(next);
        pair.server.protocol.unclaim_stream(id + 2, &mut Vec::new(), &mut Vec::new());
    }
    pair.settle();
    pair.assert_at_rest();
}
