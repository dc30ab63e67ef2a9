//! The caller's half: calls this side has made, from their place in the queue to their terminal frame.
//!
//! A call is in one of these states:
//!
//! | state | where | may have run |
//! |---|---|---|
//! | waiting | [`Waiting`], no id | no |
//! | half sent | its slot, `outgoing` is some | no |
//! | sent | its slot | yes |
//! | answered | its slot, `outcome` is some | as the outcome says |
//! | abandoned | its slot, not `wanted`, until the terminal frame | nobody asks |
//!
//! The slot of an id is `(id >> 1) & mask`; an id whose slot is taken is skipped. So ids only grow, and a lookup is an
//! index and a comparison.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::fail::{self, Class, Failure};
use super::message::{Assembly, Fit, Message, Opening, Progress};
use super::waiting::{Lane, Queued, Ticket, Waited, Waiting};
use super::window::{ReceiveWindow, SendWindow};
use crate::error::{ConnectionError, ProtocolError, Reason};
use crate::frame::{CallHead, Frame, Head, Kind, Lead, TIMEOUT_UNIT_MICROS, flags};
use crate::limits::Limit;
use crate::transport::FrameSender;
use crate::wire::Half;

/// A reply of at most this many bytes lies in its slot and costs no credit.
pub(crate) const REPLY_INLINE_MAX: usize = 64;
/// A table starts with this many slots and doubles when they are taken.
const SLOTS_START: usize = 16;

/// A call to be made. Its payload travels beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewCall {
    pub(crate) head: CallHead,
    pub(crate) oneway: bool,
    /// The time the call has, from when it was made.
    pub(crate) timeout: Duration,
    /// When that ends; stamped by the next sweep if the call's maker did not read the clock.
    pub(crate) deadline: Option<Instant>,
    /// Made inside a handler that this connection reached: fails rather than waits.
    pub(crate) nested: bool,
}

/// What became of a new call.
#[derive(Debug)]
pub(crate) enum Begun {
    /// Its first frame is placed.
    Placed(u64),
    /// It waits; the payload has been taken.
    Queued(Ticket),
    /// There is no memory for it to wait in; the waker is called when it is worth trying again.
    Starved,
    /// It failed, and was not executed.
    Failed(Reason),
}

/// The answer to a call.
#[derive(Debug)]
pub(crate) enum Answer {
    Small { half: Half, bytes: [u8; REPLY_INLINE_MAX], len: u8 },
    Large { half: Half, bytes: Vec<u8> },
    Failed(Failure),
}

impl Answer {
    /// What a call gets whose caller waits for nothing.
    pub(crate) const EMPTY: Answer = Answer::Small { half: Half::Ok, bytes: [0; REPLY_INLINE_MAX], len: 0 };
}

#[derive(Debug)]
enum Outcome {
    Small { half: Half, len: u8 },
    Large { half: Half, bytes: Vec<u8> },
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancel {
    No,
    Due,
    Sent,
}

#[derive(Debug)]
struct Slot {
    /// 0 = free.
    id: u64,
    timeout: Duration,
    deadline: Option<Instant>,
    /// The sender's position after the call's last frame; `u64::MAX` until that is placed.
    position: u64,
    outgoing: Option<Message>,
    incoming: Option<(Half, Assembly)>,
    outcome: Option<Outcome>,
    /// The terminal frame has come.
    terminal: bool,
    /// Somebody waits for the outcome.
    wanted: bool,
    /// The deadline has passed and been dealt with.
    expired: bool,
    cancel: Cancel,
    waker: Option<Waker>,
    small: [u8; REPLY_INLINE_MAX],
}

impl Slot {
    fn free() -> Slot {
        Slot {
            id: 0,
            timeout: Duration::ZERO,
            deadline: None,
            position: u64::MAX,
            outgoing: None,
            incoming: None,
            outcome: None,
            terminal: false,
            wanted: false,
            expired: false,
            cancel: Cancel::No,
            waker: None,
            small: [0; REPLY_INLINE_MAX],
        }
    }

    /// The call fails, though its terminal frame is not all there yet.
    fn decide(&mut self, failure: Failure, wakers: &mut Vec<Waker>) {
        if self.wanted && self.outcome.is_none() {
            self.outcome = Some(Outcome::Failed(failure));
            wakers.extend(self.waker.take());
        }
    }
}

#[derive(Debug)]
pub(crate) struct Caller {
    slots: Vec<Slot>,
    /// Slots that are taken.
    live: usize,
    /// Calls whose terminal frame has not come. Only they count in flight: an answer that its caller has not come for
    /// yet holds up nobody.
    open: usize,
    /// The most calls the peer takes at a time.
    limit: usize,
    /// The next id that may be given.
    next_id: u64,
    /// The id given last; 0 = none.
    last_id: u64,
    requests: SendWindow,
    replies: ReceiveWindow,
    waiting: Waiting,
    starved: Vec<Waker>,
    /// The least that one of those needs; `usize::MAX` without any.
    starved_least: usize,
    waiting_max: usize,
    memory_max: usize,
    /// The longest message the peer accepts.
    message_max: u64,
    /// The longest message this side accepts.
    reply_max: u64,
    chunk_len: usize,
    /// Ids of half-sent calls, in turn.
    sending: VecDeque<u64>,
    sending_bytes: usize,
    cancels_due: usize,
    /// What one-chunk calls have spent of the window since a longer one began to wait.
    overtaken: u64,
    /// The peer takes no new calls.
    going_away: Option<Reason>,
    /// A call without a deadline of its own has been placed since the last sweep.
    unstamped: bool,
    /// Replies to calls that are over.
    pub(crate) late_replies: u64,
    /// Calls that failed here because of a limit.
    pub(crate) refused: u64,
}

pub(crate) struct CallerConfig {
    pub(crate) first_id: u64,
    pub(crate) limit: usize,
    pub(crate) request_window: u64,
    pub(crate) reply_window: u64,
    pub(crate) waiting_max: usize,
    pub(crate) memory_max: usize,
    pub(crate) message_max: u64,
    pub(crate) reply_max: u64,
    pub(crate) chunk_len: usize,
}

impl Caller {
    pub(crate) fn new(config: CallerConfig) -> Caller {
        let slots = SLOTS_START.min(config.limit.next_power_of_two());
        Caller {
            slots: (0..slots).map(|_| Slot::free()).collect(),
            live: 0,
            open: 0,
            limit: config.limit,
            next_id: config.first_id,
            last_id: 0,
            requests: SendWindow::new(config.request_window),
            replies: ReceiveWindow::new(config.reply_window),
            waiting: Waiting::default(),
            starved: Vec::new(),
            starved_least: usize::MAX,
            waiting_max: config.waiting_max,
            memory_max: config.memory_max,
            message_max: config.message_max,
            reply_max: config.reply_max,
            chunk_len: config.chunk_len,
            sending: VecDeque::new(),
            sending_bytes: 0,
            cancels_due: 0,
            overtaken: 0,
            going_away: None,
            unstamped: false,
            late_replies: 0,
            refused: 0,
        }
    }

    /// Calls with a slot.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Calls that wait for a slot, for credit or for memory.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len() + self.starved.len()
    }

    /// Whether anybody waits for anything here.
    pub(crate) fn busy(&self) -> bool {
        self.live > 0 || !self.waiting.is_empty() || !self.starved.is_empty()
    }

    /// Payload bytes held, of replies and of requests that are not sent yet.
    pub(crate) fn memory(&self) -> (u64, u64) {
        (self.replies.held(), (self.waiting.bytes() + self.sending_bytes) as u64)
    }

    pub(crate) fn requests_in_use(&self) -> u64 {
        self.requests.in_use()
    }

    pub(crate) fn replies(&mut self) -> &mut ReceiveWindow {
        &mut self.replies
    }

    /// Makes a call: places it, or lets it wait. Takes the payload only where it has to be kept, and the waker only
    /// where somebody is to be woken: neither is dropped here, under the lock.
    pub(crate) fn begin<S: FrameSender>(
        &mut self,
        call: NewCall,
        payload: &mut Vec<u8>,
        waker: &mut Option<Waker>,
        out: &mut S,
    ) -> Begun {
        if let Some(reason) = &self.going_away {
            return Begun::Failed(reason.clone());
        }
        let len = payload.len() as u64;
        if len > self.message_max {
            return Begun::Failed(Reason::TooLarge { len, max: self.message_max });
        }
        let lane = if payload.len() > self.chunk_len { Lane::Large } else { Lane::Small };
        let held = self.waiting.bytes() + self.sending_bytes;
        let fits = held == 0 || held + payload.len() <= self.memory_max;
        let free = self.open < self.limit && self.may_start(lane, len) && (fits || lane == Lane::Small);
        let placed = if free { self.place(call, payload, out) } else { None };
        if let Some(id) = placed {
            self.spent(lane, len);
            self.want(id, call.oneway, waker);
            return Begun::Placed(id);
        }
        if let Some(limit) = self.limit_ahead(len).filter(|_| call.nested) {
            self.refused += 1;
            return Begun::Failed(Reason::Overloaded { limit });
        }
        if self.waiting() >= self.waiting_max {
            self.refused += 1;
            return Begun::Failed(Reason::Overloaded { limit: Limit::CallsWaiting });
        }
        if !fits {
            // A caller may come back for other reasons; it is woken once.
            if !self.starved.iter().any(|known| waker.as_ref().is_some_and(|waker| known.will_wake(waker))) {
                self.starved.extend(waker.take());
            }
            self.starved_least = self.starved_least.min(payload.len());
            return Begun::Starved;
        }
        self.unstamped |= call.deadline.is_none();
        Begun::Queued(self.waiting.push(lane, Queued { call, payload: std::mem::take(payload) }, waker.take()))
    }

    /// Whether a new message may start now, ahead of nobody who waits in its lane.
    fn may_start(&self, lane: Lane, len: u64) -> bool {
        self.requests.allows(len)
            && match (lane, self.waiting.front(Lane::Small), self.waiting.front(Lane::Large)) {
                (_, None, None) => true,
                // One that waits for credit may be overtaken; one that waits for a slot would never get it.
                (Lane::Small, None, Some((_, large))) => !self.requests.allows(large) && self.may_overtake(len),
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

    /// While a long message waits for credit, short ones may use an eighth of the window, so that neither starves.
    fn may_overtake(&self, len: u64) -> bool {
        self.overtaken + len <= self.requests.size() / 8
    }

    fn spent(&mut self, lane: Lane, len: u64) {
        match (lane, self.waiting.front(Lane::Large)) {
            (Lane::Small, Some(_)) => self.overtaken += len,
            _ => self.overtaken = 0,
        }
    }

    fn want(&mut self, id: u64, oneway: bool, waker: &mut Option<Waker>) {
        if let Some(slot) = self.slot_mut(id).filter(|_| !oneway) {
            slot.wanted = true;
            slot.waker = waker.take();
        }
    }

    /// Gives the call an id and a slot and places its first frame; `None` if the sender has no room.
    fn place<S: FrameSender>(&mut self, call: NewCall, payload: &mut Vec<u8>, out: &mut S) -> Option<u64> {
        let mut id = self.next_id;
        if self.live == self.slots.len() {
            self.grow();
        }
        while self.slots[self.index(id)].id != 0 {
            id += 2;
        }
        let oneway = if call.oneway { flags::ONEWAY } else { 0 };
        let lead = Lead::Call(call.head);
        let mut outgoing = None;
        let len = payload.len();
        if len <= self.chunk_len {
            let mut head = Head::new(Kind::Call, id);
            head.flags = oneway;
            head.lead = lead;
            if !head.place(payload, out) {
                return None;
            }
        } else {
            let mut message = Message::new(Kind::Call, oneway, lead, std::mem::take(payload));
            if message.advance(id, self.chunk_len, out) == Progress::Blocked {
                *payload = message.payload;
                return None;
            }
            self.sending_bytes += message.unsent();
            self.sending.push_back(id);
            outgoing = Some(message);
        }
        let unsent = outgoing.as_ref().map_or(0, Message::unsent);
        self.requests.take(len as u64);
        self.requests.sent((len - unsent) as u64);
        self.live += 1;
        self.open += 1;
        self.last_id = id;
        self.next_id = id + 2;
        self.unstamped |= call.deadline.is_none();
        let index = self.index(id);
        let slot = &mut self.slots[index];
        slot.id = id;
        slot.timeout = call.timeout;
        slot.deadline = call.deadline;
        slot.position = if outgoing.is_none() { out.position() } else { u64::MAX };
        slot.outgoing = outgoing;
        slot.terminal = false;
        slot.wanted = false;
        slot.expired = false;
        slot.cancel = Cancel::No;
        Some(id)
    }

    fn index(&self, id: u64) -> usize {
        (id >> 1) as usize & (self.slots.len() - 1)
    }

    /// Doubles the table. Ids that had different slots still have.
    fn grow(&mut self) {
        let len = self.slots.len() * 2;
        let old = std::mem::replace(&mut self.slots, (0..len).map(|_| Slot::free()).collect());
        for slot in old.into_iter().filter(|slot| slot.id != 0) {
            let index = self.index(slot.id);
            self.slots[index] = slot;
        }
    }

    fn slot_mut(&mut self, id: u64) -> Option<&mut Slot> {
        let index = self.index(id);
        self.slots.get_mut(index).filter(|slot| slot.id == id)
    }

    /// What has become of a waiting call.
    ///
    /// A call that is still waiting keeps `waker`, if there is one, and puts the one it kept before in its place.
    pub(crate) fn poll_waiting(&mut self, ticket: Ticket, waker: &mut Option<Waker>) -> Waited {
        let waited = self.waiting.poll(ticket, waker);
        if let Waited::Placed(id) = waited {
            let slot = self.slot_mut(id).filter(|slot| slot.wanted && slot.outcome.is_none());
            if let Some(slot) = slot.filter(|_| waker.is_some()) {
                std::mem::swap(&mut slot.waker, waker);
            }
        }
        waited
    }

    /// The outcome of a call, once; then its slot is free, unless a terminal frame is still owed for it.
    ///
    /// A call without an outcome keeps `waker`, if there is one, and puts the one it kept before in its place.
    pub(crate) fn poll(&mut self, id: u64, waker: &mut Option<Waker>) -> Option<Answer> {
        let Some(slot) = self.slot_mut(id) else {
            debug_assert!(false, "polled a call without a slot");
            return Some(Answer::Failed(Failure::maybe_executed(Reason::Cancelled)));
        };
        let Some(outcome) = slot.outcome.take() else {
            if waker.is_some() {
                std::mem::swap(&mut slot.waker, waker);
            }
            return None;
        };
        let answer = match outcome {
            Outcome::Small { half, len } => Answer::Small { half, bytes: slot.small, len },
            Outcome::Large { half, bytes } => Answer::Large { half, bytes },
            Outcome::Failed(failure) => Answer::Failed(failure),
        };
        slot.wanted = false;
        let terminal = slot.terminal;
        if let Answer::Large { bytes, .. } = &answer {
            self.replies.release(bytes.len() as u64);
        }
        if terminal {
            self.release(id);
        }
        Some(answer)
    }

    /// The caller has lost interest. Its waker goes to `idle`, to be dropped outside the lock.
    pub(crate) fn abandon(&mut self, id: u64, idle: &mut Vec<Waker>) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        slot.wanted = false;
        idle.extend(slot.waker.take());
        if let Some(Outcome::Large { bytes, .. }) = slot.outcome.take() {
            self.replies.release(bytes.len() as u64);
        }
        self.cancel(id);
    }

    /// The caller of a waiting call has lost interest; those who wait for memory are to be woken.
    pub(crate) fn abandon_waiting(&mut self, ticket: Ticket, idle: &mut Vec<Waker>, wakers: &mut Vec<Waker>) {
        if let Some(id) = self.waiting.abandon(ticket, idle) {
            self.abandon(id, idle);
        }
        self.wake_starved(wakers);
    }

    fn wake_starved(&mut self, wakers: &mut Vec<Waker>) {
        self.starved_least = usize::MAX;
        wakers.append(&mut self.starved);
    }

    /// Whether a slot that has become free, or memory, is somebody's turn.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.starved.is_empty()
    }

    /// Frees a slot whose terminal frame is in, or owes a CANCEL for one whose is not.
    fn cancel(&mut self, id: u64) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        if slot.terminal {
            self.release(id);
            return;
        }
        let first = slot.cancel == Cancel::No;
        if first {
            slot.cancel = Cancel::Due;
        }
        let unsent = slot.outgoing.take().map(|message| message.unsent());
        // Of a half-received reply the rest is still waited for: it may all be on its way, and then it ends the call.
        let dropped = slot.incoming.as_mut().map(|(_, assembly)| assembly.discard());
        self.cancels_due += usize::from(first);
        if let Some(unsent) = unsent {
            self.unsend(unsent);
        }
        self.replies.release(dropped.unwrap_or(0));
    }

    /// The rest of a half-sent call will not be sent.
    fn unsend(&mut self, unsent: usize) {
        self.sending_bytes -= unsent;
        self.requests.unsend(unsent as u64);
    }

    /// The rest of a half-received reply will not come; if it does, it is stray.
    fn forget(&mut self, assembly: &Assembly) {
        self.replies.forget(assembly.rest());
        self.replies.release(assembly.held());
    }

    fn release(&mut self, id: u64) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        debug_assert!(slot.waker.is_none() || !slot.wanted);
        slot.id = 0;
        let was_open = !slot.terminal;
        let was_due = slot.cancel == Cancel::Due;
        let unsent = slot.outgoing.take().map(|message| message.unsent());
        self.cancels_due -= usize::from(was_due);
        self.live -= 1;
        self.open -= usize::from(was_open);
        if let Some(unsent) = unsent {
            self.unsend(unsent);
        }
    }

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
        payload: &[u8],
        wakers: &mut Vec<Waker>,
    ) -> Result<(), ProtocolError> {
        self.check_id(frame.id)?;
        let len = payload.len() as u64;
        let Opening { total, unknown } = Opening::of(frame, len)?;
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
        let outcome = if payload.len() <= REPLY_INLINE_MAX {
            slot.small[..payload.len()].copy_from_slice(payload);
            Outcome::Small { half, len: payload.len() as u8 }
        } else {
            Outcome::Large { half, bytes: payload.to_vec() }
        };
        self.resolve(frame.id, outcome, wakers);
        Ok(())
    }

    /// The terminal frame of a call has come whose outcome is decided, or that nobody waits for.
    fn conclude(&mut self, id: u64) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        let was_open = !std::mem::replace(&mut slot.terminal, true);
        let wanted = slot.wanted;
        self.open -= usize::from(was_open);
        if !wanted {
            self.release(id);
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
        let outgoing = slot.outgoing.take();
        self.open -= usize::from(was_open);
        if let Some(message) = outgoing {
            self.unsend(message.unsent());
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

    /// CHUNK of a reply.
    pub(crate) fn handle_chunk(&mut self, frame: &Frame<'_>, wakers: &mut Vec<Waker>) -> Result<(), ProtocolError> {
        self.check_id(frame.id)?;
        let index = self.index(frame.id);
        let slot = &mut self.slots[index];
        let incoming = if slot.id == frame.id { slot.incoming.as_mut() } else { None };
        let Some((half, assembly)) = incoming else {
            return self.replies.stray(frame.body.len() as u64);
        };
        let (half, len) = (*half, frame.body.len() as u64);
        let fit = assembly.push(frame.body, frame.more());
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
            Some(bytes) => self.resolve(frame.id, Outcome::Large { half, bytes }, wakers),
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
        self.wake_starved(wakers);
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
        self.wake_starved(wakers);
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
        }
        true
    }

    fn admit<S: FrameSender>(&mut self, out: &mut S, wakers: &mut Vec<Waker>) -> bool {
        while !self.waiting.is_empty() && self.open < self.limit {
            let Some(lane) = self.next_lane() else {
                break;
            };
            let Some(queued) = self.waiting.front_mut(lane) else {
                break;
            };
            let call = queued.call;
            let mut payload = std::mem::take(&mut queued.payload);
            let len = payload.len();
            let Some(id) = self.place(call, &mut payload, out) else {
                if let Some(queued) = self.waiting.front_mut(lane) {
                    queued.payload = payload;
                }
                return false;
            };
            self.spent(lane, len as u64);
            let waker = self.waiting.placed(lane, len, id);
            if let Some(slot) = self.slot_mut(id) {
                slot.wanted = !call.oneway;
            }
            wakers.extend(waker);
        }
        let held = self.waiting.bytes() + self.sending_bytes;
        if held == 0 || held.saturating_add(self.starved_least) <= self.memory_max {
            self.wake_starved(wakers);
        }
        true
    }

    /// Whose turn it is among those who wait: who came first, but neither lane may starve the other.
    fn next_lane(&self) -> Option<Lane> {
        let fits = |(_, len): &(u64, u64)| self.requests.allows(*len);
        match (self.waiting.front(Lane::Small), self.waiting.front(Lane::Large)) {
            (Some(small), None) => fits(&small).then_some(Lane::Small),
            (None, Some(large)) => fits(&large).then_some(Lane::Large),
            (Some(small), Some(large)) if small.0 < large.0 && fits(&small) => Some(Lane::Small),
            (_, Some(large)) if fits(&large) => Some(Lane::Large),
            (Some(small), Some(_)) => (fits(&small) && self.may_overtake(small.1)).then_some(Lane::Small),
            (None, None) => None,
        }
    }

    /// Places one chunk of the half-sent call whose turn it is.
    pub(crate) fn send_chunk<S: FrameSender>(&mut self, out: &mut S) -> Option<Progress> {
        while let Some(id) = self.sending.pop_front() {
            let chunk_len = self.chunk_len;
            let index = self.index(id);
            let slot = &mut self.slots[index];
            let Some(message) = slot.outgoing.as_mut().filter(|_| slot.id == id) else {
                continue;
            };
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
                Progress::More => self.sending.push_back(id),
                Progress::Blocked => self.sending.push_front(id),
            }
            return Some(progress);
        }
        None
    }

    /// Stamps new calls and ends overdue ones. Returns when the next one is due.
    pub(crate) fn sweep(&mut self, now: Instant, wakers: &mut Vec<Waker>) -> Option<Instant> {
        self.unstamped = false;
        let mut next: Option<Instant> = None;
        let mut overdue = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| slot.id != 0 && slot.wanted && !slot.expired) {
            let deadline = *slot.deadline.get_or_insert(now + slot.timeout);
            if deadline <= now {
                overdue.push(slot.id);
            } else {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        self.waiting.fail_where(
            |call| {
                let deadline = *call.deadline.get_or_insert(now + call.timeout);
                if deadline <= now {
                    return Some(Failure::not_executed(Reason::DeadlineExceeded));
                }
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
                // What it will say to the peer is the time left then, not when it was made.
                call.head.timeout = call.head.timeout.min(timeout_units(deadline - now));
                None
            },
            wakers,
        );
        self.wake_starved(wakers);
        for id in overdue {
            self.expire(id, wakers);
        }
        next
    }

    fn expire(&mut self, id: u64, wakers: &mut Vec<Waker>) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        slot.expired = true;
        let failure = match slot.outgoing {
            // The callee starts nothing before it has all of it.
            Some(_) => Failure::not_executed(Reason::DeadlineExceeded),
            None => Failure::maybe_executed(Reason::DeadlineExceeded),
        };
        match slot.outcome.take() {
            // A small answer lies in its slot and harms nobody; a large one is memory that nobody came for.
            Some(Outcome::Large { bytes, .. }) => {
                slot.outcome = Some(Outcome::Failed(failure));
                self.replies.release(bytes.len() as u64);
            }
            Some(outcome) => slot.outcome = Some(outcome),
            None => {
                slot.outcome = Some(Outcome::Failed(failure));
                wakers.extend(slot.waker.take());
                self.cancel(id);
            }
        }
    }

    /// Whether every account is as it was at the start.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        !self.busy()
            && self.slots.iter().all(|slot| slot.id == 0 && slot.outcome.is_none() && slot.incoming.is_none())
            && self.slots.iter().all(|slot| slot.outgoing.is_none() && slot.waker.is_none())
            && (self.waiting.bytes(), self.sending_bytes, self.cancels_due) == (0, 0, 0)
            && self.requests.in_use() == 0
            && self.replies.is_at_rest()
    }

    /// Whether sweeps have something to do: calls to stamp, or calls that wait, whose time left is kept up to date.
    pub(crate) fn unstamped(&self) -> bool {
        self.unstamped || !self.starved.is_empty() || !self.waiting.is_empty()
    }
}

/// Rounded up, so that 0 means that no time is left.
fn timeout_units(left: Duration) -> u32 {
    u32::try_from(left.as_micros().div_ceil(u128::from(TIMEOUT_UNIT_MICROS))).unwrap_or(u32::MAX)
}
