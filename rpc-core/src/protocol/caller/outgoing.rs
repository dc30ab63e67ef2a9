//! What leaves: new calls, those that waited, their chunks, cancels.
//!
//! Two lanes wait: messages of one chunk, and longer ones. Neither may starve the other, so both first-come order, within a
//! priority, and an eighth of the window decide.

use std::task::Waker;

use super::{Attempt, Begun, Caller, Cancel, Fed, NewCall, NewWaker, Opened};
use crate::body::{Body, Parts};
use crate::error::Reason;
use crate::frame::{Extended, Head, Kind, Lead, flags, place_call};
use crate::limits::Limit;
use crate::protocol::extras::{Beside, Sent};
use crate::protocol::message::{APART_LEN_MIN, Message, Progress};
use crate::protocol::waiting::{Lane, Place, Queued};
use crate::transport::FrameSender;

impl Caller {
    /// Makes a call: places it, or lets it wait. Where the payload has to be kept it is `copy`, or a copy made here if it is
    /// short; takes the waker only
    /// where somebody is to be woken: it is not dropped here, under the lock. `lend` as in [`Message::feed`].
    pub(crate) fn begin<S: FrameSender>(
        &mut self,
        call: &NewCall,
        payload: Parts<'_>,
        lend: bool,
        copy: &mut Option<Body>,
        waker: &mut Option<Waker>,
        out: &mut S,
    ) -> Attempt {
        if let Some(reason) = &self.going_away {
            return Begun::failed(reason.clone()).into();
        }
        let len = payload.len() as u64;
        if len > self.message_max {
            return Begun::failed(Reason::TooLarge { len, max: self.message_max }).into();
        }
        let lane = if payload.len() > self.chunk_len.len { Lane::Large } else { Lane::Small };
        let held = self.waiting.bytes() + self.sending_bytes;
        let held_for_it = || payload.len() + Sent::bytes(&call.extras).len();
        let fits = held == 0 || held + held_for_it() <= self.memory_max;
        let free =
            !self.closing && self.open < self.limit && self.may_start(lane, len) && (fits || lane == Lane::Small);
        let placed = if free { self.place(call, Source::Lent(payload, lend), waker, out) } else { None };
        if let Some(id) = placed {
            self.spent(lane, len);
            return if lane == Lane::Large { Attempt::Lent(id) } else { Begun::Placed(id).into() };
        }
        if let Some(limit) = self.limit_ahead(len).filter(|_| call.nested) {
            self.refused += 1;
            return Begun::failed(Reason::Overloaded { limit }).into();
        }
        if self.waiting() >= self.waiting_max {
            self.refused += 1;
            return Begun::failed(Reason::Overloaded { limit: Limit::CallsWaiting }).into();
        }
        if !fits {
            // Where it was free to go the sender has no room: that is not what a slot helps.
            self.starved.add(waker, held_for_it(), lane == Lane::Small && !free);
            return Begun::Starved.into();
        }
        let payload = match copy.take() {
            Some(copy) => copy,
            None if payload.len() > COPY_LEN_MAX => return Attempt::Unowned,
            None => payload.into(),
        };
        self.unstamped |= call.deadline.is_none();
        Begun::Queued(self.waiting.push(lane, Queued { call: call.clone(), payload }, waker.take())).into()
    }

    /// Whether a new message may start now, ahead of nobody who waits in its lane.
    fn may_start(&self, lane: Lane, len: u64) -> bool {
        let allowed = self.requests.allows(len);
        if self.waiting.is_empty() {
            return allowed;
        }
        allowed
            && match (lane, self.waiting.front(Lane::Small), self.waiting.front(Lane::Large)) {
                // One that waits for credit may be overtaken; one that waits for a slot would never get it.
                (Lane::Small, None, Some((_, large))) => !self.requests.allows(large) && self.may_overtake(len, large),
                _ => false,
            }
    }

    /// The limit that a call would wait for once those before it have gone; room in the sender is not one.
    fn limit_ahead(&self, len: u64) -> Option<Limit> {
        if self.open + self.waiting.len() >= self.limit {
            return Some(Limit::InFlightPerConnection);
        }
        let ahead = self.requests.in_use() + self.waiting.bytes() as u64;
        (ahead + len > self.requests.size()).then_some(Limit::MemoryIn)
    }

    /// While a long message waits for credit, short ones may use an eighth of the window, so that neither starves. Where
    /// it waits for calls that are left with their callers, it is not short ones that keep it waiting.
    fn may_overtake(&self, len: u64, large: u64) -> bool {
        self.overtaken + len <= self.requests.size() / 8
            // A peer may give back what it has of a call that is still being sent.
            || self.requests.in_use().saturating_sub(self.left.total) + large <= self.requests.size()
    }

    fn spent(&mut self, lane: Lane, len: u64) {
        if lane == Lane::Small && self.waiting.has(Lane::Large) {
            self.overtaken += len;
        } else {
            self.overtaken = 0;
        }
    }

    /// Gives the call an id and a slot and places its first frame; `None` if the sender has no room. Takes the waker, if there
    /// is one, and if anybody waits for the call.
    fn place<S: FrameSender>(
        &mut self,
        call: &NewCall,
        payload: Source<'_>,
        waker: &mut Option<Waker>,
        out: &mut S,
    ) -> Option<u64> {
        let mut id = self.next_id;
        if self.live == self.slots.len() {
            self.grow();
        }
        while self.slots[self.index(id)].id != 0 {
            id += 2;
        }
        let oneway = if call.oneway { flags::ONEWAY } else { 0 };
        // Its streams have the ids behind its own.
        let last_id = id + 2 * call.streams.all();
        let mut outgoing = None;
        let len = payload.len();
        if len <= self.chunk_len.len && (len < APART_LEN_MIN || !payload.stays(out)) {
            let placed = match call.lead() {
                Lead::Call(head) if call.extras.is_none() => place_call(oneway, id, head, payload.parts(), out),
                lead => {
                    let extended = Extended::by(Sent::bytes(&call.extras));
                    let head = Head { kind: Kind::Call, flags: oneway, id, lead, extended };
                    head.place_parts(payload.parts(), out)
                }
            };
            if !placed {
                return None;
            }
            if self.live == 0 {
                // The peer may begin with it while the books are kept. Of several it had better see as many as there are.
                out.show();
            }
            Sent::placed(&call.extras);
        } else {
            let (message, progress) = match payload {
                Source::Lent(parts, lend) => {
                    let mut message = Message::lent(Kind::Call, oneway, call.lead(), call.extras.clone(), len);
                    let progress = message.feed(id, parts, lend, self.chunk_len, out);
                    if progress == Progress::Blocked {
                        return None;
                    }
                    (message, progress)
                }
                Source::Own(body) => {
                    let extras = call.extras.clone();
                    let mut message = Message::new(Kind::Call, oneway, call.lead(), extras, std::mem::take(body));
                    let progress = message.advance(id, self.chunk_len, out);
                    match progress {
                        Progress::Blocked => {
                            *body = message.into_payload();
                            return None;
                        }
                        Progress::More => self.sending.push_back(message.priority(), id),
                        Progress::Done => {}
                    }
                    (message, progress)
                }
            };
            self.sending_bytes += message.unsent();
            outgoing = Some(message).filter(|_| progress == Progress::More);
        }
        let unsent = outgoing.as_ref().map_or(0, Message::unsent);
        self.requests.take(len as u64);
        self.requests.sent((len - unsent) as u64);
        self.live += 1;
        self.open += 1;
        self.last_id = last_id;
        self.next_id = last_id + 2;
        if last_id != id || call.result {
            self.opened.push(Opened { id, streams: call.streams, result: call.result });
        }
        self.unstamped |= call.deadline.is_none();
        let index = self.index(id);
        let slot = &mut self.slots[index];
        slot.id = id;
        slot.timeout = call.timeout;
        slot.deadline = call.deadline;
        slot.position = if outgoing.is_none() { out.position() } else { u64::MAX };
        debug_assert!(slot.outgoing.is_none());
        if outgoing.is_some() {
            slot.outgoing = outgoing;
        }
        if call.extras.as_ref().is_some_and(|extras| extras.wants_metadata) {
            slot.beside = Some(Box::new(Beside { wants_metadata: true, ..Beside::default() }));
        }
        slot.terminal = false;
        slot.wanted = !call.oneway;
        if slot.wanted && waker.is_some() {
            debug_assert!(slot.waker.is_none());
            slot.waker = waker.take();
        }
        slot.expired = false;
        slot.cancel = Cancel::No;
        Some(id)
    }

    /// Whether nothing waits to be placed, and nobody for memory.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        let waits = !self.waiting.is_empty() | !self.starved.is_empty() | !self.sending.is_empty();
        !(waits | (self.cancels_due > 0) | !self.opened.is_empty())
    }

    /// Whether the peer should hear now of what credit it has again.
    #[inline]
    pub(crate) fn owes_credit(&self) -> bool {
        self.replies.pressing()
    }

    /// Places what is owed: cancels, and waiting calls as far as limits allow. `false` if the sender has no room.
    pub(crate) fn transmit<S: FrameSender>(&mut self, out: &mut S, wakers: &mut Vec<Waker>) -> bool {
        self.transmit_cancels(out) && self.admit(out, wakers)
    }

    fn transmit_cancels<S: FrameSender>(&mut self, out: &mut S) -> bool {
        if self.cancels_due == 0 {
            return true;
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.id != 0 && slot.cancel == Cancel::Due) {
            // One whose end has come meanwhile has nothing left to cancel.
            if !slot.terminal && !Head::new(Kind::Cancel, slot.id).place(&[], out) {
                return false;
            }
            slot.cancel = Cancel::Sent;
            self.cancels_due -= 1;
            self.requests.unsend(std::mem::take(&mut slot.cut));
        }
        true
    }

    fn admit<S: FrameSender>(&mut self, out: &mut S, wakers: &mut Vec<Waker>) -> bool {
        while !self.closing && !self.waiting.is_empty() && self.open < self.limit {
            let Some(lane) = self.next_lane() else {
                break;
            };
            let Some(queued) = self.waiting.front_mut(lane) else {
                break;
            };
            let call = queued.call.clone();
            let held = queued.held();
            let mut payload = std::mem::take(&mut queued.payload);
            let len = payload.len();
            let Some(id) = self.place(&call, Source::Own(&mut payload), &mut None, out) else {
                if let Some(queued) = self.waiting.front_mut(lane) {
                    queued.payload = payload;
                }
                return false;
            };
            self.spent(lane, len as u64);
            wakers.extend(self.waiting.placed(lane, held, id));
        }
        true
    }

    /// Wakes those who wait for memory to wait in, if there is some, and those of them who need not wait any more.
    pub(crate) fn wake_fitting(&mut self, wakers: &mut Vec<Waker>) {
        let held = self.waiting.bytes() + self.sending_bytes;
        if held == 0 || held.saturating_add(self.starved.least()) <= self.memory_max {
            self.starved.wake(wakers);
        } else if self.starved.has_short() && !self.closing && self.may_start(Lane::Small, 0) {
            self.starved.wake_short(self.limit.saturating_sub(self.open), wakers);
        }
    }

    /// Whose turn it is among those who wait: who is more urgent or came first, but neither lane may starve the other.
    fn next_lane(&self) -> Option<Lane> {
        let fits = |(_, len): &(Place, u64)| self.requests.allows(*len);
        match (self.waiting.front(Lane::Small), self.waiting.front(Lane::Large)) {
            (Some(small), None) => fits(&small).then_some(Lane::Small),
            (None, Some(large)) => fits(&large).then_some(Lane::Large),
            (Some(small), Some(large)) if small.0 < large.0 && fits(&small) => Some(Lane::Small),
            (_, Some(large)) if fits(&large) => Some(Lane::Large),
            (Some(small), Some((_, large))) => {
                (fits(&small) && self.may_overtake(small.1, large)).then_some(Lane::Small)
            }
            (None, None) => None,
        }
    }

    /// Places the next chunk, of at most `most` bytes, of a lent call of which `whole` is the payload, if there is room.
    pub(crate) fn feed<S: FrameSender>(
        &mut self,
        id: u64,
        whole: Parts<'_>,
        lend: bool,
        most: usize,
        out: &mut S,
    ) -> Fed {
        let chunk_len = self.chunk_len.at_most(most);
        let index = self.index(id);
        let slot = &mut self.slots[index];
        let Some(message) = slot.outgoing.as_mut().filter(|_| slot.id == id) else {
            return Fed::Over;
        };
        let unsent = message.unsent();
        let progress = message.feed(id, whole, lend, chunk_len, out);
        let rest = message.unsent();
        if message.left {
            self.left.unsent -= unsent - rest;
            self.left.total -= if rest == 0 { message.len() as u64 } else { 0 };
        } else {
            self.sending_bytes -= unsent - rest;
        }
        if progress == Progress::Done {
            slot.position = out.position();
            slot.outgoing = None;
        }
        self.requests.sent((unsent - rest) as u64);
        if rest == 0 { Fed::Over } else { Fed::Part(whole.len() - rest) }
    }

    /// Has whoever feeds a call woken when its turn comes.
    pub(crate) fn await_room(&mut self, id: u64, waker: &mut NewWaker) -> Fed {
        let Some(slot) = self.slot_mut(id) else {
            return Fed::Over;
        };
        let Some(message) = &mut slot.outgoing else {
            return Fed::Over;
        };
        let sent = message.len() - message.unsent();
        let (queued, priority) = (std::mem::replace(&mut message.queued, true), message.priority());
        waker.place(&mut slot.waker);
        if !queued {
            self.sending.push_back(priority, id);
        }
        Fed::Part(sent)
    }

    /// Leaves a lent call with its caller, who feeds it; `false` if too many are. Those whose futures are alive and not
    /// polled keep their credit: a quarter of the window is for others.
    pub(crate) fn leave(&mut self, id: u64) -> bool {
        let most = self.requests.size() / 4 * 3;
        let total = self.left.total;
        let Some(message) = self.slot_mut(id).and_then(|slot| slot.outgoing.as_mut()) else {
            return false;
        };
        let (len, unsent) = (message.len() as u64, message.unsent());
        let stays = !message.left && total + len <= most;
        message.left |= stays;
        if stays {
            self.left.total += len;
            self.left.unsent += unsent;
            self.sending_bytes -= unsent;
        }
        stays
    }

    /// Takes over the rest of a lent call.
    pub(crate) fn keep(&mut self, id: u64, rest: Body) {
        if let Some(message) = self.slot_mut(id).and_then(|slot| slot.outgoing.as_mut()) {
            debug_assert!(!message.left);
            message.keep(rest);
            let priority = message.priority();
            if !std::mem::replace(&mut message.queued, true) {
                self.sending.push_back(priority, id);
            }
        }
    }

    /// Places one chunk, of at most `most` bytes, of the half-sent call whose turn it is. Of one that is fed, whoever does
    /// that is woken instead.
    pub(crate) fn send_chunk<S: FrameSender>(
        &mut self,
        most: usize,
        out: &mut S,
        wakers: &mut Vec<Waker>,
    ) -> Option<Progress> {
        while let Some((priority, id)) = self.sending.pop_front() {
            let chunk_len = self.chunk_len.at_most(most);
            let index = self.index(id);
            let slot = &mut self.slots[index];
            let Some(message) = slot.outgoing.as_mut().filter(|_| slot.id == id) else {
                continue;
            };
            if message.is_lent() {
                message.queued = false;
                wakers.extend(slot.waker.take());
                continue;
            }
            let unsent = message.unsent();
            let progress = message.advance(id, chunk_len, out);
            let sent = unsent - message.unsent();
            self.sending_bytes -= sent;
            self.requests.sent(sent as u64);
            match progress {
                Progress::Done => {
                    slot.position = out.position();
                    slot.outgoing = None;
                }
                Progress::More => self.sending.push_back(priority, id),
                Progress::Blocked => self.sending.push_front(priority, id),
            }
            return Some(progress);
        }
        None
    }
}

/// Up to here a payload is copied under the connection's lock.
const COPY_LEN_MAX: usize = 16 << 10;

/// A payload to be placed.
enum Source<'a> {
    /// Its owner has it, and copies what has no room. With `true` the owner is about to write.
    Lent(Parts<'a>, bool),
    /// It is taken if it has to be kept.
    Own(&'a mut Body),
}

impl Source<'_> {
    fn parts(&self) -> Parts<'_> {
        match self {
            Source::Lent(parts, _) => *parts,
            Source::Own(body) => Parts::from(body.as_slice()),
        }
    }

    fn len(&self) -> usize {
        self.parts().len()
    }

    /// Whether it need not be copied in order to be written.
    fn stays<S: FrameSender>(&self, out: &S) -> bool {
        match self {
            Source::Lent(_, lend) => *lend,
            Source::Own(_) => out.gathers(),
        }
    }
}
