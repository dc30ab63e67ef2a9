//! The transports of trunkline: one module a mechanism, and the framing that byte streams share.
//!
//! | module | carries frames over | URI |
//! |---|---|---|
//! | [`unix`] | Unix stream sockets | `unix:/path` |
//! | [`tcp`] | TCP | `tcp://host:port` |
//! | `shm` | rings in shared memory, on 64-bit Linux | `shm:/path` |
//! | [`pipe`] | pairs of pipes, to a child and from a parent | `exec:program`, `inherited:`, `stdio:` |
//! | [`mem`] | bounded channels inside one process | `mem:name` |
//! | [`over`] | any `AsyncRead + AsyncWrite` the program brings along | |
//! | [`framing`] | what a byte stream has to offer to become a transport | |
//!
//! Programs rarely name anything here: a URI given to the `trunkline` crate chooses among them.
//!
//! # Invariants
//!
//! - Frames arrive whole, in order, and as they were placed, however the mechanism cuts the bytes.
//! - A receive buffer grows with what has really arrived, never with what a header claims.
//! - [`BatchWriter::written`](trunkline_core::transport::BatchWriter::written) is never behind what the peer may have
//!   seen: what lies beyond it has certainly not been executed.
//! - A listener says who connected as far as the kernel vouches for it, and admits nobody it was not told to admit.
//! - A socket file on which somebody answers is never removed, and nothing that is no socket ever is.
//! - A peer can end its own connection; it can neither end nor slow down the listener.
//!
//! # Non-goals
//!
//! Calls, streams, credit and deadlines (`trunkline-core` has them); encryption (wrap a TLS stream in
//! [`Over`](over::Over)); names and discovery; sockets in Linux's abstract namespace, which have no permissions.

#![deny(unsafe_code)]

mod error;
#[cfg(all(unix, any(feature = "tcp", feature = "unix", feature = "pipe")))]
mod fd;
pub mod framing;
pub mod mem;
pub mod over;
#[cfg(all(unix, feature = "pipe"))]
pub mod pipe;
#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
pub mod shm;
#[cfg(all(unix, any(feature = "tcp", feature = "unix")))]
pub mod socket;
#[cfg(all(unix, feature = "unix"))]
mod suspect;
#[cfg(all(unix, any(feature = "pipe", feature = "unix")))]
mod sys;
#[cfg(all(unix, feature = "tcp"))]
pub mod tcp;
#[cfg(all(unix, feature = "unix"))]
pub mod unix;

pub use error::BindError;
