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
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::Closing;
use super::dispatch::Dispatcher;
use super::inlet::{Inlet, Taken, WATCH};
use super::polling::{Polling, step_back};
use super::shared::{EndGuard, Outlook, Shared};
use crate::body;
use crate::clock;
use crate::error::{CloseReason, ConnectionError};
use crate::latency::Latency;
use crate::protocol::Effects;
use crate::transport::{BatchWriter, Filled, FrameReceiver, Transport};

/// After this many reads in one turn, other tasks get theirs.
const READS_PER_TURN: usize = 16;
/// In a turn of a busy connection no more than so many bytes are waited for to land: small calls beside a long message
/// get their turn.
const LANDED_PER_TURN: usize = 128 << 10;
/// After so many bytes of long messages everybody else has had a turn, sockets and timers included.
const MOVED_PER_ROUND: u64 = 256 << 10;
/// While it asks again and again, it looks after everything but frames only once in so many turns.
const TURNS_PER_LOOK: u32 = 16;
/// After it has received so often without going to sleep, the runtime's poll need not be told of what comes, which costs the
/// peer a part of each write. To have it told again, before the next sleep, takes a system call or two and memory.
const AWAKE_LONG: u64 = 4096;

pub(super) struct Driver<T: Transport> {
    /// Dropped first, whenever and wherever the driver is.
    _end: EndGuard<T>,
    shared: Arc<Shared<T>>,
    /// What comes in. Elsewhere while others read, or might.
    inlet: Option<Box<Inlet<T::Receiver>>>,
    /// How often others had read when it looked last.
    leads: u64,
    /// When to look whether they still do.
    watch: Option<Instant>,
    polling: Polling,
    /// How often something has come since it last slept, or was about to.
    awake: u64,
    /// One call of this side's is all that is waited for.
    alone: bool,
    turns: u32,
    /// Bytes that have landed since everybody else had a turn.
    moved: u64,
    /// How much of long messages had been sent then.
    sent: u64,
    /// What the others wake it with.
    waker: Waker,
    dispatcher: Dispatcher,
    effects: Effects,
    timer: Pin<Box<Sleep>>,
    /// When `timer` fires, if it is set.
    armed: Option<Instant>,
    /// Since when the mechanism takes nothing, and how much it had taken then.
    stalled: Option<(Instant, u64)>,
    /// How many frames had been received when the receive buffer was given back.
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
            inlet: Some(Inlet::new(receiver, latency)),
            leads: 0,
            watch: None,
            polling: Polling::new(latency, dispatcher.is_multi_thread()),
            awake: 0,
            alone: false,
            turns: 0,
            moved: 0,
            sent: 0,
            waker: Waker::noop().clone(),
            dispatcher,
            effects: Effects::default(),
            timer: Box::pin(tokio::time::sleep_until(clock::now().into())),
            armed: None,
            stalled: None,
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
            if self.shared.ready.load(Ordering::Relaxed) {
                self.shared.take_ready(&mut self.effects.events);
                settle(&self.shared, &mut self.dispatcher, &mut self.effects, false, cx);
            }
        }
        if self.inlet.is_none() {
            match self.take_up(cx) {
                Err(error) => return Poll::Ready(error),
                Ok(true) => {}
                // A thread reads.
                Ok(false) => return self.poll_others(cx),
            }
        }
        let mut landed = 0;
        for _ in 0..READS_PER_TURN {
            if !self.more() {
                let received = self.receive(cx);
                self.tell_at_hand();
                match received {
                    Poll::Ready(Ok(Filled::Some)) => {}
                    Poll::Ready(Ok(Filled::Closed)) => return Poll::Ready(ConnectionError::PeerGone),
                    Poll::Ready(Err(error)) => return Poll::Ready(error.into()),
                    Poll::Pending if self.polling.is_hot() && !look => return Poll::Pending,
                    Poll::Pending => {
                        let over = self.poll_others(cx);
                        if over.is_pending() && self.shared.leads.anybody && !self.polling.is_hot() {
                            self.lay_down();
                        }
                        return over;
                    }
                }
            }
            if let Err(error) = self.take_frames(cx) {
                return Poll::Ready(error);
            }
            // There is more, but other connections have waited long enough. Or there may be nothing: those who have been
            // woken go first, since what they say is what the peer waits for.
            let landing = self.landing();
            landed += landing;
            // The rest of a long frame may be there, and several chunks are no more than one read brings of others.
            let goes_on = landing > 0 && landed <= LANDED_PER_TURN;
            if self.more() || landed > LANDED_PER_TURN || (self.polling.is_hot() && !goes_on) {
                break;
            }
        }
        if self.shared.leads.anybody && self.shared.is_asked() && self.leave_to_threads() {
            return self.poll_others(cx);
        }
        self.moved += landed as u64;
        let sent = self.inlet.as_ref().map_or(self.sent, |inlet| inlet.sent);
        if self.moved + sent.wrapping_sub(self.sent) >= MOVED_PER_ROUND {
            (self.moved, self.sent) = (0, sent);
            step_back(cx);
        } else {
            cx.waker().wake_by_ref();
        }
        if look { self.poll_others(cx) } else { Poll::Pending }
    }

    /// Takes the inlet back, and up with what the thread that had it has left; `false` if a thread has it.
    fn take_up(&mut self, cx: &mut Context<'_>) -> Result<bool, ConnectionError> {
        self.inlet = self.shared.take_up(&mut self.leads);
        let Some(inlet) = &mut self.inlet else {
            self.watch = Some(clock::now() + WATCH);
            return Ok(false);
        };
        self.watch = None;
        let failed = inlet.failed.take();
        if !inlet.effects.events.is_empty() || !inlet.effects.wakers.is_empty() {
            settle(&self.shared, &mut self.dispatcher, &mut inlet.effects, false, cx);
        }
        failed.map_or(Ok(true), Err)
    }

    /// Who has just been woken will read what it waits for next. `false` if anybody else waits.
    fn leave_to_threads(&mut self) -> bool {
        if self.more() || !self.shared.is_at_rest() {
            return false;
        }
        if let Some(inlet) = &mut self.inlet {
            inlet.detach();
        }
        self.polling.rest();
        self.watch = Some(clock::now() + WATCH);
        self.lay_down();
        // A call may have been made since.
        if !self.shared.is_at_rest() {
            self.shared.take_back();
        }
        true
    }

    /// Whoever waits may read while this task sleeps.
    fn lay_down(&mut self) {
        if let Some(inlet) = self.inlet.take() {
            self.shared.lay_down(inlet);
        }
    }

    fn more(&self) -> bool {
        self.inlet.as_ref().is_some_and(|inlet| inlet.more)
    }

    /// For how many bytes the last frames have asked a place.
    fn landing(&mut self) -> usize {
        self.inlet.as_mut().map_or(0, |inlet| std::mem::take(&mut inlet.landing))
    }

    /// Whether there is more to do than to try again.
    fn is_called(&mut self, cx: &mut Context<'_>) -> bool {
        let called = self.shared.is_driver_called();
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
            self.shared.set_driver(cx.waker());
        }
        self.shared.set_thread();
        self.turns = self.turns.wrapping_add(1);
        // With more requests than one turn takes, turns are long.
        called || self.more() || !self.polling.is_hot() || self.turns % TURNS_PER_LOOK == 0
    }

    /// Receives, or sees to it that the task runs again when something has come: by trying again, or by sleeping.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        let Some(inlet) = &mut self.inlet else {
            return Poll::Pending;
        };
        if self.polling.is_hot() {
            if let Some(filled) = inlet.try_fill(self.polling.peer_is_here())? {
                self.polling.hit(self.alone);
                self.awake += 1;
                if self.awake == AWAKE_LONG && T::Receiver::DETACHES {
                    inlet.detach();
                }
                return Poll::Ready(Ok(filled));
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
        self.awake = 0;
        let filled = ready!(inlet.poll_fill(cx));
        self.polling.hit(false);
        Poll::Ready(filled)
    }

    /// On one thread the driver's turn comes with the queue; on several it may take a sleeping one's waking.
    fn tell_at_hand(&self) {
        self.shared.set_at_hand(self.polling.is_hot() || !self.dispatcher.is_multi_thread());
    }

    /// Whether the peer, which may sleep as this driver does, had better be woken before there is all for it.
    fn wakes_early(&self) -> bool {
        T::Writer::COSTLY && !self.polling.is_hot() && is_parallel()
    }

    fn take_frames(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        let early = self.wakes_early();
        let Some(inlet) = &mut self.inlet else {
            return Ok(());
        };
        let Taken { handled, changed, .. } = inlet.take_frames(&self.shared, None);
        if inlet.effects.events.is_empty() {
            wake_callers(&self.shared, &mut inlet.effects, early, cx);
        } else {
            settle(&self.shared, &mut self.dispatcher, &mut inlet.effects, early, cx);
        }
        inlet.more = handled?;
        if changed {
            self.shared.tell_changed();
        }
        Ok(())
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
            let Some(due) = [due, stall, finish, rest, self.watch].into_iter().flatten().min() else {
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
            if self.watch.take_if(|watch| *watch <= now).is_some() {
                cx.waker().wake_by_ref();
            }
            let handled = self.shared.lock().protocol.handle_timeout(now, &mut self.effects);
            // Also after an error: whose wakers are here has an outcome, and nobody else will wake them.
            settle(&self.shared, &mut self.dispatcher, &mut self.effects, false, cx);
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
        let frames = self.inlet.as_ref().map(|inlet| inlet.frames);
        if let Some(frames) = frames.filter(|frames| self.rest.is_none() && self.rested != *frames) {
            self.rest = Some((clock::now() + REST, frames));
        }
        self.rest.map(|(at, _)| at)
    }

    fn look_for_rest(&mut self, now: Instant) {
        let rest = self.rest.take_if(|(at, _)| *at <= now);
        // While a thread reads there is no rest.
        if let (Some((_, before)), Some(inlet)) = (rest, &mut self.inlet) {
            if before == inlet.frames {
                self.rested = inlet.frames;
                inlet.receiver.idle();
                self.dispatcher.rest();
                inlet.effects.events.shrink_to_fit();
                inlet.effects.wakers.shrink_to_fit();
                self.shared.rest();
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
        if self.inlet.is_none() {
            // A thread that still has it leaves in a moment, since its call has an outcome, and wakes this task.
            self.shared.want_inlet();
            self.inlet = self.shared.take_up(&mut self.leads);
            if let Some(inlet) = &mut self.inlet {
                // What it has left gets its end as well.
                settle(&self.shared, &mut self.dispatcher, &mut inlet.effects, false, cx);
            }
        }
        let Some(inlet) = &mut self.inlet else {
            return self.poll_linger(cx, until);
        };
        for _ in 0..READS_PER_TURN {
            match inlet.poll_fill(cx) {
                Poll::Ready(Ok(Filled::Some)) => {
                    drop(inlet.receiver.landed());
                    while let Ok(Some(_)) = inlet.receiver.frame() {
                        inlet.receiver.consume();
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.poll_linger(cx, until),
            }
            if inlet.receiver.frame().is_err() {
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

/// Whether two threads of this program can run at the same time.
fn is_parallel() -> bool {
    static PARALLEL: OnceLock<bool> = OnceLock::new();
    *PARALLEL.get_or_init(|| available_parallelism().is_ok_and(|processors| processors.get() > 1))
}

fn wake_callers<T: Transport>(shared: &Shared<T>, effects: &mut Effects, early: bool, cx: &Context<'_>) {
    if !effects.wakers.is_empty() {
        shared.wake_callers(&mut effects.wakers, cx.waker(), early);
    }
}

/// Does what frames or the time have asked for, and sends what came of it.
fn settle<T: Transport>(
    shared: &Shared<T>,
    dispatcher: &mut Dispatcher,
    effects: &mut Effects,
    early: bool,
    cx: &Context<'_>,
) {
    wake_callers(shared, effects, early, cx);
    loop {
        // Mostly nobody has waited for what was done.
        if dispatcher.handle_all(&mut effects.events, early) {
            if !shared.ready.load(Ordering::Relaxed) {
                return;
            }
            shared.take_ready(&mut effects.events);
        } else if dispatcher.done().is_empty() {
            return shared.flush();
        } else {
            shared.finish_all(dispatcher.done(), &mut effects.events);
        }
        if effects.events.is_empty() {
            return;
        }
    }
}
