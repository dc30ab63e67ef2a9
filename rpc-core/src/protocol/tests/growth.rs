//! Windows of streams over a way that is long, at a rate that the test sets.

use super::*;
use crate::protocol::stream::RESERVE;

const MIB: u64 = 1 << 20;

/// A connection of which each direction delays every byte, and takes so many at a time.
struct Way {
    pair: Pair,
    delay: Duration,
    bytes_per_ms: u64,
    /// Frames on their way, and when the last byte of each arrives: to the server, to the client.
    under_way: [VecDeque<(Instant, Vec<u8>)>; 2],
    /// Until when each direction is taken.
    taken: [Instant; 2],
    /// The stream that the server sends.
    stream: u64,
    received: u64,
    /// The server goes on to send it.
    sends: bool,
}

impl Way {
    /// A server that has all the items one could want, for a client with these limits.
    fn new(client: Limits, delay: Duration, bytes_per_ms: u64) -> Way {
        let now = Instant::now();
        let node = |side, limits| Node::new(side, limits, CHUNK, false, now);
        let mut pair = Pair { client: node(Side::Client, client), server: node(Side::Server, Limits::default()) };
        pair.settle();
        let under_way = Default::default();
        let mut way =
            Way { pair, delay, bytes_per_ms, under_way, taken: [now; 2], stream: 0, received: 0, sends: true };
        way.open();
        way
    }

    /// The server sends another stream from now on, which comes at once. Those before it stay as they are.
    fn open(&mut self) {
        let pair = &mut self.pair;
        let streams = StreamCounts { given: 0, returned: 1 };
        let id = placed(pair.client.begin(NewCall { streams, ..new_call() }, vec![], None));
        pair.settle();
        pair.server.protocol.reply(id, None, &mut pair.server.out);
        pair.settle();
        pair.client.reply(id);
        pair.client.protocol.claim_stream(id + 2).expect("a stream");
        self.stream = id + 2;
    }

    /// All that was made is taken.
    fn rest(&mut self) {
        self.sends = false;
        (0..200).for_each(|_| self.pass(true));
        self.sends = true;
    }

    /// A stream at rest ends, since its receiver is dropped.
    fn close(&mut self, stream: u64) {
        self.pair.client.protocol.unclaim_stream(stream, &mut Vec::new(), &mut Vec::new());
        self.pair.settle();
        self.pair.server.finish_with(stream - 2, Failure::maybe_executed(Reason::Cancelled));
        self.pair.settle();
    }

    /// A millisecond.
    fn pass(&mut self, reads: bool) {
        let now = self.pair.client.now + MS;
        for node in [&mut self.pair.client, &mut self.pair.server] {
            node.now = now;
            if node.timeout().is_some_and(|due| due <= now) {
                node.protocol.handle_timeout(now, &mut node.effects).unwrap();
                node.sort_effects();
            }
        }
        for (to, node) in [&mut self.pair.server, &mut self.pair.client].into_iter().enumerate() {
            while self.under_way[to].front().is_some_and(|(at, _)| *at <= now) {
                let (_, frame) = self.under_way[to].pop_front().unwrap();
                node.receive(&frame).unwrap();
            }
        }
        if reads {
            self.read(now);
        }
        let push = |way: &mut Way| way.pair.server.protocol.push_items(way.stream, &mut vec![7; 32 << 10], &mut None);
        while self.sends && push(self) == Pushed::Taken {
            self.send(now);
        }
        self.send(now);
    }

    /// The client takes all that is there.
    fn read(&mut self, now: Instant) {
        let mut done = 0;
        loop {
            let mut piece = Vec::new();
            let client = &mut self.pair.client.protocol;
            client.take_items(self.stream, done, false, &mut piece, &mut None, || now);
            done = piece.len() as u64;
            self.received += done;
            if done == 0 {
                return;
            }
        }
    }

    fn send(&mut self, now: Instant) {
        for (to, node) in [&mut self.pair.client, &mut self.pair.server].into_iter().enumerate() {
            for frame in node.output() {
                let micros = frame.len() as u64 * 1000 / self.bytes_per_ms;
                self.taken[to] = self.taken[to].max(now) + Duration::from_micros(micros);
                self.under_way[to].push_back((self.taken[to] + self.delay, frame));
            }
        }
    }

    /// Bytes received in so many milliseconds.
    fn receive_for(&mut self, ms: u32) -> u64 {
        let before = self.received;
        (0..ms).for_each(|_| self.pass(true));
        self.received - before
    }

    /// Bytes of items under way to the client, and there but not taken.
    fn outstanding(&mut self) -> u64 {
        self.pair.server.stats().credit_in_use
    }

    fn end(mut self) {
        self.pair.client.protocol.unclaim_stream(self.stream, &mut Vec::new(), &mut Vec::new());
        self.delay = Duration::ZERO;
        (0..1000).for_each(|_| self.pass(false));
        let call = self.stream - 2;
        self.pair.server.finish_with(call, Failure::maybe_executed(Reason::Cancelled));
        self.pair.assert_at_rest();
    }
}

#[test]
fn a_window_grows_with_bandwidth_and_delay() {
    // 1 Gbit/s, 25 ms each way.
    let mut way = Way::new(Limits::default(), 25 * MS, 125_000);
    let first = way.receive_for(50);
    assert!(first < MIB, "{first} bytes");
    way.receive_for(1450);
    let rate = way.receive_for(500) * 2;
    assert!(rate > 112_500_000, "{rate} bytes a second");
    assert!(way.outstanding() > 6_250_000, "{} bytes under way", way.outstanding());
    assert_eq!(way.pair.client.share.bytes(), 8 * MIB - (256 << 10));
    way.end();
}

#[test]
fn a_window_grows_no_further_than_its_limit() {
    let limits = Limits::default().stream_window_max(1 << 20);
    let mut way = Way::new(limits, 25 * MS, 125_000);
    way.receive_for(1500);
    assert_eq!(way.pair.client.share.bytes(), MIB - (256 << 10));
    assert!(way.outstanding() <= MIB);
    way.end();
    // Nor than the window of all streams.
    let limits = Limits::default().memory_in(512 << 10).message_len(1000);
    let mut way = Way::new(limits, 25 * MS, 125_000);
    way.receive_for(1500);
    assert_eq!(way.pair.client.share.bytes(), 256 << 10);
    way.end();
}

#[test]
fn a_window_that_has_grown_takes_nothing_from_the_others() {
    let mut way = Way::new(Limits::default(), 25 * MS, 125_000);
    way.receive_for(1500);
    let first = way.stream;
    let charged = |way: &Way| way.pair.client.share.bytes();
    assert_eq!(charged(&way), 8 * MIB - (256 << 10));
    // Each as fast as the first, and one after the other. What all of them may hold is what counts, not what each may.
    let mut streams = vec![first];
    for _ in 0..3 {
        way.rest();
        way.open();
        streams.push(way.stream);
        way.receive_for(1500);
        let rate = way.receive_for(500) * 2;
        assert!(rate > 112_500_000, "{rate} bytes a second");
        assert_eq!(charged(&way), 8 * MIB);
    }
    // Nobody reads any: then no more is there than may be.
    for stream in &streams[..3] {
        way.stream = *stream;
        (0..300).for_each(|_| way.pass(false));
    }
    let held = way.pair.client.stats().memory_in;
    assert!(held > 7 * MIB && held <= 8 * MIB + 4 * RESERVE, "{held} bytes");
    for stream in &streams {
        way.stream = *stream;
        way.rest();
    }
    let last = streams.pop();
    // It counts for as long as any has grown.
    for (at, stream) in streams.into_iter().enumerate() {
        way.close(stream);
        assert_eq!(charged(&way), if at < 2 { 8 * MIB } else { 8 * MIB - (256 << 10) });
    }
    assert_eq!(Some(way.stream), last);
    way.end();
}

#[test]
fn a_window_does_not_grow_where_there_is_no_memory_for_it() {
    let limits = Limits::default().memory_total(600 << 10);
    let mut way = Way::new(limits, 25 * MS, 125_000);
    way.receive_for(1000);
    assert_eq!(way.pair.client.share.bytes(), 256 << 10);
    way.end();
}

#[test]
fn a_window_does_not_grow_for_who_takes_nothing() {
    let mut way = Way::new(Limits::default(), 25 * MS, 125_000);
    for _ in 0..500 {
        way.pass(false);
    }
    assert_eq!(way.pair.client.stats().memory_in, 256 << 10);
    assert_eq!(way.pair.client.share.bytes(), 0);
    // Nor for who takes a little at a time, though all is there at once.
    for _ in 0..500 {
        way.pass(false);
        let mut piece = Vec::new();
        let now = way.pair.client.now;
        way.pair.client.protocol.take_items(way.stream, 1000, false, &mut piece, &mut None, || now);
    }
    assert_eq!(way.pair.client.share.bytes(), 0);
    way.end();
}

#[test]
fn a_window_does_not_grow_where_the_way_is_slow() {
    // 2 MB/s: 100 KB are under way.
    let mut way = Way::new(Limits::default(), 25 * MS, 2000);
    way.receive_for(5000);
    assert!(way.pair.client.share.bytes() <= 256 << 10, "{}", way.pair.client.share.bytes());
    way.end();
}

#[test]
fn a_window_that_has_grown_holds_no_more_than_itself() {
    let mut way = Way::new(Limits::default(), 25 * MS, 125_000);
    way.receive_for(1500);
    (0..500).for_each(|_| way.pass(false));
    let stats = way.pair.client.stats();
    assert!(stats.memory_in > 7 * MIB && stats.memory_in <= 8 * MIB, "{stats:?}");
    assert!(way.pair.server.stats().memory_out <= 64 << 10);
    way.end();
}
