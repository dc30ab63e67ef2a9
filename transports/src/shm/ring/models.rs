//! The ring under a model checker, which tries the orders in which two threads can run and, for each load, the values
//! that the memory model allows it.
//!
//! `RUSTFLAGS='--cfg trunkline_loom' cargo test --release -p trunkline-transports --lib shm::ring::models`
//!
//! First words, positions and announcements are the checker's atomics. All other words are its cells, each access of
//! which must be ordered after every conflicting one before it: a copy that races with a writer is an error even if it
//! happens to read what was meant. A wake-up that got lost is a deadlock.
//!
//! What precedes the race (filling the ring, going once around it) runs in one thread and is not explored.
#![allow(unsafe_code)] // The checker's cells give out pointers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU64};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::*;
use crate::shm::memory::{Own, Peer};

enum Word {
    Shared(AtomicU64),
    Plain(UnsafeCell<u64>),
}

// SAFETY: the checker panics in an execution where two accesses of a cell are not ordered.
unsafe impl Send for Word {}
// SAFETY: as above.
unsafe impl Sync for Word {}

/// A segment; only the words that the ring uses exist.
#[derive(Clone)]
struct Segment {
    control: Arc<[AtomicU64; 4]>,
    data: Arc<Vec<Word>>,
}

impl Segment {
    fn new(shape: impl Into<Shape>) -> Segment {
        let Shape { capacity, blocks } = shape.into();
        let first = |at| at % 64 == 0 && at < capacity;
        let word = |at| if first(at) { Word::Shared(AtomicU64::new(0)) } else { Word::Plain(UnsafeCell::new(0)) };
        Segment {
            control: Arc::new([PARK, WANT_SPACE, HEAD, RETURNED].map(|_| AtomicU64::new(0))),
            data: Arc::new((0..capacity + blocks.bytes()).step_by(8).map(word).collect()),
        }
    }

    fn shared(&self, at: usize) -> &AtomicU64 {
        match at {
            PARK => &self.control[0],
            WANT_SPACE => &self.control[1],
            HEAD => &self.control[2],
            RETURNED => &self.control[3],
            _ => match &self.data[(at - DATA) / 8] {
                Word::Shared(word) => word,
                Word::Plain(_) => panic!("no first word is at {at:#x}"),
            },
        }
    }

    fn write(&self, range: Range<usize>, words: &[u64]) {
        assert_eq!(range.len(), words.len() * 8);
        for (at, &value) in range.step_by(8).zip(words) {
            match &self.data[(at - DATA) / 8] {
                Word::Shared(word) => word.store(value, Ordering::Relaxed),
                // SAFETY: the checker looks for other accesses.
                Word::Plain(word) => word.with_mut(|word| unsafe { *word = value }),
            }
        }
    }
}

impl Own for Segment {
    fn store(&self, at: usize, value: u64, order: Ordering) {
        match at.checked_sub(DATA).map(|at| &self.data[at / 8]) {
            Some(Word::Plain(_)) => self.write(at..at + 8, &[value]),
            _ => self.shared(at).store(value, order),
        }
    }
}

impl Peer for Segment {
    fn load(&self, at: usize) -> u64 {
        self.shared(at).load(Ordering::Relaxed)
    }

    fn copy(&self, at: usize, into: &mut [u8]) {
        for (index, chunk) in into.chunks_exact_mut(8).enumerate() {
            let word = match &self.data[(at - DATA) / 8 + index] {
                Word::Shared(word) => word.load(Ordering::Relaxed),
                // SAFETY: the checker looks for other accesses.
                Word::Plain(word) => word.with(|word| unsafe { *word }),
            };
            chunk.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// Readiness as an edge-triggered poll reports it: a ring sets it, clearing forgets it, nothing else ever does. It
/// orders no other memory: the ring must not rely on its doorbell for that. A hang-up is never forgotten.
#[derive(Default)]
struct Doorbell {
    ready: AtomicBool,
    gone: AtomicBool,
    sleeper: Mutex<()>,
    ringing: Condvar,
}

impl Doorbell {
    fn ring(&self) {
        self.ready.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn hang_up(&self) {
        self.gone.store(true, Ordering::Release);
        self.wake();
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn wake(&self) {
        drop(self.sleeper.lock().unwrap());
        self.ringing.notify_one();
    }

    fn clear(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    fn wait(&self) {
        let mut sleeper = self.sleeper.lock().unwrap();
        while !self.ready.load(Ordering::Relaxed) && !self.is_gone() {
            sleeper = self.ringing.wait(sleeper).unwrap();
        }
    }
}

/// The producing side, with all that belongs to it.
struct Sending {
    own: Segment,
    peer: Segment,
    producer: Producer<Segment, Segment>,
    park: Bell,
    want_space: Sleep,
    data: Arc<Doorbell>,
    space: Arc<Doorbell>,
}

/// The consuming side, likewise.
struct Receiving {
    own: Segment,
    peer: Segment,
    consumer: Consumer<Segment, Segment>,
    park: Sleep,
    want_space: Bell,
    data: Arc<Doorbell>,
    space: Arc<Doorbell>,
}

fn pair(shape: impl Into<Shape>) -> (Sending, Receiving) {
    let shape = shape.into();
    let (out, back) = (Segment::new(shape), Segment::new(0));
    let (data, space) = (Arc::new(Doorbell::default()), Arc::new(Doorbell::default()));
    let sending = Sending {
        own: out.clone(),
        peer: back.clone(),
        producer: Producer::new(out.clone(), back.clone(), shape),
        park: Bell::park(),
        want_space: Sleep::want_space(),
        data: Arc::clone(&data),
        space: Arc::clone(&space),
    };
    let receiving = Receiving {
        own: back.clone(),
        peer: out.clone(),
        consumer: Consumer::new(back, out, shape, usize::MAX),
        park: Sleep::park(),
        want_space: Bell::want_space(),
        data,
        space,
    };
    (sending, receiving)
}

/// The words of frame `number`. Those that lie where a record could begin look as if one did.
fn frame(number: u64, len: usize) -> Vec<u64> {
    let word = |at| if at % 64 == 0 { (len as u64 - 8) | 2 << 32 | number << 48 } else { number << 16 | at as u64 };
    (0..len).step_by(8).map(word).collect()
}

impl Sending {
    /// Writes the frame into the ring; whether there was room.
    fn reserve(&mut self, frame: &[u64]) -> bool {
        let range = self.producer.reserve(frame.len() * 8).unwrap();
        range.map(|range| self.own.write(range, &frame[1..])).is_some()
    }

    fn commit(&mut self, frame: &[u64]) -> bool {
        let room = self.reserve(frame);
        if room {
            self.producer.commit(frame[0]);
        }
        room
    }

    fn publish(&mut self) {
        if self.producer.publish() && self.park.is_due(&self.peer) {
            self.data.ring();
        }
    }

    /// Sends, sleeping until there is room.
    fn send(&mut self, frame: &[u64]) {
        while !self.commit(frame) {
            let room = self.producer.take_room().unwrap();
            let there = || room.is_there(&self.peer);
            if self.want_space.announce(&self.own, || self.space.clear(), there).unwrap() {
                self.space.wait();
                self.want_space.withdraw(&self.own);
            }
        }
        self.publish();
    }
}

impl Receiving {
    fn take(&mut self) -> Option<Vec<u64>> {
        let record = self.consumer.next().unwrap()?;
        let mut bytes = vec![0; record.len()];
        self.consumer.take(&mut bytes);
        Some(bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect())
    }

    fn release(&mut self, all: bool) {
        if self.consumer.release(all) && self.want_space.is_due(&self.peer) {
            self.space.ring();
        }
    }

    /// Sleeps until there may be something.
    fn sleep(&mut self) {
        self.release(true);
        let there = || self.consumer.next().map(|record| record.is_some());
        if self.park.announce(&self.own, || self.data.clear(), there).unwrap() {
            self.data.wait();
            self.park.withdraw(&self.own);
        }
    }

    /// Receives, sleeping until there is something.
    fn receive(&mut self) -> Vec<u64> {
        loop {
            if let Some(frame) = self.take() {
                return frame;
            }
            self.sleep();
        }
    }
}

/// Sends and receives records of one line until the next one begins at `position`; the consumer has said so.
fn go_around(sending: &mut Sending, receiving: &mut Receiving, position: u64) {
    while sending.producer.position() < position {
        let frame = frame(99, 24);
        assert!(sending.commit(&frame));
        assert!(sending.producer.publish());
        assert_eq!(receiving.take(), Some(frame));
        receiving.consumer.release(true);
    }
}

/// Explores `model`, with at most `preemption_bound` switches away from a thread that could have gone on.
fn check(preemption_bound: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = preemption_bound;
    builder.expect_explicit_explore = true;
    builder.check(model);
}

#[test]
fn a_consumer_that_parks_is_woken() {
    check(Some(6), || {
        let (mut sending, mut receiving) = pair(512);
        loom::explore();
        let producing = thread::spawn(move || {
            sending.send(&frame(1, 24));
            sending.send(&frame(2, 24));
        });
        assert_eq!(receiving.receive(), frame(1, 24));
        assert_eq!(receiving.receive(), frame(2, 24));
        producing.join().unwrap();
        assert_eq!(receiving.take(), None);
    });
}

#[test]
fn a_batch_is_seen_as_a_whole() {
    check(None, || {
        let (mut sending, mut receiving) = pair(1024);
        loom::explore();
        let producing = thread::spawn(move || {
            assert!(sending.commit(&frame(1, 24)));
            // Given up for a shorter one.
            assert!(sending.reserve(&frame(9, 128)));
            assert!(sending.commit(&frame(2, 24)));
            assert!(sending.commit(&frame(3, 80)));
            sending.publish();
        });
        for _ in 0..2 {
            if let Some(first) = receiving.take() {
                assert_eq!(first, frame(1, 24));
                assert_eq!(receiving.take(), Some(frame(2, 24)));
                assert_eq!(receiving.take(), Some(frame(3, 80)));
                assert_eq!(receiving.take(), None);
                break;
            }
        }
        producing.join().unwrap();
    });
}

#[test]
fn a_record_that_does_not_fit_the_end_is_found_at_the_beginning() {
    check(None, || {
        let (mut sending, mut receiving) = pair(1024);
        go_around(&mut sending, &mut receiving, 960);
        loom::explore();
        let producing = thread::spawn(move || {
            sending.send(&frame(1, 80));
            assert!(sending.commit(&frame(2, 24)));
            assert!(sending.commit(&frame(3, 72)));
            sending.publish();
        });
        let mut expected = [frame(1, 80), frame(2, 24), frame(3, 72)].into_iter();
        for _ in 0..4 {
            if let Some(got) = receiving.take() {
                assert_eq!(Some(got), expected.next());
            }
        }
        producing.join().unwrap();
        while let Some(got) = receiving.take() {
            assert_eq!(Some(got), expected.next());
        }
        assert_eq!(expected.next(), None);
    });
}

/// A ring that has gone around once, so that what is old is no zero, and is full of frames 1 to 7.
fn full() -> (Sending, Receiving) {
    let (mut sending, mut receiving) = pair(512);
    go_around(&mut sending, &mut receiving, 512);
    for number in 1..=7 {
        assert!(sending.commit(&frame(number, 24)));
        assert!(sending.producer.publish());
    }
    assert!(!sending.commit(&frame(8, 24)));
    (sending, receiving)
}

#[test]
fn a_producer_without_room_is_woken() {
    check(Some(4), || {
        let (mut sending, mut receiving) = full();
        loom::explore();
        let producing = thread::spawn(move || {
            sending.send(&frame(8, 24));
            sending.send(&frame(9, 24));
        });
        for number in 1..=9 {
            assert_eq!(receiving.receive(), frame(number, 24));
            receiving.release(false);
        }
        producing.join().unwrap();
        assert_eq!(receiving.take(), None);
    });
}

/// Nobody sleeps and no bell is looked at: with their fences they would order what the read position has to.
#[test]
fn what_is_being_read_is_not_overwritten() {
    check(None, || {
        let (mut sending, mut receiving) = full();
        loom::explore();
        let producing = thread::spawn(move || {
            let count = (8..=10).take_while(|&number| sending.commit(&frame(number, 24))).count() as u64;
            sending.producer.publish();
            count
        });
        for number in 1..=3 {
            assert_eq!(receiving.take(), Some(frame(number, 24)));
            receiving.consumer.release(true);
        }
        let count = producing.join().unwrap();
        for number in 4..8 + count {
            assert_eq!(receiving.take(), Some(frame(number, 24)));
        }
        assert_eq!(receiving.take(), None);
    });
}

#[test]
fn what_was_published_before_the_close_is_received() {
    check(Some(6), || {
        let (mut sending, mut receiving) = pair(512);
        loom::explore();
        let producing = thread::spawn(move || {
            sending.send(&frame(1, 24));
            // Not rung for: the hang-up does that.
            assert!(sending.commit(&frame(2, 24)));
            assert!(sending.producer.publish());
            sending.data.hang_up();
        });
        let mut got = Vec::new();
        loop {
            // Asked before the ring is drained, so that this is the last time.
            let last = receiving.data.is_gone();
            got.extend(std::iter::from_fn(|| receiving.take()));
            if last {
                break;
            }
            receiving.sleep();
        }
        assert_eq!(got, [frame(1, 24), frame(2, 24)]);
        producing.join().unwrap();
    });
}

/// A ring and one block beside it.
const ASIDE: Shape = Shape { capacity: 512, blocks: Blocks { count: 1, len: 128 } };

/// The words are the block's own: their reader and their next writer are ordered by the giving back alone.
#[test]
fn a_block_is_not_overwritten_before_it_was_given_back() {
    check(None, || {
        let (mut sending, mut receiving) = pair(ASIDE);
        sending.send(&frame(1, 80));
        let record = receiving.consumer.next().unwrap().unwrap();
        assert!(record.is_aside());
        let loan = receiving.consumer.lend(record).unwrap();
        loom::explore();
        let memory = receiving.peer.clone();
        // A handler on another thread.
        let reading = thread::spawn(move || {
            let mut payload = [0; 72];
            memory.copy(record.range(8).start, &mut payload);
            drop(loan);
            payload
        });
        let mut sent = 1;
        for number in 2..=3 {
            if sending.producer.block_len_now() > 0 {
                sending.send(&frame(number, 80));
                sent = number;
            }
            if let Some(got) = receiving.take() {
                assert_eq!(got, frame(number, 80));
            }
        }
        let payload = reading.join().unwrap();
        let words = payload.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        assert!(words.eq(frame(1, 80).into_iter().skip(1)));
        assert!(sent == 3 || sending.producer.block_len_now() > 0, "it was given back");
    });
}

#[test]
fn a_block_is_seen_as_a_whole_beside_what_is_in_the_ring() {
    check(None, || {
        let (mut sending, mut receiving) = pair(ASIDE);
        loom::explore();
        let producing = thread::spawn(move || {
            sending.send(&frame(1, 24));
            sending.send(&frame(2, 128));
            sending.producer.block_len_now() > 0
        });
        let mut expected = [frame(1, 24), frame(2, 128)].into_iter();
        for _ in 0..3 {
            if let Some(got) = receiving.take() {
                assert_eq!(Some(got), expected.next());
            }
        }
        let free = producing.join().unwrap();
        assert!(!free || expected.len() == 0, "free before it was read");
        while let Some(got) = receiving.take() {
            assert_eq!(Some(got), expected.next());
        }
        assert_eq!(expected.next(), None);
    });
}
