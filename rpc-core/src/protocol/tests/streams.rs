//! Streams: items both ways, credit, and every order in which their ends can cross.

use super::*;
use crate::frame::flags;
use crate::limits::Limit;
use crate::protocol::stream::RESERVE;

pub(super) const CHAT: StreamCounts = StreamCounts { given: 1, returned: 1 };
pub(super) const UPLOAD: StreamCounts = StreamCounts { given: 1, returned: 0 };
pub(super) const WATCH: StreamCounts = StreamCounts { given: 0, returned: 1 };

/// What a receiver has taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Bytes(Vec<u8>),
    Nothing,
    End,
    Failed(Reason),
}

impl Node {
    pub(super) fn open(&mut self, streams: StreamCounts) -> u64 {
        placed(self.begin(NewCall { streams, ..new_call() }, vec![], None))
    }

    pub(super) fn push(&mut self, id: u64, items: &[u8]) -> Pushed {
        let pushed = self.protocol.push_items(id, &mut items.to_vec(), &mut None);
        self.protocol.transmit(&mut self.out, &mut self.effects.wakers);
        pushed
    }

    pub(super) fn end_items(&mut self, id: u64) {
        self.protocol.end_items(id, Ok(()));
    }

    pub(super) fn claim(&mut self, id: u64) {
        self.protocol.claim_stream(id).expect("a stream");
    }

    /// Takes what is there and lets go of it.
    pub(super) fn take_items(&mut self, id: u64) -> Got {
        let (mut bytes, mut done, now) = (Vec::new(), 0, self.now);
        loop {
            let mut piece = Vec::new();
            let (took, _) = self.protocol.take_items(id, done, false, &mut piece, &mut None, || now);
            done = piece.len() as u64;
            match took {
                Took::Items { .. } => bytes.append(&mut piece),
                _ if !bytes.is_empty() => return Got::Bytes(bytes),
                Took::Nothing => return Got::Nothing,
                Took::Ended(Ok(())) => return Got::End,
                Took::Ended(Err(failure)) => return Got::Failed(failure.reason),
            }
        }
    }

    pub(super) fn unclaim(&mut self, id: u64) {
        let mut wakers = Vec::new();
        self.protocol.unclaim_stream(id, &mut Vec::new(), &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The handler says what it returns, and goes on to send items.
    pub(super) fn reply_early(&mut self, id: u64) {
        self.protocol.reply(id, None, &mut self.out);
    }

    pub(super) fn wants(&mut self, id: u64) -> bool {
        self.protocol.watch_stream(id, &mut None)
    }
}

pub(super) fn small(window: usize) -> Limits {
    Limits::default().stream_window(window)
}

/// A chat whose server has replied: the ids of the call, of what the client says and of what the server says.
fn chat(pair: &mut Pair) -> (u64, u64, u64) {
    let id = pair.client.open(CHAT);
    pair.settle();
    pair.server.claim(id + 2);
    pair.server.reply_early(id);
    pair.settle();
    assert_eq!(pair.client.reply(id), b"");
    pair.client.claim(id + 4);
    (id, id + 2, id + 4)
}

#[test]
fn items_go_both_ways_and_the_call_lasts_as_long_as_they_do() {
    let mut pair = Pair::new();
    let (id, up, down) = chat(&mut pair);
    assert_eq!(pair.client.push(up, b"hello"), Pushed::Taken);
    assert_eq!(pair.server.push(down, b"world"), Pushed::Taken);
    pair.settle();
    assert_eq!(pair.server.take_items(up), Got::Bytes(b"hello".to_vec()));
    assert_eq!(pair.client.take_items(down), Got::Bytes(b"world".to_vec()));
    assert_eq!(pair.client.take_items(down), Got::Nothing);
    let in_flight = |pair: &mut Pair| (pair.client.stats().calls_in_flight, pair.server.stats().handlers_in_flight);
    pair.client.end_items(up);
    pair.settle();
    assert_eq!(pair.server.take_items(up), Got::End);
    pair.server.unclaim(up);
    assert_eq!(in_flight(&mut pair), (1, 1));
    pair.server.finish(id, b"");
    pair.settle();
    assert_eq!(in_flight(&mut pair), (0, 0));
    assert_eq!(pair.client.take_items(down), Got::End);
    pair.client.unclaim(down);
    pair.assert_at_rest();
}

#[test]
fn a_call_that_is_dropped_after_its_stream_has_ended_leaves_nothing() {
    for lost in [false, true] {
        let mut pair = Pair::new();
        let id = pair.client.open(WATCH);
        pair.settle();
        pair.server.reply_early(id);
        assert_eq!(pair.server.push(id + 2, b"all of it"), Pushed::Taken);
        pair.server.finish(id, b"");
        pair.settle();
        if lost {
            pair.client.protocol.end(ConnectionError::PeerGone, u64::MAX, &mut Vec::new());
        }
        assert_eq!(pair.client.stats().streams_open, 1);
        // The reply and the stream are there, and nobody comes for them.
        pair.client.protocol.abandon(id, &mut Vec::new(), &mut Vec::new());
        assert_eq!(pair.client.stats().streams_open, 0);
        if !lost {
            pair.settle();
            pair.assert_at_rest();
        }
    }
}

#[test]
fn a_call_that_is_dropped_before_it_knows_that_it_was_placed_leaves_nothing() {
    for (ended, lost) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut pair = Pair::with(Limits::default(), Limits::default().in_flight_per_connection(1));
        let first = pair.client.place(vec![]);
        let call = NewCall { streams: WATCH, ..new_call() };
        let Begun::Queued(ticket) = pair.client.begin(call, vec![], None) else { panic!("there is one slot") };
        pair.settle();
        pair.server.finish(first, b"");
        pair.settle();
        assert_eq!(pair.client.reply(first), b"");
        pair.settle();
        // It has been placed, and is answered; nobody has asked for it since.
        let id = pair.server.requests[0].id;
        pair.server.reply_early(id);
        assert_eq!(pair.server.push(id + 2, b"some of it"), Pushed::Taken);
        if ended {
            pair.server.finish(id, b"");
        }
        pair.settle();
        assert_eq!(pair.client.stats().streams_open, 1);
        if lost {
            pair.client.protocol.end(ConnectionError::PeerGone, u64::MAX, &mut Vec::new());
        }
        pair.client.abandon_waiting(ticket);
        if lost {
            assert_eq!(pair.client.stats().streams_open, 0);
            continue;
        }
        pair.settle();
        if !ended {
            assert_eq!(pair.server.cancelled, [id]);
            pair.server.finish(id, b"");
            pair.settle();
        }
        pair.assert_at_rest();
    }
}

#[test]
fn no_call_passes_the_cancel_of_the_one_whose_place_it_takes() {
    let limits = Limits::default().in_flight_per_connection(1);
    let mut pair = Pair::with(limits.clone(), limits);
    let id = pair.client.open(UPLOAD);
    pair.settle();
    pair.server.finish(id, b"early");
    pair.flush();
    assert!(pair.client_takes());
    // The reply is in, and STOP is not: the stream goes on, and the call is dropped where there is no room to say so.
    let up = id + 2;
    assert_eq!(pair.client.reply(id), b"early");
    pair.client.out.room = 0;
    pair.client.abandon(id);
    pair.client.output();
    pair.client.out.room = usize::MAX;
    let next = pair.client.queue(vec![]);
    let frames = pair.client.output();
    let kinds: Vec<_> = frames.iter().map(|frame| kind_and_id(frame).0).collect();
    assert_eq!(kinds, [Kind::Cancel, Kind::Call]);
    pair.server.inbox.extend(frames);
    pair.settle();
    let Waited::Placed(next) = pair.client.poll_waiting(next) else { panic!("its turn") };
    assert_eq!(next, up + 2);
    pair.server.finish(next, b"");
    pair.settle();
    pair.client.reply(next);
    pair.assert_at_rest();
}

#[test]
fn a_reply_that_is_too_long_ends_the_streams_of_its_call() {
    let mut pair = Pair::with(Limits::default().message_len(4 * CHUNK), Limits::default());
    let id = pair.client.open(UPLOAD);
    let up = id + 2;
    pair.settle();
    pair.server.claim(up);
    pair.server.finish(id, &bytes(5 * CHUNK, 1));
    pair.settle();
    assert!(matches!(pair.client.failure(id).reason, Reason::TooLarge { .. }));
    assert_eq!(pair.client.push(up, b"more"), Pushed::Over);
    assert_eq!(pair.server.take_items(up), Got::Failed(Reason::Cancelled));
    pair.server.unclaim(up);
    pair.settle();
    pair.assert_at_rest();
}

#[test]
fn the_first_items_need_no_round_trip_and_may_come_before_the_reply() {
    let mut pair = Pair::new();
    let id = pair.client.open(CHAT);
    pair.client.push(id + 2, b"at once");
    pair.flush();
    assert_eq!(pair.server.coming(), [(Kind::Call, id), (Kind::Item, id + 2)]);
    pair.settle();
    pair.server.claim(id + 2);
    assert_eq!(pair.server.take_items(id + 2), Got::Bytes(b"at once".to_vec()));
    pair.server.push(id + 4, b"early");
    pair.settle();
    assert!(pair.client.poll(id).is_none());
    pair.server.reply_early(id);
    pair.settle();
    pair.client.reply(id);
    pair.client.claim(id + 4);
    assert_eq!(pair.client.take_items(id + 4), Got::Bytes(b"early".to_vec()));
    pair.server.unclaim(id + 2);
    pair.server.finish(id, b"");
    pair.settle();
    pair.client.unclaim(id + 4);
    pair.assert_at_rest();
}

#[test]
fn a_call_with_streams_takes_their_ids_and_the_next_call_the_one_after() {
    let mut pair = Pair::new();
    let first = pair.client.open(StreamCounts { given: 3, returned: 2 });
    let second = pair.client.place(vec![]);
    assert_eq!((first, second), (1, 13));
    pair.settle();
    assert_eq!(pair.server.requests.iter().map(|request| request.id).collect::<Vec<_>>(), [1, 13]);
    assert_eq!(pair.server.requests[0].streams, StreamCounts { given: 3, returned: 2 });
    pair.server.finish(first, b"");
    pair.server.finish(second, b"");
    pair.settle();
    // Its own streams were not taken by anybody, so it is stopped; it ends them.
    (3..=7).step_by(2).for_each(|stream| assert!(!pair.client.wants(stream)));
    pair.client.reply(first);
    pair.client.reply(second);
    (9..=11).step_by(2).for_each(|stream| pair.client.unclaim(stream));
    pair.assert_at_rest();
}

#[test]
fn a_slow_reader_holds_no_more_than_its_window() {
    let mut pair = Pair::with(small(1024), small(1024));
    let (id, up, down) = chat(&mut pair);
    assert_eq!(pair.client.push(up, &[7; 2500]), Pushed::Taken);
    assert_eq!(pair.client.push(up, b"more"), Pushed::Full);
    pair.settle();
    // With what is left at the source.
    assert_eq!((pair.client.stats().memory_out, pair.server.stats().memory_in), (1476 + 4, 1024));
    let mut got = 0;
    while got < 2500 {
        let Got::Bytes(bytes) = pair.server.take_items(up) else { panic!("{got}") };
        assert!(bytes.len() <= 1024);
        got += bytes.len();
        pair.settle();
    }
    assert_eq!(pair.client.push(up, b"more"), Pushed::Taken);
    // The other direction has credit of its own.
    assert_eq!(pair.server.push(down, &[7; 1000]), Pushed::Taken);
    assert_eq!(pair.server.stats().memory_out, 0);
    pair.settle();
    pair.client.end_items(up);
    pair.server.unclaim(up);
    pair.server.finish(id, b"");
    pair.settle();
    pair.client.unclaim(down);
    pair.assert_at_rest();
}

#[test]
fn whoever_waits_for_credit_is_woken_by_it() {
    let mut pair = Pair::with(small(1024), small(1024));
    let (_, up, _) = chat(&mut pair);
    pair.client.push(up, &[7; 1200]);
    let woken = Count::new();
    assert_eq!(pair.client.protocol.push_items(up, &mut vec![1], &mut woken.waker()), Pushed::Full);
    pair.settle();
    assert_eq!(woken.woken(), 0);
    pair.server.take_items(up);
    pair.settle();
    assert_eq!(woken.woken(), 1);
}

#[test]
fn all_streams_together_have_a_window() {
    let limits = Limits::default().message_len(1000).memory_in(150_000).stream_window(100_000);
    let mut pair = Pair::with(limits.clone(), limits);
    let calls: Vec<u64> = (0..3).map(|_| pair.client.open(UPLOAD)).collect();
    for id in &calls {
        pair.client.push(id + 2, &[7; 100_000]);
    }
    pair.settle();
    let most = 150_000 + 3 * RESERVE;
    assert_eq!((pair.client.stats().memory_out, pair.server.stats().memory_in), (300_000 - most, most));
    // What is dropped gives its credit back, and whoever waits for it goes on.
    pair.server.finish(calls[0], b"");
    pair.settle();
    assert_eq!(
        (pair.client.stats().memory_out, pair.server.stats().memory_in),
        (200_000 - (most - RESERVE), most - RESERVE)
    );
    for id in &calls[1..] {
        pair.server.finish(*id, b"");
    }
    pair.settle();
    for id in calls {
        pair.client.reply(id);
    }
    pair.assert_at_rest();
}

#[test]
fn halves_of_items_do_not_hold_the_window_of_all_streams() {
    let limits = Limits::default().message_len(1000).memory_in(150_000).stream_window(100_000);
    let mut pair = Pair::with(limits.clone(), limits);
    let calls = [0; 2].map(|_| pair.client.open(UPLOAD));
    pair.settle();
    for id in calls {
        pair.server.claim(id + 2);
        pair.client.push(id + 2, &[7; 100_000]);
    }
    pair.settle();
    assert_eq!(pair.client.stats().memory_out, 50_000 - 2 * RESERVE);
    // Each receiver has a part of an item, and is not done with it.
    let mut parts = [0, 0];
    for _ in 0..4 {
        for (id, part) in calls.iter().zip(&mut parts) {
            let mut buffer = Vec::new();
            pair.server.protocol.take_items(id + 2, 0, true, &mut buffer, &mut None, Instant::now);
            *part += buffer.len();
        }
        pair.settle();
    }
    assert_eq!(parts, [100_000, 100_000]);
    assert_eq!(pair.server.stats().memory_in, 200_000);
    for id in calls {
        pair.server.unclaim(id + 2);
        pair.server.finish(id, b"");
        pair.settle();
        pair.client.reply(id);
    }
    pair.assert_at_rest();
}

#[test]
fn streams_that_nobody_reads_do_not_stop_the_others() {
    let limits = Limits::default().message_len(1000).memory_in(100_000).stream_window(100_000);
    let mut pair = Pair::with(limits.clone(), limits);
    let calls = [0; 3].map(|_| pair.client.open(UPLOAD));
    pair.settle();
    let [unread, .., read] = calls;
    for id in calls {
        pair.server.claim(id + 2);
    }
    // The first has the window of all, and keeps it.
    assert_eq!(pair.client.push(unread + 2, &[7; 100_000]), Pushed::Taken);
    pair.settle();
    pair.client.push(calls[1] + 2, &[7; 100_000]);
    pair.settle();
    assert!(pair.client.stats().credit_in_use > 99_000);
    // An item that is longer than what each has without.
    assert_eq!(pair.client.push(read + 2, &[8; 90_000]), Pushed::Taken);
    let mut got = 0;
    for round in 0.. {
        assert!(round < 20, "{got} bytes");
        pair.settle();
        match pair.server.take_items(read + 2) {
            Got::Bytes(bytes) => got += bytes.len(),
            other => panic!("{other:?} after {got} bytes"),
        }
        if got == 90_000 {
            break;
        }
    }
    // As soon as there is room again, it is everybody's.
    pair.server.take_items(unread + 2);
    pair.settle();
    assert_eq!(pair.client.stats().memory_out, 0);
    for id in calls {
        pair.server.unclaim(id + 2);
        pair.server.finish(id, b"");
        pair.settle();
        pair.client.reply(id);
    }
    pair.assert_at_rest();
}

#[test]
fn an_item_goes_when_the_one_before_was_taken_where_its_sender_wants_that() {
    let mut pair = Pair::new();
    let (id, up, down) = chat(&mut pair);
    let woken = Count::new();
    let prepare =
        |pair: &mut Pair, missed| pair.server.protocol.prepare_items(down, true, missed, 0, &mut woken.waker());
    for (round, missed) in [0, 0, 3, 3, 9].into_iter().enumerate() {
        assert_eq!(prepare(&mut pair, missed), Pushed::Taken);
        pair.server.push(down, &[round as u8; 10]);
        assert_eq!(prepare(&mut pair, missed), Pushed::Full);
        pair.settle();
        assert_eq!(prepare(&mut pair, missed), Pushed::Full);
        let mut piece = Vec::new();
        let now = pair.client.now;
        let (took, _) = pair.client.protocol.take_items(down, 0, false, &mut piece, &mut None, || now);
        assert_eq!((took, piece), (Took::Items { beside: false, missed }, vec![round as u8; 10]));
        // Who has taken it may still be at it, and is to have what is newest after that.
        pair.settle();
        assert_eq!((prepare(&mut pair, missed), woken.woken()), (Pushed::Full, round));
        let (took, _) = pair.client.protocol.take_items(down, 10, false, &mut Vec::new(), &mut None, || now);
        assert_eq!(took, Took::Nothing);
        pair.settle();
        assert_eq!(woken.woken(), round + 1);
    }
    pair.server.unclaim(up);
    pair.server.finish(id, b"");
    assert_eq!(prepare(&mut pair, 9), Pushed::Over);
    pair.settle();
    pair.client.unclaim(down);
    pair.assert_at_rest();
}

#[test]
fn the_number_of_items_missed_stands_on_the_frame_behind_them() {
    let mut pair = Pair::with(small(1024), small(1024));
    let (.., down) = chat(&mut pair);
    for missed in [0, 2] {
        pair.server.protocol.prepare_items(down, false, missed, 0, &mut None);
        pair.server.push(down, &[7; 600]);
        pair.settle();
    }
    // The first and a part of the second: of the rest nothing is said.
    let mut piece = Vec::new();
    let mut take = |pair: &mut Pair, done| {
        piece.clear();
        let now = pair.client.now;
        let (took, _) = pair.client.protocol.take_items(down, done, true, &mut piece, &mut None, || now);
        pair.settle();
        (took, piece.len())
    };
    assert_eq!(take(&mut pair, 0), (Took::Items { beside: false, missed: 0 }, 600));
    assert_eq!(take(&mut pair, 600), (Took::Items { beside: false, missed: 2 }, 424));
    assert_eq!(take(&mut pair, 424), (Took::Items { beside: false, missed: 2 }, 176));
    violation(pair.client.receive(&raw(7, 0, down, &[0x14, 0, 2, 0, 1, 1], b"x")));
}

#[test]
fn what_is_kept_for_a_slow_reader_is_no_more_than_either_side_says() {
    let mut pair = Pair::with(small(2000), small(3000));
    assert_eq!((pair.client.protocol.item_max(), pair.server.protocol.item_max()), (3000, 2000));
    assert_eq!((pair.client.protocol.backlog_max(), pair.server.protocol.backlog_max()), (2000, 2000));
    // However much a peer announces.
    pair.server.protocol.stream_config.window_out = u64::MAX;
    assert_eq!(pair.server.protocol.backlog_max(), 3000);
}

#[test]
fn whoever_has_a_stream_of_a_call_that_fails_is_woken() {
    let mut pair = Pair::new();
    let id = pair.client.open(UPLOAD);
    pair.settle();
    pair.server.claim(id + 2);
    let woken = Count::new();
    pair.server.protocol.take_items(id + 2, 0, false, &mut Vec::new(), &mut woken.waker(), Instant::now);
    pair.server.finish_with(id, Failure::maybe_executed(Reason::Panicked));
    pair.settle();
    assert_eq!(woken.woken(), 1);
    assert_eq!(pair.server.take_items(id + 2), Got::Failed(Reason::Cancelled));
    pair.server.unclaim(id + 2);
    pair.client.failure(id);
    pair.assert_at_rest();
}

#[test]
fn little_credit_leaves_with_the_next_sweep_and_at_once_where_an_item_is_cut() {
    let mut pair = Pair::new();
    let (_, up, _) = chat(&mut pair);
    pair.client.push(up, &[7; RESERVE as usize + 100]);
    pair.settle();
    pair.server.take_items(up);
    pair.settle();
    assert_eq!(pair.client.stats().credit_in_use, 100);
    pair.advance(SWEEP * 2);
    assert_eq!((pair.client.stats().credit_in_use, pair.server.stats().credit_owed), (0, 0));
    pair.client.push(up, &[7; 100]);
    pair.settle();
    pair.server.take_items(up);
    pair.server.protocol.take_items(up, 0, true, &mut Vec::new(), &mut None, Instant::now);
    pair.flush();
    assert_eq!(pair.client.coming(), [(Kind::Credit, up)]);
}

#[test]
fn a_stream_does_not_hold_up_calls_nor_they_it() {
    let mut pair = Pair::new();
    let (_, up, _) = chat(&mut pair);
    pair.client.out.room = 0;
    pair.client.push(up, &[7; 5 * CHUNK]);
    pair.client.queue(vec![1]);
    let mut kinds = Vec::new();
    for _ in 0..12 {
        pair.client.out.room = CHUNK + 100;
        kinds.extend(pair.client.output().iter().map(|frame| kind_and_id(frame).0));
    }
    let call = kinds.iter().position(|kind| *kind == Kind::Call).unwrap();
    assert!(call < 3, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Item).count(), 5);
}

#[test]
fn a_receiver_that_stops_is_heard_and_the_call_ends_all_the_same() {
    let mut pair = Pair::new();
    let id = pair.client.open(UPLOAD);
    pair.client.push(id + 2, &[7; 3000]);
    pair.settle();
    pair.server.claim(id + 2);
    pair.server.take_items(id + 2);
    pair.server.unclaim(id + 2);
    assert!(pair.client.wants(id + 2));
    // It crosses more items.
    pair.client.push(id + 2, &[8; 3000]);
    pair.settle();
    assert!(!pair.client.wants(id + 2));
    assert_eq!(pair.client.push(id + 2, b"x"), Pushed::Over);
    pair.server.finish(id, b"enough");
    pair.settle();
    assert_eq!(pair.client.reply(id), b"enough");
    pair.assert_at_rest();
}

#[test]
fn cancelling_a_call_ends_what_it_sends_and_its_handler_what_it_receives() {
    let mut pair = Pair::new();
    let (id, up, down) = chat(&mut pair);
    pair.server.push(down, b"lost");
    pair.client.push(up, b"lost too");
    pair.settle();
    pair.client.unclaim(down);
    assert!(!pair.client.wants(up));
    pair.settle();
    assert_eq!(pair.server.cancelled, [id]);
    assert!(!pair.server.wants(down));
    assert_eq!(pair.server.take_items(up), Got::Failed(Reason::Cancelled));
    // Its place is taken until the handler is gone.
    assert_eq!(pair.client.stats().calls_in_flight, 1);
    pair.server.unclaim(up);
    pair.server.finish_with(id, Failure::maybe_executed(Reason::Cancelled));
    pair.assert_at_rest();
}

#[test]
fn a_handler_that_fails_amid_its_items_says_so_at_their_end() {
    let mut pair = Pair::new();
    let (id, up, down) = chat(&mut pair);
    pair.server.push(down, b"first");
    pair.server.unclaim(up);
    pair.server.finish_with(id, Failure::maybe_executed(Reason::Panicked));
    pair.settle();
    assert_eq!(pair.client.take_items(down), Got::Bytes(b"first".to_vec()));
    assert_eq!(pair.client.take_items(down), Got::Failed(Reason::Panicked));
    pair.client.unclaim(down);
    pair.assert_at_rest();
}

#[test]
fn a_failure_ends_all_streams_of_its_call() {
    for early in [false, true] {
        let mut pair = Pair::new();
        let id = pair.client.open(CHAT);
        pair.client.push(id + 2, &[7; 100]);
        if early {
            pair.settle();
        }
        pair.settle();
        pair.server.claim(id + 2);
        pair.server.finish_with(id, Failure::not_executed(Reason::PermissionDenied));
        pair.client.push(id + 2, b"crosses");
        pair.settle();
        assert!(!pair.client.wants(id + 2));
        assert_eq!(*not_executed(&pair.client.failure(id)), Reason::PermissionDenied);
        assert_eq!(pair.server.take_items(id + 2), Got::Failed(Reason::Cancelled));
        pair.server.unclaim(id + 2);
        pair.assert_at_rest();
    }
}

#[test]
fn a_refused_call_leaves_nothing() {
    let mut pair = Pair::with(Limits::default(), Limits::default().in_flight_per_connection(1));
    pair.server.receive(&raw(2, 0, 1, &[2, 0x80, 2, 0, 1, 1], &call_body(b"x"))).unwrap();
    pair.server.receive(&raw(2, 0, 7, &[2, 0x80, 2, 0, 1, 1], &call_body(b"x"))).unwrap();
    pair.server.receive(&raw(7, 0, 9, &[], &[7; 1000])).unwrap();
    pair.server.receive(&raw(8, 0, 9, &[], &[])).unwrap();
    assert_eq!(pair.server.stats().credit_owed, 1001);
    assert_eq!(pair.server.stats().streams_open, 2);
}

#[test]
fn too_many_streams_are_refused() {
    let mut pair = Pair::new();
    let id = pair.client.open(StreamCounts { given: 16, returned: 1 });
    pair.settle();
    let reason = Reason::Overloaded { limit: Limit::StreamsPerCall };
    assert_eq!(*not_executed(&pair.client.failure(id)), reason);
    pair.assert_at_rest();
}

#[test]
fn streams_to_a_peer_that_knows_none_are_not_begun() {
    let mut pair = Pair::new();
    pair.client.protocol.stream_config.window_out = 0;
    let begun = pair.client.begin(NewCall { streams: WATCH, ..new_call() }, vec![], None);
    let Begun::Failed(reason) = begun else { panic!("{begun:?}") };
    assert_eq!(*reason, Reason::UnknownExtension(tag::STREAMS));
    pair.assert_at_rest();
}

#[test]
fn what_streams_to_a_server_may_hold_counts_in_its_memory() {
    let limits = Limits::default().memory_total(2500).stream_window(1024);
    let mut pair = Pair::with(Limits::default(), limits);
    let calls = [0; 3].map(|_| pair.client.open(UPLOAD));
    pair.settle();
    let reason = Reason::Overloaded { limit: Limit::MemoryTotal };
    assert_eq!(*not_executed(&pair.client.failure(calls[2])), reason);
    for id in &calls[..2] {
        pair.server.finish(*id, b"");
        pair.settle();
        pair.client.reply(*id);
    }
    pair.assert_at_rest();
}

#[test]
fn streams_outlive_the_deadline_of_their_call() {
    let mut pair = Pair::new();
    let call = NewCall { streams: WATCH, ..timed(pair.client.now, MS * 50) };
    let id = placed(pair.client.begin(call, vec![], None));
    pair.settle();
    pair.server.reply_early(id);
    pair.settle();
    pair.client.reply(id);
    pair.client.claim(id + 2);
    pair.advance(Duration::from_secs(60));
    assert_eq!((pair.server.expired.len(), pair.server.cancelled.len()), (0, 0));
    pair.server.push(id + 2, b"late");
    pair.settle();
    assert_eq!(pair.client.take_items(id + 2), Got::Bytes(b"late".to_vec()));
    pair.server.finish(id, b"");
    pair.settle();
    pair.client.unclaim(id + 2);
    pair.assert_at_rest();
}

#[test]
fn a_deadline_before_the_reply_ends_the_streams() {
    let mut pair = Pair::new();
    let call = NewCall { streams: CHAT, ..timed(pair.client.now, MS * 50) };
    let id = placed(pair.client.begin(call, vec![], None));
    pair.settle();
    pair.client.push(id + 2, b"hello");
    pair.advance(MS * 100);
    assert!(!pair.client.wants(id + 2));
    pair.server.finish_with(id, Failure::maybe_executed(Reason::DeadlineExceeded));
    pair.settle();
    pair.client.failure(id);
    pair.assert_at_rest();
}

#[test]
fn a_drain_waits_for_streams() {
    let mut pair = Pair::new();
    let (id, up, down) = chat(&mut pair);
    pair.server.protocol.drain(pair.server.now);
    pair.settle();
    pair.advance(Duration::from_secs(2));
    assert!(!pair.server.protocol.drained());
    pair.server.push(down, b"bye");
    pair.server.unclaim(up);
    pair.server.finish(id, b"");
    pair.settle();
    assert!(pair.server.protocol.drained());
    assert_eq!(pair.client.take_items(down), Got::Bytes(b"bye".to_vec()));
    pair.client.unclaim(down);
    pair.assert_at_rest();
}

#[test]
fn the_end_of_the_connection_is_the_end_of_its_streams() {
    let mut pair = Pair::new();
    let (id, up, down) = chat(&mut pair);
    pair.server.push(down, b"it came");
    pair.settle();
    pair.client.end(ConnectionError::PeerGone, u64::MAX);
    pair.server.end(ConnectionError::PeerGone, u64::MAX);
    let lost = || Got::Failed(Reason::ConnectionLost(ConnectionError::PeerGone));
    assert_eq!(pair.client.take_items(down), Got::Bytes(b"it came".to_vec()));
    assert_eq!(pair.client.take_items(down), lost());
    assert_eq!(pair.server.take_items(up), lost());
    assert_eq!(pair.client.push(up, b"x"), Pushed::Over);
    pair.client.unclaim(down);
    pair.server.unclaim(up);
    // The handler keeps its place in the server until it is gone.
    assert_eq!(pair.server.share.calls(), 1);
    pair.server.finish(id, b"");
    assert_eq!((pair.server.share.calls(), pair.server.share.bytes()), (0, 0));
    assert!(pair.client.stats().is_at_rest() && pair.server.stats().is_at_rest());
}

#[test]
fn calls_with_streams_count_as_long_as_they_last() {
    let limits = Limits::default().in_flight_per_connection(2);
    let mut pair = Pair::with(limits.clone(), limits);
    let (first, up, down) = chat(&mut pair);
    let second = pair.client.open(UPLOAD);
    let third = pair.client.queue(vec![]);
    pair.settle();
    pair.server.finish(second, b"");
    pair.settle();
    pair.client.reply(second);
    pair.settle();
    let Waited::Placed(third) = pair.client.poll_waiting(third) else { panic!("its turn") };
    let fourth = pair.client.queue(vec![]);
    pair.settle();
    pair.server.unclaim(up);
    pair.server.finish(first, b"");
    pair.settle();
    let Waited::Placed(fourth) = pair.client.poll_waiting(fourth) else { panic!("its turn") };
    pair.settle();
    for id in [third, fourth] {
        pair.server.finish(id, b"");
        pair.settle();
        pair.client.reply(id);
    }
    pair.client.unclaim(down);
    assert_eq!(pair.server.stats().requests_refused, 0);
    pair.assert_at_rest();
}

#[test]
fn what_no_honest_peer_sends_closes() {
    for kind in [7, 8, 9] {
        for id in [0, 7, 100] {
            let mut pair = Pair::new();
            let (_, up, _) = chat(&mut pair);
            assert_eq!(up, 3);
            let error = violation(pair.server.receive(&raw(kind, 0, id, &[], &[])));
            assert_eq!(error, ProtocolError::UnknownStream(id));
        }
    }
    let mut pair = Pair::with(Limits::default(), small(1024));
    let (_, up, _) = chat(&mut pair);
    pair.server.receive(&raw(7, 0, up, &[], &[7; 1024])).unwrap();
    let error = violation(pair.server.receive(&raw(7, 0, up, &[], &[7])));
    assert_eq!(error, ProtocolError::CreditOverrun { over: 1 });
    // Of those bytes that do not count in the window of all, more than a stream may have.
    let mut pair = Pair::new();
    let (_, up, down) = chat(&mut pair);
    pair.server.receive(&raw(7, flags::FREE, up, &[], &[7; RESERVE as usize])).unwrap();
    let error = violation(pair.server.receive(&raw(7, flags::FREE, up, &[], &[7])));
    assert_eq!(error, ProtocolError::CreditOverrun { over: 1 });
    // Of a stream that is over they are nobody's.
    for _ in 0..4 {
        pair.server.receive(&raw(7, flags::FREE, 1, &[], &[7; RESERVE as usize])).unwrap();
    }
    assert_eq!(pair.server.stats().credit_owed, 0);
    // Windows that cannot grow, or not so much.
    for (id, bytes) in [(0, 1), (down, u64::MAX), (down, 1 << 48)] {
        let body = [&[4][..], &u64::to_le_bytes(bytes)].concat();
        violation(pair.server.receive(&raw(10, 0, id, &[], &body)));
    }
    pair.server.receive(&raw(10, 0, 1, &[], &[4, 1, 0, 0, 0, 0, 0, 0, 0])).unwrap();
    // Credit for what was not sent.
    let mut credit = vec![3];
    credit.extend(1u64.to_le_bytes());
    assert_eq!(violation(pair.server.receive(&raw(10, 0, down, &[], &credit))), ProtocolError::CreditOverflow);
    assert_eq!(violation(pair.server.receive(&raw(10, 0, 0, &[], &credit))), ProtocolError::CreditOverflow);
    // An END that ends too early, and a number of streams that does.
    violation(pair.server.receive(&raw(8, 0, up, &[], &[1])));
    violation(pair.server.receive(&raw(2, 0, 99, &[2, 0x80, 1, 0, 1], &call_body(b"x"))));
    violation(pair.server.receive(&raw(2, 0, u64::MAX - 2, &[2, 0x80, 2, 0, 9, 9], &call_body(b"x"))));
}

#[test]
fn items_of_streams_that_are_over_are_credited_up_to_the_window_of_all() {
    let limits = Limits::default().message_len(1000).memory_in(3000).stream_window(1024);
    let mut pair = Pair::with(Limits::default(), limits);
    let id = pair.client.open(UPLOAD);
    pair.settle();
    pair.server.finish_with(id, Failure::not_executed(Reason::PermissionDenied));
    for _ in 0..3 {
        pair.server.receive(&raw(7, 0, id + 2, &[], &[7; 1000])).unwrap();
    }
    let error = violation(pair.server.receive(&raw(7, 0, id + 2, &[], &[7])));
    assert_eq!(error, ProtocolError::CreditOverrun { over: 1 });
    // END twice, STOP and CREDIT for nothing.
    for kind in [8, 8, 9] {
        pair.server.receive(&raw(kind, 0, id + 2, &[], &[])).unwrap();
    }
}

/// What can happen to a chat, at either end.
#[derive(Clone, Copy, Debug)]
enum Act {
    ClientPushes,
    ClientEnds,
    ClientAbandons,
    ServerPushes,
    ServerReplies,
    ServerStops,
    ServerTakes,
    HandlerEnds,
    HandlerFails,
    ServerHears,
    ClientHears,
    ClientCloses,
    ServerCloses,
}

/// The last two end everything.
const ACTS: [Act; 13] = [
    Act::ClientPushes,
    Act::ClientEnds,
    Act::ClientAbandons,
    Act::ServerPushes,
    Act::ServerReplies,
    Act::ServerStops,
    Act::ServerTakes,
    Act::HandlerEnds,
    Act::HandlerFails,
    Act::ServerHears,
    Act::ClientHears,
    Act::ClientCloses,
    Act::ServerCloses,
];
const LASTING: usize = ACTS.len() - 2;

/// A chat in whatever state.
struct Crossing {
    pair: Pair,
    id: u64,
    claimed: bool,
    running: bool,
    answered: bool,
    abandoned: bool,
}

impl Crossing {
    fn new() -> Crossing {
        let limits = Limits::default().in_flight_per_connection(1).stream_window(1024);
        let mut pair = Pair::with(limits.clone(), limits);
        let id = pair.client.open(CHAT);
        pair.settle();
        pair.server.claim(id + 2);
        Crossing { pair, id, claimed: true, running: true, answered: false, abandoned: false }
    }

    fn act(&mut self, act: Act) {
        let Crossing { pair, id, .. } = self;
        let (id, up, down) = (*id, *id + 2, *id + 4);
        match act {
            Act::ClientPushes => _ = pair.client.push(up, &[1; 700]),
            Act::ClientEnds => pair.client.end_items(up),
            Act::ClientAbandons if self.abandoned => {}
            Act::ClientAbandons => {
                self.abandoned = true;
                if self.answered {
                    pair.client.unclaim(down);
                } else {
                    pair.client.abandon(id);
                }
            }
            Act::ServerPushes if self.running => _ = pair.server.push(down, &[2; 700]),
            Act::ServerReplies if self.running => pair.server.reply_early(id),
            Act::ServerStops if self.claimed => {
                self.claimed = false;
                pair.server.unclaim(up);
            }
            Act::ServerTakes if self.claimed => _ = pair.server.take_items(up),
            Act::HandlerEnds if self.running => {
                self.running = false;
                pair.server.finish(id, b"");
            }
            Act::HandlerFails if self.running => {
                self.running = false;
                pair.server.finish_with(id, Failure::maybe_executed(Reason::Panicked));
            }
            Act::ServerHears => {
                pair.flush();
                pair.server_takes();
            }
            Act::ClientHears => {
                pair.flush();
                pair.client_takes();
            }
            Act::ClientCloses => pair.close(Side::Client),
            Act::ServerCloses => pair.close(Side::Server),
            _ => {}
        }
        self.pair.end_closed();
        self.look();
    }

    /// The caller takes its answer as soon as it is there.
    fn look(&mut self) {
        if self.answered || self.abandoned {
            return;
        }
        match self.pair.client.poll(self.id) {
            None => {}
            Some(Answer::Failed(_)) => (self.answered, self.abandoned) = (true, true),
            Some(_) => {
                self.answered = true;
                self.pair.client.claim(self.id + 4);
            }
        }
    }

    /// Both ends let go of everything: then nothing is left, and there is room for the next call.
    #[track_caller]
    fn conclude(mut self, acts: &[Act]) {
        if self.pair.is_closed() {
            return self.conclude_closed(acts);
        }
        for act in [Act::HandlerEnds, Act::ServerStops, Act::ClientEnds] {
            self.act(act);
        }
        self.pair.settle();
        self.look();
        self.act(Act::ClientAbandons);
        self.pair.settle();
        let Pair { client, server } = &self.pair;
        assert_eq!((&client.error, &server.error), (&None, &None), "{acts:?}");
        let next = self.pair.client.place(vec![]);
        self.pair.settle();
        self.pair.server.finish(next, b"next");
        self.pair.settle();
        assert_eq!(self.pair.client.reply(next), b"next", "{acts:?}");
        assert_eq!(self.pair.server.stats().requests_refused, 0, "{acts:?}");
        self.pair.settle();
        self.pair.advance(SWEEP * 2);
        for node in [&mut self.pair.client, &mut self.pair.server] {
            assert!(node.is_at_rest(), "{acts:?}\n{:#?}", node.protocol);
        }
    }

    /// Nobody waits for anything, and when everybody has let go nothing is counted.
    #[track_caller]
    fn conclude_closed(mut self, acts: &[Act]) {
        let context = format!("{acts:?}");
        self.pair.settle_closed(&context);
        self.look();
        assert!(self.answered || self.abandoned, "{context}: the call has no outcome");
        let Pair { client, server } = &mut self.pair;
        let (up, down) = (self.id + 2, self.id + 4);
        let reads = [(server, up, self.claimed), (client, down, self.answered && !self.abandoned)];
        for (node, stream, read) in reads {
            let ends = |got: Got| matches!(got, Got::End | Got::Failed(_));
            assert!(!read || (0..3).any(|_| ends(node.take_items(stream))), "{context}: a stream has no end");
        }
        for act in [Act::HandlerEnds, Act::ServerStops, Act::ClientEnds, Act::ClientAbandons] {
            self.act(act);
        }
        self.pair.assert_nothing_left(&context);
    }
}

#[test]
fn ends_may_cross_in_every_order() {
    // Every sequence of four, and what follows is delivered.
    let len = ACTS.len();
    for number in 0..len.pow(4) {
        let acts: Vec<Act> = (0..4).map(|place| ACTS[number / len.pow(place) % len]).collect();
        let mut crossing = Crossing::new();
        acts.iter().for_each(|act| crossing.act(*act));
        crossing.conclude(&acts);
    }
}

#[test]
fn ends_may_cross_in_long_stories() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |count: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 8) as usize % count
    };
    for story in 0..10_000 {
        let mut acts: Vec<Act> = (0..20).map(|_| ACTS[below(LASTING)]).collect();
        if story % 2 == 1 {
            acts[below(20)] = ACTS[LASTING + below(2)];
        }
        let mut crossing = Crossing::new();
        acts.iter().for_each(|act| crossing.act(*act));
        crossing.conclude(&acts);
    }
}
