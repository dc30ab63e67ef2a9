//! Two machines and a fake clock: no sockets, no threads, no sleeps.
//!
//! A [`Pair`] holds a client and a server. Frames lie in the receiver's `inbox` until a test delivers them, so that a
//! test decides what crosses what.

mod beside;
mod calls;
mod cancel;
mod chunks;
mod credit;
mod deadlines;
mod dishonest;
mod drain;
mod ending;
mod extensions;
mod extras;
mod growth;
mod handshake;
mod idle;
mod limits;
mod liveness;
mod model;
mod mutation;
mod objects;
mod pipelining;
mod results;
mod streams;
mod talks;
mod turns;
mod unsent;
mod vectors;

use crate::error::{HandshakeError, ProtocolError};
use crate::wire::Half;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::caller::{Extended, NewCall, REPLY_INLINE_MAX};
use super::extras::Sent;
use super::*;
use crate::frame::{CallHead, FrameError, HEAD_LEN_MAX, HEADER_LEN, Kind, first_record, tag};
use crate::metadata::Metadata;
use crate::transport::{BatchBuffer, Bytes, Landing, Lease, Partial};

const MS: Duration = Duration::from_millis(1);

/// A sender with as much room as the test says.
#[derive(Debug)]
struct Outlet {
    buffer: BatchBuffer,
    room: usize,
    reserved: usize,
    /// How many frames longer than a chunk's there is a place for.
    places: usize,
}

impl FrameSender for Outlet {
    type Batch = Bytes;

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.room {
            return None;
        }
        self.reserved = len;
        self.buffer.reserve(len)
    }

    fn commit(&mut self, first_word: u64) {
        self.room -= self.reserved;
        let extensions_len = (first_word >> 48) as usize;
        self.places -= usize::from(self.reserved > CHUNK + HEAD_LEN_MAX + extensions_len);
        self.buffer.commit(first_word);
    }

    fn frame_len_now(&mut self) -> usize {
        if self.places > 0 { WHOLE + FRAME_OVERHEAD_MAX } else { 0 }
    }

    fn take_batch(&mut self, batch: &mut Bytes) -> bool {
        self.buffer.take_batch(batch)
    }

    fn position(&self) -> u64 {
        self.buffer.position()
    }
}

/// A waker that counts.
#[derive(Debug, Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn new() -> Arc<Count> {
        Arc::default()
    }

    fn waker(self: &Arc<Count>) -> Option<Waker> {
        Some(Waker::from(Arc::clone(self)))
    }

    fn new_waker(self: &Arc<Count>) -> NewWaker {
        Waker::from(Arc::clone(self)).into()
    }

    fn woken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One end, and what has reached it.
struct Node {
    protocol: Protocol,
    out: Outlet,
    share: Arc<Share>,
    effects: Effects,
    now: Instant,
    /// Frames on their way to this end.
    inbox: VecDeque<Vec<u8>>,
    /// Requests without an answer, in the order they came.
    requests: Vec<Incoming>,
    cancelled: Vec<u64>,
    expired: Vec<u64>,
    error: Option<ConnectionError>,
    /// Frames received or landing; every other one lands, if it may.
    received: usize,
    /// Whether other things happen while one lands.
    lands_slowly: bool,
    /// Frames that have landed.
    landed: usize,
    /// What is landing, and the rest of it.
    landing: Option<(Landing, Vec<u8>)>,
    /// What came beside the reply that was polled last.
    beside: Option<Metadata>,
    /// What the reply handed over that was polled last.
    claim: Option<Claim>,
}

impl Node {
    fn new(side: Side, limits: Limits, chunk_len: usize, silent_loss: bool, now: Instant) -> Node {
        let share = Arc::new(Share::new(&limits));
        let config = Config {
            side,
            limits,
            codecs: vec![CodecId::Bincode],
            chunk_len,
            whole_len: WHOLE,
            silent_loss,
            instance: 0x1234,
            share: Arc::clone(&share),
        };
        Node {
            protocol: Protocol::new(config),
            out: Outlet { buffer: BatchBuffer::default(), room: usize::MAX, reserved: 0, places: 0 },
            share,
            effects: Effects::default(),
            now,
            inbox: VecDeque::new(),
            requests: Vec::new(),
            cancelled: Vec::new(),
            expired: Vec::new(),
            error: None,
            received: 0,
            lands_slowly: false,
            landed: 0,
            landing: None,
            beside: None,
            claim: None,
        }
    }

    /// Takes a frame in: as a whole, or first its head and then the rest, or without its payload, which is lent.
    fn receive(&mut self, record: &[u8]) -> Result<(), ConnectionError> {
        self.received += 1;
        // The whole head, a part of it, or some of the payload.
        let here = [record.len(), 44, record.len(), 20, record.len(), 300][self.received % 6];
        let partial = Partial { bytes: record.get(..here).unwrap_or(record), len: record.len() };
        if here < record.len() && self.received % 12 > 6 {
            if let Some(len) = self.protocol.whole(&partial) {
                let payload = Lease::new(record[len..].to_vec());
                let handled = self.protocol.handle_lent(&record[..len], payload, &mut self.effects);
                self.sort_effects();
                return handled.map_err(|error| *error);
            }
        }
        let place = if here < record.len() { self.protocol.offer(&partial) } else { None };
        if let Some(place) = place {
            self.landing = Some((place, record[here..].to_vec()));
            return if self.lands_slowly { Ok(()) } else { self.land() };
        }
        let handled = self.protocol.handle(record, &mut self.effects);
        self.sort_effects();
        handled.map_err(|error| *error)
    }

    /// Takes a frame in whose head comes first; whether the rest landed.
    fn receive_landing(&mut self, record: &[u8]) -> bool {
        let before = self.landed;
        self.received = 0;
        self.receive(record).unwrap();
        self.landed != before
    }

    /// The rest of a frame arrives.
    fn land(&mut self) -> Result<(), ConnectionError> {
        let Some((mut place, rest)) = self.landing.take() else {
            return Ok(());
        };
        let mut rest = &rest[..];
        while place.missing() > 0 {
            let (now, later) = rest.split_at(place.space().len());
            place.space().copy_from_slice(now);
            place.advance(now.len());
            rest = later;
        }
        self.landed += 1;
        let handled = self.protocol.handle_landed(place, &mut self.effects);
        self.sort_effects();
        handled.map_err(|error| *error)
    }

    fn sort_effects(&mut self) {
        self.effects.events.each(|event, short| match std::mem::replace(event, Event::Cancel(0)) {
            Event::Request(mut incoming) => {
                incoming.payload.keep(short);
                self.requests.push(incoming);
            }
            Event::Cancel(id) => self.cancelled.push(id),
            Event::Expire(id) => self.expired.push(id),
        });
        self.effects.wakers.drain(..).for_each(Waker::wake);
    }

    /// Everything there is room for, as frames.
    fn output(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            self.protocol.take_ready(&mut self.effects.events);
            self.protocol.transmit(&mut self.out, &mut self.effects.wakers);
            self.sort_effects();
            let mut batch = Bytes::default();
            if !self.out.take_batch(&mut batch) {
                return frames;
            }
            let mut rest = batch.as_slice();
            while let Some(record) = first_record(rest, usize::MAX).unwrap() {
                frames.push(record.to_vec());
                rest = &rest[record.len()..];
            }
            assert!(rest.is_empty());
        }
    }

    fn begin(&mut self, call: NewCall, payload: Vec<u8>, waker: Option<Waker>) -> Begun {
        let (begun, _) = self.protocol.begin(
            &call,
            payload.as_slice().into(),
            false,
            &mut Some(payload.clone().into()),
            &mut { waker },
            &mut self.out,
        );
        let id = match begun {
            Attempt::Done(begun) => return begun,
            Attempt::Lent(id) => id,
            Attempt::Unowned => panic!("it has a copy"),
        };
        // All but the first frame waits here.
        let room = std::mem::replace(&mut self.out.room, 0);
        let fed = self.protocol.feed(id, payload.as_slice().into(), false, &mut NewWaker::default(), &mut self.out);
        self.out.room = room;
        if let Fed::Part(sent) = fed {
            self.protocol.caller().keep(id, payload[sent..].into());
        }
        Begun::Placed(id)
    }

    /// Makes a call that finds room at once.
    fn place(&mut self, payload: Vec<u8>) -> u64 {
        placed(self.begin(new_call(), payload, None))
    }

    /// Makes a call that has to wait.
    fn queue(&mut self, payload: Vec<u8>) -> Ticket {
        match self.begin(new_call(), payload, None) {
            Begun::Queued(ticket) => ticket,
            other => panic!("expected it to wait, not {other:?}"),
        }
    }

    fn poll(&mut self, id: u64) -> Option<Answer> {
        let mut wakers = Vec::new();
        let mut answer = Answer::EMPTY;
        let (answered, frees) = self.protocol.poll_call(id, &mut None, &mut answer);
        if frees {
            self.protocol.transmit(&mut self.out, &mut wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
        self.beside = None;
        if let Answer::Extended(mut extended) = answer {
            let Extended { answer: plain, metadata, claim } = extended.take().unwrap();
            self.beside = Some(metadata);
            self.claim = claim;
            answer = match plain {
                Ok((half, bytes)) if bytes.len() <= REPLY_INLINE_MAX => {
                    let mut small = [0; REPLY_INLINE_MAX];
                    small[..bytes.len()].copy_from_slice(&bytes);
                    Answer::Small { half, bytes: small, len: bytes.len() as u8 }
                }
                Ok((half, bytes)) => Answer::Large { half, bytes },
                Err(failure) => Answer::Failed(failure),
            };
        }
        answered.then_some(answer)
    }

    fn poll_waiting(&mut self, ticket: Ticket) -> Waited {
        self.protocol.caller().poll_waiting(ticket, &mut None)
    }

    /// The bytes of a reply that must be there.
    fn reply(&mut self, id: u64) -> Vec<u8> {
        match self.poll(id) {
            Some(Answer::Small { bytes, len, .. }) => bytes[..usize::from(len)].to_vec(),
            Some(Answer::Large { bytes, .. }) => bytes.to_vec(),
            other => panic!("expected a reply, not {other:?}"),
        }
    }

    fn failure(&mut self, id: u64) -> Failure {
        match self.poll(id) {
            Some(Answer::Failed(failure)) => failure,
            other => panic!("expected a failure, not {other:?}"),
        }
    }

    fn abandon(&mut self, id: u64) {
        let mut wakers = Vec::new();
        self.protocol.abandon(id, &mut Vec::new(), &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn abandon_waiting(&mut self, ticket: Ticket) {
        let mut wakers = Vec::new();
        self.protocol.abandon_waiting(ticket, &mut Vec::new(), &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A handler returns, with the metadata that came with its request.
    fn finish(&mut self, id: u64, reply: &[u8]) {
        let request = self.requests.iter().find(|request| request.id == id);
        let came = request.and_then(|request| request.extras.as_ref());
        let extras = came.and_then(|extras| Sent::with_reply(&extras.metadata));
        self.requests.retain(|request| request.id != id);
        self.protocol.finish(id, Finish::Returned(Half::Ok, extras), Encoded::There(reply), &mut self.out);
    }

    fn finish_with(&mut self, id: u64, failure: Failure) {
        self.requests.retain(|request| request.id != id);
        self.protocol.finish(id, Finish::Failed(failure), Encoded::EMPTY, &mut self.out);
    }

    /// Every handler returns its own request's payload.
    fn echo_all(&mut self) {
        for request in std::mem::take(&mut self.requests) {
            self.finish(request.id, request.payload.as_slice());
        }
    }

    fn timeout(&mut self) -> Option<Instant> {
        let now = self.now;
        if self.error.is_none() { self.protocol.poll_timeout(|| now) } else { None }
    }

    fn end(&mut self, error: ConnectionError, written: u64) {
        self.protocol.end(error, written, &mut self.effects.wakers);
        self.sort_effects();
    }

    fn stats(&mut self) -> ConnectionStats {
        self.protocol.stats()
    }

    fn is_at_rest(&mut self) -> bool {
        self.stats().is_at_rest()
            && self.protocol.caller.is_at_rest()
            && self.protocol.callee.is_at_rest()
            && self.protocol.streams.as_ref().is_none_or(|streams| streams.is_at_rest())
            && self.protocol.objects.as_ref().is_none_or(|objects| objects.is_at_rest())
            && (self.share.calls(), self.share.bytes()) == (0, 0)
    }

    /// Kinds and ids of what is on its way to this end.
    fn coming(&self) -> Vec<(Kind, u64)> {
        self.inbox.iter().map(|record| kind_and_id(record)).collect()
    }
}

struct Pair {
    client: Node,
    server: Node,
}

impl Pair {
    /// A connected pair with default limits and chunks of 4 KiB.
    fn new() -> Pair {
        Pair::with(Limits::default(), Limits::default())
    }

    fn with(client: Limits, server: Limits) -> Pair {
        let mut pair = Pair::apart(client, server, false);
        pair.settle();
        assert!(pair.client.protocol.is_open() && pair.server.protocol.is_open());
        pair
    }

    /// A pair that has yet to shake hands.
    fn apart(client: Limits, server: Limits, silent_loss: bool) -> Pair {
        let now = Instant::now();
        Pair {
            client: Node::new(Side::Client, client, CHUNK, silent_loss, now),
            server: Node::new(Side::Server, server, CHUNK, silent_loss, now),
        }
    }

    /// Puts what both ends have to say on its way.
    fn flush(&mut self) {
        let frames = self.client.output();
        self.server.inbox.extend(frames);
        let frames = self.server.output();
        self.client.inbox.extend(frames);
    }

    /// One frame reaches the server.
    fn server_takes(&mut self) -> bool {
        Pair::deliver(&mut self.server)
    }

    /// One frame reaches the client.
    fn client_takes(&mut self) -> bool {
        Pair::deliver(&mut self.client)
    }

    fn deliver(node: &mut Node) -> bool {
        if node.landing.is_some() {
            let landed = node.land();
            if node.error.is_none() {
                node.error = landed.err();
            }
            return true;
        }
        let Some(record) = node.inbox.pop_front() else {
            return false;
        };
        if node.error.is_none() {
            node.error = node.receive(&record).err();
        }
        true
    }

    /// Delivers until nothing is on its way.
    fn settle(&mut self) {
        loop {
            self.flush();
            if !(self.server_takes() | self.client_takes()) {
                return;
            }
        }
    }

    /// Lets time pass; each end is asked exactly when it wants to be.
    fn advance(&mut self, by: Duration) {
        let end = self.client.now + by;
        for step in 0.. {
            assert!(step < 100_000, "the timers spin");
            let due = [self.client.timeout(), self.server.timeout()].into_iter().flatten().min();
            let now = due.filter(|due| *due <= end).unwrap_or(end).max(self.client.now);
            for node in [&mut self.client, &mut self.server] {
                node.now = now;
                if node.error.is_none() {
                    node.error = node.protocol.handle_timeout(now, &mut node.effects).err();
                }
                node.sort_effects();
            }
            self.settle();
            if due.is_none_or(|due| due > end) {
                return;
            }
        }
    }

    /// One end closes: what is owed goes out, CLOSE behind it, and that end hears nothing more.
    fn close(&mut self, side: Side) {
        if self.node(side).error.is_none() {
            self.node(side).protocol.close(CloseReason::Normal);
            self.flush();
            self.node(side).error = Some(ConnectionError::ClosedHere);
        }
        self.end_closed();
    }

    fn node(&mut self, side: Side) -> &mut Node {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Who has closed, or has heard that the other has, has no connection any more.
    fn end_closed(&mut self) {
        for node in [&mut self.client, &mut self.server] {
            if let Some(error) = node.error.clone() {
                node.end(error, u64::MAX - 1);
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.client.error.is_some() || self.server.error.is_some()
    }

    /// Both ends have ended, because one has closed.
    #[track_caller]
    fn settle_closed(&mut self, context: &str) {
        self.settle();
        self.end_closed();
        for node in [&self.client, &self.server] {
            match node.error {
                Some(ConnectionError::ClosedHere | ConnectionError::ClosedByPeer(CloseReason::Normal)) => {}
                ref other => panic!("{context}: {other:?}"),
            }
        }
    }

    /// Nothing is counted any more at either end of what was closed.
    #[track_caller]
    fn assert_nothing_left(&mut self, context: &str) {
        for node in [&mut self.client, &mut self.server] {
            assert!(node.stats().is_at_rest(), "{context}\n{:#?}", node.protocol);
            assert_eq!((node.share.calls(), node.share.bytes()), (0, 0), "{context}");
        }
    }

    #[track_caller]
    fn assert_at_rest(&mut self) {
        self.settle();
        self.advance(SWEEP * 2);
        assert_eq!((&self.client.error, &self.server.error), (&None, &None));
        assert!(self.client.is_at_rest(), "{:#?}", self.client.protocol);
        assert!(self.server.is_at_rest(), "{:#?}", self.server.protocol);
    }
}

const CHUNK: usize = 4096;
/// Up to here messages may come whole.
const WHOLE: usize = 4 * CHUNK;

fn new_call() -> NewCall {
    NewCall {
        head: CallHead { method: 7, fingerprint: 0, timeout: 300_000 },
        oneway: false,
        timeout: Duration::from_secs(30),
        deadline: None,
        nested: false,
        streams: StreamCounts::NONE,
        extras: None,
        hops: 0,
        object: 0,
        result: false,
    }
}

/// A call with a deadline of its own.
fn timed(now: Instant, timeout: Duration) -> NewCall {
    let units = u32::try_from(timeout.as_micros() / 100).unwrap();
    let head = CallHead { timeout: units, ..new_call().head };
    NewCall { head, timeout, deadline: Some(now + timeout), ..new_call() }
}

#[track_caller]
fn placed(begun: Begun) -> u64 {
    match begun {
        Begun::Placed(id) => id,
        other => panic!("expected it to be placed, not {other:?}"),
    }
}

/// Bytes that are recognised.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(31) ^ i >> 8 ^ seed) as u8).collect()
}

fn kind_and_id(record: &[u8]) -> (Kind, u64) {
    (Kind::from_wire(record[4]).unwrap(), u64::from_le_bytes(record[8..16].try_into().unwrap()))
}

/// A frame as a dishonest peer may write it.
fn raw(kind: u8, flags: u8, id: u64, extensions: &[u8], body: &[u8]) -> Vec<u8> {
    let len = HEADER_LEN - 8 + extensions.len() + body.len();
    let mut record = (len as u32).to_le_bytes().to_vec();
    record.extend_from_slice(&[kind, flags]);
    record.extend_from_slice(&(extensions.len() as u16).to_le_bytes());
    record.extend_from_slice(&id.to_le_bytes());
    record.extend_from_slice(extensions);
    record.extend_from_slice(body);
    record
}

fn extension(tag: u16, value: &[u8]) -> Vec<u8> {
    let mut extension = tag.to_le_bytes().to_vec();
    extension.extend_from_slice(&(value.len() as u16).to_le_bytes());
    extension.extend_from_slice(value);
    extension
}

fn total(total: u64) -> Vec<u8> {
    extension(tag::TOTAL, &total.to_le_bytes())
}

/// A CALL's body: method 7, no fingerprint, 30 s.
fn call_body(payload: &[u8]) -> Vec<u8> {
    let mut body = 7u64.to_le_bytes().to_vec();
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&300_000u32.to_le_bytes());
    body.extend_from_slice(payload);
    body
}

/// What a frame that no honest peer sends does to the end that gets it.
#[track_caller]
fn violation(handled: Result<(), ConnectionError>) -> ProtocolError {
    match handled {
        Err(ConnectionError::Protocol(error)) => error,
        other => panic!("expected a violation, not {other:?}"),
    }
}

fn not_executed(failure: &Failure) -> &Reason {
    assert_eq!(failure.class, Class::NotExecuted, "{failure:?}");
    &failure.reason
}

fn maybe_executed(failure: &Failure) -> &Reason {
    assert_eq!(failure.class, Class::MaybeExecuted, "{failure:?}");
    &failure.reason
}
