//! Spans, where the feature `tracing` is off: none, of no size and no cost.

use crate::connection::Connection;
use crate::error::CallError;
use crate::method::MethodDescriptor;
use crate::protocol::Finish;
use crate::protocol::extras::CallExtras;
use crate::trace::TraceContext;

/// See the module of the feature.
#[derive(Debug)]
pub(crate) struct CallSpan;

impl CallSpan {
    #[inline(always)]
    pub(crate) const fn none() -> CallSpan {
        CallSpan
    }

    #[inline(always)]
    pub(crate) fn is_there(&self) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) fn begin(
        &mut self,
        _: &Connection,
        _: &'static MethodDescriptor,
        trace: Option<TraceContext>,
    ) -> Option<TraceContext> {
        trace
    }

    #[inline(always)]
    pub(crate) fn end<T, E>(&mut self, _: &Result<T, CallError<E>>) {}
}

/// See the module of the feature.
#[derive(Debug)]
pub(crate) struct HandlerSpan;

impl HandlerSpan {
    /// Not begun.
    #[inline(always)]
    pub(crate) fn none() -> HandlerSpan {
        HandlerSpan
    }

    #[inline(always)]
    pub(crate) fn begin(_: &Connection, _: &'static MethodDescriptor, _: &mut Option<Box<CallExtras>>) -> HandlerSpan {
        HandlerSpan
    }

    #[inline(always)]
    pub(crate) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    #[inline(always)]
    pub(crate) fn end(&mut self, _: &Finish) {}
}
