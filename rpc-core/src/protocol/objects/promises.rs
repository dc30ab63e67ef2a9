//! Promises: results of calls that their caller may call before they are there.
//!
//! A CALL with RESULT is one. Its id, with a bit, is that of the object that it will return: so ids are chosen by the caller,
//! grow, and name only calls that were made before. Nobody can make a call that waits for itself.
//!
//! | state | a call on it | left by |
//! |---|---|---|
//! | open | is parked | the end of the call that promised it |
//! | kept | goes to the object | |
//! | broken | fails, not executed | |
//!
//! Whoever made the call owes a RELEASE for it, once, whatever became of it. One that is released while it is open is still
//! there for the calls that were made on it before.

use std::sync::Arc;

use super::super::table::{Keyed, Table};
use super::{Brought, Import, OBJECT_COST, Objects, Spent, Target};
use crate::error::{NoResult, ProtocolError, Reason};
use crate::frame::RESULT;
use crate::limits::Limit;
use crate::object::{Exported, Object};

#[derive(Debug)]
struct Promise {
    /// That of the object.
    id: u64,
    state: State,
    /// The peer has let go of it.
    released: bool,
    /// A call waits for it, or has.
    awaited: bool,
    /// What it costs of the server's memory.
    charged: u64,
}

#[derive(Debug)]
enum State {
    Open,
    Kept {
        object: Exported,
        /// Withdrawn: the peer has been told, or will be.
        gone: bool,
    },
    Broken(NoResult),
}

impl Keyed for Promise {
    fn key(&self) -> u64 {
        self.id
    }
}

#[derive(Debug)]
pub(super) struct Promises {
    table: Table<Promise>,
    /// The highest id.
    last: u64,
}

impl Promises {
    pub(super) fn new() -> Promises {
        Promises { table: Table::new(), last: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn rest(&mut self) {
        self.table.rest();
    }

    /// Calls on an object are not taken any more. `withdrawn` gets the ids of which the peer has to hear.
    pub(super) fn withdraw(&mut self, revoked: &Object, withdrawn: &mut Vec<u64>) {
        for promise in self.table.iter_mut() {
            if let State::Kept { object, gone: gone @ false } = &mut promise.state {
                if object.is(revoked) {
                    *gone = true;
                    withdrawn.push(promise.id);
                }
            }
        }
    }
}

impl Objects {
    /// A call of the peer's, `id`, says that its result may be called. The inner error is why it cannot be taken.
    pub(super) fn promise(&mut self, id: u64) -> Result<Result<(), Reason>, ProtocolError> {
        if id & RESULT != 0 || self.config.side.owns(id) || id | RESULT <= self.promises.last {
            return Err(ProtocolError::Unexpected("RESULT of a call that cannot be"));
        }
        let id = id | RESULT;
        self.promises.last = id;
        if self.promises.len() >= self.config.import_max {
            return Ok(Err(Reason::Overloaded { limit: Limit::Objects }));
        }
        if self.config.share.charge(OBJECT_COST).is_err() {
            return Ok(Err(Reason::Overloaded { limit: Limit::MemoryTotal }));
        }
        let (released, awaited) = (false, false);
        self.promises.table.insert(Promise { id, state: State::Open, released, awaited, charged: OBJECT_COST });
        Ok(Ok(()))
    }

    /// Where a call of the peer's goes that is made on the result of another.
    pub(super) fn aim(&mut self, id: u64, brought: &mut Brought) -> Result<(), ProtocolError> {
        if self.config.side.owns(id) || id > self.promises.last || brought.promises && id == self.promises.last {
            return Err(ProtocolError::UnknownObject(id));
        }
        let Some(promise) = self.promises.table.get_mut(id).filter(|promise| !promise.released) else {
            // It was there once, or there was no room for it.
            return Ok(());
        };
        match &promise.state {
            State::Open => {
                promise.awaited = true;
                brought.awaits = id;
            }
            State::Kept { gone: true, .. } => {}
            State::Kept { object, .. } => brought.target = Some(Target::new(&self.drops, object.object())),
            State::Broken(why) => brought.refused = Some(Reason::NoResult(why.clone())),
        }
        Ok(())
    }

    /// Whether the call `id` of the peer's has promised a result that is still to come.
    pub(crate) fn promises(&self, id: u64) -> bool {
        self.promises.table.get(id | RESULT).is_some_and(|promise| matches!(promise.state, State::Open))
    }

    /// The result of a call: the object of this side's with the id that a message hands over, `None` if it hands over none.
    pub(crate) fn exported_as(&self, id: Option<u64>) -> Result<Arc<Object>, NoResult> {
        let id = id.ok_or(NoResult::NoClient)?;
        if !self.config.side.owns(id) {
            return Err(NoResult::Own);
        }
        self.exports.get(id).map(|export| export.object.object()).ok_or(NoResult::NoClient)
    }

    /// The call `id` has ended. Whether others wait for its result.
    pub(crate) fn settle_promise(&mut self, id: u64, result: Result<&Arc<Object>, NoResult>) -> bool {
        let Some(promise) = self.promises.table.get_mut(id | RESULT) else {
            return false;
        };
        let State::Open = promise.state else {
            return false;
        };
        promise.state = match result {
            Ok(object) => {
                let gone = object.is_revoked();
                if gone {
                    self.withdrawn.push(promise.id);
                }
                State::Kept { object: Exported::new(object), gone }
            }
            Err(why) => State::Broken(why),
        };
        let awaited = promise.awaited;
        if promise.released {
            self.forget_promise(id | RESULT);
        }
        awaited
    }

    /// What a call that has waited is made on.
    pub(crate) fn target(&self, object: &Arc<Object>) -> Target {
        Target::new(&self.drops, Arc::clone(object))
    }

    /// RELEASE.
    pub(super) fn release_promise(&mut self, id: u64) -> Result<(), ProtocolError> {
        if self.config.side.owns(id) || id > self.promises.last {
            return Err(ProtocolError::UnknownObject(id));
        }
        // There may have been no room for it.
        if let Some(promise) = self.promises.table.get_mut(id) {
            promise.released = true;
            if !matches!(promise.state, State::Open) {
                self.forget_promise(id);
            }
        }
        Ok(())
    }

    fn forget_promise(&mut self, id: u64) {
        let Some(promise) = self.promises.table.take(id) else {
            return;
        };
        self.config.share.release(promise.charged);
        if let State::Kept { object, gone } = promise.state {
            if gone {
                self.withdrawn.retain(|withdrawn| *withdrawn != id);
            }
            self.spent.push(Spent::Exported(object));
        }
    }

    pub(super) fn end_promises(&mut self) {
        for promise in self.promises.table.drain() {
            self.config.share.release(promise.charged);
            if let State::Kept { object, .. } = promise.state {
                self.spent.push(Spent::Exported(object));
            }
        }
    }

    /// A call of this side's has been placed whose result may be called.
    pub(crate) fn open_result(&mut self, call: u64) {
        let id = call | RESULT;
        self.last_result = id;
        self.results += 1;
        self.imports.insert(Import { id, pins: 0, released: false, gone: false, charged: 0 });
    }
}
