//! Long calls that their callers feed, and short ones beside long ones.

use super::*;

/// A long call whose caller has the payload, with its first frame placed.
fn lent(pair: &mut Pair, payload: &[u8], waker: &mut Option<Waker>) -> u64 {
    let (begun, _) =
        pair.client.protocol.begin(&new_call(), payload.into(), false, &mut None, waker, &mut pair.client.out);
    let Attempt::Lent(id) = begun else { panic!("it is longer than a chunk") };
    id
}

#[test]
fn who_feeds_a_call_is_woken_when_there_is_room_and_holds_up_nobody_meanwhile() {
    let mut pair = Pair::new();
    let payload = bytes(10 * CHUNK, 1);
    let count = Count::new();
    let id = lent(&mut pair, &payload, &mut count.waker());
    let feed = |pair: &mut Pair| {
        let Node { protocol, out, .. } = &mut pair.client;
        protocol.feed(id, payload.as_slice().into(), false, &mut count.new_waker(), out)
    };
    for round in 1..4 {
        let room = std::mem::replace(&mut pair.client.out.room, 0);
        assert_eq!(feed(&mut pair), Fed::Part(round * CHUNK));
        // As often as it likes to be asked, it stands in line once.
        assert_eq!(feed(&mut pair), Fed::Part(round * CHUNK));
        pair.client.out.room = CHUNK + 64;
        let woken = count.woken();
        pair.flush();
        pair.flush();
        assert_eq!(count.woken(), woken + 1);
        // It does not come. Others go on.
        pair.client.out.room = room;
        let other = pair.client.place(bytes(3 * CHUNK, 2));
        let small = pair.client.place(b"small".to_vec());
        pair.settle();
        pair.server.echo_all();
        pair.settle();
        assert_eq!(pair.client.reply(small), b"small");
        assert_eq!(pair.client.reply(other), bytes(3 * CHUNK, 2));
        // It comes.
        pair.client.out.room = CHUNK + 64;
        assert_eq!(feed(&mut pair), Fed::Part((round + 1) * CHUNK));
        pair.flush();
        pair.client.out.room = room;
    }
    assert_eq!(feed(&mut pair), Fed::Over);
    pair.settle();
    pair.server.echo_all();
    pair.settle();
    assert_eq!(pair.client.reply(id), payload);
    pair.assert_at_rest();
}

#[test]
fn a_call_that_nobody_feeds_is_over_when_its_time_is_and_its_credit_is_free() {
    let mut pair = Pair::new();
    let payload = bytes(10 * CHUNK, 1);
    let count = Count::new();
    let id = lent(&mut pair, &payload, &mut count.waker());
    pair.settle();
    assert!(pair.client.protocol.stats().credit_in_use > 0);
    pair.advance(Duration::from_secs(31));
    assert_eq!(*not_executed(&pair.client.failure(id)), Reason::DeadlineExceeded);
    assert_eq!(count.woken(), 1);
    let Node { protocol, out, .. } = &mut pair.client;
    assert_eq!(protocol.feed(id, payload.as_slice().into(), false, &mut count.new_waker(), out), Fed::Over);
    assert!(pair.server.requests.is_empty());
    pair.assert_at_rest();
}

#[test]
fn dropping_a_call_that_is_fed_cuts_it_off() {
    let mut pair = Pair::new();
    let payload = bytes(10 * CHUNK, 1);
    let id = lent(&mut pair, &payload, &mut None);
    pair.settle();
    pair.client.protocol.caller().abandon(id, &mut Vec::new());
    pair.settle();
    assert!(pair.server.requests.is_empty());
    pair.assert_at_rest();
}

#[test]
fn whoever_feeds_last_is_woken() {
    let mut pair = Pair::new();
    let payload = bytes(10 * CHUNK, 1);
    let (first, last) = (Count::new(), Count::new());
    let id = lent(&mut pair, &payload, &mut first.waker());
    assert!(pair.client.protocol.caller().leave(id));
    pair.client.out.room = 0;
    let Node { protocol, out, .. } = &mut pair.client;
    let mut waker = last.new_waker();
    // Asked again with what is left of it, it does not put the first back.
    for _ in 0..2 {
        assert_eq!(protocol.feed(id, payload.as_slice().into(), false, &mut waker, out), Fed::Part(CHUNK));
    }
    pair.advance(Duration::from_secs(31));
    assert_eq!(*not_executed(&pair.client.failure(id)), Reason::DeadlineExceeded);
    assert_eq!((first.woken(), last.woken()), (0, 1));
    pair.client.out.room = usize::MAX;
    pair.settle();
    pair.assert_at_rest();
}

#[test]
fn calls_are_left_with_their_callers_only_as_long_as_others_have_a_quarter_of_the_window() {
    let mut pair = Pair::with(Limits::default(), Limits::default().message_len(8 * CHUNK).memory_in(8 * CHUNK));
    let payload = bytes(3 * CHUNK, 1);
    for _ in 0..2 {
        let id = lent(&mut pair, &payload, &mut None);
        assert!(pair.client.protocol.caller().leave(id));
    }
    let id = lent(&mut pair, &bytes(2 * CHUNK, 1), &mut None);
    assert!(!pair.client.protocol.caller().leave(id));
}

#[test]
fn a_call_that_is_left_with_its_caller_takes_no_memory_and_holds_up_no_short_ones() {
    let limits = Limits::default().memory_out(4 * CHUNK);
    let mut pair = Pair::with(limits, Limits::default().message_len(8 * CHUNK).memory_in(8 * CHUNK));
    let payload = bytes(6 * CHUNK, 1);
    let left = lent(&mut pair, &payload, &mut None);
    assert!(pair.client.protocol.caller().leave(left));
    pair.settle();
    // One waits for its credit, with memory to wait in. Short ones pass it, however many they are.
    pair.client.queue(bytes(3 * CHUNK, 2));
    for round in 0..64 {
        let short = pair.client.place(bytes(CHUNK / 4, round));
        pair.settle();
        pair.server.echo_all();
        pair.settle();
        assert_eq!(pair.client.reply(short), bytes(CHUNK / 4, round));
    }
    pair.client.protocol.caller().abandon(left, &mut Vec::new());
    pair.settle();
    assert_eq!(pair.server.requests.len(), 1);
}

#[test]
fn credit_that_comes_back_while_a_call_is_sent_is_no_harm() {
    let mut pair = Pair::with(Limits::default(), Limits::default().message_len(8 * CHUNK).memory_in(8 * CHUNK));
    let payload = bytes(6 * CHUNK, 1);
    let left = lent(&mut pair, &payload, &mut None);
    assert!(pair.client.protocol.caller().leave(left));
    pair.client.queue(bytes(5 * CHUNK, 2));
    // No honest peer does: for a chunk of a call of which more is to come.
    let credit = [&[1][..], &u64::to_le_bytes(CHUNK as u64)].concat();
    pair.client.receive(&raw(10, 0, 0, &[], &credit)).unwrap();
    for round in 0..64 {
        let short = pair.client.place(bytes(CHUNK / 4, round));
        pair.settle();
        pair.server.echo_all();
        pair.settle();
        assert_eq!(pair.client.reply(short), bytes(CHUNK / 4, round));
    }
}

#[test]
fn long_messages_beside_short_calls_go_no_further_than_they_are_read() {
    const LEN: usize = 3 << 20;
    let mut pair = Pair::new();
    let ahead = |pair: &Pair| pair.server.inbox.iter().map(Vec::len).sum::<usize>();
    // Alone it goes as far as there is room.
    let alone = pair.client.place(bytes(LEN, 1));
    pair.flush();
    assert!(ahead(&pair) > LEN);
    pair.settle();
    pair.server.echo_all();
    pair.settle();
    assert_eq!(pair.client.reply(alone), bytes(LEN, 1));

    // Beside short calls it does not, whichever way it goes.
    let long = pair.client.place(bytes(LEN, 2));
    let short = pair.client.place(b"short".to_vec());
    pair.flush();
    assert!(ahead(&pair) < LEN / 4, "{} bytes", ahead(&pair));
    while pair.server_takes() {}
    pair.flush();
    assert!(ahead(&pair) < LEN / 4, "{} bytes", ahead(&pair));
    pair.settle();
    pair.server.echo_all();
    let back = pair.client.place(b"back".to_vec());
    pair.flush();
    while pair.server_takes() {}
    pair.flush();
    pair.settle();
    pair.server.echo_all();
    pair.settle();
    assert_eq!(pair.client.reply(short), b"short");
    assert_eq!(pair.client.reply(back), b"back");
    assert_eq!(pair.client.reply(long), bytes(LEN, 2));
    pair.assert_at_rest();
}

#[test]
fn items_beside_short_calls_go_no_further_than_they_are_read() {
    const LEN: usize = 3 << 20;
    let limits = || Limits::default().stream_window(LEN);
    let mut pair = Pair::with(limits(), limits());
    let ahead = |pair: &Pair| pair.server.inbox.iter().map(Vec::len).sum::<usize>();
    let streams = StreamCounts { given: 2, returned: 0 };
    let id = placed(pair.client.begin(NewCall { streams, ..new_call() }, vec![], None));
    pair.settle();
    let push = |pair: &mut Pair, id| {
        assert_eq!(pair.client.protocol.push_items(id, &mut vec![7; LEN], &mut None), Pushed::Taken);
        pair.flush();
    };
    // Alone they go as far as there is credit.
    push(&mut pair, id + 2);
    assert!(ahead(&pair) > LEN);
    pair.settle();

    pair.client.place(b"short".to_vec());
    push(&mut pair, id + 4);
    assert!(ahead(&pair) < LEN / 4, "{} bytes", ahead(&pair));
    // A short call that comes now is not behind all of them, and they go on as they are read.
    while pair.server_takes() {}
    pair.flush();
    assert!(ahead(&pair) < LEN / 4, "{} bytes", ahead(&pair));
    pair.settle();
    for stream in [id + 2, id + 4] {
        pair.server.protocol.claim_stream(stream).expect("a stream");
        let mut items = Vec::new();
        let (took, _) = pair.server.protocol.take_items(stream, 0, false, &mut items, &mut None, Instant::now);
        assert!(took == Took::Items { beside: true, missed: 0 } && !items.is_empty());
    }
}

#[test]
fn short_calls_beside_streams_are_forgotten() {
    const LEN: usize = 256 << 10;
    let mut pair = Pair::new();
    let id = placed(pair.client.begin(
        NewCall { streams: StreamCounts { given: 1, returned: 0 }, ..new_call() },
        vec![],
        None,
    ));
    pair.settle();
    pair.server.protocol.claim_stream(id + 2).expect("a stream");
    let take = |pair: &mut Pair| {
        assert_eq!(pair.client.protocol.push_items(id + 2, &mut vec![7; LEN], &mut None), Pushed::Taken);
        pair.settle();
        let (mut taken, mut done, mut beside) = (0, 0, false);
        loop {
            let mut piece = Vec::new();
            let (took, _) = pair.server.protocol.take_items(id + 2, done, false, &mut piece, &mut None, Instant::now);
            done = piece.len() as u64;
            taken += piece.len();
            match took {
                Took::Items { beside: now, .. } => beside = now,
                _ => break,
            }
        }
        assert_eq!(taken, LEN);
        pair.settle();
        beside
    };
    // The call that the stream belongs to is none beside it.
    assert!(!take(&mut pair));
    pair.client.place(b"short".to_vec());
    let remembered = (0..1000).take_while(|_| take(&mut pair)).count();
    assert!((1..1000).contains(&remembered), "{remembered} windows");
}

#[test]
fn a_drain_is_answered_whatever_was_asked_before_and_behind_it() {
    let mut pair = Pair::new();
    // A probe is answered by any frame, so it does not stand in the way of a mark.
    for number in [1 << 63 | 7, u64::MAX, 1 << 63 | 9, 1] {
        pair.server.receive(&raw(11, 0, 0, &[], &u64::to_le_bytes(number))).unwrap();
    }
    let numbers: Vec<Vec<u8>> = pair.server.output().iter().map(|record| record[HEADER_LEN..].to_vec()).collect();
    assert_eq!(numbers, [u64::to_le_bytes(1 << 63 | 9), u64::to_le_bytes(u64::MAX)]);
}
