//! Layers of the calling side: what looks at every call that is made on a connection.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::call::Options;
use crate::clock;
use crate::error::{CallError, Execution, Reason};
use crate::metadata::{Metadata, MetadataError, MetadataName};
use crate::method::MethodDescriptor;
use crate::transport::PeerIdentity;

/// Looks at every call that is made on a connection: before it is encoded, and when it has ended.
///
/// Both methods run on the caller's thread, in the middle of its call: they must not block, and a panic in them is the
/// caller's. Connections without a layer pay nothing for this.
///
/// ```
/// use std::time::Duration;
/// use trunkline_core::Reason;
/// use trunkline_core::layer::{CallLayer, EndedCall, OutgoingCall};
///
/// /// Every call says for whom it is; nobody waits for longer than a second, and whoever waits long is named.
/// struct Impatient;
///
/// impl CallLayer for Impatient {
///     fn begin(&self, call: &mut OutgoingCall<'_>) -> Result<(), Reason> {
///         call.set_timeout(call.timeout().min(Duration::from_secs(1)));
///         call.set_metadata("tenant", "blue")?;
///         Ok(())
///     }
///
///     fn end(&self, call: &EndedCall<'_>) {
///         if call.elapsed() > Duration::from_millis(100) {
///             println!("{}: {:?} after {:?}", call.method().name, call.outcome(), call.elapsed());
///         }
///     }
/// }
/// ```
pub trait CallLayer: Send + Sync + 'static {
    /// The call is about to be encoded: it may be given metadata and another timeout, or be refused.
    ///
    /// # Errors
    ///
    /// Refuses the call, which fails as not executed, with this reason. Layers further in do not see it.
    fn begin(&self, call: &mut OutgoingCall<'_>) -> Result<(), Reason> {
        let _ = call;
        Ok(())
    }

    /// A call that this layer let pass has ended, here: once for each, also if its future is dropped. One with streams
    /// ends with its reply.
    fn end(&self, call: &EndedCall<'_>) {
        let _ = call;
    }
}

/// A call that is about to be made.
#[derive(Debug)]
pub struct OutgoingCall<'a> {
    pub(crate) method: &'static MethodDescriptor,
    pub(crate) peer: &'a PeerIdentity,
    pub(crate) timeout: Duration,
    /// Whether a layer has set it.
    pub(crate) is_set: bool,
    pub(crate) options: &'a mut Option<Box<Options>>,
}

impl OutgoingCall<'_> {
    /// What is called.
    pub fn method(&self) -> &'static MethodDescriptor {
        self.method
    }

    /// Who is called.
    pub fn peer(&self) -> &PeerIdentity {
        self.peer
    }

    /// The time that the call is given. What it inherits from the handler that makes it, and the connection's maximum, may
    /// leave less.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Gives it another, from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        if timeout != self.timeout {
            self.timeout = timeout;
            self.is_set = true;
        }
    }

    /// The metadata that goes with it.
    pub fn metadata(&self) -> &Metadata {
        static NONE: Metadata = Metadata::new();
        self.options.as_ref().map_or(&NONE, |options| &options.metadata)
    }

    /// Sends a value with it, beside its arguments, instead of the one that may have been given under that name.
    ///
    /// # Errors
    ///
    /// If the name is none, or there would be more than any limit allows. A [`Reason`] can be made of that.
    pub fn set_metadata<N: MetadataName>(&mut self, name: N, value: impl AsRef<N::Value>) -> Result<(), MetadataError> {
        self.options.get_or_insert_default().metadata.insert(name, value)
    }
}

/// A call that has ended.
#[derive(Debug)]
pub struct EndedCall<'a> {
    method: &'static MethodDescriptor,
    peer: &'a PeerIdentity,
    outcome: CallOutcome<'a>,
    elapsed: Duration,
}

impl<'a> EndedCall<'a> {
    /// What was called.
    pub fn method(&self) -> &'static MethodDescriptor {
        self.method
    }

    /// Who was called.
    pub fn peer(&self) -> &'a PeerIdentity {
        self.peer
    }

    /// What came of it.
    pub fn outcome(&self) -> CallOutcome<'a> {
        self.outcome
    }

    /// The time since it was begun.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallOutcome<'a> {
    /// With a value; one that nobody waits for is on its way.
    Ok,
    /// With the method's own error.
    App,
    /// It failed, and certainly never started.
    NotExecuted(&'a Reason),
    /// It failed, and may have run.
    MaybeExecuted(&'a Reason),
    /// Its future was dropped; it may have run.
    Dropped,
}

impl CallOutcome<'_> {
    /// Whether the handler ran.
    pub fn execution(&self) -> Execution {
        match self {
            CallOutcome::Ok | CallOutcome::App => Execution::Executed,
            CallOutcome::NotExecuted(_) => Execution::NotExecuted,
            CallOutcome::MaybeExecuted(_) | CallOutcome::Dropped => Execution::Maybe,
        }
    }

    pub(crate) fn of<T, E>(result: &Result<T, CallError<E>>) -> CallOutcome<'_> {
        match result {
            Ok(_) => CallOutcome::Ok,
            Err(CallError::App(_)) => CallOutcome::App,
            Err(CallError::NotExecuted(reason)) => CallOutcome::NotExecuted(reason),
            Err(CallError::MaybeExecuted(reason)) => CallOutcome::MaybeExecuted(reason),
        }
    }
}

/// The layers of a connection's calls, the outermost first.
#[derive(Clone, Default)]
pub(crate) struct CallLayers(Vec<Arc<dyn CallLayer>>);

impl CallLayers {
    pub(crate) fn add(&mut self, layer: impl CallLayer) {
        self.0.push(Arc::new(layer));
    }

    /// For a connection, if there are any.
    pub(crate) fn shared(self) -> Option<Arc<CallLayers>> {
        (!self.0.is_empty()).then(|| Arc::new(self))
    }

    /// Asks all of them. Where one refuses, those that have let the call pass hear of its end.
    pub(crate) fn begin(&self, call: &mut OutgoingCall<'_>) -> Result<Instant, Reason> {
        let began = clock::now();
        for (at, layer) in self.0.iter().enumerate() {
            if let Err(reason) = layer.begin(call) {
                let outcome = CallOutcome::NotExecuted(&reason);
                self.tell(at, call.method, call.peer, outcome, began);
                return Err(reason);
            }
        }
        Ok(began)
    }

    pub(crate) fn end(
        &self,
        method: &'static MethodDescriptor,
        peer: &PeerIdentity,
        outcome: CallOutcome<'_>,
        began: Instant,
    ) {
        self.tell(self.0.len(), method, peer, outcome, began);
    }

    /// Tells the first `n`, the innermost first.
    fn tell(
        &self,
        n: usize,
        method: &'static MethodDescriptor,
        peer: &PeerIdentity,
        outcome: CallOutcome<'_>,
        began: Instant,
    ) {
        let ended = EndedCall { method, peer, outcome, elapsed: clock::now().saturating_duration_since(began) };
        for layer in self.0[..n].iter().rev() {
            layer.end(&ended);
        }
    }
}

impl fmt::Debug for CallLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallLayers").field("layers", &self.0.len()).finish()
    }
}
