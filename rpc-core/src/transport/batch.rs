//! Batches of bytes: what a sender places, and a writer hands over.
//!
//! Frames lie one after the other in a buffer that is swapped out. The end of a long frame need not be copied into it:
//! then it is a *piece*, which belongs between two of the buffer's own bytes and is gathered when they are written. Pieces are
//! kept by the batch, or lent: by a caller who writes the batch itself, before anybody else can.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use super::FrameSender;
use crate::body::{Body, Parts};
use crate::frame::FIRST_WORD_LEN;

/// The sender of every transport that writes bytes: frames lie one after the other in a buffer that is swapped out.
#[derive(Debug, Default)]
pub struct BatchBuffer {
    /// Its length is the most that was ever used: what is written over need not be cleared first.
    bytes: Vec<u8>,
    /// Bytes of committed frames, without those of `pieces`.
    committed: usize,
    /// Bytes of the frame reserved last; 0 = none.
    reserved: usize,
    gathers: bool,
    pieces: VecDeque<Piece>,
    /// Bytes of `pieces`.
    apart: usize,
    /// Bytes committed since the beginning of time.
    position: u64,
}

/// How many bytes may lie in a [`BatchBuffer`] before senders wait for the writer.
const BATCH_LEN_MAX: usize = 256 * 1024;
/// A buffer that grew beyond this is not kept.
const BATCH_LEN_KEPT: usize = 2 * BATCH_LEN_MAX;

impl BatchBuffer {
    /// One that leaves the ends of long frames where they are: for a writer that takes a batch in [slices](Bytes::slices).
    /// The default one copies everything, and its batches are one slice each.
    pub fn gathering() -> BatchBuffer {
        BatchBuffer { gathers: true, ..BatchBuffer::default() }
    }

    /// Whether `len` more bytes have room. An empty buffer takes any frame, so that the longest one always gets its turn.
    fn has_room(&self, len: usize) -> bool {
        self.committed == 0 || self.committed + self.apart + len <= BATCH_LEN_MAX
    }

    fn grow(&mut self, end: usize) {
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
    }
}

impl FrameSender for BatchBuffer {
    type Batch = Bytes;

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = 0;
        if !self.has_room(len) {
            return None;
        }
        let end = self.committed + len;
        self.grow(end);
        self.reserved = len;
        self.bytes.get_mut(self.committed + FIRST_WORD_LEN..end)
    }

    fn commit(&mut self, first_word: u64) {
        if let Some(word) =
            self.bytes[self.committed..].first_chunk_mut::<FIRST_WORD_LEN>().filter(|_| self.reserved > 0)
        {
            *word = first_word.to_le_bytes();
        }
        self.committed += self.reserved;
        self.position += self.reserved as u64;
        self.reserved = 0;
    }

    fn gathers(&self) -> bool {
        self.gathers
    }

    fn place_apart(&mut self, head: &[u8], end: Apart) -> bool {
        self.reserved = 0;
        let len = head.len() + end.len();
        if !self.has_room(len) {
            return false;
        }
        let at = self.committed + head.len();
        self.grow(at);
        self.bytes[self.committed..at].copy_from_slice(head);
        self.committed = at;
        self.apart += end.len();
        self.position += len as u64;
        self.pieces.push_back(Piece { at, bytes: end });
        true
    }

    fn take_batch(&mut self, batch: &mut Bytes) -> bool {
        if self.committed == 0 {
            return false;
        }
        debug_assert!(batch.is_empty());
        std::mem::swap(&mut self.bytes, &mut batch.bytes);
        if self.apart > 0 {
            std::mem::swap(&mut self.pieces, &mut batch.pieces);
            self.apart = 0;
        }
        batch.gone = 0;
        batch.end = std::mem::take(&mut self.committed);
        true
    }

    fn idle(&mut self) {
        if self.committed == 0 {
            *self = BatchBuffer { position: self.position, gathers: self.gathers, ..BatchBuffer::default() };
        }
    }

    fn release(&mut self) {
        // What was never taken may be long.
        *self = BatchBuffer { position: self.position, ..BatchBuffer::default() };
    }

    fn position(&self) -> u64 {
        self.position
    }
}

/// Bytes on their way out, and how many of them are gone already.
#[derive(Debug, Default)]
pub struct Bytes {
    bytes: Vec<u8>,
    gone: usize,
    end: usize,
    /// What belongs between these bytes, in order; of the first, a part may be gone.
    pieces: VecDeque<Piece>,
}

impl Bytes {
    /// Whether nothing is left to be written.
    pub fn is_empty(&self) -> bool {
        self.gone == self.end && self.pieces.is_empty()
    }

    /// What is still to be written; where the sender [gathers](BatchBuffer::gathering), only its first part, and nothing if
    /// that is lent.
    pub fn as_slice(&self) -> &[u8] {
        let Some(piece) = self.pieces.front() else {
            return self.bytes.get(self.gone..self.end).unwrap_or_default();
        };
        if self.gone < piece.at {
            return &self.bytes[self.gone..piece.at];
        }
        match &piece.bytes.0 {
            Source::Kept(body, range) => &body[range.clone()],
            Source::Lent(_) => &[],
        }
    }

    /// Whether [`as_slice`](Bytes::as_slice) is all there is.
    pub fn is_contiguous(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Fills `into` with what is still to be written, as far as it goes, and returns how many slices that are. Bytes that are
    /// lent are those of `lent`; without them the slices end there.
    pub fn slices<'a>(&'a self, lent: Lent<'a>, into: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut push = |slice: &'a [u8]| match into.get_mut(filled) {
            _ if slice.is_empty() => true,
            Some(place) => {
                *place = IoSlice::new(slice);
                filled += 1;
                true
            }
            None => false,
        };
        let mut at = self.gone;
        for piece in &self.pieces {
            let own = &self.bytes[at..piece.at];
            at = piece.at;
            let end = match &piece.bytes.0 {
                Source::Kept(body, range) => Parts::from(&body[range.clone()]),
                Source::Lent(range) => lent.0.range(range.start, range.end),
            };
            if !push(own) || !push(end.head) || !push(end.tail) || end.len() < piece.bytes.len() {
                return filled;
            }
        }
        push(&self.bytes[at..self.end]);
        filled
    }

    /// Copies what is left of the lent bytes, so that they can be written when `lent` is gone.
    pub fn keep(&mut self, lent: Lent<'_>) {
        for piece in &mut self.pieces {
            if let Source::Lent(range) = &piece.bytes.0 {
                let body = Body::from(lent.0.range(range.start, range.end));
                let len = range.len();
                piece.bytes = Apart::kept(Arc::new(body), 0..len);
            }
        }
    }

    /// Notes that `n` more bytes have been written.
    pub fn advance(&mut self, mut n: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let own = n.min(piece.at - self.gone);
            self.gone += own;
            let range = piece.bytes.range_mut();
            let of_piece = (n - own).min(range.len());
            range.start += of_piece;
            n -= own + of_piece;
            if self.gone < piece.at || range.start < range.end {
                return;
            }
            self.pieces.pop_front();
        }
        self.gone += n;
        if self.gone >= self.end {
            self.gone = 0;
            self.end = 0;
            if self.bytes.capacity() > BATCH_LEN_KEPT {
                self.bytes = Vec::new();
            }
        }
    }
}

/// The end of a frame, which is not copied into the batch.
pub struct Apart(Source);

enum Source {
    /// A part of a message that is kept until it is written.
    Kept(Arc<Body>, Range<usize>),
    /// A part of what is lent to the writer.
    Lent(Range<usize>),
}

#[allow(clippy::len_without_is_empty, reason = "it never is")]
impl Apart {
    pub(crate) fn kept(body: Arc<Body>, range: Range<usize>) -> Apart {
        Apart(Source::Kept(body, range))
    }

    pub(crate) fn lent(range: Range<usize>) -> Apart {
        Apart(Source::Lent(range))
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Kept(_, range) | Source::Lent(range) => range.len(),
        }
    }

    fn range_mut(&mut self) -> &mut Range<usize> {
        match &mut self.0 {
            Source::Kept(_, range) | Source::Lent(range) => range,
        }
    }
}

impl fmt::Debug for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match &self.0 {
            Source::Kept(..) => "kept",
            Source::Lent(_) => "lent",
        };
        write!(f, "{} bytes, {how}", self.len())
    }
}

/// Bytes that a caller lends to the writer for the length of one attempt.
#[derive(Clone, Copy, Default)]
pub struct Lent<'a>(pub(crate) Parts<'a>);

impl fmt::Debug for Lent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[derive(Debug)]
struct Piece {
    /// So many of the batch's own bytes go before it.
    at: usize,
    /// Never empty but while it is being taken out.
    bytes: Apart,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of own bytes, kept and lent ones; what it says; and what was lent.
    fn batch() -> (Bytes, Vec<u8>, Vec<u8>) {
        let mut sender = BatchBuffer::gathering();
        let lent: Vec<u8> = (100..140).collect();
        let body = Arc::new(Body::from((0..30).collect::<Vec<u8>>()));
        let mut said = Vec::new();
        let own = |sender: &mut BatchBuffer, said: &mut Vec<u8>, fill: u8| {
            sender.reserve(12).unwrap().fill(fill);
            sender.commit(u64::from_le_bytes([fill; 8]));
            said.extend([fill; 12]);
        };
        own(&mut sender, &mut said, 201);
        assert!(sender.place_apart(&[202; 3], Apart::kept(Arc::clone(&body), 5..20)));
        said.extend([202; 3]);
        said.extend(&body[5..20]);
        assert!(sender.place_apart(&[203; 2], Apart::lent(10..30)));
        said.extend([203; 2]);
        said.extend(&lent[10..30]);
        own(&mut sender, &mut said, 204);
        assert!(sender.place_apart(&[205; 1], Apart::lent(30..40)));
        said.push(205);
        said.extend(&lent[30..]);
        assert_eq!(sender.position(), said.len() as u64);
        let mut batch = Bytes::default();
        assert!(sender.take_batch(&mut batch));
        assert!(!sender.take_batch(&mut Bytes::default()));
        (batch, said, lent)
    }

    /// In two, as a call's is.
    fn lend(bytes: &[u8]) -> Lent<'_> {
        let (head, tail) = bytes.split_at(17);
        Lent(Parts { head, tail })
    }

    fn gathered(batch: &Bytes, lent: Lent<'_>, most: usize) -> Vec<u8> {
        let mut slices = vec![IoSlice::new(&[]); most];
        let filled = batch.slices(lent, &mut slices);
        assert!(slices[..filled].iter().all(|slice| !slice.is_empty()));
        slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn slices_are_what_was_placed_however_much_is_gone() {
        let (_, said, _) = batch();
        for step in 1..=said.len() {
            for most in [1, 2, 3, 16] {
                let (mut batch, said, lent) = batch();
                let mut at = 0;
                while at < said.len() {
                    assert!(!batch.is_empty());
                    let slices = gathered(&batch, lend(&lent), most);
                    assert!(!slices.is_empty() && said[at..].starts_with(&slices), "at {at} by {step}");
                    assert!(most < 16 || slices.len() == said.len() - at);
                    let n = step.min(slices.len());
                    batch.advance(n);
                    at += n;
                }
                assert!(batch.is_empty() && batch.as_slice().is_empty());
            }
        }
    }

    #[test]
    fn what_is_kept_outlives_what_was_lent() {
        for gone in 0..batch().1.len() {
            let (mut batch, said, lent) = batch();
            batch.advance(gone);
            batch.keep(lend(&lent));
            drop(lent);
            assert_eq!(gathered(&batch, Lent::default(), 16), said[gone..]);
            let mut slow = Vec::new();
            while !batch.is_empty() {
                let part = batch.as_slice().to_vec();
                batch.advance(part.len());
                slow.extend(part);
            }
            assert_eq!(slow, said[gone..]);
        }
    }

    #[test]
    fn slices_end_where_something_lent_is_missing() {
        let (batch, said, _) = batch();
        assert_eq!(gathered(&batch, Lent::default(), 16), said[..12 + 3 + 15 + 2]);
    }

    #[test]
    fn pieces_take_room_like_what_is_copied() {
        let mut sender = BatchBuffer::gathering();
        let body = Arc::new(Body::from(vec![7; BATCH_LEN_MAX]));
        let piece = |len| Apart::kept(Arc::clone(&body), 0..len);
        assert!(sender.place_apart(&[1; 16], piece(BATCH_LEN_MAX)));
        assert!(!sender.place_apart(&[1; 16], piece(1)));
        assert!(sender.reserve(16).is_none());
        let mut batch = Bytes::default();
        assert!(sender.take_batch(&mut batch));
        assert!(sender.place_apart(&[1; 16], piece(BATCH_LEN_MAX - 48)));
        assert!(sender.reserve(33).is_none());
        assert!(sender.reserve(32).is_some());
        sender.commit(1);
        assert_eq!(sender.position(), (2 * BATCH_LEN_MAX) as u64 + 16);
        sender.release();
        drop(batch);
        assert_eq!(Arc::strong_count(&body), 1);
    }
}
