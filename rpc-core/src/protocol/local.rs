//! The handshake of two ends that are in one place.

use super::{Effects, Protocol};
use crate::error::ConnectionError;
use crate::transport::{BatchBuffer, Bytes, FrameSender};

/// Shakes hands, with the frames that would travel, before there is anything for them to travel over.
///
/// # Errors
///
/// If the two cannot agree.
pub(crate) fn introduce(client: &mut Protocol, server: &mut Protocol) -> Result<(), ConnectionError> {
    tell(client, server)?;
    tell(server, client)
}

/// Hands the HELLO of `from` to `to`.
fn tell(from: &mut Protocol, to: &mut Protocol) -> Result<(), ConnectionError> {
    let (mut out, mut hello) = (BatchBuffer::default(), Bytes::default());
    from.transmit(&mut out, &mut Vec::new());
    out.take_batch(&mut hello);
    to.handle(hello.as_slice(), &mut Effects::default()).map_err(|error| *error)
}
