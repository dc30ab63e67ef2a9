//! Long payloads, put where they belong while they come in.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::body::{Body, Received};
use crate::frame::{FIRST_WORD_LEN, HEAD_LEN_MAX, HEADER_LEN, record_len};

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

    /// A place that belongs to no message, for whoever drives a receiver without a connection.
    pub fn alone(partial: &Partial<'_>) -> Landing {
        let head_len = partial.bytes.len().min(HEADER_LEN);
        Landing::new(partial, head_len, Filling::with_capacity(partial.len - head_len))
    }

    /// The frame, header included, as far as it has come.
    pub fn into_frame(self) -> Vec<u8> {
        let payload = &self.bytes.bytes[self.start..self.bytes.filled];
        [&self.head[..self.head_len], payload].concat()
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
        (self.head, self.head_len, Landed::Own { bytes: self.bytes, start: self.start })
    }
}

impl fmt::Debug for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Landing").field("missing", &self.missing()).finish_non_exhaustive()
    }
}

/// The payload of a frame that stays where it came in, in memory of the transport's, until this is dropped: by whichever
/// thread, perhaps long after the connection has ended.
pub struct Lease(Box<dyn AsRef<[u8]> + Send + Sync>);

impl Lease {
    /// Lends `memory`, which is always the same bytes. They are given back when it is dropped; that should not take long,
    /// and wait for nothing, since it may happen under the connection's lock.
    pub fn new(memory: impl AsRef<[u8]> + Send + Sync + 'static) -> Lease {
        Lease(Box::new(memory))
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a lease of {} bytes", self.len())
    }
}

/// The payload of a frame that is where it belongs.
#[derive(Debug)]
pub(crate) enum Landed {
    /// In the message's own memory, which ends with it.
    Own { bytes: Filling, start: usize },
    /// Where it came in.
    Lent(Lease),
}

impl Landed {
    /// Bytes of the payload.
    pub(crate) fn len(&self) -> usize {
        match self {
            Landed::Own { bytes, start } => bytes.len() - start,
            Landed::Lent(lease) => lease.len(),
        }
    }

    /// All of the message that has come, with room for `total` bytes.
    pub(crate) fn into_filling(self, total: usize) -> Filling {
        let mut all = match self {
            Landed::Own { bytes, .. } if bytes.bytes.capacity() >= total => {
                return Filling { _tentative: None, ..bytes };
            }
            _ => Filling::with_capacity(total),
        };
        match &self {
            Landed::Own { bytes, .. } => all.push(&bytes.bytes[..bytes.filled]),
            Landed::Lent(lease) => all.push(lease),
        }
        all
    }

    pub(crate) fn into_message(self) -> Received {
        match self {
            Landed::Own { bytes, .. } => bytes.into_body().into(),
            Landed::Lent(lease) => lease.into(),
        }
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
    _tentative: Option<Tentative>,
}

/// Memory that was handed out before anybody has said that the message is taken. Of that there is little in the whole
/// process, since no account knows of it.
#[derive(Debug)]
struct Tentative(usize);

/// Counts what is lent out so. It orders nothing.
static TENTATIVE: AtomicUsize = AtomicUsize::new(0);
/// As much as may lie unused for long messages.
const TENTATIVE_MAX: usize = 16 << 20;

impl Tentative {
    fn new(len: usize) -> Option<Tentative> {
        let tentative = Tentative(len);
        let before = TENTATIVE.fetch_add(len, Ordering::Relaxed);
        (before + len <= TENTATIVE_MAX).then_some(tentative)
    }
}

impl Drop for Tentative {
    fn drop(&mut self) {
        TENTATIVE.fetch_sub(self.0, Ordering::Relaxed);
    }
}

impl Filling {
    /// For `len` bytes in all.
    pub(crate) fn with_capacity(len: usize) -> Filling {
        let bytes = Body::with_leftovers(len).unwrap_or_else(|| Vec::with_capacity(len).into());
        Filling { bytes, filled: 0, _tentative: None }
    }

    /// For the first `len` bytes, or for all `total` if there is memory for these anyway: nobody has said yet that the
    /// message is taken.
    pub(crate) fn tentative(len: usize, total: usize) -> Filling {
        let all = (total > len).then(|| Body::with_leftovers(total)).flatten();
        let all = all.and_then(|bytes| Some((Tentative::new(bytes.capacity())?, bytes)));
        match all {
            Some((tentative, bytes)) => Filling { bytes, filled: 0, _tentative: Some(tentative) },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: usize) -> Vec<u8> {
        let mut frame: Vec<u8> = (0..len).map(|at| (at * 31 + at / 251) as u8).collect();
        frame[..FIRST_WORD_LEN].copy_from_slice(&((len - FIRST_WORD_LEN) as u64 | 5 << 32).to_le_bytes());
        frame
    }

    /// Puts `bytes` into the place, at most `step` at a time.
    fn land(landing: &mut Landing, mut bytes: &[u8], step: usize) {
        while !bytes.is_empty() {
            let space = landing.space();
            let n = space.len().min(bytes.len()).min(step);
            assert!(n > 0);
            space[..n].copy_from_slice(&bytes[..n]);
            landing.advance(n);
            bytes = &bytes[n..];
        }
    }

    #[test]
    fn a_frame_lands_behind_what_has_come_whatever_was_there_before() {
        for leftovers in [0, 10, 5_000, 30_000, 200_000] {
            for len in [9_500, 20_000, 150_000] {
                for here in [16, 17, 64, 900] {
                    let frame = frame(len);
                    let partial = Partial::of(&frame[..here], len).unwrap();
                    assert_eq!(partial.len, len);
                    let mut bytes = Filling { bytes: vec![0xee; leftovers].into(), ..Filling::default() };
                    bytes.push(b"before");
                    let mut landing = Landing::new(&partial, 16, bytes);
                    assert_eq!(landing.missing(), len - here);
                    land(&mut landing, &frame[here..], 7_000);
                    assert!(landing.missing() == 0 && landing.space().is_empty());
                    let (head, head_len, landed) = landing.into_parts();
                    assert_eq!((&head[..head_len], landed.len()), (&frame[..16], len - 16));
                    let mut bytes = landed.into_filling(len + 100_000);
                    bytes.push(b"behind");
                    assert!(bytes.into_body()[..] == [b"before", &frame[16..], b"behind"].concat());
                }
            }
        }
    }

    #[test]
    fn who_announces_much_and_sends_little_takes_little() {
        let len = 64 << 20;
        let mut landing = Landing::alone(&Partial::of(&frame(len)[..100], len).unwrap());
        let mut come = 100;
        for step in [0, 1, 1000, 20_000, 100_000, 1_000_000] {
            land(&mut landing, &vec![7; step], usize::MAX);
            come += step;
            landing.space();
            let written = landing.bytes.bytes.len();
            assert!(written <= come + CLEARED_MIN.max(come.min(CLEARED_MAX)), "{written} bytes for {come}");
        }
    }

    #[test]
    fn little_is_handed_out_before_a_message_is_taken() {
        let len = 3 << 20;
        let mut fillings = Vec::new();
        for _ in 0..20 {
            // A buffer of that length is there each time.
            drop(Body::from(Vec::with_capacity(len)));
            fillings.push(Filling::tentative(100_000, len));
        }
        // Other tests may have some of it as well.
        let long = fillings.iter().map(|filling| filling.bytes.capacity()).filter(|capacity| *capacity >= len);
        let (handed, counted) = (long.sum::<usize>(), TENTATIVE.load(Ordering::Relaxed));
        assert!(0 < handed && handed <= counted && handed <= TENTATIVE_MAX, "{handed} of {counted}");
        drop(fillings);
        assert!(TENTATIVE.load(Ordering::Relaxed) < counted);
    }

    #[test]
    fn what_is_short_or_nearly_there_lands_nowhere() {
        let frame = frame(20_000);
        assert!(Partial::of(&frame[..7], 20_000).is_none());
        assert!(Partial::of(&frame[..8], 19_999).is_none(), "it is longer than it may be");
        assert!(Partial::of(&frame[..20_000 - LANDING_LEN_MIN], 20_000).is_some());
        assert!(Partial::of(&frame[..20_001 - LANDING_LEN_MIN], 20_000).is_none());
        assert!(Partial::of(&frame, 20_000).is_none());
    }

    #[test]
    #[should_panic = "more than is missing"]
    fn no_more_lands_than_is_missing() {
        let frame = frame(20_000);
        Landing::alone(&Partial::of(&frame[..16], 20_000).unwrap()).advance(19_985);
    }
}
