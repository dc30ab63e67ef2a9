//! What objects and the messages that hand them over have to know of each other.

use super::objects::{Cargo, Objects, Spent};
use super::{Effects, Protocol};
use crate::error::{ProtocolError, Reason};
use crate::frame::{Frame, Kind};
use crate::object::{Closed, Object, Passed};
use crate::rare::Rare;

impl Protocol {
    /// The objects of this connection, which have none of its memory before there is one.
    pub(in crate::protocol) fn objects(&mut self) -> &mut Objects {
        let config = &self.object_config;
        self.objects.get_or_insert_with(|| Box::new(Objects::new(config.clone())))
    }

    /// Gets ready what a message will hand over that has so many bytes of payload, and of other things `beside` it. To be dropped,
    /// placed or not, wherever it may be.
    pub(crate) fn pack(&mut self, passed: &[Passed], beside: usize, payload: usize) -> Result<Box<Cargo>, Reason> {
        match self.ended() {
            Some(error) => Err(Reason::ConnectionLost(error.clone())),
            None => self.objects().pack(passed, beside, payload),
        }
    }

    /// What a CALL or the answer to one hands over, and on what object it is made. It counts from now on, whatever becomes of the
    /// message.
    #[cold]
    pub(in crate::protocol) fn take_objects(
        &mut self,
        frame: &Frame<'_>,
        effects: &mut Effects,
    ) -> Result<(), ProtocolError> {
        // Those that have waited for an object come before those that find it there.
        self.take_ready(&mut effects.events);
        match frame.kind {
            Kind::Call => self.callee.brought = Some(Box::new(self.objects().read(frame)?)),
            Kind::Reply | Kind::Fail => {
                if let Some(claim) = self.objects().read_reply(frame)? {
                    self.caller.attach(frame.id, claim, &mut effects.wakers);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether an object of the peer's has been withdrawn, or the connection has ended.
    pub(crate) fn is_gone(&self, id: u64) -> bool {
        self.objects.as_ref().is_none_or(|objects| objects.is_gone(id))
    }

    /// Why an object of the peer's can be called no more, if that is so.
    pub(crate) fn closed(&self, id: u64) -> Option<Closed> {
        match self.ended() {
            Some(error) => Some(Closed::Connection(error.clone())),
            None => self.is_gone(id).then_some(Closed::Revoked),
        }
    }

    /// Nobody here has an object of the peer's any more.
    pub(crate) fn release(&mut self, id: u64) {
        if let Some(objects) = &mut self.objects {
            objects.release(id);
        }
    }

    /// An object of this side's is not to be called any more.
    pub(crate) fn withdraw(&mut self, object: &Object) {
        if let Some(objects) = &mut self.objects {
            objects.withdraw(object);
        }
    }

    /// What is to be dropped outside of the lock.
    #[inline]
    pub(crate) fn take_spent(&mut self) -> Rare<Vec<Spent>> {
        self.objects.as_mut().map_or(Rare::none(), |objects| objects.take_spent())
    }
}
