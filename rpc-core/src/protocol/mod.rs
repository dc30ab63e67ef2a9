//! The protocol: one machine for both ends, without I/O, without a clock.
//!
//! Inputs are `handle` (a frame came), `handle_timeout` (time has passed), and the calls of the two halves. Outputs are
//! frames placed in the sender that is passed along, [`Event`]s for the server's side, and wakers to be woken once the
//! connection's lock is released. `transmit` places what had no room before.
//!
//! [`Caller`] owns what this side has asked of the peer, [`Callee`] what the peer has asked of this side. Here is what
//! belongs to the connection as a whole: handshake, credit on its way out, probes, drain, close.

pub(crate) mod callee;
pub(crate) mod caller;
mod events;
pub(crate) mod extras;
pub(crate) mod fail;
mod handing;
mod hello;
mod input;
mod local;
mod message;
mod objects;
mod output;
mod pace;
mod payload;
mod pipelining;
mod ranked;
pub(crate) mod stream;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod waiting;
mod window;

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

pub(crate) use callee::{Finish, Incoming};
pub(crate) use caller::{Answer, Attempt, Begun, Fed, NewCall, NewWaker};
pub(crate) use events::{Event, Events};
pub(crate) use fail::{Class, Failure};
pub(crate) use hello::HELLO_LEN_MAX;
pub use hello::{MAJOR, MINOR};
pub(crate) use local::introduce;
use message::ChunkLen;
pub(crate) use message::{APART_LEN_MIN, Progress};
pub(crate) use objects::{Brought, Cargo, Claim, Held, Spent, Target};
pub(crate) use payload::{Encoded, Payload};
pub(crate) use stream::{Pushed, Room, Took};
pub(crate) use waiting::{Ticket, Waited};

use crate::body::{Body, Parts};
use crate::codec::CodecId;
use crate::error::{CloseReason, ConnectionError, Reason};
use crate::frame::{FRAME_OVERHEAD_MAX, StreamCounts, tag};
use crate::limits::Limits;
use crate::share::Share;
use crate::stats::ConnectionStats;
use crate::transport::FrameSender;
use callee::{Callee, CalleeConfig};
use caller::{Caller, CallerConfig};
use hello::Hello;
use objects::{ObjectConfig, Objects};
use pace::Pace;
use stream::{StreamConfig, Streams};

/// Calls without a deadline of their own are stamped at most this late, and owed credit leaves at most this late.
pub(crate) const SWEEP: Duration = Duration::from_millis(10);
/// A call of so many bytes is not to wait for a long message.
const SHORT_LEN_MAX: usize = 16 << 10;
/// A draining side waits this long for the peer's PONG before it names the last call it took.
const DRAIN_PONG_MAX: Duration = Duration::from_secs(1);

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    /// It connected; it speaks first, and gives odd ids.
    Client,
    /// It accepted; it gives even ids.
    Server,
}

impl Side {
    fn first_id(self) -> u64 {
        match self {
            Side::Client => 1,
            Side::Server => 2,
        }
    }

    /// Whether `id` is of a call that this side makes.
    fn owns(self, id: u64) -> bool {
        id & 1 == self.first_id() & 1
    }
}

/// What is to be done after the lock is released.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) events: Events,
    pub(crate) wakers: Vec<Waker>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    AwaitHello,
    Open,
    Ended(ConnectionError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    No,
    /// GOAWAY has been said; the PONG behind it shows that the peer has read it.
    Announced {
        give_up: Instant,
    },
    /// The last id has been said.
    Final,
}

/// One GOAWAY, the latest.
#[derive(Clone, Copy, Debug)]
struct GoAway {
    last: Option<u64>,
    retry_after: Option<Duration>,
}

const GOAWAY_ANNOUNCED: u8 = 0;
const GOAWAY_FINAL: u8 = 1;
const WINDOW_REQUESTS: u8 = 1;
const WINDOW_REPLIES: u8 = 2;
const WINDOW_ITEMS: u8 = 3;
/// No window of its own: that of a stream grows.
const WINDOW_MORE: u8 = 4;
/// The PING that follows GOAWAY; probes carry their own number.
const DRAIN_PING: u64 = u64::MAX;

/// Frames owed to the peer of which the latest, or the sum, is enough: no queue.
#[derive(Debug, Default)]
struct Latches {
    hello: bool,
    pong: Option<u64>,
    /// The PONG to the peer's drain: no other may stand in its place.
    drain_pong: bool,
    ping: Option<u64>,
    go_away: Option<GoAway>,
    /// Placed after everything else.
    close: Option<CloseReason>,
    /// Owed credit leaves though it is little.
    credit: bool,
}

/// What the machine is made for.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) side: Side,
    pub(crate) limits: Limits,
    pub(crate) codecs: Vec<CodecId>,
    /// The transport's chunk length.
    pub(crate) chunk_len: usize,
    /// Payload bytes that a frame of the peer's may have, if they are more.
    pub(crate) whole_len: usize,
    pub(crate) silent_loss: bool,
    pub(crate) instance: u128,
    pub(crate) share: Arc<Share>,
}

impl Config {
    /// The longest frame this side accepts, header included.
    fn frame_len_max(&self) -> usize {
        (self.chunk_len.max(self.whole_len).min(self.limits.message_len) + FRAME_OVERHEAD_MAX).max(HELLO_LEN_MAX)
    }
}

#[derive(Debug)]
pub(crate) struct Protocol {
    config: Config,
    phase: Phase,
    codec: CodecId,
    caller: Caller,
    callee: Callee,
    /// Where there are any, or have been since the last rest.
    streams: Option<Box<Streams>>,
    stream_config: StreamConfig,
    /// Where one has been handed over, either way.
    objects: Option<Box<Objects>>,
    object_config: ObjectConfig,
    /// The peer knows that results may be called before they are there.
    results_known: bool,
    latches: Latches,
    pace: Pace,
    /// CLOSE has been placed: nothing goes after it.
    said_close: bool,
    drain: Drain,
    /// Who places frames first where room is short: replies, calls, chunks, or items.
    turn: usize,
    /// The next chunk is one of a request's, if there is one; else of a reply's.
    requests_next: bool,
    /// The peer has said GOAWAY.
    peer_draining: bool,
    /// See [`Protocol::take_changed`].
    changed: bool,
    hello_deadline: Option<Instant>,
    /// The earliest deadline known from sweeps and from calls that brought one along.
    next_deadline: Option<Instant>,
    /// When new calls are stamped and owed credit leaves.
    sweep_at: Option<Instant>,
    /// A sweep is on its way, or the driver has been told that one is needed.
    soon: bool,
    /// Something has come in since the last look at the clock.
    heard: bool,
    /// Since when the peer's silence counts.
    silent_since: Option<Instant>,
    pinged_at: Option<Instant>,
    ping_number: u64,
    frames_in: u64,
}

impl Protocol {
    /// A machine that has yet to shake hands; the client's HELLO goes out with the first `transmit`.
    pub(crate) fn new(config: Config) -> Protocol {
        // Both halves get their real limits with the peer's HELLO; until then nothing may pass.
        let nothing = Hello::new(&config.limits, 0, &[], 0);
        let (caller, callee, stream_config, object_config) = halves(&config, &nothing);
        Protocol {
            phase: Phase::AwaitHello,
            codec: config.codecs.first().copied().unwrap_or(CodecId::SUPPORTED[0]),
            caller,
            callee,
            streams: None,
            stream_config,
            objects: None,
            object_config,
            results_known: false,
            latches: Latches { hello: config.side == Side::Client, ..Latches::default() },
            pace: Pace::default(),
            said_close: false,
            drain: Drain::No,
            turn: 0,
            requests_next: false,
            peer_draining: false,
            changed: false,
            hello_deadline: None,
            next_deadline: None,
            sweep_at: None,
            soon: false,
            heard: false,
            silent_since: None,
            pinged_at: None,
            ping_number: 0,
            frames_in: 0,
            config,
        }
    }

    /// The longest frame this side accepts, header included.
    pub(crate) fn frame_len_max(&self) -> usize {
        self.config.frame_len_max()
    }

    /// What tells this end from all others.
    pub(crate) fn instance(&self) -> u128 {
        self.config.instance
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Why the connection ended, if it has.
    pub(crate) fn ended(&self) -> Option<&ConnectionError> {
        match &self.phase {
            Phase::Ended(error) => Some(error),
            _ => None,
        }
    }

    /// The codec both sides agreed on; meaningful once open.
    pub(crate) fn codec(&self) -> CodecId {
        self.codec
    }

    /// Whether the handshake has gone through, or the peer has begun to drain, since this was asked last.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Makes a call. The second value says that the driver has to look at the time.
    pub(crate) fn begin<S: FrameSender>(
        &mut self,
        call: &NewCall,
        payload: Parts<'_>,
        lend: bool,
        copy: &mut Option<Body>,
        waker: &mut Option<Waker>,
        out: &mut S,
    ) -> (Attempt, bool) {
        self.say_hello(out);
        if call.streams == StreamCounts::NONE {
            self.note_short(payload.len());
        }
        let before = out.position();
        let begun = match &self.phase {
            Phase::Open if call.streams != StreamCounts::NONE && !self.may_stream() => {
                Begun::failed(Reason::UnknownExtension(tag::STREAMS)).into()
            }
            Phase::Open if call.result && !self.may_promise() => {
                Begun::failed(Reason::UnknownExtension(tag::RESULT)).into()
            }
            Phase::Open if call.object != 0 && self.is_gone(call.object) => Begun::failed(Reason::ObjectGone).into(),
            Phase::Open => self.caller.begin(call, payload, lend, copy, waker, out),
            Phase::AwaitHello => Begun::failed(Reason::ConnectionLost(ConnectionError::PeerGone)).into(),
            Phase::Ended(error) => Begun::failed(Reason::ConnectionLost(error.clone())).into(),
        };
        if !self.caller.opened.is_empty() {
            self.open_own();
        }
        if matches!(begun, Attempt::Done(Begun::Failed(_)) | Attempt::Unowned) {
            return (begun, false);
        }
        if let Attempt::Lent(_) = begun {
            self.pace.placed(out.position() - before);
        }
        let wake = match call.deadline {
            None => !std::mem::replace(&mut self.soon, true),
            Some(deadline) => {
                let earlier = self.next_deadline.is_none_or(|next| deadline < next);
                if earlier {
                    self.next_deadline = Some(deadline);
                }
                earlier
            }
        };
        (begun, wake)
    }

    pub(crate) fn caller(&mut self) -> &mut Caller {
        &mut self.caller
    }

    /// Places more of a lent call, of which `whole` is the payload, as far as there is room; nothing once CLOSE has been
    /// said. If that is nothing, `waker` is called when it is worth trying again.
    pub(crate) fn feed<S: FrameSender>(
        &mut self,
        id: u64,
        whole: Parts<'_>,
        lend: bool,
        waker: &mut NewWaker,
        out: &mut S,
    ) -> Fed {
        if self.said_close || self.ended().is_some() {
            return Fed::Over;
        }
        let mut part = None;
        while self.transmit_mark(out) && self.pace.allows() {
            let before = out.position();
            let fed = self.caller.feed(id, whole, lend, self.pace.chunk_len(usize::MAX), out);
            let placed = out.position() - before;
            self.pace.placed(placed);
            match fed {
                Fed::Over => return fed,
                Fed::Part(_) if placed == 0 => break,
                Fed::Part(_) => part = Some(fed),
            }
        }
        part.unwrap_or_else(|| self.caller.await_room(id, waker))
    }

    /// The same, where there is no room: `waker` is called when it is worth trying.
    pub(crate) fn await_room(&mut self, id: u64, waker: &mut NewWaker) -> Fed {
        if self.said_close || self.ended().is_some() { Fed::Over } else { self.caller.await_room(id, waker) }
    }

    /// Bytes of long messages and of items placed since the beginning of time.
    pub(crate) fn long_sent(&self) -> u64 {
        self.pace.bytes()
    }

    /// A call or a reply of so many bytes goes beside others.
    fn note_short(&mut self, len: usize) {
        if len > SHORT_LEN_MAX {
            return;
        }
        let mut sending = self.caller.is_sending() || self.callee.is_sending();
        if let Some(streams) = &mut self.streams {
            streams.passed();
            sending |= streams.unread() > SHORT_LEN_MAX as u64;
        }
        if sending {
            self.pace.passed();
        }
    }

    /// Writes the outcome of a call into `answer`, once. See [`Caller::poll`]. The second value says that `transmit` has
    /// something to do: a slot has become free that others wait for, or credit is owed.
    pub(crate) fn poll_call(&mut self, id: u64, waker: &mut Option<Waker>, answer: &mut Answer) -> (bool, bool) {
        let answered = self.caller.poll(id, waker, answer);
        let long = matches!(answer, Answer::Large { .. } | Answer::Extended(_));
        let mut frees = answered && (long || self.caller.has_waiting());
        if answered && self.streams.is_some() && answer.has_failed() {
            self.fail_streams(id);
            frees = true;
        }
        (answered, frees)
    }

    /// Ends a call of the peer's.
    #[inline]
    pub(crate) fn finish<S: FrameSender>(&mut self, id: u64, how: Finish, payload: Encoded<'_>, out: &mut S) {
        self.say_hello(out);
        if self.objects.is_some() {
            self.settle_promise(id, &how, &payload);
        }
        if self.streams.is_some() {
            // A reply that is not sent is a failure, which ends the streams of its call.
            let failure = self.callee.kept_back(id, &how, &payload).map(Finish::Failed);
            if self.finish_streams(id, failure.as_ref().unwrap_or(&how)) {
                return;
            }
        }
        self.callee.finish(id, how, payload, out);
    }

    /// Whether encoded replies take more memory than they may.
    pub(crate) fn is_crowded(&self) -> bool {
        self.callee.is_crowded()
    }

    pub(crate) fn may_encode(&mut self, waker: &mut Option<Waker>) -> bool {
        self.callee.may_encode(waker)
    }

    /// Takes no new calls from now on, and says so to the peer.
    pub(crate) fn drain(&mut self, now: Instant) {
        if self.drain != Drain::No || self.ended().is_some() {
            return;
        }
        self.drain = Drain::Announced { give_up: now + DRAIN_PONG_MAX };
        self.latches.go_away = Some(GoAway { last: None, retry_after: None });
        self.latches.ping = Some(DRAIN_PING);
    }

    fn conclude_drain(&mut self) {
        self.drain = Drain::Final;
        let last = self.callee.drain();
        self.latches.go_away = Some(GoAway { last: Some(last), retry_after: None });
    }

    /// Whether every call that was accepted before the drain has been answered.
    pub(crate) fn drained(&self) -> bool {
        self.drain == Drain::Final && !self.callee.busy()
    }

    /// Whether the peer takes no new calls.
    pub(crate) fn peer_draining(&self) -> bool {
        self.peer_draining
    }

    /// Says CLOSE after everything that is owed now.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.close_parked(reason);
        self.latches.close.get_or_insert(reason);
        self.caller.admit_no_more();
    }

    /// Nothing will come or go any more. Calls beyond `written` have certainly not run.
    pub(crate) fn end(&mut self, error: ConnectionError, written: u64, wakers: &mut Vec<Waker>) {
        if self.ended().is_some() {
            return;
        }
        self.end_streams(&error, wakers);
        self.caller.end(&error, written, wakers);
        self.callee.end(wakers);
        if let Some(objects) = &mut self.objects {
            objects.end();
        }
        self.phase = Phase::Ended(error);
        // CLOSE may still have no room.
        self.latches = Latches { close: self.latches.close, ..Latches::default() };
        self.changed = true;
    }

    /// Whether nothing is in flight and nothing is owed, either way.
    pub(crate) fn idle(&self) -> bool {
        !self.caller.busy() && !self.callee.busy()
    }

    /// Whether the peer makes calls on this connection.
    pub(crate) fn serves(&self) -> bool {
        self.config.side == Side::Server || self.callee.accepted > 0
    }

    /// Nothing has come for a while: gives memory back.
    pub(crate) fn rest(&mut self) {
        self.caller.rest();
        self.callee.rest();
        self.streams.take_if(|streams| streams.is_at_rest());
        if let Some(objects) = &mut self.objects {
            objects.rest();
        }
    }

    /// How many calls of this side are in flight.
    pub(crate) fn calls_live(&self) -> usize {
        self.caller.live()
    }

    /// Whether the peer owes nothing, nothing is in hand that a frame of its could move on, and it has no reason to begin.
    pub(crate) fn awaits_nothing(&self) -> bool {
        self.caller.open() == 0 && !self.caller.has_waiting() && !self.callee.busy() && !self.hears_unasked()
    }

    /// Whether one call of this side's at most is all that a frame of the peer's could be about.
    pub(crate) fn awaits_one_call(&self) -> bool {
        self.caller.open() <= 1 && !self.hears_unasked()
    }

    /// The same; and no other waits for its turn, which the same task may have made.
    pub(crate) fn awaits_only_one(&self) -> bool {
        self.awaits_one_call() && !self.caller.has_waiting()
    }

    /// Whether the peer may well say what no call of this side's waits for: it makes calls, or may make them on what it was
    /// given. Streams keep their calls open.
    fn hears_unasked(&self) -> bool {
        self.serves() || self.objects.as_ref().is_some_and(|objects| objects.len().0 > 0)
    }

    pub(crate) fn stats(&mut self) -> ConnectionStats {
        // Credit of a connection that is over is nobody's.
        let ended = self.ended().is_some();
        let (replies_held, requests_unsent) = self.caller.memory();
        let (requests_held, replies_unsent) = self.callee.memory();
        let streams = self.streams.as_ref();
        let (items_held, items_unsent) = streams.map_or((0, 0), |streams| streams.memory());
        let (items_in_use, items_owed) = streams.map_or((0, 0), |streams| streams.credit());
        let streams_open = streams.map_or(0, |streams| streams.len());
        let (objects_exported, objects_imported) = self.objects.as_ref().map_or((0, 0), |objects| objects.len());
        ConnectionStats {
            calls_in_flight: self.caller.live(),
            calls_waiting: self.caller.waiting(),
            handlers_in_flight: self.callee.live(),
            streams_open,
            objects_exported,
            objects_imported,
            memory_in: replies_held + requests_held + items_held,
            memory_out: requests_unsent + replies_unsent + items_unsent,
            credit_in_use: if ended {
                0
            } else {
                self.caller.requests_in_use() + self.callee.replies_in_use() + items_in_use
            },
            credit_owed: if ended {
                0
            } else {
                self.callee.requests().owed() + self.caller.replies().owed() + items_owed
            },
            frames_received: self.frames_in,
            requests_accepted: self.callee.accepted,
            requests_refused: self.callee.refused,
            handlers_panicked: self.callee.panicked,
            calls_refused: self.caller.refused,
            replies_late: self.caller.late_replies,
        }
    }
}

/// Both halves, for a peer that said `theirs`, and what streams have to know.
fn halves(config: &Config, theirs: &Hello) -> (Caller, Callee, StreamConfig, ObjectConfig) {
    let limits = &config.limits;
    // What a frame of ours may carry: their frame length less everything that may stand before a payload.
    let theirs_chunk = usize::try_from(theirs.frame_len).unwrap_or(usize::MAX).saturating_sub(FRAME_OVERHEAD_MAX);
    let chunk_len = config.chunk_len.min(theirs_chunk).max(message::CHUNK_LEN_MIN);
    let chunk_len = ChunkLen { len: chunk_len, whole: theirs_chunk };
    let caller = Caller::new(CallerConfig {
        first_id: config.side.first_id(),
        limit: limits.in_flight_per_connection.min(theirs.in_flight as usize),
        request_window: theirs.request_window,
        reply_window: limits.window(),
        waiting_max: limits.calls_waiting,
        memory_max: limits.memory_out,
        message_max: theirs.message_len,
        reply_max: limits.message_len as u64,
        metadata_max: limits.metadata_len,
        chunk_len,
    });
    let callee = Callee::new(CalleeConfig {
        parity: 1 - config.side.first_id() % 2,
        limit: limits.in_flight_per_connection,
        request_window: limits.window(),
        reply_window: theirs.reply_window,
        message_max: limits.message_len as u64,
        reply_max: theirs.message_len,
        chunk_len,
        memory_out_max: limits.memory_out,
        timeout_max: limits.deadline_max,
        metadata_max: limits.metadata_len,
        stream_window: limits.stream_window as u64,
        hops_max: limits.hops,
        share: Arc::clone(&config.share),
    });
    let streams = StreamConfig {
        window_in: limits.stream_window as u64,
        window_max: limits.stream_window_ceiling(),
        window_out: theirs.stream_window,
        items_in: limits.item_window(),
        items_out: theirs.item_window,
        unsent_max: limits.memory_out as u64,
        chunk_len: chunk_len.len,
    };
    let objects = ObjectConfig {
        side: config.side,
        export_max: limits.objects.min(theirs.objects as usize),
        import_max: limits.objects,
        frame_max: theirs.frame_len,
        chunk_len: chunk_len.len,
        share: Arc::clone(&config.share),
    };
    (caller, callee, streams, objects)
}
