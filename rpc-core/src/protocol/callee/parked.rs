//! Calls that wait for the result of another, on which they are made.

use std::sync::Arc;

use super::{Callee, Incoming, State};
use crate::error::Reason;
use crate::object::Object;
use crate::protocol::events::{Event, Events};
use crate::protocol::fail::{Failure, parse_reason};
use crate::protocol::objects::{Brought, Objects, Target};

impl Callee {
    /// A call that is whole waits for what it is made on.
    pub(crate) fn park(&mut self, incoming: Incoming) {
        if let Some(entry) = self.calls.get_mut(incoming.id) {
            entry.state = State::Parked;
            self.parked.push(incoming);
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

    /// What calls bring along that have been taken and wait for an object, and their ids.
    fn awaiting(&mut self, object: u64) -> impl Iterator<Item = (u64, &mut Brought)> {
        let receiving = self.calls.iter_mut().filter_map(|entry| match &mut entry.state {
            State::Receiving(receiving) => Some((entry.id, &mut receiving.extras)),
            State::Parked | State::Running | State::Replying(_) | State::Streaming => None,
        });
        let parked = self.parked.iter_mut().map(|incoming| (incoming.id, &mut incoming.extras));
        let brought =
            parked.chain(receiving).filter_map(|(id, extras)| Some((id, extras.as_mut()?.brought.as_deref_mut()?)));
        brought.filter(move |(_, brought)| brought.awaits == object)
    }

    /// An object is there: calls that wait for it go to it, as soon as they are whole.
    pub(crate) fn unpark(&mut self, id: u64, object: &Arc<Object>, objects: &Objects) {
        let mut waiting = Vec::new();
        for (id, brought) in self.awaiting(id) {
            brought.awaits = 0;
            brought.target = Some(objects.target(object));
            waiting.push(id);
        }
        waiting.retain(|id| self.calls.get(*id).is_some_and(|entry| matches!(entry.state, State::Parked)));
        self.ready.append(&mut waiting);
    }

    /// An object will never be there, or is not any more.
    pub(crate) fn fail_awaiting(&mut self, id: u64, why: &Reason) {
        let waiting: Vec<u64> = self.awaiting(id).map(|(id, _)| id).collect();
        for waiting in waiting {
            self.refused += 1;
            self.conclude(waiting, Failure::not_executed(why.clone()));
        }
    }

    /// Nothing will be started any more.
    pub(crate) fn fail_parked(&mut self, reason: &Reason) {
        let parked: Vec<u64> = self.parked.iter().map(|incoming| incoming.id).collect();
        for id in parked {
            self.conclude(id, Failure::not_executed(reason.clone()));
        }
    }

    /// Whether there are calls that wait no longer.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Those calls, unless they have ended meanwhile.
    pub(crate) fn take_ready(&mut self, events: &mut Events) {
        for id in std::mem::take(&mut self.ready) {
            let Some(at) = self.parked.iter().position(|incoming| incoming.id == id) else { continue };
            let extras = self.parked[at].extras.as_ref();
            let brought = extras.and_then(|extras| extras.brought.as_ref());
            if brought.and_then(|brought| brought.target.as_ref()).is_some_and(Target::is_revoked) {
                self.refused += 1;
                self.conclude(id, Failure::not_executed(Reason::ObjectGone));
                continue;
            }
            let mut incoming = self.parked.remove(at);
            if let Some(entry) = self.calls.get_mut(id) {
                entry.state = State::Running;
                // It has waited, and its time runs.
                if let Some(brought) = incoming.extras.as_mut().and_then(|extras| extras.brought.as_mut()) {
                    brought.deadline = entry.deadline;
                }
                events.push(Event::Request(incoming));
            }
        }
    }
}
