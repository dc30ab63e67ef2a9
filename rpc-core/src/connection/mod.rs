//! A connection: the protocol, a transport, and the task that joins them.

mod dispatch;
mod driver;
mod inlet;
mod local;
mod objects;
pub(crate) mod polling;
mod shared;
mod streams;
mod values;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Notify;

use crate::body::{Body, Parts};
use crate::call_layer::CallLayers;
use crate::client::{Client, ServiceClient};
use crate::codec::CodecId;
use crate::error::{CloseReason, ConnectError, ConnectionError};
use crate::latency::Latency;
use crate::layer::{CallLayer, LAYERS_FIRST, Layer, Layers, Stack};
use crate::limits::Limits;
use crate::protocol::caller::Answer;
use crate::protocol::{Begun, Config, Encoded, Finish, NewCall, Protocol, Side, Ticket, Waited};
use crate::random;
use crate::service::Router;
use crate::share::Share;
use crate::stats::ConnectionStats;
use crate::transport::{BatchWriter, BoxTransport, FrameReceiver, PeerIdentity, Properties, Transport};
use crate::waiter::Waiter;
use dispatch::Dispatcher;
use driver::Driver;
use shared::{Leads, Shared};

pub(crate) use dispatch::{Control, Running};
use objects::ObjectLink;
pub(crate) use shared::wake_all;
use streams::StreamLink;
use values::Values;

/// Among so many frames that are about to be made one after the other, the first leaves alone if the peer sleeps.
const EARLY_MIN: usize = 16;

/// A connection to a peer, with any number of clients on it, and any number of services for the peer to call.
///
/// Clones share the connection. Where it was made by this program ([`Connection::builder`]), the last clone closes it:
/// what was sent is flushed first, and calls in flight have [`Limits::linger`] to end. Where it was lent by a handler's
/// context, clones do not count.
#[derive(Clone)]
pub struct Connection {
    link: Arc<dyn Link>,
    /// Only ever dropped: that is what it is for.
    _owner: Option<Arc<Owner>>,
}

/// Closes the connection when its last clone goes.
struct Owner {
    link: Arc<dyn Link>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.link.close(Closing::Gently);
    }
}

/// Whether somebody on this side wants the connection to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    No,
    /// Once everything owed is out and calls in flight have ended, or the linger is over.
    Gently,
    /// At once, with this reason.
    Now(CloseReason),
}

/// What a caller does when its call has been placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Its task has nothing to do but to wait.
    Awaits,
    /// The same. It would read for itself where that is worth it: then [`look`](Link::look) comes next. A thread does at once.
    Looks(Looker),
    /// Anything else.
    GoesOn,
}

/// Who reads for a call of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looker {
    /// A thread that waits.
    Thread,
    /// A future in no task, where it is the only call that is waited for.
    Future,
    /// A task, where calls have gone alone for a while, and to read is no more than to look at memory.
    Task,
}

impl Looker {
    /// How often it looks in one poll, some [tries](FrameReceiver::TRIES_PER_TURN) each.
    fn looks(self) -> u32 {
        match self {
            // It has nobody else to poll, but somebody else may have ended its call.
            Looker::Thread => 64,
            // Not for longer than two microseconds, since others may be in the same task.
            Looker::Future | Looker::Task => 2,
        }
    }
}

/// What a caller has found that reads for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// Its answer.
    Answer,
    /// Nothing yet. Its future has been woken to look again.
    Again,
    /// It is not to look any more.
    NoMore,
}

/// How far a call got whose caller feeds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feeding {
    /// All of it is on its way, or it is over.
    Over,
    /// There is room for more, but others are to have their turn.
    Room,
    /// There is none.
    Blocked,
}

/// What callers and handlers ask of a connection, whatever its transport. Every method takes the lock for a moment.
pub(crate) trait Link: StreamLink + ObjectLink + Send + Sync {
    fn id(&self) -> u64;
    /// The number that HELLO gives this end of the connection.
    fn instance(&self) -> u128;
    fn properties(&self) -> &Properties;
    fn limits(&self) -> &Limits;
    fn codec(&self) -> CodecId;
    fn values(&self) -> &Values;
    fn call_layers(&self) -> Option<&Arc<CallLayers>>;
    /// The driver's.
    fn runtime(&self) -> &Handle;

    /// Makes a call, of which `payload` is the payload. See [`Caller::begin`](crate::protocol::caller::Caller::begin).
    ///
    /// Where it is placed and `next` is to look for its answer, `waker` need not be called: who looks asks again by itself.
    fn begin(&self, call: &NewCall, payload: Parts<'_>, waker: &Waker, next: &mut Next) -> Begun;
    /// Sends more of a call that has begun in [part](Begun::Part). If there is no room for it, `waker` is called when there
    /// is, or when the call is over.
    fn feed(&self, id: u64, payload: Parts<'_>, waker: &Waker) -> Feeding;
    /// Takes over the payload of such a call.
    fn keep(&self, id: u64, payload: Body);
    /// Reads what comes on this thread, if nobody else does, until its waiter is woken or has waited long enough. The call
    /// it waits for has been made.
    fn read_here(&self, waiter: &Waiter);
    /// Reads what comes in this poll, if nobody else does; the outcome of the call goes into `answer`.
    fn look(&self, id: u64, looker: Looker, cx: &mut Context<'_>, answer: &mut Answer) -> Looked;
    /// Writes the outcome of a call into `answer`, if it has one. See [`Caller::poll`](crate::protocol::caller::Caller::poll).
    fn poll_call(&self, id: u64, waker: &mut Option<Waker>, answer: &mut Answer) -> bool;
    fn poll_waiting(&self, ticket: Ticket, waker: &mut Option<Waker>) -> Waited;
    fn abandon(&self, id: u64);
    fn abandon_waiting(&self, ticket: Ticket);
    /// Nobody waits for a call any more, which is to go on all the same.
    fn detach(&self, id: u64);

    /// Ends a call of the peer's.
    fn finish(&self, id: u64, how: Finish, payload: Encoded<'_>);
    /// A hint: there may be no memory for one more encoded reply.
    fn is_crowded(&self) -> bool;
    /// Ready when there is memory for one more encoded reply.
    fn poll_encode(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Told when `opened`, `ended` or `peer_draining` may say something else.
    fn changed(&self) -> &Notify;
    /// How the handshake went, once it has.
    fn opened(&self) -> Option<Result<(), ConnectError>>;
    /// Why the connection ended, once it has.
    fn ended(&self) -> Option<ConnectionError>;
    fn close(&self, how: Closing);
    fn drain(&self);
    fn peer_draining(&self) -> bool;
    fn stats(&self) -> ConnectionStats;
}

impl Connection {
    /// Begins a connection that this side makes.
    pub fn builder() -> ConnectionBuilder {
        ConnectionBuilder::default()
    }

    /// A client of a service on this connection. It does not keep the connection open.
    pub fn client<C: ServiceClient>(&self) -> C {
        C::from_client(Client::new(self.lent()))
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &PeerIdentity {
        &self.link.properties().peer
    }

    /// What carries it: `tcp`, `unix`, ….
    pub fn transport(&self) -> &'static str {
        self.link.properties().name
    }

    /// Its accounts, now.
    pub fn stats(&self) -> ConnectionStats {
        self.link.stats()
    }

    /// Whether the peer has said that it takes no new calls.
    pub fn is_peer_draining(&self) -> bool {
        self.link.peer_draining()
    }

    /// Closes it, whoever else holds it: what was sent is flushed, calls in flight have [`Limits::linger`] to end.
    /// Returns at once; [`closed`](Self::closed) tells when it is done.
    pub fn close(&self) {
        self.link.close(Closing::Gently);
    }

    /// Waits for the connection to end, and says why it did.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn closed(&self) -> ConnectionError {
        self.watch(|link| link.ended()).await
    }

    /// The same connection, with a say in how long it lives.
    fn owned(self) -> Connection {
        let owner = Arc::new(Owner { link: Arc::clone(&self.link) });
        Connection { link: self.link, _owner: Some(owner) }
    }

    /// The same connection, without a say in how long it lives.
    pub(crate) fn lent(&self) -> Connection {
        Connection { link: Arc::clone(&self.link), _owner: None }
    }

    pub(crate) fn link(&self) -> &Arc<dyn Link> {
        &self.link
    }

    pub(crate) async fn open(&self) -> Result<(), ConnectError> {
        self.watch(|link| link.opened()).await
    }

    /// Waits until `look` has something to say.
    pub(crate) async fn watch<T>(&self, look: impl Fn(&dyn Link) -> Option<T>) -> T {
        loop {
            // Before looking, so that nothing is missed in between.
            let changed = self.link.changed().notified();
            if let Some(seen) = look(&*self.link) {
                return seen;
            }
            changed.await;
        }
    }

    /// Waits until this side takes no new calls, or the connection has ended.
    pub(crate) async fn draining(&self) {
        self.watch(|link| (link.draining() || link.ended().is_some()).then_some(())).await;
    }

    pub(crate) fn drain(&self) {
        self.link.drain();
    }

    /// Ends it now, whatever is in flight.
    pub(crate) fn end(&self, reason: CloseReason) {
        self.link.close(Closing::Now(reason));
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("transport", &self.transport())
            .field("peer", self.peer())
            .finish_non_exhaustive()
    }
}

/// What a connection is made with, before it is made. `L` is what is around each service.
#[derive(Clone, Default)]
#[must_use]
pub struct ConnectionBuilder<L = ()> {
    limits: Limits,
    latency: Latency,
    router: Router,
    layers: L,
    call_layers: CallLayers,
    codecs: Option<Vec<CodecId>>,
}

impl<L: Layers> ConnectionBuilder<L> {
    /// Sets the limits of this side.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how much processor time this side may spend to answer sooner.
    pub fn latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// Serves a service to the peer, on the same connection.
    ///
    /// # Panics
    ///
    /// If a service of the same name is there already.
    pub fn service<S: crate::service::Service>(mut self, service: S) -> Self {
        self.router.add(self.layers.around(service));
        self
    }

    /// Puts a layer around every call of every service that this side serves. The first is the outermost.
    ///
    /// # Panics
    ///
    /// If there is a service already: layers come first, so that no service is left without.
    #[track_caller]
    pub fn layer<N: Layer>(self, layer: N) -> ConnectionBuilder<Stack<L, N>> {
        assert!(self.router.services() == 0, "{LAYERS_FIRST}");
        let ConnectionBuilder { limits, latency, router, layers, call_layers, codecs } = self;
        ConnectionBuilder { limits, latency, router, layers: Stack::new(layers, layer), call_layers, codecs }
    }

    /// Has a layer look at every call that this side makes. The first is the outermost.
    pub fn call_layer<N: CallLayer>(mut self, layer: N) -> Self {
        self.call_layers.add(layer);
        self
    }

    /// Offers these codecs, in this order of preference, instead of all that are compiled in. The server picks.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn codecs(mut self, codecs: &[CodecId]) -> Self {
        assert!(!codecs.is_empty(), "a connection needs a codec");
        self.codecs = Some(codecs.to_vec());
        self
    }

    /// Shakes hands over a transport that is connected already. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the peer speaks another protocol or version, or vanishes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the transport.
    pub async fn over(self, transport: BoxTransport) -> Result<Connection, ConnectError> {
        if Handle::try_current().is_err() {
            return Err(ConnectError::NoRuntime);
        }
        let connection = transport.start(self.into_start());
        connection.open().await?;
        Ok(connection)
    }

    pub(super) fn into_start(self) -> Start {
        Start {
            side: Side::Client,
            share: Arc::new(Share::new(&self.limits)),
            limits: self.limits,
            latency: self.latency,
            codecs: self.codecs.unwrap_or_else(|| CodecId::SUPPORTED.to_vec()),
            router: Arc::new(self.router),
            call_layers: self.call_layers.shared(),
            on_end: None,
            closing: Closing::No,
        }
    }
}

impl<L> fmt::Debug for ConnectionBuilder<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionBuilder").field("services", &self.router).finish_non_exhaustive()
    }
}

/// Called once when a connection has ended, with its last accounts.
pub(crate) type OnEnd = Box<dyn FnOnce(&ConnectionError, ConnectionStats) + Send>;

/// Everything a connection needs but its transport.
pub(crate) struct Start {
    pub(crate) side: Side,
    pub(crate) limits: Limits,
    pub(crate) latency: Latency,
    pub(crate) codecs: Vec<CodecId>,
    pub(crate) router: Arc<Router>,
    pub(crate) call_layers: Option<Arc<CallLayers>>,
    pub(crate) share: Arc<Share>,
    pub(crate) on_end: Option<OnEnd>,
    /// Whether it is to be closed as soon as it begins.
    pub(crate) closing: Closing,
}

impl Start {
    /// Joins it to a transport: spawns the driver, on the runtime whose thread this is. What comes back owns it.
    pub(crate) fn run<T: Transport>(self, transport: T) -> Connection {
        let protocol = self.protocol(&transport.properties());
        self.drive(transport, protocol).owned()
    }

    /// Its protocol, over a transport of which so much is known.
    fn protocol(&self, properties: &Properties) -> Protocol {
        Protocol::new(Config {
            side: self.side,
            limits: self.limits.clone(),
            codecs: self.codecs.clone(),
            chunk_len: properties.chunk_len,
            whole_len: properties.whole_len,
            silent_loss: properties.silent_loss,
            instance: random::bits128(),
            share: Arc::clone(&self.share),
        })
    }

    /// Spawns the driver. Nobody owns the connection yet.
    fn drive<T: Transport>(self, transport: T, protocol: Protocol) -> Connection {
        let properties = transport.properties();
        // In one process, the runtime that would look again is what makes the other end answer.
        let same_process = properties.peer == PeerIdentity::SameProcess;
        let latency = if same_process { Latency::PowerSave } else { self.latency };
        let (sender, writer, receiver) = transport.split(protocol.frame_len_max());
        // Handlers are the driver's. Whoever sleeps at once has no use for a thread that looks again.
        let leads = T::Receiver::DETACHES && self.router.services() == 0 && !latency.patience().is_zero();
        // On several threads a task that looks might keep a second one from sleeping.
        let one_thread = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        let leads = Leads { anybody: leads, tasks: leads && one_thread && !T::Writer::COSTLY };
        let shared =
            Arc::new(Shared::<T>::new(protocol, self.limits, properties, self.call_layers, (sender, writer), leads));
        let link: Arc<dyn Link> = Arc::clone(&shared) as Arc<dyn Link>;
        // Before the driver can read a HELLO and answer it.
        link.close(self.closing);
        let lent = Connection { link, _owner: None };
        let dispatcher = Dispatcher::new(lent.clone(), self.router, self.share, self.on_end);
        tokio::spawn(Driver::new(shared, receiver, dispatcher, latency).run());
        lent
    }
}
