//! Why nobody can listen somewhere.

use std::io;

/// Why a listener could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The endpoint is none to listen on, or not without saying so.
    #[error("cannot listen on `{endpoint}`: {why}")]
    Endpoint {
        /// The URI.
        endpoint: String,
        /// What is wrong, and what to do instead.
        why: String,
    },
    /// Somebody listens there already.
    #[error("cannot listen on `{endpoint}`: a server already listens there")]
    InUse {
        /// The URI.
        endpoint: String,
    },
    /// The system refused.
    #[error("cannot listen on `{endpoint}`: {what}: {source}")]
    Io {
        /// The URI.
        endpoint: String,
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is no async runtime here to wait for connections.
    #[error("no tokio runtime here: bind inside one")]
    NoRuntime,
}

impl From<BindError> for io::Error {
    /// The same message, with the kind that fits best.
    fn from(error: BindError) -> io::Error {
        let kind = match &error {
            BindError::Endpoint { .. } => io::ErrorKind::InvalidInput,
            BindError::InUse { .. } => io::ErrorKind::AddrInUse,
            BindError::Io { source, .. } => source.kind(),
            BindError::NoRuntime => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
