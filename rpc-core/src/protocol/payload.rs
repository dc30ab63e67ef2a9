//! A request's payload on its way to the handler, and a reply's on its way from it.

use crate::body::{Body, Received};
use crate::landing::Lease;
use crate::scratch::Scratch;

/// What a handler returned, encoded.
#[derive(Debug)]
pub(crate) enum Encoded<'a> {
    /// Where somebody else keeps it.
    There(&'a [u8]),
    /// In the buffer into which it was encoded, until it is placed or has to wait.
    Scratch(Scratch),
    Own(Body),
}

impl Encoded<'_> {
    pub(crate) const EMPTY: Encoded<'static> = Encoded::There(&[]);

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Encoded::There(bytes) => bytes,
            Encoded::Scratch(bytes) => bytes,
            Encoded::Own(bytes) => bytes,
        }
    }

    /// For one that waits, which is counted by its length and must not hold more.
    pub(crate) fn into_body(self) -> Body {
        match self {
            Encoded::There(bytes) => Body::from(bytes),
            Encoded::Scratch(bytes) => Body::from(bytes.as_slice()),
            Encoded::Own(bytes) => bytes,
        }
    }
}

/// The bytes of a request: small ones inline, large ones in a buffer of their own, or where the transport has them.
#[derive(Debug)]
pub(crate) enum Payload {
    Inline { bytes: [u8; Payload::INLINE_MAX], len: u8 },
    Buffer(Body),
    Lent(Lease),
}

impl Payload {
    /// Payloads up to this many bytes need no buffer.
    pub(crate) const INLINE_MAX: usize = 96;

    pub(crate) fn copy(payload: &[u8]) -> Payload {
        if payload.len() > Payload::INLINE_MAX {
            return Payload::Buffer(Body::from(payload));
        }
        let mut bytes = [0; Payload::INLINE_MAX];
        bytes[..payload.len()].copy_from_slice(payload);
        Payload::Inline { bytes, len: payload.len() as u8 }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Payload::Inline { bytes, len } => &bytes[..usize::from(*len)],
            Payload::Buffer(bytes) => bytes,
            Payload::Lent(bytes) => bytes,
        }
    }
}

/// Empty.
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
