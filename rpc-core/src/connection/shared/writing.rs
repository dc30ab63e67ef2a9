//! Who writes: whoever has placed something, one at a time, outside of the connection's lock.

use std::io;
use std::sync::MutexGuard;
use std::task::{Context, Poll, Waker};

use super::{After, Outlet, Shared, State, wake_all};
use crate::body::{Body, Parts};
use crate::error::ConnectionError;
use crate::protocol::Fed;
use crate::transport::{BatchWriter, Lent, Transport, Written};

/// The duty to write, of whoever has set `writing`.
pub(super) struct Pen<'a, W: BatchWriter> {
    outlet: Option<MutexGuard<'a, Outlet<W>>>,
    /// The batch has been taken already.
    loaded: bool,
}

impl<T: Transport> Shared<T> {
    /// Whoever has placed something writes it, if nobody else does.
    pub(super) fn claim_write<'a>(&'a self, state: &mut State<T::Sender>, after: &mut After<'a, T::Writer>) {
        if !state.claim_write() {
            return;
        }
        after.pen = Some(match self.outlet.try_lock() {
            // Spares the writer a lock of its own.
            Ok(mut outlet) => {
                let loaded = state.take_batch(&mut outlet.batch, &mut after.wakers);
                Pen { outlet: Some(outlet), loaded }
            }
            Err(_) => Pen { outlet: None, loaded: false },
        });
    }

    /// Writes until nothing is left or the mechanism takes no more.
    ///
    /// `lent` is what the first batch may have borrowed; at the end of this nothing is borrowed any more.
    pub(super) fn write_out(&self, pen: Pen<'_, T::Writer>, lent: Option<&Lent<'_>>) {
        let claim = Claim(self);
        let mut wakers = Vec::new();
        let (written, driver) = self.write_batches(pen, lent, &mut wakers);
        std::mem::forget(claim);
        wake_all(wakers);
        match written {
            Ok(Written::All) => self.call(driver),
            Ok(Written::Blocked) => self.hand_to_driver(None),
            Err(error) => self.hand_to_driver(Some(error.into())),
        }
    }

    /// `All` if `writing` has been let go of; then the driver, if it has something to do.
    ///
    /// After some batches the driver goes on: a caller is not to write for everybody else for ever.
    fn write_batches(
        &self,
        pen: Pen<'_, T::Writer>,
        mut lent: Option<&Lent<'_>>,
        wakers: &mut Vec<Waker>,
    ) -> (io::Result<Written>, Option<Waker>) {
        let mut outlet = pen.outlet.unwrap_or_else(|| self.outlet());
        let mut loaded = pen.loaded;
        for _ in 0..BATCHES_PER_TURN {
            if !loaded {
                let mut state = self.lock();
                if !state.take_batch(&mut outlet.batch, wakers) {
                    return (Ok(Written::All), state.driver_if_done());
                }
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
                Ok(Written::All) => {}
                written => return (written, None),
            }
        }
        let mut state = self.lock();
        state.writing = false;
        (Ok(Written::All), state.driver.clone())
    }

    fn hand_to_driver(&self, error: Option<ConnectionError>) {
        let driver = {
            let mut state = self.lock();
            state.writing = false;
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

    /// Sends the rest of a long call from where it lies, as far as the mechanism takes it at once. What it does not is
    /// copied: its caller may never be polled again.
    pub(super) fn feed(&self, id: u64, payload: Parts<'_>) {
        let mut sent = None;
        for _ in 0..BATCHES_PER_TURN {
            let (fed, lend, after) = {
                let mut state = self.lock();
                let lend = state.may_lend::<T::Writer>(payload.len());
                let State { protocol, sender, .. } = &mut *state;
                let fed = protocol.feed(id, payload, lend, sender);
                let mut after = After::default();
                self.claim_write(&mut state, &mut after);
                (fed, lend, after)
            };
            self.finish_lending(after, lend.then_some(&Lent(payload)));
            match fed {
                Fed::Over => return,
                Fed::Blocked(bytes) if sent == Some(bytes) => break,
                Fed::Blocked(bytes) => sent = Some(bytes),
            }
        }
        let rest = Body::from(payload.range(sent.unwrap_or(0), payload.len()));
        self.with(|state, _| state.protocol.caller().keep(id, rest));
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
            // It may be blocked again; then the mechanism is asked again, so that it wakes this task.
            if !self.lock().blocked {
                return Poll::Ready(Ok(()));
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
