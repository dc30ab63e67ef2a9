//! A trait becomes a service in another process.
//!
//! trunkline is remote procedure calls as what they are: calls laid over the operating system's own channels. An
//! attribute turns a Rust trait into a client and a server; a URI says what carries the calls. Changing the URI changes
//! the transport and nothing else.
//!
//! ```
//! #[trunkline::service]
//! pub trait Greeter {
//!     async fn greet(&self, name: &str) -> String;
//! }
//!
//! struct English;
//!
//! impl Greeter for English {
//!     async fn greet(&self, name: &str) -> String {
//!         format!("Hello, {name}!")
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In the one process …
//! tokio::spawn(trunkline::serve("mem:greeter", GreeterServer::new(English)));
//! # tokio::task::yield_now().await;
//!
//! // … and in the other.
//! let greeter = GreeterClient::connect("mem:greeter").await?;
//! assert_eq!(greeter.greet("world").await?, "Hello, world!");
//! # Ok(())
//! # }
//! ```
//!
//! # Endpoints
//!
//! | URI | feature | systems |
//! |---|---|---|
//! | `tcp://host:port` | `tcp` | Unix |
//! | `unix:/path` | `unix` | Unix |
//! | `shm:/path` | `shm` | Linux 5.14 and later, 64 bits, little-endian |
//! | `inherited:`, `stdio:`, `exec:program`, and `spawn` | `pipe` | Unix |
//! | `mem:name` | `mem` | all |
//!
//! All features are on by default. `over` takes any `AsyncRead + AsyncWrite`, `over_transport` a transport of one's own.
//!
//! # Beside the arguments
//!
//! A call may carry metadata, belong to a trace, have an id for when it is made again, and be more or less urgent than others. In a
//! handler, [`Context`] tells; and the handler's own calls inherit the time that is left, the trace, and a low priority.
//!
//! ```
//! use trunkline::{Context, MetadataKey};
//!
//! const TENANT: MetadataKey = MetadataKey::new("tenant");
//!
//! #[trunkline::service]
//! pub trait Greeter {
//!     async fn greet(&self, name: &str, cx: &Context) -> String;
//! }
//!
//! struct English;
//!
//! impl Greeter for English {
//!     async fn greet(&self, name: &str, cx: &Context) -> String {
//!         let tenant = cx.metadata().get(TENANT).unwrap_or("nobody");
//!         cx.set_reply_metadata("greeted-for", tenant).expect("it is short");
//!         format!("Hello, {name}!")
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::spawn(trunkline::serve("mem:beside", GreeterServer::new(English)));
//! # tokio::task::yield_now().await;
//! # let greeter = GreeterClient::connect("mem:beside").await?;
//! let (greeting, metadata) = greeter.greet("world").metadata(TENANT, "blue").with_metadata().await;
//! assert_eq!(greeting?, "Hello, world!");
//! assert_eq!(metadata.get("greeted-for"), Some("blue"));
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `tracing`, calls and their handlers have spans, joined across processes: see `telemetry`.
//!
//! # In tests
//!
//! `local` joins a client to a server in the same process: the same deadlines, cancellation, streams and errors, without an
//! endpoint, in a `#[tokio::test]` or on a plain thread. With `#[trunkline::service(mock)]` there is a `MockKv` as well, whose
//! methods are closures:
//!
//! ```
//! #[trunkline::service(mock)]
//! trait Kv {
//!     async fn get(&self, key: &str) -> Result<Option<String>, String>;
//!     async fn put(&self, key: &str, value: &str);
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mock = MockKv::new().get(|key| if key == "a" { Ok(Some("1".to_owned())) } else { Err(format!("no {key}")) });
//! let kv = KvClient::local(KvServer::new(mock));
//! assert_eq!(kv.get("a").await?.as_deref(), Some("1"));
//!
//! // What the mock was not told is as if nobody served it.
//! let error = kv.put("a", "2").await.unwrap_err();
//! assert_eq!(error.to_string(), "not executed: the peer serves no method `Kv.put`");
//!
//! // Answers that take time, or none: each method has a second one, whose closure returns a future.
//! let kv = KvClient::local(KvServer::new(MockKv::new().get_async(|_| std::future::pending())));
//! assert!(kv.get("a").timeout(std::time::Duration::from_millis(1)).await.is_err());
//! # Ok(()) }
//! ```
//!
//! # What holds
//!
//! - A call that failed says whether it may have run: see [`CallError`].
//! - A panic, bad arguments, a refusal or a timeout in one call never touches another; a peer that breaks the protocol
//!   ends its own connection only.
//! - Every call has a deadline, every queue and every buffer a limit: see [`Limits`].
//! - A type needs `Serialize` and `Deserialize`, nothing else, to travel.
//!
//! # Not here
//!
//! A broker, a registry, consensus (etcd, NATS and DNS exist); TLS, DNS or crypto of our own; exactly-once delivery; an
//! interface language beside Rust; hiding that a call can fail.

#![forbid(unsafe_code)]

mod connection;
mod endpoint;
mod mock;
#[cfg(not(all(unix, feature = "pipe")))]
mod no_pipe;
mod server;

pub use connection::{Connection, ConnectionBuilder};
pub use futures_core::Stream;
pub use server::{Server, ServerBuilder, serve};
pub use trunkline_core::{
    Call, CallError, CallId, CloseReason, Closed, ConnectError, ConnectionError, ConnectionStats, Context, DrainReport,
    Execution, HandshakeError, Inherited, Latency, Limit, Limits, Metadata, MetadataEntry, MetadataError, MetadataIter,
    MetadataKey, MetadataName, MetadataValue, NoResult, Opened, Peer, Pending, Pipelinable, Pipelined, Priority,
    ProtocolError, Reason, ServerHandle, ServerStats, Service, ServiceClient, StreamError, Streaming, TraceContext,
    TraceParseError, WithMetadata, allow_wait,
};
pub use trunkline_macros::service;
pub use trunkline_transports::BindError;

#[cfg(feature = "tracing")]
pub use trunkline_core::telemetry;

/// How values become bytes.
pub mod codec {
    pub use trunkline_core::codec::{CodecId, DecodeError, EncodeError};
}

/// What a service says about itself: names, arguments, options, documentation.
pub mod descriptor {
    pub use trunkline_core::method::{
        ArgumentDescriptor, MethodDescriptor, MethodId, MethodOptions, ServiceDescriptor, Slow,
    };
}

/// What is done around calls, on either side.
///
/// A [`Layer`](layer::Layer) is around every call that a server, or a connection's own services, answer: it sees a request
/// before its arguments are decoded, and may refuse it. A [`CallLayer`](layer::CallLayer) looks at every call that is made on
/// a connection.
///
/// ```
/// use trunkline::layer::{Answer, Layer, Next, Refusal, Request};
/// use trunkline::{CallError, Connection, Reason, Server, Service};
///
/// # #[trunkline::service]
/// # trait Kv {
/// #     async fn get(&self, key: &str) -> Option<String>;
/// #     async fn log_in(&self, name: &str, cx: &trunkline::Context);
/// # }
/// # struct Store;
/// # impl Kv for Store {
/// #     async fn get(&self, key: &str) -> Option<String> {
/// #         Some(key.to_owned())
/// #     }
/// #     async fn log_in(&self, name: &str, cx: &trunkline::Context) {
/// #         cx.connection().insert(Session { _name: name.to_owned() });
/// #     }
/// # }
/// struct Session {
///     _name: String,
/// }
///
/// /// Without a session, which `log_in` keeps with the connection, nothing else may be called.
/// struct Auth;
///
/// impl Layer for Auth {
///     async fn call<S: Service>(&self, request: &Request, next: Next<'_, S>) -> Result<Answer, Refusal> {
///         let session = request.context().connection().get::<Session>();
///         if session.is_none() && request.method().name != "log_in" {
///             return Err(Refusal::new(Reason::PermissionDenied));
///         }
///         next.run().await
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let connection = Connection::builder().local(Server::builder().layer(Auth).service(KvServer::new(Store)))?;
/// let kv: KvClient = connection.client();
/// assert_eq!(kv.get("a").await, Err(CallError::NotExecuted(Reason::PermissionDenied)));
/// kv.log_in("ada").await?;
/// assert_eq!(kv.get("a").await?.as_deref(), Some("a"));
/// # Ok(()) }
/// ```
pub mod layer {
    pub use trunkline_core::layer::{
        Answer, CallLayer, CallOutcome, EndedCall, Layer, Layered, Layers, Next, OutgoingCall, Refusal, Request, Stack,
    };
}

/// What carries frames: the traits behind every transport, and the transports there are.
///
/// Programs that use URIs need nothing from here. It is for transports of one's own, and for those that take options:
/// a Unix socket for other users, a ring of another size, a child with a grace, a TCP listener for the network.
///
/// ```no_run
/// # #[trunkline::service] trait Kv { async fn get(&self, key: &str) -> Option<String>; }
/// # #[cfg(all(target_os = "linux", target_pointer_width = "64", feature = "shm", feature = "pipe"))]
/// # async fn example(store: impl Kv) -> Result<(), Box<dyn std::error::Error>> {
/// use std::process::Command;
/// use std::time::Duration;
/// use trunkline::transport::{ShmConnector, ShmListener, Spawn};
/// use trunkline::{Connection, Server};
///
/// let listener = ShmListener::builder("/run/kv.sock").capacity(1 << 20).bind()?;
/// let server = Server::builder().service(KvServer::new(store)).listen(listener);
///
/// let connector = ShmConnector::new("/run/kv.sock").capacity(1 << 20);
/// let connection = Connection::builder().connect_with(&connector).await?; // keep it: its clients do not
/// let kv: KvClient = connection.client();
///
/// let spawn = Spawn::from(Command::new("./kv").arg("--threads=1")).kill_after(Duration::from_secs(5));
/// let kv = KvClient::spawn(spawn).await?;
/// # server.run().await;
/// # Ok(()) }
/// ```
pub mod transport {
    /// For implementing [`Listener`] and [`Connector`], whose methods are async and whose values are boxed.
    pub use async_trait::async_trait;
    pub use trunkline_core::frame::{FrameError, first_record};
    pub use trunkline_core::transport::*;
    pub use trunkline_transports::framing;
    pub use trunkline_transports::mem;
    #[cfg(feature = "mem")]
    pub use trunkline_transports::mem::{MemConnector, MemListener};
    pub use trunkline_transports::over::Over;
    #[cfg(all(unix, feature = "pipe"))]
    pub use trunkline_transports::pipe::{self, Inherited, PipeTransport, Spawn, Stdio};
    #[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
    pub use trunkline_transports::shm::{ShmConnector, ShmListener, ShmListenerBuilder};
    #[cfg(all(unix, feature = "tcp"))]
    pub use trunkline_transports::tcp::{TcpConnector, TcpListener, TcpListenerBuilder};
    #[cfg(all(unix, feature = "unix"))]
    pub use trunkline_transports::unix::{UnixConnector, UnixListener, UnixListenerBuilder};
}

/// What generated code names. Not for programs: it may change with any version.
#[doc(hidden)]
pub mod __private {
    pub use std::boxed::Box;
    pub use std::sync::Arc;
    pub use std::vec::Vec;

    pub use tokio::io::{AsyncRead, AsyncWrite};
    pub use trunkline_core::Client;
    pub use trunkline_core::method::{
        ArgumentDescriptor, MethodDescriptor, MethodOptions, ServiceDescriptor, Slow, assert_distinct,
    };
    pub use trunkline_core::serde;
    pub use trunkline_core::service::{Answer, Refusal, Request};
    pub use trunkline_core::streaming::{FallibleStreamed, Fed, Feed, Streamed};
    pub use trunkline_core::wire::{Arg, Block, Fallible, Maybe, Oneway, Plain, Value, assert_serialize};

    pub use crate::mock::{Items, Mocked, items, mocked, unmocked};
    use crate::{ConnectError, Connection};

    /// A client that owns its connection.
    pub async fn connect(endpoint: &str) -> Result<Client, ConnectError> {
        Connection::builder().connect(endpoint).await.map(Connection::into_client)
    }

    /// The same, without a runtime.
    pub fn connect_blocking(endpoint: &str) -> Result<Client, ConnectError> {
        Connection::builder().connect_blocking(endpoint).map(Connection::into_client)
    }

    /// A client over bytes.
    pub async fn over<S>(stream: S) -> Result<Client, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        Connection::builder().over(stream).await.map(Connection::into_client)
    }

    /// A client over frames.
    pub async fn over_transport<T>(transport: T) -> Result<Client, ConnectError>
    where
        T: crate::transport::Transport,
    {
        Connection::builder().over_transport(transport).await.map(Connection::into_client)
    }

    #[cfg(all(unix, feature = "pipe"))]
    pub use trunkline_transports::pipe::Spawn;

    /// A client of a process of its own.
    #[cfg(all(unix, feature = "pipe"))]
    pub async fn spawn(spawn: Spawn) -> Result<Client, ConnectError> {
        Connection::builder().spawn(spawn).await.map(Connection::into_client)
    }

    #[cfg(not(all(unix, feature = "pipe")))]
    pub use crate::no_pipe::{Spawn, spawn};

    /// A client of `service`, in this process.
    #[track_caller]
    pub fn local(service: impl crate::Service) -> Client {
        match crate::connection::connect_here() {
            Ok(connect) => Client::local(service, connect),
            Err(error) => panic!("{error}"),
        }
    }

    /// The connection of a client.
    pub fn connection(client: &Client) -> Connection {
        Connection::from(client.connection().clone())
    }
}
