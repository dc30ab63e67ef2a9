//! What comes in: calls, their chunks, cancels.

use std::time::Duration;

use super::{Callee, Entry, Incoming, Receiving, Refusal, State};
use crate::error::{ProtocolError, Reason};
use crate::frame::{CallHead, Frame, StreamCounts, TIMEOUT_UNIT_MICROS};
use crate::landing::{Filling, Landed};
use crate::limits::Limit;
use crate::priority::Priority;
use crate::protocol::events::{Arrived, Event, Events};
use crate::protocol::extras::CallExtras;
use crate::protocol::fail::{Failure, WireReason};
use crate::protocol::message::{Assembly, Fit, Opening, Piece};
use crate::protocol::payload::Payload;
use crate::protocol::stream::STREAMS_MAX;

impl Callee {
    pub(crate) fn handle_call(
        &mut self,
        frame: &Frame<'_>,
        landed: &mut Option<Landed>,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        if frame.id <= self.last_id || frame.id & 1 != self.parity {
            return Err(ProtocolError::CallId { id: frame.id, last: self.last_id });
        }
        let last = std::mem::replace(&mut self.last_id, frame.id);
        let (head, payload) = CallHead::parse(frame.body)?;
        let payload = Piece::new(payload, landed);
        let len = payload.len() as u64;
        let Opening { total, unknown, streams, hops } = Opening::of(frame, len)?;
        if streams != StreamCounts::NONE {
            self.last_id = streams.last_id(frame.id).ok_or(ProtocolError::CallId { id: frame.id, last })?;
        }
        if total > self.message_max {
            return Err(ProtocolError::MessageTooLong { len: total, max: self.message_max });
        }
        self.requests.begin(len, total)?;
        if self.drained_at.is_some() {
            self.requests.forget(total - len);
            self.requests.release(len);
            return Ok(());
        }
        let mut extras = None;
        let mut charged = self.charge(total, streams);
        let admitted = match unknown {
            Some(tag) => Err(Reason::UnknownExtension(tag)),
            None if hops > self.hops_max => Err(Reason::Overloaded { limit: Limit::Hops }),
            None if frame.is_extended() => self.admit_extended(frame, head, &mut charged, streams, &mut extras),
            None => self.admit(head, charged, streams),
        };
        if let Err(reason) = admitted {
            self.requests.forget(total - len);
            self.requests.release(len);
            return self.refuse(frame.id, &reason);
        }
        self.accepted += 1;
        let timeout = Duration::from_micros(u64::from(head.timeout) * TIMEOUT_UNIT_MICROS).min(self.timeout_max);
        let id = frame.id;
        let priority = extras.as_ref().map_or(Priority::Normal, |extras| extras.priority);
        if streams != StreamCounts::NONE {
            self.streaming += 1;
            self.opened.push((id, streams));
        }
        self.unstamped = true;
        let state = if frame.more() {
            let mut assembly = Assembly::new(total);
            if assembly.push(payload, true) != Fit::Part {
                return Err(ProtocolError::Chunks);
            }
            State::Receiving(self.receiving(Receiving { head, hops, extras, assembly }))
        } else {
            let payload = match payload {
                Piece::Here(payload) => events.keep(payload),
                Piece::Landed(payload) => Arrived::Long(payload.into_message()),
            };
            let cancelled = false;
            events.push(Event::Request(Incoming { id, head, timeout, payload, streams, hops, cancelled, extras }));
            State::Running
        };
        self.calls.insert(Entry {
            id,
            state,
            timeout,
            deadline: None,
            expired: false,
            cancelled: false,
            priority,
            streams,
            held: len,
            charged,
            cut: 0,
        });
        Ok(())
    }

    /// In the box of one that is whole, if there is one.
    fn receiving(&mut self, receiving: Receiving) -> Box<Receiving> {
        match self.spare.take() {
            Some(mut spare) => {
                *spare = receiving;
                spare
            }
            None => Box::new(receiving),
        }
    }

    /// What counts in the server's memory: payloads that are too long to lie inside their handler's box, and what the streams
    /// to it may hold.
    fn charge(&self, total: u64, streams: StreamCounts) -> u64 {
        let payload = if total > Payload::INLINE_MAX as u64 { total } else { 0 };
        payload + u64::from(streams.given) * self.stream_window
    }

    /// Takes what a call needs, of the server's memory so much; or says why it can't be taken.
    fn admit(&mut self, head: CallHead, charge: u64, streams: StreamCounts) -> Result<(), Reason> {
        if self.live() >= self.limit {
            return Err(Reason::Overloaded { limit: Limit::InFlightPerConnection });
        }
        if head.timeout == 0 {
            return Err(Reason::DeadlineExceeded);
        }
        if self.is_crowded() {
            return Err(Reason::Overloaded { limit: Limit::MemoryOut });
        }
        if streams.all() > STREAMS_MAX {
            return Err(Reason::Overloaded { limit: Limit::StreamsPerCall });
        }
        self.share.enter(charge).map_err(|limit| Reason::Overloaded { limit })
    }

    /// The same of a call with something beside its payload, which counts as well.
    #[cold]
    fn admit_extended(
        &mut self,
        frame: &Frame<'_>,
        head: CallHead,
        charge: &mut u64,
        streams: StreamCounts,
        extras: &mut Option<Box<CallExtras>>,
    ) -> Result<(), Reason> {
        *extras = CallExtras::of(frame, self.metadata_max, &mut self.brought)?;
        *charge += CallExtras::held(extras.as_deref());
        self.admit(head, *charge, streams)
    }

    /// Answers a call that gets no state.
    fn refuse(&mut self, id: u64, reason: &Reason) -> Result<(), ProtocolError> {
        self.refused += 1;
        if self.refusals.len() >= self.limit {
            return Err(ProtocolError::RefusalOverflow);
        }
        self.refusals.push_back(Refusal { id, reason: WireReason::from_reason(reason) });
        Ok(())
    }

    /// Where a CHUNK of call `id` with `len` bytes of payload may land.
    pub(crate) fn lend(&mut self, id: u64, len: usize) -> Option<Filling> {
        match &mut self.calls.get_mut(id)?.state {
            State::Receiving(receiving) => receiving.assembly.lend(len),
            State::Parked | State::Running | State::Replying(_) | State::Streaming => None,
        }
    }

    /// CHUNK of a request.
    pub(crate) fn handle_chunk(
        &mut self,
        frame: &Frame<'_>,
        landed: &mut Option<Landed>,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        if frame.id == 0 || frame.id > self.last_id {
            return Err(ProtocolError::Unexpected("CHUNK of a call that has not begun"));
        }
        let chunk = Piece::new(frame.body, landed);
        let len = chunk.len() as u64;
        let Some(entry) = self.calls.get_mut(frame.id) else {
            return self.requests.stray(len);
        };
        let assembly = match &mut entry.state {
            State::Receiving(receiving) => &mut receiving.assembly,
            // It was whole.
            State::Parked | State::Running | State::Streaming => return Err(ProtocolError::Chunks),
            // Its deadline passed while it came in, and the peer has yet to hear of it.
            State::Replying(_) => return self.requests.stray(len),
        };
        let fit = assembly.push(chunk, frame.more());
        if fit == Fit::Wrong {
            return Err(ProtocolError::Chunks);
        }
        self.requests.go_on(len)?;
        entry.held += len;
        if fit == Fit::Part {
            return Ok(());
        }
        if let State::Receiving(mut whole) = std::mem::replace(&mut entry.state, State::Running) {
            let Receiving { head, hops, extras, assembly } = &mut *whole;
            let payload = Arrived::Long(assembly.take().unwrap_or_default().into());
            let (head, hops, extras) = (*head, *hops, extras.take());
            let Entry { id, timeout, streams, .. } = *entry;
            let cancelled = false;
            events.push(Event::Request(Incoming { id, head, timeout, payload, streams, hops, cancelled, extras }));
            self.spare = Some(whole);
        }
        Ok(())
    }

    pub(crate) fn handle_cancel(&mut self, id: u64, events: &mut Events) -> Result<(), ProtocolError> {
        if id == 0 || id > self.last_id || id & 1 != self.parity {
            return Err(ProtocolError::Unexpected("CANCEL of a call that was never made"));
        }
        let Some(entry) = self.calls.get_mut(id) else {
            return Ok(());
        };
        match &mut entry.state {
            State::Running | State::Streaming => {
                entry.cancelled = true;
                events.push(Event::Cancel(id));
            }
            // Its handler is still there, and what it sends ends with it.
            State::Replying(_) if entry.streams.returned > 0 => events.push(Event::Cancel(id)),
            State::Receiving(_) | State::Parked => self.conclude(id, Failure::not_executed(Reason::Cancelled)),
            State::Replying(_) => self.conclude(id, Failure::maybe_executed(Reason::Cancelled)),
        }
        Ok(())
    }
}
