//! Who hears how a call ends: the layers of its connection, and its span.

use std::time::Instant;

use crate::call_layer::CallOutcome;
use crate::client::Client;
use crate::error::CallError;
use crate::method::MethodDescriptor;
use crate::telemetry::CallSpan;

/// Tells of one call, once.
#[derive(Debug)]
pub(super) struct Witness {
    /// When the layers have let it pass; `None` without any, and once they have heard of its end.
    began: Option<Instant>,
    pub(super) span: CallSpan,
}

impl Witness {
    pub(super) fn none() -> Witness {
        Witness { began: None, span: CallSpan::none() }
    }

    /// Whether anybody wants to hear.
    #[inline]
    pub(super) fn is_there(&self) -> bool {
        self.began.is_some() || self.span.is_there()
    }

    pub(super) fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// The layers have let it pass.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began = Some(now);
    }

    #[inline]
    pub(super) fn end<T, E>(
        &mut self,
        client: &Client,
        method: &'static MethodDescriptor,
        result: &Result<T, CallError<E>>,
    ) {
        self.span.end(result);
        if self.began.is_some() {
            self.tell(client, method, CallOutcome::of(result));
        }
    }

    /// Its future is dropped. The span hears of that by being dropped itself.
    #[inline]
    pub(super) fn dropped(&mut self, client: &Client, method: &'static MethodDescriptor) {
        if self.began.is_some() {
            self.tell(client, method, CallOutcome::Dropped);
        }
    }

    #[cold]
    fn tell(&mut self, client: &Client, method: &'static MethodDescriptor, outcome: CallOutcome<'_>) {
        if let (Some(layers), Some(began)) = (&client.layers, self.began.take()) {
            layers.end(method, client.connection().peer(), outcome, began);
        }
    }
}
