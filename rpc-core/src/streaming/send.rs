//! The sender's end: items are encoded where they are made, many into one buffer, which the connection then takes over.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::backlog::Backlog;
use crate::codec::{CodecId, EncodeError};
use crate::connection::Link;
use crate::connection::polling::step_back;
use crate::error::Reason;
use crate::frame::ITEM_HEAD_LEN;
use crate::method::Slow;
use crate::protocol::{Failure, Pushed, Room};
use crate::wire::{Arguments, SerializeAs, encode_behind_as};

/// So many bytes are handed over together,
const BATCH_LEN: usize = 32 << 10;
/// or so many where streams have too much to send,
pub(super) const LITTLE_LEN: usize = 1 << 10;
/// or what was made in this time: whoever makes items slowly keeps neither those that are there nor other tasks.
const BATCH_TIME: Duration = Duration::from_micros(50);

/// What came of asking for items.
#[derive(Debug)]
pub(crate) enum Filled {
    /// There may be more.
    Batch,
    /// There are none now.
    Dry,
    /// There will be no more.
    End(Result<(), Failure>),
}

/// Encodes the items that `stream` has, until `out` has `most` bytes.
pub(crate) fn fill<T, F, S>(
    mut stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    codec: CodecId,
    item_max: usize,
    most: usize,
    out: &mut Vec<u8>,
) -> Filled
where
    F: SerializeAs<T>,
    S: Stream<Item = T>,
{
    let began = Instant::now();
    let mut made: u32 = 0;
    while out.len() < most {
        // The clock costs as much as some items.
        if made.is_power_of_two() && began.elapsed() > BATCH_TIME {
            break;
        }
        made += 1;
        let item = match stream.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => item,
            Poll::Ready(None) => return Filled::End(Ok(())),
            Poll::Pending => return Filled::Dry,
        };
        if let Err(reason) = append::<T, F>(codec, &item, item_max, out) {
            return Filled::End(Err(Failure::maybe_executed(reason)));
        }
    }
    Filled::Batch
}

/// Appends one item behind its length.
///
/// Where it is inlined, an item that was made of whole words in registers is taken apart into its bytes.
#[inline(never)]
fn append<T, F: SerializeAs<T>>(codec: CodecId, item: &T, max: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut item_end = ItemEnd { start: out.len(), out, whole: false };
    if encode_behind_as::<T, F, ITEM_HEAD_LEN>(codec, [0; ITEM_HEAD_LEN], item, item_end.out).is_err() {
        return Err(Reason::UnencodableReply);
    }
    let len = item_end.out.len() - item_end.start - ITEM_HEAD_LEN;
    if len > max - ITEM_HEAD_LEN {
        return Err(Reason::TooLarge { len: len as u64, max: (max - ITEM_HEAD_LEN) as u64 });
    }
    if let Some(head) = item_end.out[item_end.start..].first_chunk_mut() {
        *head = (len as u32).to_le_bytes();
    }
    item_end.whole = true;
    Ok(())
}

/// Takes back what was written of an item that does not come to its end, also where its `Serialize` panics.
struct ItemEnd<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    whole: bool,
}

impl Drop for ItemEnd<'_> {
    fn drop(&mut self) {
        if !self.whole {
            self.out.truncate(self.start);
        }
    }
}

/// Carries batches of items to a connection.
#[derive(Debug)]
pub(crate) struct Pump {
    id: u64,
    codec: CodecId,
    item_max: usize,
    batch: Vec<u8>,
    /// Where a slow reader misses items: those that have no room yet.
    backlog: Option<Backlog>,
    /// The source has ended; what is in the batch has yet to go.
    end: Option<Result<(), Failure>>,
}

impl Pump {
    pub(crate) fn new(id: u64, link: &dyn Link, slow: Slow) -> Pump {
        let item_max = link.item_max().clamp(ITEM_HEAD_LEN, u32::MAX as usize);
        let backlog = Backlog::new(slow, || link.backlog_max());
        Pump { id, codec: link.codec(), item_max, batch: Vec::new(), backlog, end: None }
    }

    /// Ready when the source has ended, or nobody wants more of it. A source that panics has ended: what it made before
    /// still goes.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        link: &dyn Link,
        mut fill: impl FnMut(&mut Context<'_>, CodecId, usize, usize, &mut Vec<u8>) -> Filled,
    ) -> Poll<Result<(), Failure>> {
        let mut dry = false;
        let most = match self.room(cx, link) {
            Room::Much => BATCH_LEN,
            Room::Little => LITTLE_LEN,
            // What is there goes first.
            Room::None if !self.batch.is_empty() => 0,
            Room::None => return Poll::Pending,
            Room::Over => return Poll::Ready(Ok(())),
        };
        if self.end.is_none() && self.batch.len() < most {
            let (codec, item_max, batch) = (self.codec, self.item_max, &mut self.batch);
            match catch_unwind(AssertUnwindSafe(|| fill(cx, codec, item_max, most, batch))) {
                Ok(Filled::Batch) => {}
                Ok(Filled::Dry) => dry = true,
                Ok(Filled::End(status)) => self.end = Some(status),
                Err(panic) => {
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
                    self.end = Some(Err(Failure::maybe_executed(Reason::Panicked)));
                }
            }
        }
        let any = match self.push(cx, link) {
            Some(Pushed::Over) => return Poll::Ready(Ok(())),
            Some(Pushed::Full) if self.backlog.is_none() || dry || self.end.is_some() => return Poll::Pending,
            // Its source goes on.
            Some(Pushed::Full) => {
                step_back(cx);
                return Poll::Pending;
            }
            Some(Pushed::Taken) => true,
            None => false,
        };
        if let Some(status) = self.end.take() {
            return Poll::Ready(status);
        }
        if dry {
            // What wakes it may be that nobody wants more. With items it has just been told.
            let wanted = any || link.watch_stream(self.id, &mut Some(cx.waker().clone()));
            return if wanted { Poll::Pending } else { Poll::Ready(Ok(())) };
        }
        // Others have their turn between batches: calls beside this stream, say.
        step_back(cx);
        Poll::Pending
    }

    /// How much may be made now.
    fn room(&self, cx: &Context<'_>, link: &dyn Link) -> Room {
        if !link.is_glutted() || self.end.is_some() {
            return Room::Much;
        }
        if self.backlog.is_some() {
            // Its source waits for nobody; it keeps no more than it does.
            return Room::Little;
        }
        if !self.batch.is_empty() {
            return Room::None;
        }
        link.room_for_items(self.id, &mut Some(cx.waker().clone()))
    }

    /// Hands over what there is; `None` if there is nothing. What has no room is kept, or as much of it as is to be.
    fn push(&mut self, cx: &Context<'_>, link: &dyn Link) -> Option<Pushed> {
        let waker = || Some(cx.waker().clone());
        let Some(backlog) = &mut self.backlog else {
            return (!self.batch.is_empty()).then(|| link.push_items(self.id, &mut self.batch, &mut waker()));
        };
        backlog.add(&mut self.batch, link.is_glutted());
        let mut pushed = None;
        while !backlog.is_empty() {
            let (singly, missed, kept) = (backlog.goes_singly(), backlog.missed(), backlog.len());
            match link.prepare_items(self.id, singly, missed, kept, &mut waker()) {
                Pushed::Taken => {}
                other => return Some(other),
            }
            backlog.take(BATCH_LEN, &mut self.batch);
            pushed = Some(link.push_items(self.id, &mut self.batch, &mut None));
        }
        pushed
    }
}

/// Arguments of which some are streams.
#[derive(Debug)]
pub struct Fed<A> {
    arguments: A,
    feeds: Vec<Feed>,
    streams: u8,
}

impl<A> Fed<A> {
    /// `feeds` are the streams, in the order of the signature.
    pub fn new(arguments: A, feeds: Vec<Feed>) -> Fed<A> {
        let streams = u8::try_from(feeds.len()).unwrap_or(u8::MAX);
        Fed { arguments, feeds, streams }
    }
}

impl<A: Arguments> Arguments for Fed<A> {
    fn encode(&self, codec: CodecId, out: &mut Vec<u8>) -> Result<&[u8], EncodeError> {
        self.arguments.encode(codec, out)
    }

    fn tail(&self) -> &[u8] {
        self.arguments.tail()
    }

    fn streams(&self) -> u8 {
        self.streams
    }

    fn take_feeds(&mut self) -> Vec<Feed> {
        std::mem::take(&mut self.feeds)
    }
}

/// A stream that is an argument of a call. It is driven by the connection once the call is on its way.
pub struct Feed {
    source: Box<dyn Source>,
}

impl Feed {
    /// Of items in the form `F`.
    pub fn new<F, T, S>(stream: S) -> Feed
    where
        F: SerializeAs<T> + 'static,
        T: 'static,
        S: Stream<Item = T> + Send + 'static,
    {
        Feed { source: Box::new(Driven { stream: Box::pin(stream), form: PhantomData::<fn() -> F> }) }
    }

    /// Begins to send it as stream `id`.
    pub(crate) fn start(self, id: u64, link: &Arc<dyn Link>) {
        let pump = Pump::new(id, &**link, Slow::Block);
        let task = FeedTask { link: Arc::clone(link), source: Some(self.source), pump };
        link.spawn(Box::pin(task));
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

/// A stream without its type: asked once for a whole batch.
trait Source: Send {
    fn fill(&mut self, cx: &mut Context<'_>, codec: CodecId, item_max: usize, most: usize, out: &mut Vec<u8>)
    -> Filled;
}

struct Driven<S, F> {
    stream: Pin<Box<S>>,
    form: PhantomData<fn() -> F>,
}

impl<T, F, S> Source for Driven<S, F>
where
    F: SerializeAs<T>,
    S: Stream<Item = T> + Send,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_>,
        codec: CodecId,
        item_max: usize,
        most: usize,
        out: &mut Vec<u8>,
    ) -> Filled {
        fill::<T, F, S>(self.stream.as_mut(), cx, codec, item_max, most, out)
    }
}

/// The task that drives a stream that a call gives.
struct FeedTask {
    link: Arc<dyn Link>,
    /// Gone when it has ended.
    source: Option<Box<dyn Source>>,
    pump: Pump,
}

impl Future for FeedTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(source) = &mut this.source else {
            return Poll::Ready(());
        };
        let (pump, link) = (&mut this.pump, &*this.link);
        let polled = pump.poll(cx, link, |cx, codec, item_max, most, out| source.fill(cx, codec, item_max, most, out));
        polled.map(|status| this.end(status))
    }
}

impl FeedTask {
    fn end(&mut self, status: Result<(), Failure>) {
        if let Some(source) = self.source.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(source)));
            self.link.end_items(self.pump.id, status);
        }
    }
}

impl Drop for FeedTask {
    fn drop(&mut self) {
        // The runtime is shutting down.
        self.end(Err(Failure::maybe_executed(Reason::Cancelled)));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::wire::Plain;

    /// Its items take a while each.
    struct Slow(u64);

    impl Stream for Slow {
        type Item = u64;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
            std::thread::sleep(4 * BATCH_TIME);
            self.0 += 1;
            Poll::Ready(Some(self.0))
        }
    }

    #[test]
    fn an_item_that_took_long_does_not_wait_for_others() {
        let mut out = Vec::new();
        let mut slow = Slow(0);
        let mut cx = Context::from_waker(Waker::noop());
        let filled =
            fill::<u64, Plain, _>(Pin::new(&mut slow), &mut cx, CodecId::SUPPORTED[0], 64, BATCH_LEN, &mut out);
        assert!(matches!(filled, Filled::Batch), "{filled:?}");
        assert_eq!(slow.0, 1);
    }
}
