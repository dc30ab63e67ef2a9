//! Deadlines on both sides, exact to the fake clock's tick.

use super::*;

#[test]
fn a_deadline_of_ones_own_is_exact() {
    let mut pair = Pair::new();
    let count = Count::new();
    let call = timed(pair.client.now, 50 * MS);
    let id = placed(pair.client.begin(call, vec![], count.waker()));
    pair.settle();
    pair.advance(50 * MS - Duration::from_nanos(1));
    assert_eq!(count.woken(), 0);
    pair.advance(Duration::from_nanos(1));
    assert_eq!(count.woken(), 1);
    assert_eq!(*maybe_executed(&pair.client.failure(id)), Reason::DeadlineExceeded);
    // The server's clock began to run at its next sweep.
    assert!(pair.server.expired.is_empty());
    pair.advance(SWEEP);
    assert_eq!(pair.server.expired, [id]);
    assert_eq!(pair.server.cancelled, [id]);
    pair.server.finish_with(id, Failure::maybe_executed(Reason::DeadlineExceeded));
    pair.assert_at_rest();
}

#[test]
fn a_default_deadline_is_at_most_one_sweep_late() {
    let mut pair = Pair::new();
    let count = Count::new();
    let id = placed(pair.client.begin(new_call(), vec![], count.waker()));
    // Life goes on meanwhile: a silent peer would end the connection at the same time.
    for _ in 0..3 {
        pair.advance(Duration::from_secs(10) - MS);
        pair.client.receive(&raw(12, 0, 0, &[], &[0; 8])).unwrap();
    }
    pair.advance(3 * MS - MS);
    assert_eq!(count.woken(), 0);
    pair.advance(MS + SWEEP);
    assert_eq!(count.woken(), 1);
    maybe_executed(&pair.client.failure(id));
    pair.server.finish(id, b"");
    pair.assert_at_rest();
}

#[test]
fn a_call_right_after_a_short_one_is_stamped_too() {
    // The first call is over before the driver looks at the time; the sweep it asked for was never armed.
    let mut pair = Pair::new();
    for _ in 0..3 {
        let (begun, wake) = pair.client.protocol.begin(
            &new_call(),
            Parts::default(),
            false,
            &mut None,
            &mut None,
            &mut pair.client.out,
        );
        let Attempt::Done(begun) = begun else { panic!("it is short") };
        let id = placed(begun);
        assert!(wake, "the driver has to look at the time");
        for frame in pair.client.output() {
            pair.server.receive(&frame).unwrap();
        }
        pair.server.finish(id, b"");
        for frame in pair.server.output() {
            pair.client.receive(&frame).unwrap();
        }
        pair.client.reply(id);
        assert_eq!(pair.client.timeout(), None, "nothing is left to watch");
    }
}

#[test]
fn a_deadline_that_passes_in_the_queue_means_not_executed() {
    let limits = Limits::default().in_flight_per_connection(1);
    let mut pair = Pair::with(limits.clone(), limits);
    let first = pair.client.place(vec![]);
    let count = Count::new();
    let call = timed(pair.client.now, 50 * MS);
    let Begun::Queued(ticket) = pair.client.begin(call, vec![], count.waker()) else { panic!("there is one slot") };
    pair.advance(49 * MS);
    assert!(matches!(pair.client.poll_waiting(ticket), Waited::Waiting));
    pair.advance(MS);
    assert_eq!(count.woken(), 1);
    let Waited::Failed(failure) = pair.client.poll_waiting(ticket) else { panic!("its time is over") };
    assert_eq!(*not_executed(&failure), Reason::DeadlineExceeded);
    pair.server.finish(first, b"");
    pair.settle();
    pair.client.reply(first);
    pair.assert_at_rest();
    assert_eq!(pair.server.stats().requests_accepted, 1);
}

#[test]
fn the_time_spent_in_the_queue_is_not_given_to_the_server() {
    let limits = Limits::default().in_flight_per_connection(1);
    let mut pair = Pair::with(limits.clone(), limits);
    let first = pair.client.place(vec![]);
    for call in [timed(pair.client.now, 500 * MS), NewCall { timeout: 500 * MS, ..timed(pair.client.now, 500 * MS) }] {
        let Begun::Queued(_) = pair.client.begin(call, vec![], None) else { panic!("there is one slot") };
    }
    pair.advance(300 * MS);
    pair.server.finish(first, b"");
    pair.settle();
    pair.client.reply(first);
    pair.settle();
    let left = pair.server.requests[0].timeout;
    assert!((200 * MS..=200 * MS + SWEEP).contains(&left), "{left:?}");
}

#[test]
fn a_half_sent_call_whose_deadline_passes_was_not_executed() {
    let mut pair = Pair::new();
    let call = timed(pair.client.now, 50 * MS);
    let id = placed(pair.client.begin(call, bytes(3 * CHUNK, 0), None));
    pair.client.out.room = CHUNK + 100;
    pair.advance(50 * MS);
    assert_eq!(*not_executed(&pair.client.failure(id)), Reason::DeadlineExceeded);
    pair.client.out.room = usize::MAX;
    pair.assert_at_rest();
    assert!(pair.server.requests.is_empty());
}

#[test]
fn a_half_received_request_whose_deadline_passes_is_let_go_of() {
    let mut pair = Pair::new();
    let mut body = call_body(&bytes(2000, 0));
    body[12..16].copy_from_slice(&100u32.to_le_bytes());
    pair.server.receive(&raw(2, 1, 1, &total(4000), &body)).unwrap();
    assert_eq!((pair.server.stats().memory_in, pair.server.share.bytes()), (2000, 4000));
    pair.advance(SWEEP + 10 * MS);
    // FAIL, not executed, deadline exceeded; then the credit.
    assert_eq!((pair.server.stats().memory_in, pair.server.share.bytes()), (0, 0));
    pair.server.receive(&raw(5, 0, 1, &[], &bytes(2000, 0))).unwrap();
    assert_eq!((pair.server.stats().memory_in, pair.server.stats().handlers_in_flight), (0, 0));
    assert!(pair.server.requests.is_empty());
}

#[test]
fn a_large_reply_that_nobody_takes_is_dropped_at_its_deadline() {
    let mut pair = Pair::new();
    let large = placed(pair.client.begin(timed(pair.client.now, 50 * MS), vec![], None));
    let small = placed(pair.client.begin(timed(pair.client.now, 50 * MS), vec![], None));
    pair.settle();
    pair.server.finish(large, &bytes(3 * CHUNK, 0));
    pair.server.finish(small, b"small");
    pair.advance(50 * MS - Duration::from_nanos(1));
    assert_eq!(pair.client.stats().memory_in, 3 * CHUNK as u64);
    pair.advance(Duration::from_nanos(1));
    assert_eq!(pair.client.stats().memory_in, 0);
    assert_eq!(*maybe_executed(&pair.client.failure(large)), Reason::DeadlineExceeded);
    assert_eq!(pair.client.reply(small), b"small");
    pair.assert_at_rest();
}

#[test]
fn a_reply_that_is_half_received_at_the_deadline_comes_too_late() {
    for delivered in 1..=3 {
        let mut pair = Pair::new();
        let id = placed(pair.client.begin(timed(pair.client.now, 50 * MS), vec![], None));
        pair.settle();
        pair.server.finish(id, &bytes(4 * CHUNK, 0));
        pair.flush();
        for _ in 0..delivered {
            pair.client_takes();
        }
        pair.client.now += 50 * MS;
        pair.client.protocol.handle_timeout(pair.client.now, &mut pair.client.effects).unwrap();
        assert_eq!(*maybe_executed(&pair.client.failure(id)), Reason::DeadlineExceeded);
        pair.settle();
        pair.assert_at_rest();
    }
}

#[test]
fn an_outcome_that_is_not_taken_waits_in_its_slot() {
    let mut pair = Pair::new();
    let id = placed(pair.client.begin(timed(pair.client.now, 50 * MS), vec![], None));
    pair.advance(50 * MS);
    pair.server.finish_with(id, Failure::maybe_executed(Reason::Cancelled));
    pair.advance(Duration::from_secs(100));
    assert_eq!(pair.client.stats().calls_in_flight, 1);
    assert_eq!(*maybe_executed(&pair.client.failure(id)), Reason::DeadlineExceeded);
    pair.assert_at_rest();
}

#[test]
fn no_time_left_on_the_wire_is_refused() {
    let mut pair = Pair::new();
    let mut body = call_body(b"");
    body[12..16].copy_from_slice(&[0; 4]);
    pair.server.receive(&raw(2, 0, 1, &[], &body)).unwrap();
    assert_eq!(pair.server.output(), [raw(4, 0, 1, &[], &[0, 2])]);
    assert!(pair.server.requests.is_empty());
}

#[test]
fn the_longest_time_on_the_wire_is_clamped() {
    for (max, expected) in [(Duration::from_secs(60), 60), (Duration::from_secs(24 * 3600), 24 * 3600)] {
        let mut pair = Pair::with(Limits::default(), Limits::default().deadline_max(max));
        let mut body = call_body(b"");
        body[12..16].copy_from_slice(&[0xff; 4]);
        pair.server.receive(&raw(2, 0, 1, &[], &body)).unwrap();
        assert_eq!(pair.server.requests[0].timeout, Duration::from_secs(expected));
        pair.server.timeout();
        pair.advance(SWEEP);
        assert_eq!(pair.server.timeout(), Some(pair.server.now + Duration::from_secs(expected)));
    }
}

#[test]
fn a_handler_that_outlives_its_deadline_is_told_once() {
    let mut pair = Pair::new();
    let mut body = call_body(b"");
    body[12..16].copy_from_slice(&100u32.to_le_bytes());
    pair.server.receive(&raw(2, 0, 1, &[], &body)).unwrap();
    pair.advance(SWEEP + 10 * MS);
    assert_eq!(pair.server.expired, [1]);
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.server.expired, [1]);
    assert_eq!(pair.server.timeout(), None);
}

#[test]
fn a_call_without_memory_to_wait_in_is_woken_at_the_sweeps() {
    let limits = Limits::default().in_flight_per_connection(1).memory_out(100);
    let mut pair = Pair::with(limits.clone(), limits);
    let first = pair.client.place(vec![]);
    let ticket = pair.client.queue(bytes(90, 0));
    let count = Count::new();
    assert!(matches!(pair.client.begin(new_call(), bytes(90, 0), count.waker()), Begun::Starved));
    pair.advance(SWEEP);
    assert_eq!(count.woken(), 1, "its deadline is its own to watch");
    pair.client.abandon_waiting(ticket);
    pair.server.finish(first, b"");
    pair.settle();
    pair.client.reply(first);
    pair.assert_at_rest();
}
