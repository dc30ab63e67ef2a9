//! The results of random conversations that are called before they are there.

use super::model::Random;
use super::objects::thing;
use super::*;
use crate::frame::RESULT;
use crate::object::Passed;

/// Those that somebody has, and on which side.
#[derive(Default)]
pub(super) struct Results {
    held: Vec<(bool, u64)>,
    /// Requests made on them that were started.
    pub(super) started: usize,
}

impl Results {
    /// A call whose result may be called has been placed.
    pub(super) fn placed(&mut self, client: bool, id: u64) {
        self.held.push((client, id | RESULT));
    }

    /// What a call is to be made on; mostly a service.
    pub(super) fn pick(&self, client: bool, random: &mut Random) -> u64 {
        let held: Vec<u64> = self.held.iter().filter(|(by, _)| *by == client).map(|(_, id)| *id).collect();
        let at = random.pick(held.len()).filter(|_| random.one_in(2));
        at.map_or(0, |at| held[at])
    }

    /// Lets go of one.
    pub(super) fn let_go(&mut self, pair: &mut Pair, random: &mut Random) {
        if let Some(at) = random.pick(self.held.len()) {
            let (client, id) = self.held.swap_remove(at);
            let node = if client { &mut pair.client } else { &mut pair.server };
            node.protocol.release(id);
        }
    }

    /// Lets go of all, and of what replies have brought.
    pub(super) fn settle(&mut self, pair: &mut Pair) {
        (pair.client.claim, pair.server.claim) = (None, None);
        for (client, id) in std::mem::take(&mut self.held) {
            let node = if client { &mut pair.client } else { &mut pair.server };
            node.protocol.release(id);
        }
    }
}

impl Node {
    /// A handler returns, with an object if it has promised one.
    pub(super) fn finish_as_promised(&mut self, id: u64, reply: &[u8]) {
        let request = self.requests.iter().find(|request| request.id == id);
        let came = request.and_then(|request| request.extras.as_ref());
        let promises = came.and_then(|extras| extras.brought.as_ref()).is_some_and(|brought| brought.promises);
        let beside = came.and_then(|extras| Sent::with_reply(&extras.metadata));
        let cargo = if promises { self.protocol.pack(&[Passed::Object(thing().0)], 0, 0).ok() } else { None };
        let extras = match cargo {
            Some(cargo) => Sent::load(beside, cargo),
            None => beside,
        };
        self.requests.retain(|request| request.id != id);
        self.protocol.finish(id, Finish::Returned(Half::Ok, extras), Encoded::There(reply), &mut self.out);
    }
}
