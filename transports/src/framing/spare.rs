//! Large receive buffers that nobody needs at the moment, shared by all connections of the process.
//!
//! A connection gives its large buffer away when it falls idle and takes one when much arrives. So an idle connection
//! costs little, and one that alternates between the two neither allocates nor grows step by step each time.

use std::sync::{Mutex, PoisonError};

/// At most [`BUFFERS_MAX`] wholly initialised buffers, each of at least `LEN_MIN` and at most `LEN_MAX` bytes.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer longer than `len`, if one is there: the longest.
pub(super) fn take(len: usize) -> Option<Vec<u8>> {
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let (at, _) = spare.iter().enumerate().filter(|(_, buffer)| buffer.len() > len).max_by_key(|(_, b)| b.len())?;
    Some(spare.swap_remove(at))
}

/// Keeps `buffer` for others, or frees it.
pub(super) fn give(buffer: Vec<u8>) {
    if !(LEN_MIN..=LEN_MAX).contains(&buffer.len()) {
        return;
    }
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    if spare.len() < BUFFERS_MAX {
        spare.push(buffer);
    }
}

const BUFFERS_MAX: usize = 8;
const LEN_MIN: usize = 32 * 1024;
/// The length of the longest buffer that is kept.
pub(super) const LEN_MAX: usize = 256 * 1024;
