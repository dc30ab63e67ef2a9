//! Blocks on the heap: beside a ring that goes around, given back in any order, and with peers that lie.
#![allow(unsafe_code)] // Reads blocks where they are.

use std::sync::{Arc, Mutex};

use trunkline_core::frame::{ASIDE_LEN, Kind, aside};

use super::*;
use crate::shm::memory::{OwnMemory, PeerMemory, on_heap};
use crate::shm::ring::{Consumer, DATA, Producer, Record, Shape};

const SHAPE: Shape = Shape { capacity: 1024, blocks: Blocks { count: 3, len: 4096 } };

struct Sides {
    producer: Producer<OwnMemory, PeerMemory>,
    consumer: Consumer<OwnMemory, PeerMemory>,
    /// What the producer writes, as the consumer sees it.
    seen: PeerMemory,
}

fn sides() -> Sides {
    let (out, seen) = on_heap(SHAPE.len());
    let (back, heard) = on_heap(DATA);
    Sides {
        producer: Producer::new(out, heard, SHAPE),
        consumer: Consumer::new(back, seen.clone(), SHAPE, usize::MAX),
        seen,
    }
}

fn word(len: usize) -> u64 {
    (len as u64 - 8) | 2 << 32
}

/// All of a frame but its first word: words that tell where in which frame they are.
fn body(number: u64, len: usize) -> Vec<u8> {
    (1..len as u64 / 8).flat_map(|at| (number << 16 | at).to_le_bytes()).collect()
}

impl Sides {
    fn send(&mut self, number: u64, len: usize) -> bool {
        let Some(bytes) = self.producer.reserve_bytes(len).unwrap() else {
            return false;
        };
        bytes.copy_from_slice(&body(number, len));
        self.producer.commit(word(len));
        assert!(self.producer.publish());
        true
    }

    fn next(&mut self) -> Option<Record> {
        self.consumer.next().unwrap()
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let record = self.next()?;
        let mut frame = vec![0; record.len()];
        self.consumer.take(&mut frame);
        assert_eq!(frame[..8], word(record.len()).to_le_bytes());
        Some(frame.split_off(8))
    }

    fn lend(&mut self) -> Lent {
        let record = self.next().unwrap();
        assert!(record.is_aside());
        let loan = self.consumer.lend(record).unwrap();
        Lent { memory: self.seen.clone(), record, _loan: loan }
    }
}

/// A frame read where it is.
struct Lent {
    memory: PeerMemory,
    record: Record,
    _loan: Loan<OwnMemory>,
}

impl Lent {
    fn bytes(&self) -> &[u8] {
        // SAFETY: nobody writes a block before the loan is dropped: that is what these tests see to.
        unsafe { self.memory.bytes(self.record.range(8)) }
    }
}

#[test]
fn only_what_is_too_long_for_the_ring_goes_to_a_block() {
    let mut sides = sides();
    let longest = sides.producer.record_len_max();
    for (len, aside) in [(16, false), (longest, false), (longest + 8, true), (4096, true)] {
        assert!(sides.send(7, len));
        let record = sides.next().unwrap();
        assert_eq!((record.len(), record.is_aside()), (len, aside));
        assert_eq!(sides.take(), Some(body(7, len)));
        sides.consumer.release(true);
    }
}

#[test]
fn a_block_is_free_when_it_was_given_back() {
    let mut sides = sides();
    for number in 0..3 {
        assert_eq!(sides.producer.block_len_now(), 4096);
        assert!(sides.send(number, 1000));
    }
    assert_eq!(sides.producer.block_len_now(), 0);
    let [a, b, c] = [sides.lend(), sides.lend(), sides.lend()];
    assert_eq!(sides.producer.block_len_now(), 0);
    let place = b.record.range(0).start;
    drop(b);
    assert_eq!(sides.producer.block_len_now(), 4096);
    assert!(sides.send(3, 4000));
    assert_eq!(sides.producer.block_len_now(), 0);
    let d = sides.lend();
    assert_eq!(d.record.range(0).start, place);
    for (lent, (number, len)) in [(a, (0, 1000)), (c, (2, 1000)), (d, (3, 4000))] {
        assert!(lent.bytes() == body(number, len));
    }
}

#[test]
fn a_reservation_that_is_given_up_takes_no_block() {
    let mut sides = sides();
    for number in 0..3 {
        sides.producer.reserve_bytes(2000).unwrap().unwrap().fill(0xee);
        sides.producer.reserve_bytes(64).unwrap().unwrap().fill(0xee);
        assert!(sides.send(number, 1000));
    }
    assert_eq!(sides.producer.block_len_now(), 0);
    for number in 0..3 {
        assert_eq!(sides.take(), Some(body(number, 1000)));
    }
}

/// However long a frame is kept, the ring goes around, and so do the other blocks.
#[test]
fn frames_that_are_kept_hold_up_nothing() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |end: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % end
    };
    let mut sides = sides();
    let kept = (sides.send(u64::from(u32::MAX), 4096), sides.lend());
    let mut lent: Vec<(Lent, Vec<u8>)> = Vec::new();
    let mut sent = std::collections::VecDeque::new();
    let (mut number, mut blocks) = (0, 0);
    let rounds = if cfg!(miri) { 200 } else { 20_000 };
    for _ in 0..rounds {
        match below(6) {
            0 | 1 => {
                let long = sides.producer.block_len_now() > 0 && below(2) == 0;
                let len = 8 * (if long { 20 + below(492) } else { 2 + below(15) }) as usize;
                if sides.send(number, len) {
                    sent.push_back(body(number, len));
                    number += 1;
                }
            }
            2 if !lent.is_empty() => {
                let (lent, expected) = lent.swap_remove(below(lent.len() as u64) as usize);
                assert!(lent.bytes() == expected, "it was written over");
            }
            _ => {
                let aside = sides.next().is_some_and(|record| record.is_aside());
                if aside && below(3) > 0 {
                    lent.push((sides.lend(), sent.pop_front().unwrap()));
                    blocks += 1;
                } else {
                    assert_eq!(sides.take(), sent.pop_front());
                }
                sides.consumer.release(below(2) == 0);
            }
        }
        assert!(lent.len() <= 2);
    }
    assert!(number > rounds / 10 && blocks > rounds / 50, "{number} frames, {blocks} of them lent");
    assert!(kept.0 && kept.1.bytes() == body(u64::from(u32::MAX), 4096));
}

#[test]
fn a_frame_that_is_kept_outlives_both_sides() {
    let mut sides = sides();
    assert!(sides.send(1, 3000) && sides.send(2, 3000));
    let (a, b) = (sides.lend(), sides.lend());
    drop(sides);
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(a.bytes() == body(1, 3000)));
    });
    std::thread::spawn(move || drop(a)).join().unwrap();
    assert!(b.bytes() == body(2, 3000));
}

/// A consumer that gives blocks back, and takes that back, as it likes.
#[derive(Clone)]
struct Fickle(Arc<Mutex<u64>>);

impl Peer for Fickle {
    fn load(&self, at: usize) -> u64 {
        let mut looks = self.0.lock().unwrap();
        *looks += 1;
        if at < RETURNED || *looks % 2 == 0 { 0 } else { *looks % 3 }
    }

    fn copy(&self, _: usize, _: &mut [u8]) {}
}

#[test]
fn a_block_that_was_found_free_stays_so() {
    let (out, _) = on_heap(SHAPE.len());
    let mut producer = Producer::new(out, Fickle(Arc::default()), SHAPE);
    let mut found = 0;
    for _ in 0..40 {
        let len = producer.block_len_now();
        if len > 0 && producer.reserve(len).unwrap().is_some() {
            producer.commit(word(len));
            producer.publish();
            found += 1;
        }
    }
    assert!(found > 3, "{found}");
}

#[test]
fn no_impossible_block_is_taken() {
    let long = (ASIDE_LEN as u64) << 1;
    let cases = [
        (aside(3), word(100), "a block that is not there"),
        (aside(u16::MAX), word(100), "a block that is not there"),
        (aside(0), word(4097), "a record that is too long"),
        (aside(0), word(15), "a record without room for a header"),
        (aside(0), 0, "a record without room for a header"),
        (aside(0), 92 | 0x80 << 32, "a frame in a block that belongs into the ring"),
        (aside(0), 92 | (Kind::Ping as u64) << 32, "a frame in a block that belongs into the ring"),
        (aside(0), 92 | (Kind::Call as u64) << 32 | 1 << 40, "a frame in a block that belongs into the ring"),
        (aside(0) + 1, word(100), "a record of a block that says more"),
        (aside(0) - 8, word(100), "a record of a block that says more"),
        (aside(0) + long, word(100), "a record of a block that says more"),
    ];
    for (first, second, what) in cases {
        let (out, seen) = on_heap(SHAPE.len());
        let (back, _) = on_heap(DATA);
        let mut consumer = Consumer::new(back, seen, SHAPE, usize::MAX);
        out.store(DATA + 8, second, Ordering::Relaxed);
        out.store(DATA, first, Ordering::Release);
        let violation = consumer.next().unwrap_err();
        assert_eq!(violation.what, what);
        out.store(DATA, aside(0), Ordering::Release);
        assert_eq!(consumer.next().unwrap_err(), violation);
    }
}
