//! Counts what a program asks of the allocator, in every program that links this library.
#![expect(unsafe_code, reason = "an allocator is")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Begins to count. Until then an allocation costs what it costs without this.
pub fn count() {
    // Nothing else is published by these two.
    COUNTS.store(true, Ordering::Relaxed);
}

/// Allocations so far, of all threads, those that make a block longer included.
pub fn counted() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Bytes of the blocks that are held, less those of before it [began to count](count).
pub fn held() -> i64 {
    HELD.load(Ordering::Relaxed)
}

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

/// So many allocations, and so many bytes more or less.
fn note(allocations: u64, bytes: isize) {
    if COUNTS.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(allocations, Ordering::Relaxed);
        HELD.fetch_add(bytes as i64, Ordering::Relaxed);
    }
}

// SAFETY: the system's allocator does everything, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as isize);
        // SAFETY: the caller keeps what `GlobalAlloc::alloc` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as isize);
        // SAFETY: the caller keeps what `GlobalAlloc::alloc_zeroed` wants.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        note(1, len as isize - layout.size() as isize);
        // SAFETY: the caller keeps what `GlobalAlloc::realloc` wants.
        unsafe { System.realloc(block, layout, len) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(0, -(layout.size() as isize));
        // SAFETY: the caller keeps what `GlobalAlloc::dealloc` wants.
        unsafe { System.dealloc(block, layout) }
    }
}
