//! Receivers of streams that take nothing.

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

/// A call with a stream each way; both ends give up after a minute.
fn chat(pair: &mut Pair) -> (u64, u64, u64) {
    let streams = StreamCounts { given: 1, returned: 1 };
    let id = placed(pair.client.begin(NewCall { streams, ..new_call() }, vec![], None));
    pair.settle();
    pair.server.protocol.claim_stream(id + 2).expect("a stream");
    pair.server.protocol.reply(id, None, &mut pair.server.out);
    pair.settle();
    pair.client.reply(id);
    pair.client.protocol.claim_stream(id + 4).expect("a stream");
    (id, id + 2, id + 4)
}

fn pair() -> Pair {
    let limits = Limits::default().stream_window(1024).stream_idle(LIMIT);
    Pair::with(limits.clone(), limits)
}

fn push(node: &mut Node, id: u64, waker: &mut Option<Waker>) -> Pushed {
    node.protocol.push_items(id, &mut vec![7; 800], waker)
}

/// Takes what is there, and says how it ended if it has.
fn take(node: &mut Node, id: u64) -> Option<Result<(), Failure>> {
    let (mut done, now) = (0, node.now);
    loop {
        let mut piece = Vec::new();
        let (took, _) = node.protocol.take_items(id, done, true, &mut piece, &mut None, || now);
        done = piece.len() as u64;
        match took {
            Took::Items { .. } => {}
            Took::Nothing => return None,
            Took::Ended(status) => return Some(status),
        }
    }
}

fn idle() -> Option<Result<(), Failure>> {
    Some(Err(Failure::maybe_executed(Reason::StreamIdle { after: LIMIT })))
}

fn conclude(mut pair: Pair, (id, up, down): (u64, u64, u64)) {
    for (node, stream) in [(&mut pair.server, up), (&mut pair.client, down)] {
        node.protocol.unclaim_stream(stream, &mut Vec::new(), &mut Vec::new());
    }
    pair.client.protocol.end_items(up, Ok(()));
    pair.server.finish(id, b"");
    pair.assert_at_rest();
}

/// What a handler sends ends with the handler, and its receiver hears how.
fn conclude_down(mut pair: Pair, (id, up, down): (u64, u64, u64)) {
    assert_eq!(take(&mut pair.client, down), None);
    pair.server.finish(id, b"");
    pair.settle();
    assert_eq!(take(&mut pair.client, down), idle());
    conclude(pair, (id, up, down));
}

#[test]
fn a_stream_ends_also_where_an_item_was_the_last_that_there_was_credit_for() {
    let mut pair = pair();
    let (id, up, down) = chat(&mut pair);
    // What is due for the call is over.
    pair.advance(SWEEP * 10);
    let woken = Count::new();
    for (len, taken) in [(1024, Pushed::Taken), (800, Pushed::Taken), (800, Pushed::Full)] {
        let pushed = pair.server.protocol.push_items(down, &mut vec![7; len], &mut woken.waker());
        assert_eq!(pushed, taken);
        pair.settle();
    }
    pair.advance(LIMIT + SWEEP * 2);
    assert_eq!(woken.woken(), 1);
    assert_eq!(push(&mut pair.server, down, &mut None), Pushed::Over);
    conclude_down(pair, (id, up, down));
}

#[test]
fn a_stream_of_which_nothing_is_taken_ends() {
    let mut pair = pair();
    let (id, up, down) = chat(&mut pair);
    let woken = Count::new();
    for _ in 0..2 {
        push(&mut pair.client, up, &mut None);
        push(&mut pair.server, down, &mut woken.waker());
        pair.settle();
    }
    assert_eq!(pair.server.stats().memory_in, 1024);
    pair.advance(LIMIT - MS);
    assert_eq!(woken.woken(), 0);
    pair.advance(SWEEP * 2);
    // Whoever makes its items hears of it at once; what was sent can be taken, and then its receiver hears of it.
    assert_eq!(woken.woken(), 1);
    assert_eq!(push(&mut pair.client, up, &mut None), Pushed::Over);
    assert_eq!(take(&mut pair.server, up), idle());
    assert_eq!(push(&mut pair.server, down, &mut None), Pushed::Over);
    conclude_down(pair, (id, up, down));
}

#[test]
fn a_stream_that_is_read_slowly_goes_on() {
    let mut pair = pair();
    let (id, up, down) = chat(&mut pair);
    for _ in 0..20 {
        push(&mut pair.client, up, &mut None);
        push(&mut pair.server, down, &mut None);
        pair.settle();
        pair.advance(LIMIT / 2);
        assert_eq!((take(&mut pair.server, up), take(&mut pair.client, down)), (None, None));
        pair.settle();
    }
    conclude(pair, (id, up, down));
}

#[test]
fn a_stream_without_items_may_be_quiet_for_ever() {
    let mut pair = pair();
    let streams = chat(&mut pair);
    let (_, up, down) = streams;
    push(&mut pair.client, up, &mut None);
    pair.settle();
    // Its receiver has room for more, whether it takes anything or not.
    pair.advance(LIMIT * 10);
    assert_eq!((take(&mut pair.server, up), take(&mut pair.client, down)), (None, None));
    assert_eq!(push(&mut pair.client, up, &mut None), Pushed::Taken);
    conclude(pair, streams);
}

#[test]
fn who_waits_for_credit_is_not_looked_at_again_and_again() {
    let mut pair = pair();
    let streams = chat(&mut pair);
    for _ in 0..2 {
        push(&mut pair.server, streams.2, &mut None);
        pair.settle();
    }
    pair.advance(SWEEP * 5);
    let next = pair.server.timeout().expect("the end of its time") - pair.server.now;
    assert!(next > Duration::from_secs(20), "{next:?}");
    conclude(pair, streams);
}

#[test]
fn an_item_that_waits_for_the_one_before_has_the_same_time() {
    let mut pair = pair();
    let (id, up, down) = chat(&mut pair);
    for pushed in [Pushed::Taken, Pushed::Full] {
        assert_eq!(pair.server.protocol.prepare_items(down, true, 0, 0, &mut None), pushed);
        pair.server.protocol.push_items(down, &mut vec![7; 10], &mut None);
        pair.settle();
    }
    pair.advance(LIMIT + SWEEP * 2);
    assert_eq!(push(&mut pair.server, down, &mut None), Pushed::Over);
    pair.server.finish(id, b"");
    pair.settle();
    assert_eq!(take(&mut pair.client, down), idle());
    conclude(pair, (id, up, down));
}
