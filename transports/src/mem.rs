//! Transports inside one process: a name leads to a listener, and bytes go through bounded queues.
//!
//! What travels is the same frames as on every other transport, so that a program can be tested in one process and
//! deployed in two.

#[cfg(feature = "mem")]
mod named;
mod pipe;

use trunkline_core::transport::{PeerIdentity, Properties};

use crate::framing::ByteTransport;

#[cfg(feature = "mem")]
pub use named::{MemConnector, MemListener};
pub use pipe::{MemReader, MemWriter};

/// One end of a pair of queues.
pub type MemTransport = ByteTransport<MemReader, MemWriter>;

/// Two ends that are connected with each other, 256 KiB of room in each direction.
pub fn pair() -> (MemTransport, MemTransport) {
    pair_called("mem")
}

/// The same under another name, which is what their connections say that they are carried by.
pub fn pair_called(name: &'static str) -> (MemTransport, MemTransport) {
    let (there, from_here) = pipe::pipe();
    let (here, from_there) = pipe::pipe();
    let properties = Properties::new(name, PeerIdentity::SameProcess);
    (ByteTransport::new(properties.clone(), here, from_here), ByteTransport::new(properties, there, from_there))
}
