//! trunkline's core: the wire format, the codec, the protocol, the driver, the client and the server.
//!
//! Users depend on the `trunkline` crate, which re-exports what they need; transports depend on this one.
//!
//! # Invariants
//!
//! - The protocol machine performs no I/O and never reads a clock; time and the buffer it writes to are arguments.
//! - [`frame`] alone knows where in a frame the bytes are.
//! - No byte from a peer can panic this crate, make it allocate more than its [`Limits`], or make another connection fail.
//! - There is no unsafe code here.
//!
//! # Not here
//!
//! Sockets, and everything else that names a mechanism: see `trunkline-transports`.

#![forbid(unsafe_code)]

pub mod call;
pub mod client;
pub mod codec;
pub mod error;
pub mod frame;
pub mod latency;
pub mod layer;
pub mod limits;
pub mod method;
pub mod server;
pub mod service;
pub mod stats;
pub mod streaming;
#[cfg(feature = "tracing")]
pub mod telemetry;
pub mod transport;
pub mod wire;

mod body;
mod call_id;
mod call_layer;
mod clock;
mod connection;
mod context;
mod inherit;
mod landing;
mod metadata;
mod object;
mod priority;
mod protocol;
mod random;
mod rare;
mod scratch;
mod share;
#[cfg(not(feature = "tracing"))]
#[path = "no_telemetry.rs"]
mod telemetry;
mod trace;
mod waiter;

#[doc(hidden)]
pub use serde;

pub use call::{Call, Opened, Pending, Pipelinable, Pipelined, WithMetadata};
pub use call_id::CallId;
pub use client::{Client, ServiceClient};
pub use connection::{Connection, ConnectionBuilder};
pub use context::{Context, Peer, allow_wait};
pub use error::{
    CallError, CloseReason, ConnectError, ConnectionError, Execution, HandshakeError, NoResult, ProtocolError, Reason,
};
pub use inherit::Inherited;
pub use latency::Latency;
pub use limits::{Limit, Limits};
pub use metadata::{Metadata, MetadataEntry, MetadataError, MetadataIter, MetadataKey, MetadataName, MetadataValue};
pub use object::Closed;
pub use priority::Priority;
pub use protocol::{MAJOR, MINOR};
pub use server::{DrainReport, Server, ServerBuilder, ServerHandle};
pub use service::Service;
pub use stats::{ConnectionStats, ServerStats};
pub use streaming::{StreamError, Streaming};
pub use trace::{TraceContext, TraceParseError};
