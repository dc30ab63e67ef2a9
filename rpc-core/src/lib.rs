//! trunkline's core: the wire format, the codec, the protocol, the driver, the client and the server.
//!
//! Users depend on the `trunkline` crate, which re-exports what they need; transports depend on this one.
//!
//! # Invariants
//!
//! - The protocol machine performs no I/O and never reads a clock; time and the buffer it writes to are arguments.
//! - [`frame`] is the only module that knows byte offsets.
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
pub mod limits;
pub mod method;
pub mod server;
pub mod service;
pub mod stats;
pub mod streaming;
pub mod transport;
pub mod wire;

mod body;
mod clock;
mod connection;
mod context;
mod landing;
mod object;
mod protocol;
mod scratch;
mod share;
mod waiter;

#[doc(hidden)]
pub use serde;

pub use call::{Call, Pending};
pub use client::{Client, ServiceClient};
pub use connection::{Connection, ConnectionBuilder};
pub use context::{Context, Peer, allow_wait};
pub use error::{
    CallError, CloseReason, ConnectError, ConnectionError, Execution, HandshakeError, ProtocolError, Reason,
};
pub use latency::Latency;
pub use limits::{Limit, Limits};
pub use object::Closed;
pub use protocol::{MAJOR, MINOR};
pub use server::{DrainReport, Server, ServerBuilder, ServerHandle};
pub use service::Service;
pub use stats::{ConnectionStats, ServerStats};
pub use streaming::{StreamError, Streaming};
