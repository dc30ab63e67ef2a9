//! FAIL: the class, a code, and the numbers of the reason.

use std::time::Duration;

use crate::codec::DecodeError;
use crate::error::{NoResult, Reason};
use crate::frame::{FAIL_HEAD_LEN, FrameError, Lead};
use crate::limits::Limit;
use crate::metadata::MetadataError;

/// What a FAIL says of the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It never started.
    NotExecuted,
    /// It may have run.
    MaybeExecuted,
    /// It ran and returned the error that the detail holds, in the codec.
    App,
}

impl Class {
    pub(crate) fn to_wire(self) -> u8 {
        match self {
            Class::NotExecuted => 0,
            Class::MaybeExecuted => 1,
            Class::App => 2,
        }
    }

    /// A class from a later version says nothing certain, so the call may have run.
    fn from_wire(class: u8) -> Class {
        match class {
            0 => Class::NotExecuted,
            2 => Class::App,
            _ => Class::MaybeExecuted,
        }
    }
}

/// A failed call, as the framework decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Never [`Class::App`].
    pub(crate) class: Class,
    pub(crate) reason: Reason,
}

impl Failure {
    pub(crate) fn not_executed(reason: Reason) -> Failure {
        Failure { class: Class::NotExecuted, reason }
    }

    pub(crate) fn maybe_executed(reason: Reason) -> Failure {
        Failure { class: Class::MaybeExecuted, reason }
    }

    /// How a stream ended whose END has this body: nothing, or what a FAIL has.
    pub(crate) fn of_stream(body: &[u8]) -> Result<Result<(), Failure>, FrameError> {
        if body.is_empty() {
            return Ok(Ok(()));
        }
        let (class, code, detail) = parse_head(body)?;
        let class = if class == Class::NotExecuted { class } else { Class::MaybeExecuted };
        Ok(Err(Failure { class, reason: parse_reason(code, detail) }))
    }

    /// What the body of its frame begins with, and the rest.
    pub(crate) fn on_the_wire(&self) -> (Lead, WireReason) {
        let reason = WireReason::from_reason(&self.reason);
        (Lead::Fail { class: self.class.to_wire(), code: reason.code }, reason)
    }
}

mod code {
    pub(super) const OVERLOADED: u8 = 1;
    pub(super) const DEADLINE_EXCEEDED: u8 = 2;
    pub(super) const UNKNOWN_METHOD: u8 = 3;
    pub(super) const SCHEMA_MISMATCH: u8 = 4;
    pub(super) const INVALID_ARGUMENTS: u8 = 5;
    pub(super) const TOO_LARGE: u8 = 6;
    pub(super) const PERMISSION_DENIED: u8 = 7;
    pub(super) const PANICKED: u8 = 8;
    pub(super) const SHUTTING_DOWN: u8 = 9;
    pub(super) const CANCELLED: u8 = 10;
    pub(super) const UNENCODABLE_REPLY: u8 = 11;
    pub(super) const UNKNOWN_EXTENSION: u8 = 12;
    pub(super) const OBJECT_GONE: u8 = 13;
    pub(super) const NO_RESULT: u8 = 14;
    pub(super) const MALFORMED_EXTENSION: u8 = 20;
    pub(super) const METADATA_TOO_LONG: u8 = 21;
    pub(super) const STREAM_IDLE: u8 = 30;
}

/// Two numbers of 8 bytes, and in front of them what says of which call they are.
const DETAIL_MAX: usize = 18;

/// A reason as it travels: its code, and up to 18 bytes of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WireReason {
    pub(crate) code: u8,
    detail: [u8; DETAIL_MAX],
    len: u8,
}

impl WireReason {
    fn new(code: u8, detail: &[u8]) -> WireReason {
        let mut reason = WireReason { code, detail: [0; DETAIL_MAX], len: detail.len() as u8 };
        reason.detail[..detail.len()].copy_from_slice(detail);
        reason
    }

    pub(crate) fn detail(&self) -> &[u8] {
        &self.detail[..usize::from(self.len)]
    }

    pub(crate) fn from_reason(reason: &Reason) -> WireReason {
        match reason {
            Reason::Overloaded { limit } => WireReason::new(code::OVERLOADED, &[limit.to_wire()]),
            Reason::DeadlineExceeded => WireReason::new(code::DEADLINE_EXCEEDED, &[]),
            Reason::UnknownMethod { .. } => WireReason::new(code::UNKNOWN_METHOD, &[]),
            Reason::SchemaMismatch { ours, theirs } => {
                // Each side reads its own first.
                WireReason::new(code::SCHEMA_MISMATCH, &pair(&theirs.to_le_bytes(), &ours.to_le_bytes()))
            }
            Reason::InvalidArguments { argument, why } => {
                let [a0, a1] = argument.to_le_bytes();
                WireReason::new(code::INVALID_ARGUMENTS, &[a0, a1, why.to_wire()])
            }
            Reason::TooLarge { len, max } => {
                let mut detail = [0; 16];
                detail[..8].copy_from_slice(&len.to_le_bytes());
                detail[8..].copy_from_slice(&max.to_le_bytes());
                WireReason::new(code::TOO_LARGE, &detail)
            }
            Reason::PermissionDenied => WireReason::new(code::PERMISSION_DENIED, &[]),
            Reason::Panicked => WireReason::new(code::PANICKED, &[]),
            Reason::ShuttingDown { retry_after } => {
                let millis = retry_after.map_or(0, |after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX));
                WireReason::new(code::SHUTTING_DOWN, &millis.to_le_bytes())
            }
            Reason::Cancelled => WireReason::new(code::CANCELLED, &[]),
            Reason::UnencodableReply => WireReason::new(code::UNENCODABLE_REPLY, &[]),
            Reason::UnknownExtension(tag) => WireReason::new(code::UNKNOWN_EXTENSION, &tag.to_le_bytes()),
            Reason::MalformedExtension(tag) => WireReason::new(code::MALFORMED_EXTENSION, &tag.to_le_bytes()),
            Reason::Metadata(MetadataError::TooLong { len, max }) => {
                let [len, max] = [len, max].map(|n| u32::try_from(*n).unwrap_or(u32::MAX).to_le_bytes());
                WireReason::new(code::METADATA_TOO_LONG, &pair(&len, &max))
            }
            Reason::ObjectGone => WireReason::new(code::OBJECT_GONE, &[]),
            Reason::NoResult(why) => WireReason::of_no_result(why),
            Reason::StreamIdle { after } => {
                let millis = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
                WireReason::new(code::STREAM_IDLE, &millis.to_le_bytes())
            }
            // The rest is never said to a peer.
            Reason::Unencodable(_)
            | Reason::InvalidReply(_)
            | Reason::ConnectionLost(_)
            | Reason::WouldBlockRuntime
            | Reason::Metadata(_)
            | Reason::Unknown(_) => WireReason::new(0, &[]),
        }
    }

    fn of_no_result(why: &NoResult) -> WireReason {
        let number = match why {
            NoResult::App => 0,
            NoResult::NoClient => 1,
            NoResult::Own => 2,
            NoResult::Failed(_) => 3,
        };
        let mut wire = WireReason::new(code::NO_RESULT, &[number]);
        // One that is about another call stands alone, whoever made it.
        if let NoResult::Failed(reason) = why {
            let inner = WireReason::from_reason(reason);
            if inner.code != code::NO_RESULT {
                wire.detail[1] = inner.code;
                wire.detail[2..2 + usize::from(inner.len)].copy_from_slice(inner.detail());
                wire.len = 2 + inner.len;
            }
        }
        wire
    }

    fn parse_no_result(detail: &[u8]) -> Option<NoResult> {
        Some(match detail {
            [0, ..] => NoResult::App,
            [1, ..] => NoResult::NoClient,
            [2, ..] => NoResult::Own,
            [3, code, detail @ ..] if *code != code::NO_RESULT => {
                NoResult::Failed(Box::new(parse_reason(*code, detail)))
            }
            _ => return None,
        })
    }

    fn parse(code: u8, detail: &[u8]) -> Option<Reason> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(detail.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(detail.get(at..at + 8)?.try_into().ok()?));
        Some(match code {
            code::OVERLOADED => Reason::Overloaded { limit: Limit::from_wire(*detail.first()?) },
            code::DEADLINE_EXCEEDED => Reason::DeadlineExceeded,
            // The caller knows what it called.
            code::UNKNOWN_METHOD => Reason::UnknownMethod { service: String::new(), method: String::new() },
            code::SCHEMA_MISMATCH => Reason::SchemaMismatch { ours: u32_at(0)?, theirs: u32_at(4)? },
            code::INVALID_ARGUMENTS => {
                let &[a0, a1, why] = detail.first_chunk::<3>()?;
                Reason::InvalidArguments { argument: u16::from_le_bytes([a0, a1]), why: DecodeError::from_wire(why) }
            }
            code::TOO_LARGE => Reason::TooLarge { len: u64_at(0)?, max: u64_at(8)? },
            code::PERMISSION_DENIED => Reason::PermissionDenied,
            code::PANICKED => Reason::Panicked,
            code::SHUTTING_DOWN => {
                let millis = u32_at(0)?;
                let retry_after = (millis > 0).then(|| Duration::from_millis(u64::from(millis)));
                Reason::ShuttingDown { retry_after }
            }
            code::CANCELLED => Reason::Cancelled,
            code::OBJECT_GONE => Reason::ObjectGone,
            code::NO_RESULT => Reason::NoResult(WireReason::parse_no_result(detail)?),
            code::UNENCODABLE_REPLY => Reason::UnencodableReply,
            code::UNKNOWN_EXTENSION => Reason::UnknownExtension(u16::from_le_bytes(*detail.first_chunk::<2>()?)),
            code::MALFORMED_EXTENSION => Reason::MalformedExtension(u16::from_le_bytes(*detail.first_chunk::<2>()?)),
            code::METADATA_TOO_LONG => {
                Reason::Metadata(MetadataError::TooLong { len: u32_at(0)? as usize, max: u32_at(4)? as usize })
            }
            code::STREAM_IDLE => Reason::StreamIdle { after: Duration::from_millis(u32_at(0)?.into()) },
            _ => return None,
        })
    }
}

fn pair(first: &[u8; 4], second: &[u8; 4]) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(first);
    out[4..].copy_from_slice(second);
    out
}

/// Splits a FAIL's body into class, code and detail.
pub(crate) fn parse_head(body: &[u8]) -> Result<(Class, u8, &[u8]), FrameError> {
    let (&[class, code], detail) =
        body.split_first_chunk::<FAIL_HEAD_LEN>().ok_or(FrameError::Truncated { what: "failure" })?;
    Ok((Class::from_wire(class), code, detail))
}

/// The reason of a FAIL that is not the method's own error; a code or detail nobody here knows is no error.
pub(crate) fn parse_reason(code: u8, detail: &[u8]) -> Reason {
    WireReason::parse(code, detail).unwrap_or(Reason::Unknown(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_survive_the_wire_and_schemas_change_sides() {
        let reasons = [
            Reason::Overloaded { limit: Limit::InFlightPerServer },
            Reason::DeadlineExceeded,
            Reason::InvalidArguments { argument: 3, why: DecodeError::Malformed },
            Reason::TooLarge { len: 1 << 40, max: 7 },
            Reason::PermissionDenied,
            Reason::Panicked,
            Reason::ShuttingDown { retry_after: Some(Duration::from_millis(1500)) },
            Reason::ShuttingDown { retry_after: None },
            Reason::Cancelled,
            Reason::UnencodableReply,
            Reason::UnknownExtension(0x8007),
            Reason::MalformedExtension(0x10),
            Reason::Metadata(MetadataError::TooLong { len: 3000, max: 2048 }),
            Reason::StreamIdle { after: Duration::from_secs(300) },
            Reason::NoResult(NoResult::App),
            Reason::NoResult(NoResult::NoClient),
            Reason::NoResult(NoResult::Own),
            Reason::NoResult(NoResult::Failed(Box::new(Reason::Panicked))),
        ];
        for reason in reasons {
            let wire = WireReason::from_reason(&reason);
            assert_eq!(parse_reason(wire.code, wire.detail()), reason);
            for cut in 0..wire.detail().len() {
                assert_eq!(parse_reason(wire.code, &wire.detail()[..cut]), Reason::Unknown(wire.code));
            }
        }
        // The longest there is; and one about yet another call is none.
        let failed = |reason: Reason| Reason::NoResult(NoResult::Failed(Box::new(reason)));
        let reason = failed(Reason::TooLarge { len: 1 << 40, max: 7 });
        let wire = WireReason::from_reason(&reason);
        assert_eq!((parse_reason(wire.code, wire.detail()), wire.detail().len()), (reason, 18));
        let wire = WireReason::from_reason(&failed(Reason::NoResult(NoResult::App)));
        assert_eq!(parse_reason(wire.code, wire.detail()), Reason::Unknown(code::NO_RESULT));
        assert_eq!(parse_reason(code::NO_RESULT, &[3, code::NO_RESULT, 0]), Reason::Unknown(code::NO_RESULT));
        let wire = WireReason::from_reason(&Reason::SchemaMismatch { ours: 1, theirs: 2 });
        assert_eq!(parse_reason(wire.code, wire.detail()), Reason::SchemaMismatch { ours: 2, theirs: 1 });
    }
}
