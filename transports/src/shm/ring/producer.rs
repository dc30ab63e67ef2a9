//! The side that places records in its own segment.

use std::ops::Range;
use std::sync::atomic::Ordering;

use trunkline_core::frame::{ASIDE_LEN, FIRST_WORD_LEN, HEADER_LEN, aside, pad};

use super::blocks::Free;
use super::index::{Index, LINE, Place};
use super::{HEAD, Shape, Violation};
use crate::shm::memory::{Own, OwnMemory, Peer, fence};

/// Reserves, commits, publishes.
///
/// ```text
/// head ........ published ........ committed ........ zeroed ........ head + capacity
///      visible to     the batch:           first words         old bytes, free
///      the consumer   all there but the    are zero
///                     very first word
/// ```
#[derive(Debug)]
pub(crate) struct Producer<O, P> {
    own: O,
    peer: P,
    ring: Index,
    /// How far the consumer has come, as last heard.
    head: u64,
    published: u64,
    committed: u64,
    /// The first words of all lines from `committed` to here are zero, up to what `dirty` says. May lie behind
    /// `committed`: then nothing is known.
    zeroed: u64,
    /// Up to here, reservations since the last commit may have written anything in any line after their own first word.
    dirty: u64,
    /// What belongs at `published`, withheld until everything behind it is there; 0 while the batch is empty.
    first_word: u64,
    /// The place in the ring, and the block that the frame is in, if it is not in the ring.
    reserved: Option<(Place, Option<usize>)>,
    free: Free,
    room: Option<Room>,
    violation: Option<Violation>,
}

impl<O: Own, P: Peer> Producer<O, P> {
    /// Places records in `own`, which holds zeroes and has that shape.
    ///
    /// # Panics
    ///
    /// If the ring's capacity is no power of two from 512 on.
    pub(crate) fn new(own: O, peer: P, shape: impl Into<Shape>) -> Producer<O, P> {
        let Shape { capacity, blocks } = shape.into();
        Producer {
            own,
            peer,
            ring: Index::new(capacity),
            free: Free::new(blocks),
            head: 0,
            published: 0,
            committed: 0,
            // A new segment is zero all over.
            zeroed: capacity as u64,
            dirty: 0,
            first_word: 0,
            reserved: None,
            room: None,
            violation: None,
        }
    }

    /// What the consumer says of itself.
    pub(crate) fn peer(&self) -> &P {
        &self.peer
    }

    /// The longest frame there is room for in the ring, header included.
    pub(crate) fn record_len_max(&self) -> usize {
        self.ring.record_len_max()
    }

    /// The longest frame for which a block is free, header included. It stays free until a frame is committed to it.
    pub(crate) fn block_len_now(&mut self) -> usize {
        self.free.find(&self.peer).map_or(0, |_| self.free.blocks.len)
    }

    /// The bytes of the segment for all but the first word of a frame of `len` bytes; `None` if there is no room now. They
    /// are in a block if the frame is too long for the ring.
    ///
    /// A reservation that is not committed is forgotten at the next one; its bytes may have been written.
    ///
    /// # Errors
    ///
    /// If the peer's `head` is impossible, now or ever before.
    ///
    /// # Panics
    ///
    /// If `len` is less than a header, or more than [`record_len_max`](Producer::record_len_max) and
    /// [`block_len_now`](Producer::block_len_now).
    pub(crate) fn reserve(&mut self, len: usize) -> Result<Option<Range<usize>>, Violation> {
        let fits = |max: usize| (HEADER_LEN..=max).contains(&len);
        let block = if fits(self.record_len_max()) { None } else { self.free.find(&self.peer) };
        let max = if block.is_some() { self.free.blocks.len } else { self.record_len_max() };
        assert!(fits(max), "a frame of {len} bytes");
        self.violation.map_or(Ok(()), Err)?;
        self.reserved = None;
        let place = self.ring.place(self.committed, if block.is_some() { ASIDE_LEN } else { len });
        let needed = self.ring.head_needed(place.end);
        if self.head < needed {
            self.load_head()?;
        }
        if self.head < needed {
            self.room = Some(Room { needed, seen: self.head });
            return Ok(None);
        }
        self.room = None;
        self.reserved = Some((place, block));
        self.dirty = self.dirty.max(place.end);
        let start = match block {
            Some(block) => self.free.blocks.byte(self.ring.capacity(), block),
            None => self.ring.byte(place.start),
        };
        Ok(Some(start + FIRST_WORD_LEN..start + len))
    }

    /// Ends the frame reserved last, of which `first_word`, never 0, is the first word.
    pub(crate) fn commit(&mut self, first_word: u64) {
        let Some((place, block)) = self.reserved.take() else {
            debug_assert!(false, "nothing is reserved");
            return;
        };
        debug_assert_ne!(first_word, 0, "no frame begins with 0");
        if place.pad_len > 0 {
            self.append(self.committed, pad(place.pad_len));
        }
        let word = match block {
            None => first_word,
            Some(block) => {
                self.own.store(self.ring.byte(place.start) + FIRST_WORD_LEN, first_word, Ordering::Relaxed);
                self.free.take(block);
                aside(block as u16)
            }
        };
        self.append(place.start, word);
        self.committed = place.end;
        if self.dirty > self.committed {
            // A longer reservation was given up: what it wrote lies where zeroes are to be.
            self.zeroed = self.committed;
        }
        self.dirty = 0;
    }

    /// Shows the consumer everything committed; `false` if that was nothing.
    pub(crate) fn publish(&mut self) -> bool {
        if self.first_word == 0 {
            return false;
        }
        self.zero(self.committed + LINE);
        // Pairs with the Acquire fence in `Consumer::find`: who sees this word sees the batch, and the zero after it.
        self.own.store(self.ring.byte(self.published), self.first_word, Ordering::Release);
        self.first_word = 0;
        self.published = self.committed;
        // The next publications then find their zero there already: its cache line comes while nobody waits for it. A
        // reservation that is still open may be written in these very lines.
        if self.reserved.is_none() {
            self.zero((self.committed + RUNWAY).min(self.head + self.ring.capacity()));
        }
        true
    }

    /// The position after the frame committed last.
    pub(crate) fn position(&self) -> u64 {
        self.committed
    }

    /// What the last reservation lacked, if it failed for lack of room and nobody has [taken](Producer::take_room) that.
    pub(crate) fn wants_room(&self) -> Option<Room> {
        self.room
    }

    /// Hands over what [`wants_room`](Producer::wants_room) says; until another reservation fails it says nothing.
    pub(crate) fn take_room(&mut self) -> Option<Room> {
        self.room.take()
    }

    /// Adds a record's first word to the batch. The first of a batch, which belongs at `published`, is withheld.
    fn append(&mut self, position: u64, word: u64) {
        if self.first_word == 0 {
            self.first_word = word;
        } else {
            self.own.store(self.ring.byte(position), word, Ordering::Relaxed);
        }
    }

    /// Zeroes the first words of the lines from `committed` to `end` that are not known to be zero.
    fn zero(&mut self, end: u64) {
        let mut position = self.zeroed.max(self.committed);
        while position < end {
            self.own.store(self.ring.byte(position), 0, Ordering::Relaxed);
            position += LINE;
        }
        self.zeroed = position;
    }

    fn load_head(&mut self) -> Result<(), Violation> {
        let head = self.peer.load(HEAD);
        // Pairs with the Release in `Consumer::release`: what was consumed has been read before it is written again.
        fence(Ordering::Acquire);
        let checked = check_head(head, self.head).and_then(|head| {
            if head > self.published {
                return Err(Violation { what: "a read position beyond what was written", value: head });
            }
            Ok(head)
        });
        self.head = checked.inspect_err(|&violation| self.violation = Some(violation))?;
        Ok(())
    }
}

impl<P: Peer> Producer<OwnMemory, P> {
    /// [`reserve`](Producer::reserve), and the bytes themselves.
    ///
    /// # Errors
    ///
    /// Those of [`reserve`](Producer::reserve).
    #[allow(unsafe_code, reason = "only here is it known that the range is the producer's alone")]
    #[inline]
    pub(crate) fn reserve_bytes(&mut self, len: usize) -> Result<Option<&mut [u8]>, Violation> {
        let range = self.reserve(len)?;
        // SAFETY: the range is in the data, of which this is the only producer (the contract of `OwnMemory::new`); it
        // is borrowed from the producer, so nothing else happens in the data meanwhile. A consumer in this process reads
        // a record only after it was published, and has consumed what was here before: `head` says so, or that the block
        // was given back as often as it was used.
        Ok(range.map(|range| unsafe { self.own.bytes_mut(range) }))
    }
}

/// Room that a producer waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// How far the consumer must have come.
    needed: u64,
    /// How far it had.
    seen: u64,
}

impl Room {
    /// Whether it is there. That `peer` has not consumed more than was written is for the next reservation to check,
    /// which knows how much that is.
    ///
    /// # Errors
    ///
    /// If the peer's `head` is impossible.
    pub(crate) fn is_there<P: Peer>(&self, peer: &P) -> Result<bool, Violation> {
        // Nothing is written on the strength of this, so there is nothing to acquire.
        check_head(peer.load(HEAD), self.seen).map(|head| head >= self.needed)
    }
}

fn check_head(head: u64, seen: u64) -> Result<u64, Violation> {
    let what = match head {
        _ if head % LINE != 0 => "a read position between records",
        _ if head < seen => "a read position that went back",
        _ => return Ok(head),
    };
    Err(Violation { what, value: head })
}

/// How far beyond the last record first words are zeroed in advance.
const RUNWAY: u64 = 2048;
