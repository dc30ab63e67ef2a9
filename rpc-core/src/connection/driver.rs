//! The driver: one task a connection, which joins the protocol to the transport.
//!
//! It reads, hands requests to the dispatcher, wakes callers, watches the time, and writes what others could not. It
//! sleeps when there is nothing to read. Callers and handlers write for themselves where they can.
//!
//! | phase | left when | then |
//! |---|---|---|
//! | running | the peer or the mechanism fails, somebody closes, a drain is through | closing |
//! | closing | what was placed is out and the peer has read it, or the linger is over | the end |

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::Closing;
use super::dispatch::Dispatcher;
use super::polling::Polling;
use super::shared::{EndGuard, Outlook, Shared};
use crate::body;
use crate::clock;
use crate::error::{CloseReason, ConnectionError, HandshakeError};
use crate::latency::Latency;
use crate::protocol::Effects;
use crate::transport::{Filled, FrameReceiver, Transport};

/// After this many reads in one turn, other tasks get theirs.
const READS_PER_TURN: usize = 16;
/// In a turn of a busy connection no more than so many bytes are waited for to land: small calls beside a long message
/// get their turn.
const LANDED_PER_TURN: usize = 128 << 10;
/// While it asks again and again, it looks after everything but frames only once in so many turns.
const TURNS_PER_LOOK: u32 = 16;

pub(super) struct Driver<T: Transport> {
    /// Dropped first, whenever and wherever the driver is.
    _end: EndGuard<T>,
    shared: Arc<Shared<T>>,
    receiver: T::Receiver,
    /// There may be frames in the receiver that nobody has looked at.
    more: bool,
    /// Bytes for which the last frames asked a place.
    landing: usize,
    polling: Polling,
    /// One call of this side's is all that is waited for.
    alone: bool,
    turns: u32,
    /// What the others wake it with.
    waker: Waker,
    dispatcher: Dispatcher,
    effects: Effects,
    timer: Pin<Box<Sleep>>,
    /// When `timer` fires, if it is set.
    armed: Option<Instant>,
    /// Since when the mechanism takes nothing, and how much it had taken then.
    stalled: Option<(Instant, u64)>,
    /// Frames received.
    frames: u64,
    /// How many had been received when the receive buffer was given back.
    rested: u64,
    /// When to look whether more than so many have come.
    rest: Option<(Instant, u64)>,
    phase: Phase,
}

/// Without a frame for this long, a connection gives its receive buffer back.
const REST: Duration = Duration::from_millis(100);

enum Phase {
    Running,
    /// The owner has closed it: what is in flight may end until then.
    Finishing {
        until: Instant,
    },
    Closing {
        until: Instant,
        /// The last bytes are out, and the peer knows that no more will come.
        shut: bool,
        /// Whether the peer may still read what was placed.
        flush: bool,
    },
}

impl<T: Transport> Driver<T> {
    pub(super) fn new(
        shared: Arc<Shared<T>>,
        receiver: T::Receiver,
        dispatcher: Dispatcher,
        latency: Latency,
    ) -> Driver<T> {
        Driver {
            _end: EndGuard(Arc::clone(&shared)),
            shared,
            receiver,
            more: false,
            landing: 0,
            polling: Polling::new(latency, dispatcher.is_multi_thread()),
            alone: false,
            turns: 0,
            waker: Waker::noop().clone(),
            dispatcher,
            effects: Effects::default(),
            timer: Box::pin(tokio::time::sleep_until(clock::now().into())),
            armed: None,
            stalled: None,
            frames: 0,
            rested: 0,
            rest: None,
            phase: Phase::Running,
        }
    }

    /// Drives the connection to its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the connection; every call on it gets its outcome.
    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.phase, Phase::Closing { .. }) {
            match self.poll_running(cx) {
                Poll::Ready(error) => self.close(error),
                Poll::Pending => return Poll::Pending,
            }
        }
        ready!(self.poll_closing(cx));
        // Only now: up to here it has taken a descriptor and memory, so it has counted among the connections.
        let ended = self.shared.lock().protocol.ended().cloned();
        if let Some(error) = ended {
            self.dispatcher.report(&error);
        }
        Poll::Ready(())
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        let look = self.is_called(cx);
        if look {
            self.shared.flush();
        }
        let mut landed = 0;
        for _ in 0..READS_PER_TURN {
            if !self.more {
                match self.receive(cx) {
                    Poll::Ready(Ok(Filled::Some)) => {}
                    Poll::Ready(Ok(Filled::Closed)) => return Poll::Ready(ConnectionError::PeerGone),
                    Poll::Ready(Err(error)) => return Poll::Ready(error.into()),
                    Poll::Pending if look || !self.polling.is_hot() => return self.poll_others(cx),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match self.take_frames(cx) {
                Err(error) => return Poll::Ready(error),
                Ok(more) => self.more = more,
            }
            // There is more, but other connections have waited long enough. Or there may be nothing: those who have been
            // woken go first, since what they say is what the peer waits for.
            let landing = std::mem::take(&mut self.landing);
            landed += landing;
            // The rest of a long frame may be there, and several chunks are no more than one read brings of others.
            let goes_on = landing > 0 && landed <= LANDED_PER_TURN;
            if self.more || (self.polling.is_hot() && !goes_on) {
                break;
            }
        }
        cx.waker().wake_by_ref();
        if look { self.poll_others(cx) } else { Poll::Pending }
    }

    /// Whether there is more to do than to try again.
    fn is_called(&mut self, cx: &mut Context<'_>) -> bool {
        let called = self.shared.is_driver_called();
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
            self.shared.set_driver(cx.waker());
        }
        self.turns = self.turns.wrapping_add(1);
        // With more requests than one turn takes, turns are long.
        called || self.more || !self.polling.is_hot() || self.turns % TURNS_PER_LOOK == 0
    }

    /// Receives, or sees to it that the task runs again when something has come: by trying again, or by sleeping.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        if self.polling.is_hot() {
            for tried in 0..T::Receiver::TRIES_PER_TURN {
                if tried > 0 {
                    std::hint::spin_loop();
                }
                if let Some(filled) = self.receiver.try_fill()? {
                    self.polling.hit(self.alone);
                    return Poll::Ready(Ok(filled));
                }
            }
            let Outlook { blocked, calls, serves } = self.shared.outlook();
            self.alone = calls == 1 && !serves;
            if blocked && self.shared.retry_blocked() {
                self.polling.hit(false);
            }
            if (blocked || calls > 0 || serves) && self.polling.again(cx) {
                return Poll::Pending;
            }
            self.polling.rest();
        }
        let filled = ready!(self.receiver.poll_fill(cx));
        self.polling.hit(false);
        Poll::Ready(filled)
    }

    /// Handles the frames that are there, up to as many requests as one turn takes. `true` if there may be more.
    fn take_frames(&mut self, cx: &mut Context<'_>) -> Result<bool, ConnectionError> {
        let max = self.shared.limits.requests_per_wake;
        let (handled, changed, after) = {
            let mut state = self.shared.lock();
            let handled = loop {
                // A peer that is turned away must not be served what it has sent, nor see a HELLO.
                if let Closing::Now(_) = state.closing {
                    break Err(ConnectionError::ClosedHere);
                }
                let handled = if let Some(landing) = self.receiver.landed() {
                    state.protocol.handle_landed(landing, &mut self.effects)
                } else {
                    match self.receiver.frame() {
                        Ok(Some(record)) => {
                            let handled = state.protocol.handle(record, &mut self.effects);
                            self.receiver.consume();
                            handled
                        }
                        Ok(None) => {
                            let place = self.receiver.partial().and_then(|partial| state.protocol.offer(&partial));
                            if let Some(place) = place {
                                self.landing = place.missing();
                                self.receiver.land(place);
                            }
                            break Ok(false);
                        }
                        // Before the handshake it is no frame gone wrong, but something else altogether.
                        Err(_) if !state.protocol.is_open() => {
                            break Err(ConnectionError::Protocol(HandshakeError::NotTrunkline.into()));
                        }
                        Err(error) => break Err(ConnectionError::Protocol(error.into())),
                    }
                };
                self.frames = self.frames.wrapping_add(1);
                if let Err(error) = handled {
                    break Err(error);
                }
                if self.effects.events.len() >= max {
                    break Ok(true);
                }
            };
            // With requests, what there is to send comes after them.
            let after = self.effects.events.is_empty().then(|| self.shared.transmit(&mut state));
            (handled, state.protocol.take_changed(), after)
        };
        let settled = after.map(|after| self.shared.finish_outside(after)).is_some();
        if settled {
            self.wake_callers(cx);
        } else {
            self.settle(cx);
        }
        if changed {
            self.shared.tell_changed();
        }
        handled
    }

    fn wake_callers(&mut self, cx: &mut Context<'_>) {
        if !self.effects.wakers.is_empty() {
            self.shared.wake_callers(&mut self.effects.wakers, cx.waker());
        }
    }

    /// Does what frames or the time have asked for, and sends what came of it.
    fn settle(&mut self, cx: &mut Context<'_>) {
        self.wake_callers(cx);
        self.dispatcher.handle_all(&mut self.effects.events);
        if self.dispatcher.done.is_empty() {
            self.shared.flush();
        } else {
            self.shared.finish_all(&mut self.dispatcher.done);
        }
    }

    /// Everything but reading: blocked writes, the owner's wishes, the time.
    fn poll_others(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        let blocked = match self.shared.poll_blocked(cx) {
            Poll::Ready(Err(error)) => return Poll::Ready(error),
            Poll::Ready(Ok(())) => false,
            Poll::Pending => true,
        };
        self.note_stall(blocked);
        if let Some(error) = self.poll_wishes(blocked) {
            return Poll::Ready(error);
        }
        self.poll_time(cx)
    }

    fn note_stall(&mut self, blocked: bool) {
        if !blocked {
            self.stalled = None;
            return;
        }
        let written = self.shared.written();
        if self.stalled.is_none_or(|(_, before)| before != written) {
            self.stalled = Some((clock::now(), written));
        }
    }

    /// Whether it is time to close because somebody here wants to.
    fn poll_wishes(&mut self, blocked: bool) -> Option<ConnectionError> {
        let state = self.shared.lock();
        if state.draining && state.protocol.drained() && !blocked {
            return Some(ConnectionError::ClosedHere);
        }
        match state.closing {
            Closing::No => return None,
            Closing::Now(_) => return Some(ConnectionError::ClosedHere),
            Closing::Gently => {}
        }
        let idle = state.protocol.idle() && !blocked;
        let open = state.protocol.is_open();
        drop(state);
        let until = match self.phase {
            Phase::Finishing { until } => until,
            _ => clock::now() + self.shared.limits.linger,
        };
        self.phase = Phase::Finishing { until };
        (idle || !open || until <= clock::now()).then_some(ConnectionError::ClosedHere)
    }

    /// Sets the timer for what is due next, and deals with what is due now.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        loop {
            let due = self.shared.lock().protocol.poll_timeout(clock::now);
            let stall = self.stalled.map(|(since, _)| since + self.shared.limits.write_stall);
            let finish = match self.phase {
                Phase::Finishing { until } => Some(until),
                _ => None,
            };
            let rest = self.rest_at();
            let Some(due) = [due, stall, finish, rest].into_iter().flatten().min() else {
                return Poll::Pending;
            };
            if !self.poll_timer(cx, due) {
                return Poll::Pending;
            }
            let now = clock::now();
            if stall.is_some_and(|stall| stall <= now) {
                return Poll::Ready(ConnectionError::WriteStalled(self.shared.limits.write_stall));
            }
            if finish.is_some_and(|finish| finish <= now) {
                return Poll::Ready(ConnectionError::ClosedHere);
            }
            self.look_for_rest(now);
            let handled = self.shared.lock().protocol.handle_timeout(now, &mut self.effects);
            // Also after an error: whose wakers are here has an outcome, and nobody else will wake them.
            self.settle(cx);
            if let Err(error) = handled {
                return Poll::Ready(error);
            }
            // A drain may be over by time alone.
            if let Some(error) = self.poll_wishes(self.stalled.is_some()) {
                return Poll::Ready(error);
            }
        }
    }

    /// When to look whether the connection is at rest, so that its receive buffer can go.
    fn rest_at(&mut self) -> Option<Instant> {
        if self.rest.is_none() && self.rested != self.frames {
            self.rest = Some((clock::now() + REST, self.frames));
        }
        self.rest.map(|(at, _)| at)
    }

    fn look_for_rest(&mut self, now: Instant) {
        if let Some((_, before)) = self.rest.take_if(|(at, _)| *at <= now) {
            if before == self.frames {
                self.rested = self.frames;
                self.receiver.idle();
                body::forget_spare();
            }
        }
    }

    /// Whether the timer has fired. One that is set for earlier stays so: firing early costs less than setting it anew
    /// for every call.
    fn poll_timer(&mut self, cx: &mut Context<'_>, due: Instant) -> bool {
        if self.armed.is_none_or(|armed| due < armed) {
            self.timer.as_mut().reset(due.into());
            self.armed = Some(due);
        }
        let fired = self.timer.as_mut().poll(cx).is_ready();
        if fired {
            self.armed = None;
        }
        fired
    }

    /// The connection is over: callers get their outcomes, handlers are cancelled, and the peer hears why.
    fn close(&mut self, error: ConnectionError) {
        let reason = match &error {
            ConnectionError::ClosedHere => Some(self.shared.lock().close_reason()),
            ConnectionError::Protocol(_) => Some(CloseReason::Protocol),
            ConnectionError::Silent(_) | ConnectionError::WriteStalled(_) => Some(CloseReason::Timeout),
            _ => None,
        };
        if let Some(reason) = reason {
            self.shared.say_close(reason);
        }
        self.dispatcher.cancel_all();
        self.shared.end(error, reason.is_some());
        let until = clock::now() + self.shared.limits.linger;
        self.armed = None;
        self.phase = Phase::Closing { until, shut: false, flush: reason.is_some() };
    }

    /// Lets the peer read the last bytes: closing with unread input of its own would destroy them.
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Phase::Closing { until, mut shut, flush } = self.phase else {
            return Poll::Ready(());
        };
        if !shut {
            if flush {
                self.shared.flush();
            }
            if flush && self.shared.poll_blocked(cx).is_pending() {
                return self.poll_linger(cx, until);
            }
            if flush && self.shared.is_writing() {
                // A handler that has just replied has its reply in hand, and never waits: it is done in a moment.
                cx.waker().wake_by_ref();
                return self.poll_linger(cx, until);
            }
            if self.shared.poll_shutdown(cx).is_pending() {
                return self.poll_linger(cx, until);
            }
            shut = true;
            self.phase = Phase::Closing { until, shut, flush };
        }
        if !flush {
            return Poll::Ready(());
        }
        for _ in 0..READS_PER_TURN {
            match self.receiver.poll_fill(cx) {
                Poll::Ready(Ok(Filled::Some)) => {
                    drop(self.receiver.landed());
                    while let Ok(Some(_)) = self.receiver.frame() {
                        self.receiver.consume();
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.poll_linger(cx, until),
            }
            if self.receiver.frame().is_err() {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        self.poll_linger(cx, until)
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        if self.poll_timer(cx, until) { Poll::Ready(()) } else { Poll::Pending }
    }
}
