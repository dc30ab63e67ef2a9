//! A request's payload on its way to the handler, or a reply's on its way from it: small ones inline, large ones in a
//! buffer of their own, or where the transport has them.

use crate::body::{Body, Received};
use crate::landing::Lease;

/// The bytes of a request or a reply.
#[derive(Debug)]
pub(crate) enum Payload {
    Inline { bytes: [u8; Payload::INLINE_MAX], len: u8 },
    Buffer(Body),
    Lent(Lease),
}

impl Payload {
    /// Payloads up to this many bytes need no buffer.
    pub(crate) const INLINE_MAX: usize = 96;

    pub(crate) const EMPTY: Payload = Payload::Inline { bytes: [0; Payload::INLINE_MAX], len: 0 };

    pub(crate) fn copy(payload: &[u8]) -> Payload {
        if payload.len() > Payload::INLINE_MAX {
            return Payload::Buffer(Body::from(payload));
        }
        let mut bytes = [0; Payload::INLINE_MAX];
        bytes[..payload.len()].copy_from_slice(payload);
        Payload::Inline { bytes, len: payload.len() as u8 }
    }

    pub(crate) fn into_body(self) -> Body {
        match self {
            Payload::Inline { bytes, len } => Body::from(&bytes[..usize::from(len)]),
            Payload::Buffer(bytes) => bytes,
            Payload::Lent(bytes) => Body::from(&*bytes),
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Payload::Inline { bytes, len } => &bytes[..usize::from(*len)],
            Payload::Buffer(bytes) => bytes,
            Payload::Lent(bytes) => bytes,
        }
    }
}

/// Empty, and cheaper to make than [`Payload::EMPTY`].
impl Default for Payload {
    fn default() -> Payload {
        Payload::Buffer(Body::default())
    }
}

impl From<Body> for Payload {
    fn from(bytes: Body) -> Payload {
        Payload::Buffer(bytes)
    }
}

impl From<Received> for Payload {
    fn from(bytes: Received) -> Payload {
        match bytes {
            Received::Own(bytes) => Payload::Buffer(bytes),
            Received::Lent(bytes) => Payload::Lent(bytes),
        }
    }
}
