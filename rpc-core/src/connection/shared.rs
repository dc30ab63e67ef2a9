//! What the driver, the callers and the handlers of one connection share.

mod link;
mod writing;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use self::writing::{Pen, WriteTurn};
use super::dispatch::Done;
use super::inlet::Berth;
use super::values::Values;
use super::{Closing, EARLY_MIN, Looker, Next};
use crate::body::{self, Body, Parts};
use crate::call_layer::CallLayers;
use crate::error::{CloseReason, ConnectionError};
use crate::limits::Limits;
use crate::protocol::{Attempt, Begun, Events, NewCall, Protocol, Spent};
use crate::rare::Rare;
use crate::transport::{BatchWriter, FrameSender, Lent, Properties, Transport};

/// One connection, with its transport's type. Everybody else holds it as [`Link`](super::Link).
pub(super) struct Shared<T: Transport> {
    /// Held for moments only: never over a system call, and never while somebody else's code runs (a waker, a
    /// `Serialize`, a handler, the drop of any of them).
    state: Mutex<State<T::Sender>>,
    /// Who writes, one at a time.
    turn: WriteTurn,
    /// Used by whoever has the turn, so nobody ever waits for it.
    outlet: Mutex<Outlet<T::Writer>>,
    /// The receiving half while nobody reads. Held for moments, and never while the state is.
    pub(super) berth: Mutex<Berth<T::Receiver>>,
    /// The inlet has been left there, and what comes wakes nobody.
    pub(super) left: AtomicBool,
    /// Somebody else would have read, but the driver had the inlet.
    pub(super) asked: AtomicBool,
    /// Whether others than the driver may read.
    pub(super) leads: Leads,
    /// The last call of a future or a task was one to look for. A hint.
    looks: AtomicBool,
    /// The driver, once woken, runs soon. A hint.
    at_hand: AtomicBool,
    /// The thread on which the driver was polled last.
    thread: AtomicUsize,
    /// Told of the handshake, of the peer's drain, of the end.
    changed: Notify,
    /// Whether encoded replies take more memory than they may, as of the last time one was added. A hint: who sees it
    /// asks under the lock.
    crowded: AtomicBool,
    /// The same of items that streams have to send.
    pub(super) glutted: AtomicBool,
    /// Calls that have waited for others are to be started. The driver is woken after it is set.
    pub(super) ready: AtomicBool,
    /// Somebody wants more of the driver than that it reads. Set before it is woken.
    called: AtomicBool,
    pub(super) id: u64,
    instance: u128,
    pub(super) properties: Properties,
    pub(super) limits: Limits,
    values: Values,
    call_layers: Option<Arc<CallLayers>>,
    /// The driver's, where streams are driven as well.
    pub(super) runtime: Handle,
}

/// Who else than the driver may read.
#[derive(Clone, Copy)]
pub(super) struct Leads {
    /// Threads, and futures that are in no task.
    pub(super) anybody: bool,
    /// Tasks as well.
    pub(super) tasks: bool,
}

pub(super) struct State<S> {
    pub(super) protocol: Protocol,
    pub(super) sender: S,
    /// The sender's position up to which batches have been taken, or nothing is left to do for what was sent at once.
    taken: u64,
    /// Up to where the peer may see what was sent at once.
    sent: u64,
    /// The mechanism takes no more; the driver waits for it, since when.
    pub(super) blocked: bool,
    pub(super) failed: Option<ConnectionError>,
    /// Nothing goes out any more.
    mute: bool,
    /// The driver will run after the callers it has just woken, and flush for all of them.
    driver_scheduled: bool,
    /// The first of those frames leaves at once: the peer sleeps, and wakes up while the others are made.
    early: bool,
    /// A caller has written since the driver looked last.
    pub(super) wrote: bool,
    /// How many calls in a row have gone alone, and were answered before it was no longer worth while to look.
    pub(super) alone: u32,
    driver: Option<Waker>,
    pub(super) closing: Closing,
    pub(super) draining: bool,
}

struct Outlet<W: BatchWriter> {
    /// Gone when the driver is: what it holds of the system must not live as long as the last client does.
    writer: Option<W>,
    batch: W::Batch,
}

/// Reasons to expect something.
pub(super) struct Outlook {
    /// The mechanism took no more.
    pub(super) blocked: bool,
    /// Calls of this side in flight.
    pub(super) calls: usize,
    /// The peer makes calls.
    pub(super) serves: bool,
}

/// What a locked section leaves to be done outside.
pub(super) struct After<'a, W: BatchWriter> {
    pen: Option<Pen<'a, W>>,
    pub(super) wake_driver: Option<Waker>,
    wakers: Vec<Waker>,
    spent: Rare<Vec<Spent>>,
}

impl<W: BatchWriter> Default for After<'_, W> {
    fn default() -> Self {
        After { pen: None, wake_driver: None, wakers: Vec::new(), spent: Rare::none() }
    }
}

impl<W: BatchWriter> After<'_, W> {
    /// Mostly there is nothing left: a frame over shared memory has gone, and nobody is to be woken.
    #[inline]
    fn is_something(&self) -> bool {
        self.pen.is_some() | self.wake_driver.is_some() | !self.wakers.is_empty() | self.spent.is_some()
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl<T: Transport> Shared<T> {
    pub(super) fn new(
        protocol: Protocol,
        limits: Limits,
        properties: Properties,
        call_layers: Option<Arc<CallLayers>>,
        (sender, writer): (T::Sender, T::Writer),
        leads: Leads,
    ) -> Shared<T> {
        let instance = protocol.instance();
        Shared {
            state: Mutex::new(State {
                protocol,
                sender,
                taken: 0,
                sent: 0,
                blocked: false,
                failed: None,
                mute: false,
                driver_scheduled: false,
                early: false,
                wrote: false,
                alone: 0,
                driver: None,
                closing: Closing::No,
                draining: false,
            }),
            turn: WriteTurn::default(),
            outlet: Mutex::new(Outlet { writer: Some(writer), batch: Default::default() }),
            berth: Mutex::default(),
            left: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            leads,
            looks: AtomicBool::new(false),
            at_hand: AtomicBool::new(false),
            thread: AtomicUsize::new(0),
            changed: Notify::new(),
            crowded: AtomicBool::new(false),
            glutted: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            called: AtomicBool::new(true),
            // Unique, and ordered with nothing.
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            instance,
            properties,
            limits,
            values: Values::default(),
            call_layers,
            runtime: Handle::current(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<T::Sender>> {
        // Nothing panics under it but a bug of ours; then going on is no worse than poisoning every caller.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outlet(&self) -> MutexGuard<'_, Outlet<T::Writer>> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the protocol under the lock, then places and sends what came of it.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State<T::Sender>, &mut Vec<Waker>) -> R) -> R {
        let mut after = After::default();
        let result = {
            let mut state = self.lock();
            let result = f(&mut state, &mut after.wakers);
            let State { protocol, sender, .. } = &mut *state;
            let all = protocol.transmit(sender, &mut after.wakers);
            after.spent = protocol.take_spent();
            self.crowded.store(protocol.is_crowded(), Ordering::Relaxed);
            self.claim_write(&mut state, all, &mut after);
            if state.protocol.has_ready() {
                self.ready.store(true, Ordering::Relaxed);
                after.wake_driver = state.driver.clone();
            } else {
                after.wake_driver = state.driver_if_due();
            }
            result
        };
        self.finish_outside(after);
        result
    }

    #[inline]
    pub(super) fn finish_outside(&self, after: After<'_, T::Writer>) {
        self.finish_lending(after, None);
    }

    /// The same, where what was placed may be lent.
    #[inline]
    fn finish_lending(&self, after: After<'_, T::Writer>, lent: Option<&Lent<'_>>) {
        if after.is_something() {
            self.finish_something(after, lent);
        }
    }

    fn finish_something(&self, after: After<'_, T::Writer>, lent: Option<&Lent<'_>>) {
        let After { pen, wake_driver, wakers, spent } = after;
        // Also if a transport of the program's own panics while it writes.
        let _wake = Wake { shared: self, wakers, spent, driver: wake_driver };
        if let Some(pen) = pen {
            self.write_out(pen, lent);
        }
    }

    /// Has the driver look after everything.
    pub(super) fn call(&self, driver: Option<Waker>) {
        if let Some(driver) = driver {
            // Pairs with the swap in `is_driver_called`. What it is called for lies behind the lock.
            self.called.store(true, Ordering::Release);
            driver.wake();
        }
    }

    pub(super) fn call_driver(&self) {
        let driver = self.lock().driver.clone();
        self.call(driver);
    }

    /// Whether nothing is waited for that the driver would have to read.
    pub(super) fn is_at_rest(&self) -> bool {
        self.lock().is_at_rest()
    }

    /// Sends what is placed and owed, unless somebody else is at it.
    pub(super) fn flush(&self) {
        let after = self.transmit(&mut self.lock());
        self.finish_outside(after);
    }

    /// For the driver: calls that have waited for others, and wait no longer.
    #[cold]
    pub(super) fn take_ready(&self, events: &mut Events) {
        self.ready.store(false, Ordering::Relaxed);
        self.lock().protocol.take_ready(events);
    }

    /// Places what is owed, and takes the pen if there is anything to write: for [`finish_outside`](Self::finish_outside).
    pub(super) fn transmit(&self, state: &mut State<T::Sender>) -> After<'_, T::Writer> {
        let mut after = After::default();
        let State { protocol, sender, .. } = state;
        let all = protocol.transmit(sender, &mut after.wakers);
        after.spent = protocol.take_spent();
        self.claim_write(state, all, &mut after);
        after
    }

    /// What a driver that has found nothing has to know.
    pub(super) fn outlook(&self) -> Outlook {
        let mut state = self.lock();
        state.wrote = false;
        Outlook { blocked: state.blocked, calls: state.protocol.calls_live(), serves: state.protocol.serves() }
    }

    fn attempt(
        &self,
        call: &NewCall,
        payload: Parts<'_>,
        copy: &mut Option<Body>,
        waker: &mut Option<Waker>,
        next: &mut Next,
    ) -> Attempt {
        let mut after = After::default();
        let (begun, lend) = {
            let mut state = self.lock();
            let lend = self.may_lend(&state, payload.len());
            let State { protocol, sender, .. } = &mut *state;
            let (begun, rearm) = protocol.begin(call, payload, lend, copy, waker, sender);
            if let Next::Looks(looker @ (Looker::Future | Looker::Task)) = *next {
                let placed = matches!(begun, Attempt::Done(Begun::Placed(_)));
                let is_alone = placed && self.leads.anybody && protocol.awaits_one_call();
                state.alone = if is_alone { state.alone.saturating_add(1) } else { 0 };
                // A task of another runtime might keep its worker from sleeping.
                let may =
                    || self.leads.tasks && state.alone > ALONE_LONG && self.thread.load(Ordering::Relaxed) == here();
                let looks = is_alone && (looker != Looker::Task || may());
                if !looks {
                    *next = Next::Awaits;
                }
                self.looks.store(looks, Ordering::Relaxed);
            }
            match begun {
                Attempt::Done(Begun::Placed(_))
                    if !lend
                        && *next == Next::Awaits
                        && self.has_company(&state)
                        && !std::mem::take(&mut state.early) =>
                {
                    if !std::mem::replace(&mut state.driver_scheduled, true) {
                        after.wake_driver = state.driver.clone();
                    }
                }
                // What keeps one waiting may be that nobody writes.
                Attempt::Done(Begun::Placed(_)) => {
                    state.wrote = true;
                    self.claim_write(&mut state, true, &mut after);
                }
                Attempt::Done(Begun::Queued(_)) | Attempt::Lent(_) => self.claim_write(&mut state, false, &mut after),
                Attempt::Done(Begun::Starved | Begun::Failed(_) | Begun::Part { .. }) | Attempt::Unowned => {}
            }
            if rearm {
                after.wake_driver = state.driver.clone();
            }
            (begun, lend)
        };
        self.finish_lending(after, lend.then_some(&Lent(payload)));
        begun
    }

    /// Has `waker` called when call `id`, which was placed without one, has its answer.
    fn await_answer(&self, id: u64, waker: &Waker) {
        let mut given = Some(waker.clone());
        if self.lock().protocol.caller().await_answer(id, &mut given) {
            waker.wake_by_ref();
        }
    }

    /// Whether others write as well before the driver looks again, so that their frames had better leave together: those of
    /// callers that it has just woken, since it runs right after them; and where a write costs much, all after the first,
    /// unless it would have to be waited for.
    fn has_company(&self, state: &State<T::Sender>) -> bool {
        let others = || T::Writer::COSTLY && state.wrote && self.at_hand.load(Ordering::Relaxed);
        state.protocol.calls_live() > 1 && (state.driver_scheduled || others())
    }

    /// Whether the driver, once woken, runs soon.
    pub(super) fn set_at_hand(&self, at_hand: bool) {
        if self.at_hand.load(Ordering::Relaxed) != at_hand {
            self.at_hand.store(at_hand, Ordering::Relaxed);
        }
    }

    /// The driver is on this thread.
    pub(super) fn set_thread(&self) {
        let here = here();
        if self.thread.load(Ordering::Relaxed) != here {
            self.thread.store(here, Ordering::Relaxed);
        }
    }

    /// Whether somebody is writing what the driver has not written itself.
    pub(super) fn is_writing(&self) -> bool {
        self.turn.is_taken()
    }

    /// Up to where the mechanism has taken everything.
    pub(super) fn written(&self) -> u64 {
        let outlet = self.outlet();
        let shown = self.lock().shown();
        outlet.writer.as_ref().map_or(0, |writer| writer.written().max(shown))
    }

    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.outlet().writer {
            Some(writer) => writer.poll_shutdown(cx).map(|_| ()),
            None => Poll::Ready(()),
        }
    }

    /// Whether the driver has been called since this was asked last. Then nobody need leave frames to it any more.
    pub(super) fn is_driver_called(&self) -> bool {
        // Mostly nobody has; to look is cheaper than to take.
        let called = self.called.load(Ordering::Relaxed) && self.called.swap(false, Ordering::Acquire);
        if called {
            let mut state = self.lock();
            state.driver_scheduled = false;
            state.early = false;
            state.wrote = false;
        }
        called
    }

    /// How to wake the driver from now on.
    pub(super) fn set_driver(&self, waker: &Waker) {
        let old = self.lock().driver.replace(waker.clone());
        drop(old);
    }

    /// Wakes callers whose calls have ended. Where there are several, the driver runs again after them, so that the
    /// calls they make next leave together.
    pub(super) fn wake_callers(&self, wakers: &mut Vec<Waker>, driver: &Waker, early: bool) {
        let several = wakers.len() > 1;
        if several {
            let mut state = self.lock();
            state.driver_scheduled = true;
            state.early |= early && wakers.len() >= EARLY_MIN;
        }
        wake_all(wakers.drain(..));
        if several {
            self.call(Some(driver.clone()));
        }
    }

    /// The end: every call gets its outcome. `sent_all`: what was placed still goes out, so it counts as sent; else
    /// nothing more does, so that what has not gone out by now certainly never will.
    pub(super) fn end(&self, error: ConnectionError, sent_all: bool) {
        let mut wakers = Vec::new();
        let mut spent = {
            // Waits for somebody who is writing just now, for the length of a system call that does not block.
            let outlet = self.outlet();
            let mut state = self.lock();
            let written = match &outlet.writer {
                Some(writer) if !sent_all => writer.written().max(state.shown()),
                _ => u64::MAX - 1,
            };
            state.mute |= !sent_all;
            state.protocol.end(error, written, &mut wakers);
            state.protocol.take_spent()
        };
        wake_all(wakers);
        self.changed.notify_waiters();
        drop_all(&mut spent);
    }

    /// Tells those who wait for the handshake or for the peer's drain.
    pub(super) fn tell_changed(&self) {
        self.changed.notify_waiters();
    }

    /// Hands replies of handlers that the driver has run itself to the peer, all at once.
    /// `events` gets what is to be started that has waited for them.
    pub(super) fn finish_all(&self, done: &mut Done, events: &mut Events) {
        self.with(|State { protocol, sender, .. }, _| {
            done.each(|id, how, payload| protocol.finish(id, how, payload, sender));
            protocol.take_ready(events);
        });
    }

    /// Nothing has come for a while: gives memory back.
    pub(super) fn rest(&self) {
        let mut state = self.lock();
        state.protocol.rest();
        state.sender.idle();
        // Who has the turn to write has the batch in use.
        if !self.turn.is_taken() && !state.blocked {
            if let Ok(mut outlet) = self.outlet.try_lock() {
                outlet.batch = Default::default();
            }
        }
    }

    /// The last word: CLOSE after everything that is owed.
    pub(super) fn say_close(&self, reason: CloseReason) {
        self.with(|state, _| state.protocol.close(reason));
    }
}

impl<S: FrameSender> State<S> {
    /// How to wake the driver.
    pub(super) fn driver(&self) -> Option<Waker> {
        self.driver.clone()
    }

    /// Whether nobody needs the driver for anything but reading.
    pub(super) fn is_undisturbed(&self) -> bool {
        !self.blocked && !self.draining && self.closing == Closing::No
    }

    /// Whether nothing is waited for that the driver would have to read.
    pub(super) fn is_at_rest(&self) -> bool {
        self.protocol.awaits_nothing() && self.is_undisturbed()
    }

    /// Up to where the peer may see what the writer need not know of.
    fn shown(&self) -> u64 {
        self.sent.max(self.sender.shown())
    }

    /// Whether anything placed may go out now.
    fn may_write(&self) -> bool {
        !self.blocked && !self.mute && self.failed.is_none()
    }

    /// The driver, if it has to look at the time, or if what somebody here wants of it can be done now.
    pub(super) fn driver_if_due(&mut self) -> Option<Waker> {
        if self.protocol.needs_sweep() { self.driver.clone() } else { self.driver_if_done() }
    }

    /// The driver, if what somebody here wants of it can be done now.
    fn driver_if_done(&self) -> Option<Waker> {
        let done =
            (self.draining && self.protocol.drained()) || (self.closing == Closing::Gently && self.protocol.idle());
        if done { self.driver.clone() } else { None }
    }

    /// Moves what is placed, or what there is room for now, into the batch; `false` if there is nothing.
    fn take_batch(&mut self, batch: &mut S::Batch, wakers: &mut Vec<Waker>) -> bool {
        let mut taken = !self.mute && self.sender.take_batch(batch);
        if !taken && !self.mute {
            self.protocol.transmit(&mut self.sender, wakers);
            taken = self.sender.take_batch(batch);
        }
        self.taken = self.sender.position();
        taken
    }

    /// What the peer is told when this side closes.
    pub(super) fn close_reason(&self) -> CloseReason {
        match self.closing {
            Closing::Now(reason) => reason,
            _ if self.draining => CloseReason::ShuttingDown,
            _ => CloseReason::Normal,
        }
    }
}

/// After so many calls in a row that went alone, a task may read its own reply: to have the driver stop and begin again for a
/// task that makes one call now and two then would cost more than that saves.
const ALONE_LONG: u32 = 64;

/// Tells this thread from all others, but for those that have ended.
fn here() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    HERE.try_with(|here| std::ptr::from_ref(here).addr()).unwrap_or(0)
}

/// Wakes everybody, also where one of them panics.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}

/// Drops what belongs to the program, also where that panics.
#[cold]
fn drop_all(spent: &mut Rare<Vec<Spent>>) {
    for spent in spent.take().unwrap_or_default() {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(spent)));
    }
}

/// Those to be woken at the end, whatever that is, and what is to be dropped then.
struct Wake<'a, T: Transport> {
    shared: &'a Shared<T>,
    wakers: Vec<Waker>,
    spent: Rare<Vec<Spent>>,
    driver: Option<Waker>,
}

impl<T: Transport> Drop for Wake<'_, T> {
    fn drop(&mut self) {
        if !self.wakers.is_empty() {
            wake_all(self.wakers.drain(..));
        }
        self.shared.call(self.driver.take());
        if self.spent.is_some() {
            drop_all(&mut self.spent);
        }
    }
}

/// The last thing a driver does, whatever happens to it: nobody may wait for ever.
pub(super) struct EndGuard<T: Transport>(pub(super) Arc<Shared<T>>);

impl<T: Transport> Drop for EndGuard<T> {
    fn drop(&mut self) {
        self.0.end(ConnectionError::RuntimeGone, true);
        self.0.sink();
        let outlet = {
            let mut outlet = self.0.outlet();
            (outlet.writer.take(), std::mem::take(&mut outlet.batch))
        };
        drop(outlet);
        self.0.lock().sender.release();
        self.0.values.end();
        body::forget_spare();
    }
}
