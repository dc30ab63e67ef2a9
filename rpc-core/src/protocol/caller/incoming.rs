//! What arrives: replies, failures, chunks, credit, GOAWAY; and the end of the connection.
//!
//! A frame is accounted for before it is looked up, so that dropping it returns its credit.

use std::task::Waker;

use super::{Caller, Outcome, REPLY_INLINE_MAX};
use crate::body::Body;
use crate::error::{ConnectionError, ProtocolError, Reason};
use crate::frame::Frame;
use crate::landing::{Filling, Landed};
use crate::limits::Limit;
use crate::protocol::extras;
use crate::protocol::fail::{self, Class, Failure};
use crate::protocol::message::{Assembly, Fit, Opening, Piece};
use crate::protocol::objects::Claim;
use crate::wire::Half;

impl Caller {
    /// Whether a frame from the peer about call `id` can be honest.
    fn check_id(&self, id: u64) -> Result<(), ProtocolError> {
        if id == 0 || id > self.last_id || (id ^ self.next_id) & 1 != 0 {
            return Err(ProtocolError::UnknownCall(id));
        }
        Ok(())
    }

    /// REPLY, or FAIL with the method's own error.
    pub(crate) fn handle_reply(
        &mut self,
        frame: &Frame<'_>,
        half: Half,
        payload: Piece<'_>,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), ProtocolError> {
        self.check_id(frame.id)?;
        let len = payload.len() as u64;
        let Opening { total, unknown, .. } = Opening::of(frame, len)?;
        if total > self.reply_max {
            return Err(ProtocolError::MessageTooLong { len: total, max: self.reply_max });
        }
        let counted = total > REPLY_INLINE_MAX as u64;
        if counted {
            self.replies.begin(len, total)?;
        }
        let index = self.index(frame.id);
        let slot = &mut self.slots[index];
        if slot.id != frame.id || slot.terminal || slot.incoming.is_some() {
            // Late, or a duplicate: the accounts are settled, and chunks of it will be stray.
            if counted {
                self.replies.forget(total - len);
                self.replies.release(len);
            }
            self.late_replies += 1;
            return Ok(());
        }
        if let Some(tag) = unknown {
            slot.decide(Failure::maybe_executed(Reason::UnknownExtension(tag)), wakers);
        }
        if let Some(beside) = slot.beside.as_mut().filter(|beside| beside.wants_metadata) {
            match extras::metadata_of_reply(frame, self.metadata_max) {
                Ok(came) => beside.metadata = came,
                Err(reason) => slot.decide(Failure::maybe_executed(reason), wakers),
            }
        }
        let keep = slot.wanted && slot.outcome.is_none();
        if counted && !keep {
            self.replies.release(len);
        }
        if frame.more() {
            let mut assembly = if keep { Assembly::new(total) } else { Assembly::unwanted(total) };
            let fit = assembly.push(payload, true);
            slot.incoming = Some((half, assembly));
            return if fit == Fit::Part { Ok(()) } else { Err(ProtocolError::Chunks) };
        }
        if !keep {
            self.conclude(frame.id);
            return Ok(());
        }
        let outcome = match payload {
            Piece::Here(payload) if payload.len() <= REPLY_INLINE_MAX => {
                slot.small[..payload.len()].copy_from_slice(payload);
                Outcome::Small { half, len: payload.len() as u8 }
            }
            Piece::Here(payload) => Outcome::Large { half, bytes: Body::from(payload).into() },
            Piece::Landed(payload) => Outcome::Large { half, bytes: payload.into_message() },
        };
        self.resolve(frame.id, outcome, wakers);
        Ok(())
    }

    /// Keeps what the reply to call `id`, which comes next, hands over; unless nobody waits for one.
    pub(crate) fn attach(&mut self, id: u64, claim: Claim, wakers: &mut Vec<Waker>) {
        let Some(slot) = self.slot_mut(id).filter(|slot| !slot.terminal && slot.incoming.is_none()) else {
            return;
        };
        if claim.crowded {
            slot.decide(Failure::maybe_executed(Reason::Overloaded { limit: Limit::MemoryTotal }), wakers);
        }
        slot.beside.get_or_insert_default().claim = Some(claim);
    }

    /// The terminal frame of a call has come whose outcome is decided, or that nobody waits for.
    fn conclude(&mut self, id: u64) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        let was_open = !std::mem::replace(&mut slot.terminal, true);
        let (wanted, owes) = (slot.wanted, slot.owes());
        self.open -= usize::from(was_open);
        if !wanted {
            self.release(id);
        } else if owes {
            self.unsend(id);
        }
    }

    /// The terminal frame of a call has come.
    fn resolve(&mut self, id: u64, outcome: Outcome, wakers: &mut Vec<Waker>) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        let was_open = !std::mem::replace(&mut slot.terminal, true);
        slot.outcome = Some(outcome);
        wakers.extend(slot.waker.take());
        let owes = slot.owes();
        self.open -= usize::from(was_open);
        if owes {
            self.unsend(id);
        }
    }

    /// FAIL of the framework. It supersedes a reply that has come in part.
    pub(crate) fn handle_failure(
        &mut self,
        frame: &Frame<'_>,
        class: Class,
        code: u8,
        detail: &[u8],
        wakers: &mut Vec<Waker>,
    ) -> Result<(), ProtocolError> {
        let id = frame.id;
        self.check_id(id)?;
        if frame.more() {
            return Err(ProtocolError::Chunks);
        }
        let failure = match Opening::of(frame, detail.len() as u64)?.unknown {
            None => Failure { class, reason: fail::parse_reason(code, detail) },
            Some(tag) => Failure::maybe_executed(Reason::UnknownExtension(tag)),
        };
        let Some(slot) = self.slot_mut(id).filter(|slot| !slot.terminal) else {
            self.late_replies += 1;
            return Ok(());
        };
        let incoming = slot.incoming.take();
        let keep = slot.wanted && slot.outcome.is_none();
        if let Some((_, assembly)) = incoming {
            self.forget(&assembly);
        }
        if keep {
            self.resolve(id, Outcome::Failed(failure), wakers);
        } else {
            self.conclude(id);
        }
        Ok(())
    }

    /// Where a CHUNK of call `id` with `len` bytes of payload may land.
    pub(crate) fn lend(&mut self, id: u64, len: usize) -> Option<Filling> {
        let (_, assembly) = self.slot_mut(id)?.incoming.as_mut()?;
        assembly.lend(len)
    }

    /// CHUNK of a reply.
    pub(crate) fn handle_chunk(
        &mut self,
        frame: &Frame<'_>,
        landed: &mut Option<Landed>,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), ProtocolError> {
        let chunk = Piece::new(frame.body, landed);
        let len = chunk.len() as u64;
        self.check_id(frame.id)?;
        let index = self.index(frame.id);
        let slot = &mut self.slots[index];
        let incoming = if slot.id == frame.id { slot.incoming.as_mut() } else { None };
        let Some((half, assembly)) = incoming else {
            return self.replies.stray(len);
        };
        let half = *half;
        let fit = assembly.push(chunk, frame.more());
        if fit == Fit::Wrong {
            return Err(ProtocolError::Chunks);
        }
        self.replies.go_on(len)?;
        if !assembly.is_kept() {
            self.replies.release(len);
        }
        if fit == Fit::Part {
            return Ok(());
        }
        let bytes = assembly.take();
        slot.incoming = None;
        match bytes {
            Some(bytes) => self.resolve(frame.id, Outcome::Large { half, bytes: bytes.into() }, wakers),
            None => self.conclude(frame.id),
        }
        Ok(())
    }

    pub(crate) fn handle_credit(&mut self, bytes: u64) -> Result<(), ProtocolError> {
        self.requests.give(bytes)
    }

    /// The peer takes no new calls; with `last`, calls above it were not executed.
    pub(crate) fn handle_go_away(&mut self, last: Option<u64>, reason: Reason, wakers: &mut Vec<Waker>) {
        let failure = Failure::not_executed(reason.clone());
        self.going_away = Some(reason);
        self.waiting.fail_where(|_| Some(failure.clone()), wakers);
        self.starved.wake(wakers);
        let Some(last) = last else {
            return;
        };
        let above: Vec<u64> =
            self.slots.iter().filter(|slot| slot.id > last && !slot.terminal).map(|slot| slot.id).collect();
        for id in above {
            self.fail(id, failure.clone(), wakers);
        }
    }

    /// A call gets its outcome without a terminal frame, and will get none.
    fn fail(&mut self, id: u64, failure: Failure, wakers: &mut Vec<Waker>) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        let incoming = slot.incoming.take();
        let decided = slot.outcome.is_some();
        let wanted = slot.wanted;
        if let Some((_, assembly)) = incoming {
            self.forget(&assembly);
        }
        match (wanted, decided) {
            (false, _) => self.release(id),
            (true, true) => self.conclude(id),
            (true, false) => self.resolve(id, Outcome::Failed(failure), wakers),
        }
    }

    /// The connection is over: every call gets its outcome. What lies beyond `written` never left this process.
    pub(crate) fn end(&mut self, error: &ConnectionError, written: u64, wakers: &mut Vec<Waker>) {
        let reason = Reason::ConnectionLost(error.clone());
        self.going_away = Some(reason.clone());
        let unsent = Failure::not_executed(reason.clone());
        self.waiting.fail_where(|_| Some(unsent.clone()), wakers);
        self.starved.wake(wakers);
        let open: Vec<(u64, u64)> = self
            .slots
            .iter()
            .filter(|slot| slot.id != 0 && !slot.terminal)
            .map(|slot| (slot.id, slot.position))
            .collect();
        for (id, position) in open {
            let failure = if position > written { unsent.clone() } else { Failure::maybe_executed(reason.clone()) };
            self.fail(id, failure, wakers);
        }
    }
}
