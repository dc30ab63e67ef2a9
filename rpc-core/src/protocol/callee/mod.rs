//! The callee's half: calls the peer has made, from their first frame to the terminal frame they are owed.
//!
//! A call is in one of these states:
//!
//! | state | memory it holds | ends by |
//! |---|---|---|
//! | receiving | the payload so far; its total is charged | its last chunk, CANCEL |
//! | parked | the payload; it is made on what is not there yet | [`Callee::unpark`], its deadline, CANCEL |
//! | running | the payload, until the handler is gone | [`Callee::finish`] |
//! | replying | the encoded reply, which waits for room or credit | its last byte being placed |
//! | streaming | what its streams hold, and the payload until the handler is gone | [`Callee::end_streams`] |
//!
//! Calls that get no state at all (over a limit) are refused: an id and a reason in a bounded queue.

mod incoming;
mod outgoing;
mod parked;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::caller::REPLY_INLINE_MAX;
use super::events::{Arrived, Event, Events};
use super::extras::{CallExtras, Extras};
use super::fail::{Class, Failure, WireReason};
use super::message::{Assembly, ChunkLen, Message};
use super::objects::Brought;
use super::ranked::Line;
use super::table::Table;
use super::window::{ReceiveWindow, SendWindow};
use crate::error::{ProtocolError, Reason};
use crate::frame::{CallHead, Kind, StreamCounts};
use crate::priority::Priority;
use crate::share::Share;
use crate::wire::Half;

/// A request, whole, ready for its handler.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) id: u64,
    pub(crate) head: CallHead,
    pub(crate) timeout: Duration,
    pub(crate) payload: Arrived,
    pub(crate) streams: StreamCounts,
    /// How many handlers it has come through.
    pub(crate) hops: u8,
    /// Its caller no longer wants it, and nobody has looked at it yet.
    pub(crate) cancelled: bool,
    pub(crate) extras: Option<Box<CallExtras>>,
}

/// How a call ended on this side.
#[derive(Debug)]
pub(crate) enum Finish {
    /// The handler returned; the bytes are beside.
    Returned(Half, Extras),
    /// It did not, or was never started.
    Failed(Failure),
}

/// A request of which chunks are still to come.
#[derive(Debug)]
struct Receiving {
    head: CallHead,
    hops: u8,
    extras: Option<Box<CallExtras>>,
    assembly: Assembly,
}

/// What is long and rare is in a box: an entry is written with every call.
#[derive(Debug)]
enum State {
    Receiving(Box<Receiving>),
    /// It is whole, and waits for the result of another call: in [`Callee::parked`].
    Parked,
    Running,
    Replying(Box<Message>),
    /// The reply is out, and the call's streams go on.
    Streaming,
}

#[derive(Debug)]
pub(super) struct Entry {
    id: u64,
    state: State,
    /// The time it has, clamped.
    timeout: Duration,
    deadline: Option<Instant>,
    expired: bool,
    /// Its caller no longer wants it; the handler may not have heard.
    cancelled: bool,
    /// How urgent its caller says that it is.
    priority: Priority,
    /// It has streams that have not ended.
    streams: StreamCounts,
    /// Payload bytes of the request that count in the window.
    held: u64,
    /// Payload bytes that count in the server's memory.
    charged: u64,
    /// Bytes of a half-sent reply that will not be sent. The peer counts on them until it has read the FAIL, so that no
    /// other reply may go in their place before that is placed.
    cut: u64,
}

impl super::table::Keyed for Entry {
    fn key(&self) -> u64 {
        self.id
    }
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    id: u64,
    reason: WireReason,
}

#[derive(Debug)]
pub(crate) struct Callee {
    calls: Table<Entry>,
    limit: usize,
    /// The id of the last CALL; 0 = none.
    last_id: u64,
    /// Odd or even: the ids that the peer gives.
    parity: u64,
    requests: ReceiveWindow,
    replies: SendWindow,
    message_max: u64,
    metadata_max: usize,
    /// How many handlers a call may have come through.
    hops_max: u8,
    /// What the call that is taken in brings along.
    pub(crate) brought: Option<Box<Brought>>,
    reply_max: u64,
    chunk_len: ChunkLen,
    memory_out_max: usize,
    timeout_max: Duration,
    /// Refusals that wait for room, at most `limit`.
    refusals: VecDeque<Refusal>,
    /// Calls whose reply waits for room only.
    backlog_free: Line<u64>,
    /// Calls whose reply waits for credit, too.
    backlog_credit: Line<u64>,
    sending: Line<u64>,
    /// Bytes of encoded replies not yet placed.
    reply_bytes: usize,
    /// Handlers that may not encode their reply before there is memory for it.
    encoders: Vec<Waker>,
    /// Calls above this id are dropped: the peer has been told.
    drained_at: Option<u64>,
    /// The connection is over; handlers that still run keep their share of the server until they are gone.
    ended: bool,
    /// CLOSE has been placed, and no answer goes after it.
    silent: bool,
    unstamped: bool,
    /// What a stream to this side may hold.
    stream_window: u64,
    /// Entries with streams.
    streaming: usize,
    /// Calls with streams that were taken, for whoever keeps the streams.
    pub(crate) opened: Vec<(u64, StreamCounts)>,
    /// Calls with streams that a FAIL has ended here.
    pub(crate) concluded: Vec<u64>,
    /// The box of a request that is whole, for the next that comes in pieces.
    spare: Option<Box<Receiving>>,
    /// Calls that wait for the results of others, in the order in which they came.
    parked: Vec<Incoming>,
    /// Parked calls that are to be started.
    ready: Vec<u64>,
    /// Some call has promised its result.
    promising: bool,
    /// Calls that may have done so and have ended without a handler.
    pub(crate) broken: Vec<(u64, Reason)>,
    share: Arc<Share>,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) panicked: u64,
}

pub(crate) struct CalleeConfig {
    pub(crate) parity: u64,
    pub(crate) limit: usize,
    pub(crate) request_window: u64,
    pub(crate) reply_window: u64,
    pub(crate) message_max: u64,
    pub(crate) metadata_max: usize,
    pub(crate) hops_max: u8,
    pub(crate) reply_max: u64,
    pub(crate) chunk_len: ChunkLen,
    pub(crate) memory_out_max: usize,
    pub(crate) timeout_max: Duration,
    pub(crate) stream_window: u64,
    pub(crate) share: Arc<Share>,
}

impl Callee {
    pub(crate) fn new(config: CalleeConfig) -> Callee {
        Callee {
            calls: Table::new(),
            limit: config.limit,
            last_id: 0,
            parity: config.parity,
            requests: ReceiveWindow::new(config.request_window),
            replies: SendWindow::new(config.reply_window),
            message_max: config.message_max,
            metadata_max: config.metadata_max,
            hops_max: config.hops_max,
            brought: None,
            reply_max: config.reply_max,
            chunk_len: config.chunk_len,
            memory_out_max: config.memory_out_max,
            timeout_max: config.timeout_max,
            refusals: VecDeque::new(),
            backlog_free: Line::default(),
            backlog_credit: Line::default(),
            sending: Line::default(),
            reply_bytes: 0,
            encoders: Vec::new(),
            drained_at: None,
            ended: false,
            silent: false,
            unstamped: false,
            stream_window: config.stream_window,
            streaming: 0,
            opened: Vec::new(),
            concluded: Vec::new(),
            spare: None,
            parked: Vec::new(),
            ready: Vec::new(),
            promising: false,
            broken: Vec::new(),
            share: config.share,
            accepted: 0,
            refused: 0,
            panicked: 0,
        }
    }

    /// Calls with a state.
    pub(crate) fn live(&self) -> usize {
        self.calls.len()
    }

    /// Whether a reply is half sent.
    pub(crate) fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    /// Whether any terminal frame is owed.
    pub(crate) fn busy(&self) -> bool {
        self.live() > 0 || !self.refusals.is_empty()
    }

    /// Payload bytes held, of requests and of replies that are not sent yet.
    pub(crate) fn memory(&self) -> (u64, u64) {
        (self.requests.held(), self.reply_bytes as u64)
    }

    pub(crate) fn replies_in_use(&self) -> u64 {
        self.replies.in_use()
    }

    pub(crate) fn requests(&mut self) -> &mut ReceiveWindow {
        &mut self.requests
    }

    /// Whether encoded replies take more memory than they may.
    pub(crate) fn is_crowded(&self) -> bool {
        self.reply_bytes > self.memory_out_max
    }

    /// Whether a reply may be encoded now; if not, the waker is called when it may.
    pub(crate) fn may_encode(&mut self, waker: &mut Option<Waker>) -> bool {
        let may = !self.is_crowded();
        if !may && !self.encoders.iter().any(|known| waker.as_ref().is_some_and(|waker| known.will_wake(waker))) {
            self.encoders.extend(waker.take());
        }
        may
    }

    /// Lets go of what a call holds and leaves it with a FAIL to be sent.
    fn conclude(&mut self, id: u64, failure: Failure) {
        let Some(entry) = self.calls.get_mut(id) else {
            return;
        };
        let (message, priority) = (failure_message(&failure), entry.priority);
        if self.promising {
            self.broken.push((id, failure.reason.clone()));
        }
        let before = std::mem::replace(&mut entry.state, State::Replying(Box::new(message)));
        let (held, charged) = (std::mem::take(&mut entry.held), std::mem::take(&mut entry.charged));
        match before {
            State::Receiving(receiving) => self.requests.forget(receiving.assembly.rest()),
            State::Parked => self.parked.retain(|incoming| incoming.id != id),
            State::Running | State::Streaming => {}
            State::Replying(message) => {
                self.reply_bytes -= message.unsent();
                self.backlog_free.retain(|other| *other != id);
                self.backlog_credit.retain(|other| *other != id);
                if message.begun {
                    entry.cut = message.unsent() as u64;
                }
            }
        }
        self.requests.release(held);
        self.share.release(charged);
        self.reply_bytes += failure_len(&failure);
        self.backlog_free.push_back(priority, id);
        if self.streaming > 0 && self.forget_streams(id) {
            self.concluded.push(id);
        }
    }

    /// Stamps new calls and reports overdue ones. Returns when the next one is due.
    pub(crate) fn sweep(&mut self, now: Instant, events: &mut Events) -> Option<Instant> {
        self.unstamped = false;
        let mut next: Option<Instant> = None;
        let mut overdue = Vec::new();
        for entry in self.calls.iter_mut() {
            let waits = match &entry.state {
                State::Replying(message) => !message.begun && message.len() > REPLY_INLINE_MAX,
                State::Running | State::Parked | State::Receiving(_) => !entry.expired,
                State::Streaming => false,
            };
            if !waits {
                continue;
            }
            let deadline = *entry.deadline.get_or_insert(now + entry.timeout);
            if deadline > now {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
                continue;
            }
            entry.expired = true;
            match entry.state {
                State::Running => events.push(Event::Expire(entry.id)),
                State::Receiving(_) | State::Parked => overdue.push((entry.id, Class::NotExecuted)),
                // Its caller gives no credit for it, and waits no longer.
                State::Replying(_) | State::Streaming => overdue.push((entry.id, Class::MaybeExecuted)),
            }
        }
        for (id, class) in overdue {
            self.conclude(id, Failure { class, reason: Reason::DeadlineExceeded });
        }
        next
    }

    /// Nothing has happened for a while: gives memory back.
    pub(crate) fn rest(&mut self) {
        self.calls.rest();
        self.refusals.shrink_to_fit();
        for queue in [&mut self.backlog_free, &mut self.backlog_credit, &mut self.sending] {
            queue.shrink_to_fit();
        }
        self.encoders.shrink_to_fit();
        self.spare = None;
        self.parked.shrink_to_fit();
    }

    /// Whether every account is as it was at the start.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        !self.busy()
            && self.reply_bytes == 0
            && self.backlog_free.is_empty()
            && self.backlog_credit.is_empty()
            && self.encoders.is_empty()
            && (self.streaming, self.opened.len(), self.concluded.len()) == (0, 0, 0)
            && (self.parked.len(), self.ready.len(), self.broken.len()) == (0, 0, 0)
            && self.replies.in_use() == 0
            && self.requests.is_at_rest()
    }

    /// The handler of a call with streams is gone, and its request with it. What its streams may hold is still theirs.
    pub(crate) fn let_go(&mut self, id: u64) {
        let Some(entry) = self.calls.get_mut(id).filter(|entry| entry.streams != StreamCounts::NONE) else {
            return;
        };
        let held = std::mem::take(&mut entry.held);
        let charged = entry.charged.min(u64::from(entry.streams.given) * self.stream_window);
        let freed = std::mem::replace(&mut entry.charged, charged) - charged;
        self.requests.release(held);
        self.share.release(freed);
    }

    /// All streams of a call have ended, and its handler is gone. Where its reply is out, the call is over.
    pub(crate) fn end_streams(&mut self, id: u64) {
        let Some(entry) = self.calls.get_mut(id) else {
            return;
        };
        let (held, charged) = (std::mem::take(&mut entry.held), std::mem::take(&mut entry.charged));
        let placed = matches!(entry.state, State::Streaming);
        self.requests.release(held);
        self.share.release(charged);
        self.forget_streams(id);
        if placed {
            self.remove(id);
        }
    }

    /// The connection is over, and the handler of a call with streams is still there: it is now like any other.
    pub(crate) fn revive(&mut self, id: u64) {
        self.forget_streams(id);
        let entry = self.calls.get_mut(id);
        if let Some(entry) = entry.filter(|entry| !matches!(entry.state, State::Receiving(_) | State::Parked)) {
            entry.state = State::Running;
        }
    }

    /// Whether the call had any.
    fn forget_streams(&mut self, id: u64) -> bool {
        let Some(entry) = self.calls.get_mut(id).filter(|entry| entry.streams != StreamCounts::NONE) else {
            return false;
        };
        entry.streams = StreamCounts::NONE;
        self.streaming -= 1;
        true
    }

    pub(crate) fn unstamped(&self) -> bool {
        self.unstamped && self.live() > 0
    }

    pub(crate) fn handle_credit(&mut self, bytes: u64) -> Result<(), ProtocolError> {
        self.replies.give(bytes)
    }

    /// No call after this is taken; returns the id of the last one that was.
    pub(crate) fn drain(&mut self) -> u64 {
        *self.drained_at.get_or_insert(self.last_id)
    }

    /// The id of the last call received, or of the last of its streams; 0 = none.
    pub(crate) fn last_received(&self) -> u64 {
        self.last_id
    }

    /// Handlers that end from now on are not answered.
    pub(crate) fn silence(&mut self) {
        self.silent = true;
    }

    /// The connection is over: everything is let go of, but what belongs to handlers that still run. A peer that comes
    /// back over a new connection finds them counted.
    pub(crate) fn end(&mut self, wakers: &mut Vec<Waker>) {
        self.ended = true;
        for entry in self.calls.drain() {
            if matches!(entry.state, State::Running) {
                self.calls.insert(entry);
                continue;
            }
            if let State::Receiving(receiving) = &entry.state {
                self.requests.forget(receiving.assembly.rest());
            }
            self.requests.release(entry.held);
            self.share.release(entry.charged);
            self.share.leave();
        }
        self.refusals.clear();
        self.backlog_free.clear();
        self.backlog_credit.clear();
        self.sending.clear();
        self.reply_bytes = 0;
        self.parked.clear();
        self.ready.clear();
        self.broken.clear();
        wakers.append(&mut self.encoders);
    }
}

fn failure_message(failure: &Failure) -> Message {
    let (lead, reason) = failure.on_the_wire();
    Message::new(Kind::Fail, 0, lead, None, reason.detail().into())
}

fn failure_len(failure: &Failure) -> usize {
    WireReason::from_reason(&failure.reason).detail().len()
}
