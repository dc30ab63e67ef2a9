//! Two rings of 64-byte lines in shared memory, one in each direction, and an area for an upload. Both sides spin.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use std::{hint, process, thread};

use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::AsRawFd;
use trunkline_benches::subject::{self, About, Blocking, Error, InOrder, Ready, Recorder, Spec, Workload, items};
use trunkline_benches::{Item, checksum, payload};

use super::SPIN;
use super::mapping::Mapping;

/// Shared memory with nothing around it.
pub(crate) struct Ring;

impl Blocking for Ring {
    const ABOUT: About = About {
        name: "raw-ring",
        version: "",
        configuration: "a ring of 64-byte lines, spins; an upload is copied once",
        transports: &["shm"],
        modes: &["thread"],
        beside_max: 0,
        streams: true,
    };

    fn serve(_: &str, _: &Path, ready: Ready) -> Result<(), Error> {
        let file = File::from(memfd_create("raw-ring", MFdFlags::MFD_CLOEXEC)?);
        let mapping = Mapping::new(&file, WORDS, AREA)?;
        ready.at(format_args!("/proc/{}/fd/{}", process::id(), file.as_raw_fd()));
        let (calls, replies) = (Consumer::new(&mapping, CALLS), Producer::new(&mapping, REPLIES));
        answer(&mapping, calls, replies)
    }

    fn load(_: &str, address: &str, spec: &Spec, recorder: &mut Recorder) -> Result<(), Error> {
        let file = OpenOptions::new().read(true).write(true).open(address)?;
        let mapping = Mapping::new(&file, WORDS, AREA)?;
        let (mut calls, mut replies) = (Producer::new(&mapping, CALLS), Consumer::new(&mapping, REPLIES));
        let bytes = payload(spec.size);
        let sum = checksum(&bytes);
        if spec.in_flight > LINES || spec.workload == Workload::Upload && (spec.in_flight > 1 || spec.size > AREA) {
            return Err("the ring is too small for that".into());
        }
        if spec.is_open() {
            return paced(&mut calls, &mut replies, spec, recorder);
        }
        match spec.workload {
            Workload::Down => return load_down(&mut calls, &mut replies, recorder),
            Workload::Up => return load_up(&mut calls, &mut replies, recorder),
            _ => {}
        }
        let lanes = spec.in_flight as u64;
        let mut since = recorder.begin();
        for first in (0..).step_by(spec.in_flight) {
            for number in first..first + lanes {
                match spec.workload {
                    Workload::Echo => calls.put(echo_line(number)),
                    _ => {
                        mapping.fill(&bytes);
                        calls.put([UPLOAD, number, bytes.len() as u64, 0, 0, 0, 0, 0]);
                    }
                }
            }
            calls.publish();
            for number in first..first + lanes {
                let reply = replies.take();
                let right = reply[1] == number
                    && match spec.workload {
                        Workload::Echo => reply[4..] == echo_line(number)[4..],
                        _ => reply[4] == sum,
                    };
                if !right {
                    return Err(format!("a wrong reply to call {number}").into());
                }
            }
            replies.release();
            match recorder.completed(since, lanes) {
                Some(now) => since = now,
                None => break,
            }
        }
        Ok(())
    }
}

/// Receives a stream until it is enough.
fn load_down(calls: &mut Producer<'_>, replies: &mut Consumer<'_>, recorder: &mut Recorder) -> Result<(), Error> {
    calls.put([DOWN, 0, 0, 0, 0, 0, 0, 0]);
    calls.publish();
    let mut seen = InOrder::default();
    let mut since = recorder.begin();
    loop {
        receive_batch(replies, &mut seen)?;
        match recorder.completed(since, STREAM_BATCH) {
            Some(now) => since = now,
            None => return Ok(()),
        }
    }
}

/// Sends a stream until it is enough; the server must have seen all of it.
fn load_up(calls: &mut Producer<'_>, replies: &mut Consumer<'_>, recorder: &mut Recorder) -> Result<(), Error> {
    calls.put([UP, 0, 0, 0, 0, 0, 0, 0]);
    calls.publish();
    let mut items = items();
    let (mut since, mut sent) = (recorder.begin(), 0);
    loop {
        send_batch(calls, &mut items);
        sent += STREAM_BATCH;
        match recorder.completed(since, STREAM_BATCH) {
            Some(now) => since = now,
            None => break,
        }
    }
    calls.put([END, 0, 0, 0, 0, 0, 0, 0]);
    calls.publish();
    let seen = replies.take()[1];
    if seen == sent { Ok(()) } else { Err(format!("{sent} items went, and {seen} have come").into()) }
}

fn send_batch(to: &mut Producer<'_>, items: &mut impl Iterator<Item = Item>) {
    for item in items.take(STREAM_BATCH as usize) {
        to.put(item_line(ITEM, item.id, item));
    }
    to.publish();
}

fn receive_batch(from: &mut Consumer<'_>, seen: &mut InOrder) -> Result<(), Error> {
    for _ in 0..STREAM_BATCH {
        seen.take(line_item(from.take()))?;
    }
    from.release();
    Ok(())
}

/// All that a client sends, in batches, and how many items that was.
fn receive_all(calls: &mut Consumer<'_>) -> Result<u64, Error> {
    let mut seen = InOrder::default();
    loop {
        let line = calls.take();
        if line[0] == END {
            calls.release();
            return Ok(seen.count());
        }
        seen.take(line_item(line))?;
        if seen.count() % STREAM_BATCH == 0 {
            calls.release();
        }
    }
}

/// Calls that are due at times of their own.
fn paced(
    calls: &mut Producer<'_>,
    replies: &mut Consumer<'_>,
    spec: &Spec,
    recorder: &mut Recorder,
) -> Result<(), Error> {
    let mut next = 0;
    let send = |numbers: Range<u64>| {
        numbers.for_each(|number| calls.put(echo_line(number)));
        calls.publish();
        Ok(())
    };
    let receive = || {
        let first = next;
        while let Some(reply) = replies.take_now() {
            if reply[1] != next || reply[4..] != echo_line(next)[4..] {
                return Err(format!("a wrong reply to call {next}").into());
            }
            next += 1;
        }
        if next > first {
            replies.release();
        }
        Ok(next - first)
    };
    subject::paced(spec, LINES, recorder, send, receive)
}

fn answer(mapping: &Mapping, mut calls: Consumer<'_>, mut replies: Producer<'_>) -> Result<(), Error> {
    loop {
        // All that have come are answered together.
        let mut call = calls.take();
        loop {
            match call[0] {
                DOWN => {
                    let mut items = items();
                    loop {
                        send_batch(&mut replies, &mut items);
                    }
                }
                UP => call[1] = receive_all(&mut calls)?,
                UPLOAD => call[4] = checksum(mapping.filled(usize::try_from(call[2])?)),
                _ => {}
            }
            replies.put(call);
            match calls.take_now() {
                Some(next) => call = next,
                None => break,
            }
        }
        calls.release();
        replies.publish();
    }
}

/// A call is a line: kind, number, two words of a header, and the item.
fn echo_line(number: u64) -> Line {
    item_line(ECHO, number, Item::new(number))
}

fn item_line(kind: u64, number: u64, item: Item) -> Line {
    let mut line = [kind, number, 0, 0, item.id, 0, 0, 0];
    for (word, bytes) in line[5..].iter_mut().zip(item.rest.chunks_exact(8)) {
        *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    line
}

fn line_item(line: Line) -> Item {
    let mut rest = [0; 24];
    for (bytes, word) in rest.chunks_exact_mut(8).zip(&line[5..]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Item { id: line[4], rest }
}

/// 64 bytes.
type Line = [u64; 8];

/// Writes lines. A cursor counts lines from the beginning of time.
struct Producer<'a> {
    lines: &'a [AtomicU64],
    head: &'a AtomicU64,
    tail: &'a AtomicU64,
    next: u64,
}

/// Reads them.
struct Consumer<'a> {
    lines: &'a [AtomicU64],
    head: &'a AtomicU64,
    tail: &'a AtomicU64,
    next: u64,
    /// The head as it was last seen.
    seen: u64,
}

impl Producer<'_> {
    fn new(mapping: &Mapping, at: usize) -> Producer<'_> {
        let (head, tail, lines) = parts(mapping, at);
        Producer { lines, head, tail, next: 0 }
    }

    fn put(&mut self, line: Line) {
        // Pairs with the Release in `release`: the line has been read.
        spin(|| (self.next - self.tail.load(Ordering::Acquire) < LINES as u64).then_some(()));
        for (word, value) in words(self.lines, self.next).iter().zip(line) {
            word.store(value, Ordering::Relaxed);
        }
        self.next += 1;
    }

    fn publish(&mut self) {
        // Pairs with the Acquire in `take_now`.
        self.head.store(self.next, Ordering::Release);
    }
}

impl Consumer<'_> {
    fn new(mapping: &Mapping, at: usize) -> Consumer<'_> {
        let (head, tail, lines) = parts(mapping, at);
        Consumer { lines, head, tail, next: 0, seen: 0 }
    }

    fn take(&mut self) -> Line {
        spin(|| self.take_now())
    }

    fn take_now(&mut self) -> Option<Line> {
        if self.next == self.seen {
            // Pairs with the Release in `publish`.
            self.seen = self.head.load(Ordering::Acquire);
            if self.next == self.seen {
                return None;
            }
        }
        let mut line = [0; 8];
        for (word, value) in words(self.lines, self.next).iter().zip(&mut line) {
            *value = word.load(Ordering::Relaxed);
        }
        self.next += 1;
        Some(line)
    }

    fn release(&mut self) {
        self.tail.store(self.next, Ordering::Release);
    }
}

/// Head, tail and lines of the ring that begins at this word; head and tail each have a line for themselves.
fn parts(mapping: &Mapping, at: usize) -> (&AtomicU64, &AtomicU64, &[AtomicU64]) {
    let words = &mapping.words()[at..at + RING_WORDS];
    (&words[0], &words[8], &words[16..])
}

fn words(lines: &[AtomicU64], cursor: u64) -> &[AtomicU64] {
    let at = cursor as usize % LINES * 8;
    &lines[at..at + 8]
}

/// Asks until there is an answer. Where there is but one core, the other side needs it.
fn spin<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let mut began = None;
    loop {
        for _ in 0..100 {
            if let Some(answer) = ask() {
                return answer;
            }
            hint::spin_loop();
        }
        if began.get_or_insert_with(Instant::now).elapsed() > SPIN {
            thread::yield_now();
        }
    }
}

const ECHO: u64 = 1;
const UPLOAD: u64 = 2;
const DOWN: u64 = 3;
const UP: u64 = 4;
const ITEM: u64 = 5;
const END: u64 = 6;

/// Items of a stream that are published together.
const STREAM_BATCH: u64 = 64;

/// Lines of one ring.
const LINES: usize = 1024;
const RING_WORDS: usize = 16 + LINES * 8;
/// Where the rings begin.
const CALLS: usize = 0;
const REPLIES: usize = RING_WORDS;
const WORDS: usize = 2 * RING_WORDS;
/// Bytes of the largest upload.
const AREA: usize = 1 << 20;
