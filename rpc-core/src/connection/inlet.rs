//! Who reads: the driver, or who waits for a call.
//!
//! Whoever reads has the [`Inlet`] for itself. It is in one of these places:
//!
//! | where | who reads | what comes wakes |
//! |---|---|---|
//! | with the driver | the driver, awake | nobody; it looks again by itself |
//! | in the berth, attached | nobody | the driver, which takes it |
//! | with a thread | a thread in [`Call::wait`](crate::Call::wait), which looks again for as long as a driver would | nobody |
//! | with a future, in its poll | the future of a call, some times; then it is polled again, for as long as a driver would look | nobody |
//! | in the berth, detached | nobody: who read has its answer, and nothing else is waited for; or it is a future that is about to be polled again | nobody; the driver takes it soon |
//!
//! The last is what spares a thread that makes one call after another the driver's waking: with each call, the runtime's
//! thread would be woken by what comes, to find that it is gone. What comes unasked meanwhile waits for [`WATCH`] or two,
//! and so does the reply to a future that is not polled again. Whoever wants more of a detached inlet, a task that makes a
//! call, say, has the driver take it at once.
//!
//! A future reads in one of two cases. It is not in a task of tokio's, but what a runtime was entered with, `main` for most: to
//! wake that takes a system call on a current-thread runtime, and on one of several threads wakes a thread that sleeps, which
//! is most of the latency. Or it is in a task on the driver's own current-thread runtime, calls have gone alone for
//! [long](super::shared), and to look is to read memory: then to be woken by the driver, which is in the same queue, would be a
//! good part of the call. Other tasks have the driver read.
//!
//! Who reads in the poll of a call takes the answer in the same turn of the connection's lock in which its frame is handled.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;

use super::polling::Polling;
use super::shared::{Shared, wake_all};
use super::{Closing, Looked, Looker};
use crate::context::refuse_wait;
use crate::error::{ConnectionError, HandshakeError};
use crate::frame::HEAD_LEN_MAX;
use crate::latency::Latency;
use crate::protocol::{Answer, Effects, Protocol};
use crate::transport::{Filled, FrameReceiver, Lease, Transport};
use crate::waiter::{Glance, Reader, Waiter};

/// What is received, with everything that belongs to receiving.
pub(super) struct Inlet<R> {
    pub(super) receiver: R,
    /// There may be frames in the receiver that nobody has looked at.
    pub(super) more: bool,
    /// Bytes for which the last frames asked a place.
    pub(super) landing: usize,
    /// Bytes of long messages that have gone the other way.
    pub(super) sent: u64,
    pub(super) effects: Effects,
    /// Frames received.
    pub(super) frames: u64,
    /// How the connection has ended for who was reading.
    pub(super) failed: Option<ConnectionError>,
    /// Whether what comes wakes nobody.
    detached: bool,
    /// How threads and futures wait; the driver has its own.
    polling: Polling,
    /// The call for which a future has begun to wait.
    awaited: u64,
    /// Nothing was waited for when frames were handled last.
    rests: bool,
    /// The driver's, in which wakers expect to be woken.
    runtime: Handle,
}

/// Who had an outcome when a transport of the program's own panicked hears of it all the same.
impl<R> Drop for Inlet<R> {
    fn drop(&mut self) {
        wake_all(self.effects.wakers.drain(..));
    }
}

/// Where the inlet lies while nobody reads.
pub(super) struct Berth<R> {
    inlet: Option<Box<Inlet<R>>>,
    /// The driver is to have it, at the next opportunity.
    wanted: bool,
    /// The driver will look by itself whether others still use it.
    watched: bool,
    /// How often others have taken it.
    leads: u64,
    /// The driver is no more.
    gone: bool,
}

impl<R> Default for Berth<R> {
    fn default() -> Self {
        Berth { inlet: None, wanted: false, watched: false, leads: 0, gone: false }
    }
}

/// How long the driver waits before it looks again whether others still read.
pub(super) const WATCH: Duration = Duration::from_millis(10);

/// What came of looking at what was received.
pub(super) struct Taken {
    /// `true` if there may be more.
    pub(super) handled: Result<bool, ConnectionError>,
    /// See [`Protocol::take_changed`](crate::protocol::Protocol::take_changed).
    pub(super) changed: bool,
    /// The answer that was asked for is there.
    answered: bool,
}

/// A call of whoever reads, and where its answer goes.
pub(super) struct Asked<'a> {
    id: u64,
    answer: &'a mut Answer,
}

impl<R: FrameReceiver> Inlet<R> {
    pub(super) fn new(receiver: R, latency: Latency) -> Box<Inlet<R>> {
        Box::new(Inlet {
            receiver,
            more: false,
            landing: 0,
            sent: 0,
            effects: Effects::default(),
            frames: 0,
            failed: None,
            detached: false,
            polling: Polling::new(latency, false),
            awaited: 0,
            rests: false,
            runtime: Handle::current(),
        })
    }

    /// Asks the mechanism as often as it is worth before others have their turn: a peer on this processor does nothing
    /// meanwhile.
    pub(super) fn try_fill(&mut self, peer_is_here: bool) -> io::Result<Option<Filled>> {
        let tries = if peer_is_here { 1 } else { R::TRIES_PER_TURN };
        for tried in 0..tries {
            if tried > 0 {
                std::hint::spin_loop();
            }
            if let Some(filled) = self.receiver.try_fill()? {
                return Ok(Some(filled));
            }
        }
        Ok(None)
    }

    /// What comes wakes nobody any more.
    pub(super) fn detach(&mut self) {
        if !std::mem::replace(&mut self.detached, true) {
            self.receiver.detach();
        }
    }

    /// Receives, or has the driver woken when something comes.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        self.detached = false;
        self.receiver.poll_fill(cx)
    }

    /// Handles the frames that are there, up to as many requests as one turn takes, and sends what they ask for. Whom to
    /// wake and what to serve is in `effects`.
    pub(super) fn take_frames<T: Transport<Receiver = R>>(
        &mut self,
        shared: &Shared<T>,
        asked: Option<&mut Asked<'_>>,
    ) -> Taken {
        let max = shared.limits.requests_per_wake;
        let (handled, changed, answered, after) = {
            let mut state = shared.lock();
            state.wrote = false;
            // The driver may have ended it while a thread was reading.
            let ended = state.protocol.ended().cloned();
            let handled = loop {
                if let Some(error) = ended {
                    break Err(error);
                }
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
                        Ok(None) => match self.lend(&state.protocol) {
                            Some((head, len, lease)) => {
                                state.protocol.handle_lent(&head[..len], lease, &mut self.effects)
                            }
                            None => {
                                let place = self.receiver.partial().and_then(|partial| state.protocol.offer(&partial));
                                if let Some(place) = place {
                                    self.landing = place.missing();
                                    self.receiver.land(place);
                                }
                                break Ok(false);
                            }
                        },
                        // Before the handshake it is no frame gone wrong, but something else altogether.
                        Err(_) if !state.protocol.is_open() => {
                            break Err(ConnectionError::Protocol(HandshakeError::NotTrunkline.into()));
                        }
                        Err(error) => break Err(ConnectionError::Protocol(error.into())),
                    }
                };
                self.frames = self.frames.wrapping_add(1);
                if let Err(error) = handled {
                    break Err(*error);
                }
                if self.effects.events.len() >= max {
                    break Ok(true);
                }
            };
            // Spares whoever reads for itself to come for it.
            let answered = asked.is_some_and(|Asked { id, answer }| state.protocol.poll_call(*id, &mut None, answer).0);
            // With requests, what there is to send comes after them.
            let after = self.effects.events.is_empty().then(|| {
                let mut after = shared.transmit(&mut state);
                if answered {
                    after.wake_driver = state.driver_if_due();
                }
                after
            });
            self.sent = state.protocol.long_sent();
            self.rests = shared.leads.anybody && state.is_at_rest();
            (handled, state.protocol.take_changed(), answered, after)
        };
        if let Some(after) = after {
            shared.finish_outside(after);
        }
        Taken { handled, changed, answered }
    }

    /// The next frame, if its payload can stay where it is: all that comes before the payload, in so many bytes; and that.
    fn lend(&mut self, protocol: &Protocol) -> Option<([u8; HEAD_LEN_MAX], usize, Lease)> {
        if !R::LENDS {
            return None;
        }
        let partial = self.receiver.partial()?;
        let len = protocol.whole(&partial)?;
        let mut head = [0; HEAD_LEN_MAX];
        head[..len].copy_from_slice(&partial.bytes[..len]);
        Some((head, len, self.receiver.lend(len)?))
    }
}

impl<T: Transport> Shared<T> {
    fn berth(&self) -> MutexGuard<'_, Berth<T::Receiver>> {
        self.berth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets threads read while the driver sleeps: what comes wakes it, unless the inlet is detached.
    pub(super) fn lay_down(&self, inlet: Box<Inlet<T::Receiver>>) {
        let mut berth = self.berth();
        berth.watched = inlet.detached;
        self.left.store(inlet.detached, Ordering::Relaxed);
        berth.inlet = Some(inlet);
    }

    /// Whether a thread has asked for the inlet since this was asked last.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Relaxed)
    }

    /// The inlet, for the driver, if no thread has use for it; else the driver will look again, after [`WATCH`]. `seen` is
    /// how often threads had taken it when it looked last.
    pub(super) fn take_up(&self, seen: &mut u64) -> Option<Box<Inlet<T::Receiver>>> {
        let mut berth = self.berth();
        let leads = std::mem::replace(seen, berth.leads);
        let taken = berth.inlet.take_if(|inlet| !inlet.detached || leads == *seen);
        let mut inlet = if berth.wanted { taken.or_else(|| berth.inlet.take()) } else { taken };
        if let Some(inlet) = &mut inlet {
            inlet.polling.rest();
            berth.wanted = false;
            self.left.store(false, Ordering::Relaxed);
        }
        berth.watched = inlet.is_none();
        inlet
    }

    /// Has the driver read from now on. A thread that reads goes on until it has what it waits for.
    pub(super) fn want_inlet(&self) {
        self.berth().wanted = true;
    }

    /// Has the driver read, if nobody else does.
    pub(super) fn take_back(&self) {
        // Whoever left it stored this before looking under the connection's lock whether anything is waited for, and who
        // asks here has made that so under the same lock: one of the two sees the other.
        if self.left.load(Ordering::Relaxed) && self.left.swap(false, Ordering::Relaxed) {
            self.want_inlet();
            self.call_driver();
        }
    }

    /// The end: nothing is received any more. A thread that has the inlet drops it.
    pub(super) fn sink(&self) {
        let inlet = {
            let mut berth = self.berth();
            berth.gone = true;
            berth.inlet.take()
        };
        drop(inlet);
    }

    /// Reads on this thread until the call that it waits for is to be polled again, or its patience is over. Only where
    /// nobody else waits: a thread that reads for several has to wake them, and they do not make their calls together.
    pub(super) fn read_here(&self, waiter: &Waiter) {
        let lead = if self.is_led() { self.take_lead(|inlet| inlet.polling.begin()) } else { None };
        match lead {
            Some(mut lead) => _ = lead.read(waiter, u32::MAX, &mut None),
            None => self.take_back(),
        }
    }

    /// Reads in this poll of a call, if it is the only one that is waited for.
    pub(super) fn look(&self, id: u64, looker: Looker, cx: &mut Context<'_>, answer: &mut Answer) -> Looked {
        let mut patient = true;
        let goes_on = |inlet: &mut Inlet<_>| {
            let begins = std::mem::replace(&mut inlet.awaited, id) != id;
            patient = if begins { inlet.polling.begin() } else { inlet.polling.is_hot() };
            patient
        };
        let awaited = self.leads.anybody && {
            let mut state = self.lock();
            if !state.protocol.caller().is_undecided(id) {
                // Who has read the answer may have left the inlet to whoever calls next, or read on for another call.
                return Looked::NoMore;
            }
            state.protocol.awaits_only_one() && state.is_undisturbed()
        };
        let lead = if awaited { self.take_lead(goes_on) } else { None };
        let Some(mut lead) = lead else {
            if !patient {
                self.lock().alone = 0;
            }
            self.take_back();
            return Looked::NoMore;
        };
        let mut asked = Some(Asked { id, answer });
        lead.returns = lead.read(&Glance::new(cx.waker()), looker.looks(), &mut asked);
        if !lead.returns {
            drop(lead);
            if asked.is_none() {
                return Looked::Answer;
            }
            // Answers that take so long gain nothing by it.
            self.lock().alone = 0;
            return Looked::NoMore;
        }
        match &mut lead.inlet {
            Some(inlet) if looker == Looker::Task => {
                // A long reply that comes in is work.
                let worked = std::mem::take(&mut inlet.landing) > 0;
                inlet.polling.schedule(worked, cx);
            }
            // The scheduler that is here may have nothing to do with it.
            _ => cx.waker().wake_by_ref(),
        }
        Looked::Again
    }

    /// The inlet, if it is there and `begin` finds that to look is worth it.
    fn take_lead(&self, begin: impl FnOnce(&mut Inlet<T::Receiver>) -> bool) -> Option<Lead<'_, T>> {
        let mut berth = self.berth();
        let Berth { inlet, wanted, leads, .. } = &mut *berth;
        let Some(lying) = inlet.as_mut().filter(|_| !*wanted) else {
            self.asked.store(true, Ordering::Relaxed);
            return None;
        };
        if !begin(lying) {
            return None;
        }
        *leads += 1;
        // Before it is looked, under the connection's lock, whether anything else is waited for.
        self.left.store(true, Ordering::Relaxed);
        inlet.take().map(|inlet| Lead { shared: self, inlet: Some(inlet), returns: false, orderly: false })
    }

    /// Whether others than the driver may read, and only one of them waits.
    fn is_led(&self) -> bool {
        self.leads.anybody && {
            let state = self.lock();
            state.protocol.awaits_one_call() && state.is_undisturbed()
        }
    }
}

/// A thread that reads, or a future in its poll.
struct Lead<'a, T: Transport> {
    shared: &'a Shared<T>,
    /// Here until it is left.
    inlet: Option<Box<Inlet<T::Receiver>>>,
    /// It comes back by itself to read on.
    returns: bool,
    /// It has not panicked.
    orderly: bool,
}

impl<T: Transport> Lead<'_, T> {
    /// `true` if that was not worth it yet, and is to go on. What is `asked` for is taken once it is there.
    fn read(&mut self, reader: &impl Reader, looks: u32, asked: &mut Option<Asked<'_>>) -> bool {
        let Some(inlet) = &mut self.inlet else { return false };
        inlet.detach();
        inlet.rests = false;
        // A waker that waited here would wait for this thread.
        let outcome = refuse_wait(|| inlet.read(self.shared, reader, looks, asked));
        self.orderly = true;
        match outcome {
            Ok(goes_on) => goes_on,
            Err(error) => {
                inlet.failed = Some(error);
                false
            }
        }
    }
}

impl<T: Transport> Drop for Lead<'_, T> {
    /// Nobody reads now. The driver is to, unless nothing is waited for, or who has read will be back for it.
    fn drop(&mut self) {
        let Some(mut inlet) = self.inlet.take() else { return };
        if !self.orderly {
            let panicked = io::Error::other("the transport panicked while it was read");
            inlet.failed.get_or_insert_with(|| panicked.into());
        }
        let urgent = inlet.failed.is_some() || inlet.more || !inlet.effects.events.is_empty();
        let rests = inlet.rests && !urgent;
        let watched = {
            let mut berth = self.shared.berth();
            if berth.gone {
                drop(berth);
                return drop(inlet);
            }
            berth.wanted |= urgent;
            let watched = berth.watched && !berth.wanted;
            berth.inlet = Some(inlet);
            self.shared.left.store(true, Ordering::Relaxed);
            watched
        };
        let settled = if self.returns { self.shared.is_led() } else { rests || self.shared.is_at_rest() };
        if !settled {
            self.shared.take_back();
        } else if !watched {
            self.shared.call_driver();
        }
    }
}

impl<R: FrameReceiver> Inlet<R> {
    /// As [`Shared::read_here`] and [`Shared::look`]. `true` if nothing has come by so many looks, and patience is not over.
    fn read<T: Transport<Receiver = R>>(
        &mut self,
        shared: &Shared<T>,
        reader: &impl Reader,
        looks: u32,
        asked: &mut Option<Asked<'_>>,
    ) -> Result<bool, ConnectionError> {
        let mut looked = 0;
        while !reader.is_woken() {
            if looked == looks {
                return Ok(true);
            }
            looked += 1;
            match self.try_fill(self.polling.peer_is_here())? {
                None if self.polling.tried() => {}
                None => return Ok(false),
                Some(Filled::Closed) => return Err(ConnectionError::PeerGone),
                Some(Filled::Some) => {
                    self.polling.hit_here();
                    let Taken { handled, changed, answered } = self.take_frames(shared, asked.as_mut());
                    if answered {
                        reader.note();
                        *asked = None;
                    }
                    let others = self.wake(reader);
                    if changed {
                        let _context = self.runtime.enter();
                        shared.tell_changed();
                    }
                    self.more = handled?;
                    // Requests and whatever else is not a reply to this side are the driver's; and so are replies, where
                    // others wait as well.
                    if self.more || others || !self.effects.events.is_empty() {
                        break;
                    }
                }
            }
        }
        self.polling.rest();
        Ok(false)
    }

    /// Wakes those whose calls have ended; whether there is anybody else among them.
    fn wake(&mut self, reader: &impl Reader) -> bool {
        match &self.effects.wakers[..] {
            [] => false,
            [waker] if waker.will_wake(reader.waker()) => {
                self.effects.wakers.clear();
                reader.note();
                false
            }
            _ => {
                // Wakers are woken where the driver would wake them.
                let _context = self.runtime.enter();
                wake_all(self.effects.wakers.drain(..));
                true
            }
        }
    }
}
