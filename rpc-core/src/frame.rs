//! The frame: a 16-byte header, extensions, a body. What stands in the body of HELLO, GOAWAY and a few others is known
//! where they are made and read.
//!
//! ```text
//! frame := len[4] kind[1] flags[1] ext[2]  id[8]   extensions[ext]  body[len - 8 - ext]
//! ```
//!
//! Little-endian. `len` counts everything after the first 8 bytes. The first 8 bytes, the *first word*, are never all
//! zero, because no kind is 0: in a ring of shared memory the same word says that the record has been published.
//!
//! The whole format, with byte-exact examples, stands in `docs/protocol.md`.

mod extension;
mod head;
mod record;

pub(crate) use extension::{CallTraits, EXTENSION_HEAD_LEN, HANDLES_MAX, RESULT, StreamCounts, push_extension};
pub use extension::{Extensions, tag};
pub use head::CallHead;
pub(crate) use head::{Extended, Head, Lead, first_frame_len, place_call, place_reply, timeout_units};
pub use record::{ASIDE_LEN, aside, aside_block, first_record, lies_aside, pad, pad_len, record_len};

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

#[cfg(test)]
mod tests;
