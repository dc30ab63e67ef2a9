//! Spans of the crate [`tracing`] on both sides of a call, joined across processes. Feature `tracing`.
//!
//! A call has a span, `call`, from its first poll to its outcome, inside the span in which it was polled first. Its handler has
//! one, `handle`, from when its request was taken to its end, in which it is polled; calls that it makes are inside it. Both have
//! the target `trunkline`, the level INFO, and these fields:
//!
//! | field | is |
//! |---|---|
//! | `rpc.service`, `rpc.method` | the names on the wire |
//! | `otel.name`, `otel.kind` | `Service.method`; `client` or `server` |
//! | `network.transport`, `peer` | `tcp`, `unix`, …; who is at the other end |
//! | `trace_id`, `span_id`, `parent_id` | hex, as in W3C's Trace Context |
//! | `outcome` | `ok`; `error`, the method's own, which is not shown; else what the framework says |
//!
//! Neither arguments nor metadata are shown.
//!
//! The ids travel with the call, and with the calls of its handler: a server's `parent_id` is its caller's `span_id`. A call that
//! belongs to no trace begins one, if its span is enabled; [`TraceContext::scope`] lets several calls begin the same.
//!
//! # OpenTelemetry
//!
//! Where a layer of OpenTelemetry's gives spans ids of its own, a [`Bridge`] says which they are, and what the parent of a
//! handler's span is. With `tracing-opentelemetry`:
//!
//! ```ignore
//! struct OpenTelemetry;
//!
//! impl Bridge for OpenTelemetry {
//!     fn accepted(&self, span: &tracing::Span, caller: TraceContext) {
//!         let caller = SpanContext::new(
//!             TraceId::from_bytes(caller.trace_id().to_be_bytes()),
//!             SpanId::from_bytes(caller.parent_id().to_be_bytes()),
//!             TraceFlags::new(caller.flags()),
//!             true,
//!             TraceState::default(),
//!         );
//!         span.set_parent(opentelemetry::Context::new().with_remote_span_context(caller));
//!     }
//!
//!     fn ids(&self, span: &tracing::Span) -> Option<TraceContext> {
//!         let context = span.context();
//!         let ids = context.span().span_context().clone();
//!         TraceContext::new(
//!             u128::from_be_bytes(ids.trace_id().to_bytes()),
//!             u64::from_be_bytes(ids.span_id().to_bytes()),
//!             ids.trace_flags().to_u8(),
//!         )
//!     }
//! }
//!
//! trunkline::telemetry::set_bridge(&OpenTelemetry);
//! ```

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use tracing::field::{Empty, display};
use tracing::{Span, info_span};

use crate::connection::Connection;
use crate::error::CallError;
use crate::method::MethodDescriptor;
use crate::protocol::extras::CallExtras;
use crate::protocol::{Class, Failure, Finish};
use crate::trace::TraceContext;
use crate::wire::Half;

/// Joins spans with those of another system, which gives them its own ids.
pub trait Bridge: Send + Sync {
    /// `span` is that of a handler; `caller` says which trace and span its call came from.
    fn accepted(&self, span: &Span, caller: TraceContext);

    /// The ids of `span`, in [`parent_id`](TraceContext::parent_id) its own. `None` for spans that the other system does not
    /// record: they are given ids here then.
    fn ids(&self, span: &Span) -> Option<TraceContext>;
}

static BRIDGE: OnceLock<&'static dyn Bridge> = OnceLock::new();

/// Sets the bridge of this process; `false` if there is one already.
pub fn set_bridge(bridge: &'static dyn Bridge) -> bool {
    BRIDGE.set(bridge).is_ok()
}

/// The ids of a span, and their fields. What is over it: `above`.
fn identify(span: &Span, above: Option<TraceContext>) -> TraceContext {
    let own = || above.map_or_else(TraceContext::root, TraceContext::child);
    let ids = BRIDGE.get().and_then(|bridge| bridge.ids(span)).unwrap_or_else(own);
    span.record("trace_id", format_args!("{:032x}", ids.trace_id()));
    span.record("span_id", format_args!("{:016x}", ids.parent_id()));
    if let Some(above) = above.filter(|above| above.trace_id() == ids.trace_id()) {
        span.record("parent_id", format_args!("{:016x}", above.parent_id()));
    }
    ids
}

macro_rules! rpc_span {
    ($name:literal, $kind:literal, $connection:expr, $method:expr $(, parent: $parent:expr)?) => {
        info_span!(
            target: "trunkline",
            $(parent: $parent,)?
            $name,
            otel.kind = $kind,
            otel.name = %Name($method),
            rpc.system = "trunkline",
            rpc.service = $method.service,
            rpc.method = $method.name,
            network.transport = $connection.transport(),
            peer = %$connection.peer(),
            trace_id = Empty,
            span_id = Empty,
            parent_id = Empty,
            outcome = Empty,
        )
    };
}

struct Name(&'static MethodDescriptor);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.service, self.0.name)
    }
}

/// The span of a call, on its caller's side.
#[derive(Debug)]
pub(crate) struct CallSpan(Option<(Span, Option<TraceContext>)>);

impl CallSpan {
    /// Not begun.
    pub(crate) const fn none() -> CallSpan {
        CallSpan(None)
    }

    pub(crate) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Begins it, unless it has begun. `trace` is what the call belongs to; returns what it is to say.
    pub(crate) fn begin(
        &mut self,
        connection: &Connection,
        method: &'static MethodDescriptor,
        trace: Option<TraceContext>,
    ) -> Option<TraceContext> {
        let (_, ids) = self.0.get_or_insert_with(|| {
            let span = rpc_span!("call", "client", connection, method);
            let ids = if span.is_disabled() { trace } else { Some(identify(&span, trace)) };
            (span, ids)
        });
        *ids
    }

    /// The call has its outcome.
    pub(crate) fn end<T, E>(&mut self, outcome: &Result<T, CallError<E>>) {
        let Some((span, _)) = self.0.take() else {
            return;
        };
        match outcome {
            Ok(_) => span.record("outcome", "ok"),
            Err(CallError::App(_)) => span.record("outcome", "error"),
            Err(CallError::NotExecuted(reason)) => span.record("outcome", format_args!("not executed: {reason}")),
            Err(CallError::MaybeExecuted(reason)) => span.record("outcome", format_args!("maybe executed: {reason}")),
        };
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        if let Some((span, _)) = self.0.take() {
            span.record("outcome", "cancelled");
        }
    }
}

/// The span of a handler.
#[derive(Debug)]
pub(crate) struct HandlerSpan(Option<Span>);

impl HandlerSpan {
    /// Not begun.
    pub(crate) fn none() -> HandlerSpan {
        HandlerSpan(None)
    }

    /// Begins it. The calls of the handler belong to it. A subscriber that panics costs the handler its span.
    pub(crate) fn begin(
        connection: &Connection,
        method: &'static MethodDescriptor,
        extras: &mut Option<Box<CallExtras>>,
    ) -> HandlerSpan {
        let begun = catch_unwind(AssertUnwindSafe(|| HandlerSpan::try_begin(connection, method, extras)));
        begun.unwrap_or(HandlerSpan(None))
    }

    fn try_begin(
        connection: &Connection,
        method: &'static MethodDescriptor,
        extras: &mut Option<Box<CallExtras>>,
    ) -> HandlerSpan {
        // It stands in no other span, whatever the task that reads requests is in.
        let span = rpc_span!("handle", "server", connection, method, parent: None);
        if span.is_disabled() {
            return HandlerSpan(None);
        }
        let caller = extras.as_ref().and_then(|extras| extras.trace);
        if let (Some(bridge), Some(caller)) = (BRIDGE.get(), caller) {
            bridge.accepted(&span, caller);
        }
        let ids = identify(&span, caller);
        extras.get_or_insert_default().handed_down = Some(ids);
        HandlerSpan(Some(span))
    }

    /// Polls the handler in it.
    pub(crate) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        match &self.0 {
            Some(span) => span.in_scope(f),
            None => f(),
        }
    }

    /// The handler is gone.
    pub(crate) fn end(&mut self, how: &Finish) {
        let Some(span) = self.0.take() else {
            return;
        };
        let _ = catch_unwind(AssertUnwindSafe(|| {
            match how {
                Finish::Returned(Half::Ok, _) => span.record("outcome", "ok"),
                Finish::Returned(Half::Err, _) => span.record("outcome", "error"),
                Finish::Failed(Failure { class, reason }) => {
                    let class = if *class == Class::NotExecuted { "not executed" } else { "maybe executed" };
                    span.record("outcome", display(format_args!("{class}: {reason}")))
                }
            };
            drop(span);
        }));
    }
}
