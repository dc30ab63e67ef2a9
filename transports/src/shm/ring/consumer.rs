//! The side that takes records out of the peer's segment.

use std::ops::Range;
use std::sync::atomic::Ordering;

use trunkline_core::frame::{ASIDE_LEN, FIRST_WORD_LEN, FrameError, aside_block, lies_aside, pad_len, record_len};

use super::blocks::{Loan, Taken};
use super::index::{Index, LINE, span};
use super::{HEAD, Shape, Violation};
use crate::shm::memory::{Own, Peer, fence};

/// Finds records, copies them out, and says how far it has come.
///
/// The peer may write anything at any moment. All that is believed of it is the one word, loaded once and checked, that a
/// record begins with; a lie can only make a frame of bytes that the peer might have sent as well.
#[derive(Debug)]
pub(crate) struct Consumer<O, P> {
    own: O,
    peer: P,
    ring: Index,
    taken: Taken,
    /// The longest frame that is accepted.
    len_max: usize,
    /// Where the next record begins.
    position: u64,
    /// The position that the producer was last told of.
    released: u64,
    /// The next record, if it has been found.
    found: Option<Record>,
    violation: Option<Violation>,
}

/// A published record that has been checked and not yet taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// The position after it.
    end: u64,
    /// The byte of the segment at which the frame begins.
    at: usize,
    /// The frame's.
    first_word: u64,
    len: usize,
    /// In which block it is.
    block: Option<usize>,
}

impl Record {
    /// Bytes of the frame, header included.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether the frame lies in a block.
    pub(crate) fn is_aside(&self) -> bool {
        self.block.is_some()
    }

    /// Where in the segment the frame's bytes are, from `start` on.
    ///
    /// # Panics
    ///
    /// If the frame has not so many.
    pub(crate) fn range(&self, start: usize) -> Range<usize> {
        assert!(start <= self.len, "a frame has no more bytes than it says");
        self.at + start..self.at + self.len
    }
}

impl<O: Own, P: Peer> Consumer<O, P> {
    /// Takes frames of at most `frame_len_max` bytes out of `peer`, and says in `own` how far it has come.
    ///
    /// # Panics
    ///
    /// If the capacity of the peer's ring is no power of two from 512 on.
    pub(crate) fn new(own: O, peer: P, shape_of_peer: impl Into<Shape>, frame_len_max: usize) -> Consumer<O, P> {
        let Shape { capacity, blocks } = shape_of_peer.into();
        let (ring, taken) = (Index::new(capacity), Taken::new(blocks));
        Consumer {
            own,
            peer,
            ring,
            taken,
            len_max: frame_len_max,
            position: 0,
            released: 0,
            found: None,
            violation: None,
        }
    }

    /// The next record, if one has been published. It stays the next until it is [taken](Consumer::take) or
    /// [consumed](Consumer::consume).
    ///
    /// # Errors
    ///
    /// If what is there is no honest peer's, now or ever before.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Violation> {
        self.look()?;
        Ok(self.found)
    }

    /// The length of the [next](Consumer::next) record's frame, header included, if there is one.
    ///
    /// # Errors
    ///
    /// Those of [`next`](Consumer::next).
    #[inline]
    pub(crate) fn look(&mut self) -> Result<Option<usize>, Violation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        if self.found.is_some() {
            // What stands there by now is not asked for: a peer that takes it back again and again gets nobody to go round
            // in circles.
            return Ok(self.found.as_ref().map(Record::len));
        }
        self.find().inspect_err(|violation| self.violation = Some(*violation))?;
        Ok(self.found.as_ref().map(Record::len))
    }

    /// Copies the next record's frame into `into`, which has its length, and consumes it.
    ///
    /// # Panics
    ///
    /// If none has been found, or `into` has another length.
    #[inline]
    pub(crate) fn take(&mut self, into: &mut [u8]) {
        let Some(record) = &self.found else { panic!("a frame is found before it is taken") };
        assert_eq!(into.len(), record.len, "a frame is taken whole");
        self.copy_head(record, into);
        self.position = record.end;
        let block = record.block;
        self.found = None;
        drop(self.give_back(block));
    }

    /// Copies the first bytes of the record's frame into `into`, which has room for the first word.
    #[inline]
    pub(crate) fn copy_head(&self, record: &Record, into: &mut [u8]) {
        let (first, rest) = into.split_at_mut(FIRST_WORD_LEN);
        // The word that was checked, not the one that may stand there by now.
        first.copy_from_slice(&record.first_word.to_le_bytes());
        self.copy(record, FIRST_WORD_LEN, rest);
    }

    /// Copies bytes of the record's frame from `at` on, a multiple of 8. None should be asked for twice: the peer may have
    /// changed it.
    ///
    /// # Panics
    ///
    /// If the frame has not so many.
    #[inline]
    pub(crate) fn copy(&self, record: &Record, at: usize, into: &mut [u8]) {
        assert!(at <= record.len && into.len() <= record.len - at, "a frame has no more bytes than it says");
        self.peer.copy(record.at + at, into);
    }

    /// Goes on behind the record.
    pub(crate) fn consume(&mut self, record: Record) {
        drop(self.lend(record));
    }

    /// Goes on behind the record. If its frame lies in a block, that is the producer's again only when what is returned is
    /// dropped.
    pub(crate) fn lend(&mut self, record: Record) -> Option<Loan<O>> {
        self.position = record.end;
        self.found = None;
        self.give_back(record.block)
    }

    /// Gives a block that was taken back, when what is returned is dropped.
    fn give_back(&mut self, block: Option<usize>) -> Option<Loan<O>> {
        block.map(|block| self.taken.take(&self.own, block))
    }

    /// Tells the producer how far this side has come, if a quarter of the ring has been consumed since it was told, or
    /// with `all` if anything has. Whether it did: then the producer may be waiting for it.
    pub(crate) fn release(&mut self, all: bool) -> bool {
        let consumed = self.position - self.released;
        if consumed < self.ring.capacity() / 4 && !(all && consumed > 0) {
            return false;
        }
        // Pairs with the Acquire fence in `Producer::load_head`: the copies are done before the bytes are written again.
        self.own.store(HEAD, self.position, Ordering::Release);
        self.released = self.position;
        true
    }

    /// Skips at most one pad: where that ends, at the ring's beginning, there can't be another.
    fn find(&mut self) -> Result<(), Violation> {
        loop {
            let first_word = self.peer.load(self.ring.byte(self.position));
            if first_word == 0 {
                return Ok(());
            }
            // Pairs with the Release in `Producer::publish`: the record's bytes are there, and the zero after the batch.
            fence(Ordering::Acquire);
            if let Some(block) = aside_block(first_word) {
                self.found = Some(self.check_aside(first_word, usize::from(block))?);
                return Ok(());
            }
            let Some(len) = pad_len(first_word) else {
                self.found = Some(self.check_frame(first_word)?);
                return Ok(());
            };
            self.position += self.check_pad(len)?;
        }
    }

    fn check_pad(&self, len: usize) -> Result<u64, Violation> {
        let len = len as u64;
        let what = match self.ring.offset(self.position) {
            0 => "a pad at the ring's beginning",
            _ if len != self.ring.left(self.position) => "a pad that does not reach to the ring's end",
            _ if len >= self.ring.record_len_max() as u64 => "a pad where every record had room",
            _ => return Ok(len),
        };
        Err(Violation { what, value: len })
    }

    #[inline]
    fn check_frame(&self, first_word: u64) -> Result<Record, Violation> {
        let len = self.check_len(first_word, self.ring.record_len_max())?;
        if span(len) > self.ring.left(self.position) {
            return Err(Violation { what: "a record across the ring's end", value: len as u64 });
        }
        let at = self.ring.byte(self.position);
        Ok(Record { end: self.position + span(len), at, first_word, len, block: None })
    }

    /// A record whose frame lies in a block, beside the ring.
    fn check_aside(&self, word: u64, block: usize) -> Result<Record, Violation> {
        let blocks = self.taken.blocks;
        if record_len(word, ASIDE_LEN) != Ok(ASIDE_LEN) {
            return Err(Violation { what: "a record of a block that says more", value: word });
        }
        if block >= blocks.count {
            return Err(Violation { what: "a block that is not there", value: block as u64 });
        }
        let mut first_word = [0; FIRST_WORD_LEN];
        self.peer.copy(self.ring.byte(self.position) + FIRST_WORD_LEN, &mut first_word);
        let first_word = u64::from_le_bytes(first_word);
        let len = self.check_len(first_word, blocks.len)?;
        // Whatever else it were, it might be copied as often as it is named, and charged to nobody.
        if !lies_aside(first_word) {
            return Err(Violation { what: "a frame in a block that belongs into the ring", value: first_word });
        }
        let at = blocks.byte(self.ring.capacity(), block);
        Ok(Record { end: self.position + LINE, at, first_word, len, block: Some(block) })
    }

    fn check_len(&self, first_word: u64, place: usize) -> Result<usize, Violation> {
        record_len(first_word, self.len_max.min(place)).map_err(|error| match error {
            FrameError::TooLong { len, .. } => Violation { what: "a record that is too long", value: len },
            _ => Violation { what: "a record without room for a header", value: first_word },
        })
    }
}
