//! What goes out: the head of a frame, and how it is put into a sender with its payload.

use std::time::Duration;

use super::extension::{MISSED_EXTENSION_LEN, TOTAL_EXTENSION_LEN, write_extension};
use super::{
    CALL_HEAD_LEN, CallTraits, EXTENSION_HEAD_LEN, FAIL_HEAD_LEN, FIRST_WORD_LEN, FrameError, HEADER_LEN, Kind,
    TIMEOUT_UNIT_MICROS, tag,
};
use crate::body::Parts;
use crate::transport::{Apart, FrameSender};

/// A time as a CALL says it, rounded up, so that 0 means that none is left.
pub(crate) fn timeout_units(time: Duration) -> u32 {
    const PER_SECOND: u64 = 1_000_000 / TIMEOUT_UNIT_MICROS;
    const NANOS: u32 = TIMEOUT_UNIT_MICROS as u32 * 1000;
    let units =
        time.as_secs().saturating_mul(PER_SECOND).saturating_add(u64::from(time.subsec_nanos().div_ceil(NANOS)));
    u32::try_from(units).unwrap_or(u32::MAX)
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
            at = write_extension(tag::TOTAL, &total.to_le_bytes(), space);
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

/// The most bytes that the first frame of a message may have, with so many bytes of other extensions, so many objects that it
/// hands over, and so many bytes of payload.
pub(crate) fn first_frame_len(beside: usize, handles: usize, payload: usize) -> usize {
    const OTHERS: usize = HEADER_LEN + TOTAL_EXTENSION_LEN + CallTraits::LEN_MAX + CALL_HEAD_LEN;
    OTHERS + beside + EXTENSION_HEAD_LEN + 8 * handles + payload
}
/// Writes a CALL without extensions, as most are; `false` if the sender has no room now.
#[must_use]
pub(crate) fn place_call<S: FrameSender>(flags: u8, id: u64, head: CallHead, payload: Parts<'_>, out: &mut S) -> bool {
    place_plain(Kind::Call, flags, id, head.to_bytes(), payload, out)
}

/// The same of a whole REPLY.
#[must_use]
pub(crate) fn place_reply<S: FrameSender>(id: u64, payload: &[u8], out: &mut S) -> bool {
    place_plain(Kind::Reply, 0, id, [], payload.into(), out)
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
                at += write_extension(tag::MISSED, &missed.to_le_bytes(), &mut space[at..]);
            }
            Lead::Fail { class, code } => space[at..at + FAIL_HEAD_LEN].copy_from_slice(&[class, code]),
        }
        at + self.lead_len()
    }
}
