//! The streams of random conversations: what goes in at one end comes out at the other, in order and without a gap.

use super::model::Random;
use super::*;

/// The ends of all streams, those of the client and those of the server.
#[derive(Default)]
pub(super) struct Talks {
    sources: Vec<End>,
    receivers: Vec<End>,
    /// Bytes that have come out.
    pub(super) received: u64,
}

struct End {
    client: bool,
    id: u64,
    /// Bytes that have gone in, or come out.
    bytes: u64,
    /// Of those that came out last: the connection does not know that they are done with.
    done: u64,
}

impl Talks {
    /// A call with streams has been placed.
    pub(super) fn placed(&mut self, client: bool, id: u64, streams: StreamCounts) {
        self.sources.extend(ids(id, 0..streams.given.into()).map(|id| End::new(client, id)));
    }

    /// Its handler begins.
    pub(super) fn begun(&mut self, client: bool, node: &mut Node, id: u64, streams: StreamCounts) {
        let given = u64::from(streams.given);
        for id in ids(id, 0..given) {
            if node.protocol.claim_stream(id).is_some() {
                self.receivers.push(End::new(client, id));
            }
        }
        self.sources.extend(ids(id, given..streams.all()).map(|id| End::new(client, id)));
    }

    /// Its caller has the answer.
    pub(super) fn answered(&mut self, client: bool, node: &mut Node, id: u64, streams: StreamCounts) {
        for id in ids(id, streams.given.into()..streams.all()) {
            if node.protocol.claim_stream(id).is_some() {
                self.receivers.push(End::new(client, id));
            }
        }
    }

    pub(super) fn step(&mut self, pair: &mut Pair, random: &mut Random) {
        if random.one_in(2) {
            self.push(pair, random);
        } else {
            self.take(pair, random);
        }
    }

    fn push(&mut self, pair: &mut Pair, random: &mut Random) {
        let Some(at) = random.pick(self.sources.len()) else {
            return;
        };
        let source = &mut self.sources[at];
        let node = if source.client { &mut pair.client } else { &mut pair.server };
        let len = 1 + random.len(60_000) as u64;
        if random.one_in(12) {
            // One that a handler sends ends with the handler.
            if node.protocol.config.side.owns(source.id) {
                node.protocol.end_items(source.id, Ok(()));
            }
            self.sources.swap_remove(at);
            return;
        }
        let singly = random.one_in(20);
        if singly && node.protocol.prepare_items(source.id, true, source.bytes, 0, &mut None) != Pushed::Taken {
            return;
        }
        let mut items = content(source.id, source.bytes, len);
        match node.protocol.push_items(source.id, &mut items, &mut None) {
            Pushed::Taken => source.bytes += len,
            Pushed::Full => {}
            Pushed::Over => drop(self.sources.swap_remove(at)),
        }
    }

    fn take(&mut self, pair: &mut Pair, random: &mut Random) {
        let Some(at) = random.pick(self.receivers.len()) else {
            return;
        };
        let ends = random.one_in(25);
        let over = ends || self.take_some(pair, at, random.one_in(2));
        if over {
            let receiver = self.receivers.swap_remove(at);
            receiver.unclaim(pair);
        }
    }

    /// Whether that was all.
    fn take_some(&mut self, pair: &mut Pair, at: usize, hungry: bool) -> bool {
        let receiver = &mut self.receivers[at];
        let node = if receiver.client { &mut pair.client } else { &mut pair.server };
        let (mut buffer, now, done) = (Vec::new(), node.now, std::mem::take(&mut receiver.done));
        let (took, _) = node.protocol.take_items(receiver.id, done, hungry, &mut buffer, &mut None, || now);
        let len = buffer.len() as u64;
        assert!(buffer == content(receiver.id, receiver.bytes, len), "stream {} at {}", receiver.id, receiver.bytes);
        receiver.bytes += len;
        receiver.done = len;
        self.received += len;
        matches!(took, Took::Ended(_))
    }

    /// Everybody goes.
    pub(super) fn settle(&mut self, pair: &mut Pair) {
        for receiver in std::mem::take(&mut self.receivers) {
            receiver.unclaim(pair);
        }
        for source in std::mem::take(&mut self.sources) {
            let node = if source.client { &mut pair.client } else { &mut pair.server };
            if node.protocol.config.side.owns(source.id) {
                node.protocol.end_items(source.id, Ok(()));
            }
        }
    }
}

impl End {
    fn new(client: bool, id: u64) -> End {
        End { client, id, bytes: 0, done: 0 }
    }

    fn unclaim(self, pair: &mut Pair) {
        let node = if self.client { &mut pair.client } else { &mut pair.server };
        let mut wakers = Vec::new();
        node.protocol.unclaim_stream(self.id, &mut Vec::new(), &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The streams of a call.
fn ids(call: u64, range: std::ops::Range<u64>) -> impl Iterator<Item = u64> {
    range.map(move |at| call + 2 + 2 * at)
}

/// What a stream has from one byte to another.
fn content(id: u64, from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(|at| (at.wrapping_mul(31) ^ at >> 8 ^ id) as u8).collect()
}
