//! Extensions: what few frames have between header and body.

use super::FrameError;

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

/// Bytes in front of an extension's value.
pub(crate) const EXTENSION_HEAD_LEN: usize = 4;
pub(super) const TOTAL_EXTENSION_LEN: usize = EXTENSION_HEAD_LEN + 8;
pub(super) const MISSED_EXTENSION_LEN: usize = EXTENSION_HEAD_LEN + 8;
const STREAMS_EXTENSION_LEN: usize = EXTENSION_HEAD_LEN + 2;
const HOPS_EXTENSION_LEN: usize = EXTENSION_HEAD_LEN + 1;
const OBJECT_EXTENSION_LEN: usize = EXTENSION_HEAD_LEN + 8;
const RESULT_EXTENSION_LEN: usize = EXTENSION_HEAD_LEN;

/// An iterator over `tag[2] len[2] value[len]`.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<(u16, &'a [u8]), FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = (|| {
            let (&[t0, t1, l0, l1], rest) = self.rest.split_first_chunk::<EXTENSION_HEAD_LEN>()?;
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

/// Appends an extension of at most 65,535 bytes.
pub(crate) fn push_extension(tag: u16, value: &[u8], out: &mut Vec<u8>) {
    debug_assert!(value.len() <= usize::from(u16::MAX));
    let at = out.len();
    out.resize(at + EXTENSION_HEAD_LEN + value.len(), 0);
    write_extension(tag, value, &mut out[at..]);
}

/// Writes an extension to where `space` begins; how long it is.
pub(super) fn write_extension(tag: u16, value: &[u8], space: &mut [u8]) -> usize {
    let end = EXTENSION_HEAD_LEN + value.len();
    space[..2].copy_from_slice(&tag.to_le_bytes());
    space[2..EXTENSION_HEAD_LEN].copy_from_slice(&(value.len() as u16).to_le_bytes());
    space[EXTENSION_HEAD_LEN..end].copy_from_slice(value);
    end
}

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

    pub(super) const LEN_MAX: usize =
        STREAMS_EXTENSION_LEN + HOPS_EXTENSION_LEN + OBJECT_EXTENSION_LEN + RESULT_EXTENSION_LEN;

    #[cold]
    pub(super) fn extensions_len(self) -> usize {
        let streams = if self.streams == StreamCounts::NONE { 0 } else { STREAMS_EXTENSION_LEN };
        let hops = if self.hops == 0 { 0 } else { HOPS_EXTENSION_LEN };
        let object = if self.object == 0 { 0 } else { OBJECT_EXTENSION_LEN };
        let result = if self.result { RESULT_EXTENSION_LEN } else { 0 };
        streams + hops + object + result
    }

    /// Writes them; how long they are.
    #[cold]
    pub(super) fn write(self, space: &mut [u8]) -> usize {
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
