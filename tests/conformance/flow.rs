//! The service whose methods have streams.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context as Cx, Poll};

use trunkline::{Context, Stream, StreamError, Streaming};

use crate::ledger::{Ledger, Mark};
use crate::service::{Mute, SuiteError};

#[trunkline::service]
pub(crate) trait Flow {
    async fn count_to(&self, to: u64) -> impl Stream<Item = u64>;
    /// Its stream borrows the argument.
    async fn repeat(&self, word: &str, times: u64) -> Result<impl Stream<Item = String>, SuiteError>;
    async fn blocks(&self, len: u64, times: u64) -> impl Stream<Item = Vec<u8>>;
    async fn sum(&self, numbers: Streaming<u64>) -> Result<u64, String>;
    /// Takes `n` numbers, and then no more.
    async fn first(&self, numbers: Streaming<u64>, n: u64) -> u64;
    /// Does not take any.
    async fn ignore(&self, numbers: Streaming<u64>) -> u64;
    async fn shout(&self, said: Streaming<String>) -> impl Stream<Item = String>;
    async fn zip(&self, left: Streaming<u64>, factor: u64, right: Streaming<u64>) -> impl Stream<Item = u64>;
    /// Marks when it begins and when it is dropped.
    async fn for_ever(&self, token: u64) -> impl Stream<Item = u64>;
    /// Marks the same of the stream that it is given, which it takes nothing from.
    async fn hold(&self, token: u64, numbers: Streaming<u64>);
    async fn silent(&self, token: u64) -> impl Stream<Item = u64>;
    async fn panic_after(&self, items: u64) -> impl Stream<Item = u64>;
    async fn mute_after(&self, items: u64) -> impl Stream<Item = Mute>;
    async fn until_draining(&self, token: u64, cx: &Context) -> impl Stream<Item = u64>;
    /// Blocks that begin with their number. Marks when there are no more.
    #[rpc(slow = "block")]
    async fn blocked(&self, token: u64, blocks: u64) -> impl Stream<Item = Vec<u8>>;
    #[rpc(slow = "drop_oldest")]
    async fn newest(&self, token: u64, blocks: u64) -> impl Stream<Item = Vec<u8>>;
    #[rpc(slow = "latest")]
    async fn latest(&self, token: u64, blocks: u64) -> Result<impl Stream<Item = Vec<u8>>, SuiteError>;
}

/// A stream of what `next` says.
pub(crate) struct From<F>(pub(crate) F);

impl<F> Unpin for From<F> {}

impl<T, F: FnMut(&mut Cx<'_>) -> Poll<Option<T>>> Stream for From<F> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<T>> {
        (self.0)(cx)
    }
}

/// A stream of what is all there.
pub(crate) fn all<T>(items: impl IntoIterator<Item = T>) -> impl Stream<Item = T> {
    let mut items = items.into_iter();
    From(move |_: &mut Cx<'_>| Poll::Ready(items.next()))
}

fn next<T>(stream: &mut Streaming<T>, cx: &mut Cx<'_>) -> Poll<Option<Result<T, StreamError>>> {
    Pin::new(stream).poll_next(cx)
}

/// Blocks of a kilobyte, which begin with their number, and a mark behind the last.
fn numbered(ledger: &Ledger, token: u64, blocks: u64) -> impl Stream<Item = Vec<u8>> {
    let mut numbers = 0..blocks;
    From(move |_: &mut Cx<'_>| {
        let Some(number) = numbers.next() else {
            ledger.mark(Mark::Finished, token);
            return Poll::Ready(None);
        };
        let mut block = number.to_le_bytes().to_vec();
        block.resize(1024, 7);
        Poll::Ready(Some(block))
    })
}

pub(crate) struct Stage {
    pub(crate) ledger: Ledger,
}

impl Flow for Stage {
    async fn count_to(&self, to: u64) -> impl Stream<Item = u64> {
        all(0..to)
    }

    async fn repeat(&self, word: &str, times: u64) -> Result<impl Stream<Item = String>, SuiteError> {
        if word.is_empty() {
            return Err(SuiteError::Small { code: 7 });
        }
        Ok(all((0..times).map(move |_| word.to_owned())))
    }

    async fn blocks(&self, len: u64, times: u64) -> impl Stream<Item = Vec<u8>> {
        all((0..times).map(move |at| vec![at as u8; len as usize]))
    }

    async fn sum(&self, mut numbers: Streaming<u64>) -> Result<u64, String> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number.map_err(|error| error.to_string())?;
        }
        Ok(sum)
    }

    async fn first(&self, mut numbers: Streaming<u64>, n: u64) -> u64 {
        let mut sum = 0;
        for _ in 0..n {
            sum += numbers.next().await.and_then(Result::ok).unwrap_or(0);
        }
        sum
    }

    async fn ignore(&self, numbers: Streaming<u64>) -> u64 {
        drop(numbers);
        7
    }

    async fn shout(&self, mut said: Streaming<String>) -> impl Stream<Item = String> {
        From(move |cx: &mut Cx<'_>| next(&mut said, cx).map(|said| Some(said?.ok()?.to_uppercase())))
    }

    async fn zip(&self, mut left: Streaming<u64>, factor: u64, mut right: Streaming<u64>) -> impl Stream<Item = u64> {
        let mut lefts = VecDeque::new();
        From(move |cx: &mut Cx<'_>| {
            loop {
                if let Some(number) = lefts.pop_front() {
                    match next(&mut right, cx) {
                        Poll::Ready(Some(Ok(other))) => return Poll::Ready(Some(number * factor + other)),
                        Poll::Ready(_) => return Poll::Ready(None),
                        Poll::Pending => {
                            lefts.push_front(number);
                            return Poll::Pending;
                        }
                    }
                }
                match next(&mut left, cx) {
                    Poll::Ready(Some(Ok(number))) => lefts.push_back(number),
                    Poll::Ready(_) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
    }

    async fn for_ever(&self, token: u64) -> impl Stream<Item = u64> {
        let running = self.ledger.run(token);
        let mut at = 0;
        From(move |_: &mut Cx<'_>| {
            let _ = &running;
            at += 1;
            Poll::Ready(Some(at))
        })
    }

    async fn hold(&self, token: u64, numbers: Streaming<u64>) {
        let _running = self.ledger.run(token);
        let _numbers = numbers;
        std::future::pending::<()>().await;
    }

    async fn silent(&self, token: u64) -> impl Stream<Item = u64> {
        let running = self.ledger.run(token);
        From(move |_: &mut Cx<'_>| {
            let _ = &running;
            Poll::Pending
        })
    }

    async fn panic_after(&self, items: u64) -> impl Stream<Item = u64> {
        let mut at = 0;
        From(move |_: &mut Cx<'_>| {
            at += 1;
            assert!(at <= items, "a stream that panics");
            Poll::Ready(Some(at))
        })
    }

    async fn mute_after(&self, items: u64) -> impl Stream<Item = Mute> {
        // `Mute` cannot be encoded at all.
        all((items..=items).map(|_| Mute))
    }

    async fn blocked(&self, token: u64, blocks: u64) -> impl Stream<Item = Vec<u8>> {
        numbered(&self.ledger, token, blocks)
    }

    async fn newest(&self, token: u64, blocks: u64) -> impl Stream<Item = Vec<u8>> {
        numbered(&self.ledger, token, blocks)
    }

    async fn latest(&self, token: u64, blocks: u64) -> Result<impl Stream<Item = Vec<u8>>, SuiteError> {
        Ok(numbered(&self.ledger, token, blocks))
    }

    async fn until_draining(&self, token: u64, cx: &Context) -> impl Stream<Item = u64> {
        self.ledger.mark(Mark::Started, token);
        let mut draining = Box::pin(cx.draining());
        let mut said = 0;
        From(move |cx: &mut Cx<'_>| {
            said += 1;
            match said {
                1 => return Poll::Ready(Some(0)),
                2 => {}
                _ => return Poll::Ready(None),
            }
            if draining.as_mut().poll(cx).is_pending() {
                said = 1;
                return Poll::Pending;
            }
            Poll::Ready(Some(99))
        })
    }
}
