//! Copies out of memory that another process may write at any moment.
//!
//! The compiler may read ordinary memory twice and believe that it read the same; here it must not. Every byte is
//! therefore read exactly once, by an atomic load or by an instruction the compiler does not look into. What a writer
//! changes meanwhile is torn, and nothing worse: it is up to the reader what it makes of the bytes.
#![allow(unsafe_code)] // Reads raw memory, and has the string instruction of x86-64.

use std::sync::atomic::{AtomicU64, Ordering};

/// Fills `into` from `from`.
///
/// # Safety
///
/// `from` is aligned to 8, and from there on `into.len()` bytes, rounded up to 8, are mapped and readable for the whole
/// call. Nothing in this process writes them meanwhile except atomically, 8 bytes at a time.
pub(super) unsafe fn copy_out(from: *const u8, into: &mut [u8]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if into.len() > BY_WORDS_MAX {
        // SAFETY: fewer bytes are asked for than the caller vouches for.
        unsafe { by_string(from, into) };
        return;
    }
    // SAFETY: the caller's own promise.
    unsafe { by_words(from.cast(), into) };
}

/// # Safety
///
/// That of [`copy_out`].
unsafe fn by_words(from: *const AtomicU64, into: &mut [u8]) {
    // SAFETY: aligned and readable by the caller's promise. A relaxed load of 8 bytes writes nothing, so the mapping may
    // be read-only; being atomic, it may race with whoever writes.
    let word = |index| unsafe { &*from.add(index) }.load(Ordering::Relaxed).to_ne_bytes();
    let count = into.len() / size_of::<u64>();
    let mut words = into.chunks_exact_mut(size_of::<u64>());
    for (index, into) in words.by_ref().enumerate() {
        into.copy_from_slice(&word(index));
    }
    let rest = words.into_remainder();
    if !rest.is_empty() {
        rest.copy_from_slice(&word(count)[..rest.len()]);
    }
}

/// One instruction, which processors do in whole lines: as fast as `memcpy`, where a loop of words has a seventh of that.
///
/// # Safety
///
/// `into.len()` bytes from `from` on are mapped and readable for the whole call.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn by_string(from: *const u8, into: &mut [u8]) {
    // SAFETY: it reads what the caller vouches for and writes `into`, which is borrowed. The compiler assumes nothing
    // about the bytes read: for it this is as good as a loop of atomic loads. The direction flag is clear, as at the
    // start of every assembly block, and the instruction changes no flag and no stack.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") into.len() => _,
            inout("rsi") from => _,
            inout("rdi") into.as_mut_ptr() => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Up to here the string instruction takes longer to start than the words take.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const BY_WORDS_MAX: usize = 128;

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_whole_and_nothing_beside_it() {
        let source: Vec<u64> = (1..=64).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let bytes: Vec<u8> = source.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let step = if cfg!(miri) { 7 } else { 1 };
        for start in [0, 8, 72] {
            for len in (0..=300).step_by(step) {
                let mut into = vec![0xa5; len + 2];
                // SAFETY: `source` is aligned to 8 and has 512 bytes, of which at most 72 + 304 are read; nobody writes.
                unsafe { copy_out(source.as_ptr().cast::<u8>().add(start), &mut into[1..=len]) };
                assert_eq!(into[1..=len], bytes[start..start + len], "{len} bytes from {start}");
                assert_eq!((into[0], into[len + 1]), (0xa5, 0xa5), "{len} bytes from {start}");
            }
        }
    }
}
