//! A message on its way out: one frame, or a first frame and its chunks.

use std::sync::Arc;

use super::extras::{Extras, Sent};
use crate::body::{Body, Parts};
use crate::error::ProtocolError;
use crate::frame::{Extended, FRAME_OVERHEAD_MAX, Frame, FrameError, Head, Kind, Lead, StreamCounts, flags, tag};
use crate::landing::{Filling, Landed};
use crate::priority::Priority;
use crate::transport::{Apart, FrameSender};

/// A CALL, REPLY or FAIL whose payload is encoded, and how much of it has been placed.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) lead: Lead,
    extras: Extras,
    payload: Source,
    /// Payload bytes.
    total: usize,
    /// Payload bytes placed.
    sent: usize,
    /// Whether the first frame has been placed.
    pub(crate) begun: bool,
    /// Whether it stands in line for room.
    pub(crate) queued: bool,
    /// What is lent is left with its owner, who sends it piece by piece: nothing of it is held here.
    pub(crate) left: bool,
}

/// Into what messages are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkLen {
    /// Payload bytes of a frame.
    pub(crate) len: usize,
    /// Up to so many may go whole all the same, where the sender has a place for them.
    pub(crate) whole: usize,
}

impl ChunkLen {
    /// The same, with frames of at most `most` bytes where there are several.
    pub(crate) fn at_most(self, most: usize) -> ChunkLen {
        ChunkLen { len: self.len.min(most), ..self }
    }

    /// Payload bytes of the first frame of a message of `total`.
    fn of_first<S: FrameSender>(self, total: usize, out: &mut S) -> usize {
        let goes_whole = total > self.len && total <= self.whole && total + FRAME_OVERHEAD_MAX <= out.frame_len_now();
        if goes_whole { total } else { self.len }
    }
}

/// How far a message got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All of it has been placed.
    Done,
    /// A frame has been placed; more are to come.
    More,
    /// The sender has no room.
    Blocked,
}

impl Message {
    pub(crate) fn new(kind: Kind, flags: u8, lead: Lead, extras: Extras, payload: Body) -> Message {
        let total = payload.len();
        Message::of(kind, flags, lead, extras, Source::Own { body: payload, start: 0 }, total)
    }

    /// One whose payload of `total` bytes its owner still has, and [feeds](Message::feed).
    pub(crate) fn lent(kind: Kind, flags: u8, lead: Lead, extras: Extras, total: usize) -> Message {
        Message::of(kind, flags, lead, extras, Source::Lent, total)
    }

    fn of(kind: Kind, flags: u8, lead: Lead, extras: Extras, payload: Source, total: usize) -> Message {
        Message { kind, flags, lead, extras, payload, total, sent: 0, begun: false, queued: false, left: false }
    }

    /// How urgent it is; of a reply, its call knows.
    pub(crate) fn priority(&self) -> Priority {
        Sent::priority(&self.extras)
    }

    /// Whether its owner still has the payload.
    pub(crate) fn is_lent(&self) -> bool {
        matches!(self.payload, Source::Lent)
    }

    pub(crate) fn len(&self) -> usize {
        self.total
    }

    /// The payload of a message none of which has been placed.
    pub(crate) fn into_payload(self) -> Body {
        match self.payload {
            Source::Lent => Body::default(),
            Source::Own { body, .. } => body,
            // Nobody else has it yet.
            Source::Shared { body, .. } => Arc::into_inner(body).unwrap_or_default(),
        }
    }

    /// Takes over the payload, or what has not been placed of it.
    pub(crate) fn keep(&mut self, rest: Body) {
        debug_assert!(rest.len() == self.unsent() || rest.len() == self.total);
        let start = self.total - rest.len();
        self.payload = Source::Own { body: rest, start };
    }

    pub(crate) fn unsent(&self) -> usize {
        self.total - self.sent
    }

    /// Places the next frame of it.
    pub(crate) fn advance<S: FrameSender>(&mut self, id: u64, chunk_len: ChunkLen, out: &mut S) -> Progress {
        let end = self.next_end(chunk_len, out);
        let extras = self.extras_now();
        let (head, more) = self.head(id, end, &extras);
        let placed = if end - self.sent >= APART_LEN_MIN && out.gathers() {
            match self.apart(end) {
                Some(chunk) => head.place_apart(chunk, out),
                None => false,
            }
        } else {
            head.place(self.payload.get(self.sent, end), out)
        };
        self.note(placed, end, more)
    }

    /// Places the next frame of one that is lent, of which `whole` is the payload. With `lend` it stays where it is: this
    /// party is about to write, and has `whole` in hand.
    pub(crate) fn feed<S: FrameSender>(
        &mut self,
        id: u64,
        whole: Parts<'_>,
        lend: bool,
        chunk_len: ChunkLen,
        out: &mut S,
    ) -> Progress {
        let end = self.next_end(chunk_len, out);
        let extras = self.extras_now();
        let (head, more) = self.head(id, end, &extras);
        let placed = if lend && end - self.sent >= APART_LEN_MIN {
            head.place_apart(Apart::lent(self.sent..end), out)
        } else {
            head.place_parts(whole.range(self.sent, end), out)
        };
        self.note(placed, end, more)
    }

    /// Up to where the next frame takes the payload.
    fn next_end<S: FrameSender>(&self, chunk_len: ChunkLen, out: &mut S) -> usize {
        let len = if self.begun { chunk_len.len } else { chunk_len.of_first(self.total, out) };
        self.total.min(self.sent + len)
    }

    /// What the next frame carries beside its part of the payload.
    fn extras_now(&self) -> Extras {
        if self.begun { None } else { self.extras.clone() }
    }

    /// The head of the frame that takes the payload up to `end`, and whether more follow.
    fn head<'a>(&self, id: u64, end: usize, extras: &'a Extras) -> (Head<'a>, bool) {
        let more = end < self.total;
        let mut head = Head::new(if self.begun { Kind::Chunk } else { self.kind }, id);
        if !self.begun {
            head.flags = self.flags;
            head.lead = self.lead;
            head.extended = Extended::by(Sent::bytes(extras));
            if more {
                let encoded = Sent::bytes(extras);
                head.extended = Some(Extended { total: Some(self.total as u64), encoded });
            }
        }
        if more {
            head.flags |= flags::MORE;
        }
        (head, more)
    }

    fn note(&mut self, placed: bool, end: usize, more: bool) -> Progress {
        if !placed {
            return Progress::Blocked;
        }
        if !self.begun {
            Sent::placed(&self.extras);
        }
        self.begun = true;
        self.sent = end;
        if more { Progress::More } else { Progress::Done }
    }

    /// What is to be sent next, up to `end`, to be held by others, too.
    fn apart(&mut self, end: usize) -> Option<Apart> {
        if let Source::Own { body, start } = &mut self.payload {
            self.payload = Source::Shared { start: *start, body: Arc::new(std::mem::take(body)) };
        }
        match &self.payload {
            Source::Shared { body, start } => Some(Apart::kept(Arc::clone(body), self.sent - start..end - start)),
            Source::Own { .. } | Source::Lent => None,
        }
    }
}

/// Where the payload of a message is.
#[derive(Debug)]
enum Source {
    /// With its owner, who feeds it.
    Lent,
    /// Here, from `start` on.
    Own { body: Body, start: usize },
    /// The same, with parts of it in batches.
    Shared { body: Arc<Body>, start: usize },
}

impl Source {
    /// The bytes from `from` to `to`.
    fn get(&self, from: usize, to: usize) -> &[u8] {
        let (body, start): (&[u8], _) = match self {
            Source::Lent => return &[],
            Source::Own { body, start } => (body, *start),
            Source::Shared { body, start } => (body, *start),
        };
        body.get(from - start..to - start).unwrap_or_default()
    }
}

/// A shorter piece is copied sooner than it is gathered.
pub(crate) const APART_LEN_MIN: usize = 16 << 10;

/// What a frame brings of a message.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// It lies in the receive buffer.
    Here(&'a [u8]),
    /// It lies where it belongs, behind what has come before.
    Landed(Landed),
}

impl<'a> Piece<'a> {
    /// What has `landed`, taken out, or else what the frame itself has.
    #[inline]
    pub(crate) fn new(here: &'a [u8], landed: &mut Option<Landed>) -> Piece<'a> {
        if landed.is_none() {
            return Piece::Here(here);
        }
        landed.take().map_or(Piece::Here(here), Piece::Landed)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Piece::Here(bytes) => bytes.len(),
            Piece::Landed(landed) => landed.len(),
        }
    }
}

/// A message on its way in, put together from its chunks. Its total has been charged before it is made.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// Away while a chunk lands in it.
    bytes: Filling,
    /// Bytes that have come.
    received: u64,
    total: u64,
    /// Somebody wants it; else its chunks are counted and dropped.
    kept: bool,
}

/// How a chunk fits what was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The message is whole.
    Whole,
    /// More is to come.
    Part,
    /// It does not fit.
    Wrong,
}

/// Chunks other than the last have at least this many bytes, so that a flood of tiny ones is no honest peer's.
pub(crate) const CHUNK_LEN_MIN: usize = 1024;

impl Assembly {
    pub(crate) fn new(total: u64) -> Assembly {
        Assembly { bytes: Filling::default(), received: 0, total, kept: true }
    }

    /// A message that nobody wants. Its end is waited for all the same: only then is its call over.
    pub(crate) fn unwanted(total: u64) -> Assembly {
        Assembly { kept: false, ..Assembly::new(total) }
    }

    /// Bytes that are still to come.
    pub(crate) fn rest(&self) -> u64 {
        self.total - self.received
    }

    /// Bytes held.
    pub(crate) fn held(&self) -> u64 {
        if self.kept { self.received } else { 0 }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Nobody wants it any more. Returns how many bytes that lets go of.
    pub(crate) fn discard(&mut self) -> u64 {
        let held = self.held();
        self.kept = false;
        self.bytes = Filling::default();
        held
    }

    /// What has come, for the next chunk to land behind it, if that is one of `len` bytes. It comes back as
    /// [`Piece::Landed`].
    pub(crate) fn lend(&mut self, len: usize) -> Option<Filling> {
        (self.kept && len as u64 <= self.rest()).then(|| std::mem::take(&mut self.bytes))
    }

    pub(crate) fn push(&mut self, piece: Piece<'_>, more: bool) -> Fit {
        let len = piece.len();
        let received = self.received + len as u64;
        if received > self.total || (more && len < CHUNK_LEN_MIN) || more == (received == self.total) {
            return Fit::Wrong;
        }
        if self.kept {
            match piece {
                Piece::Here(bytes) => {
                    if self.received == 0 {
                        self.bytes = Filling::with_capacity(self.total as usize);
                    }
                    self.bytes.push(bytes);
                }
                Piece::Landed(landed) => self.bytes = landed.into_filling(self.total as usize),
            }
            // Unless a transport keeps what landed, or brings it twice.
            if self.bytes.len() as u64 != received {
                return Fit::Wrong;
            }
        }
        self.received = received;
        if more { Fit::Part } else { Fit::Whole }
    }

    /// The message, if somebody wants it.
    pub(crate) fn take(&mut self) -> Option<Body> {
        self.kept.then(|| std::mem::take(&mut self.bytes).into_body())
    }
}

/// What the first frame of a message says of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// Payload bytes of the whole message: `len` for a single frame, more than `len` if chunks follow.
    pub(crate) total: u64,
    /// A critical extension that this version does not know.
    pub(crate) unknown: Option<u16>,
    /// The streams of a CALL.
    pub(crate) streams: StreamCounts,
    /// How many handlers a CALL has come through.
    pub(crate) hops: u8,
}

impl Opening {
    /// Reads the extensions of a frame that carries the first `len` bytes of a payload.
    #[inline]
    pub(crate) fn of(frame: &Frame<'_>, len: u64) -> Result<Opening, ProtocolError> {
        if frame.is_plain() {
            return Ok(Opening { total: len, unknown: None, streams: StreamCounts::NONE, hops: 0 });
        }
        Opening::of_extended(frame, len)
    }

    fn of_extended(frame: &Frame<'_>, len: u64) -> Result<Opening, ProtocolError> {
        let mut opening = Opening { total: len, unknown: None, streams: StreamCounts::NONE, hops: 0 };
        for extension in frame.extensions() {
            match extension? {
                (tag::TOTAL, value) => {
                    let value = value.try_into().map_err(|_| FrameError::Truncated { what: "total" })?;
                    opening.total = u64::from_le_bytes(value);
                }
                (tag::STREAMS, value) if frame.kind == Kind::Call => opening.streams = StreamCounts::parse(value)?,
                (tag::HOPS, &[hops]) => opening.hops = hops,
                // Looked at when the frame was taken in.
                (tag::OBJECT | tag::RESULT, _) if frame.kind == Kind::Call => {}
                (tag::HANDLES, _) => {}
                (unknown, _) if unknown & tag::CRITICAL != 0 => opening.unknown = Some(unknown),
                _ => {}
            }
        }
        let fits = if frame.more() { opening.total > len && len >= CHUNK_LEN_MIN as u64 } else { opening.total == len };
        if fits { Ok(opening) } else { Err(ProtocolError::Chunks) }
    }
}
