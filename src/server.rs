//! Servers by URI.

use std::fmt;
use std::future::Future;

use trunkline_core::codec::CodecId;
use trunkline_core::layer::{CallLayer, Layer, Layers, Stack};
use trunkline_core::transport::Listener;
use trunkline_core::{DrainReport, Latency, Limits, ServerHandle, Service};
use trunkline_transports::BindError;

use crate::endpoint;

/// Serves one service at one endpoint, for as long as the future is polled.
///
/// The long way, with several of either, limits and an orderly end, is [`Server::builder`].
///
/// # Errors
///
/// If nobody can listen there.
///
/// # Cancel safety
///
/// Dropping the future closes the listener and every connection at once.
pub async fn serve(endpoint: impl AsRef<str>, service: impl Service) -> Result<(), BindError> {
    Server::builder().service(service).bind(endpoint).await?.run().await;
    Ok(())
}

/// Services and limits, before there is an endpoint. `L` is what is around each service: see
/// [`layer`](ServerBuilder::layer).
#[derive(Default)]
#[must_use]
pub struct ServerBuilder<L = ()> {
    inner: trunkline_core::ServerBuilder<L>,
}

impl<L: Layers> ServerBuilder<L> {
    /// Adds a service. All services share every connection.
    ///
    /// # Panics
    ///
    /// If one of the same name is there already.
    pub fn service<S: Service>(mut self, service: S) -> Self {
        self.inner = self.inner.service(service);
        self
    }

    /// Puts a layer around every call of every service: it may refuse a call before its arguments are decoded, time it,
    /// count it. The first layer is the outermost.
    ///
    /// # Panics
    ///
    /// If there is a service already: layers come first, so that no service is left without.
    #[track_caller]
    pub fn layer<N: Layer>(self, layer: N) -> ServerBuilder<Stack<L, N>> {
        ServerBuilder { inner: self.inner.layer(layer) }
    }

    /// Has a layer look at every call that handlers make to the peer that called them. The first is the outermost.
    pub fn call_layer<N: CallLayer>(mut self, layer: N) -> Self {
        self.inner = self.inner.call_layer(layer);
        self
    }

    /// Sets the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.inner = self.inner.limits(limits);
        self
    }

    /// Sets how much processor time connections may spend to answer sooner.
    pub fn latency(mut self, latency: Latency) -> Self {
        self.inner = self.inner.latency(latency);
        self
    }

    /// Allows these codecs instead of all that are compiled in. The first of the client's that is among them is used.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn codecs(mut self, codecs: &[CodecId]) -> Self {
        self.inner = self.inner.codecs(codecs);
        self
    }

    /// Listens at an endpoint: `tcp://host:port`, `unix:/path`, `shm:/path`, `mem:name`, `inherited:`, `stdio:`. Port 0
    /// takes a free one.
    ///
    /// # Errors
    ///
    /// If the endpoint is malformed, or nobody can listen there.
    pub async fn bind(self, endpoint: impl AsRef<str>) -> Result<Server, BindError> {
        let listener = endpoint::listener(endpoint.as_ref()).await?;
        Ok(self.listen(listener))
    }

    pub(crate) fn into_inner(self) -> trunkline_core::ServerBuilder<L> {
        self.inner
    }

    /// Takes connections from a listener: one with options, or one of the program's own.
    pub fn listen(self, listener: impl Listener) -> Server {
        Server { inner: self.inner.listen(listener) }
    }
}

impl<L> fmt::Debug for ServerBuilder<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A server with its endpoints. It takes connections while [`run`](Server::run) or [`run_until`](Server::run_until)
/// runs.
///
/// ```
/// # #[trunkline::service] trait Kv { async fn get(&self, key: &str) -> Option<String>; }
/// # struct Store;
/// # impl Kv for Store { async fn get(&self, _: &str) -> Option<String> { None } }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use trunkline::{Limits, Server};
///
/// let server = Server::builder()
///     .service(KvServer::new(Store))
///     .limits(Limits::default().in_flight_per_connection(256))
///     .bind("tcp://127.0.0.1:0")
///     .await?
///     .bind("mem:kv")
///     .await?;
/// println!("{:?}", server.endpoints()); // real port numbers
/// # async fn signal() {}
/// let report = server.run_until(signal()).await; // drains, within a bounded time
/// assert_eq!(report.calls_cut, 0);
/// # Ok(()) }
/// ```
#[must_use = "a server does nothing until it runs"]
pub struct Server {
    inner: trunkline_core::Server,
}

impl Server {
    /// Begins a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Listens at one more endpoint.
    ///
    /// # Errors
    ///
    /// If the endpoint is malformed, or nobody can listen there.
    pub async fn bind(self, endpoint: impl AsRef<str>) -> Result<Server, BindError> {
        let listener = endpoint::listener(endpoint.as_ref()).await?;
        Ok(self.listen(listener))
    }

    /// Takes connections from one more listener.
    pub fn listen(self, listener: impl Listener) -> Server {
        Server { inner: self.inner.listen(listener) }
    }

    /// The URIs under which it can be reached, with real port numbers, in the order they were added.
    pub fn endpoints(&self) -> Vec<String> {
        self.inner.endpoints()
    }

    /// A handle to look at the server, and to stop it, while it runs.
    pub fn handle(&self) -> ServerHandle {
        self.inner.handle()
    }

    /// Runs until [`ServerHandle::shutdown`] is called or nobody can connect any more. See [`run_until`](Server::run_until).
    pub async fn run(self) -> DrainReport {
        self.inner.run().await
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
        self.inner.run_until(signal).await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
