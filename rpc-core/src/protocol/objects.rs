//! Objects: services that one side has handed to the other in a message, to be called by an id.
//!
//! An object has one owner, who serves it, and one holder an id: each time it is handed over it gets a fresh one, which the
//! holder gives back once. So nothing is counted on the wire, and no two messages about an id can overtake each other.
//!
//! | state | its owner has | its holder has | ends by |
//! |---|---|---|---|
//! | packed | [`Export`], [`Cargo`] | | the message's first frame; its end without one |
//! | held | [`Export`] | [`Import`], [`Claim`] or handle | the last handle |
//! | let go | [`Export`] | [`Import`], and the id is owed | RELEASE |
//!
//! Whoever receives a frame with HANDLES owes a RELEASE for every id in it, whatever becomes of the message. What belongs to
//! a message therefore says so when it is dropped, wherever that is: [`Drops`].

mod promises;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::table::{Keyed, Table};
use crate::error::{ProtocolError, Reason};
use crate::frame::{Frame, FrameError, HANDLES_MAX, Head, Kind, RESULT, first_frame_len, tag};
use crate::limits::Limit;
use crate::object::{Exported, Object, Passed};
use crate::protocol::Side;
use crate::rare::Rare;
use crate::share::Share;
use crate::transport::FrameSender;
use promises::Promises;

/// What an object that is held costs of the server's memory: its entry, the handle, and what stands around that.
const OBJECT_COST: u64 = 256;
/// So many ids that are owed leave at once, fewer with the next sweep.
const OWED_MANY: usize = 64;
/// Ids in a RELEASE.
const RELEASE_MAX: usize = 500;

/// What a message hands over, until its first frame is placed.
#[derive(Debug)]
pub(crate) struct Cargo {
    drops: Arc<Drops>,
    /// All of it, in order.
    ids: Vec<u64>,
    /// Set under the lock, and read under it, and when it is dropped.
    placed: Arc<AtomicBool>,
}

impl Cargo {
    /// The value of HANDLES.
    pub(crate) fn list(&self) -> Vec<u8> {
        self.ids.iter().flat_map(|id| id.to_le_bytes()).collect()
    }

    /// The first of them; `None` if there is none.
    pub(crate) fn first(&self) -> Option<u64> {
        self.ids.first().copied()
    }

    /// The message's first frame is placed: the peer will have what was in it.
    pub(crate) fn placed(&self) {
        self.placed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Cargo {
    fn drop(&mut self) {
        let (ids, placed) = (std::mem::take(&mut self.ids), self.placed.load(Ordering::Relaxed));
        self.drops.push(Dropped::Cargo { ids, placed });
    }
}

/// What a message that has come hands over, until somebody makes handles of it.
#[derive(Debug)]
pub(crate) struct Claim {
    drops: Arc<Drops>,
    held: Vec<Held>,
    /// There was no memory for it.
    pub(crate) crowded: bool,
}

/// One object in a message that has come.
#[derive(Debug)]
pub(crate) enum Held {
    /// The peer's, and its id: owed a release.
    Theirs(u64),
    /// This side's own, which comes back.
    Ours(Arc<Object>),
}

impl Claim {
    /// For whoever makes handles of it, and owes the releases from now on.
    pub(crate) fn into_held(mut self) -> Vec<Held> {
        std::mem::take(&mut self.held)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        for held in self.held.drain(..) {
            self.drops.push(match held {
                Held::Theirs(id) => Dropped::Claimed(id),
                Held::Ours(object) => Dropped::Object(object),
            });
        }
    }
}

/// An object on which a call has come. Its last reference must not be dropped under the connection's lock.
#[derive(Debug)]
pub(crate) struct Target {
    drops: Arc<Drops>,
    object: Option<Arc<Object>>,
}

impl Target {
    fn new(drops: &Arc<Drops>, object: Arc<Object>) -> Target {
        Target { drops: Arc::clone(drops), object: Some(object) }
    }

    pub(crate) fn take(mut self) -> Option<Arc<Object>> {
        self.object.take()
    }

    /// Whether nobody may call it any more.
    pub(crate) fn is_revoked(&self) -> bool {
        self.object.as_ref().is_some_and(|object| object.is_revoked())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            self.drops.push(Dropped::Object(object));
        }
    }
}

/// What was dropped with the message that it belonged to, by anybody, under the lock or not. Dealt with when the lock is
/// held next.
#[derive(Debug, Default)]
struct Drops {
    /// A hint, so that there is mostly nothing to lock.
    any: AtomicBool,
    list: Mutex<Vec<Dropped>>,
}

#[derive(Debug)]
enum Dropped {
    Cargo { ids: Vec<u64>, placed: bool },
    Claimed(u64),
    Object(Arc<Object>),
}

impl Drops {
    fn push(&self, dropped: Dropped) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(dropped);
        // Pairs with the Acquire in `take`.
        self.any.store(true, Ordering::Release);
    }

    fn take(&self) -> Vec<Dropped> {
        if !self.any.load(Ordering::Relaxed) || !self.any.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is over, to be dropped outside of the lock: somebody's code may run with it.
#[derive(Debug)]
pub(crate) enum Spent {
    Exported(#[allow(dead_code, reason = "only ever dropped")] Exported),
    Object(#[allow(dead_code, reason = "only ever dropped")] Arc<Object>),
}

/// An object of this side's that the peer has, or will have.
#[derive(Debug)]
struct Export {
    id: u64,
    object: Exported,
    /// Whether the frame that hands it over is placed. Before that no honest peer names it.
    named: Arc<AtomicBool>,
    /// The same, as it is known once the message is gone: from then on the peer is told what becomes of it.
    placed: bool,
    /// Withdrawn: the peer has been told, or will be.
    gone: bool,
}

impl Export {
    fn may_be_named(&self) -> bool {
        self.named.load(Ordering::Relaxed)
    }
}

impl Keyed for Export {
    fn key(&self) -> u64 {
        self.id
    }
}

/// An object of the peer's.
#[derive(Debug)]
struct Import {
    id: u64,
    /// Messages in hand that will give it back to the peer.
    pins: usize,
    /// Nobody here has it any more.
    released: bool,
    /// It has been withdrawn.
    gone: bool,
    /// What it costs of the server's memory.
    charged: u64,
}

impl Keyed for Import {
    fn key(&self) -> u64 {
        self.id
    }
}

/// What a call that has to do with objects brings along.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    /// The object it is made on, instead of a service.
    pub(crate) target: Option<Target>,
    /// That is the result of another call and not there yet: its id; 0 = it is, or there is none.
    pub(crate) awaits: u64,
    /// When its time is over, where it has waited for that.
    pub(crate) deadline: Option<Instant>,
    /// Its own result may be called before it is there.
    pub(crate) promises: bool,
    /// What it hands over.
    pub(crate) claim: Option<Claim>,
    /// It is not to be taken.
    pub(crate) refused: Option<Reason>,
}

/// What both sides' limits allow.
#[derive(Clone, Debug)]
pub(crate) struct ObjectConfig {
    pub(crate) side: Side,
    /// What the peer holds at most; 0 = it knows no objects.
    pub(crate) export_max: usize,
    pub(crate) import_max: usize,
    /// The longest frame that the peer takes, and what a frame has of a payload at most.
    pub(crate) frame_max: u64,
    pub(crate) chunk_len: usize,
    pub(crate) share: Arc<Share>,
}

#[derive(Debug)]
pub(crate) struct Objects {
    config: ObjectConfig,
    /// The next id that this side gives.
    next_id: u64,
    exports: Table<Export>,
    imports: Table<Import>,
    /// The highest id among those that the peer has given.
    last_import: u64,
    /// Results of calls of the peer's that the peer may call before they are there.
    promises: Promises,
    /// The id of the last result that this side may call before it is there.
    last_result: u64,
    /// Such results among the imports.
    results: usize,
    /// Ids to be released.
    owed: Vec<u64>,
    /// Ids whose objects are gone, of which the peer has to hear.
    withdrawn: Vec<u64>,
    drops: Arc<Drops>,
    spent: Vec<Spent>,
}

impl Objects {
    pub(crate) fn new(config: ObjectConfig) -> Objects {
        Objects {
            next_id: config.side.first_id(),
            config,
            exports: Table::new(),
            imports: Table::new(),
            last_import: 0,
            promises: Promises::new(),
            last_result: 0,
            results: 0,
            owed: Vec::new(),
            withdrawn: Vec::new(),
            drops: Arc::default(),
            spent: Vec::new(),
        }
    }

    /// Objects of this side's that the peer has, and the other way round.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.exports.len() + self.promises.len(), self.imports.len())
    }

    /// Gets ready what a message will hand over that has so many bytes of payload, and of other things `beside` it.
    pub(crate) fn pack(&mut self, passed: &[Passed], beside: usize, payload: usize) -> Result<Box<Cargo>, Reason> {
        let fresh = passed.iter().filter(|passed| matches!(passed, Passed::Object(_))).count();
        if self.config.export_max == 0 {
            return Err(Reason::UnknownExtension(tag::HANDLES));
        }
        if self.exports.len() + fresh > self.config.export_max {
            return Err(Reason::Overloaded { limit: Limit::Objects });
        }
        if passed.len() > HANDLES_MAX {
            return Err(Reason::Overloaded { limit: Limit::ObjectsPerMessage });
        }
        // All of this stands in one frame. Only where the peer takes none that are longer than 4 KiB or a little more can that
        // be too much.
        let (len, max) = (payload.min(self.config.chunk_len), self.config.frame_max);
        let len = first_frame_len(beside, passed.len(), len) as u64;
        if len > max {
            return Err(Reason::TooLarge { len, max });
        }
        let placed = Arc::new(AtomicBool::new(false));
        let ids = passed.iter().map(|passed| match passed {
            Passed::Object(object) => {
                let id = self.next_id;
                self.next_id += 2;
                let gone = object.is_revoked();
                let named = Arc::clone(&placed);
                self.exports.insert(Export { id, object: Exported::new(object), named, placed: false, gone });
                id
            }
            Passed::Back(handle) => {
                self.pin(handle.id());
                handle.id()
            }
        });
        Ok(Box::new(Cargo { ids: ids.collect(), drops: Arc::clone(&self.drops), placed }))
    }

    /// A message will give one of the peer's back.
    fn pin(&mut self, id: u64) {
        if let Some(import) = self.imports.get_mut(id) {
            import.pins += 1;
        }
    }

    /// Takes in what a message hands over; `list` is the value of its HANDLES.
    pub(crate) fn claim(&mut self, list: &[u8]) -> Result<Claim, ProtocolError> {
        let mut claim = Claim { drops: Arc::clone(&self.drops), held: Vec::new(), crowded: false };
        for id in ids(list, "list of objects")? {
            if id == 0 || id & RESULT != 0 {
                return Err(ProtocolError::UnknownObject(id));
            }
            if self.config.side.owns(id) {
                let export = self.exports.get(id).filter(|export| export.may_be_named());
                let export = export.ok_or(ProtocolError::UnknownObject(id))?;
                claim.held.push(Held::Ours(export.object.object()));
                continue;
            }
            if self.imports.get(id).is_some() {
                return Err(ProtocolError::Unexpected("object that is here already"));
            }
            if self.imports.len() - self.results >= self.config.import_max {
                return Err(ProtocolError::TooManyObjects { max: self.config.import_max });
            }
            let charged = if self.config.share.charge(OBJECT_COST).is_ok() { OBJECT_COST } else { 0 };
            claim.crowded |= charged == 0;
            self.imports.insert(Import { id, pins: 0, released: false, gone: false, charged });
            self.last_import = self.last_import.max(id);
            claim.held.push(Held::Theirs(id));
        }
        Ok(claim)
    }

    /// The object of this side's on which a call has come; `None` if it was there once.
    fn named(&self, id: u64) -> Result<Option<Target>, ProtocolError> {
        if id == 0 || !self.config.side.owns(id) {
            return Err(ProtocolError::UnknownObject(id));
        }
        match self.exports.get(id) {
            Some(export) if !export.may_be_named() => Err(ProtocolError::UnknownObject(id)),
            Some(export) if !export.gone => Ok(Some(Target::new(&self.drops, export.object.object()))),
            None if id >= self.next_id => Err(ProtocolError::UnknownObject(id)),
            _ => Ok(None),
        }
    }

    /// What a CALL's extensions say; an object that it hands over counts from now on.
    pub(crate) fn read(&mut self, frame: &Frame<'_>) -> Result<Brought, ProtocolError> {
        let mut brought = Brought::default();
        for extension in frame.extensions() {
            match extension? {
                (tag::OBJECT, value) => {
                    let id = value.try_into().map_err(|_| FrameError::Truncated { what: "id of an object" })?;
                    match u64::from_le_bytes(id) {
                        id if id & RESULT != 0 => self.aim(id, &mut brought)?,
                        id => brought.target = self.named(id)?,
                    }
                    if brought.target.is_none() && brought.awaits == 0 {
                        brought.refused.get_or_insert(Reason::ObjectGone);
                    }
                }
                (tag::RESULT, value) => {
                    if !value.is_empty() || brought.promises {
                        return Err(ProtocolError::Unexpected("value or second one of RESULT"));
                    }
                    brought.promises = true;
                    brought.refused = self.promise(frame.id)?.err().or(brought.refused);
                }
                (tag::HANDLES, _) if brought.claim.is_some() => {
                    return Err(ProtocolError::Unexpected("second HANDLES"));
                }
                (tag::HANDLES, value) => {
                    let claim = self.claim(value)?;
                    if claim.crowded {
                        brought.refused = Some(Reason::Overloaded { limit: Limit::MemoryTotal });
                    }
                    brought.claim = Some(claim);
                }
                _ => {}
            }
        }
        Ok(brought)
    }

    /// What a reply hands over.
    pub(crate) fn read_reply(&mut self, frame: &Frame<'_>) -> Result<Option<Claim>, ProtocolError> {
        let mut claim = None;
        for extension in frame.extensions() {
            match extension? {
                (tag::HANDLES, _) if claim.is_some() => return Err(ProtocolError::Unexpected("second HANDLES")),
                (tag::HANDLES, value) => claim = Some(self.claim(value)?),
                _ => {}
            }
        }
        Ok(claim)
    }

    /// Whether an object of the peer's has been withdrawn.
    pub(crate) fn is_gone(&self, id: u64) -> bool {
        self.imports.get(id).is_none_or(|import| import.gone)
    }

    /// Nobody here has an object of the peer's any more.
    pub(crate) fn release(&mut self, id: u64) {
        if let Some(import) = self.imports.get_mut(id) {
            import.released = true;
            self.look_after(id);
        }
    }

    /// It is owed a release if nobody has it and no message in hand gives it back.
    fn look_after(&mut self, id: u64) {
        if self.imports.get(id).is_some_and(|import| import.released && import.pins == 0) {
            self.owed.push(id);
        }
    }

    /// Calls on an object of this side's are not taken any more.
    pub(crate) fn withdraw(&mut self, object: &Object) {
        self.settle();
        for export in self.exports.iter_mut().filter(|export| !export.gone && export.object.is(object)) {
            export.gone = true;
            if export.placed {
                self.withdrawn.push(export.id);
            }
        }
        self.promises.withdraw(object, &mut self.withdrawn);
    }

    /// RELEASE.
    pub(crate) fn handle_release(&mut self, body: &[u8]) -> Result<(), ProtocolError> {
        if body.is_empty() {
            return Err(FrameError::Truncated { what: "RELEASE" }.into());
        }
        for id in ids(body, "RELEASE")? {
            match id & RESULT {
                0 => {
                    let known = self.exports.get(id).filter(|export| export.may_be_named());
                    known.ok_or(ProtocolError::UnknownObject(id))?;
                    self.forget(id).ok_or(ProtocolError::UnknownObject(id))?;
                }
                _ => self.release_promise(id)?,
            }
        }
        Ok(())
    }

    fn forget(&mut self, id: u64) -> Option<()> {
        let export = self.exports.take(id)?;
        if export.gone {
            self.withdrawn.retain(|gone| *gone != id);
        }
        self.spent.push(Spent::Exported(export.object));
        Some(())
    }

    /// GONE; whether somebody here has the object.
    pub(crate) fn handle_gone(&mut self, id: u64) -> Result<bool, ProtocolError> {
        let known = match id & RESULT {
            0 => id != 0 && !self.config.side.owns(id) && id <= self.last_import,
            _ => self.config.side.owns(id) && id <= self.last_result,
        };
        if !known {
            return Err(ProtocolError::UnknownObject(id));
        }
        // It may have crossed the RELEASE.
        let import = self.imports.get_mut(id).filter(|import| !import.gone);
        Ok(import.map(|import| import.gone = true).is_some())
    }

    /// Deals with what was dropped since.
    pub(crate) fn settle(&mut self) {
        for dropped in self.drops.take() {
            match dropped {
                Dropped::Claimed(id) => self.release(id),
                Dropped::Object(object) => self.spent.push(Spent::Object(object)),
                Dropped::Cargo { ids, placed } => ids.into_iter().for_each(|id| self.unload(id, placed)),
            }
        }
    }

    fn unload(&mut self, id: u64, placed: bool) {
        if !self.config.side.owns(id) {
            if let Some(import) = self.imports.get_mut(id) {
                import.pins -= 1;
                self.look_after(id);
            }
        } else if !placed {
            self.forget(id);
        } else if let Some(export) = self.exports.get_mut(id) {
            export.placed = true;
            if export.gone {
                self.withdrawn.push(id);
            }
        }
    }

    /// What is to be dropped outside of the lock.
    pub(crate) fn take_spent(&mut self) -> Rare<Vec<Spent>> {
        if self.spent.is_empty() { Rare::none() } else { Rare::new(std::mem::take(&mut self.spent)) }
    }

    /// Whether ids are owed, which leave with the next sweep at the latest.
    pub(crate) fn owes(&self) -> bool {
        !self.owed.is_empty() || self.drops.any.load(Ordering::Relaxed)
    }

    /// Places RELEASE and GONE; with `all` also few. `false` if the sender has no room.
    pub(crate) fn transmit<S: FrameSender>(&mut self, all: bool, out: &mut S) -> bool {
        while let Some(id) = self.withdrawn.last() {
            if !Head::new(Kind::Gone, *id).place(&[], out) {
                return false;
            }
            self.withdrawn.pop();
        }
        while !self.owed.is_empty() && (all || self.owed.len() >= OWED_MANY) {
            let from = self.owed.len().saturating_sub(RELEASE_MAX);
            let body: Vec<u8> = self.owed[from..].iter().flat_map(|id| id.to_le_bytes()).collect();
            if !Head::new(Kind::Release, 0).place(&body, out) {
                return false;
            }
            for id in self.owed.drain(from..) {
                if let Some(import) = self.imports.take(id) {
                    self.results -= usize::from(id & RESULT != 0);
                    self.config.share.release(import.charged);
                }
            }
        }
        true
    }

    /// The connection is over.
    pub(crate) fn end(&mut self) {
        self.settle();
        self.spent.extend(self.exports.drain().into_iter().map(|export| Spent::Exported(export.object)));
        self.end_promises();
        for import in self.imports.drain() {
            self.config.share.release(import.charged);
        }
        self.owed.clear();
        self.withdrawn.clear();
    }

    /// Nothing has happened for a while: gives memory back.
    pub(crate) fn rest(&mut self) {
        self.exports.rest();
        self.imports.rest();
        self.promises.rest();
        self.owed.shrink_to_fit();
        self.withdrawn.shrink_to_fit();
    }

    /// As [`pack`](Self::pack), of one of the peer's.
    #[cfg(test)]
    pub(super) fn pack_back(&mut self, id: u64) -> Box<Cargo> {
        self.pin(id);
        Box::new(Cargo { ids: vec![id], drops: Arc::clone(&self.drops), placed: Arc::default() })
    }

    #[cfg(test)]
    pub(super) fn exported(&self, id: u64) -> Arc<Object> {
        self.exports.get(id).map(|export| export.object.object()).expect("it is there")
    }

    /// Whether every account is as it was at the start.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.len() == (0, 0) && !self.owes() && self.withdrawn.is_empty()
    }
}

/// The ids in a list of them.
fn ids<'a>(list: &'a [u8], what: &'static str) -> Result<impl Iterator<Item = u64> + 'a, ProtocolError> {
    let ids = list.chunks_exact(8);
    if !ids.remainder().is_empty() {
        return Err(FrameError::Truncated { what }.into());
    }
    Ok(ids.map(|id| u64::from_le_bytes(id.try_into().unwrap_or_default())))
}
