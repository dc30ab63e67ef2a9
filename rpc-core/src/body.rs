//! Buffers of long messages, used again and again.
//!
//! An allocator gives memory of this size back to the system and takes it anew, and the first touch of each page of it is
//! a fault. So buffers that were let go of lie here for the next message, until a connection comes to rest. What was in
//! them lies there as well: it need not be cleared before it is written over.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::landing::Lease;

/// The bytes of a message. What it takes of memory goes back to the pool.
#[derive(Default)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    /// An empty one that can take `len` bytes.
    pub(crate) fn with_capacity(len: usize) -> Body {
        let mut body = Body::with_leftovers(len).unwrap_or_else(|| Body(Vec::with_capacity(len)));
        body.clear();
        body
    }

    /// One from the pool that can take `len` bytes, with what was in it: for whoever writes over that.
    pub(crate) fn with_leftovers(len: usize) -> Option<Body> {
        if len < LEN_MIN {
            return None;
        }
        let mut pool = lock();
        // The latest, if it does: it is the likeliest to be in the cache.
        let at = pool.buffers.iter().rposition(|buffer| buffer.capacity() >= len && buffer.capacity() / 2 <= len)?;
        Some(Body(pool.take(at)))
    }

    /// The latest of up to `capacity` bytes, or one without memory: for whoever does not know yet how much there will be.
    pub(crate) fn up_to(capacity: usize) -> Body {
        let mut pool = lock();
        let at = pool.buffers.iter().rposition(|buffer| buffer.capacity() <= capacity);
        let mut body = Body(at.map(|at| pool.take(at)).unwrap_or_default());
        body.clear();
        body
    }

    /// Its bytes, which do not go back.
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body(bytes)
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Body {
        let mut body = Body::with_capacity(bytes.len());
        body.extend_from_slice(bytes);
        body
    }
}

impl Deref for Body {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Body {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if (LEN_MIN..=LEN_MAX).contains(&self.0.capacity()) {
            lock().give(std::mem::take(&mut self.0));
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// The payload of a message that has come.
#[derive(Debug)]
pub(crate) enum Received {
    /// In memory of its own.
    Own(Body),
    /// In the transport's.
    Lent(Lease),
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Received::Own(body) => body,
            Received::Lent(lease) => lease,
        }
    }
}

impl From<Body> for Received {
    fn from(body: Body) -> Received {
        Received::Own(body)
    }
}

impl From<Lease> for Received {
    fn from(lease: Lease) -> Received {
        Received::Lent(lease)
    }
}

/// A message in two pieces that lie apart: what was encoded, and a long block of bytes that is its own encoding.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts<'a> {
    pub(crate) head: &'a [u8],
    pub(crate) tail: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Writes them to `space`, which is as long.
    #[inline]
    pub(crate) fn copy_to(&self, space: &mut [u8]) {
        let (head, tail) = space.split_at_mut(self.head.len());
        head.copy_from_slice(self.head);
        if !tail.is_empty() {
            tail.copy_from_slice(self.tail);
        }
    }

    /// The bytes from `start` to `end`.
    pub(crate) fn range(&self, start: usize, end: usize) -> Parts<'a> {
        let cut = |bytes: &'a [u8], before: usize| {
            let at = |place: usize| place.saturating_sub(before).min(bytes.len());
            &bytes[at(start)..at(end)]
        };
        Parts { head: cut(self.head, 0), tail: cut(self.tail, self.head.len()) }
    }
}

impl<'a> From<&'a [u8]> for Parts<'a> {
    fn from(bytes: &'a [u8]) -> Parts<'a> {
        Parts { head: bytes, tail: &[] }
    }
}

impl From<Parts<'_>> for Body {
    fn from(parts: Parts<'_>) -> Body {
        let mut body = Body::with_capacity(parts.len());
        body.extend_from_slice(parts.head);
        body.extend_from_slice(parts.tail);
        body
    }
}

/// Gives all that lies here back to the system.
pub(crate) fn forget_spare() {
    let spare = std::mem::take(&mut lock().buffers);
    drop(spare);
}

#[derive(Debug)]
struct Pool {
    /// The latest last.
    buffers: Vec<Vec<u8>>,
}

impl Pool {
    fn take(&mut self, at: usize) -> Vec<u8> {
        self.buffers.remove(at)
    }

    /// With too many, the oldest goes.
    fn give(&mut self, buffer: Vec<u8>) {
        self.buffers.push(buffer);
        let mut held: usize = self.buffers.iter().map(Vec::capacity).sum();
        while self.buffers.len() > BUFFERS_MAX || (held > HELD_MAX && self.buffers.len() > 1) {
            held -= self.buffers.remove(0).capacity();
        }
    }
}

static POOL: Mutex<Pool> = Mutex::new(Pool { buffers: Vec::new() });

fn lock() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allocators keep shorter ones themselves.
const LEN_MIN: usize = 64 << 10;
const LEN_MAX: usize = 128 << 20;
/// What lies here at most, but for the latest by itself: to give back one of hundreds of megabytes takes milliseconds.
const BUFFERS_MAX: usize = 16;
const HELD_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_keeps_no_more_than_it_may() {
        let mut pool = Pool { buffers: Vec::new() };
        for len in (0..40).map(|n| (n % 5 + 1) << 20) {
            pool.give(Vec::with_capacity(len));
            assert!(pool.buffers.len() <= BUFFERS_MAX);
            assert!(pool.buffers.iter().map(Vec::capacity).sum::<usize>() <= HELD_MAX);
        }
        assert!(!pool.buffers.is_empty());
    }

    #[test]
    fn parts_are_cut_like_the_whole() {
        let whole: Vec<u8> = (0..20).collect();
        for middle in 0..=20 {
            let parts = Parts { head: &whole[..middle], tail: &whole[middle..] };
            for start in 0..=20 {
                for end in start..=20 {
                    assert_eq!(*Body::from(parts.range(start, end)), whole[start..end]);
                }
            }
        }
    }

    #[test]
    fn a_body_is_empty_and_long_enough_wherever_it_comes_from() {
        for len in [0, 1, LEN_MIN, 1 << 20, LEN_MAX + 1, 100_000] {
            for _ in 0..3 {
                let mut body = Body::with_capacity(len);
                assert!(body.is_empty() && body.capacity() >= len);
                body.resize(len, 7);
            }
        }
        let some = Body::up_to(LEN_MIN);
        assert!(some.is_empty() && some.capacity() <= LEN_MIN);
    }
}
