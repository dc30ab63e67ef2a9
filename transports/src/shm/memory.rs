//! What the ring knows of memory: a segment to write, the peer's to read, and fences.
//!
//! The ring stands on two traits, so that the very same code runs on shared memory, on the heap (where tests and
//! interpreters can watch it), and on memory that a model checker plays tricks with.
#![allow(unsafe_code)] // Turns offsets into accesses of raw memory.

use std::any::Any;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::copy::copy_out;

#[cfg(all(test, trunkline_loom))]
pub(crate) use loom::sync::atomic::fence;
#[cfg(not(all(test, trunkline_loom)))]
pub(crate) use std::sync::atomic::fence;

/// A segment that this side writes, and nobody else. It is never read back.
///
/// Offsets are in bytes from the segment's beginning, multiples of 8.
pub(crate) trait Own: Clone {
    /// Stores a word; `order` is `Relaxed` or `Release`.
    fn store(&self, at: usize, value: u64, order: Ordering);
}

/// A segment that the peer writes, at any moment and whatever it likes.
///
/// Offsets are in bytes from the segment's beginning, multiples of 8.
pub(crate) trait Peer: Clone {
    /// Loads a word, `Relaxed`: more is not to be had from memory that is mapped read-only. Who finds in it what it
    /// waited for has a `fence(Acquire)` to follow.
    fn load(&self, at: usize) -> u64;

    /// Copies bytes out, each of them read once.
    fn copy(&self, at: usize, into: &mut [u8]);
}

/// [`Own`] by pointer.
#[derive(Clone, Debug)]
pub(crate) struct OwnMemory(Region);

impl OwnMemory {
    /// The segment of `len` bytes at `ptr`.
    ///
    /// # Safety
    ///
    /// - As long as `keep` lives, these bytes can be read and written. `ptr` is aligned to 8.
    /// - Of the returned value and its clones, at most one goes into a [`Producer`](super::ring::Producer), and only that
    ///   one touches the segment from [`DATA`](super::ring::DATA) on.
    /// - Others in this process touch these bytes by [`PeerMemory`] alone, following the ring's protocol.
    pub(crate) unsafe fn new(ptr: NonNull<u8>, len: usize, keep: Arc<dyn Any + Send + Sync>) -> OwnMemory {
        OwnMemory(Region::new(ptr, len, keep))
    }

    /// The bytes of `range`, to be written as ordinary memory.
    ///
    /// # Safety
    ///
    /// As long as the borrow lasts, nobody in this process touches them another way: they lie in the data, the caller is
    /// the producer, and its peer has been told of no record in them.
    pub(crate) unsafe fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        let len = range.len();
        assert!(range.start <= self.0.len && len <= self.0.len - range.start, "outside the segment");
        // SAFETY: inside the segment, which is readable and writable as long as `keep` lives; initialised, since every
        // bit pattern is a byte. The caller sees to it that nobody else touches it. A peer in another process has it
        // read-only.
        unsafe { std::slice::from_raw_parts_mut(self.0.ptr.as_ptr().add(range.start), len) }
    }
}

impl Own for OwnMemory {
    fn store(&self, at: usize, value: u64, order: Ordering) {
        self.0.word(at).store(value, order);
    }
}

/// [`Peer`] by pointer.
#[derive(Clone, Debug)]
pub(crate) struct PeerMemory(Region);

impl PeerMemory {
    /// The segment of `len` bytes at `ptr`.
    ///
    /// # Safety
    ///
    /// As long as `keep` lives, these bytes can be read; they need not be writable. `ptr` is aligned to 8. Whoever writes
    /// them is another process, or an [`OwnMemory`] that follows the ring's protocol.
    pub(crate) unsafe fn new(ptr: NonNull<u8>, len: usize, keep: Arc<dyn Any + Send + Sync>) -> PeerMemory {
        PeerMemory(Region::new(ptr, len, keep))
    }

    /// The bytes of `range`, as ordinary memory.
    ///
    /// # Safety
    ///
    /// As long as the borrow lasts, nobody writes them, in this process or another.
    pub(crate) unsafe fn bytes(&self, range: Range<usize>) -> &[u8] {
        let len = range.len();
        assert!(range.start <= self.0.len && len <= self.0.len - range.start, "outside the segment");
        // SAFETY: inside the segment, which is readable as long as `keep` lives; initialised, since every bit pattern is a
        // byte. The caller sees to it that nobody writes it.
        unsafe { std::slice::from_raw_parts(self.0.ptr.as_ptr().add(range.start), len) }
    }
}

impl Peer for PeerMemory {
    fn load(&self, at: usize) -> u64 {
        self.0.word(at).load(Ordering::Relaxed)
    }

    fn copy(&self, at: usize, into: &mut [u8]) {
        let rounded = into.len().next_multiple_of(WORD);
        assert!(at % WORD == 0 && at <= self.0.len && rounded <= self.0.len - at, "outside the segment");
        // SAFETY: aligned, and inside the segment, which is readable as long as `keep` lives. A writer in this process
        // writes these bytes only once it has been told that they were consumed, or else atomically by words.
        unsafe { copy_out(self.0.ptr.as_ptr().add(at), into) };
    }
}

#[derive(Clone, Debug)]
struct Region {
    ptr: NonNull<u8>,
    /// A multiple of 8.
    len: usize,
    /// What keeps the memory mapped.
    #[allow(dead_code, reason = "held, not looked at")]
    keep: Arc<dyn Any + Send + Sync>,
}

impl Region {
    fn new(ptr: NonNull<u8>, len: usize, keep: Arc<dyn Any + Send + Sync>) -> Region {
        assert!(ptr.addr().get() % WORD == 0, "a segment is aligned to a word");
        Region { ptr, len: len - len % WORD, keep }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at % WORD == 0 && at < self.len, "outside the segment");
        // SAFETY: aligned, and inside the segment, which `keep` keeps for as long as the borrow lasts. All accesses of the
        // same time are atomic and of the same size. Where the mapping is read-only, only `PeerMemory` comes here, for a
        // relaxed load of 8 bytes, which writes nothing.
        unsafe { &*self.ptr.as_ptr().add(at).cast::<AtomicU64>() }
    }
}

// SAFETY: the pointer is to memory that any thread may use, and that `keep`, itself `Send + Sync`, keeps there. What is
// accessed through a shared reference is accessed atomically.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

const WORD: usize = size_of::<u64>();

/// A segment of `len` zeroes on the heap, from both of its sides.
#[cfg(all(test, not(trunkline_loom)))]
pub(crate) fn on_heap(len: usize) -> (OwnMemory, PeerMemory) {
    struct Words(Box<[std::cell::UnsafeCell<u64>]>);
    // SAFETY: the words are accessed by `OwnMemory` and `PeerMemory` only, which are `Sync` for reasons of their own.
    unsafe impl Sync for Words {}

    let words = Arc::new(Words((0..len.div_ceil(WORD)).map(|_| 0.into()).collect()));
    let ptr = NonNull::from(&*words.0).cast::<u8>();
    // SAFETY: `words` holds them; they may be written through a shared reference; tests follow the contract.
    unsafe { (OwnMemory::new(ptr, len, words.clone()), PeerMemory::new(ptr, len, words)) }
}
