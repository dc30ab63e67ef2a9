//! The receiver's end: frames' worth of bytes are fetched from the connection, items are decoded here.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::StreamError;
use crate::codec::{CodecId, DecodeBudget, DecodeError};
use crate::connection::{Connection, Link};
use crate::error::Reason;
use crate::frame::ITEM_HEAD_LEN;
use crate::protocol::Took;
use crate::wire::{DeserializeAs, decode_as};

/// What takes the items of a stream from a connection. Dropping it stops the stream.
pub struct Receiver {
    /// Open as long as whoever receives would keep it.
    connection: Connection,
    id: u64,
    codec: CodecId,
    /// The memory and the depth that an item may take.
    decode: (usize, u16),
    /// The longest item, with its head.
    item_max: u64,
    /// Bytes that were fetched, and how far items were taken from them.
    buffer: Vec<u8>,
    at: usize,
    /// Items left out before those in `buffer`, in all.
    missed: u64,
    /// The beginning of an item whose end was not fetched yet, head included. Nothing is left in `buffer` then.
    cut: Vec<u8>,
    /// Up to where in `buffer` the task has paid for, and for how many bytes at a time it pays.
    paid: usize,
    price: usize,
}

/// So many bytes of items cost a task as much of its turn as anything else that it waits for: 64 KiB are all of it.
const PRICE: usize = 512;
/// The same while short calls wait for the end of the turn.
const PRICE_BESIDE: usize = 128;

impl Receiver {
    /// For stream `id`; what it costs to decode an item is bounded by `decode`.
    pub(crate) fn new(connection: Connection, id: u64, codec: CodecId, decode: (usize, u16)) -> Receiver {
        let item_max = connection.link().claim_stream(id).unwrap_or(0);
        Receiver {
            connection,
            id,
            codec,
            decode,
            item_max,
            buffer: Vec::new(),
            at: 0,
            missed: 0,
            cut: Vec::new(),
            paid: 0,
            price: PRICE,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn missed(&self) -> u64 {
        self.missed
    }

    pub(crate) fn link(&self) -> &Arc<dyn Link> {
        self.connection.link()
    }

    /// The next item, if all of it is in the buffer and the task has paid for it.
    #[inline]
    pub(super) fn next_whole<T, F>(&mut self) -> Option<Result<T, DecodeError>>
    where
        F: for<'de> DeserializeAs<'de, T>,
    {
        if self.at > self.paid {
            return None;
        }
        let item = whole_item(self.buffer.get(self.at..)?, self.item_max)?;
        self.at += ITEM_HEAD_LEN + item.len();
        Some(decode_item::<T, F>(self.codec, self.decode, item))
    }

    /// The next item; `None` after the last.
    pub(super) fn poll_item<T, F>(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, StreamError>>
    where
        F: for<'de> DeserializeAs<'de, T>,
    {
        if self.at > self.paid {
            // What follows would keep others waiting, calls beside this stream among them.
            ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
            self.paid += self.price;
        }
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            let whole = whole_item(rest, self.item_max).filter(|_| self.cut.is_empty());
            let decoded = if let Some(item) = whole {
                self.at += ITEM_HEAD_LEN + item.len();
                decode_item::<T, F>(self.codec, self.decode, item)
            } else if self.complete_cut().map_err(StreamError::InvalidItem)? {
                let mut cut = std::mem::take(&mut self.cut);
                let decoded = decode_item::<T, F>(self.codec, self.decode, &cut[ITEM_HEAD_LEN..]);
                // For the next one.
                cut.clear();
                self.cut = cut;
                decoded
            } else if ready!(self.poll_fetch(cx))? {
                continue;
            } else {
                return Poll::Ready(Ok(None));
            };
            return Poll::Ready(decoded.map(Some).map_err(StreamError::InvalidItem));
        }
    }

    /// Takes what is in the buffer for an item that is not all in there; whether it is whole now.
    fn complete_cut(&mut self) -> Result<bool, DecodeError> {
        // Its head first, if that is cut as well.
        loop {
            let len = len_of(&self.cut, self.item_max)?;
            if len == Some(self.cut.len()) {
                return Ok(true);
            }
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(false);
            }
            let missing = len.unwrap_or(ITEM_HEAD_LEN) - self.cut.len();
            let some = rest.get(..missing).unwrap_or(rest);
            // No more than twice what is there, and no more than all of it.
            self.cut.reserve_exact(missing.min(some.len().max(self.cut.len())));
            self.cut.extend_from_slice(some);
            self.at += some.len();
        }
    }

    /// Fetches what has come; `false` if that was all.
    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        self.buffer.clear();
        let done = std::mem::take(&mut self.at) as u64;
        let hungry = !self.cut.is_empty();
        let mut waker = Some(cx.waker().clone());
        let took = self.connection.link().take_items(self.id, done, hungry, &mut self.buffer, &mut waker);
        let outcome = match took {
            Took::Nothing => return Poll::Pending,
            Took::Items { beside, missed } => {
                self.missed = missed;
                self.price = if beside { PRICE_BESIDE } else { PRICE };
                self.paid = self.price;
                Ok(true)
            }
            Took::Ended(Ok(())) if hungry => Err(StreamError::InvalidItem(DecodeError::UnexpectedEnd)),
            Took::Ended(Ok(())) => Ok(false),
            Took::Ended(Err(failure)) => Err(StreamError::Ended(match failure.reason {
                // Of handlers and sources alike.
                Reason::UnknownMethod { .. } => Reason::Cancelled,
                reason => reason,
            })),
        };
        coop.made_progress();
        Poll::Ready(outcome)
    }
}

/// Decodes an item, of which all bytes are used.
#[inline]
fn decode_item<T, F>(codec: CodecId, decode: (usize, u16), mut bytes: &[u8]) -> Result<T, DecodeError>
where
    F: for<'de> DeserializeAs<'de, T>,
{
    let mut budget = DecodeBudget::new(decode.0, decode.1);
    let decoded = decode_as::<T, F>(codec, &mut bytes, &mut budget);
    if decoded.is_ok() && !bytes.is_empty() {
        return Err(DecodeError::TrailingBytes { left: bytes.len() });
    }
    decoded
}

/// The item that `bytes` begins with, if all of it is there and it is none that is too long.
#[inline]
fn whole_item(bytes: &[u8], max: u64) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<ITEM_HEAD_LEN>()?;
    let len = u32::from_le_bytes(*head);
    rest.get(..len as usize).filter(|_| ITEM_HEAD_LEN as u64 + u64::from(len) <= max)
}

/// The length, head included, of the item that `bytes` begins with; `None` if its head is not all there.
fn len_of(bytes: &[u8], max: u64) -> Result<Option<usize>, DecodeError> {
    let Some(head) = bytes.first_chunk::<ITEM_HEAD_LEN>() else {
        return Ok(None);
    };
    let len = u64::from(u32::from_le_bytes(*head)) + ITEM_HEAD_LEN as u64;
    // One that does not fit the window could never come.
    if len > max {
        return Err(DecodeError::MemoryExceeded { max: max as usize });
    }
    Ok(Some(len as usize))
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.connection.link().unclaim_stream(self.id);
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("id", &self.id).finish_non_exhaustive()
    }
}
