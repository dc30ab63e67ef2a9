//! Random conversations between honest ends, against what must be true of each.
//!
//! Whatever is cancelled, late, blocked or drained: every call gets one outcome, by its deadline; a reply is its own
//! call's; what was not executed never reached a handler; nobody is closed on; items come in order and without a gap; and at
//! rest every account is zero and every window full.

use std::collections::HashSet;

use super::results::Results;
use super::talks::Talks;
use super::*;
use crate::limits::Limit;
use crate::priority::Priority;

const SEEDS: u64 = 150;
const STEPS: usize = 300;

pub(super) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of so many, if there are any.
    pub(super) fn pick(&mut self, many: usize) -> Option<usize> {
        (many > 0).then(|| self.below(many as u64) as usize)
    }

    /// Mostly short, sometimes up to `max`.
    pub(super) fn len(&mut self, max: u64) -> usize {
        let max = match self.below(4) {
            0 => 64,
            1 => 200,
            2 => 5000,
            _ => max,
        }
        .min(max);
        self.below(max + 1) as usize
    }
}

#[derive(Clone, Copy, Debug)]
enum Where {
    Queued(Ticket),
    Placed(u64),
}

#[derive(Debug)]
struct Made {
    by_client: bool,
    number: u64,
    at: Where,
    streams: StreamCounts,
    /// Its result may be called.
    result: bool,
    /// By when it must have an outcome.
    due: Instant,
    /// It asks for what comes beside its reply, which is its number.
    extended: bool,
}

struct Model {
    pair: Pair,
    random: Random,
    message_max: u64,
    next_number: u64,
    calls: Vec<Made>,
    talks: Talks,
    results: Results,
    /// Calls with streams whose handlers have begun.
    begun: HashSet<u64>,
    /// Numbers of calls that reached a handler.
    executed: HashSet<u64>,
    /// Numbers of calls that were said not to have.
    not_executed: HashSet<u64>,
    outcomes: usize,
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut random = Random::new(seed);
        let message_max = 1000 + random.below(40_000);
        let mut limits = || {
            Limits::default()
                .message_len(message_max as usize)
                .memory_in((message_max + random.below(40_000)) as usize)
                .stream_window(1024 + random.below(60_000) as usize)
                .stream_window_max(1024 + random.below(200_000) as usize)
                .memory_out(1000 + random.below(80_000) as usize)
                .in_flight_per_connection(1 + random.below(40) as usize)
                .in_flight_per_server(8 + random.below(40) as usize)
                .memory_total(10_000 + random.below(200_000) as usize)
                .calls_waiting(random.below(30) as usize)
        };
        let mut pair = Pair::with(limits(), limits());
        pair.client.lands_slowly = true;
        pair.server.lands_slowly = true;
        Model {
            pair,
            random,
            message_max,
            next_number: 0,
            calls: Vec::new(),
            talks: Talks::default(),
            results: Results::default(),
            begun: HashSet::new(),
            executed: HashSet::new(),
            not_executed: HashSet::new(),
            outcomes: 0,
        }
    }

    fn node(&mut self, client: bool) -> &mut Node {
        if client { &mut self.pair.client } else { &mut self.pair.server }
    }

    fn step(&mut self) {
        let client = self.random.one_in(2);
        match self.random.below(23) {
            0..=3 => self.call(client),
            4..=6 => self.finish(client),
            7 | 8 => self.take(),
            9 => self.abandon(),
            10 => {
                let room = if self.random.one_in(3) { usize::MAX } else { self.random.below(12_000) as usize };
                self.node(client).out.room = room;
            }
            11 => {
                let by = Duration::from_micros(self.random.below(30_000));
                self.advance(by);
                // It may rest at any time: that takes nothing from anybody.
                self.node(client).protocol.rest();
            }
            12..=15 => self.talks.step(&mut self.pair, &mut self.random),
            16 => self.reply_early(client),
            17 => self.results.let_go(&mut self.pair, &mut self.random),
            _ => {
                self.pair.flush();
                for _ in 0..self.random.below(8) {
                    if client {
                        self.pair.client_takes()
                    } else {
                        self.pair.server_takes()
                    };
                }
            }
        }
        self.look();
    }

    fn call(&mut self, client: bool) {
        let number = self.next_number;
        self.next_number += 1;
        let mut payload = bytes(8 + self.random.len(self.message_max - 8), number);
        payload[..8].copy_from_slice(&number.to_le_bytes());
        let timeout = MS * (1 + self.random.below(300) as u32);
        let now = self.pair.client.now;
        let mut call = timed(now, timeout);
        if self.random.one_in(2) {
            call.deadline = None;
        }
        call.oneway = self.random.one_in(8);
        call.nested = self.random.one_in(10);
        if !call.oneway && self.random.one_in(3) {
            let (given, returned) = (self.random.below(4) as u8, self.random.below(3) as u8);
            call.streams = StreamCounts { given, returned };
        }
        call.result = !call.oneway && self.random.one_in(4);
        call.object = self.results.pick(client, &mut self.random);
        let extended = self.random.one_in(3);
        if extended {
            call.extras = Some(self.extras(number).into());
        }
        let (oneway, streams, result) = (call.oneway, call.streams, call.result);
        let due = now + timeout + if call.deadline.is_none() { SWEEP } else { Duration::ZERO };
        let at = match self.node(client).begin(call, payload, None) {
            Begun::Placed(_) if oneway => return,
            Begun::Placed(id) | Begun::Part { id, .. } => {
                self.talks.placed(client, id, streams);
                if result {
                    self.results.placed(client, id);
                }
                Where::Placed(id)
            }
            // Who makes it waits only for it to be placed.
            Begun::Queued(ticket) => Where::Queued(ticket),
            Begun::Starved => return,
            Begun::Failed(_) => {
                self.not_executed.insert(number);
                return;
            }
        };
        if !oneway {
            self.calls.push(Made { by_client: client, number, at, streams, result, due, extended });
        } else if let Where::Queued(ticket) = at {
            self.node(client).abandon_waiting(ticket);
        }
    }

    fn extras(&mut self, number: u64) -> Sent {
        let mut metadata = Metadata::new();
        metadata.insert("number", number.to_string()).unwrap();
        metadata.insert("filling", "x".repeat(self.random.below(1500) as usize)).unwrap();
        let priority = [Priority::Low, Priority::Normal, Priority::High][self.random.below(3) as usize];
        Sent::with_call(&metadata, None, None, priority, true)
    }

    /// Notes what has come to handlers, and that no account is over its limit.
    fn look(&mut self) {
        for (client, node) in [(true, &mut self.pair.client), (false, &mut self.pair.server)] {
            let new = |request: &&Incoming| request.streams != StreamCounts::NONE && !self.begun.contains(&request.id);
            let new: Vec<_> = node.requests.iter().filter(new).map(|request| (request.id, request.streams)).collect();
            for (id, streams) in new {
                self.begun.insert(id);
                self.talks.begun(client, node, id, streams);
            }
            for request in &node.requests {
                let number = u64::from_le_bytes(request.payload.as_slice()[..8].try_into().unwrap());
                self.results.started += usize::from(self.executed.insert(number) && is_on_object(request));
            }
            assert_eq!(node.error, None);
            let stats = node.stats();
            let limits = &node.protocol.config.limits;
            let streams = stats.streams_open as u64 * limits.stream_window_ceiling();
            assert!(stats.memory_in <= 2 * limits.window() + streams);
            assert!(stats.handlers_in_flight <= limits.in_flight_per_connection);
            assert!(stats.calls_waiting <= limits.calls_waiting.max(1));
        }
    }

    fn finish(&mut self, client: bool) {
        let random = &mut self.random;
        let (max, pick, how, len) =
            (self.message_max, random.next() as usize, random.below(6), random.len(self.message_max - 8));
        let node = if client { &mut self.pair.client } else { &mut self.pair.server };
        if node.requests.is_empty() {
            return;
        }
        let request = &node.requests[pick % node.requests.len()];
        let id = request.id;
        let mut reply = bytes(8 + len, id);
        reply[..8].copy_from_slice(&request.payload.as_slice()[..8]);
        match how {
            0 => node.finish_with(id, Failure::maybe_executed(Reason::Panicked)),
            1 if len % 7 == 0 => node.finish(id, &bytes(max as usize + 1, 0)),
            _ => node.finish_as_promised(id, &reply),
        }
    }

    /// A handler says what it returns, and goes on with its streams.
    fn reply_early(&mut self, client: bool) {
        let pick = self.random.next() as usize;
        let node = if client { &mut self.pair.client } else { &mut self.pair.server };
        let returns: Vec<u64> =
            node.requests.iter().filter(|request| request.streams.returned > 0).map(|it| it.id).collect();
        if !returns.is_empty() {
            node.protocol.reply(returns[pick % returns.len()], None, &mut node.out);
        }
    }

    /// Looks for the outcome of one call.
    fn take(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let at = self.random.next() as usize % self.calls.len();
        let call = self.calls.swap_remove(at);
        self.outcome(call);
    }

    fn outcome(&mut self, mut call: Made) {
        let node = self.node(call.by_client);
        if let Where::Queued(ticket) = call.at {
            match node.poll_waiting(ticket) {
                Waited::Waiting => return self.calls.push(call),
                Waited::Placed(id) => {
                    call.at = Where::Placed(id);
                    self.talks.placed(call.by_client, id, call.streams);
                    if call.result {
                        self.results.placed(call.by_client, id);
                    }
                }
                Waited::Failed(failure) => return self.failed(&call, &failure),
            }
        }
        let Where::Placed(id) = call.at else { unreachable!() };
        let reply = match self.node(call.by_client).poll(id) {
            None => return self.calls.push(call),
            Some(Answer::Failed(failure)) => return self.failed(&call, &failure),
            Some(Answer::Small { bytes, len, .. }) => bytes[..usize::from(len)].to_vec(),
            Some(Answer::Large { bytes, .. }) => bytes.to_vec(),
            Some(Answer::Extended(_)) => unreachable!("it was taken apart"),
        };
        if call.streams != StreamCounts::NONE {
            let node = if call.by_client { &mut self.pair.client } else { &mut self.pair.server };
            self.talks.answered(call.by_client, node, id, call.streams);
        }
        let number = call.number.to_string();
        let beside = self.node(call.by_client).beside.take();
        if call.streams.returned > 0 && reply.is_empty() {
            assert!(self.executed.contains(&call.number));
            self.outcomes += 1;
            return;
        }
        assert_eq!(beside.as_ref().and_then(|beside| beside.get("number")), call.extended.then_some(&*number));
        assert_eq!(reply[..8], call.number.to_le_bytes(), "another call's reply");
        assert_eq!(reply[8..], bytes(reply.len(), id)[8..]);
        assert!(self.executed.contains(&call.number));
        self.outcomes += 1;
    }

    fn failed(&mut self, call: &Made, failure: &Failure) {
        let overloaded = Reason::Overloaded { limit: Limit::InFlightPerConnection };
        assert_ne!(failure.reason, overloaded, "an honest end waits for its slot");
        if failure.class == Class::NotExecuted {
            self.not_executed.insert(call.number);
        }
        self.outcomes += 1;
    }

    fn abandon(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let at = self.random.next() as usize % self.calls.len();
        let call = self.calls.swap_remove(at);
        match call.at {
            Where::Queued(ticket) => self.node(call.by_client).abandon_waiting(ticket),
            Where::Placed(id) => self.node(call.by_client).abandon(id),
        }
    }

    fn advance(&mut self, by: Duration) {
        self.pair.advance(by);
        self.look();
        let now = self.pair.client.now;
        let (due, rest) = std::mem::take(&mut self.calls).into_iter().partition(|call| call.due <= now);
        self.calls = rest;
        let left = self.calls.len();
        due.into_iter().for_each(|call: Made| self.outcome(call));
        assert_eq!(self.calls.len(), left, "a deadline has passed without an outcome");
    }

    fn no_lies(&self) {
        let lies: Vec<_> = self.executed.intersection(&self.not_executed).collect();
        assert!(lies.is_empty(), "executed all the same: {lies:?}");
    }

    /// Lets everything come to its end.
    fn settle(&mut self) {
        for client in [true, false] {
            self.node(client).out.room = usize::MAX;
        }
        for _ in 0..1000 {
            self.pair.settle();
            self.look();
            self.talks.settle(&mut self.pair);
            self.results.settle(&mut self.pair);
            self.pair.client.echo_all();
            self.pair.server.echo_all();
            if self.pair.client.is_at_rest() && self.pair.server.is_at_rest() {
                break;
            }
            for call in std::mem::take(&mut self.calls) {
                // The echo is not what `outcome` expects of a reply.
                match call.at {
                    Where::Queued(ticket) => self.node(call.by_client).abandon_waiting(ticket),
                    Where::Placed(id) => self.node(call.by_client).abandon(id),
                }
            }
            self.advance(SWEEP);
        }
    }
}

fn is_on_object(request: &Incoming) -> bool {
    let brought = request.extras.as_ref().and_then(|extras| extras.brought.as_ref());
    brought.is_some_and(|brought| brought.target.is_some())
}

#[test]
fn honest_ends_understand_each_other_whatever_happens() {
    let (mut outcomes, mut received, mut on_results) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut model = Model::new(seed);
        let drain_at = if seed % 4 == 0 { model.random.below(STEPS as u64) as usize } else { STEPS };
        for step in 0..STEPS {
            if step == drain_at {
                let now = model.pair.server.now;
                model.pair.server.protocol.drain(now);
            }
            model.step();
        }
        model.settle();
        model.no_lies();
        model.pair.assert_at_rest();
        outcomes += model.outcomes;
        received += model.talks.received;
        on_results += model.results.started;
    }
    assert!(outcomes > 10 * SEEDS as usize, "{outcomes}");
    assert!(received > 10_000 * SEEDS, "{received} bytes of streams");
    assert!(on_results > 2 * SEEDS as usize, "{on_results} calls on results");
}

#[test]
fn a_connection_that_is_lost_tells_no_lies() {
    for seed in 0..SEEDS {
        let mut model = Model::new(seed ^ 0x5555);
        for _ in 0..STEPS / 3 {
            model.step();
        }
        // What lies in the sender never leaves; what has left may or may not be read.
        model.pair.flush();
        let (client, server) = (model.pair.client.out.position(), model.pair.server.out.position());
        model.random.one_in(2).then(|| model.call(true));
        model.call(false);
        for _ in 0..model.random.below(20) {
            if model.random.one_in(2) {
                model.pair.client_takes()
            } else {
                model.pair.server_takes()
            };
            model.look();
        }
        model.pair.client.end(ConnectionError::PeerGone, client);
        model.pair.server.end(ConnectionError::PeerGone, server);
        let calls = std::mem::take(&mut model.calls);
        for call in calls {
            model.outcome(call);
        }
        assert!(model.calls.is_empty(), "every call has its outcome at once");
        model.talks.settle(&mut model.pair);
        model.no_lies();
        for node in [&mut model.pair.client, &mut model.pair.server] {
            for request in std::mem::take(&mut node.requests) {
                node.finish(request.id, b"too late");
            }
            assert!(node.stats().is_at_rest(), "{:?}", node.stats());
            assert_eq!((node.share.calls(), node.share.bytes()), (0, 0));
        }
    }
}
