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

mod answer;
mod call;
mod incoming;
mod outgoing;
mod starved;
mod time;

use std::task::Waker;
use std::time::{Duration, Instant};

use super::extras::Beside;
use super::fail::Failure;
use super::message::{Assembly, ChunkLen, Message};
use super::ranked::Line;
use super::waiting::{Ticket, Waited, Waiting};
use super::window::{ReceiveWindow, SendWindow};
use crate::body::{Body, Received};
use crate::error::Reason;
use crate::rare::Rare;
use crate::wire::Half;
use starved::Starved;

pub(crate) use answer::{Answer, Extended};
pub(crate) use call::{Attempt, Begun, Fed, NewCall, NewWaker, Opened};

/// A reply of at most this many bytes lies in its slot and costs no credit.
pub(crate) const REPLY_INLINE_MAX: usize = 64;
/// A table starts with one slot, as long as none is taken, then has this many, and doubles when they are taken.
const SLOTS_BUSY: usize = 16;

#[derive(Debug)]
enum Outcome {
    Small { half: Half, len: u8 },
    Large { half: Half, bytes: Received },
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancel {
    No,
    Due,
    Sent,
}

/// What has become of a call that was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its answer is waited for.
    Open,
    /// Nobody waits for it any more, and its terminal frame is still owed.
    Cancelled,
    /// It has been answered, or has failed.
    Answered,
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
    /// Bytes that will not be sent. The peer counts on them until it has read the CANCEL, so that nobody else may send
    /// in their place before that is placed.
    cut: u64,
    incoming: Option<(Half, Assembly)>,
    outcome: Option<Outcome>,
    /// What came beside the reply, where its caller asks for that.
    beside: Option<Box<Beside>>,
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
            cut: 0,
            incoming: None,
            outcome: None,
            beside: None,
            terminal: false,
            wanted: false,
            expired: false,
            cancel: Cancel::No,
            waker: None,
            small: [0; REPLY_INLINE_MAX],
        }
    }

    /// Whether not all of it has been sent.
    #[inline]
    fn owes(&self) -> bool {
        self.outgoing.is_some() || self.cut > 0
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
    /// Calls that have been answered and whose streams go on. They count as open.
    lingering: usize,
    /// Calls with streams, or with a result that may be called, that have been given an id: for whoever keeps those.
    pub(crate) opened: Vec<Opened>,
    /// The most calls the peer takes at a time.
    limit: usize,
    /// The next id that may be given.
    next_id: u64,
    /// The id given last; 0 = none.
    last_id: u64,
    requests: SendWindow,
    replies: ReceiveWindow,
    waiting: Waiting,
    starved: Starved,
    waiting_max: usize,
    memory_max: usize,
    /// The longest message the peer accepts.
    message_max: u64,
    /// The longest message this side accepts.
    reply_max: u64,
    /// The longest metadata that this side accepts.
    metadata_max: usize,
    chunk_len: ChunkLen,
    /// Ids of half-sent calls, in turn.
    sending: Line<u64>,
    /// What is not sent yet of half-sent calls that are held here.
    sending_bytes: usize,
    /// Of those that are left with their callers.
    left: Left,
    cancels_due: usize,
    /// What one-chunk calls have spent of the window since a longer one began to wait.
    overtaken: u64,
    /// The peer takes no new calls.
    going_away: Option<Reason>,
    /// This side is about to say CLOSE: what waits must not go out before it.
    closing: bool,
    /// A call without a deadline of its own has been placed since the last sweep.
    unstamped: bool,
    /// Replies to calls that are over.
    pub(crate) late_replies: u64,
    /// Calls that failed here because of a limit.
    pub(crate) refused: u64,
}

/// Half-sent calls that are left with their callers.
#[derive(Debug, Default)]
struct Left {
    /// Bytes that are not sent yet.
    unsent: usize,
    /// Bytes of all of them, which is the credit that they have.
    total: u64,
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
    pub(crate) metadata_max: usize,
    pub(crate) chunk_len: ChunkLen,
}

impl Caller {
    pub(crate) fn new(config: CallerConfig) -> Caller {
        Caller {
            slots: vec![Slot::free()],
            live: 0,
            open: 0,
            lingering: 0,
            opened: Vec::new(),
            limit: config.limit,
            next_id: config.first_id,
            last_id: 0,
            requests: SendWindow::new(config.request_window),
            replies: ReceiveWindow::new(config.reply_window),
            waiting: Waiting::default(),
            starved: Starved::default(),
            waiting_max: config.waiting_max,
            memory_max: config.memory_max,
            message_max: config.message_max,
            reply_max: config.reply_max,
            metadata_max: config.metadata_max,
            chunk_len: config.chunk_len,
            sending: Line::default(),
            sending_bytes: 0,
            left: Left::default(),
            cancels_due: 0,
            overtaken: 0,
            going_away: None,
            closing: false,
            unstamped: false,
            late_replies: 0,
            refused: 0,
        }
    }

    /// Calls with a slot, or with streams that go on.
    pub(crate) fn live(&self) -> usize {
        self.live + self.lingering
    }

    /// A call that has been answered goes on.
    pub(crate) fn linger(&mut self) {
        self.lingering += 1;
        self.open += 1;
    }

    /// It has ended.
    pub(crate) fn linger_no_more(&mut self) {
        self.lingering -= 1;
        self.open -= 1;
    }

    /// Nothing goes on: the connection is over.
    pub(crate) fn end_lingering(&mut self) {
        self.open -= std::mem::take(&mut self.lingering);
    }

    /// Whether a call that was placed has no outcome.
    pub(crate) fn is_undecided(&mut self, id: u64) -> bool {
        self.slot_mut(id).is_some_and(|slot| !slot.terminal && slot.outcome.is_none())
    }

    /// What has become of a call that was placed.
    pub(crate) fn fate(&mut self, id: u64) -> Fate {
        match self.slot_mut(id) {
            Some(slot) if slot.terminal => Fate::Answered,
            Some(slot) if slot.cancel == Cancel::No => Fate::Open,
            Some(_) => Fate::Cancelled,
            None => Fate::Answered,
        }
    }

    /// Calls whose terminal frame has yet to come.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Calls that wait for a slot, for credit or for memory.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len() + self.starved.len()
    }

    /// Whether anybody waits for anything here.
    pub(crate) fn busy(&self) -> bool {
        self.live() > 0 || !self.waiting.is_empty() || !self.starved.is_empty()
    }

    /// Whether a long call is half sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending_bytes > 0 || self.left.unsent > 0
    }

    /// Payload bytes of replies that are held, and of requests that are not sent yet.
    pub(crate) fn memory(&self) -> (u64, u64) {
        (self.replies.held(), (self.waiting.bytes() + self.sending_bytes + self.left.unsent) as u64)
    }

    pub(crate) fn requests_in_use(&self) -> u64 {
        self.requests.in_use()
    }

    /// The id given last, to a call or a stream; 0 = none.
    pub(crate) fn last_given(&self) -> u64 {
        self.last_id
    }

    /// CLOSE comes next.
    pub(crate) fn admit_no_more(&mut self) {
        self.closing = true;
    }

    pub(crate) fn replies(&mut self) -> &mut ReceiveWindow {
        &mut self.replies
    }

    fn index(&self, id: u64) -> usize {
        (id >> 1) as usize & (self.slots.len() - 1)
    }

    /// Lengthens the table. Ids that had different slots still have.
    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(SLOTS_BUSY);
        let old = std::mem::replace(&mut self.slots, (0..len).map(|_| Slot::free()).collect());
        for slot in old.into_iter().filter(|slot| slot.id != 0) {
            let index = self.index(slot.id);
            self.slots[index] = slot;
        }
    }

    /// Nothing has happened for a while: gives memory back.
    pub(crate) fn rest(&mut self) {
        if self.live == 0 {
            self.slots = vec![Slot::free()];
        }
        self.waiting.rest();
        self.starved.shrink_to_fit();
        self.sending.shrink_to_fit();
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

    /// Writes the outcome of a call into `answer`, once; then its slot is free, unless a terminal frame is still owed for
    /// it.
    ///
    /// A call without an outcome keeps `waker`, if there is one, and puts the one it kept before in its place.
    pub(crate) fn poll(&mut self, id: u64, waker: &mut Option<Waker>, answer: &mut Answer) -> bool {
        let Some(slot) = self.slot_mut(id) else {
            debug_assert!(false, "polled a call without a slot");
            *answer = Answer::Failed(Failure::maybe_executed(Reason::Cancelled));
            return true;
        };
        let Some(outcome) = slot.outcome.take() else {
            if waker.is_some() {
                std::mem::swap(&mut slot.waker, waker);
            }
            return false;
        };
        match outcome {
            Outcome::Small { half, len } => *answer = Answer::Small { half, bytes: slot.small, len },
            Outcome::Large { half, bytes } => *answer = Answer::Large { half, bytes },
            Outcome::Failed(failure) => *answer = Answer::Failed(failure),
        }
        slot.wanted = false;
        let terminal = slot.terminal;
        let beside = slot.beside.take();
        if let Answer::Large { bytes, .. } = answer {
            self.replies.release(bytes.len() as u64);
        }
        if terminal {
            self.release(id);
        }
        if let Some(beside) = beside {
            let plain = match std::mem::replace(answer, Answer::EMPTY) {
                Answer::Small { half, bytes, len } => Ok((half, Body::from(&bytes[..usize::from(len)]).into())),
                Answer::Large { half, bytes } => Ok((half, bytes)),
                Answer::Failed(failure) => Err(failure),
                Answer::Extended(_) => return true,
            };
            let Beside { metadata, claim, .. } = *beside;
            *answer = Answer::Extended(Rare::new(Extended { answer: plain, metadata, claim }));
        }
        true
    }

    /// Leaves a waker for the answer of call `id`, in exchange for the one that was there; `true` if it is there already.
    pub(crate) fn await_answer(&mut self, id: u64, waker: &mut Option<Waker>) -> bool {
        match self.slot_mut(id).filter(|slot| slot.outcome.is_none()) {
            Some(slot) => std::mem::swap(&mut slot.waker, waker),
            None => return true,
        }
        false
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

    /// Nobody waits for a call any more, which is to go on all the same. Its waker goes to `idle`, as above.
    pub(crate) fn detach(&mut self, id: u64, idle: &mut Vec<Waker>) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        slot.wanted = false;
        idle.extend(slot.waker.take());
        // What has come of its reply is let go of, and what is to come.
        let dropped = slot.incoming.as_mut().map(|(_, assembly)| assembly.discard());
        if let Some(Outcome::Large { bytes, .. }) = slot.outcome.take() {
            self.replies.release(bytes.len() as u64);
        }
        self.replies.release(dropped.unwrap_or(0));
        if self.fate(id) == Fate::Answered {
            self.release(id);
        }
    }

    /// The caller of a waiting call has lost interest; those who wait for memory are to be woken. The call's id, if it has
    /// been placed without its caller's knowing.
    pub(crate) fn abandon_waiting(
        &mut self,
        ticket: Ticket,
        idle: &mut Vec<Waker>,
        wakers: &mut Vec<Waker>,
    ) -> Option<u64> {
        let placed = self.waiting.abandon(ticket, idle);
        if let Some(id) = placed {
            self.abandon(id, idle);
        }
        self.starved.wake(wakers);
        placed
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
        let outgoing = slot.outgoing.take();
        slot.cut += outgoing.as_ref().map_or(0, Message::unsent) as u64;
        // Of a half-received reply the rest is still waited for: it may all be on its way, and then it ends the call.
        let dropped = slot.incoming.as_mut().map(|(_, assembly)| assembly.discard());
        self.cancels_due += usize::from(first);
        self.replies.release(dropped.unwrap_or(0));
        if let Some(message) = outgoing {
            self.discharge(&message);
        }
    }

    /// The rest of a half-sent call will not be sent, and the peer knows.
    #[cold]
    fn unsend(&mut self, id: u64) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        let outgoing = slot.outgoing.take();
        let cut = std::mem::take(&mut slot.cut);
        if let Some(message) = &outgoing {
            self.discharge(message);
        }
        self.requests.unsend(cut + outgoing.map_or(0, |message| message.unsent() as u64));
    }

    /// The rest of `message` is not in the accounts any more.
    fn discharge(&mut self, message: &Message) {
        if message.left {
            self.left.unsent -= message.unsent();
            self.left.total -= message.len() as u64;
        } else {
            self.sending_bytes -= message.unsent();
        }
    }

    /// The rest of a half-received reply will not come; if it does, it is stray.
    fn forget(&mut self, assembly: &Assembly) {
        self.replies.forget(assembly.rest());
        self.replies.release(assembly.held());
    }

    fn release(&mut self, id: u64) {
        if self.slot_mut(id).is_some_and(|slot| slot.owes()) {
            self.unsend(id);
        }
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        debug_assert!(slot.waker.is_none() || !slot.wanted);
        slot.beside = None;
        slot.id = 0;
        let was_open = !slot.terminal;
        let was_due = slot.cancel == Cancel::Due;
        self.cancels_due -= usize::from(was_due);
        self.live -= 1;
        self.open -= usize::from(was_open);
    }

    /// Whether every account is as it was at the start.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        !self.busy()
            && self.slots.iter().all(|slot| slot.id == 0 && slot.outcome.is_none() && slot.incoming.is_none())
            && self.slots.iter().all(|slot| slot.outgoing.is_none() && slot.cut == 0 && slot.waker.is_none())
            && (self.waiting.bytes(), self.sending_bytes, self.cancels_due) == (0, 0, 0)
            && (self.left.unsent, self.left.total) == (0, 0)
            && self.requests.in_use() == 0
            && self.replies.is_at_rest()
    }
}
