//! Streams as handlers and callers see them.

mod backlog;
mod receive;
mod send;
mod shape;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::codec::DecodeError;
use crate::error::Reason;
use crate::waiter::block_on;
use crate::wire::DeserializeAs;

pub use receive::Receiver;
pub use send::{Fed, Feed};
pub(crate) use send::{Pump, fill};
pub use shape::{FallibleStreamed, StreamOutput, Streamed};

/// Items that come one after the other, from the other end of a connection.
///
/// It is what a method's argument of this type gives its handler, and what a method that returns `impl Stream` gives its
/// caller. An error is the last item: what came before is all there is. Only `None` without one says that the stream is
/// complete. A loop over `Some(Ok(item))` takes a sender that was lost for one that has ended; hand the error on instead:
///
/// ```
/// # use trunkline_core::{StreamError, Streaming};
/// async fn sum(mut numbers: Streaming<u64>) -> Result<u64, StreamError> {
///     let mut sum = 0;
///     while let Some(number) = numbers.next().await {
///         sum += number?;
///     }
///     Ok(sum)
/// }
/// ```
///
/// The deadline of a call covers the time to its reply; streams go on after that. A method that takes streams and replies
/// behind them, an upload say, has to be done within it: give it the time that it needs.
///
/// The sender goes on as long as there is room for its items, [`Limits::stream_window`](crate::Limits::stream_window)
/// bytes, and then waits for this end. Dropping it tells the sender to stop; the caller of a method cancels the call with it.
///
/// Streams for tests are made by hand: it is `FromIterator`, and [`from_stream`](Streaming::from_stream) takes any stream.
///
/// ```
/// # use trunkline_core::Streaming;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut numbers = Streaming::from_iter([1, 2]);
/// assert_eq!(numbers.next().await, Some(Ok(1)));
/// assert_eq!(numbers.next().await, Some(Ok(2)));
/// assert_eq!(numbers.next().await, None);
/// # });
/// ```
#[must_use = "dropping a stream stops it"]
pub struct Streaming<T> {
    source: Source<T>,
    /// Knows the form of the items, and where they come from.
    poll: PollItem<T>,
    /// What it has said of items that were left out, once it is over.
    missed: u64,
}

/// Why a stream ended before it was complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// An item could not be decoded. Were both sides built from the same trait?
    #[error("an item of a stream could not be decoded: {0}")]
    InvalidItem(DecodeError),
    /// Its sender did not come to its end, or the connection did not last as long.
    #[error("a stream ended early: {0}")]
    Ended(Reason),
}

/// Polls a stream. One call leads to where an item is decoded, and what comes of it is not moved on the way back.
type PollItem<T> = fn(&mut Streaming<T>, &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>>;

enum Source<T> {
    Wire(Receiver),
    Local(Pin<Box<dyn Stream<Item = Result<T, StreamError>> + Send>>),
    Over,
}

// What is pinned in it is in a box.
impl<T> Unpin for Streaming<T> {}

impl<T> Streaming<T> {
    /// The next item; after `None` or an error there is none.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again: no item is lost.
    pub async fn next(&mut self) -> Option<Result<T, StreamError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Blocks the thread until the next item has come. For threads outside of async runtimes.
    ///
    /// # Panics
    ///
    /// On a thread of an async runtime, where it could only deadlock. It works in `#[rpc(blocking)]` handlers and inside
    /// [`allow_wait`](crate::allow_wait).
    pub fn wait_next(&mut self) -> Option<Result<T, StreamError>> {
        let link = match &self.source {
            Source::Wire(receiver) => std::sync::Arc::clone(receiver.link()),
            Source::Local(_) => return crate::waiter::park_on(|cx| Pin::new(&mut *self).poll_next(cx)),
            Source::Over => return None,
        };
        assert!(!crate::context::waiting_would_deadlock(), "{}", Reason::WouldBlockRuntime);
        block_on(|cx| Pin::new(&mut *self).poll_next(cx), |waiter| link.read_here(waiter))
    }

    /// How many items its sender has left out before the one that came last, in all. Only those of a method that says
    /// `#[rpc(slow = "drop_oldest")]` or `#[rpc(slow = "latest")]` leave any out.
    pub fn missed(&self) -> u64 {
        match &self.source {
            Source::Wire(receiver) => receiver.missed(),
            Source::Local(_) | Source::Over => self.missed,
        }
    }

    /// A stream of the items of another, for tests.
    pub fn from_stream(stream: impl Stream<Item = Result<T, StreamError>> + Send + 'static) -> Streaming<T> {
        Streaming { source: Source::Local(Box::pin(stream)), poll: Streaming::poll_local, missed: 0 }
    }

    /// One of which nothing is known yet.
    pub(crate) fn unattached() -> Streaming<T> {
        Streaming { source: Source::Over, poll: Streaming::poll_local, missed: 0 }
    }

    pub(crate) fn receive<F>(receiver: Receiver) -> Streaming<T>
    where
        F: for<'de> DeserializeAs<'de, T>,
    {
        Streaming { source: Source::Wire(receiver), poll: Streaming::poll_wire::<F>, missed: 0 }
    }

    fn poll_wire<F>(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>>
    where
        F: for<'de> DeserializeAs<'de, T>,
    {
        if let Source::Wire(receiver) = &mut self.source {
            match receiver.next_whole::<T, F>() {
                Some(Ok(item)) => return Poll::Ready(Some(Ok(item))),
                Some(Err(error)) => return self.end(Some(StreamError::InvalidItem(error))),
                None => {}
            }
        }
        self.poll_fetched::<F>(cx)
    }

    /// The same where more is to be done than to decode the next item.
    #[cold]
    #[inline(never)]
    fn poll_fetched<F>(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>>
    where
        F: for<'de> DeserializeAs<'de, T>,
    {
        let Source::Wire(receiver) = &mut self.source else {
            return Poll::Ready(None);
        };
        match ready!(receiver.poll_item::<T, F>(cx)) {
            Ok(Some(item)) => Poll::Ready(Some(Ok(item))),
            Ok(None) => self.end(None),
            Err(error) => self.end(Some(error)),
        }
    }

    fn poll_local(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        let Source::Local(stream) = &mut self.source else {
            return Poll::Ready(None);
        };
        match stream.as_mut().poll_next(cx) {
            Poll::Ready(None) => self.end(None),
            Poll::Ready(Some(Err(error))) => self.end(Some(error)),
            polled => polled,
        }
    }

    /// It is over, with an error or without.
    #[cold]
    #[inline(never)]
    fn end(&mut self, error: Option<StreamError>) -> Poll<Option<Result<T, StreamError>>> {
        self.missed = self.missed();
        self.source = Source::Over;
        Poll::Ready(error.map(Err))
    }
}

impl<T> Stream for Streaming<T> {
    type Item = Result<T, StreamError>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        (this.poll)(this, cx)
    }
}

impl<T: Send + 'static> FromIterator<T> for Streaming<T> {
    /// A stream of these items, which then is complete.
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Streaming<T> {
        Streaming::from_stream(Items(items.into_iter().collect::<Vec<T>>().into_iter()))
    }
}

/// Items that are all there.
struct Items<T>(std::vec::IntoIter<T>);

impl<T> Unpin for Items<T> {}

impl<T> Stream for Items<T> {
    type Item = Result<T, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next().map(Ok))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Wire(receiver) => format!("stream {}", receiver.id()),
            Source::Local(_) => "local".to_owned(),
            Source::Over => "over".to_owned(),
        };
        f.debug_tuple("Streaming").field(&format_args!("{source}")).finish()
    }
}
