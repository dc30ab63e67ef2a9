//! Layers: what is done around every call that is served.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Execution, Reason};
use crate::method::ServiceDescriptor;
use crate::protocol::{Class, Failure};
use crate::service::Service;
use crate::wire::Half;

pub use crate::call_layer::{CallLayer, CallOutcome, EndedCall, OutgoingCall};
pub use crate::service::{Answer, Refusal, Request};

/// What is done around the calls of every service of a server, or of a connection's own.
///
/// It sees a request before its arguments are decoded, and its outcome; it may refuse the one, not change the other.
/// Each service is wrapped statically: a layer costs its own code, and no allocation.
///
/// A handler that panics unwinds through the layer, and a call that is cancelled or overdue drops the layer's future in
/// the middle: what has to happen then as well belongs in the drop of a guard. A call with streams lasts until they end.
/// A request for a method that nobody serves never comes here.
///
/// ```
/// use trunkline_core::layer::{Answer, Layer, Next, Refusal, Request};
/// use trunkline_core::{Reason, Service};
///
/// struct Session;
///
/// /// Of the service `Admin`, peers without a session may call `log_in` only.
/// struct Auth;
///
/// impl Layer for Auth {
///     async fn call<S: Service>(&self, request: &Request, next: Next<'_, S>) -> Result<Answer, Refusal> {
///         let method = request.method();
///         let known = request.context().connection().get::<Session>().is_some();
///         if method.service == "Admin" && method.name != "log_in" && !known {
///             return Err(Refusal::new(Reason::PermissionDenied));
///         }
///         next.run().await
///     }
/// }
/// ```
pub trait Layer: Send + Sync + 'static {
    /// Answers a request, by having it answered, or refuses it.
    ///
    /// # Errors
    ///
    /// If the layer or the service refuses it. After [`Next::run`] the handler may have started, and the caller is told
    /// so whatever is returned then.
    fn call<S: Service>(
        &self,
        request: &Request,
        next: Next<'_, S>,
    ) -> impl Future<Output = Result<Answer, Refusal>> + Send;
}

/// The rest of a call's way to its handler.
#[must_use = "the call is not handled until it runs"]
pub struct Next<'a, S> {
    service: &'a S,
    request: &'a Request,
    /// The handler may have started.
    started: &'a AtomicBool,
}

impl<S: Service> Next<'_, S> {
    /// Has the request answered.
    ///
    /// # Errors
    ///
    /// If it is refused further in.
    pub async fn run(self) -> Result<Answer, Refusal> {
        // Read by the same task; ordered with nothing.
        self.started.store(true, Ordering::Relaxed);
        let answered = self.service.call(self.request).await;
        let not_executed = answered.as_ref().is_err_and(|refusal| refusal.0.class == Class::NotExecuted);
        self.started.store(!not_executed, Ordering::Relaxed);
        answered
    }
}

impl<S> fmt::Debug for Next<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("request", self.request).finish_non_exhaustive()
    }
}

impl Refusal {
    /// Refuses a call: not executed, unless its arguments have been read already; then it may have been. Reasons that are never
    /// said to a peer arrive as [`Reason::Unknown`].
    pub fn new(reason: Reason) -> Refusal {
        Refusal(Failure::not_executed(reason))
    }

    /// Why.
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// Whether the handler ran.
    pub fn execution(&self) -> Execution {
        match self.0.class {
            Class::NotExecuted => Execution::NotExecuted,
            Class::MaybeExecuted | Class::App => Execution::Maybe,
        }
    }
}

impl Answer {
    /// Whether it is the method's own error.
    pub fn is_err(&self) -> bool {
        self.half == Half::Err
    }

    /// Encoded bytes of the reply; 0 where it is streams.
    pub fn payload_len(&self) -> usize {
        self.payload.as_slice().len()
    }
}

/// A service inside a layer: for one that is not to be around all of them.
///
/// ```
/// # use trunkline_core::layer::{Layer, Layered};
/// # use trunkline_core::{ServerBuilder, Service};
/// # fn example(builder: ServerBuilder, auth: impl Layer, kv: impl Service, admin: impl Service) -> ServerBuilder {
/// builder.service(kv).service(Layered::new(auth, admin))
/// # }
/// ```
#[derive(Debug)]
pub struct Layered<L, S> {
    layer: Arc<L>,
    service: S,
}

impl<L: Layer, S: Service> Layered<L, S> {
    /// Puts `service` inside `layer`.
    pub fn new(layer: L, service: S) -> Layered<L, S> {
        Layered { layer: Arc::new(layer), service }
    }
}

impl<L: Layer, S: Service> Service for Layered<L, S> {
    fn descriptor(&self) -> &'static ServiceDescriptor {
        self.service.descriptor()
    }

    async fn call(&self, request: &Request) -> Result<Answer, Refusal> {
        let started = AtomicBool::new(false);
        let next = Next { service: &self.service, request, started: &started };
        let answered = self.layer.call(request, next).await;
        answered.map_err(|mut refusal| {
            // Nobody says of a handler that was polled that it was not.
            if started.load(Ordering::Relaxed) {
                refusal.0.class = Class::MaybeExecuted;
            }
            refusal
        })
    }
}

/// The layers of a builder, each inside the one before: for functions that take any builder. `()` is none.
pub trait Layers: Send + Sync + 'static {
    /// A service inside all of them.
    type Around<S: Service>: Service;

    /// Puts `service` inside all of them.
    fn around<S: Service>(&self, service: S) -> Self::Around<S>;
}

impl Layers for () {
    type Around<S: Service> = S;

    fn around<S: Service>(&self, service: S) -> S {
        service
    }
}

/// Layers, and one more inside them: what [`layer`](crate::ServerBuilder::layer) makes of a builder's type.
pub struct Stack<L, N> {
    outer: L,
    inner: Arc<N>,
}

impl<L, N> Stack<L, N> {
    pub(crate) fn new(outer: L, inner: N) -> Stack<L, N> {
        Stack { outer, inner: Arc::new(inner) }
    }
}

impl<L: Layers, N: Layer> Layers for Stack<L, N> {
    type Around<S: Service> = L::Around<Layered<N, S>>;

    fn around<S: Service>(&self, service: S) -> Self::Around<S> {
        self.outer.around(Layered { layer: Arc::clone(&self.inner), service })
    }
}

impl<L: Clone, N> Clone for Stack<L, N> {
    fn clone(&self) -> Self {
        Stack { outer: self.outer.clone(), inner: Arc::clone(&self.inner) }
    }
}

impl<L, N> fmt::Debug for Stack<L, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}

/// Said where a layer comes too late.
pub(crate) const LAYERS_FIRST: &str =
    "a layer is around the services that come after it: call `layer` before `service`, so that none is left without";
