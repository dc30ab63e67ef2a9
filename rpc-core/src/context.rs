//! What a handler knows of its call, and what calls made inside a handler inherit from it.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::LocalKey;
use std::time::{Duration, Instant};

use crate::call_id::CallId;
use crate::client::ServiceClient;
use crate::clock;
use crate::codec::CodecId;
use crate::connection::{Connection, Control};
use crate::inherit::Inherited;
use crate::metadata::{Metadata, MetadataError, MetadataName};
use crate::priority::Priority;
use crate::protocol::Cargo;
use crate::protocol::extras::{CallExtras, Extras, Sent};
use crate::share::Share;
use crate::trace::TraceContext;
use crate::transport::PeerIdentity;

/// What a handler knows of its call. An argument `cx: &Context` is given by the server and does not travel.
pub struct Context {
    inner: Arc<Inner>,
}

/// What changes with every call is atomic so that [`Context::renew`] can set it, and never changes during one: Relaxed does.
struct Inner {
    peer: Peer,
    share: Arc<Share>,
    codec: CodecId,
    control: Control,
    /// The id of the call's first frame.
    id: AtomicU64,
    /// What came beside the call.
    extras: Option<Box<CallExtras>>,
    /// What is to go beside its reply. The lock is taken by handlers that have something to say there.
    reply: OnceLock<Box<Mutex<Reply>>>,
    /// How many handlers the call has come through.
    hops: AtomicU8,
}

impl Context {
    pub(crate) fn new(connection: Connection, share: Arc<Share>, call: &mut Facts) -> Context {
        let codec = connection.link().codec();
        let Facts { id, timeout, hops, extras } = call;
        let (id, hops, extras) = (AtomicU64::new(*id), AtomicU8::new(*hops), extras.take());
        let control = Control::new(*timeout);
        let reply = OnceLock::new();
        Context { inner: Arc::new(Inner { peer: Peer { connection }, share, codec, control, id, extras, reply, hops }) }
    }

    /// Makes it and `other`, which is the same one, the context of another call, if nobody has kept it from the last one and
    /// neither call has anything that few have. Without a locked operation.
    #[inline]
    pub(crate) fn renew(&self, other: &Context, call: &Facts) -> bool {
        let inner = &*self.inner;
        debug_assert!(Arc::ptr_eq(&self.inner, &other.inner));
        if Arc::strong_count(&self.inner) != 2 || inner.extras.is_some() || call.extras.is_some() {
            return false;
        }
        // Pairs with the Release by which others have let go of it. There are no weak references.
        fence(Ordering::Acquire);
        if inner.reply.get().is_some() || !inner.control.renew(call.timeout) {
            return false;
        }
        inner.id.store(call.id, Ordering::Relaxed);
        inner.hops.store(call.hops, Ordering::Relaxed);
        true
    }

    /// Makes it the context of another call, if nobody has kept it from the last one.
    pub(crate) fn reset(&mut self, call: &mut Facts) -> bool {
        let Some(inner) = Arc::get_mut(&mut self.inner) else {
            return false;
        };
        inner.control = Control::new(call.timeout);
        *inner.id.get_mut() = call.id;
        inner.extras = call.extras.take();
        inner.reply.take();
        *inner.hops.get_mut() = call.hops;
        true
    }

    /// The same, for somebody else who has to do with the call.
    pub(crate) fn share_out(&self) -> Context {
        Context { inner: Arc::clone(&self.inner) }
    }

    pub(crate) fn control(&self) -> &Control {
        &self.inner.control
    }

    pub(crate) fn share(&self) -> &Share {
        &self.inner.share
    }

    pub(crate) fn codec(&self) -> CodecId {
        self.inner.codec
    }

    /// What calls made while its handler is polled inherit; `link` is the connection that reached it.
    #[inline]
    pub(crate) fn scope_of_calls(&self, link: u64) -> Scope {
        let (timeout, deadline) = self.inner.control.time();
        let hops = self.inner.hops.load(Ordering::Relaxed).saturating_add(1);
        Scope { link, timeout, deadline, hands_down: self.inner.extras.is_some(), hops }
    }

    /// What else they inherit.
    pub(crate) fn handed(&self) -> Handed {
        self.inner.extras.as_ref().map_or(Handed::NOTHING, |extras| Handed {
            trace: extras.handed_down,
            priority: extras.priority.inherited(),
        })
    }

    /// What goes beside the reply.
    #[inline]
    pub(crate) fn reply_extras(&self) -> Extras {
        self.inner.reply.get().and_then(|reply| lock(reply).extras())
    }

    /// The reply hands something over.
    pub(crate) fn hand_over(&self, cargo: Box<Cargo>) {
        lock(self.inner.reply.get_or_init(Box::default)).cargo = Some(cargo);
    }

    /// The reply does not go, and what it was to hand over is let go of.
    pub(crate) fn keep_back(&self) {
        let cargo = self.inner.reply.get().and_then(|reply| lock(reply).cargo.take());
        drop(cargo);
    }

    /// The metadata that came with the call.
    pub fn metadata(&self) -> &Metadata {
        static NONE: Metadata = Metadata::new();
        self.inner.extras.as_ref().map_or(&NONE, |extras| &extras.metadata)
    }

    /// Sends a value with the reply, also with one that is the method's own error; instead of the one that was given under
    /// that name before. A caller that asks for it gets it by [`Call::with_metadata`](crate::Call::with_metadata).
    ///
    /// Where the call fails for a reason of the framework's, nothing goes with that.
    ///
    /// # Errors
    ///
    /// If the name is none, or there would be more than [`Limits::metadata_len`](crate::Limits::metadata_len) allows: then
    /// nothing changes. Or if the reply is out already, as that of a method that returns a stream is before its items.
    pub fn set_reply_metadata<N: MetadataName>(
        &self,
        name: N,
        value: impl AsRef<N::Value>,
    ) -> Result<(), MetadataError> {
        if self.inner.control.has_replied() {
            return Err(MetadataError::TooLate);
        }
        let max = self.connection().link().limits().metadata_len;
        // Whose `as_ref` says something runs before the lock is taken.
        let value = value.as_ref();
        lock(self.inner.reply.get_or_init(Box::default)).metadata.insert_within(max, name, value)
    }

    /// The trace that the call belongs to, if its caller said so, and the caller's span in it. Calls made in the handler belong
    /// to it as well, without anything being done for that.
    pub fn trace(&self) -> Option<TraceContext> {
        self.inner.extras.as_ref()?.trace
    }

    /// What tells the call from others: the id that its caller gave it, which is the same when the call is made again, or one
    /// that no other call of this connection or another has. See [`CallId`].
    pub fn call_id(&self) -> CallId {
        let given = self.inner.extras.as_ref().and_then(|extras| extras.call_id);
        let own = || {
            CallId::from_u128(
                self.connection().link().instance().wrapping_add(u128::from(self.inner.id.load(Ordering::Relaxed))),
            )
        };
        given.unwrap_or_else(own)
    }

    /// How urgent its caller said that the call is.
    pub fn priority(&self) -> Priority {
        self.inner.extras.as_ref().map_or(Priority::Normal, |extras| extras.priority)
    }

    /// What calls made in this handler inherit, for tasks and threads that go on beside it.
    pub fn inherit(&self) -> Inherited {
        // The time runs from now on at the latest.
        self.deadline();
        Inherited::new(self.scope_of_calls(self.connection().link().id()), self.handed())
    }

    /// A future whose calls inherit what those of this handler do: its deadline, its trace, its priority. For tasks.
    ///
    /// ```no_run
    /// # use trunkline_core::Context;
    /// # async fn audit() {}
    /// # async fn handler(cx: &Context) {
    /// tokio::spawn(cx.scope(async { audit().await }));
    /// # }
    /// ```
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        self.inherit().scope(future)
    }

    /// When the caller stops waiting.
    ///
    /// Counted from when the request was received, so it may be later than the caller's own by the time the request was
    /// on its way; never earlier. Streams may go on after it: it is the deadline of the reply.
    pub fn deadline(&self) -> Instant {
        self.inner.control.deadline()
    }

    /// How long the caller will wait from now on.
    pub fn time_left(&self) -> Duration {
        self.deadline().saturating_duration_since(clock::now())
    }

    /// Whether nobody waits for the reply any more: cancelled, overdue, or the connection is gone.
    ///
    /// A handler's future is dropped at its next await then; one that computes, blocks, or is `#[rpc(no_cancel)]` has to
    /// ask.
    pub fn is_cancelled(&self) -> bool {
        self.inner.control.is_stopped()
    }

    /// Waits until nobody waits for the reply any more.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + '_ {
        self.inner.control.stopped()
    }

    /// Waits until this side takes no new calls: a handler whose streams would go on for ever should end them.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + '_ {
        self.connection().draining()
    }

    /// Who made the call.
    pub fn peer(&self) -> &Peer {
        &self.inner.peer
    }

    /// The connection it came by. A clone of it does not keep it open.
    pub fn connection(&self) -> &Connection {
        &self.inner.peer.connection
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("peer", self.peer()).finish_non_exhaustive()
    }
}

/// Who made a call: an identity, and clients of the services it serves in turn.
pub struct Peer {
    connection: Connection,
}

impl Peer {
    /// Who it is, as far as the transport vouches for it.
    pub fn identity(&self) -> &PeerIdentity {
        self.connection.peer()
    }

    /// A client of a service that the peer serves on this connection.
    ///
    /// Calls made with it inside this handler fail with `Overloaded` where they would have to wait for a free place:
    /// waiting could close a circle.
    pub fn client<C: ServiceClient>(&self) -> C {
        self.connection.client()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(self.identity()).finish()
    }
}

/// What is of one call alone.
pub(crate) struct Facts {
    pub(crate) id: u64,
    pub(crate) timeout: Duration,
    /// How many handlers the call has come through.
    pub(crate) hops: u8,
    pub(crate) extras: Option<Box<CallExtras>>,
}

/// What goes beside a reply.
#[derive(Default)]
struct Reply {
    metadata: Metadata,
    cargo: Option<Box<Cargo>>,
}

impl Reply {
    fn extras(&mut self) -> Extras {
        let extras = Sent::with_reply(&self.metadata);
        match self.cargo.take() {
            None => extras,
            Some(cargo) => Sent::load(extras, cargo),
        }
    }
}

fn lock(reply: &Mutex<Reply>) -> MutexGuard<'_, Reply> {
    reply.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What calls made while a handler is polled inherit. Lost across `tokio::spawn`, unless [`Inherited`] takes it along.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    /// The connection that reached the handler.
    pub(crate) link: u64,
    /// The time the handler's caller gave it.
    pub(crate) timeout: Duration,
    /// When that ends; not known while the handler is polled for the first time, which has just begun.
    pub(crate) deadline: Option<Instant>,
    /// There is more, which few have.
    pub(crate) hands_down: bool,
    /// How many handlers calls made in it have come through.
    pub(crate) hops: u8,
}

/// What is inherited but for the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handed {
    pub(crate) trace: Option<TraceContext>,
    pub(crate) priority: Priority,
}

impl Handed {
    pub(crate) const NOTHING: Handed = Handed { trace: None, priority: Priority::Normal };
}

thread_local! {
    static SCOPE: Cell<Option<Scope>> = const { Cell::new(None) };
    /// Means something where the scope says so.
    static HANDED: Cell<Handed> = const { Cell::new(Handed::NOTHING) };
    static MAY_WAIT: Cell<bool> = const { Cell::new(false) };
    static READS: Cell<bool> = const { Cell::new(false) };
}

impl Scope {
    /// The scope of the handler that this thread is polling.
    pub(crate) fn current() -> Option<Scope> {
        SCOPE.get()
    }

    /// That of nobody's handler.
    pub(crate) const NONE: Scope =
        Scope { link: 0, timeout: Duration::MAX, deadline: None, hands_down: false, hops: 0 };

    /// The same for whoever keeps it: its time runs from now on at the latest.
    pub(crate) fn stamped(self) -> Scope {
        let deadline = self.deadline.or_else(|| clock::now().checked_add(self.timeout));
        Scope { deadline, ..self }
    }

    /// What is handed down in it, where that is the current one.
    pub(crate) fn handed(&self) -> Handed {
        if self.hands_down { HANDED.get() } else { Handed::NOTHING }
    }

    /// Polls a handler in this scope; `handed` is asked for where the scope says that there is something.
    #[inline]
    pub(crate) fn enter<R>(self, handed: impl FnOnce() -> Handed, f: impl FnOnce() -> R) -> R {
        let _restore = Restore(SCOPE.replace(Some(self)));
        if self.hands_down {
            return hand_down(handed(), f);
        }
        f()
    }
}

/// Runs `f` with what is handed down.
fn hand_down<R>(handed: Handed, f: impl FnOnce() -> R) -> R {
    struct Restore(Handed);
    impl Drop for Restore {
        fn drop(&mut self) {
            HANDED.set(self.0);
        }
    }
    let _restore = Restore(HANDED.replace(handed));
    f()
}

struct Restore(Option<Scope>);

impl Drop for Restore {
    fn drop(&mut self) {
        SCOPE.set(self.0);
    }
}

/// Runs `f` with `.wait()` allowed although the thread belongs to an async runtime.
///
/// For threads of a runtime that may block, such as those of `tokio::task::spawn_blocking`. On a thread that drives tasks
/// it can deadlock: the reply may be brought by a task that this very thread would have to run.
///
/// ```
/// # fn main() {
/// let answer = trunkline_core::allow_wait(|| 6 * 7); // a `.wait()` in here does not refuse
/// # assert_eq!(answer, 42);
/// # }
/// ```
pub fn allow_wait<R>(f: impl FnOnce() -> R) -> R {
    with_flag(&MAY_WAIT, f)
}

/// Runs `f` with every `.wait()` refused: on a thread that reads for others, it would wait for itself.
pub(crate) fn refuse_wait<R>(f: impl FnOnce() -> R) -> R {
    with_flag(&READS, f)
}

fn with_flag<R>(flag: &'static LocalKey<Cell<bool>>, f: impl FnOnce() -> R) -> R {
    struct Reset(&'static LocalKey<Cell<bool>>, bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _reset = Reset(flag, flag.replace(true));
    f()
}

/// Whether a `.wait()` on this thread is refused.
pub(crate) fn waiting_would_deadlock() -> bool {
    READS.get() || (!MAY_WAIT.get() && tokio::runtime::Handle::try_current().is_ok())
}
