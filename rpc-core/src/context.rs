//! What a handler knows of its call, and what calls made inside a handler inherit from it.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::thread::LocalKey;
use std::time::{Duration, Instant};

use crate::client::ServiceClient;
use crate::clock;
use crate::codec::CodecId;
use crate::connection::{Connection, Control};
use crate::share::Share;
use crate::transport::PeerIdentity;

/// What a handler knows of its call. An argument `cx: &Context` is given by the server and does not travel.
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    peer: Peer,
    share: Arc<Share>,
    codec: CodecId,
    control: Control,
}

impl Context {
    pub(crate) fn new(connection: Connection, share: Arc<Share>, timeout: Duration) -> Context {
        let codec = connection.link().codec();
        let inner = Inner { peer: Peer { connection }, share, codec, control: Control::new(timeout) };
        Context { inner: Arc::new(inner) }
    }

    /// Makes it the context of another call, if nobody has kept it from the last one.
    pub(crate) fn reset(&mut self, timeout: Duration) -> bool {
        Arc::get_mut(&mut self.inner).map(|inner| inner.control.reset(timeout)).is_some()
    }

    /// How many handlers the call has come through.
    pub(crate) fn set_hops(&mut self, hops: u8) {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.control.set_hops(hops);
        }
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

/// What calls made while a handler is polled inherit. Lost across `tokio::spawn`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    /// The connection that reached the handler.
    pub(crate) link: u64,
    /// The time the handler's caller gave it.
    pub(crate) timeout: Duration,
    /// When that ends; not known while the handler is polled for the first time, which has just begun.
    pub(crate) deadline: Option<Instant>,
    /// How many handlers its call has come through, itself not counted.
    pub(crate) hops: u8,
}

thread_local! {
    static SCOPE: Cell<Option<Scope>> = const { Cell::new(None) };
    static MAY_WAIT: Cell<bool> = const { Cell::new(false) };
    static READS: Cell<bool> = const { Cell::new(false) };
}

impl Scope {
    /// The scope of the handler that this thread is polling.
    pub(crate) fn current() -> Option<Scope> {
        SCOPE.get()
    }

    /// Polls a handler in this scope.
    pub(crate) fn enter<R>(self, f: impl FnOnce() -> R) -> R {
        let _restore = Restore(SCOPE.replace(Some(self)));
        f()
    }
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
