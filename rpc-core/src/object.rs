//! Objects: a client that travels. A message hands over what its values contain of them, and carries their numbers.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;

use crate::connection::{Connection, Link};
use crate::error::{ConnectionError, Reason};
use crate::protocol::{Cargo, Claim, Held};
use crate::server::ServerBuilder;
use crate::service::{Router, Service};

/// A service of this process that can be handed to peers, and called here.
pub(crate) struct Object {
    router: Arc<Router>,
    /// How many ids stand for it, on all connections together.
    exports: AtomicUsize,
    /// Told when `exports` is zero again, and when it is revoked.
    changed: Notify,
    revoked: AtomicBool,
    /// Where it has been handed over. Held for moments.
    links: Mutex<Vec<Weak<dyn Link>>>,
    connect: Connect,
    /// For calls from this process, made with the first of them.
    connection: OnceLock<Connection>,
}

/// Makes a connection to what a router serves, in this process.
pub(crate) type Connect = Box<dyn Fn(ServerBuilder) -> Connection + Send + Sync>;

impl Object {
    pub(crate) fn new(service: impl Service, connect: Connect) -> Object {
        let mut router = Router::default();
        router.add(service);
        Object {
            router: Arc::new(router),
            exports: AtomicUsize::new(0),
            changed: Notify::new(),
            revoked: AtomicBool::new(false),
            links: Mutex::default(),
            connect,
            connection: OnceLock::new(),
        }
    }

    pub(crate) fn router(&self) -> &Arc<Router> {
        &self.router
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.connection.get_or_init(|| (self.connect)(ServerBuilder::of_router(Router::clone(&self.router))))
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// It is about to be handed over on `link`.
    fn note(&self, link: &Arc<dyn Link>) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|known| known.strong_count() > 0);
        let link = Arc::downgrade(link);
        if !links.iter().any(|known| known.ptr_eq(&link)) {
            links.push(link);
        }
    }

    /// Calls from other processes are not taken any more, and their holders hear of it.
    pub(crate) fn revoke(&self) {
        let links = {
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            // Under the lock: who notes a link after this will see it.
            self.revoked.store(true, Ordering::Release);
            std::mem::take(&mut *links)
        };
        for link in links.iter().filter_map(Weak::upgrade) {
            link.withdraw(self);
        }
        self.changed.notify_waiters();
    }

    /// Waits until no peer has it.
    pub(crate) async fn released(&self) {
        self.watch(|| self.exports.load(Ordering::Acquire) == 0).await;
    }

    /// Waits until it is revoked.
    pub(crate) async fn revoked(&self) {
        self.watch(|| self.is_revoked()).await;
    }

    async fn watch(&self, so: impl Fn() -> bool) {
        loop {
            // Before looking, so that nothing is missed in between.
            let changed = self.changed.notified();
            if so() {
                return;
            }
            changed.await;
        }
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Object").field(&self.router).finish()
    }
}

/// An id that stands for an object.
#[derive(Debug)]
pub(crate) struct Exported(Arc<Object>);

impl Exported {
    pub(crate) fn new(object: &Arc<Object>) -> Exported {
        object.exports.fetch_add(1, Ordering::Relaxed);
        Exported(Arc::clone(object))
    }

    pub(crate) fn object(&self) -> Arc<Object> {
        Arc::clone(&self.0)
    }

    pub(crate) fn is(&self, object: &Object) -> bool {
        std::ptr::eq(&*self.0, object)
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        // Pairs with the Acquire in `released`.
        if self.0.exports.fetch_sub(1, Ordering::Release) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}

/// An object of the peer's. Dropping it gives it back.
pub(crate) struct Handle {
    /// Open as long as whoever received it would keep it.
    connection: Connection,
    id: u64,
}

impl Handle {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Waits until it can be called no more, and says why.
    pub(crate) async fn closed(&self) -> Closed {
        let id = self.id;
        self.connection.watch(|link| link.closed(id)).await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.connection.link().release(self.id);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a client can make no more calls.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Closed {
    /// Whoever had handed the object over has revoked it.
    #[error("the object was revoked")]
    Revoked,
    /// The call that was to return it, and was [pipelined](crate::Call::pipelined), has failed.
    #[error("the call that was to return the object has failed")]
    NoResult,
    /// The connection to it has ended.
    #[error("the connection has ended: {0}")]
    Connection(ConnectionError),
}

/// What a message hands over.
#[derive(Clone, Debug)]
pub(crate) enum Passed {
    /// An object of this process.
    Object(Arc<Object>),
    /// One of the peer's goes back.
    Back(Arc<Handle>),
}

impl Passed {
    /// It is about to be handed over on `link`; `false` if it cannot be.
    fn may_pass(&self, link: &Arc<dyn Link>) -> bool {
        match self {
            Passed::Object(object) => {
                object.note(link);
                true
            }
            Passed::Back(handle) => handle.connection.link().id() == link.id(),
        }
    }
}

/// Gets ready what a message on `link` hands over that has so many bytes of payload, and of other things `beside` it.
pub(crate) fn hand_over(
    passed: &[Passed],
    link: &Arc<dyn Link>,
    beside: usize,
    payload: usize,
) -> Result<Box<Cargo>, Reason> {
    if !passed.iter().all(|passed| passed.may_pass(link)) {
        return Err(Reason::Unencodable(ELSEWHERE.to_owned()));
    }
    link.pack(passed, beside, payload)
}

const ELSEWHERE: &str = "a client received over one connection cannot be handed over on another: \
                         serve an object of this process's that forwards to it";

/// What came with a message, to be taken while it is decoded.
#[derive(Debug)]
pub(crate) struct Received(Vec<Found>);

/// One of the objects that came with a message.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// It is the peer's.
    Handle(Arc<Handle>),
    /// It is this side's own, and has come back.
    Own(Arc<Object>),
}

impl Received {
    /// Of a message that came by `connection`.
    pub(crate) fn new(claim: Claim, connection: &Connection) -> Arc<Received> {
        let found = claim.into_held().into_iter().map(|held| match held {
            Held::Theirs(id) => Found::Handle(Arc::new(Handle { connection: connection.clone(), id })),
            Held::Ours(object) => Found::Own(object),
        });
        Arc::new(Received(found.collect()))
    }

    /// Decodes the message, or a part of it.
    pub(crate) fn enter<R>(self: &Arc<Self>, decode: impl FnOnce() -> R) -> R {
        let _entered = Arc::clone(self).entered();
        decode()
    }

    /// The same, until what comes back is dropped.
    pub(crate) fn entered(self: Arc<Self>) -> EnteredReceived {
        EnteredReceived(RECEIVED.replace(Some(self)))
    }
}

/// What the thread was decoding before.
pub(crate) struct EnteredReceived(Option<Arc<Received>>);

impl Drop for EnteredReceived {
    fn drop(&mut self) {
        RECEIVED.set(self.0.take());
    }
}

thread_local! {
    /// What came with the message that this thread decodes.
    static RECEIVED: Cell<Option<Arc<Received>>> = const { Cell::new(None) };
    /// 0 unless this thread encodes a message; then one more than the objects in it.
    static PASSING: Cell<usize> = const { Cell::new(0) };
    /// Those objects, behind those of messages within whose encoding this one is encoded.
    static PASSED: RefCell<Vec<Passed>> = const { RefCell::new(Vec::new()) };
}

/// The object with this number in the message that this thread decodes.
pub(crate) fn find(index: u32) -> Option<Found> {
    let received = RECEIVED.take();
    let found = received.as_ref().and_then(|received| received.0.get(index as usize).cloned());
    RECEIVED.set(received);
    found
}

/// Hands an object over with the message that this thread encodes; its number there, or `None` if there is no message.
pub(crate) fn pass(passed: Passed) -> Option<u32> {
    let count = PASSING.get();
    if count == 0 {
        return None;
    }
    PASSED.with_borrow_mut(|all| all.push(passed));
    PASSING.set(count + 1);
    u32::try_from(count - 1).ok()
}

/// A message is being encoded. What this thread was encoding before, and goes on with after it, also after a panic.
pub(crate) struct Passing(usize);

impl Passing {
    #[inline]
    pub(crate) fn begin() -> Passing {
        Passing(PASSING.replace(1))
    }

    /// It has been encoded; what is to be handed over with it.
    #[inline]
    pub(crate) fn end(self) -> Option<Vec<Passed>> {
        if PASSING.get() > 1 { Some(Passing::take()) } else { None }
    }

    #[cold]
    fn take() -> Vec<Passed> {
        let count = PASSING.replace(1) - 1;
        PASSED.with_borrow_mut(|all| all.split_off(all.len() - count))
    }
}

impl Drop for Passing {
    #[inline]
    fn drop(&mut self) {
        if PASSING.get() > 1 {
            drop(Passing::take());
        }
        PASSING.set(self.0);
    }
}
