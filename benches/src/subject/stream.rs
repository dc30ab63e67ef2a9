//! Streams of items: one call, and every item is compared with what it should be.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use trunkline::Stream;

use super::meter::Meter;
use super::recorder::Tally;
use super::{Client, Error, Outcome, Spec, Workload};
use crate::Item;

/// The items from 0 on.
pub fn items() -> impl Iterator<Item = Item> + Send {
    (0..).map(Item::new)
}

/// A stream of what an iterator has, all of it ready.
#[derive(Debug)]
pub struct Each<I>(pub I);

impl<I: Iterator + Unpin> Stream for Each<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

/// Receives items, whose numbers must be those from 0 on.
#[derive(Debug, Default)]
pub struct InOrder {
    next: u64,
}

impl InOrder {
    /// How many have come.
    pub fn count(&self) -> u64 {
        self.next
    }

    /// The next item.
    ///
    /// # Errors
    ///
    /// If it is another one.
    pub fn take(&mut self, item: Item) -> Result<(), Error> {
        if item != Item::new(self.next) {
            return Err(format!("a wrong item {}", self.next).into());
        }
        self.next += 1;
        Ok(())
    }
}

/// Where the items go that a client receives.
#[derive(Debug)]
pub struct Sink {
    items: InOrder,
    progress: Arc<Progress>,
}

impl Sink {
    /// The next item. Whether more are wanted.
    ///
    /// # Errors
    ///
    /// If it is another one.
    pub fn take(&mut self, item: Item) -> Result<bool, Error> {
        self.items.take(item)?;
        Ok(self.progress.goes_on(self.items.count()))
    }
}

/// The items that a client sends, until it is enough.
#[derive(Debug)]
pub struct Source {
    next: u64,
    progress: Arc<Progress>,
}

impl Iterator for Source {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if !self.progress.goes_on(self.next) {
            return None;
        }
        self.next += 1;
        Some(Item::new(self.next - 1))
    }
}

/// What the task that measures and the one that is measured know of each other. Publishes nothing else.
#[derive(Debug, Default)]
struct Progress {
    count: AtomicU64,
    enough: AtomicBool,
}

impl Progress {
    fn goes_on(&self, count: u64) -> bool {
        self.count.store(count, Ordering::Relaxed);
        !self.enough.load(Ordering::Relaxed)
    }
}

/// Measures one stream. What is in between the ends when counting begins and when it ends is about as much.
pub(super) async fn run<C: Client>(spec: Spec, client: &'static C) -> Result<Outcome, Error> {
    if spec.in_flight != 1 || spec.connections != 1 || spec.is_open() || spec.beside > 0 {
        return Err("a stream is measured alone".into());
    }
    let progress = Arc::<Progress>::default();
    let shared = Arc::clone(&progress);
    let mut stream = tokio::spawn(async move {
        match spec.workload {
            Workload::Up => {
                let source = Source { next: 0, progress: Arc::clone(&shared) };
                let seen = client.up(source).await?;
                let sent = shared.count.load(Ordering::Relaxed);
                if seen == sent { Ok(()) } else { Err(format!("{sent} items went, and {seen} have come").into()) }
            }
            _ => client.down(Sink { items: InOrder::default(), progress: shared }).await,
        }
    });
    let meter = Meter::new(spec.server_pid);
    let read = || (meter.read(), progress.count.load(Ordering::Relaxed));
    let measured = async {
        tokio::time::sleep(spec.warm()).await;
        let first = read();
        tokio::time::sleep(spec.span()).await;
        (first, read())
    };
    let (first, last) = tokio::select! {
        measured = measured => measured,
        ended = &mut stream => return Err(ended?.err().unwrap_or_else(|| "the stream ended before its time".into())),
    };
    progress.enough.store(true, Ordering::Relaxed);
    tokio::time::timeout(PATIENCE, stream).await.map_err(|_| "the stream does not end")???;

    let mut tally = Tally::new();
    tally.calls = last.1 - first.1;
    let mut outcome = tally.outcome(&spec);
    first.0.until(&last.0, &mut outcome);
    Ok(outcome)
}

/// How long the last items may take.
const PATIENCE: Duration = Duration::from_secs(10);
