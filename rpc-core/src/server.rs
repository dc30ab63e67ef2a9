//! A server: services, listeners, and the connections that come from them.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::call_layer::CallLayers;
use crate::clock;
use crate::codec::CodecId;
use crate::connection::{Closing, Connection, Start};
use crate::error::{CloseReason, ConnectionError};
use crate::latency::Latency;
use crate::layer::{CallLayer, LAYERS_FIRST, Layer, Layers, Stack};
use crate::limits::Limits;
use crate::protocol::Side;
use crate::service::{Router, Service};
use crate::share::{Held, Share};
use crate::stats::{ConnectionStats, ServerStats};
use crate::transport::{BoxTransport, Listener};

/// After an error of `accept`, the listener waits this long before it tries again; doubled up to the maximum.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(10);
const ACCEPT_BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Connections beyond the limit that are told so; more are dropped without a word.
const TURNED_AWAY_MAX: usize = 64;

/// Services and limits, before there is a listener. `L` is what is around each service.
#[derive(Default)]
#[must_use]
pub struct ServerBuilder<L = ()> {
    router: Router,
    layers: L,
    call_layers: CallLayers,
    limits: Limits,
    latency: Latency,
    codecs: Option<Vec<CodecId>>,
}

impl ServerBuilder {
    /// Serves what a router does.
    pub(crate) fn of_router(router: Router) -> ServerBuilder {
        ServerBuilder { router, ..ServerBuilder::default() }
    }
}

impl<L: Layers> ServerBuilder<L> {
    /// Adds a service. All services share every connection.
    ///
    /// # Panics
    ///
    /// If one of the same name is there already.
    pub fn service<S: Service>(mut self, service: S) -> Self {
        self.router.add(self.layers.around(service));
        self
    }

    /// Puts a layer around every call of every service. The first is the outermost.
    ///
    /// # Panics
    ///
    /// If there is a service already: layers come first, so that no service is left without.
    #[track_caller]
    pub fn layer<N: Layer>(self, layer: N) -> ServerBuilder<Stack<L, N>> {
        assert!(self.router.services() == 0, "{LAYERS_FIRST}");
        let ServerBuilder { router, layers, call_layers, limits, latency, codecs } = self;
        ServerBuilder { router, layers: Stack::new(layers, layer), call_layers, limits, latency, codecs }
    }

    /// Has a layer look at every call that handlers make to the peer that called them. The first is the outermost.
    pub fn call_layer<N: CallLayer>(mut self, layer: N) -> Self {
        self.call_layers.add(layer);
        self
    }

    /// Sets the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how much processor time connections may spend to answer sooner.
    pub fn latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// Allows these codecs instead of all that are compiled in. The first of the client's that is among them is used.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn codecs(mut self, codecs: &[CodecId]) -> Self {
        assert!(!codecs.is_empty(), "a server needs a codec");
        self.codecs = Some(codecs.to_vec());
        self
    }

    /// What a connection needs that is served without a listener.
    pub(crate) fn into_start(self) -> Start {
        Start {
            side: Side::Server,
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

    /// Takes connections from a listener.
    pub fn listen(self, listener: impl Listener) -> Server {
        let shared = Shared {
            router: Arc::new(self.router),
            call_layers: self.call_layers.shared(),
            share: Arc::new(Share::new(&self.limits)),
            limits: self.limits,
            latency: self.latency,
            codecs: self.codecs.unwrap_or_else(|| CodecId::SUPPORTED.to_vec()),
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            turned_away: AtomicUsize::new(0),
            counters: Mutex::default(),
            stop: CancellationToken::new(),
            closed: AtomicBool::new(false),
            gone: Notify::new(),
        };
        Server { shared: Arc::new(shared), listeners: Vec::new() }.listen(listener)
    }
}

impl<L> fmt::Debug for ServerBuilder<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("services", &self.router).finish_non_exhaustive()
    }
}

/// A server with its listeners. It takes connections while [`run`](Server::run) or
/// [`run_until`](Server::run_until) runs.
#[must_use = "a server does nothing until it runs"]
pub struct Server {
    shared: Arc<Shared>,
    listeners: Vec<Box<dyn Listener>>,
}

impl Server {
    /// Begins a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Takes connections from one more listener.
    pub fn listen(mut self, listener: impl Listener) -> Server {
        self.listeners.push(Box::new(listener));
        self
    }

    /// The URIs under which it can be reached, with real port numbers, in the order of the listeners.
    pub fn endpoints(&self) -> Vec<String> {
        self.listeners.iter().map(|listener| listener.endpoint()).collect()
    }

    /// A handle to look at the server, and to stop it, while it runs.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { shared: Arc::clone(&self.shared) }
    }

    /// Runs until [`ServerHandle::shutdown`] is called or nobody can connect any more. See [`run_until`](Server::run_until).
    pub async fn run(self) -> DrainReport {
        self.run_until(std::future::pending::<()>()).await
    }

    /// Runs until `signal` is ready, [`ServerHandle::shutdown`] is called, or no listener will ever bring another
    /// connection and the last one has ended; then drains.
    ///
    /// A draining server takes no new connections and tells its peers that it takes no new calls. Calls it has taken go
    /// on for at most [`Limits::drain_grace`] and are cut then; replies are flushed. It always ends: the grace and twice
    /// [`Limits::linger`] after `signal` at the latest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listeners and every connection, without a drain.
    pub async fn run_until<F: Future>(self, signal: F) -> DrainReport {
        let _close = CloseAll(Arc::clone(&self.shared));
        let stop = self.shared.stop.clone();
        let mut acceptors = JoinSet::new();
        for listener in self.listeners {
            acceptors.spawn(accept_loop(listener, Arc::clone(&self.shared)));
        }
        let mut signal = pin!(signal);
        {
            let mut exhausted = pin!(async {
                while let Some(ended) = acceptors.join_next().await {
                    // One that panicked has not said that nobody will come any more.
                    if ended.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                self.shared.all_gone().await;
            });
            let either = poll_fn(|cx| match signal.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => exhausted.as_mut().poll(cx),
            });
            stop.run_until_cancelled(either).await;
        }
        stop.cancel();
        while acceptors.join_next().await.is_some() {}
        self.shared.drain().await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("services", &self.shared.router)
            .field("endpoints", &self.endpoints())
            .finish_non_exhaustive()
    }
}

/// Looks at a server, and stops it, while it runs.
#[derive(Clone)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

impl ServerHandle {
    /// The server's accounts, now.
    pub fn stats(&self) -> ServerStats {
        self.shared.stats()
    }

    /// The accounts of each open connection, now.
    pub fn connections(&self) -> Vec<ConnectionStats> {
        self.shared.lock().values().flatten().map(Connection::stats).collect()
    }

    /// Tells the server to drain. Returns at once; [`Server::run_until`] returns when it is done.
    pub fn shutdown(&self) {
        self.shared.stop.cancel();
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Connections that were open when it began.
    pub connections: usize,
    /// Calls that were still running when the grace ended, and were cut.
    pub calls_cut: usize,
    /// How long it took.
    pub elapsed: Duration,
}

struct Shared {
    router: Arc<Router>,
    call_layers: Option<Arc<CallLayers>>,
    limits: Limits,
    latency: Latency,
    codecs: Vec<CodecId>,
    share: Arc<Share>,
    /// The open connections; none for a moment while one begins.
    connections: Mutex<HashMap<u64, Option<Connection>>>,
    next: AtomicU64,
    /// Connections that are being told that there are too many.
    turned_away: AtomicUsize,
    counters: Mutex<ServerStats>,
    stop: CancellationToken,
    /// Nobody looks after connections any more. Written and read with `connections` locked.
    closed: AtomicBool,
    /// A connection has ended.
    gone: Notify,
}

async fn accept_loop(mut listener: Box<dyn Listener>, shared: Arc<Shared>) {
    let mut backoff = ACCEPT_BACKOFF;
    loop {
        let Some(accepted) = shared.stop.run_until_cancelled(listener.accept()).await else {
            return;
        };
        match accepted {
            Ok(None) => return,
            Ok(Some(transport)) => {
                backoff = ACCEPT_BACKOFF;
                shared.take(transport);
            }
            // None of them is a reason to stop serving; out of descriptors is one to wait.
            Err(error) => {
                shared.counters().accept_errors += 1;
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    shared.stop.run_until_cancelled(tokio::time::sleep(backoff)).await;
                    backoff = (backoff * 2).min(ACCEPT_BACKOFF_MAX);
                }
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Option<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self) -> MutexGuard<'_, ServerStats> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a new connection, or tells it that there are too many.
    fn take(self: &Arc<Self>, transport: BoxTransport) {
        // Names the connection; ordered by nothing.
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(held) = self.share.hold(transport.properties().memory) else {
            // It goes at once, with its memory.
            self.counters().connections_refused += 1;
            return;
        };
        let mut connections = self.lock();
        if connections.len() >= self.limits.connections {
            drop(connections);
            self.counters().connections_refused += 1;
            return self.turn_away(transport, held);
        }
        // Its place, before it begins: it may end, and be forgotten, before this thread goes on.
        connections.insert(id, None);
        drop(connections);
        self.counters().connections_accepted += 1;
        let shared = Arc::clone(self);
        let on_end = Box::new(move |error: &_, stats| {
            drop(held);
            shared.forget(id, error, stats);
        });
        let start = self.start(Closing::No, on_end);
        let connection = transport.start(start);
        let mut connections = self.lock();
        match connections.get_mut(&id) {
            // Also if the server has been stopped meanwhile: it may have calls already, and the drain, which waits for whoever
            // accepts, waits for them.
            Some(place) if !self.closed.load(Ordering::Relaxed) => *place = Some(connection),
            _ => {
                // The connection is over already, or the server is.
                drop(connections);
                connection.end(CloseReason::ShuttingDown);
            }
        }
    }

    fn start(&self, closing: Closing, on_end: crate::connection::OnEnd) -> Start {
        Start {
            side: Side::Server,
            limits: self.limits.clone(),
            latency: self.latency,
            codecs: self.codecs.clone(),
            router: Arc::clone(&self.router),
            call_layers: self.call_layers.clone(),
            share: Arc::clone(&self.share),
            on_end: Some(on_end),
            closing,
        }
    }

    fn turn_away(self: &Arc<Self>, transport: BoxTransport, held: Held) {
        // A bound, not a synchronisation: a few more would do no harm.
        if self.turned_away.fetch_add(1, Ordering::Relaxed) >= TURNED_AWAY_MAX {
            self.turned_away.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let shared = Arc::clone(self);
        let on_end = Box::new(move |_: &_, _| {
            drop(held);
            shared.turned_away.fetch_sub(1, Ordering::Relaxed);
        });
        // Its owner: what it drops is closed, which it is already.
        drop(transport.start(self.start(Closing::Now(CloseReason::TooManyConnections), on_end)));
    }

    fn forget(&self, id: u64, error: &ConnectionError, stats: ConnectionStats) {
        let mut connections = self.lock();
        let connection = connections.remove(&id);
        {
            let mut counters = self.counters();
            counters.add(&stats);
            match error {
                ConnectionError::Protocol(_) => counters.protocol_errors += 1,
                ConnectionError::Silent(_) | ConnectionError::WriteStalled(_) => counters.timeouts += 1,
                _ => {}
            }
        }
        drop(connections);
        drop(connection);
        self.gone.notify_waiters();
    }

    /// Both locks at once, so that no connection is counted twice or not at all while it ends.
    fn stats(&self) -> ServerStats {
        let connections = self.lock();
        let mut stats = *self.counters();
        stats.connections = connections.len();
        stats.calls_in_flight = self.share.calls();
        stats.memory = self.share.bytes();
        for connection in connections.values().flatten() {
            stats.add(&connection.stats());
        }
        stats
    }

    async fn drain(&self) -> DrainReport {
        let began = clock::now();
        let connections: Vec<Connection> = self.lock().values().flatten().map(Connection::lent).collect();
        for connection in &connections {
            connection.drain();
        }
        let drained = tokio::time::timeout(self.limits.drain_grace, self.all_gone()).await.is_ok();
        let calls_cut = if drained { 0 } else { self.share.calls() };
        if !drained {
            for connection in &connections {
                connection.end(CloseReason::ShuttingDown);
            }
            // Each has its linger to flush what it owes; then nothing holds it.
            let _ = tokio::time::timeout(self.limits.linger * 2, self.all_gone()).await;
        }
        DrainReport { connections: connections.len(), calls_cut, elapsed: clock::now() - began }
    }

    async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.lock().is_empty() {
                return;
            }
            gone.await;
        }
    }
}

/// Ends every connection, however the server's future ends.
struct CloseAll(Arc<Shared>);

impl Drop for CloseAll {
    fn drop(&mut self) {
        self.0.stop.cancel();
        let connections = {
            let mut connections = self.0.lock();
            self.0.closed.store(true, Ordering::Relaxed);
            std::mem::take(&mut *connections)
        };
        for connection in connections.values().flatten() {
            connection.end(CloseReason::ShuttingDown);
        }
    }
}
