//! The rings as a frame transport: records are frames, and there is no byte stream in between.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::net::UnixStream;
use trunkline_core::frame::{FIRST_WORD_LEN, FRAME_OVERHEAD_MAX, FrameError, HEAD_LEN_MAX, first_record};
use trunkline_core::transport::{
    BatchWriter, Filled, FrameReceiver, FrameSender, LANDING_LEN_MIN, Landing, Lease, Partial, PeerIdentity,
    Properties, Sent, Transport, Written,
};
use trunkline_core::{ConnectionError, ProtocolError};

use super::SCHEME;
use super::lease::lease;
use super::line::{Line, Peer};
use super::memory::{OwnMemory, PeerMemory};
use super::options::Vouched;
use super::ring::{Bell, Consumer, Producer, Record, Room, Sleep, Violation, record_len_max};
use super::setup::{CAPACITY_MAX, Rings};

/// The two rings between this process and another, as a transport.
#[derive(Debug)]
pub struct ShmTransport {
    socket: UnixStream,
    peer: PeerIdentity,
    rings: Rings,
    in_place: Option<Vouched>,
}

impl ShmTransport {
    pub(super) fn new(socket: UnixStream, peer: PeerIdentity, rings: Rings, in_place: Option<Vouched>) -> ShmTransport {
        ShmTransport { socket, peer, rings, in_place }
    }
}

impl Transport for ShmTransport {
    type Sender = ShmSender;
    type Writer = ShmWriter;
    type Receiver = ShmReceiver;

    fn properties(&self) -> Properties {
        let Rings { own_shape, peer_shape, .. } = &self.rings;
        // The longest record holds the longest frame of a chunk, the peer's longest block that of a whole message.
        Properties::new(SCHEME, self.peer.clone())
            .chunk_len(record_len_max(own_shape.capacity) - FRAME_OVERHEAD_MAX)
            .whole_len(peer_shape.blocks.len.saturating_sub(FRAME_OVERHEAD_MAX))
            .memory(self.rings.memory)
    }

    fn split(self, frame_len_max: usize) -> (ShmSender, ShmWriter, ShmReceiver) {
        let Rings { own, own_shape, peer, peer_shape, bells, .. } = self.rings;
        let line = Arc::new(Line::new(self.socket, bells));
        let sender = ShmSender {
            producer: Some(Producer::new(own.clone(), peer.clone(), own_shape)),
            end: 0,
            shown: 0,
            asked: 0,
            parked: Bell::park(),
            rings: false,
            broken: None,
        };
        let writer = ShmWriter {
            line: Arc::clone(&line),
            own: own.clone(),
            peer: peer.clone(),
            sleep: Sleep::want_space(),
            written: 0,
            turns_left: TURNS_AFTER_END,
        };
        let receiver = ShmReceiver {
            consumer: Consumer::new(own.clone(), peer.clone(), peer_shape, frame_len_max),
            line,
            own,
            peer,
            sleep: Sleep::park(),
            wants_space: Bell::want_space(),
            landing: None,
            inbox: Inbox::default(),
            company: Company::default(),
            long: None,
            in_place: self.in_place,
            frame_len_max,
            hung_up: false,
        };
        (sender, writer, receiver)
    }
}

impl From<Violation> for io::Error {
    fn from(Violation { what, value }: Violation) -> io::Error {
        io::Error::other(ConnectionError::Protocol(ProtocolError::SharedMemory { what, value }))
    }
}

/// Where frames are placed: straight into the ring.
#[derive(Debug)]
pub struct ShmSender {
    /// Gone when the connection has ended, and the memory with it.
    producer: Option<Producer<OwnMemory, PeerMemory>>,
    /// Up to where frames had been placed when it went.
    end: u64,
    /// Up to where the peer sees them.
    shown: u64,
    /// Up to where it has been asked whether the peer sleeps.
    asked: u64,
    parked: Bell,
    /// The peer sleeps, and the writer has yet to be told. If that one waits for room just now, it does not wait for this: a
    /// peer that sleeps has read all there was, and said so before.
    rings: bool,
    /// What the peer did, until the writer is told.
    broken: Option<Violation>,
}

impl ShmSender {
    /// Shows the peer what is committed, and asks whether it sleeps; `false` if it has been shown nothing since it was asked
    /// last.
    fn publish(&mut self) -> bool {
        self.show();
        let Some(producer) = self.producer.as_ref().filter(|_| self.asked != self.shown) else { return false };
        self.asked = self.shown;
        self.rings |= self.parked.is_due(producer.peer());
        true
    }
}

impl FrameSender for ShmSender {
    type Batch = ShmBatch;

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        match self.producer.as_mut()?.reserve_bytes(len) {
            Ok(space) => space,
            Err(violation) => {
                self.broken = Some(violation);
                None
            }
        }
    }

    fn commit(&mut self, first_word: u64) {
        if let Some(producer) = &mut self.producer {
            producer.commit(first_word);
        }
    }

    fn frame_len_now(&mut self) -> usize {
        self.producer.as_mut().map_or(0, Producer::block_len_now)
    }

    fn take_batch(&mut self, batch: &mut ShmBatch) -> bool {
        let published = self.publish() || self.rings;
        batch.published = published.then(|| self.position());
        batch.rings = std::mem::take(&mut self.rings);
        batch.room = self.producer.as_mut().and_then(Producer::take_room);
        batch.broken = self.broken.take();
        published || batch.room.is_some() || batch.broken.is_some()
    }

    fn send_at_once(&mut self) -> Sent {
        if self.producer.is_none() || self.wants_room() {
            return Sent::Nothing;
        }
        self.publish();
        // A peer that is awake sees it; nobody need tell it.
        if self.rings { Sent::Shown } else { Sent::All }
    }

    fn show(&mut self) {
        if let Some(producer) = &mut self.producer {
            if producer.publish() {
                self.shown = producer.position();
            }
        }
    }

    fn shown(&self) -> u64 {
        self.shown
    }

    fn position(&self) -> u64 {
        self.producer.as_ref().map_or(self.end, Producer::position)
    }

    fn wants_room(&self) -> bool {
        self.producer.as_ref().is_some_and(|producer| producer.wants_room().is_some()) || self.broken.is_some()
    }

    fn release(&mut self) {
        self.end = self.position();
        self.rings = false;
        self.broken = None;
        self.producer = None;
    }
}

/// What the writer has to know of what lies in the ring already.
#[derive(Debug, Default)]
pub struct ShmBatch {
    /// Up to where frames are visible, if any are that no batch before this has told of.
    published: Option<u64>,
    /// The peer sleeps and is to be woken.
    rings: bool,
    /// What a frame that could not be placed waits for.
    room: Option<Room>,
    broken: Option<Violation>,
}

/// Wakes the peer, and waits for room.
#[derive(Debug)]
pub struct ShmWriter {
    line: Arc<Line>,
    own: OwnMemory,
    peer: PeerMemory,
    sleep: Sleep,
    written: u64,
    /// How often it is still waited for room of a peer that has ended.
    turns_left: u32,
}

/// In each of them but the first at least a long record is read, or a full inbox: the largest ring, four times.
const TURNS_AFTER_END: u32 = 4 * (CAPACITY_MAX / LONG_MIN) as u32;

impl ShmWriter {
    /// Rings for a peer that sleeps; what it wants to know of the room that was missing is left.
    fn announce(&mut self, batch: &mut ShmBatch) -> io::Result<Option<Room>> {
        if let Some(position) = batch.published.take() {
            self.written = position;
        }
        if std::mem::take(&mut batch.rings) {
            self.line.ring()?;
        }
        match batch.broken {
            Some(violation) => Err(violation.into()),
            None => Ok(batch.room),
        }
    }
}

/// A peer that reads just now has made room sooner than a sleep is over: a frame is copied in less.
const LOOKS_FOR_ROOM: u32 = 128;

impl ShmWriter {
    fn waits_briefly(&self, room: &Room) -> io::Result<bool> {
        for _ in 0..LOOKS_FOR_ROOM {
            if room.is_there(&self.peer)? {
                return Ok(true);
            }
            std::hint::spin_loop();
        }
        Ok(false)
    }
}

impl BatchWriter for ShmWriter {
    type Batch = ShmBatch;

    // To place a frame is all it takes where the peer is awake.
    const COSTLY: bool = false;

    fn try_write(&mut self, batch: &mut ShmBatch) -> io::Result<Written> {
        match self.announce(batch)? {
            Some(room) if !self.waits_briefly(&room)? => return Ok(Written::Blocked),
            _ => {}
        }
        batch.room = None;
        Ok(Written::All)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, batch: &mut ShmBatch) -> Poll<io::Result<()>> {
        if let Some(room) = self.announce(batch)? {
            let ShmWriter { line, own, peer, sleep, .. } = self;
            let mut peer_is = Ok(Peer::Lives);
            let waits = sleep.announce(own, || peer_is = line.clear(cx), || room.is_there(peer))?;
            if waits {
                return match peer_is {
                    Ok(Peer::Lives) => Poll::Pending,
                    // The receiving half has its turns first: what the peer has published counts.
                    Ok(Peer::Ended) if self.turns_left > 0 => {
                        self.turns_left -= 1;
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    Ok(Peer::Ended) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                    Err(error) => Poll::Ready(Err(error)),
                };
            }
        }
        batch.room = None;
        Poll::Ready(Ok(()))
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is in the ring stays readable.
        Poll::Ready(self.line.shut())
    }
}

/// Takes records out of the peer's ring.
///
/// Short ones are copied into the inbox, one after the other. Of a long one only the head is: the rest then goes straight
/// to where it belongs, or to the inbox as well.
#[derive(Debug)]
pub struct ShmReceiver {
    consumer: Consumer<OwnMemory, PeerMemory>,
    line: Arc<Line>,
    own: OwnMemory,
    peer: PeerMemory,
    sleep: Sleep,
    wants_space: Bell,
    /// The frame before what is in the inbox.
    landing: Option<Landing>,
    inbox: Inbox,
    company: Company,
    /// The record behind what is in the inbox, if it is a long one; or the one that is landing.
    long: Option<Long>,
    /// Whether blocks of the peer's are read where they are.
    in_place: Option<Vouched>,
    frame_len_max: usize,
    hung_up: bool,
}

/// A long record that has not been consumed, and what has been copied of it: a head may be changed after it was read.
#[derive(Debug)]
struct Long {
    record: Record,
    head: [u8; HEAD_LEN_MAX],
}

/// The head and what makes it worth while to land the rest.
const LONG_MIN: usize = HEAD_LEN_MAX + LANDING_LEN_MIN;

impl ShmReceiver {
    /// Copies published records, up to what the inbox holds, or the first alone; `false` if there is nothing to look at.
    fn fill(&mut self) -> io::Result<bool> {
        if let Some(long) = self.long.take() {
            if let Some(landing) = self.landing.as_mut().filter(|landing| landing.missing() > 0) {
                long.land(&mut self.consumer, landing);
            } else if !self.has_frames() {
                // Nobody has a better place for it.
                let (head, rest) = self.inbox.push(long.record.len()).split_at_mut(HEAD_LEN_MAX);
                head.copy_from_slice(&long.head);
                self.consumer.copy(&long.record, HEAD_LEN_MAX, rest);
                self.consumer.consume(long.record);
            } else {
                self.long = Some(long);
                return Ok(true);
            }
            self.release(false)?;
        }
        self.inbox.make_room();
        let mut filled = false;
        while !self.inbox.is_full() && (!filled || self.company.follows()) {
            let len = match self.consumer.look() {
                Ok(Some(len)) => len,
                Ok(None) => {
                    self.company.ends();
                    break;
                }
                // Frames before it are good.
                Err(_) if self.has_frames() => break,
                Err(violation) => return Err(violation.into()),
            };
            filled = true;
            self.company.came();
            if len >= LONG_MIN {
                self.long = self.consumer.next()?.map(|record| Long::begin(&self.consumer, record));
                break;
            }
            self.consumer.take(self.inbox.push(len));
        }
        if filled {
            self.release(false)?;
        }
        Ok(self.has_frames() || self.long.is_some())
    }

    fn has_frames(&self) -> bool {
        self.landing.is_some() || !self.inbox.rest().is_empty()
    }

    /// Gives room back to the peer, and rings if it waits for some.
    fn release(&mut self, all: bool) -> io::Result<()> {
        if self.consumer.release(all) && self.wants_space.is_due(&self.peer) {
            self.line.ring()?;
        }
        Ok(())
    }
}

impl FrameReceiver for ShmReceiver {
    fn try_fill(&mut self) -> io::Result<Option<Filled>> {
        // What was read and not given back yet is less than a quarter of the ring: any frame still has room.
        Ok(self.fill()?.then_some(Filled::Some))
    }

    /// Each is a load.
    const TRIES_PER_TURN: u32 = 32;

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        self.sleep.withdraw(&self.own);
        loop {
            if self.fill()? {
                return Poll::Ready(Ok(Filled::Some));
            }
            // What the peer published before it went has been read.
            if self.hung_up {
                return Poll::Ready(Ok(Filled::Closed));
            }
            self.release(true)?;
            let ShmReceiver { consumer, line, own, sleep, .. } = self;
            let mut peer_is = Ok(Peer::Lives);
            let waits =
                sleep.announce(own, || peer_is = line.clear(cx), || consumer.look().map(|len| len.is_some()))?;
            self.hung_up = peer_is? == Peer::Ended;
            if waits && !self.hung_up {
                ready!(self.line.poll_end(cx))?;
                self.hung_up = true;
            }
        }
    }

    const DETACHES: bool = true;

    // The announcement stands: the peer rings for it once, and then no more. To take it back would be a store that the
    // peer has to fetch.

    fn frame(&self) -> Result<Option<&[u8]>, FrameError> {
        if self.landing.is_some() {
            return Ok(None);
        }
        first_record(self.inbox.rest(), self.frame_len_max)
    }

    fn consume(&mut self) {
        let len = self.frame().ok().flatten().map_or(0, <[u8]>::len);
        self.inbox.consume(len);
    }

    fn partial(&self) -> Option<Partial<'_>> {
        let long = self.long.as_ref().filter(|_| !self.has_frames())?;
        Some(Partial { bytes: &long.head, len: long.record.len() })
    }

    /// The bytes are there already, but it is not for whoever holds a lock to copy them.
    fn land(&mut self, place: Landing) {
        self.landing = Some(place);
    }

    fn landed(&mut self) -> Option<Landing> {
        self.landing.take_if(|landing| landing.missing() == 0)
    }

    const LENDS: bool = true;

    fn lend(&mut self, start: usize) -> Option<Lease> {
        let vouched = self.in_place?;
        let next = !self.has_frames();
        let Long { record, .. } = self.long.take_if(|long| next && long.record.is_aside())?;
        let loan = self.consumer.lend(record)?;
        Some(lease(vouched, self.peer.clone(), record.range(start), loan))
    }

    fn idle(&mut self) {
        self.inbox.shrink();
    }
}

impl Long {
    fn begin(consumer: &Consumer<OwnMemory, PeerMemory>, record: Record) -> Long {
        let mut head = [0; HEAD_LEN_MAX];
        consumer.copy_head(&record, &mut head);
        Long { record, head }
    }

    /// Copies the rest of the record to where it belongs, and consumes it.
    fn land(&self, consumer: &mut Consumer<OwnMemory, PeerMemory>, landing: &mut Landing) {
        let mut at = HEAD_LEN_MAX;
        while at < self.record.len() {
            let missing = landing.missing();
            let mut space = landing.space();
            if space.len() < missing {
                // The next piece begins with a whole word, too.
                let words = space.len() - space.len() % FIRST_WORD_LEN;
                space = &mut space[..words];
            }
            consumer.copy(&self.record, at, space);
            at += space.len();
            let n = space.len();
            landing.advance(n);
        }
        consumer.consume(self.record);
    }
}

/// Whether records come alone or several at a time.
///
/// Behind one that came alone there is nothing yet, and to find that out takes as long as to fetch a line from the producer's
/// cache: while whoever waits for the one is kept waiting. The next turn is early enough.
#[derive(Debug, Default)]
struct Company {
    /// Records since there was none.
    run: u32,
    /// The run before had more than one.
    before: bool,
}

impl Company {
    fn came(&mut self) {
        self.run = self.run.saturating_add(1);
    }

    /// There is none.
    fn ends(&mut self) {
        if self.run > 0 {
            self.before = self.run > 1;
            self.run = 0;
        }
    }

    /// Whether another is to be expected behind the last.
    fn follows(&self) -> bool {
        self.before || self.run > 1
    }
}

/// Frames copied out of the ring, one after the other.
#[derive(Debug, Default)]
struct Inbox {
    /// Its length is the most that was ever used: what is written over need not be cleared first.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// With so many bytes in the inbox, no more records are copied.
const INBOX_FULL: usize = 64 << 10;

impl Inbox {
    fn is_full(&self) -> bool {
        self.end - self.start >= INBOX_FULL
    }

    /// Moves what is left to the front.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    fn push(&mut self, len: usize) -> &mut [u8] {
        let start = self.end;
        self.end += len;
        if self.end > self.bytes.len() {
            // By steps, since it is cleared as it grows.
            self.bytes.resize(self.end.next_power_of_two(), 0);
        }
        &mut self.bytes[start..self.end]
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn consume(&mut self, len: usize) {
        self.start += len;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    fn shrink(&mut self) {
        self.make_room();
        if self.end == 0 {
            self.bytes = Vec::new();
        }
    }
}
