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
pub(crate) mod fail;
mod hello;
mod message;
mod payload;
mod table;
#[cfg(test)]
mod tests;
mod waiting;
mod window;

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

pub(crate) use callee::{Finish, Incoming};
pub(crate) use caller::{Answer, Begun, NewCall};
pub(crate) use fail::{Class, Failure};
pub(crate) use hello::HELLO_LEN_MAX;
pub use hello::{MAJOR, MINOR};
pub(crate) use message::Progress;
pub(crate) use payload::Payload;
pub(crate) use waiting::{Ticket, Waited};

use crate::codec::CodecId;
use crate::error::{CloseReason, ConnectionError, HandshakeError, ProtocolError, Reason};
use crate::frame::{FRAME_OVERHEAD_MAX, Frame, FrameError, Head, Kind, tag};
use crate::limits::Limits;
use crate::share::Share;
use crate::stats::ConnectionStats;
use crate::transport::FrameSender;
use crate::wire::Half;
use callee::{Callee, CalleeConfig};
use caller::{Caller, CallerConfig};
use hello::Hello;

/// Calls without a deadline of their own are stamped at most this late, and owed credit leaves at most this late.
pub(crate) const SWEEP: Duration = Duration::from_millis(10);
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

/// What a frame or the time asks of this side.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request is whole.
    Request(Incoming),
    /// Its caller no longer wants it.
    Cancel(u64),
    /// Its deadline has passed.
    Expire(u64),
}

/// What is to be done after the lock is released.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) events: Vec<Event>,
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

/// Those who place messages: replies, calls, chunks.
const TURNS: usize = 3;
const GOAWAY_ANNOUNCED: u8 = 0;
const GOAWAY_FINAL: u8 = 1;
const WINDOW_REQUESTS: u8 = 1;
const WINDOW_REPLIES: u8 = 2;
/// The PING that follows GOAWAY; probes carry their own number.
const DRAIN_PING: u64 = u64::MAX;

/// Frames owed to the peer of which the latest, or the sum, is enough: no queue.
#[derive(Debug, Default)]
struct Latches {
    hello: bool,
    pong: Option<u64>,
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
    pub(crate) silent_loss: bool,
    pub(crate) instance: u128,
    pub(crate) share: Arc<Share>,
}

impl Config {
    /// The longest frame this side accepts, header included.
    pub(crate) fn frame_len_max(&self) -> usize {
        (self.chunk_len.min(self.limits.message_len) + FRAME_OVERHEAD_MAX).max(HELLO_LEN_MAX)
    }
}

#[derive(Debug)]
pub(crate) struct Protocol {
    config: Config,
    phase: Phase,
    codec: CodecId,
    caller: Caller,
    callee: Callee,
    latches: Latches,
    drain: Drain,
    /// Who places frames first where room is short: replies, calls, or chunks.
    turn: usize,
    /// The next chunk is one of a request's, if there is one; else of a reply's.
    requests_next: bool,
    /// The peer has said GOAWAY.
    peer_draining: bool,
    /// Wakers of those who wait for the handshake or for the end.
    watchers: Vec<Waker>,
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
        let (caller, callee) = halves(&config, &nothing);
        Protocol {
            phase: Phase::AwaitHello,
            codec: config.codecs.first().copied().unwrap_or(CodecId::SUPPORTED[0]),
            caller,
            callee,
            latches: Latches { hello: config.side == Side::Client, ..Latches::default() },
            drain: Drain::No,
            turn: 0,
            requests_next: false,
            peer_draining: false,
            watchers: Vec::new(),
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

    /// Registers somebody to be woken when the handshake is through, when the peer drains, and at the end.
    pub(crate) fn watch(&mut self, waker: &mut Option<Waker>) {
        if !self.watchers.iter().any(|known| waker.as_ref().is_some_and(|waker| known.will_wake(waker))) {
            self.watchers.extend(waker.take());
        }
    }

    // ---- calls ----

    /// Makes a call. The second value says that the driver has to look at the time.
    pub(crate) fn begin<S: FrameSender>(
        &mut self,
        call: NewCall,
        payload: &mut Vec<u8>,
        waker: &mut Option<Waker>,
        out: &mut S,
    ) -> (Begun, bool) {
        self.say_hello(out);
        let begun = match &self.phase {
            Phase::Open => self.caller.begin(call, payload, waker, out),
            Phase::AwaitHello => Begun::Failed(Reason::ConnectionLost(ConnectionError::PeerGone)),
            Phase::Ended(error) => Begun::Failed(Reason::ConnectionLost(error.clone())),
        };
        if matches!(begun, Begun::Failed(_)) {
            return (begun, false);
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

    /// The outcome of a call, once. See [`Caller::poll`]. The second value says that `transmit` has something to do:
    /// a slot has become free that others wait for, or credit is owed.
    pub(crate) fn poll_call(&mut self, id: u64, waker: &mut Option<Waker>) -> (Option<Answer>, bool) {
        let answer = self.caller.poll(id, waker);
        let large = matches!(answer, Some(Answer::Large { .. }));
        let frees = large || (answer.is_some() && self.caller.has_waiting());
        (answer, frees)
    }

    /// Ends a call of the peer's.
    pub(crate) fn finish<S: FrameSender>(&mut self, id: u64, how: Finish, payload: Payload, out: &mut S) {
        self.say_hello(out);
        self.callee.finish(id, how, payload, out);
    }

    /// Nothing goes before HELLO, though a call may begin the moment the peer's is in.
    fn say_hello<S: FrameSender>(&mut self, out: &mut S) {
        if self.latches.hello && self.phase == Phase::Open {
            self.transmit_latches(out);
        }
    }

    /// Whether encoded replies take more memory than they may.
    pub(crate) fn is_crowded(&self) -> bool {
        self.callee.is_crowded()
    }

    pub(crate) fn may_encode(&mut self, waker: &mut Option<Waker>) -> bool {
        self.callee.may_encode(waker)
    }

    // ---- frames ----

    /// Takes a whole frame in.
    pub(crate) fn handle(&mut self, record: &[u8], effects: &mut Effects) -> Result<(), ConnectionError> {
        self.heard = true;
        self.frames_in += 1;
        match self.handle_frame(record, effects) {
            Ok(None) => Ok(()),
            Ok(Some(closed)) => Err(ConnectionError::ClosedByPeer(closed)),
            Err(error) => Err(ConnectionError::Protocol(error)),
        }
    }

    fn handle_frame(&mut self, record: &[u8], effects: &mut Effects) -> Result<Option<CloseReason>, ProtocolError> {
        if self.phase == Phase::AwaitHello {
            return self.handle_first(record, effects);
        }
        let Some(frame) = Frame::parse(record)? else {
            return Ok(None);
        };
        let mine = self.config.side.owns(frame.id);
        if !matches!(frame.kind, Kind::Call | Kind::Reply | Kind::Fail) {
            refuse_critical(&frame)?;
        }
        match frame.kind {
            Kind::Call => self.callee.handle_call(&frame, &mut effects.events)?,
            Kind::Reply => self.caller.handle_reply(&frame, Half::Ok, frame.body, &mut effects.wakers)?,
            Kind::Fail => match fail::parse_head(frame.body)? {
                (Class::App, _, detail) => {
                    self.caller.handle_reply(&frame, Half::Err, detail, &mut effects.wakers)?;
                }
                (class, code, detail) => {
                    self.caller.handle_failure(&frame, class, code, detail, &mut effects.wakers)?;
                }
            },
            Kind::Chunk if mine => self.caller.handle_chunk(&frame, &mut effects.wakers)?,
            Kind::Chunk => self.callee.handle_chunk(&frame, &mut effects.events)?,
            Kind::Cancel => self.callee.handle_cancel(frame.id, &mut effects.events)?,
            Kind::Credit => self.handle_credit(&frame)?,
            Kind::Ping => self.latches.pong = Some(u64::from_le_bytes(fixed(frame.body, "PING")?)),
            Kind::Pong => self.handle_pong(u64::from_le_bytes(fixed(frame.body, "PONG")?)),
            Kind::GoAway => self.handle_go_away(frame.body, &mut effects.wakers)?,
            Kind::Close => {
                let [code] = fixed(frame.body, "CLOSE")?;
                return Ok(Some(CloseReason::from_wire(code)));
            }
            Kind::Hello => return Err(ProtocolError::Unexpected("second HELLO")),
            Kind::Item | Kind::End | Kind::Stop => return Err(ProtocolError::Unexpected("frame of a stream")),
        }
        Ok(None)
    }

    /// The first frame must be HELLO, or a CLOSE that says why there is none.
    fn handle_first(&mut self, record: &[u8], effects: &mut Effects) -> Result<Option<CloseReason>, ProtocolError> {
        let frame = match Frame::parse(record) {
            Ok(Some(frame)) if frame.id == 0 => frame,
            _ => return Err(HandshakeError::NotTrunkline.into()),
        };
        match frame.kind {
            Kind::Hello => {}
            Kind::Close => {
                let [code] = fixed(frame.body, "CLOSE")?;
                return Ok(Some(CloseReason::from_wire(code)));
            }
            _ => return Err(HandshakeError::NotTrunkline.into()),
        }
        // Whatever is wrong with theirs, ours goes out, so that their error can name both versions.
        self.latches.hello |= self.config.side == Side::Server;
        let theirs = Hello::parse(frame.body)?;
        self.codec = theirs.pick_codec(&self.config.codecs)?;
        (self.caller, self.callee) = halves(&self.config, &theirs);
        self.phase = Phase::Open;
        self.hello_deadline = None;
        effects.wakers.append(&mut self.watchers);
        Ok(None)
    }

    fn handle_credit(&mut self, frame: &Frame<'_>) -> Result<(), ProtocolError> {
        let [window, bytes @ ..] = fixed::<9>(frame.body, "CREDIT")?;
        let bytes = u64::from_le_bytes(bytes);
        match (frame.id, window) {
            (0, WINDOW_REQUESTS) => self.caller.handle_credit(bytes),
            (0, WINDOW_REPLIES) => self.callee.handle_credit(bytes),
            _ => Err(ProtocolError::Unexpected("CREDIT for a window that does not exist")),
        }
    }

    fn handle_pong(&mut self, number: u64) {
        if number == DRAIN_PING && matches!(self.drain, Drain::Announced { .. }) {
            self.conclude_drain();
        }
    }

    fn handle_go_away(&mut self, body: &[u8], wakers: &mut Vec<Waker>) -> Result<(), ProtocolError> {
        let [phase, r0, r1, r2, r3, last @ ..] = fixed::<13>(body, "GOAWAY")?;
        let millis = u32::from_le_bytes([r0, r1, r2, r3]);
        let retry_after = (millis > 0).then(|| Duration::from_millis(u64::from(millis)));
        let last = (phase == GOAWAY_FINAL).then_some(u64::from_le_bytes(last));
        self.peer_draining = true;
        self.caller.handle_go_away(last, Reason::ShuttingDown { retry_after }, wakers);
        wakers.append(&mut self.watchers);
        Ok(())
    }

    // ---- drain, close, end ----

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
        self.latches.close.get_or_insert(reason);
    }

    /// Nothing will come or go any more. Calls beyond `written` have certainly not run.
    pub(crate) fn end(&mut self, error: ConnectionError, written: u64, wakers: &mut Vec<Waker>) {
        if self.ended().is_some() {
            return;
        }
        self.caller.end(&error, written, wakers);
        self.callee.end(wakers);
        self.phase = Phase::Ended(error);
        self.latches = Latches::default();
        wakers.append(&mut self.watchers);
    }

    // ---- output ----

    /// Places what is owed, as far as there is room.
    ///
    /// Answers `false` if something is left that had no room. `wakers` gets those for whom there is room now.
    pub(crate) fn transmit<S: FrameSender>(&mut self, out: &mut S, wakers: &mut Vec<Waker>) -> bool {
        if self.ended().is_some() {
            return true;
        }
        self.transmit_latches(out) && self.transmit_messages(out, wakers) && self.transmit_close(out)
    }

    /// Replies, calls and chunks of longer messages. Where room is short each comes first in turn, and a long frame that
    /// has no room does not keep back the short ones of the others.
    fn transmit_messages<S: FrameSender>(&mut self, out: &mut S, wakers: &mut Vec<Waker>) -> bool {
        let first = self.turn;
        let mut all = true;
        for step in 0..TURNS {
            let before = out.position();
            let placed = match (first + step) % TURNS {
                0 => self.callee.transmit(out, wakers),
                1 => self.caller.transmit(out, wakers),
                _ => self.transmit_chunks(out),
            };
            all &= placed;
            // Whose turn it is keeps it as long as there is no room at all.
            if step == 0 && (placed || out.position() != before) {
                self.turn = (first + 1) % TURNS;
            }
        }
        all
    }

    fn transmit_latches<S: FrameSender>(&mut self, out: &mut S) -> bool {
        if self.latches.hello {
            let config = &self.config;
            let codecs = if self.phase == Phase::Open { std::slice::from_ref(&self.codec) } else { &config.codecs };
            let hello = Hello::new(&config.limits, config.frame_len_max(), codecs, config.instance);
            if !hello.place(out) {
                return false;
            }
            self.latches.hello = false;
        }
        if self.phase != Phase::Open {
            return true;
        }
        if let Some(number) = self.latches.pong {
            if !Head::new(Kind::Pong, 0).place(&number.to_le_bytes(), out) {
                return false;
            }
            self.latches.pong = None;
        }
        if let Some(go_away) = self.latches.go_away {
            if !go_away.place(out) {
                return false;
            }
            self.latches.go_away = None;
        }
        if let Some(number) = self.latches.ping {
            if !Head::new(Kind::Ping, 0).place(&number.to_le_bytes(), out) {
                return false;
            }
            self.latches.ping = None;
        }
        self.transmit_credit(out)
    }

    fn transmit_credit<S: FrameSender>(&mut self, out: &mut S) -> bool {
        let all = self.latches.credit;
        let windows = [(WINDOW_REQUESTS, self.callee.requests()), (WINDOW_REPLIES, self.caller.replies())];
        for (name, window) in windows {
            if window.pressing() || (all && window.owed() > 0) {
                let mut body = [name; 9];
                body[1..].copy_from_slice(&window.owed().to_le_bytes());
                if !Head::new(Kind::Credit, 0).place(&body, out) {
                    return false;
                }
                window.grant();
            }
        }
        self.latches.credit = false;
        true
    }

    /// Chunks of long messages, requests and replies in turn, so that none keeps the others waiting.
    fn transmit_chunks<S: FrameSender>(&mut self, out: &mut S) -> bool {
        let mut nothing = 0;
        while nothing < 2 {
            let progress = if self.requests_next { self.caller.send_chunk(out) } else { self.callee.send_chunk(out) };
            match progress {
                // Its turn stays.
                Some(Progress::Blocked) => return false,
                Some(_) => nothing = 0,
                None => nothing += 1,
            }
            self.requests_next = !self.requests_next;
        }
        true
    }

    fn transmit_close<S: FrameSender>(&mut self, out: &mut S) -> bool {
        let Some(reason) = self.latches.close else {
            return true;
        };
        let placed = Head::new(Kind::Close, 0).place(&[reason.to_wire()], out);
        if placed {
            self.latches.close = None;
        }
        placed
    }

    // ---- time ----

    /// When `handle_timeout` is to be called next. The clock is read only where something new began.
    pub(crate) fn poll_timeout(&mut self, clock: impl Fn() -> Instant) -> Option<Instant> {
        match self.phase {
            Phase::Ended(_) => return None,
            Phase::AwaitHello => {
                let limit = self.config.limits.hello_timeout;
                return Some(*self.hello_deadline.get_or_insert_with(|| clock() + limit));
            }
            Phase::Open => {}
        }
        if self.wants_sweep() {
            self.sweep_at.get_or_insert_with(|| clock() + SWEEP);
        }
        // Where no sweep is on its way, whoever needs one next has to say so.
        self.soon = self.sweep_at.is_some();
        let watches = self.watches();
        if !watches {
            self.silent_since = None;
            self.pinged_at = None;
        }
        let probe = watches.then(|| match self.pinged_at {
            Some(pinged) => pinged + self.config.limits.ping_timeout,
            None => *self.silent_since.get_or_insert_with(&clock) + self.config.limits.ping_interval,
        });
        let give_up = match self.drain {
            Drain::Announced { give_up } => Some(give_up),
            _ => None,
        };
        [self.sweep_at, self.next_deadline, probe, give_up].into_iter().flatten().min()
    }

    /// Whether a sweep is needed that nobody has been told of. The caller tells the driver.
    pub(crate) fn needs_sweep(&mut self) -> bool {
        self.wants_sweep() && !std::mem::replace(&mut self.soon, true)
    }

    fn wants_sweep(&mut self) -> bool {
        (self.caller.unstamped() && self.caller.busy())
            || self.callee.unstamped()
            || self.callee.requests().owed() > 0
            || self.caller.replies().owed() > 0
    }

    /// Whether the peer's silence would say something.
    fn watches(&self) -> bool {
        self.config.silent_loss || self.caller.busy()
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant, effects: &mut Effects) -> Result<(), ConnectionError> {
        if self.phase == Phase::AwaitHello {
            let limit = self.config.limits.hello_timeout;
            return match self.hello_deadline {
                Some(deadline) if deadline <= now => {
                    Err(ConnectionError::Protocol(HandshakeError::Timeout(limit).into()))
                }
                _ => Ok(()),
            };
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.sweep_at) || due(self.next_deadline) {
            self.sweep_at = None;
            self.soon = false;
            let calls = self.caller.sweep(now, &mut effects.wakers);
            let handlers = self.callee.sweep(now, &mut effects.events);
            self.next_deadline = [calls, handlers].into_iter().flatten().min();
            self.latches.credit = true;
        }
        if matches!(self.drain, Drain::Announced { give_up } if give_up <= now) {
            self.conclude_drain();
        }
        self.probe(now)
    }

    fn probe(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if std::mem::take(&mut self.heard) {
            self.silent_since = Some(now);
            self.pinged_at = None;
            return Ok(());
        }
        let limits = &self.config.limits;
        match (self.pinged_at, self.silent_since) {
            (Some(pinged), _) if pinged + limits.ping_timeout <= now => {
                Err(ConnectionError::Silent(limits.ping_interval + limits.ping_timeout))
            }
            (None, Some(since)) if since + limits.ping_interval <= now && self.watches() => {
                self.pinged_at = Some(now);
                self.ping_number += 1;
                self.latches.ping.get_or_insert(self.ping_number);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    // ---- accounts ----

    /// Whether nothing is in flight and nothing is owed, either way.
    pub(crate) fn idle(&self) -> bool {
        !self.caller.busy() && !self.callee.busy()
    }

    /// How many calls of this side are in flight.
    pub(crate) fn calls_live(&self) -> usize {
        self.caller.live()
    }

    pub(crate) fn stats(&mut self) -> ConnectionStats {
        // Credit of a connection that is over is nobody's.
        let ended = self.ended().is_some();
        let (replies_held, requests_unsent) = self.caller.memory();
        let (requests_held, replies_unsent) = self.callee.memory();
        ConnectionStats {
            calls_in_flight: self.caller.live(),
            calls_waiting: self.caller.waiting(),
            handlers_in_flight: self.callee.live(),
            memory_in: replies_held + requests_held,
            memory_out: requests_unsent + replies_unsent,
            credit_in_use: if ended { 0 } else { self.caller.requests_in_use() + self.callee.replies_in_use() },
            credit_owed: if ended { 0 } else { self.callee.requests().owed() + self.caller.replies().owed() },
            frames_received: self.frames_in,
            requests_accepted: self.callee.accepted,
            requests_refused: self.callee.refused,
            handlers_panicked: self.callee.panicked,
            calls_refused: self.caller.refused,
            replies_late: self.caller.late_replies,
        }
    }
}

impl GoAway {
    #[must_use]
    fn place<S: FrameSender>(self, out: &mut S) -> bool {
        let mut body = [0; 13];
        body[0] = if self.last.is_some() { GOAWAY_FINAL } else { GOAWAY_ANNOUNCED };
        let millis = self.retry_after.map_or(0, |after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX));
        body[1..5].copy_from_slice(&millis.to_le_bytes());
        body[5..].copy_from_slice(&self.last.unwrap_or(0).to_le_bytes());
        Head::new(Kind::GoAway, 0).place(&body, out)
    }
}

/// Both halves, for a peer that said `theirs`.
fn halves(config: &Config, theirs: &Hello) -> (Caller, Callee) {
    let limits = &config.limits;
    // What a frame of ours may carry: their frame length less everything that may stand before a payload.
    let theirs_chunk = usize::try_from(theirs.frame_len).unwrap_or(usize::MAX).saturating_sub(FRAME_OVERHEAD_MAX);
    let chunk_len = config.chunk_len.min(theirs_chunk).max(message::CHUNK_LEN_MIN);
    let caller = Caller::new(CallerConfig {
        first_id: config.side.first_id(),
        limit: limits.in_flight_per_connection.min(theirs.in_flight as usize),
        request_window: theirs.request_window,
        reply_window: limits.window(),
        waiting_max: limits.calls_waiting,
        memory_max: limits.memory_out,
        message_max: theirs.message_len,
        reply_max: limits.message_len as u64,
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
        share: Arc::clone(&config.share),
    });
    (caller, callee)
}

/// For frames that know no critical extension at all.
fn refuse_critical(frame: &Frame<'_>) -> Result<(), FrameError> {
    for extension in frame.extensions() {
        let (tag, _) = extension?;
        if tag & tag::CRITICAL != 0 {
            return Err(FrameError::UnknownExtension(tag));
        }
    }
    Ok(())
}

/// A body of exactly `N` bytes.
fn fixed<const N: usize>(body: &[u8], what: &'static str) -> Result<[u8; N], ProtocolError> {
    body.try_into().map_err(|_| ProtocolError::Frame(FrameError::Truncated { what }))
}
