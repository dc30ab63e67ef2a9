//! The ring on the heap: against a queue, between two threads, and against peers that lie.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use trunkline_core::frame::pad;

use super::*;
use crate::shm::memory::{Own, OwnMemory, Peer, PeerMemory, on_heap};

fn segment_len(capacity: usize) -> usize {
    Shape::from(capacity).len()
}

type HeapProducer = Producer<OwnMemory, PeerMemory>;
type HeapConsumer = Consumer<OwnMemory, PeerMemory>;

fn pair(capacity: usize) -> (HeapProducer, HeapConsumer) {
    let (out, seen) = on_heap(segment_len(capacity));
    let (back, heard) = on_heap(DATA);
    (Producer::new(out, heard, capacity), Consumer::new(back, seen, capacity, usize::MAX))
}

/// Xorshift.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.word() >> 11) as usize % end
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn frame(&mut self, len_max: usize) -> Vec<u8> {
        let len = match self.below(4) {
            0 => len_max - self.below(9),
            1 => 16 + self.below(len_max - 15),
            _ => 16 + self.below(len_max.min(200) - 15),
        };
        // Miri stops with an error of its own (rust-lang/miri#5185) where an ordinary write covers part of a word that was
        // stored atomically and is so again.
        let len = if cfg!(miri) { len & !7 } else { len };
        let mut frame = vec![0; len];
        for chunk in frame.chunks_mut(8) {
            // Mostly what a careless consumer would take for a record.
            let word = if self.one_in(4) { self.word() } else { word(16 + self.below(48)) };
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        let first = word(len) | self.word() << 40;
        frame[..8].copy_from_slice(&first.to_le_bytes());
        frame
    }
}

/// The first word of a call of `len` bytes.
fn word(len: usize) -> u64 {
    (len as u64 - 8) | 2 << 32
}

fn first_word(frame: &[u8]) -> u64 {
    u64::from_le_bytes(*frame.first_chunk().unwrap())
}

/// Whether there was room.
fn commit(producer: &mut HeapProducer, frame: &[u8]) -> bool {
    let Some(bytes) = producer.reserve_bytes(frame.len()).unwrap() else {
        return false;
    };
    bytes.copy_from_slice(&frame[8..]);
    producer.commit(first_word(frame));
    true
}

fn take(consumer: &mut HeapConsumer) -> Option<Vec<u8>> {
    let record = consumer.next().unwrap()?;
    let mut frame = vec![0; record.len()];
    // As a whole, or in pieces, as long ones are.
    if record.len() < 100 {
        consumer.take(&mut frame);
    } else {
        let (head, rest) = frame.split_at_mut(64);
        consumer.copy_head(&record, head);
        let (now, later) = rest.split_at_mut(16);
        consumer.copy(&record, 64, now);
        consumer.copy(&record, 80, later);
        consumer.consume(record);
    }
    Some(frame)
}

/// Both sides at random, in one thread, beside a queue that does the same.
struct Model {
    random: Random,
    producer: HeapProducer,
    consumer: HeapConsumer,
    /// What hears of the consumer's position.
    heard: PeerMemory,
    batch: Vec<Vec<u8>>,
    published: VecDeque<Vec<u8>>,
}

impl Model {
    fn new(seed: u64, capacity: usize) -> Model {
        let (out, seen) = on_heap(segment_len(capacity));
        let (back, heard) = on_heap(DATA);
        Model {
            random: Random::new(seed),
            producer: Producer::new(out, heard.clone(), capacity),
            consumer: Consumer::new(back, seen, capacity, usize::MAX),
            heard,
            batch: Vec::new(),
            published: VecDeque::new(),
        }
    }

    fn produce(&mut self) {
        let frame = self.random.frame(self.producer.record_len_max());
        let position = self.producer.position();
        let Some(bytes) = self.producer.reserve_bytes(frame.len()).unwrap() else {
            let room = self.producer.wants_room().unwrap();
            assert!(!room.is_there(&self.heard).unwrap(), "room that was not given");
            assert_eq!(self.producer.position(), position);
            return;
        };
        assert_eq!(bytes.len(), frame.len() - 8);
        if self.random.one_in(4) {
            // Given up, with some of it written.
            let len = if cfg!(miri) { bytes.len() } else { self.random.below(bytes.len()) + 1 };
            bytes[..len].copy_from_slice(&frame[8..8 + len]);
            return;
        }
        bytes.copy_from_slice(&frame[8..]);
        assert!(self.producer.wants_room().is_none());
        self.producer.commit(first_word(&frame));
        assert!(self.producer.position() > position);
        self.batch.push(frame);
    }

    fn publish(&mut self) {
        assert_eq!(self.producer.publish(), !self.batch.is_empty());
        self.published.extend(self.batch.drain(..));
    }

    fn consume(&mut self) {
        if self.random.one_in(4) {
            let len = self.consumer.next().unwrap().map(|record| record.len());
            assert_eq!(len, self.published.front().map(Vec::len));
            return;
        }
        assert_eq!(take(&mut self.consumer), self.published.pop_front());
    }

    fn step(&mut self, eagerness: usize) {
        match self.random.below(12 + eagerness) {
            0..6 => self.produce(),
            6..8 => self.publish(),
            8 => _ = self.consumer.release(false),
            9 if self.random.one_in(4) => _ = self.consumer.release(true),
            _ => self.consume(),
        }
    }
}

/// Seeds for `full`, or the few that an interpreter has time for.
fn seeds(full: u64, interpreted: u64) -> std::ops::Range<u64> {
    0..if cfg!(miri) { interpreted } else { full }
}

#[test]
fn every_frame_arrives_in_order_and_unchanged() {
    for seed in seeds(400, 4) {
        let capacity = [1024, 2048, 4096, 16 << 10, 64 << 10][seed as usize % 5];
        let mut model = Model::new(seed, capacity);
        // The consumer lags, keeps up, or waits.
        let eagerness = [0, 3, 12][seed as usize % 3];
        for _ in 0..if cfg!(miri) { 150 } else { 3000 } {
            model.step(eagerness);
        }
        model.publish();
        while !model.published.is_empty() {
            model.consume();
        }
        assert!(model.consumer.next().unwrap().is_none());
        // With everything consumed there is room for anything.
        model.consumer.release(true);
        let len_max = model.producer.record_len_max();
        assert!(model.producer.reserve(len_max).unwrap().is_some());
    }
}

#[test]
fn nothing_of_a_batch_is_seen_before_it_is_published() {
    let (mut producer, mut consumer) = pair(4096);
    let mut random = Random::new(1);
    for _ in 0..50 {
        let frames: Vec<_> = (0..3).map(|_| random.frame(512)).collect();
        for frame in &frames {
            assert!(commit(&mut producer, frame));
            assert_eq!(take(&mut consumer), None);
        }
        assert!(producer.publish());
        assert!(!producer.publish());
        for frame in frames {
            assert_eq!(take(&mut consumer), Some(frame));
        }
        assert_eq!(take(&mut consumer), None);
        consumer.release(true);
    }
}

#[test]
fn what_a_given_up_reservation_wrote_is_never_taken_for_a_record() {
    for len in [16, 64, 65, 200] {
        let (mut producer, mut consumer) = pair(4096);
        let forged = word(16).to_le_bytes().repeat(64);
        let bytes = producer.reserve_bytes(512).unwrap().unwrap();
        bytes.copy_from_slice(&forged[8..]);
        assert!(commit(&mut producer, &[&word(len).to_le_bytes()[..], &vec![7; len - 8]].concat()));
        assert!(producer.publish());
        assert_eq!(take(&mut consumer).unwrap().len(), len);
        assert_eq!(take(&mut consumer), None);
        // Nor after the next.
        assert!(commit(&mut producer, &[word(16), 0].map(u64::to_le_bytes).concat()));
        assert!(producer.publish());
        assert_eq!(take(&mut consumer).unwrap().len(), 16);
        assert_eq!(take(&mut consumer), None);
    }
}

#[test]
fn publishing_leaves_an_open_reservation_alone() {
    let (mut producer, mut consumer) = pair(4096);
    let frames: Vec<_> = (0..40).map(|n| [&word(300).to_le_bytes()[..], &[n + 1; 292]].concat()).collect();
    assert!(commit(&mut producer, &frames[0]));
    for two in frames.windows(2) {
        producer.reserve_bytes(300).unwrap().unwrap().copy_from_slice(&two[1][8..]);
        assert!(producer.publish());
        producer.commit(first_word(&two[1]));
        assert_eq!(take(&mut consumer).as_ref(), Some(&two[0]));
        assert_eq!(take(&mut consumer), None);
        consumer.release(true);
    }
    assert!(producer.publish());
    assert_eq!(take(&mut consumer).as_ref(), frames.last());
}

#[test]
fn room_is_there_once_enough_was_consumed() {
    let (out, seen) = on_heap(segment_len(1024));
    let (back, heard) = on_heap(DATA);
    let mut producer = Producer::new(out, heard.clone(), 1024);
    let mut consumer = Consumer::new(back, seen, 1024, usize::MAX);
    let frame = Random::new(7).frame(64);
    let mut count = 0;
    while commit(&mut producer, &frame) {
        assert!(producer.publish());
        count += 1;
    }
    assert_eq!(count, 15, "one line stays free");
    let room = producer.wants_room().unwrap();
    assert!(!room.is_there(&heard).unwrap());
    assert!(producer.take_room().is_some());
    assert!(producer.wants_room().is_none());
    for taken in 1..=4 {
        assert_eq!(take(&mut consumer).as_ref(), Some(&frame));
        assert_eq!(consumer.release(false), taken == 4, "a quarter has been consumed");
        assert_eq!(room.is_there(&heard).unwrap(), taken == 4);
    }
    assert!(!consumer.release(true));
    assert!(commit(&mut producer, &frame));
}

#[test]
fn a_bell_rings_once_for_each_announcement() {
    let (own, peer) = on_heap(DATA);
    let (mut sleep, mut bell) = (Sleep::park(), Bell::park());
    let mut other = Bell::want_space();
    assert!(!bell.is_due(&peer));
    for n in 1..5 {
        let mut cleared = false;
        assert_eq!(sleep.announce(&own, || cleared = true, || Ok::<_, ()>(false)), Ok(true));
        assert!(cleared);
        assert!(bell.is_due(&peer));
        assert!(!bell.is_due(&peer));
        if n % 2 == 0 {
            sleep.withdraw(&own);
            sleep.withdraw(&own);
        }
        assert!(!bell.is_due(&peer));
    }
    assert_eq!(sleep.announce(&own, || {}, || Ok::<_, ()>(true)), Ok(false));
    assert!(!bell.is_due(&peer));
    assert_eq!(sleep.announce(&own, || {}, || Err("gone")), Err("gone"));
    assert!(!bell.is_due(&peer));
    assert!(!other.is_due(&peer));
}

/// A doorbell between threads.
#[derive(Default)]
struct Doorbell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Doorbell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.ringing.notify_one();
    }

    fn clear(&self) {
        *self.rung.lock().unwrap() = false;
    }

    fn wait(&self) {
        let rung = self.rung.lock().unwrap();
        let patience = Duration::from_secs(30);
        let (_rung, outcome) = self.ringing.wait_timeout_while(rung, patience, |rung| !*rung).unwrap();
        assert!(!outcome.timed_out(), "nobody rings");
    }
}

#[test]
fn two_threads_never_miss_each_other() {
    let (capacities, frames): (&[_], _) = if cfg!(miri) { (&[1024], 40) } else { (&[1024, 4096, 64 << 10], 60_000) };
    for &capacity in capacities {
        let (out, seen) = on_heap(segment_len(capacity));
        let (back, heard) = on_heap(DATA);
        let data = Arc::new(Doorbell::default());
        let space = Arc::new(Doorbell::default());
        let mut producer = Producer::new(out.clone(), heard.clone(), capacity);
        let mut consumer = Consumer::new(back.clone(), seen.clone(), capacity, usize::MAX);
        let (rings_data, waits_for_space) = (Arc::clone(&data), Arc::clone(&space));
        let producing = thread::spawn(move || {
            let (mut park, mut want_space) = (Bell::park(), Sleep::want_space());
            let mut random = Random::new(3);
            for n in 0..frames {
                let frame = random.frame(capacity / 8);
                while !commit(&mut producer, &frame) {
                    if producer.publish() && park.is_due(&heard) {
                        rings_data.ring();
                    }
                    let room = producer.take_room().unwrap();
                    if want_space.announce(&out, || waits_for_space.clear(), || room.is_there(&heard)).unwrap() {
                        waits_for_space.wait();
                        want_space.withdraw(&out);
                    }
                }
                if (random.one_in(4) || n + 1 == frames) && producer.publish() && park.is_due(&heard) {
                    rings_data.ring();
                }
            }
        });
        let (mut want_space, mut park) = (Bell::want_space(), Sleep::park());
        let mut random = Random::new(3);
        for n in 0..frames {
            let expected = random.frame(capacity / 8);
            random.one_in(4);
            let got = loop {
                if let Some(frame) = take(&mut consumer) {
                    break frame;
                }
                if consumer.release(true) && want_space.is_due(&seen) {
                    space.ring();
                }
                let there = || consumer.next().map(|record| record.is_some());
                if park.announce(&back, || data.clear(), there).unwrap() {
                    data.wait();
                    park.withdraw(&back);
                }
            };
            assert!(got == expected, "frame {n} of the ring of {capacity} bytes");
            if consumer.release(false) && want_space.is_due(&seen) {
                space.ring();
            }
        }
        producing.join().unwrap();
        assert!(take(&mut consumer).is_none());
    }
}

/// A peer whose every word is another at each look.
#[derive(Clone)]
struct Liar {
    random: Arc<Mutex<Random>>,
    capacity: usize,
    /// How many words are harmless, on average, for one that is anything.
    honesty: usize,
}

impl Peer for Liar {
    fn load(&self, at: usize) -> u64 {
        assert!(at % 8 == 0 && at + 8 <= segment_len(self.capacity));
        let mut random = self.random.lock().unwrap();
        let left = segment_len(self.capacity).saturating_sub(at);
        if at < DATA {
            return if random.below(self.honesty) > 0 { 0 } else { random.word() };
        }
        if random.below(self.honesty) > 0 {
            let longest = left.min(self.capacity / 8);
            return if longest < left || random.one_in(2) { word(16 + random.below(longest - 15)) } else { pad(left) };
        }
        match random.below(6) {
            0 => random.word(),
            1 => random.word() >> 32,
            2 => pad(8 + random.below(self.capacity)),
            3 => word(8 + random.below(self.capacity)),
            4 => pad(left),
            _ => 0,
        }
    }

    fn copy(&self, at: usize, into: &mut [u8]) {
        assert!(at % 8 == 0 && at + into.len() <= segment_len(self.capacity));
        into.fill(self.random.lock().unwrap().word() as u8);
    }
}

#[test]
fn a_lying_producer_gets_frames_within_limits_or_an_error_for_ever() {
    let (mut frames, mut errors) = (0, 0);
    for seed in seeds(4000, 40) {
        let capacity = 512 << (seed % 4);
        let peer =
            Liar { random: Arc::new(Mutex::new(Random::new(seed))), capacity, honesty: 1 + (seed as usize % 60) };
        let (own, _) = on_heap(DATA);
        let frame_len_max = [usize::MAX, capacity / 8, 64, 40][seed as usize % 4];
        let mut consumer = Consumer::new(own, peer, capacity, frame_len_max);
        for _ in 0..200 {
            match consumer.next() {
                Ok(None) => {}
                Ok(Some(record)) => {
                    assert!((16..=frame_len_max.min(capacity / 8)).contains(&record.len()));
                    let mut frame = vec![0; record.len()];
                    // As a whole, or in two pieces.
                    if frames % 2 == 0 || record.len() < 24 {
                        consumer.take(&mut frame);
                    } else {
                        let (head, rest) = frame.split_at_mut(24);
                        consumer.copy_head(&record, head);
                        consumer.copy(&record, 24, rest);
                        consumer.consume(record);
                    }
                    assert_eq!(first_word(&frame) as u32 as usize + 8, frame.len());
                    consumer.release(false);
                    frames += 1;
                }
                Err(violation) => {
                    assert!((0..5).all(|_| consumer.next().err() == Some(violation)));
                    errors += 1;
                    break;
                }
            }
        }
    }
    assert!(frames > 100 && errors > 10, "{frames} frames, {errors} errors");
}

#[test]
fn a_lying_consumer_gets_room_or_an_error_for_ever() {
    let mut errors = 0;
    for seed in seeds(2000, 20) {
        let (own, _) = on_heap(segment_len(1024));
        let peer =
            Liar { random: Arc::new(Mutex::new(Random::new(seed))), capacity: 1024, honesty: 1 + seed as usize % 9 };
        let mut producer = Producer::new(own, peer.clone(), 1024);
        let mut random = Random::new(seed);
        for _ in 0..100 {
            let len = 16 + random.below(113);
            match producer.reserve(len) {
                Ok(Some(_)) => producer.commit(word(len)),
                Ok(None) => _ = producer.wants_room().unwrap().is_there(&peer),
                Err(violation) => {
                    assert!((0..5).all(|_| producer.reserve(16) == Err(violation)));
                    errors += 1;
                    break;
                }
            }
            if random.one_in(2) {
                producer.publish();
            }
        }
    }
    assert!(errors > 10);
}

#[test]
fn a_peer_that_rewrites_everything_while_it_is_read_breaks_nothing() {
    const CAPACITY: usize = 2048;
    let (hostile, seen) = on_heap(segment_len(CAPACITY));
    let stop = Arc::new(AtomicBool::new(false));
    let writes = Arc::new(AtomicU64::new(0));
    let (stopped, written) = (Arc::clone(&stop), Arc::clone(&writes));
    let writing = thread::spawn(move || {
        let mut random = Random::new(11);
        while !stopped.load(Ordering::Relaxed) {
            let at = DATA + random.below(CAPACITY / 8) * 8;
            let value = if random.one_in(50) { random.word() } else { word(16 + random.below(CAPACITY / 8 - 15)) };
            hostile.store(at, value, Ordering::Relaxed);
            written.fetch_add(1, Ordering::Relaxed);
        }
    });
    while writes.load(Ordering::Relaxed) < 50 {
        thread::yield_now();
    }
    for _ in seeds(3000, 10) {
        let (own, _) = on_heap(DATA);
        let mut consumer = Consumer::new(own, seen.clone(), CAPACITY, usize::MAX);
        for _ in 0..100 {
            match consumer.next() {
                Ok(Some(record)) => {
                    let mut frame = vec![0; record.len()];
                    consumer.take(&mut frame);
                    assert_eq!(first_word(&frame) as u32 as usize + 8, frame.len(), "the word that was checked");
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();
}

/// A consumer of a ring of 1024 bytes whose producer is the test, after `count` records of one line.
fn consumer_after(count: usize) -> (OwnMemory, HeapConsumer) {
    let (out, seen) = on_heap(segment_len(1024));
    let (back, _) = on_heap(DATA);
    let mut consumer = Consumer::new(back, seen, 1024, 100);
    for n in 0..count {
        out.store(DATA + n * 64, word(16), Ordering::Release);
        assert_eq!(take(&mut consumer).unwrap().len(), 16);
    }
    (out, consumer)
}

#[test]
fn a_record_that_was_found_cannot_be_taken_back() {
    let (out, mut consumer) = consumer_after(3);
    out.store(DATA + 3 * 64, word(40), Ordering::Release);
    assert_eq!(consumer.next().unwrap().unwrap().len(), 40);
    for other in [0, word(60), u64::MAX] {
        out.store(DATA + 3 * 64, other, Ordering::Release);
        assert_eq!(consumer.next().unwrap().unwrap().len(), 40);
    }
    assert_eq!(take(&mut consumer).unwrap().len(), 40);
}

#[test]
fn no_impossible_record_is_taken() {
    let cases = [
        (0, word(15), "a record without room for a header"),
        (0, 1, "a record without room for a header"),
        (0, word(101), "a record that is too long"),
        (0, u64::MAX >> 1 & !(0xff << 32), "a record that is too long"),
        (15, word(65), "a record across the ring's end"),
        (0, pad(64), "a pad at the ring's beginning"),
        (0, pad(1024), "a pad at the ring's beginning"),
        (15, pad(8), "a pad that does not reach to the ring's end"),
        (15, pad(128), "a pad that does not reach to the ring's end"),
        (14, pad(64), "a pad that does not reach to the ring's end"),
        (14, pad(128), "a pad where every record had room"),
    ];
    for (count, word, what) in cases {
        let (out, mut consumer) = consumer_after(count);
        out.store(DATA + count * 64, word, Ordering::Release);
        let violation = consumer.next().unwrap_err();
        assert_eq!(violation.what, what);
        // Repenting does not help.
        out.store(DATA + count * 64, 0, Ordering::Release);
        assert_eq!(consumer.next().unwrap_err(), violation);
    }
    let (out, mut consumer) = consumer_after(15);
    out.store(DATA + 15 * 64, pad(64), Ordering::Release);
    out.store(DATA, word(100), Ordering::Release);
    assert_eq!(take(&mut consumer).unwrap().len(), 100);
}

#[test]
fn no_impossible_head_is_believed() {
    let cases = [
        (64 * 3, "a read position beyond what was written"),
        (!63, "a read position beyond what was written"),
        (1, "a read position between records"),
        (u64::MAX, "a read position between records"),
        (0, "a read position that went back"),
    ];
    for (head, what) in cases {
        let (out, _) = on_heap(segment_len(512));
        let (back, heard) = on_heap(DATA);
        let mut producer = Producer::new(out, heard.clone(), 512);
        // Two published and consumed, five that only wait to be published, and no room for more.
        for n in 0..7 {
            producer.reserve(16).unwrap().unwrap();
            producer.commit(word(16));
            if n == 1 {
                assert!(producer.publish());
            }
        }
        back.store(HEAD, 64, Ordering::Release);
        producer.reserve(16).unwrap().unwrap();
        producer.commit(word(16));
        assert!(producer.reserve(16).unwrap().is_none());
        let room = producer.wants_room().unwrap();
        back.store(HEAD, head, Ordering::Release);
        let by_room = room.is_there(&heard);
        assert_eq!(by_room.is_err(), !what.contains("beyond"));
        let violation = producer.reserve(16).unwrap_err();
        assert_eq!(violation, Violation { what, value: head });
        assert!(by_room.is_ok() || by_room == Err(violation));
        back.store(HEAD, 128, Ordering::Release);
        assert_eq!(producer.reserve(16).unwrap_err(), violation);
    }
}
