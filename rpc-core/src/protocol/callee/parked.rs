//! Calls that wait for the result of another, on which they are made.

use std::sync::Arc;

use super::{Callee, Entry, Incoming, State};
use crate::error::{NoResult, Reason};
use crate::object::Object;
use crate::protocol::Event;
use crate::protocol::fail::{Failure, parse_reason};
use crate::protocol::objects::{Brought, Objects};

impl Callee {
    /// A call that is whole waits for what it is made on.
    pub(crate) fn park(&mut self, incoming: Incoming) {
        if let Some(entry) = self.calls.get_mut(incoming.id) {
            entry.state = State::Parked(Box::new(incoming));
        }
    }

    /// The result of call `id` may be called. Whether the call has been taken; if not, why.
    pub(crate) fn promises(&mut self, id: u64) -> Result<(), Reason> {
        self.promising = true;
        if self.calls.get(id).is_some() { Ok(()) } else { Err(self.refused_for(id)) }
    }

    /// Why a call was not taken that has just come.
    fn refused_for(&self, id: u64) -> Reason {
        match self.refusals.back().filter(|refusal| refusal.id == id) {
            Some(refusal) => parse_reason(refusal.reason.code, refusal.reason.detail()),
            None => Reason::ShuttingDown { retry_after: None },
        }
    }

    /// Calls that have been taken and wait for an object, in the order in which they came.
    fn awaiting(&mut self, object: u64) -> Vec<u64> {
        let waiting = |entry: &mut Entry| {
            let waits = entry.brought().is_some_and(|brought| brought.awaits == object);
            waits.then_some(entry.id)
        };
        let mut ids: Vec<u64> = self.calls.iter_mut().filter_map(waiting).collect();
        ids.sort_unstable();
        ids
    }

    /// An object is there: calls that wait for it go to it, as soon as they are whole.
    pub(crate) fn unpark(&mut self, id: u64, object: &Arc<Object>, objects: &Objects) {
        for waiting in self.awaiting(id) {
            let Some(entry) = self.calls.get_mut(waiting) else { continue };
            let deadline = entry.deadline;
            if let Some(brought) = entry.brought() {
                brought.awaits = 0;
                brought.target = Some(objects.target(object));
                brought.deadline = deadline;
            }
            if let State::Parked(_) = entry.state {
                self.ready.push(waiting);
            }
        }
    }

    /// An object will never be there.
    pub(crate) fn fail_awaiting(&mut self, id: u64, why: &NoResult) {
        for waiting in self.awaiting(id) {
            self.refused += 1;
            self.conclude(waiting, Failure::not_executed(Reason::NoResult(why.clone())));
        }
    }

    /// Nothing will be started any more.
    pub(crate) fn fail_parked(&mut self, reason: &Reason) {
        let parked = |entry: &&Entry| matches!(entry.state, State::Parked(_));
        let mut ids: Vec<u64> = self.calls.iter().filter(parked).map(|entry| entry.id).collect();
        ids.sort_unstable();
        for id in ids {
            self.conclude(id, Failure::not_executed(reason.clone()));
        }
    }

    /// Whether there are calls that wait no longer.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Those calls, unless they have ended meanwhile.
    pub(crate) fn take_ready(&mut self, events: &mut Vec<Event>) {
        for id in std::mem::take(&mut self.ready) {
            let Some(entry) = self.calls.get_mut(id) else { continue };
            match std::mem::replace(&mut entry.state, State::Running) {
                State::Parked(incoming) => events.push(Event::Request(*incoming)),
                other => entry.state = other,
            }
        }
    }
}

impl Entry {
    /// What the call brings along, as long as it has not been started.
    fn brought(&mut self) -> Option<&mut Brought> {
        let extras = match &mut self.state {
            State::Parked(incoming) => &mut incoming.extras,
            State::Receiving { extras, .. } => extras,
            State::Running | State::Replying(_) | State::Streaming => return None,
        };
        extras.as_mut()?.brought.as_deref_mut()
    }
}
