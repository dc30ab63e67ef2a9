//! What a user sees when something fails: one enum a boundary, and in each the answer to «may the call have run?»

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::DecodeError;
use crate::frame::FrameError;
use crate::limits::Limit;
use crate::metadata::MetadataError;

/// Why a call gave no value. `E` is the method's own error, [`Infallible`] for a method without one.
///
/// The class is decided by the framework; a handler can only ever cause [`App`](CallError::App).
///
/// Calls of methods with different errors mix under `?` where the function returns a boxed error:
///
/// ```
/// # use trunkline_core::{CallError, Reason};
/// # fn first() -> Result<u32, CallError<String>> { Ok(1) }
/// # fn second() -> Result<u32, CallError> { Ok(2) }
/// fn both() -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
///     Ok(first()? + second()?)
/// }
/// # both().unwrap();
/// ```
///
/// or where its own error says how it is made from one of them: `impl From<CallError<KvError>> for MyError`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<E = Infallible> {
    /// The handler ran and returned this error.
    App(E),
    /// The handler certainly never started. Calling again is safe.
    NotExecuted(Reason),
    /// Nobody here knows whether the handler ran, or how far.
    MaybeExecuted(Reason),
}

/// Whether a call's handler ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Execution {
    /// It certainly never started.
    NotExecuted,
    /// It may have run, in part or whole.
    Maybe,
    /// It ran to its end.
    Executed,
}

impl<E> CallError<E> {
    /// Whether the handler ran.
    pub fn execution(&self) -> Execution {
        match self {
            CallError::App(_) => Execution::Executed,
            CallError::NotExecuted(_) => Execution::NotExecuted,
            CallError::MaybeExecuted(_) => Execution::Maybe,
        }
    }

    /// Whether the same call, made again, is safe and may go better: it never ran, and its cause may pass.
    pub fn is_retryable(&self) -> bool {
        match self {
            CallError::NotExecuted(reason) => reason.may_pass(),
            CallError::App(_) | CallError::MaybeExecuted(_) => false,
        }
    }

    /// How long the server asks callers to wait before they try again, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.reason()? {
            Reason::ShuttingDown { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// The framework's reason, unless the error is the method's own.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            CallError::App(_) => None,
            CallError::NotExecuted(reason) | CallError::MaybeExecuted(reason) => Some(reason),
        }
    }

    /// The same error with the method's own error replaced.
    pub fn map_app<F>(self, f: impl FnOnce(E) -> F) -> CallError<F> {
        match self {
            CallError::App(error) => CallError::App(f(error)),
            CallError::NotExecuted(reason) => CallError::NotExecuted(reason),
            CallError::MaybeExecuted(reason) => CallError::MaybeExecuted(reason),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::App(error) => error.fmt(f),
            CallError::NotExecuted(reason) => write!(f, "not executed: {reason}"),
            CallError::MaybeExecuted(reason) => write!(f, "maybe executed: {reason}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for CallError<E> {}

/// The framework's reason for a failed call, with its numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A limit was reached.
    #[error("overloaded: {limit} is reached")]
    Overloaded {
        /// Which one.
        limit: Limit,
    },
    /// The deadline passed.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// The server has no such method. Is the service registered, and of the same version?
    #[error("the peer serves no method `{service}.{method}`")]
    UnknownMethod {
        /// The service's name on the wire.
        service: String,
        /// The method's name on the wire.
        method: String,
    },
    /// The two sides describe the method differently.
    #[error("schema mismatch: ours is {ours:#010x}, theirs {theirs:#010x}")]
    SchemaMismatch {
        /// The caller's fingerprint.
        ours: u32,
        /// The server's fingerprint.
        theirs: u32,
    },
    /// The server could not decode the arguments. Were both sides built from the same trait?
    #[error("argument {argument} could not be decoded: {why}")]
    InvalidArguments {
        /// Which one, counted from 0.
        argument: u16,
        /// What was wrong.
        why: DecodeError,
    },
    /// The arguments could not be encoded: a type's `Serialize` failed, or uses what the codec cannot carry.
    #[error("the arguments could not be encoded: {0}")]
    Unencodable(String),
    /// The handler's reply could not be encoded.
    #[error("the handler returned a value that could not be encoded")]
    UnencodableReply,
    /// The reply arrived but could not be decoded.
    #[error("the reply could not be decoded: {0}")]
    InvalidReply(DecodeError),
    /// The message is longer than the receiver accepts; or its first frame is, with metadata and clients that are handed over.
    #[error("a message of {len} bytes, where the receiver accepts {max}")]
    TooLarge {
        /// Its length.
        len: u64,
        /// The receiver's limit.
        max: u64,
    },
    /// The server does not let this peer call this method.
    #[error("permission denied")]
    PermissionDenied,
    /// The connection ended.
    #[error("the connection was lost: {0}")]
    ConnectionLost(ConnectionError),
    /// The handler panicked.
    #[error("the handler panicked")]
    Panicked,
    /// The peer takes no new calls.
    #[error("the peer is shutting down")]
    ShuttingDown {
        /// When it may be worth trying again, if the peer said so.
        retry_after: Option<Duration>,
    },
    /// The call was cancelled by its caller.
    #[error("cancelled")]
    Cancelled,
    /// `.wait()` on a thread of an async runtime, where it could only deadlock.
    #[error(
        "`.wait()` inside an async runtime would block the thread that has to bring the reply: \
         use `.await`, or `trunkline::allow_wait` where blocking is really meant"
    )]
    WouldBlockRuntime,
    /// The object that was called is not there any more: it was revoked, or this side had let go of it.
    #[error("the object is not there any more")]
    ObjectGone,
    /// The call was made on the result of another, which gave none. See [`Call::pipelined`](crate::Call::pipelined).
    #[error("the call on whose result it was made {0}")]
    NoResult(NoResult),
    /// A message required something that its receiver, of an earlier version, does not know: a critical extension.
    #[error("the message requires extension {0:#06x}, which its receiver does not know")]
    UnknownExtension(u16),
    /// The receiver of a stream took nothing for as long as [`Limits::stream_idle`](crate::Limits::stream_idle), while there were
    /// items for which it had no room.
    #[error("the receiver of a stream took nothing for {after:?}")]
    StreamIdle {
        /// The sender's limit.
        after: Duration,
    },
    /// Metadata that cannot be sent, or that its receiver does not accept.
    #[error("{0}")]
    Metadata(MetadataError),
    /// A message had an extension that makes no sense: its sender is not in order.
    #[error("the message has an extension {0:#06x} that makes no sense")]
    MalformedExtension(u16),
    /// A code from a peer of a later version.
    #[error("reason {0}, which this version does not know")]
    Unknown(u8),
}

/// Why a call gave no result that another could be made on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoResult {
    /// It ran and returned the method's own error.
    #[error("returned an error of its own")]
    App,
    /// It returned no client.
    #[error("returned no client")]
    NoClient,
    /// It returned a client that its caller had passed before: nothing would come between the two, so it is called directly.
    #[error("returned a client of the caller's own, which can be called without it")]
    Own,
    /// It failed.
    #[error("failed: {0}")]
    Failed(Box<Reason>),
}

impl From<Reason> for NoResult {
    /// In a row of calls, each made on the result of the one before, the first that failed is what counts.
    fn from(reason: Reason) -> NoResult {
        match reason {
            Reason::NoResult(why) => why,
            reason => NoResult::Failed(Box::new(reason)),
        }
    }
}

impl From<MetadataError> for Reason {
    fn from(error: MetadataError) -> Reason {
        Reason::Metadata(error)
    }
}

impl Reason {
    /// Whether the cause lies in the moment rather than in the call itself.
    fn may_pass(&self) -> bool {
        matches!(self, Reason::Overloaded { .. } | Reason::ConnectionLost(_) | Reason::ShuttingDown { .. })
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// This side closed it.
    #[error("closed by this side")]
    ClosedHere,
    /// The peer closed it and said why.
    #[error("closed by the peer: {0}")]
    ClosedByPeer(CloseReason),
    /// The peer vanished without a word: it ended, or was killed.
    #[error("the peer is gone")]
    PeerGone,
    /// The child process at the other end has ended.
    #[error("the child process ended: {0}")]
    ChildEnded(ExitStatus),
    /// The mechanism failed.
    #[error("{message}")]
    Io {
        /// Its kind.
        kind: io::ErrorKind,
        /// What the system said.
        message: Arc<str>,
    },
    /// The peer broke the protocol, and was told so.
    #[error("the peer broke the protocol: {0}")]
    Protocol(ProtocolError),
    /// The peer did not answer a PING.
    #[error("the peer was silent for {0:?}")]
    Silent(Duration),
    /// The peer took no bytes.
    #[error("the peer took no bytes for {0:?}")]
    WriteStalled(Duration),
    /// The async runtime that drove the connection has ended.
    #[error("the runtime that drove the connection has ended")]
    RuntimeGone,
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        if let Some(known) = error.get_ref().and_then(|inner| inner.downcast_ref::<ConnectionError>()) {
            return known.clone();
        }
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                ConnectionError::PeerGone
            }
            kind => ConnectionError::Io { kind, message: error.to_string().into() },
        }
    }
}

/// The reason in a CLOSE frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// Nothing is wrong.
    Normal,
    /// The sender of the CLOSE is shutting down.
    ShuttingDown,
    /// The receiver of the CLOSE broke the protocol.
    Protocol,
    /// The receiver of the CLOSE was silent, or took no bytes, for too long.
    Timeout,
    /// There are too many connections.
    TooManyConnections,
    /// A code from a later version.
    Unknown(u8),
}

impl CloseReason {
    pub(crate) fn to_wire(self) -> u8 {
        match self {
            CloseReason::Normal => 0,
            CloseReason::ShuttingDown => 1,
            CloseReason::Protocol => 2,
            CloseReason::Timeout => 3,
            CloseReason::TooManyConnections => 4,
            CloseReason::Unknown(code) => code,
        }
    }

    pub(crate) fn from_wire(code: u8) -> CloseReason {
        match code {
            0 => CloseReason::Normal,
            1 => CloseReason::ShuttingDown,
            2 => CloseReason::Protocol,
            3 => CloseReason::Timeout,
            4 => CloseReason::TooManyConnections,
            code => CloseReason::Unknown(code),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloseReason::Normal => "it was done",
            CloseReason::ShuttingDown => "it is shutting down",
            CloseReason::Protocol => "it says that this side broke the protocol",
            CloseReason::Timeout => "this side was silent for too long",
            CloseReason::TooManyConnections => "it has too many connections",
            CloseReason::Unknown(code) => return write!(f, "reason {code}"),
        })
    }
}

/// What no honest peer does. It ends the connection that brought it, and no other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The handshake went wrong.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// A CALL whose id is not above the one before, or of the wrong parity.
    #[error("call id {id} after {last}")]
    CallId {
        /// The id.
        id: u64,
        /// The id before it.
        last: u64,
    },
    /// A reply to a call that was never made.
    #[error("a reply to call {0}, which was never made")]
    UnknownCall(u64),
    /// A frame of a stream that was never there.
    #[error("a frame of stream {0}, which was never there")]
    UnknownStream(u64),
    /// An id of an object that the peer cannot have.
    #[error("object {0}, which the peer does not have")]
    UnknownObject(u64),
    /// More objects than were announced as the maximum.
    #[error("more than the {max} objects that were announced as the maximum")]
    TooManyObjects {
        /// The limit that HELLO announced.
        max: usize,
    },
    /// More bytes than there was credit for.
    #[error("{over} bytes more than there was credit for")]
    CreditOverrun {
        /// How many bytes too many.
        over: u64,
    },
    /// Credit beyond any window.
    #[error("credit beyond any window")]
    CreditOverflow,
    /// A message over the announced maximum.
    #[error("a message of {len} bytes, where {max} were announced as the maximum")]
    MessageTooLong {
        /// The announced total.
        len: u64,
        /// The limit that HELLO announced.
        max: u64,
    },
    /// The chunks of a message do not add up to its total.
    #[error("the chunks of a message do not add up")]
    Chunks,
    /// More answers are owed to the peer than it may provoke without reading them.
    #[error("too many refused calls wait for a peer that does not read")]
    RefusalOverflow,
    /// A frame that makes no sense now.
    #[error("an unexpected {0}")]
    Unexpected(&'static str),
    /// The peer's half of the shared memory holds what no honest peer writes.
    #[error("{what} in the peer's shared memory: {value:#x}")]
    SharedMemory {
        /// What is wrong.
        what: &'static str,
        /// The value found.
        value: u64,
    },
}

/// Why two sides could not agree to talk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// What came is not trunkline's protocol. Is the port right?
    #[error("the peer does not speak trunkline's protocol")]
    NotTrunkline,
    /// Another major version.
    #[error("protocol version {ours} here, {theirs} there")]
    Version {
        /// This side's major version.
        ours: u8,
        /// The peer's major version.
        theirs: u8,
    },
    /// HELLO is malformed.
    #[error("a malformed HELLO")]
    Malformed,
    /// No codec both sides have.
    #[error("no common codec: we have {ours}")]
    NoCommonCodec {
        /// The names of this side's codecs.
        ours: String,
    },
    /// The peer requires a feature that this side lacks.
    #[error("the peer requires features {0:#x}, which this side lacks")]
    Feature(u64),
    /// A limit in HELLO is out of its range.
    #[error("the peer announced an impossible {0}")]
    Limit(&'static str),
    /// No HELLO came in time.
    #[error("no HELLO within {0:?}")]
    Timeout(Duration),
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The endpoint is no URI that can be connected to.
    #[error("cannot connect to `{endpoint}`: {why}")]
    Endpoint {
        /// The URI.
        endpoint: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
    /// The program that was to be the peer could not be started.
    #[error("cannot start `{program}`: {source}")]
    Spawn {
        /// The program, as it was named.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody answered there.
    #[error("cannot reach `{endpoint}`: {source}")]
    Unreachable {
        /// The URI.
        endpoint: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing happened in time.
    #[error("no connection to `{endpoint}` within {after:?}")]
    Timeout {
        /// The URI.
        endpoint: String,
        /// How long it was tried.
        after: Duration,
    },
    /// The process that listens there is not one this client trusts.
    #[error("`{endpoint}` is served by {peer}, which this client was not told to trust")]
    PeerRefused {
        /// The URI.
        endpoint: String,
        /// Who listens there.
        peer: String,
    },
    /// The peer was reached, but the two sides could not agree.
    #[error("handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
    /// The connection ended before the handshake was through.
    #[error("the connection ended during the handshake: {0}")]
    Lost(ConnectionError),
    /// There is no async runtime here to drive the connection.
    #[error("no tokio runtime here: call `connect` inside one, or use `connect_blocking`")]
    NoRuntime,
}
