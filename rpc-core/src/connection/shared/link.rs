//! What callers and handlers ask of a connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::{Closing, Shared, State};
use crate::body::{Body, Parts};
use crate::call_layer::CallLayers;
use crate::clock;
use crate::codec::CodecId;
use crate::connection::values::Values;
use crate::connection::{Feeding, Link, Looked, Looker, Next};
use crate::error::{ConnectError, ConnectionError, ProtocolError};
use crate::limits::Limits;
use crate::protocol::caller::Answer;
use crate::protocol::{Attempt, Begun, Encoded, Finish, NewCall, Ticket, Waited};
use crate::stats::ConnectionStats;
use crate::transport::{Properties, Transport};
use crate::waiter::Waiter;

impl<T: Transport> Link for Shared<T> {
    fn id(&self) -> u64 {
        self.id
    }

    fn instance(&self) -> u128 {
        self.instance
    }

    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn codec(&self) -> CodecId {
        self.lock().protocol.codec()
    }

    fn values(&self) -> &Values {
        &self.values
    }

    fn call_layers(&self) -> Option<&Arc<CallLayers>> {
        self.call_layers.as_ref()
    }

    fn runtime(&self) -> &Handle {
        &self.runtime
    }

    fn begin(&self, call: &NewCall, payload: Parts<'_>, waker: &Waker, next: &mut Next) -> Begun {
        // A waker is cloned by a locked operation, and dropped by another: as much as a lock.
        let looks = match next {
            Next::Looks(Looker::Thread) => true,
            Next::Looks(Looker::Future | Looker::Task) => self.looks.load(Ordering::Relaxed),
            Next::Awaits | Next::GoesOn => false,
        };
        let mut is_given = !looks;
        let mut given = is_given.then(|| waker.clone());
        let mut copy = None;
        let begun = loop {
            match self.attempt(call, payload, &mut copy, &mut given, next) {
                Attempt::Done(Begun::Starved) if !is_given => (is_given, given) = (true, Some(waker.clone())),
                Attempt::Done(begun) => break begun,
                Attempt::Lent(id) => break self.begin_feeding(id, payload, call.oneway || call.result),
                // Outside of the lock: it may be long, and its bytes not in memory yet.
                Attempt::Unowned => copy = Some(Body::from(payload)),
            }
        };
        match (&begun, next) {
            (Begun::Placed(_), Next::Looks(_)) => return begun,
            (Begun::Placed(id), _) if !is_given => self.await_answer(*id, waker),
            // The next poll leaves one, or finds that it has been placed and answered meanwhile.
            (Begun::Part { .. } | Begun::Queued(_), _) if !is_given => waker.wake_by_ref(),
            _ => {}
        }
        self.take_back();
        begun
    }

    fn feed(&self, id: u64, payload: Parts<'_>, waker: &Waker) -> Feeding {
        self.feed_turn(id, payload, &mut waker.clone().into()).1
    }

    fn keep(&self, id: u64, payload: Body) {
        self.with(|state, _| state.protocol.caller().keep(id, payload));
    }

    fn read_here(&self, waiter: &Waiter) {
        Shared::read_here(self, waiter);
    }

    fn look(&self, id: u64, looker: Looker, cx: &mut Context<'_>, answer: &mut Answer) -> Looked {
        Shared::look(self, id, looker, cx, answer)
    }

    fn poll_call(&self, id: u64, waker: &mut Option<Waker>, answer: &mut Answer) -> bool {
        let (answered, frees, done) = {
            let mut state = self.lock();
            let (answered, frees) = state.protocol.poll_call(id, waker, answer);
            (answered, frees, state.driver_if_done())
        };
        self.call(done);
        if frees {
            // Its slot or its credit may be what others wait for; credit that is little leaves with the next sweep.
            self.with(|_, _| ());
        }
        answered
    }

    fn poll_waiting(&self, ticket: Ticket, waker: &mut Option<Waker>) -> Waited {
        self.lock().protocol.caller().poll_waiting(ticket, waker)
    }

    fn abandon(&self, id: u64) {
        let mut idle = Vec::new();
        self.with(|state, wakers| state.protocol.abandon(id, &mut idle, wakers));
        self.take_back();
    }

    fn abandon_waiting(&self, ticket: Ticket) {
        let mut idle = Vec::new();
        self.with(|state, wakers| state.protocol.abandon_waiting(ticket, &mut idle, wakers));
        self.take_back();
    }

    fn detach(&self, id: u64) {
        let mut idle = Vec::new();
        self.with(|state, _| state.protocol.caller().detach(id, &mut idle));
    }

    fn finish(&self, id: u64, how: Finish, payload: Encoded<'_>) {
        self.with(|State { protocol, sender, .. }, _| protocol.finish(id, how, payload, sender));
    }

    fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    fn poll_encode(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = Some(cx.waker().clone());
        let may = self.lock().protocol.may_encode(&mut waker);
        self.crowded.store(!may, Ordering::Relaxed);
        if may { Poll::Ready(()) } else { Poll::Pending }
    }

    fn changed(&self) -> &Notify {
        &self.changed
    }

    fn opened(&self) -> Option<Result<(), ConnectError>> {
        let state = self.lock();
        match state.protocol.ended() {
            None => state.protocol.is_open().then_some(Ok(())),
            Some(ConnectionError::Protocol(ProtocolError::Handshake(error))) => {
                Some(Err(ConnectError::Handshake(error.clone())))
            }
            Some(error) => Some(Err(ConnectError::Lost(error.clone()))),
        }
    }

    fn ended(&self) -> Option<ConnectionError> {
        self.lock().protocol.ended().cloned()
    }

    fn close(&self, how: Closing) {
        let driver = {
            let mut state = self.lock();
            if how != Closing::Gently || state.closing == Closing::No {
                state.closing = how;
            }
            state.driver.clone()
        };
        self.take_back();
        self.call(driver);
    }

    fn drain(&self) {
        let now = clock::now();
        let driver = self.with(|state, _| {
            state.draining = true;
            state.protocol.drain(now);
            state.driver.clone()
        });
        self.changed.notify_waiters();
        self.take_back();
        self.call(driver);
    }

    fn peer_draining(&self) -> bool {
        self.lock().protocol.peer_draining()
    }

    fn stats(&self) -> ConnectionStats {
        self.lock().protocol.stats()
    }
}
