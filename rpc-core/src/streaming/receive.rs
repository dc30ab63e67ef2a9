//! The receiver's end: frames' worth of bytes are fetched from the connection, items are decoded here.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::{Decode, StreamError};
use crate::codec::{CodecId, DecodeBudget, DecodeError};
use crate::connection::{Connection, Link};
use crate::error::Reason;
use crate::frame::ITEM_HEAD_LEN;
use crate::protocol::Took;

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
    /// The beginning of an item whose end was not fetched yet, head included.
    cut: Vec<u8>,
    /// Bytes that have left `buffer`, of which the connection does not know.
    done: u64,
    /// Up to where in `buffer` the task has paid for, and for how many bytes at a time it pays.
    paid: usize,
    price: usize,
}

/// So many bytes of items cost a task as much of its turn as anything else that it waits for: 64 KiB are all of it.
const PRICE: usize = 512;
/// The same while short calls wait for the end of the turn.
const PRICE_BESIDE: usize = 128;

/// Where an item lies.
enum Place {
    Buffer(Range<usize>),
    Cut(Vec<u8>),
}

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
            cut: Vec::new(),
            done: 0,
            paid: 0,
            price: PRICE,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn link(&self) -> &Arc<dyn Link> {
        self.connection.link()
    }

    pub(super) fn poll_item<T>(
        &mut self,
        cx: &mut Context<'_>,
        decode: Decode<T>,
    ) -> Poll<Result<Option<T>, StreamError>> {
        let place = loop {
            if self.at > self.paid {
                // What follows would keep others waiting, calls beside this stream among them.
                ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
                self.paid += self.price;
            }
            match self.next_place() {
                Ok(Some(place)) => break place,
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(StreamError::InvalidItem(error))),
            }
            match ready!(self.poll_fetch(cx)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(Ok(None)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        };
        let mut input = match &place {
            Place::Buffer(range) => &self.buffer[range.clone()],
            Place::Cut(item) => &item[ITEM_HEAD_LEN..],
        };
        let mut budget = DecodeBudget::new(self.decode.0, self.decode.1);
        let item = match decode(self.codec, &mut input, &mut budget) {
            Ok(_) if !input.is_empty() => Err(DecodeError::TrailingBytes { left: input.len() }),
            decoded => decoded,
        };
        if let Place::Cut(mut item) = place {
            // For the next one.
            item.clear();
            self.cut = item;
        }
        Poll::Ready(item.map(Some).map_err(StreamError::InvalidItem))
    }

    /// The next item, if all of it is here.
    fn next_place(&mut self) -> Result<Option<Place>, DecodeError> {
        if self.cut.is_empty() {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            if let Some(len) = self.len_of(rest)? {
                if rest.len() >= len {
                    let place = self.at + ITEM_HEAD_LEN..self.at + len;
                    self.at += len;
                    self.done += len as u64;
                    return Ok(Some(Place::Buffer(place)));
                }
            }
            self.cut.extend_from_slice(rest);
            self.done += rest.len() as u64;
            self.at = self.buffer.len();
            return Ok(None);
        }
        // Its head first, if that is cut as well.
        loop {
            let len = self.len_of(&self.cut)?;
            if len == Some(self.cut.len()) {
                return Ok(Some(Place::Cut(std::mem::take(&mut self.cut))));
            }
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(None);
            }
            let missing = len.unwrap_or(ITEM_HEAD_LEN) - self.cut.len();
            let some = rest.get(..missing).unwrap_or(rest);
            // No more than twice what is there, and no more than all of it.
            self.cut.reserve_exact(missing.min(some.len().max(self.cut.len())));
            self.cut.extend_from_slice(some);
            self.done += some.len() as u64;
            self.at += some.len();
        }
    }

    /// The length, head included, of the item that `bytes` begins with; `None` if its head is not all there.
    fn len_of(&self, bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
        let Some(head) = bytes.first_chunk::<ITEM_HEAD_LEN>() else {
            return Ok(None);
        };
        let len = u64::from(u32::from_le_bytes(*head)) + ITEM_HEAD_LEN as u64;
        // One that does not fit the window could never come.
        if len > self.item_max {
            return Err(DecodeError::MemoryExceeded { max: self.item_max as usize });
        }
        Ok(Some(len as usize))
    }

    /// Fetches what has come; `false` if that was all.
    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        self.buffer.clear();
        self.at = 0;
        let hungry = !self.cut.is_empty();
        let done = std::mem::take(&mut self.done);
        let mut waker = Some(cx.waker().clone());
        let took = self.connection.link().take_items(self.id, done, hungry, &mut self.buffer, &mut waker);
        let outcome = match took {
            Took::Nothing => return Poll::Pending,
            Took::Items { beside } => {
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
