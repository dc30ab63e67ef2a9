//! A message on its way out: one frame, or a first frame and its chunks.

use crate::frame::{Head, Kind, Lead, flags};
use crate::transport::FrameSender;

/// A CALL, REPLY or FAIL whose payload is encoded, and how much of it has been placed.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) lead: Lead,
    pub(crate) payload: Vec<u8>,
    /// Payload bytes placed.
    pub(crate) sent: usize,
    /// Whether the first frame has been placed.
    pub(crate) begun: bool,
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
    pub(crate) fn new(kind: Kind, flags: u8, lead: Lead, payload: Vec<u8>) -> Message {
        Message { kind, flags, lead, payload, sent: 0, begun: false }
    }

    pub(crate) fn unsent(&self) -> usize {
        self.payload.len() - self.sent
    }

    /// Places the next frame of it.
    pub(crate) fn advance<S: FrameSender>(&mut self, id: u64, chunk_len: usize, out: &mut S) -> Progress {
        let end = self.payload.len().min(self.sent + chunk_len);
        let more = end < self.payload.len();
        let mut head = Head::new(if self.begun { Kind::Chunk } else { self.kind }, id);
        if !self.begun {
            head.flags = self.flags;
            head.lead = self.lead;
            head.total = more.then_some(self.payload.len() as u64);
        }
        if more {
            head.flags |= flags::MORE;
        }
        if !head.place(&self.payload[self.sent..end], out) {
            return Progress::Blocked;
        }
        self.begun = true;
        self.sent = end;
        if more { Progress::More } else { Progress::Done }
    }
}

/// A message on its way in, put together from its chunks. Its total has been charged before it is made.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    pub(crate) bytes: Vec<u8>,
    total: u64,
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
        Assembly { bytes: Vec::with_capacity(total as usize), total }
    }

    /// Bytes that are still to come.
    pub(crate) fn rest(&self) -> u64 {
        self.total - self.bytes.len() as u64
    }

    pub(crate) fn push(&mut self, chunk: &[u8], more: bool) -> Fit {
        let len = (self.bytes.len() + chunk.len()) as u64;
        if len > self.total || (more && chunk.len() < CHUNK_LEN_MIN) || more == (len == self.total) {
            return Fit::Wrong;
        }
        self.bytes.extend_from_slice(chunk);
        if more { Fit::Part } else { Fit::Whole }
    }
}
