//! Who writes: whoever has placed something, one at a time, outside of the connection's lock.

use std::io;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};

use super::{After, Outlet, Shared, State, Wake};
use crate::body::{Body, Parts};
use crate::connection::Feeding;
use crate::error::ConnectionError;
use crate::protocol::{APART_LEN_MIN, Begun, Fed, NewWaker};
use crate::rare::Rare;
use crate::transport::{BatchWriter, FrameSender, Lent, Sent, Transport, Written};

/// Whose turn it is to write: nobody's, or somebody's, who looks for more before giving it back if that is asked for.
///
/// It is taken, and more is asked for, only under the connection's lock; it is given back without, by whoever has it, if
/// nobody has asked for more.
#[derive(Debug, Default)]
pub(super) struct WriteTurn(AtomicU8);

const FREE: u8 = 0;
const TAKEN: u8 = 1;
/// Taken, and there is more to write.
const MORE: u8 = 2;

impl WriteTurn {
    /// Takes the turn, or asks whoever has it to look for more. Under the connection's lock.
    fn claim(&self) -> bool {
        // From free nobody changes it without the lock. The swap meets the writer's `give_back`: one of the two is first.
        let free = self.0.load(Ordering::Acquire) == FREE || self.0.swap(MORE, Ordering::AcqRel) == FREE;
        if free {
            self.0.store(TAKEN, Ordering::Relaxed);
        }
        free
    }

    /// By whoever has it. `false`: it is asked to look for more first.
    fn give_back(&self) -> bool {
        self.0.compare_exchange(TAKEN, FREE, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// By whoever has it, under the connection's lock, having looked for more.
    fn looked(&self, found: bool) {
        self.0.store(if found { TAKEN } else { FREE }, Ordering::Release);
    }

    pub(super) fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire) != FREE
    }
}

/// The duty to write, of whoever has the turn.
pub(super) struct Pen<'a, W: BatchWriter> {
    outlet: Option<MutexGuard<'a, Outlet<W>>>,
    /// The batch has been taken already.
    loaded: bool,
    /// That batch is all there was to place.
    all: bool,
}

impl<T: Transport> Shared<T> {
    /// Whoever has placed something writes it, if nobody else does. `all`: nothing that is owed had no room.
    pub(super) fn claim_write<'a>(&'a self, state: &mut State<T::Sender>, all: bool, after: &mut After<'a, T::Writer>) {
        let anything = state.sender.position() != state.taken || state.sender.wants_room();
        if !anything || !state.may_write() {
            return;
        }
        if all {
            let sent = state.sender.send_at_once();
            if sent != Sent::Nothing {
                state.sent = state.sender.position();
            }
            if sent == Sent::All {
                state.taken = state.sent;
                return;
            }
        }
        if !self.turn.claim() {
            return;
        }
        after.pen = Some(match self.outlet.try_lock() {
            // Spares the writer a lock of its own.
            Ok(mut outlet) => {
                let loaded = state.take_batch(&mut outlet.batch, &mut after.wakers);
                Pen { outlet: Some(outlet), loaded, all }
            }
            Err(_) => Pen { outlet: None, loaded: false, all: false },
        });
    }

    /// Whether a payload of `len` bytes may stay with its caller, because it is that one who will write: the claim follows
    /// before the lock is let go of.
    pub(super) fn may_lend(&self, state: &State<T::Sender>, len: usize) -> bool {
        len >= APART_LEN_MIN && T::Writer::LENDS && state.sender.gathers() && state.may_write() && !self.turn.is_taken()
    }

    /// Writes until nothing is left or the mechanism takes no more.
    ///
    /// `lent` is what the first batch may have borrowed; at the end of this nothing is borrowed any more.
    pub(super) fn write_out(&self, pen: Pen<'_, T::Writer>, lent: Option<&Lent<'_>>) {
        let claim = Claim(self);
        let mut wake = Wake { shared: self, wakers: Vec::new(), spent: Rare::none(), driver: None };
        let (written, driver) = self.write_batches(pen, lent, &mut wake.wakers);
        std::mem::forget(claim);
        match written {
            Ok(Written::All) => wake.driver = driver,
            Ok(Written::Blocked) => self.hand_to_driver(None),
            Err(error) => self.hand_to_driver(Some(error.into())),
        }
    }

    /// `All` if the turn has been given back; then the driver, if it has something to do.
    ///
    /// After some batches the driver goes on: a caller is not to write for everybody else for ever.
    fn write_batches(
        &self,
        pen: Pen<'_, T::Writer>,
        mut lent: Option<&Lent<'_>>,
        wakers: &mut Vec<Waker>,
    ) -> (io::Result<Written>, Option<Waker>) {
        let mut outlet = pen.outlet.unwrap_or_else(|| self.outlet());
        let Pen { mut loaded, mut all, .. } = pen;
        let mut began = None;
        for _ in 0..BATCHES_PER_TURN {
            if !loaded {
                let mut state = self.lock();
                if state.taken - *began.get_or_insert(state.taken) >= WRITTEN_PER_TURN {
                    break;
                }
                let found = state.take_batch(&mut outlet.batch, wakers);
                self.turn.looked(found);
                if !found {
                    return (Ok(Written::All), state.driver_if_due());
                }
                all = false;
            }
            loaded = false;
            let Outlet { writer, batch } = &mut *outlet;
            let written = match (writer, lent.take()) {
                (Some(writer), None) => writer.try_write(batch),
                (Some(writer), Some(lent)) => writer.try_write_lent(batch, *lent),
                (None, _) => {
                    *batch = Default::default();
                    Ok(Written::All)
                }
            };
            match written {
                Ok(Written::All) if all && self.turn.give_back() => return (Ok(Written::All), None),
                Ok(Written::All) => {}
                written => return (written, None),
            }
        }
        let state = self.lock();
        self.turn.looked(false);
        (Ok(Written::All), state.driver.clone())
    }

    fn hand_to_driver(&self, error: Option<ConnectionError>) {
        let driver = {
            let mut state = self.lock();
            self.turn.looked(false);
            state.blocked = true;
            if error.is_some() {
                state.failed = error;
            }
            state.driver.clone()
        };
        self.call(driver);
    }

    /// Tries to go on with what was blocked, without registering anybody; whether anything moved.
    pub(in crate::connection) fn retry_blocked(&self) -> bool {
        let (written, moved) = {
            let mut outlet = self.outlet();
            let Outlet { writer: Some(writer), batch } = &mut *outlet else {
                return false;
            };
            let before = writer.written();
            let written = writer.try_write(batch);
            (written, writer.written() != before)
        };
        match written {
            Ok(Written::All) => {
                self.lock().blocked = false;
                self.flush();
                true
            }
            Ok(Written::Blocked) => moved,
            Err(error) => {
                self.hand_to_driver(Some(error.into()));
                true
            }
        }
    }

    /// Begins to send the rest of a long call, which is lent. What the mechanism does not take at once stays with the
    /// caller, if it is long, until the caller feeds or gives it; else it is copied.
    pub(super) fn begin_feeding(&self, id: u64, payload: Parts<'_>, oneway: bool) -> Begun {
        let (sent, feeding) = self.feed_turn(id, payload, &mut NewWaker::default());
        let room = match feeding {
            Feeding::Over => return Begun::Placed(id),
            Feeding::Room => true,
            Feeding::Blocked => false,
        };
        if payload.len() - sent > COPY_LEN_MAX {
            // Who made a oneway call is not to wait. What has all been encoded is given away, and nobody waits for it.
            let leave = || !oneway && self.with(|state, _| state.protocol.caller().leave(id));
            if payload.tail.is_empty() || leave() {
                return Begun::Part { id, room };
            }
        }
        let rest = Body::from(payload.range(sent, payload.len()));
        self.with(|state, _| state.protocol.caller().keep(id, rest));
        Begun::Placed(id)
    }

    /// Sends more of a lent call from where it lies, as far as the mechanism takes it at once and it is its turn; how much
    /// of it is sent then.
    pub(super) fn feed_turn(&self, id: u64, payload: Parts<'_>, waker: &mut NewWaker) -> (usize, Feeding) {
        let mut began = None;
        let mut before = None;
        loop {
            let (fed, lend, after) = {
                let mut state = self.lock();
                let lend = self.may_lend(&state, payload.len());
                let State { protocol, sender, blocked, .. } = &mut *state;
                let fed = match blocked {
                    true => protocol.await_room(id, waker),
                    false => protocol.feed(id, payload, lend, waker, sender),
                };
                let mut after = After::default();
                self.claim_write(&mut state, false, &mut after);
                if state.protocol.needs_sweep() {
                    after.wake_driver = state.driver.clone();
                }
                (fed, lend, after)
            };
            self.finish_lending(after, lend.then_some(&Lent(payload)));
            let Fed::Part(sent) = fed else {
                return (payload.len(), Feeding::Over);
            };
            if before.replace(sent) == Some(sent) {
                return (sent, Feeding::Blocked);
            }
            if (sent - *began.get_or_insert(sent)) as u64 >= WRITTEN_PER_TURN {
                return (sent, Feeding::Room);
            }
        }
    }

    /// The driver's part of writing: goes on with what was blocked. Ready when nothing is left.
    pub(in crate::connection) fn poll_blocked(&self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        {
            let mut state = self.lock();
            if let Some(error) = state.failed.take() {
                return Poll::Ready(Err(error));
            }
            if !state.blocked {
                return Poll::Ready(Ok(()));
            }
        }
        let mut began = None;
        for _ in 0..BATCHES_PER_TURN {
            let written = {
                let mut outlet = self.outlet();
                let Outlet { writer, batch } = &mut *outlet;
                match writer {
                    Some(writer) => writer.poll_write(cx, batch),
                    None => Poll::Ready(Ok(())),
                }
            };
            match written {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Ready(Ok(())) => {}
            }
            self.lock().blocked = false;
            self.flush();
            let state = self.lock();
            // It may be blocked again; then the mechanism is asked again, so that it wakes this task.
            if !state.blocked {
                return Poll::Ready(Ok(()));
            }
            if state.taken - *began.get_or_insert(state.taken) >= WRITTEN_PER_TURN {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The claim to write, lost only by a panic: of a transport of the program's own, say. Then the driver hears of it.
struct Claim<'a, T: Transport>(&'a Shared<T>);

impl<T: Transport> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        let error = io::Error::other("the transport panicked while it wrote");
        self.0.hand_to_driver(Some(error.into()));
    }
}

/// After so many batches written in a row, others get their turn.
const BATCHES_PER_TURN: usize = 16;
/// After so many bytes, too.
const WRITTEN_PER_TURN: u64 = 1 << 20;
/// So much of it is copied where the mechanism takes no more; with more than that the caller goes on itself.
const COPY_LEN_MAX: usize = 1 << 20;
