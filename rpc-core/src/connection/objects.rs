//! What objects ask of a connection.

use super::shared::{Shared, State};
use crate::error::Reason;
use crate::object::{Closed, Object, Passed};
use crate::protocol::Cargo;
use crate::transport::Transport;

/// The part of [`Link`](super::Link) that belongs to objects.
pub(crate) trait ObjectLink {
    /// Gets ready what a message will hand over that has so many bytes of payload, and of other things `beside` it.
    fn pack(&self, passed: &[Passed], beside: usize, payload: usize) -> Result<Box<Cargo>, Reason>;
    /// Nobody here has an object of the peer's any more.
    fn release(&self, id: u64);
    /// An object of this side's is not to be called any more.
    fn withdraw(&self, object: &Object);
    /// Why an object of the peer's can be called no more, if that is so.
    fn closed(&self, id: u64) -> Option<Closed>;
    /// Something may have been dropped that a message would have handed over.
    fn tidy(&self);
}

impl<T: Transport> ObjectLink for Shared<T> {
    fn pack(&self, passed: &[Passed], beside: usize, payload: usize) -> Result<Box<Cargo>, Reason> {
        self.lock().protocol.pack(passed, beside, payload)
    }

    fn release(&self, id: u64) {
        let driver = {
            let mut state = self.lock();
            state.protocol.release(id);
            if state.protocol.needs_sweep() { state.driver() } else { None }
        };
        self.call(driver);
    }

    fn withdraw(&self, object: &Object) {
        self.with(|State { protocol, .. }, _| protocol.withdraw(object));
    }

    fn closed(&self, id: u64) -> Option<Closed> {
        self.lock().protocol.closed(id)
    }

    fn tidy(&self) {
        self.with(|_, _| ());
    }
}
