//! HELLO: who speaks, in which version, with which limits.
//!
//! ```text
//! body := "TRNK" major[1] minor[1] (tag[2] len[2] value[len])*
//! ```

use super::window::WINDOW_MAX;
use crate::codec::CodecId;
use crate::error::HandshakeError;
use crate::frame::{HEADER_LEN, Head, Kind, tag};
use crate::limits::Limits;
use crate::transport::FrameSender;

/// The major version; both sides must have the same.
pub const MAJOR: u8 = 1;
/// The minor version; it may differ.
pub const MINOR: u8 = 0;
/// The most bytes a HELLO may have, header included.
pub(crate) const HELLO_LEN_MAX: usize = 4096;

const MAGIC: [u8; 4] = *b"TRNK";

mod field {
    pub(super) const FEATURES_OFFERED: u16 = 1;
    pub(super) const FEATURES_REQUIRED: u16 = 2;
    pub(super) const MESSAGE_LEN: u16 = 3;
    pub(super) const FRAME_LEN: u16 = 4;
    pub(super) const IN_FLIGHT: u16 = 5;
    pub(super) const REQUEST_WINDOW: u16 = 6;
    pub(super) const REPLY_WINDOW: u16 = 7;
    pub(super) const CODECS: u16 = 8;
    pub(super) const INSTANCE: u16 = 9;
    pub(super) const STREAM_WINDOW: u16 = 10;
    pub(super) const ITEM_WINDOW: u16 = 11;
    pub(super) const OBJECTS: u16 = 12;
}

/// The result of a call may be called before it is there: RESULT on a CALL.
pub(crate) const FEATURE_RESULTS: u64 = 1;
/// The features of this version.
const FEATURES: u64 = FEATURE_RESULTS;

/// What one side says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) features_offered: u64,
    pub(crate) features_required: u64,
    /// The longest message payload it accepts.
    pub(crate) message_len: u64,
    /// The longest frame it accepts, header included.
    pub(crate) frame_len: u64,
    /// Calls it takes at a time.
    pub(crate) in_flight: u32,
    pub(crate) request_window: u64,
    pub(crate) reply_window: u64,
    /// In order of preference; the server names the one it picked.
    pub(crate) codecs: Vec<u8>,
    pub(crate) instance: u128,
    /// The window of each stream to this side; 0 = it knows no streams.
    pub(crate) stream_window: u64,
    /// The window of all of them together.
    pub(crate) item_window: u64,
    /// Objects of the peer's that it takes; 0 = it knows none.
    pub(crate) objects: u32,
}

impl Hello {
    pub(crate) fn new(limits: &Limits, frame_len: usize, codecs: &[CodecId], instance: u128) -> Hello {
        Hello {
            features_offered: FEATURES,
            features_required: 0,
            message_len: limits.message_len as u64,
            frame_len: frame_len as u64,
            in_flight: u32::try_from(limits.in_flight_per_connection).unwrap_or(u32::MAX),
            request_window: limits.window(),
            reply_window: limits.window(),
            codecs: codecs.iter().map(|codec| codec.to_wire()).collect(),
            instance,
            stream_window: limits.stream_window as u64,
            item_window: limits.item_window(),
            objects: u32::try_from(limits.objects).unwrap_or(u32::MAX),
        }
    }

    #[must_use]
    pub(crate) fn place<S: FrameSender>(&self, out: &mut S) -> bool {
        let mut body = Vec::with_capacity(160);
        body.extend_from_slice(&MAGIC);
        body.extend_from_slice(&[MAJOR, MINOR]);
        let mut put = |tag: u16, value: &[u8]| {
            body.extend_from_slice(&tag.to_le_bytes());
            body.extend_from_slice(&(value.len() as u16).to_le_bytes());
            body.extend_from_slice(value);
        };
        put(field::FEATURES_OFFERED, &self.features_offered.to_le_bytes());
        put(field::FEATURES_REQUIRED, &self.features_required.to_le_bytes());
        put(field::MESSAGE_LEN, &self.message_len.to_le_bytes());
        put(field::FRAME_LEN, &self.frame_len.to_le_bytes());
        put(field::IN_FLIGHT, &self.in_flight.to_le_bytes());
        put(field::REQUEST_WINDOW, &self.request_window.to_le_bytes());
        put(field::REPLY_WINDOW, &self.reply_window.to_le_bytes());
        put(field::CODECS, &self.codecs);
        put(field::INSTANCE, &self.instance.to_le_bytes());
        put(field::STREAM_WINDOW, &self.stream_window.to_le_bytes());
        put(field::ITEM_WINDOW, &self.item_window.to_le_bytes());
        put(field::OBJECTS, &self.objects.to_le_bytes());
        Head::new(Kind::Hello, 0).place(&body, out)
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Hello, HandshakeError> {
        if body.len() + HEADER_LEN > HELLO_LEN_MAX {
            return Err(HandshakeError::Malformed);
        }
        let rest = body.strip_prefix(&MAGIC).ok_or(HandshakeError::NotTrunkline)?;
        let (&[major, _minor], mut rest) = rest.split_first_chunk().ok_or(HandshakeError::Malformed)?;
        if major != MAJOR {
            return Err(HandshakeError::Version { ours: MAJOR, theirs: major });
        }
        let mut hello = Hello {
            features_offered: 0,
            features_required: 0,
            message_len: 0,
            frame_len: 0,
            in_flight: 0,
            request_window: 0,
            reply_window: 0,
            codecs: Vec::new(),
            instance: 0,
            stream_window: 0,
            item_window: 0,
            objects: 0,
        };
        while !rest.is_empty() {
            let (&[t0, t1, l0, l1], after) = rest.split_first_chunk().ok_or(HandshakeError::Malformed)?;
            let len = usize::from(u16::from_le_bytes([l0, l1]));
            let (value, after) = after.split_at_checked(len).ok_or(HandshakeError::Malformed)?;
            hello.field(u16::from_le_bytes([t0, t1]), value)?;
            rest = after;
        }
        hello.check()
    }

    fn field(&mut self, tag: u16, value: &[u8]) -> Result<(), HandshakeError> {
        match tag {
            field::FEATURES_OFFERED => self.features_offered = u64::from_le_bytes(sized(value)?),
            field::FEATURES_REQUIRED => self.features_required = u64::from_le_bytes(sized(value)?),
            field::MESSAGE_LEN => self.message_len = u64::from_le_bytes(sized(value)?),
            field::FRAME_LEN => self.frame_len = u64::from_le_bytes(sized(value)?),
            field::IN_FLIGHT => self.in_flight = u32::from_le_bytes(sized(value)?),
            field::REQUEST_WINDOW => self.request_window = u64::from_le_bytes(sized(value)?),
            field::REPLY_WINDOW => self.reply_window = u64::from_le_bytes(sized(value)?),
            field::CODECS => self.codecs = value.to_vec(),
            field::INSTANCE => self.instance = u128::from_le_bytes(sized(value)?),
            field::STREAM_WINDOW => self.stream_window = u64::from_le_bytes(sized(value)?),
            field::ITEM_WINDOW => self.item_window = u64::from_le_bytes(sized(value)?),
            field::OBJECTS => self.objects = u32::from_le_bytes(sized(value)?),
            tag if tag & tag::CRITICAL != 0 => return Err(HandshakeError::Malformed),
            _ => {}
        }
        Ok(())
    }

    fn check(self) -> Result<Hello, HandshakeError> {
        let lacking = self.features_required & !FEATURES;
        if lacking != 0 {
            return Err(HandshakeError::Feature(lacking));
        }
        if self.frame_len < HELLO_LEN_MAX as u64 {
            return Err(HandshakeError::Limit("frame length"));
        }
        if self.in_flight == 0 {
            return Err(HandshakeError::Limit("number of calls in flight"));
        }
        if self.message_len == 0 || self.request_window < self.message_len || self.reply_window < self.message_len {
            return Err(HandshakeError::Limit("window"));
        }
        if self.item_window < self.stream_window {
            return Err(HandshakeError::Limit("window"));
        }
        if self.request_window.max(self.reply_window).max(self.item_window) > WINDOW_MAX {
            return Err(HandshakeError::Limit("window"));
        }
        Ok(self)
    }

    /// The codec for a connection: the first of the client's that this side has.
    pub(crate) fn pick_codec(&self, ours: &[CodecId]) -> Result<CodecId, HandshakeError> {
        let mut theirs = self.codecs.iter().filter_map(|code| CodecId::from_wire(*code));
        theirs.find(|codec| ours.contains(codec)).ok_or_else(|| HandshakeError::NoCommonCodec { ours: names(ours) })
    }
}

fn names(codecs: &[CodecId]) -> String {
    codecs.iter().map(|codec| codec.name()).collect::<Vec<_>>().join(", ")
}

fn sized<const N: usize>(value: &[u8]) -> Result<[u8; N], HandshakeError> {
    value.try_into().map_err(|_| HandshakeError::Malformed)
}
