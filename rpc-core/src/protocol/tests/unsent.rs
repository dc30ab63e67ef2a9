//! What streams have to send that nobody reads: it has a limit, and is in the accounts.

use super::streams::{Got, UPLOAD, WATCH, small};
use super::*;
use crate::protocol::stream::Room;

impl Node {
    fn room(&mut self, id: u64, waker: &mut Option<Waker>) -> Room {
        self.protocol.room_for_items(id, waker)
    }

    fn memory_out(&mut self) -> u64 {
        self.stats().memory_out
    }
}

/// A client whose streams may have 4 KB to send, and the streams of three calls that nobody reads.
fn unread() -> (Pair, [u64; 3]) {
    let mut pair = Pair::with(Limits::default().memory_out(4096), small(1024));
    let calls = [0; 3].map(|_| pair.client.open(UPLOAD));
    pair.settle();
    for id in calls {
        pair.server.claim(id + 2);
    }
    (pair, calls)
}

fn end(mut pair: Pair, calls: [u64; 3]) {
    for id in calls {
        pair.server.unclaim(id + 2);
        pair.server.finish(id, b"");
        pair.settle();
        pair.client.reply(id);
    }
    pair.assert_at_rest();
}

#[test]
fn sources_wait_when_streams_have_too_much_to_send() {
    let (mut pair, calls) = unread();
    let [first, second, third] = calls.map(|id| id + 2);
    for stream in [first, second] {
        assert_eq!(pair.client.room(stream, &mut None), Room::Much);
        assert_eq!(pair.client.push(stream, &[7; 3000]), Pushed::Taken);
    }
    pair.settle();
    assert_eq!(pair.client.memory_out(), 2 * 1976);
    // Of whom items wait already, who makes them counts with what is left there.
    assert_eq!(pair.client.push(first, &[7; 500]), Pushed::Full);
    assert_eq!((pair.client.memory_out(), pair.client.protocol.is_glutted()), (4452, true));
    let woken = Count::new();
    assert_eq!(pair.client.room(second, &mut woken.waker()), Room::None);
    // And of whom none do goes on, a little at a time.
    assert_eq!(pair.client.room(third, &mut None), Room::Little);
    for _ in 0..5 {
        assert_eq!(pair.client.push(third, &[8; 1000]), Pushed::Taken);
        pair.settle();
        assert_eq!(pair.server.take_items(third), Got::Bytes(vec![8; 1000]));
        pair.settle();
        assert_eq!(pair.client.room(third, &mut None), Room::Little);
    }
    // What waits is read, and its source goes on.
    assert_eq!(woken.woken(), 0);
    while pair.client.memory_out() > 2476 {
        assert!(matches!(pair.server.take_items(second), Got::Bytes(_)));
        pair.settle();
    }
    assert_eq!(woken.woken(), 1);
    assert_eq!(pair.client.room(second, &mut None), Room::Much);
    end(pair, calls);
}

#[test]
fn what_is_kept_for_a_slow_reader_counts() {
    let mut pair = Pair::with(small(1024), Limits::default().memory_out(4096));
    let id = pair.client.open(WATCH);
    let stream = id + 2;
    pair.settle();
    pair.server.reply_early(id);
    let prepare = |pair: &mut Pair, kept| pair.server.protocol.prepare_items(stream, false, 0, kept, &mut None);
    assert_eq!(prepare(&mut pair, 6000), Pushed::Taken);
    assert_eq!((pair.server.memory_out(), pair.server.protocol.is_glutted()), (6000, true));
    // They are taken from what is kept.
    assert_eq!(pair.server.push(stream, &[7; 2000]), Pushed::Taken);
    assert_eq!(pair.server.memory_out(), 4000 + 2000 - 1024);
    assert_eq!(prepare(&mut pair, 4500), Pushed::Full);
    assert_eq!(pair.server.memory_out(), 4500 + 2000 - 1024);
    // All of it goes with the handler, but for what was taken over.
    pair.server.finish(id, b"");
    assert_eq!((pair.server.memory_out(), pair.server.protocol.is_glutted()), (976, false));
    pair.settle();
    pair.client.reply(id);
    pair.client.unclaim(stream);
    pair.assert_at_rest();
}

#[test]
fn whatever_ends_a_stream_takes_what_it_had_to_send_out_of_the_accounts() {
    let ends: [fn(&mut Pair, u64); 5] = [
        |pair, id| pair.server.unclaim(id + 2),
        |pair, id| pair.client.abandon(id),
        |pair, id| pair.server.finish_with(id, Failure::maybe_executed(Reason::Panicked)),
        |pair, _| pair.advance(Limits::default().stream_idle + Duration::from_secs(1)),
        |pair, _| pair.client.end(ConnectionError::PeerGone, u64::MAX),
    ];
    for end in ends {
        let mut pair = Pair::with(Limits::default().memory_out(4096), small(1024));
        let id = pair.client.open(UPLOAD);
        pair.settle();
        pair.server.claim(id + 2);
        pair.client.push(id + 2, &[7; 200_000]);
        assert_eq!(pair.client.push(id + 2, &[7; 1000]), Pushed::Full);
        // So much counts for all connections as well.
        assert_eq!((pair.client.memory_out(), pair.client.share.bytes()), (200_000 - 1024 + 1000, 3 << 16));
        end(&mut pair, id);
        pair.settle();
        assert_eq!((pair.client.memory_out(), pair.client.share.bytes()), (0, 0));
    }
}

#[test]
fn a_source_whose_stream_is_over_makes_nothing() {
    let (mut pair, calls) = unread();
    pair.server.unclaim(calls[0] + 2);
    pair.settle();
    assert_eq!(pair.client.room(calls[0] + 2, &mut None), Room::Over);
    assert_eq!(pair.client.room(99, &mut None), Room::Over);
    end(pair, calls);
}
