//! Long payloads, put where they belong while they come in.

use std::fmt;

use crate::body::Body;
use crate::frame::{FIRST_WORD_LEN, HEAD_LEN_MAX, record_len};

/// The beginning of a long frame, before the rest of it is taken in.
#[derive(Clone, Copy, Debug)]
pub struct Partial<'a> {
    /// Its first bytes.
    pub bytes: &'a [u8],
    /// Bytes of the whole frame, header included: more than there are in `bytes`.
    pub len: usize,
}

impl<'a> Partial<'a> {
    /// Looks at `bytes`, of which a frame of at most `frame_len_max` bytes is the beginning. `None` if it is no long
    /// frame, or if little of it is missing: then it is better taken in like the others.
    pub fn of(bytes: &'a [u8], frame_len_max: usize) -> Option<Partial<'a>> {
        let word = bytes.first_chunk::<FIRST_WORD_LEN>()?;
        let len = record_len(u64::from_le_bytes(*word), frame_len_max).ok()?;
        (len.saturating_sub(bytes.len()) >= LANDING_LEN_MIN).then_some(Partial { bytes, len })
    }
}

/// A frame of which so many bytes are still to come is worth a place of its own.
pub const LANDING_LEN_MIN: usize = 8 << 10;

/// The place where the rest of a long frame goes: memory of the message's own, so that it need not be copied there.
///
/// ```text
/// while landing.missing() > 0 { let n = read(landing.space())?; landing.advance(n); }
/// ```
pub struct Landing {
    /// All that comes before the payload.
    head: [u8; HEAD_LEN_MAX],
    head_len: usize,
    bytes: Filling,
    /// Where in `bytes` the frame's payload begins.
    start: usize,
    /// Where it ends.
    end: usize,
}

impl Landing {
    /// Puts the payload of the frame that begins with `partial`, after a head of `head_len` bytes, behind what is in
    /// `bytes` already.
    pub(crate) fn new(partial: &Partial<'_>, head_len: usize, bytes: Filling) -> Landing {
        let mut head = [0; HEAD_LEN_MAX];
        let (before, here) = partial.bytes.split_at(head_len);
        head[..head_len].copy_from_slice(before);
        let start = bytes.len();
        let mut landing = Landing { head, head_len, bytes, start, end: start + partial.len - head_len };
        landing.bytes.push(here);
        landing
    }

    /// Bytes that are still to come.
    pub fn missing(&self) -> usize {
        self.end - self.bytes.len()
    }

    /// Where the next of them go: as many as are missing, or at least 16 KiB of them. Empty if none are. What is in it
    /// means nothing.
    pub fn space(&mut self) -> &mut [u8] {
        self.bytes.space(self.end)
    }

    /// Says that the first `n` bytes of [`space`](Landing::space) have come.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.missing(), "more than is missing");
        self.bytes.advance(n);
    }

    /// The frame without its payload, in so many bytes; and the payload.
    pub(crate) fn into_parts(self) -> ([u8; HEAD_LEN_MAX], usize, Landed) {
        debug_assert_eq!(self.missing(), 0, "it has not landed yet");
        (self.head, self.head_len, Landed { bytes: self.bytes, start: self.start })
    }
}

impl fmt::Debug for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Landing").field("missing", &self.missing()).finish_non_exhaustive()
    }
}

/// The payload of a frame that has landed.
#[derive(Debug)]
pub(crate) struct Landed {
    /// It ends with the payload.
    bytes: Filling,
    start: usize,
}

impl Landed {
    /// Bytes of the payload.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// All of the message that has come, with room for `total` bytes.
    pub(crate) fn into_filling(self, total: usize) -> Filling {
        if self.bytes.bytes.capacity() >= total {
            return self.bytes;
        }
        let mut all = Filling::with_capacity(total);
        all.push(&self.bytes.bytes[..self.bytes.filled]);
        all
    }

    pub(crate) fn into_body(self) -> Body {
        self.bytes.into_body()
    }
}

/// The bytes of a message as they come in.
///
/// Memory is cleared before it is lent out to be written, unless it has been written before: so buffers that are used
/// again and again are cleared once.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    /// Behind what has come, leftovers.
    bytes: Body,
    filled: usize,
}

impl Filling {
    /// For `len` bytes in all.
    pub(crate) fn with_capacity(len: usize) -> Filling {
        Filling { bytes: Body::with_leftovers(len).unwrap_or_else(|| Vec::with_capacity(len).into()), filled: 0 }
    }

    /// For the first `len` bytes, or for all `total` if there is memory for these anyway: nobody has said yet that the
    /// message is taken.
    pub(crate) fn tentative(len: usize, total: usize) -> Filling {
        match Body::with_leftovers(total) {
            Some(bytes) => Filling { bytes, filled: 0 },
            None => Filling::with_capacity(len),
        }
    }

    /// Bytes that have come.
    pub(crate) fn len(&self) -> usize {
        self.filled
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let over = (self.bytes.len() - self.filled).min(bytes.len());
        let (over, behind) = bytes.split_at(over);
        self.bytes[self.filled..][..over.len()].copy_from_slice(over);
        self.bytes.extend_from_slice(behind);
        self.filled += bytes.len();
    }

    /// What comes next, up to `end`. Cleared by steps: who announces much and sends little takes little.
    fn space(&mut self, end: usize) -> &mut [u8] {
        let least = end.min(self.filled + CLEARED_MIN);
        if self.bytes.len() < least {
            self.bytes.resize(end.min(self.filled + self.filled.clamp(CLEARED_MIN, CLEARED_MAX)), 0);
        }
        let end = end.min(self.bytes.len());
        &mut self.bytes[self.filled..end]
    }

    fn advance(&mut self, n: usize) {
        self.filled += n;
    }

    pub(crate) fn into_body(mut self) -> Body {
        self.bytes.truncate(self.filled);
        self.bytes
    }
}

/// As much as has come is cleared at once, but at least and at most so many bytes.
const CLEARED_MIN: usize = 16 << 10;
const CLEARED_MAX: usize = 128 << 10;
