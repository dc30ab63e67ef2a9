//! What promises and the calls that make them have to know of each other.

use super::objects::Objects;
use super::{Encoded, Events, Finish, Protocol};
use crate::error::{CloseReason, NoResult, Reason};
use crate::frame::RESULT;
use crate::protocol::extras::Sent;
use crate::wire::Half;

impl Protocol {
    /// Whether the peer knows that results may be called before they are there.
    pub(in crate::protocol) fn may_promise(&self) -> bool {
        self.results_known
    }

    /// A call that has to do with objects has come, whole or in part, and has been taken or not.
    #[cold]
    pub(in crate::protocol) fn settle_call(&mut self, id: u64, events: &mut Events) {
        if self.objects().promises(id) {
            if let Err(reason) = self.callee.promises(id) {
                self.callee.broken.push((id, reason));
                self.break_promises();
            }
        }
        self.park_last(events);
    }

    /// Where the last event is a request for what is not there yet, it waits instead.
    pub(in crate::protocol) fn park_last(&mut self, events: &mut Events) {
        let extras = events.last_request().and_then(|incoming| incoming.extras.as_ref());
        let brought = extras.and_then(|extras| extras.brought.as_ref());
        if brought.is_some_and(|brought| brought.awaits != 0) {
            events.pop_request().into_iter().for_each(|incoming| self.callee.park(incoming));
        }
    }

    /// The handler of a call is gone, which may have promised its result.
    #[cold]
    pub(in crate::protocol) fn settle_promise(&mut self, id: u64, how: &Finish, payload: &Encoded<'_>) {
        let Some(objects) = self.objects.as_mut().filter(|objects| objects.promises(id)) else {
            return;
        };
        // A reply that is not sent is a failure.
        let failure = self.callee.kept_back(id, how, payload).map(Finish::Failed);
        let result = match failure.as_ref().unwrap_or(how) {
            Finish::Failed(failure) => Err(failure.reason.clone().into()),
            Finish::Returned(Half::Err, _) => Err(NoResult::App),
            Finish::Returned(Half::Ok, extras) => objects.exported_as(Sent::first_object(extras)),
        };
        match result {
            Ok(object) => {
                let awaited = objects.settle_promise(id, Ok(&object));
                if awaited && object.is_revoked() {
                    self.callee.fail_awaiting(id | RESULT, &Reason::ObjectGone);
                    self.break_promises();
                } else if awaited {
                    self.callee.unpark(id | RESULT, &object, objects);
                }
                // Not the last reference: the message that hands it over has one.
                drop(object);
            }
            Err(why) => {
                Protocol::break_promise(objects, &mut self.callee, id, why);
                self.break_promises();
            }
        }
    }

    fn break_promise(objects: &mut Objects, callee: &mut super::Callee, id: u64, why: NoResult) {
        if objects.settle_promise(id, Err(why.clone())) {
            callee.fail_awaiting(id | RESULT, &Reason::NoResult(why));
        }
    }

    /// Calls that had promised their results have ended without handlers; and with them those that wait for these.
    pub(in crate::protocol) fn break_promises(&mut self) {
        while let Some((id, reason)) = self.callee.broken.pop() {
            if let Some(objects) = &mut self.objects {
                Protocol::break_promise(objects, &mut self.callee, id, reason.into());
            }
        }
        self.settle_concluded();
    }

    /// Calls that still wait are not going to be started.
    pub(in crate::protocol) fn close_parked(&mut self, reason: CloseReason) {
        if self.objects.is_none() {
            return;
        }
        let why = match reason {
            CloseReason::Normal | CloseReason::ShuttingDown => Reason::ShuttingDown { retry_after: None },
            _ => Reason::Cancelled,
        };
        self.callee.fail_parked(&why);
        self.break_promises();
    }

    /// Whether calls that have waited for a result are to be started.
    pub(crate) fn has_ready(&self) -> bool {
        self.callee.has_ready()
    }

    /// Starts them, before any that come now.
    pub(crate) fn take_ready(&mut self, events: &mut Events) {
        if self.has_ready() {
            self.callee.take_ready(events);
            // Where an object has been withdrawn meanwhile.
            self.break_promises();
        }
    }
}
