//! The frame: a 16-byte header, extensions, a body. The only file that knows byte offsets.
//!
//! ```text
//! frame := len[4] kind[1] flags[1] ext[2]  id[8]   extensions[ext]  body[len - 8 - ext]
//! ```
//!
//! Little-endian. `len` counts everything after the first 8 bytes. The first 8 bytes, the *first word*, are never all
//! zero, because no kind is 0: in a ring of shared memory the same word says that the record has been published.
//!
//! The whole format, with byte-exact examples, stands in `docs/protocol.md`.

use std::time::Duration;

use crate::body::Parts;
use crate::transport::{Apart, FrameSender};

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 16;
/// Bytes of the first word, which `len` does not count.
pub const FIRST_WORD_LEN: usize = 8;
/// Bytes that a CALL's body has before its payload: method, fingerprint, timeout.
pub const CALL_HEAD_LEN: usize = 16;
/// Bytes in front of an item of a stream: its length.
pub const ITEM_HEAD_LEN: usize = 4;
/// Bytes that a FAIL's body has before its detail: class and code.
pub const FAIL_HEAD_LEN: usize = 2;
/// The most bytes a frame's extensions may take together.
pub const EXTENSIONS_LEN_MAX: usize = 4096;
/// What a frame may need beside a payload of a whole chunk: header, call head, and room for every extension.
pub const FRAME_OVERHEAD_MAX: usize = HEADER_LEN + CALL_HEAD_LEN + EXTENSIONS_LEN_MAX;
/// What a frame of this version has before its payload is no longer, unless it has metadata: then the payload is received
/// like any other bytes.
pub const HEAD_LEN_MAX: usize = 128;
/// A CALL's timeout counts units of 100 microseconds.
pub const TIMEOUT_UNIT_MICROS: u64 = 100;

/// What a frame says. Numbers from 0x80 up may be skipped by a receiver that does not know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// The first frame of either side: versions, limits, codecs.
    Hello = 1,
    /// A request, or its first chunk.
    Call = 2,
    /// The successful end of a call, or its first chunk.
    Reply = 3,
    /// The unsuccessful end of a call.
    Fail = 4,
    /// More of the message that this id has open.
    Chunk = 5,
    /// The caller no longer wants the reply; the terminal frame is still owed.
    Cancel = 6,
    /// More bytes of a stream's items.
    Item = 7,
    /// The last frame of a stream.
    End = 8,
    /// The receiver of a stream wants no more items.
    Stop = 9,
    /// More bytes of a window.
    Credit = 10,
    /// Is anybody there?
    Ping = 11,
    /// Yes.
    Pong = 12,
    /// No new calls in this direction.
    GoAway = 13,
    /// The connection ends, with a reason.
    Close = 14,
    /// Objects of the receiver's that nobody here holds any more.
    Release = 15,
    /// An object of the sender's is there no more.
    Gone = 16,
}

impl Kind {
    /// The kind with this number, if it is one of this version's.
    pub fn from_wire(number: u8) -> Option<Kind> {
        Some(match number {
            1 => Kind::Hello,
            2 => Kind::Call,
            3 => Kind::Reply,
            4 => Kind::Fail,
            5 => Kind::Chunk,
            6 => Kind::Cancel,
            7 => Kind::Item,
            8 => Kind::End,
            9 => Kind::Stop,
            10 => Kind::Credit,
            11 => Kind::Ping,
            12 => Kind::Pong,
            13 => Kind::GoAway,
            14 => Kind::Close,
            15 => Kind::Release,
            16 => Kind::Gone,
            _ => return None,
        })
    }
}

/// A record of the shared-memory ring that holds no frame, up to the end of the ring. Never sent on a byte stream, where
/// it is an unknown kind.
const KIND_PAD: u8 = 0x7f;

/// The first word of a record of `len` bytes, at least [`FIRST_WORD_LEN`], that is to be skipped.
pub fn pad(len: usize) -> u64 {
    (len - FIRST_WORD_LEN) as u64 | u64::from(KIND_PAD) << 32
}

/// How many bytes are to be skipped, if `first_word` begins a pad.
pub fn pad_len(first_word: u64) -> Option<usize> {
    ((first_word >> 32) as u8 == KIND_PAD).then_some(first_word as u32 as usize + FIRST_WORD_LEN)
}

/// A record of the shared-memory ring whose frame lies in a block beside it. Never sent on a byte stream either.
const KIND_ASIDE: u8 = 0x7e;
/// Bytes of such a record: its own first word, and that of the frame.
pub const ASIDE_LEN: usize = HEADER_LEN;

/// The first word of a record whose frame lies in the block with this number. The frame's own first word follows.
pub fn aside(block: u16) -> u64 {
    (ASIDE_LEN - FIRST_WORD_LEN) as u64 | u64::from(KIND_ASIDE) << 32 | u64::from(block) << 48
}

/// In which block the frame lies, if `first_word` begins such a record.
pub fn aside_block(first_word: u64) -> Option<u16> {
    ((first_word >> 32) as u8 == KIND_ASIDE).then_some((first_word >> 48) as u16)
}

/// Whether the frame that begins with `first_word` may lie in a block: whole calls and replies do.
pub fn lies_aside(first_word: u64) -> bool {
    let [_, _, _, _, kind, flags, ..] = first_word.to_le_bytes();
    matches!(Kind::from_wire(kind), Some(Kind::Call | Kind::Reply | Kind::Fail)) && flags & flags::MORE == 0
}

/// Kinds from here up are skipped by a receiver that does not know them.
const KIND_SKIPPABLE: u8 = 0x80;

/// Flags of a frame: the low half is critical (a receiver that does not know one refuses the frame), the high half is not.
pub mod flags {
    /// More of this message follows in CHUNK frames.
    pub const MORE: u8 = 0x01;
    /// Nobody waits for this call's reply.
    pub const ONEWAY: u8 = 0x02;
    /// These items do not count in the window of all streams.
    pub const FREE: u8 = 0x04;
    /// The sender of these items waits for their credit: it leaves as soon as their receiver has taken them and waits for more.
    pub const PROMPT: u8 = 0x10;
    /// The half a receiver must know.
    pub const CRITICAL: u8 = 0x0f;
    /// The critical flags of this version.
    pub(crate) const KNOWN: u8 = MORE | ONEWAY | FREE;
}

/// Tags of extensions. The top bit says that a receiver must know it.
pub mod tag {
    /// The bit of a tag that makes it critical.
    pub const CRITICAL: u16 = 0x8000;
    /// The payload bytes of a whole message that comes in chunks, 8 bytes.
    pub const TOTAL: u16 = CRITICAL | 1;
    /// How many streams a call has: those its caller sends, 1 byte, and those it receives, 1 byte.
    pub const STREAMS: u16 = CRITICAL | 2;
    /// The object that a call is made on, instead of a service: its id, 8 bytes.
    pub const OBJECT: u16 = CRITICAL | 8;
    /// The objects that a message hands over: their ids, 8 bytes each.
    pub const HANDLES: u16 = CRITICAL | 9;
    /// The result of a call will be an object, which may be called before it is there: nothing.
    pub const RESULT: u16 = CRITICAL | 10;
    /// How many handlers a call has come through, 1 byte.
    pub const HOPS: u16 = 0x0b;
    /// Metadata of a call or a reply: `flags[1] name_len[1] value_len[2] name value`, again and again.
    pub const METADATA: u16 = 0x10;
    /// The trace that a call belongs to: trace id 16 bytes, parent id 8, flags 1, in the order of W3C's text form.
    pub const TRACE: u16 = 0x11;
    /// A call's own id, 16 bytes.
    pub const CALL_ID: u16 = 0x12;
    /// How urgent a call is, 1 byte.
    pub const PRIORITY: u16 = 0x13;
    /// How many items of a stream its sender has left out before those of the frame, in all, 8 bytes.
    pub const MISSED: u16 = 0x14;
}

/// The most objects that a message can hand over.
pub(crate) const HANDLES_MAX: usize = 128;

/// Makes of a call's id that of the object that is its result. No other object's id has this bit, and no call's.
pub(crate) const RESULT: u64 = 1 << 63;

/// How many streams a call has. They own the ids after its own, those that its caller sends first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamCounts {
    /// Sent by the caller.
    pub(crate) given: u8,
    /// Sent by the callee.
    pub(crate) returned: u8,
}

impl StreamCounts {
    pub(crate) const NONE: StreamCounts = StreamCounts { given: 0, returned: 0 };

    pub(crate) fn all(self) -> u64 {
        u64::from(self.given) + u64::from(self.returned)
    }

    /// The id of the call's last stream, or its own; `None` if there is none.
    pub(crate) fn last_id(self, call: u64) -> Option<u64> {
        call.checked_add(2 * self.all())
    }

    /// The value of the extension.
    pub(crate) fn parse(value: &[u8]) -> Result<StreamCounts, FrameError> {
        let &[given, returned] = value else {
            return Err(FrameError::Truncated { what: "number of streams" });
        };
        Ok(StreamCounts { given, returned })
    }
}

/// A frame that no honest peer sends. The connection that brought it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The header's length is impossible, or over what this side announced.
    #[error("a frame of {len} bytes, where at most {max} are allowed")]
    TooLong {
        /// What the header claims, with the header.
        len: u64,
        /// The most this side accepts.
        max: u64,
    },
    /// The frame is shorter than what its header says it holds.
    #[error("a {what} that ends too early")]
    Truncated {
        /// Which part.
        what: &'static str,
    },
    /// A kind below 0x80 that this version does not know.
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    /// A critical flag that this version does not know.
    #[error("unknown critical flags {flags:#04x} on kind {kind:#04x}")]
    UnknownFlags {
        /// The frame's kind.
        kind: u8,
        /// The flags nobody here knows.
        flags: u8,
    },
    /// A critical extension that this version does not know.
    #[error("unknown critical extension {0:#06x}")]
    UnknownExtension(u16),
    /// The extensions are longer than is allowed.
    #[error("{0} bytes of extensions")]
    ExtensionsTooLong(usize),
}

/// How many bytes the record that begins with `first_word` has, header included.
///
/// # Errors
///
/// If the length is too short for a header or longer than `max`.
pub fn record_len(first_word: u64, max: usize) -> Result<usize, FrameError> {
    let len = u64::from(first_word as u32) + FIRST_WORD_LEN as u64;
    if len < HEADER_LEN as u64 {
        return Err(FrameError::Truncated { what: "header" });
    }
    if len > max as u64 {
        return Err(FrameError::TooLong { len, max: max as u64 });
    }
    Ok(len as usize)
}

/// The record at the front of `bytes`, if all of it is there.
///
/// # Errors
///
/// If its header cannot be that of an honest peer's frame.
pub fn first_record(bytes: &[u8], max: usize) -> Result<Option<&[u8]>, FrameError> {
    let Some(word) = bytes.first_chunk::<FIRST_WORD_LEN>() else {
        return Ok(None);
    };
    let len = record_len(u64::from_le_bytes(*word), max)?;
    Ok(bytes.get(..len))
}

/// A received frame, taken apart. Borrows the receiver's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it says.
    pub kind: Kind,
    /// Its flags.
    pub flags: u8,
    /// The call, the stream, or 0 for the connection.
    pub id: u64,
    extensions: &'a [u8],
    /// What follows the extensions.
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes a whole record apart; `None` if it is of a kind to skip.
    ///
    /// # Errors
    ///
    /// If the record's parts do not fit it, or something critical in it is unknown.
    pub fn parse(record: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let (header, rest) =
            record.split_first_chunk::<HEADER_LEN>().ok_or(FrameError::Truncated { what: "header" })?;
        let [_, _, _, _, kind, flags, ext0, ext1, id @ ..] = *header;
        let Some(known) = Kind::from_wire(kind) else {
            return if kind >= KIND_SKIPPABLE { Ok(None) } else { Err(FrameError::UnknownKind(kind)) };
        };
        let unknown = flags & flags::CRITICAL & !flags::KNOWN;
        if unknown != 0 {
            return Err(FrameError::UnknownFlags { kind, flags: unknown });
        }
        let ext = usize::from(u16::from_le_bytes([ext0, ext1]));
        if ext > EXTENSIONS_LEN_MAX {
            return Err(FrameError::ExtensionsTooLong(ext));
        }
        let (extensions, body) =
            rest.split_at_checked(ext).ok_or(FrameError::Truncated { what: "set of extensions" })?;
        Ok(Some(Frame { kind: known, flags, id: u64::from_le_bytes(id), extensions, body }))
    }

    /// How many bytes of the record come before its payload, if it is of a kind whose payload is a message's.
    pub(crate) fn head_len(&self) -> Option<usize> {
        let lead_len = match self.kind {
            Kind::Call => CALL_HEAD_LEN,
            Kind::Reply | Kind::Chunk => 0,
            // A failure's message is short, and its kind is what decides.
            _ => return None,
        };
        Some(HEADER_LEN + self.extensions.len() + lead_len)
    }

    /// Whether more of this message follows.
    pub fn more(&self) -> bool {
        self.flags & flags::MORE != 0
    }

    /// Whether it has no extensions, and nothing follows in other frames: most have not.
    pub fn is_plain(&self) -> bool {
        self.extensions.is_empty() && !self.more()
    }

    /// Whether it has any extensions.
    pub(crate) fn is_extended(&self) -> bool {
        !self.extensions.is_empty()
    }

    /// Whether it says anything of objects.
    pub(crate) fn has_objects(&self) -> bool {
        self.extensions().any(|extension| matches!(extension, Ok((tag::OBJECT | tag::HANDLES | tag::RESULT, _))))
    }

    /// Walks the extensions.
    pub fn extensions(&self) -> Extensions<'a> {
        Extensions { rest: self.extensions }
    }
}

/// An iterator over `tag[2] len[2] value[len]`.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<(u16, &'a [u8]), FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = (|| {
            let (&[t0, t1, l0, l1], rest) = self.rest.split_first_chunk::<4>()?;
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([l0, l1])))?;
            Some((u16::from_le_bytes([t0, t1]), value, rest))
        })();
        let Some((tag, value, rest)) = parsed else {
            self.rest = &[];
            return Some(Err(FrameError::Truncated { what: "extension" }));
        };
        self.rest = rest;
        Some(Ok((tag, value)))
    }
}

/// A time as a CALL says it, rounded up, so that 0 means that none is left.
pub(crate) fn timeout_units(time: Duration) -> u32 {
    const PER_SECOND: u64 = 1_000_000 / TIMEOUT_UNIT_MICROS;
    const NANOS: u32 = TIMEOUT_UNIT_MICROS as u32 * 1000;
    let units =
        time.as_secs().saturating_mul(PER_SECOND).saturating_add(u64::from(time.subsec_nanos().div_ceil(NANOS)));
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// Appends an extension of at most 65,535 bytes.
pub(crate) fn push_extension(tag: u16, value: &[u8], out: &mut Vec<u8>) {
    debug_assert!(value.len() <= usize::from(u16::MAX));
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
}

/// The fixed part of a CALL's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallHead {
    /// Hash of `Service.method`.
    pub method: u64,
    /// The caller's idea of the structure of arguments and reply; 0 = not known.
    pub fingerprint: u32,
    /// Time left, in units of 100 microseconds; 0 = expired.
    pub timeout: u32,
}

impl CallHead {
    /// Splits a CALL's body into its head and its payload.
    ///
    /// # Errors
    ///
    /// If the body is shorter than a head.
    pub fn parse(body: &[u8]) -> Result<(CallHead, &[u8]), FrameError> {
        let (head, payload) =
            body.split_first_chunk::<CALL_HEAD_LEN>().ok_or(FrameError::Truncated { what: "call" })?;
        let [m0, m1, m2, m3, m4, m5, m6, m7, f0, f1, f2, f3, t0, t1, t2, t3] = *head;
        let head = CallHead {
            method: u64::from_le_bytes([m0, m1, m2, m3, m4, m5, m6, m7]),
            fingerprint: u32::from_le_bytes([f0, f1, f2, f3]),
            timeout: u32::from_le_bytes([t0, t1, t2, t3]),
        };
        Ok((head, payload))
    }

    fn to_bytes(self) -> [u8; CALL_HEAD_LEN] {
        let mut out = [0; CALL_HEAD_LEN];
        out[..8].copy_from_slice(&self.method.to_le_bytes());
        out[8..12].copy_from_slice(&self.fingerprint.to_le_bytes());
        out[12..].copy_from_slice(&self.timeout.to_le_bytes());
        out
    }
}

/// A frame to be sent: everything but the payload, and how to put it into a sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) id: u64,
    pub(crate) lead: Lead,
    /// The extensions of frames that have some, but for that of the lead.
    pub(crate) extended: Option<Extended<'a>>,
}

/// Extensions of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extended<'a> {
    /// The payload bytes of the whole message, where it comes in chunks.
    pub(crate) total: Option<u64>,
    /// Others, which are encoded already.
    pub(crate) encoded: &'a [u8],
}

impl<'a> Extended<'a> {
    /// Those that are `encoded`, if there are any.
    pub(crate) fn by(encoded: &'a [u8]) -> Option<Extended<'a>> {
        (!encoded.is_empty()).then_some(Extended { total: None, encoded })
    }

    fn len(&self) -> usize {
        self.encoded.len() + if self.total.is_some() { TOTAL_EXTENSION_LEN } else { 0 }
    }

    /// Writes them to where `space` begins; how long they are.
    fn write(&self, space: &mut [u8]) -> usize {
        let mut at = 0;
        if let Some(total) = self.total {
            space[..2].copy_from_slice(&tag::TOTAL.to_le_bytes());
            space[2..4].copy_from_slice(&8u16.to_le_bytes());
            space[4..12].copy_from_slice(&total.to_le_bytes());
            at = TOTAL_EXTENSION_LEN;
        }
        space[at..at + self.encoded.len()].copy_from_slice(self.encoded);
        self.len()
    }
}

/// What a body begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lead {
    Nothing,
    Call(CallHead),
    /// A call with extensions of a fixed length; they stand here because only such a call has them.
    Extended(CallHead, CallTraits),
    /// Items behind some that were left out. An extension says how many.
    Missed(u64),
    Fail {
        class: u8,
        code: u8,
    },
}

/// What few calls are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallTraits {
    pub(crate) streams: StreamCounts,
    /// How many handlers it has come through.
    pub(crate) hops: u8,
    /// The object of the receiver's that it is made on; 0 = a service.
    pub(crate) object: u64,
    /// Its result will be called before it is there.
    pub(crate) result: bool,
}

impl CallTraits {
    pub(crate) const NONE: CallTraits = CallTraits { streams: StreamCounts::NONE, hops: 0, object: 0, result: false };

    const LEN_MAX: usize = STREAMS_EXTENSION_LEN + HOPS_EXTENSION_LEN + OBJECT_EXTENSION_LEN + RESULT_EXTENSION_LEN;

    #[cold]
    fn extensions_len(self) -> usize {
        let streams = if self.streams == StreamCounts::NONE { 0 } else { STREAMS_EXTENSION_LEN };
        let hops = if self.hops == 0 { 0 } else { HOPS_EXTENSION_LEN };
        let object = if self.object == 0 { 0 } else { OBJECT_EXTENSION_LEN };
        let result = if self.result { RESULT_EXTENSION_LEN } else { 0 };
        streams + hops + object + result
    }

    /// Writes them; how long they are.
    #[cold]
    fn write(self, space: &mut [u8]) -> usize {
        let mut at = 0;
        if self.streams != StreamCounts::NONE {
            let StreamCounts { given, returned } = self.streams;
            at += write_extension(tag::STREAMS, &[given, returned], &mut space[at..]);
        }
        if self.hops != 0 {
            at += write_extension(tag::HOPS, &[self.hops], &mut space[at..]);
        }
        if self.object != 0 {
            at += write_extension(tag::OBJECT, &self.object.to_le_bytes(), &mut space[at..]);
        }
        if self.result {
            at += write_extension(tag::RESULT, &[], &mut space[at..]);
        }
        at
    }
}

fn write_extension(tag: u16, value: &[u8], space: &mut [u8]) -> usize {
    space[..2].copy_from_slice(&tag.to_le_bytes());
    space[2..4].copy_from_slice(&(value.len() as u16).to_le_bytes());
    space[4..4 + value.len()].copy_from_slice(value);
    4 + value.len()
}

/// Bytes in front of an extension's value.
pub(crate) const EXTENSION_HEAD_LEN: usize = 4;
const TOTAL_EXTENSION_LEN: usize = 4 + 8;

/// The most bytes that the first frame of a message may have, with so many bytes of other extensions, so many objects that it
/// hands over, and so many bytes of payload.
pub(crate) fn first_frame_len(beside: usize, handles: usize, payload: usize) -> usize {
    const OTHERS: usize = HEADER_LEN + TOTAL_EXTENSION_LEN + CallTraits::LEN_MAX + CALL_HEAD_LEN;
    OTHERS + beside + EXTENSION_HEAD_LEN + 8 * handles + payload
}
const STREAMS_EXTENSION_LEN: usize = 4 + 2;
const HOPS_EXTENSION_LEN: usize = 4 + 1;
const OBJECT_EXTENSION_LEN: usize = 4 + 8;
const RESULT_EXTENSION_LEN: usize = 4;
const MISSED_EXTENSION_LEN: usize = 4 + 8;

/// Writes a CALL without extensions, as most are; `false` if the sender has no room now.
#[must_use]
pub(crate) fn place_call<S: FrameSender>(flags: u8, id: u64, head: CallHead, payload: Parts<'_>, out: &mut S) -> bool {
    place_plain(Kind::Call, flags, id, head.to_bytes(), payload, out)
}

/// The same of any frame that begins with `lead`.
#[inline]
fn place_plain<S: FrameSender, const LEAD: usize>(
    kind: Kind,
    flags: u8,
    id: u64,
    lead: [u8; LEAD],
    payload: Parts<'_>,
    out: &mut S,
) -> bool {
    let len = HEADER_LEN + LEAD + payload.len();
    let Some(space) = out.reserve(len) else {
        return false;
    };
    let (at_id, space) = space.split_at_mut(HEADER_LEN - FIRST_WORD_LEN);
    at_id.copy_from_slice(&id.to_le_bytes());
    let (at_lead, space) = space.split_at_mut(LEAD);
    at_lead.copy_from_slice(&lead);
    payload.copy_to(space);
    out.commit((len - FIRST_WORD_LEN) as u64 | (kind as u64) << 32 | u64::from(flags) << 40);
    true
}

impl Head<'_> {
    pub(crate) fn new(kind: Kind, id: u64) -> Self {
        Head { kind, flags: 0, id, lead: Lead::Nothing, extended: None }
    }

    /// Writes a whole frame; `false` if the sender has no room now.
    #[must_use]
    pub(crate) fn place<S: FrameSender>(&self, payload: &[u8], out: &mut S) -> bool {
        self.place_parts(payload.into(), out)
    }

    /// The same, of a payload in two pieces.
    #[must_use]
    pub(crate) fn place_parts<S: FrameSender>(&self, payload: Parts<'_>, out: &mut S) -> bool {
        match (self.lead, &self.extended) {
            (Lead::Call(head), None) => place_plain(self.kind, self.flags, self.id, head.to_bytes(), payload, out),
            (Lead::Nothing, None) => place_plain(self.kind, self.flags, self.id, [], payload, out),
            _ => self.place_any(payload, out),
        }
    }

    fn place_any<S: FrameSender>(&self, payload: Parts<'_>, out: &mut S) -> bool {
        let (ext, lead_len) = (self.extensions_len(), self.lead_len());
        let len = HEADER_LEN + ext + lead_len + payload.len();
        let Some(space) = out.reserve(len) else {
            return false;
        };
        let at = self.write(space);
        payload.copy_to(&mut space[at..]);
        out.commit(self.first_word(len));
        true
    }

    /// The same, of a payload that stays where it is. Only for a sender that [gathers](FrameSender::gathers).
    #[must_use]
    pub(crate) fn place_apart<S: FrameSender>(&self, payload: Apart, out: &mut S) -> bool {
        const PLAIN_LEN_MAX: usize = HEADER_LEN + TOTAL_EXTENSION_LEN + CallTraits::LEN_MAX + CALL_HEAD_LEN;
        match self.extended.map_or(0, |extended| extended.encoded.len()) {
            0 => self.place_apart_by(&mut [0; PLAIN_LEN_MAX], payload, out),
            more => self.place_apart_by(&mut vec![0; PLAIN_LEN_MAX + more], payload, out),
        }
    }

    /// The same, with what comes before the payload put together in `head`.
    fn place_apart_by<S: FrameSender>(&self, head: &mut [u8], payload: Apart, out: &mut S) -> bool {
        let (first, rest) = head.split_at_mut(FIRST_WORD_LEN);
        let len = FIRST_WORD_LEN + self.write(rest);
        first.copy_from_slice(&self.first_word(len + payload.len()).to_le_bytes());
        out.place_apart(&head[..len], payload)
    }

    fn extensions_len(&self) -> usize {
        let lead = match self.lead {
            Lead::Extended(_, traits) => traits.extensions_len(),
            Lead::Missed(_) => MISSED_EXTENSION_LEN,
            Lead::Nothing | Lead::Call(_) | Lead::Fail { .. } => 0,
        };
        lead + self.extended.map_or(0, |extended| extended.len())
    }

    fn lead_len(&self) -> usize {
        match self.lead {
            Lead::Nothing | Lead::Missed(_) => 0,
            Lead::Call(_) | Lead::Extended(..) => CALL_HEAD_LEN,
            Lead::Fail { .. } => FAIL_HEAD_LEN,
        }
    }

    fn first_word(&self, len: usize) -> u64 {
        let ext = self.extensions_len() as u64;
        (len - FIRST_WORD_LEN) as u64 | (self.kind as u64) << 32 | u64::from(self.flags) << 40 | ext << 48
    }

    /// Writes what is between the first word and the payload; how long that is.
    #[inline]
    fn write(&self, space: &mut [u8]) -> usize {
        const AFTER_ID: usize = HEADER_LEN - FIRST_WORD_LEN;
        space[..AFTER_ID].copy_from_slice(&self.id.to_le_bytes());
        let mut at = AFTER_ID;
        if let Some(extended) = &self.extended {
            at += extended.write(&mut space[at..]);
        }
        match self.lead {
            Lead::Nothing => {}
            Lead::Call(head) => space[at..at + CALL_HEAD_LEN].copy_from_slice(&head.to_bytes()),
            Lead::Extended(head, traits) => {
                at += traits.write(&mut space[at..]);
                space[at..at + CALL_HEAD_LEN].copy_from_slice(&head.to_bytes());
            }
            Lead::Missed(missed) => {
                space[at..at + 2].copy_from_slice(&tag::MISSED.to_le_bytes());
                space[at + 2..at + 4].copy_from_slice(&8u16.to_le_bytes());
                space[at + 4..at + MISSED_EXTENSION_LEN].copy_from_slice(&missed.to_le_bytes());
                at += MISSED_EXTENSION_LEN;
            }
            Lead::Fail { class, code } => space[at..at + FAIL_HEAD_LEN].copy_from_slice(&[class, code]),
        }
        at + self.lead_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PING 7, then a CALL with an extension.
    fn stream() -> Vec<u8> {
        let mut out = crate::transport::BatchBuffer::default();
        assert!(Head::new(Kind::Ping, 0).place(&7u64.to_le_bytes(), &mut out));
        let mut head = Head::new(Kind::Call, 3);
        head.flags = flags::MORE;
        head.extended = Some(Extended { total: Some(5000), encoded: &[] });
        head.lead = Lead::Call(CallHead { method: 1, fingerprint: 2, timeout: 3 });
        assert!(head.place(b"payload", &mut out));
        let mut batch = crate::transport::Bytes::default();
        assert!(out.take_batch(&mut batch));
        batch.as_slice().to_vec()
    }

    #[test]
    fn what_is_placed_is_parsed() {
        let bytes = stream();
        let ping = first_record(&bytes, 4096).unwrap().unwrap();
        let frame = Frame::parse(ping).unwrap().unwrap();
        assert_eq!(
            (frame.kind, frame.id, frame.more(), frame.body),
            (Kind::Ping, 0, false, &[7, 0, 0, 0, 0, 0, 0, 0][..])
        );
        let call = first_record(&bytes[ping.len()..], 4096).unwrap().unwrap();
        assert_eq!(ping.len() + call.len(), bytes.len());
        let frame = Frame::parse(call).unwrap().unwrap();
        assert_eq!((frame.kind, frame.id, frame.more()), (Kind::Call, 3, true));
        let extensions: Vec<_> = frame.extensions().collect();
        assert_eq!(extensions, [Ok((tag::TOTAL, &5000u64.to_le_bytes()[..]))]);
        let (head, payload) = CallHead::parse(frame.body).unwrap();
        assert_eq!(head, CallHead { method: 1, fingerprint: 2, timeout: 3 });
        assert_eq!(payload, b"payload");
    }

    #[test]
    fn a_record_that_is_not_all_there_is_waited_for() {
        let bytes = stream();
        let len = first_record(&bytes, 4096).unwrap().unwrap().len();
        for cut in 0..len {
            assert_eq!(first_record(&bytes[..cut], 4096), Ok(None));
        }
    }

    #[test]
    fn impossible_lengths_are_refused_before_anything_is_read() {
        for len in 0..8 {
            assert_eq!(record_len(len, 4096), Err(FrameError::Truncated { what: "header" }));
        }
        assert_eq!(record_len(8, 4096), Ok(16));
        assert_eq!(record_len(4088, 4096), Ok(4096));
        assert_eq!(record_len(4089, 4096), Err(FrameError::TooLong { len: 4097, max: 4096 }));
        let most = u64::from(u32::MAX);
        assert_eq!(record_len(most, 4096), Err(FrameError::TooLong { len: most + 8, max: 4096 }));
        // The rest of the first word is none of the length.
        assert_eq!(record_len(8 | 0xffff_ffff_0000_0000, 4096), Ok(16));
    }

    #[test]
    fn extensions_end_where_the_header_says() {
        let mut bytes = stream().split_off(24);
        for ext in 0..40u16 {
            bytes[6..8].copy_from_slice(&ext.to_le_bytes());
            let parsed = Frame::parse(&bytes);
            if usize::from(ext) > bytes.len() - HEADER_LEN {
                assert_eq!(parsed, Err(FrameError::Truncated { what: "set of extensions" }));
                continue;
            }
            let extensions: Result<Vec<_>, _> = parsed.unwrap().unwrap().extensions().collect();
            match ext {
                0 => assert!(extensions.unwrap().is_empty()),
                12 => assert_eq!(extensions.unwrap().len(), 1),
                1..12 => assert!(extensions.is_err(), "{ext}"),
                _ => {}
            }
        }
    }

    #[test]
    fn a_pad_is_no_frame() {
        for len in [64, 128, 32 << 10] {
            assert_eq!(pad_len(pad(len)), Some(len));
            assert_eq!(record_len(pad(len), 64 << 10), Ok(len));
        }
        let mut bytes = stream();
        assert_eq!(pad_len(u64::from_le_bytes(*bytes.first_chunk().unwrap())), None);
        bytes[4] = KIND_PAD;
        assert_eq!(Frame::parse(&bytes), Err(FrameError::UnknownKind(KIND_PAD)));
    }

    #[test]
    fn a_time_is_rounded_up() {
        let nanos = |nanos| timeout_units(Duration::from_nanos(nanos));
        assert_eq!((nanos(0), nanos(1), nanos(100_000), nanos(100_001)), (0, 1, 1, 2));
        assert_eq!((nanos(999_900_001), nanos(1_000_000_000), nanos(2_000_000_001)), (10_000, 10_000, 20_001));
        assert_eq!(timeout_units(Duration::from_millis(u64::from(u32::MAX) / 10)), u32::MAX - 5);
        assert_eq!(timeout_units(Duration::MAX), u32::MAX);
    }

    #[test]
    fn every_kind_has_one_number() {
        let known: Vec<u8> = (0..=255).filter(|number| Kind::from_wire(*number).is_some()).collect();
        assert_eq!(known, (1..=16).collect::<Vec<u8>>());
        assert!(known.iter().all(|number| Kind::from_wire(*number).is_some_and(|kind| kind as u8 == *number)));
    }

    #[test]
    fn a_sender_without_room_is_left_as_it_was() {
        let mut out = crate::transport::BatchBuffer::default();
        assert!(Head::new(Kind::Reply, 1).place(&[0; 200_000], &mut out));
        let position = out.position();
        assert!(!Head::new(Kind::Reply, 3).place(&[0; 200_000], &mut out));
        assert_eq!(out.position(), position);
        assert!(Head::new(Kind::Reply, 5).place(&[0; 20], &mut out));
        let mut batch = crate::transport::Bytes::default();
        assert!(out.take_batch(&mut batch));
        assert_eq!(batch.as_slice().len() as u64, out.position());
    }
}
