//! Why a value could not be encoded or decoded.

use std::fmt;

/// Why a value could not be encoded. The cause is always its type, never the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// `skip_serializing_if` skipped a field, which the receiver would not notice.
    #[error("the field `{0}` was skipped, which no compact codec can express: remove `skip_serializing_if`")]
    SkippedField(&'static str),
    /// A sequence or map whose length is not known before its end; `flatten` makes one of a struct.
    #[error("a sequence or map of unknown length: remove `flatten`, or collect into a `Vec` first")]
    UnknownLength,
    /// A type's own `Serialize` announced another number of elements than it wrote.
    #[error("{announced} elements were announced and {written} written: the type's own `Serialize` is wrong")]
    WrongLength {
        /// How many were announced.
        announced: usize,
        /// How many followed.
        written: usize,
    },
    /// A type's own `Serialize` failed.
    #[error("{0}")]
    Message(String),
}

impl serde::ser::Error for EncodeError {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        EncodeError::Message(message.to_string())
    }
}

/// Why bytes could not be decoded.
///
/// Of an error that a peer reports only the kind crosses the wire: numbers are 0 then, and texts empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are no value of this type. Were both sides built from the same definition?
    #[error("the bytes are no value of this type: were both sides built from the same definition?")]
    Malformed,
    /// The bytes ended inside a value.
    #[error("the bytes end inside the value: were both sides built from the same definition?")]
    UnexpectedEnd,
    /// Values are nested deeper than the receiver accepts.
    #[error("values are nested deeper than the receiver accepts{}: raise `decode_depth`, or nest less", number(*.max))]
    TooDeep {
        /// The receiver's limit.
        max: usize,
    },
    /// Decoding would take more memory than the receiver grants.
    #[error("decoding takes more memory than the receiver grants{}: raise `decode_memory`, or send less", number(*.max))]
    MemoryExceeded {
        /// The receiver's limit, in bytes.
        max: usize,
    },
    /// Bytes were left after the value.
    #[error("bytes are left after the value{}: were both sides built from the same definition?", number(*.left))]
    TrailingBytes {
        /// How many.
        left: usize,
    },
    /// The type asks what comes next, which these codecs do not say.
    #[error("the type asks what comes next, which no compact codec can say: remove `flatten`, `tag` or `untagged`")]
    NotSelfDescribing,
    /// The type refused a value: an unknown variant, a number out of its range.
    #[error("the type refused a value{}", text(.0))]
    Rejected(String),
}

impl DecodeError {
    /// The number of its kind.
    pub(crate) fn to_wire(&self) -> u8 {
        match self {
            DecodeError::Malformed => 0,
            DecodeError::UnexpectedEnd => 1,
            DecodeError::TooDeep { .. } => 2,
            DecodeError::MemoryExceeded { .. } => 3,
            DecodeError::TrailingBytes { .. } => 4,
            DecodeError::NotSelfDescribing => 5,
            DecodeError::Rejected(_) => 6,
        }
    }

    /// The kind with this number, without its details; a kind of a later version is [`DecodeError::Malformed`].
    pub(crate) fn from_wire(code: u8) -> DecodeError {
        match code {
            1 => DecodeError::UnexpectedEnd,
            2 => DecodeError::TooDeep { max: 0 },
            3 => DecodeError::MemoryExceeded { max: 0 },
            4 => DecodeError::TrailingBytes { left: 0 },
            5 => DecodeError::NotSelfDescribing,
            6 => DecodeError::Rejected(String::new()),
            _ => DecodeError::Malformed,
        }
    }
}

/// 0 is what is left of a number that did not cross the wire.
fn number(n: usize) -> String {
    if n == 0 { String::new() } else { format!(" ({n})") }
}

fn text(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
