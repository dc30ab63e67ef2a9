//! A call whose reply's metadata is asked for.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::{Call, CallFuture, Pending};
use crate::error::CallError;
use crate::metadata::Metadata;
use crate::protocol::Answer;
use crate::wire::{Arguments, Output};

/// A call, or one that is on its way, whose outcome comes with the metadata of its reply: see
/// [`Call::with_metadata`].
#[must_use = "a call does nothing until it is awaited"]
pub struct WithMetadata<T>(pub(super) T);

type Outcome<R> = (Result<<R as Output>::Ok, CallError<<R as Output>::Err>>, Metadata);

impl<'a, A: Arguments, R: Output> Call<'a, A, R> {
    /// Asks for the metadata that comes with the reply, also with one that is the method's own error. The outcome of the call
    /// is a pair then. Options come before it.
    ///
    /// Without it, the metadata of a reply is not kept. With outcomes that are the framework's comes none.
    ///
    /// ```no_run
    /// # async fn example<R: trunkline_core::wire::Output>(call: trunkline_core::Call<'_, (), R>) {
    /// let (outcome, metadata) = call.metadata("tenant", "blue").with_metadata().await;
    /// if metadata.get("served-from") == Some("cache") { /* … */ }
    /// # }
    /// ```
    pub fn with_metadata(mut self) -> WithMetadata<Call<'a, A, R>> {
        self.want_metadata();
        WithMetadata(self)
    }
}

impl<A: Arguments, R: Output> WithMetadata<Call<'_, A, R>> {
    /// As [`Call::wait`].
    pub fn wait(self) -> Outcome<R> {
        let mut answer = Answer::EMPTY;
        let outcome = self.0.wait_for(&mut answer);
        (outcome, metadata_of(answer))
    }

    /// As [`Call::send`].
    ///
    /// # Errors
    ///
    /// If it can't be sent.
    pub async fn send(self) -> Result<WithMetadata<Pending<R>>, CallError<R::Err>> {
        self.0.send().await.map(WithMetadata)
    }
}

impl<'a, A: Arguments, R: Output> IntoFuture for WithMetadata<Call<'a, A, R>> {
    type Output = Outcome<R>;
    type IntoFuture = WithMetadata<CallFuture<'a, A, R>>;

    fn into_future(self) -> WithMetadata<CallFuture<'a, A, R>> {
        WithMetadata(self.0.into_future())
    }
}

impl<A: Arguments, R: Output> Future for WithMetadata<CallFuture<'_, A, R>> {
    type Output = Outcome<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<R>> {
        let mut answer = Answer::EMPTY;
        let outcome = ready!(self.0.poll_outcome(cx, &mut answer));
        Poll::Ready((outcome, metadata_of(answer)))
    }
}

impl<R: Output> WithMetadata<Pending<R>> {
    /// As [`Pending::wait`].
    pub fn wait(self) -> Outcome<R> {
        let mut answer = Answer::EMPTY;
        let outcome = self.0.wait_for(&mut answer);
        (outcome, metadata_of(answer))
    }
}

impl<R: Output> Future for WithMetadata<Pending<R>> {
    type Output = Outcome<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<R>> {
        let mut answer = Answer::EMPTY;
        let outcome = ready!(self.0.poll_outcome(cx, &mut answer));
        Poll::Ready((outcome, metadata_of(answer)))
    }
}

impl<T: fmt::Debug> fmt::Debug for WithMetadata<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithMetadata").field(&self.0).finish()
    }
}

fn metadata_of(answer: Answer) -> Metadata {
    match answer {
        Answer::Extended(mut extended) => extended.take().map(|extended| extended.metadata).unwrap_or_default(),
        _ => Metadata::new(),
    }
}
