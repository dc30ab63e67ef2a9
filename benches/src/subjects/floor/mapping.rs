//! Memory that two processes share. The only unsafe code of this package.
#![expect(unsafe_code, reason = "a mapping is memory that the compiler knows nothing of")]

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// All of a file of memory: some words that both sides may touch at any time, then bytes that are one side's at a time.
pub(super) struct Mapping {
    start: NonNull<AtomicU64>,
    words: usize,
    bytes: usize,
}

impl Mapping {
    /// Maps `words` words and then `bytes` bytes of `file`, and makes it as long.
    pub(super) fn new(file: &File, words: usize, bytes: usize) -> io::Result<Mapping> {
        let len = words * 8 + bytes;
        file.set_len(len as u64)?;
        let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses where; no memory of this process is replaced. The file is never made shorter.
        let start = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Mapping { start: start.cast(), words, bytes })
    }

    /// The words.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: so many words are mapped, page aligned, for as long as `self`; whoever touches them does it atomically.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    /// Copies into the bytes, which must be this side's.
    pub(super) fn fill(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.bytes, "more than is mapped");
        // SAFETY: so many bytes are mapped behind the words; `bytes` lies elsewhere. The ring says whose they are, by a
        // Release that the other side acquires, so that nobody else touches them.
        unsafe { self.start.add(self.words).cast::<u8>().copy_from(NonNull::from(bytes).cast(), bytes.len()) }
    }

    /// The first of the bytes, which must be this side's for as long as they are borrowed.
    pub(super) fn filled(&self, len: usize) -> &[u8] {
        assert!(len <= self.bytes, "more than is mapped");
        // SAFETY: as in `fill`; every bit pattern is a byte.
        unsafe { slice::from_raw_parts(self.start.add(self.words).cast::<u8>().as_ptr(), len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped, and borrows of it have ended.
        let _ = unsafe { munmap(self.start.cast(), self.words * 8 + self.bytes) };
    }
}
