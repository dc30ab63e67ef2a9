//! Connections that this side makes.

use std::any::Any;
use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Handle};
use trunkline_core::codec::CodecId;
use trunkline_core::layer::{CallLayer, Layer, Layers, Stack};
use trunkline_core::transport::{BoxTransport, Connector, PeerIdentity, Transport};
use trunkline_core::{Client, ConnectError, ConnectionError, ConnectionStats, Latency, Limits, Service, ServiceClient};
use trunkline_transports::mem;
use trunkline_transports::over::Over;

use crate::endpoint;
use crate::server::ServerBuilder;

/// A connection to a peer, with any number of clients on it.
///
/// Clones share it. The last clone of a connection that was made with [`Connection::builder`], or of a client made by
/// its `connect`, closes it: what was sent is flushed first, and calls in flight have [`Limits::linger`] to end. Clients
/// taken from a connection with [`client`](Connection::client) do not keep it open.
#[derive(Clone)]
pub struct Connection {
    inner: trunkline_core::Connection,
}

impl Connection {
    /// Begins a connection with options.
    ///
    /// ```no_run
    /// # #[trunkline::service] trait Kv { async fn get(&self, key: &str) -> Option<String>; }
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use trunkline::{Connection, Limits};
    ///
    /// let limits = Limits::default().message_len(64 << 20);
    /// let connection = Connection::builder().limits(limits).connect("unix:/run/kv.sock").await?;
    /// let kv: KvClient = connection.client();
    /// # Ok(()) }
    /// ```
    pub fn builder() -> ConnectionBuilder {
        ConnectionBuilder { inner: trunkline_core::Connection::builder(), exec: false }
    }

    /// A client of a service on this connection. It does not keep the connection open.
    pub fn client<C: ServiceClient>(&self) -> C {
        self.inner.client()
    }

    /// Who is at the other end, as far as the transport vouches for it.
    pub fn peer(&self) -> &PeerIdentity {
        self.inner.peer()
    }

    /// What carries it: `tcp`, `unix`, ….
    pub fn transport(&self) -> &'static str {
        self.inner.transport()
    }

    /// Its accounts, now.
    pub fn stats(&self) -> ConnectionStats {
        self.inner.stats()
    }

    /// Keeps a value with the connection, one of each type: for the handlers of the services that this side serves on it,
    /// which find it with `cx.connection().get()`. It goes when the connection has ended. A value that holds this connection, or
    /// a client of its owner's, keeps it open.
    pub fn insert<T: Any + Send + Sync>(&self, value: T) {
        self.inner.insert(value);
    }

    /// The value of this type that is kept with the connection.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.inner.get()
    }

    /// Takes the value of this type away from the connection.
    pub fn remove<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.inner.remove()
    }

    /// Whether the peer has said that it takes no new calls.
    pub fn is_peer_draining(&self) -> bool {
        self.inner.is_peer_draining()
    }

    /// Closes it, whoever else holds it: what was sent is flushed, calls in flight have [`Limits::linger`] to end.
    /// Returns at once; [`closed`](Connection::closed) tells when it is done.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Waits for the connection to end, and says why it did.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn closed(&self) -> ConnectionError {
        self.inner.closed().await
    }

    pub(crate) fn into_client(self) -> Client {
        Client::new(self.inner)
    }
}

impl From<trunkline_core::Connection> for Connection {
    fn from(inner: trunkline_core::Connection) -> Connection {
        Connection { inner }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// What a connection is made with, before it is made. `L` is what is around each service: see
/// [`layer`](ConnectionBuilder::layer).
#[derive(Clone)]
#[must_use]
pub struct ConnectionBuilder<L = ()> {
    inner: trunkline_core::ConnectionBuilder<L>,
    /// Whether a URI may start a program.
    exec: bool,
}

impl<L: Layers> ConnectionBuilder<L> {
    /// Sets the limits of this side.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.inner = self.inner.limits(limits);
        self
    }

    /// Sets how much processor time this side may spend to answer sooner.
    pub fn latency(mut self, latency: Latency) -> Self {
        self.inner = self.inner.latency(latency);
        self
    }

    /// Serves a service to the peer, on the same connection.
    ///
    /// # Panics
    ///
    /// If a service of the same name is there already.
    pub fn service<S: Service>(mut self, service: S) -> Self {
        self.inner = self.inner.service(service);
        self
    }

    /// Puts a layer around every call of every service that this side serves. The first is the outermost.
    ///
    /// # Panics
    ///
    /// If there is a service already: layers come first, so that no service is left without.
    #[track_caller]
    pub fn layer<N: Layer>(self, layer: N) -> ConnectionBuilder<Stack<L, N>> {
        ConnectionBuilder { inner: self.inner.layer(layer), exec: self.exec }
    }

    /// Has a layer look at every call that this side makes: before it is encoded, when it may still be given another timeout
    /// or be refused, and when it has ended. The first is the outermost.
    pub fn call_layer<N: CallLayer>(mut self, layer: N) -> Self {
        self.inner = self.inner.call_layer(layer);
        self
    }

    /// Offers these codecs, in this order of preference, instead of all that are compiled in. The server picks.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn codecs(mut self, codecs: &[CodecId]) -> Self {
        self.inner = self.inner.codecs(codecs);
        self
    }

    /// Lets [`connect`](Self::connect) start a program where the endpoint says `exec:./program --flag`: whoever writes
    /// the endpoint, in a configuration say, then decides what is run here.
    ///
    /// The program and its arguments are split at spaces. There is no shell, and there are no quotes; in code,
    /// [`spawn`](Self::spawn) has neither the problem nor the limit.
    #[cfg(all(unix, feature = "pipe"))]
    pub fn allow_exec(mut self) -> Self {
        self.exec = true;
        self
    }

    /// Starts a program that serves `inherited:`, and connects to it. Needs a tokio runtime. What can be said about the
    /// child, such as how long it has to end, says [`Spawn`](crate::transport::Spawn).
    ///
    /// # Errors
    ///
    /// If the program cannot be started, ends before it has answered, or speaks something else.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up; the child is ended.
    #[cfg(all(unix, feature = "pipe"))]
    pub async fn spawn(self, command: impl Into<crate::transport::Spawn>) -> Result<Connection, ConnectError> {
        self.connect_with(&command.into()).await
    }

    /// Connects to an endpoint: `tcp://host:port`, `unix:/path`, `shm:/path`, `mem:name`, `stdio:`, and `exec:./program` where
    /// [`allow_exec`](Self::allow_exec) is given. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the endpoint is malformed, nobody answers there, or whoever does speaks something else.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    pub async fn connect(self, endpoint: impl AsRef<str>) -> Result<Connection, ConnectError> {
        let connector = endpoint::connector(endpoint.as_ref(), self.exec)?;
        self.connect_with(&*connector).await
    }

    /// Connects through a connector: one with options, or one of the program's own.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_with(self, connector: &dyn Connector) -> Result<Connection, ConnectError> {
        if Handle::try_current().is_err() {
            return Err(ConnectError::NoRuntime);
        }
        let transport = connector.connect().await?;
        self.inner.over(transport).await.map(Connection::from)
    }

    /// The same without a runtime: a thread of the library's own, shared by all such connections, drives it.
    ///
    /// That thread drives streams as well that are arguments of calls. One that blocks, on a channel of the standard library
    /// or a file say, stops all of those connections.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_blocking(self, endpoint: impl AsRef<str>) -> Result<Connection, ConnectError> {
        let connector = endpoint::connector(endpoint.as_ref(), self.exec)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        background()?.spawn(async move {
            let _ = sender.send(self.connect_with(&*connector).await);
        });
        receiver.recv().unwrap_or(Err(ConnectError::Lost(ConnectionError::RuntimeGone)))
    }

    /// Serves `server` inside this process and connects to it, without an endpoint: what holds between two processes holds
    /// here, deadlines, cancellation, limits, streams and errors alike, since it is the same protocol over a pair of queues.
    /// The server ends with the connection.
    ///
    /// Both ends run on the tokio runtime whose thread this is; where there is none, on the thread that
    /// [`connect_blocking`](Self::connect_blocking) uses, with handlers and all.
    ///
    /// ```
    /// # #[trunkline::service] trait Kv { async fn get(&self, key: &str) -> Option<String>; }
    /// # struct Store;
    /// # impl Kv for Store { async fn get(&self, key: &str) -> Option<String> { Some(key.to_owned()) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use trunkline::{Connection, Limits, Server};
    ///
    /// let server = Server::builder().service(KvServer::new(Store)).limits(Limits::default().in_flight_per_connection(1));
    /// let connection = Connection::builder().local(server)?;
    /// let kv: KvClient = connection.client();
    /// assert_eq!(kv.get("a").await?.as_deref(), Some("a"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the two sides have no codec in common, or there is no runtime and no thread to be had for one.
    pub fn local<M: Layers>(self, server: ServerBuilder<M>) -> Result<Connection, ConnectError> {
        let here = Handle::try_current();
        let runtime = match &here {
            Ok(here) => here,
            Err(_) => background()?,
        };
        let _entered = runtime.enter();
        self.inner.local(server.into_inner(), mem::pair_called("local")).map(Connection::from)
    }

    /// Shakes hands over a byte stream that is connected already.
    ///
    /// # Errors
    ///
    /// If the peer speaks another protocol or version, or vanishes.
    pub async fn over<S>(self, stream: S) -> Result<Connection, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        self.over_transport(Over::new(stream)).await
    }

    /// Shakes hands over a transport that is connected already.
    ///
    /// # Errors
    ///
    /// If the peer speaks another protocol or version, or vanishes.
    pub async fn over_transport<T: Transport>(self, transport: T) -> Result<Connection, ConnectError> {
        self.inner.over(BoxTransport::new(transport)).await.map(Connection::from)
    }
}

impl<L> fmt::Debug for ConnectionBuilder<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// The runtime of connections without one: a thread that is started when the first is made and lives as long as the
/// process.
fn background() -> Result<&'static Handle, ConnectError> {
    static BACKGROUND: OnceLock<Option<Handle>> = OnceLock::new();
    let start = || {
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        let handle = runtime.handle().clone();
        let drive = move || runtime.block_on(std::future::pending::<()>());
        std::thread::Builder::new().name("trunkline".to_owned()).spawn(drive).ok()?;
        Some(handle)
    };
    BACKGROUND.get_or_init(start).as_ref().ok_or(ConnectError::NoRuntime)
}
