//! A buffer a thread, used again and again to encode into.

use std::cell::Cell;

use crate::body::Body;

/// A buffer that grew beyond this is left to others.
const KEPT_MAX: usize = 2 << 20;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's buffer, empty. Somebody who takes it while it is taken (a `Serialize` that makes a call) gets another.
pub(crate) fn take() -> Vec<u8> {
    let mut buffer = SCRATCH.try_with(Cell::take).unwrap_or_default();
    if buffer.capacity() == 0 {
        // The last one went with a long message. A longer one would go back each time.
        buffer = Body::up_to(KEPT_MAX).into_vec();
    }
    buffer.clear();
    buffer
}

/// Gives a buffer back.
pub(crate) fn give(buffer: Vec<u8>) {
    if buffer.capacity() > KEPT_MAX {
        drop(Body::from(buffer));
    } else if buffer.capacity() > 0 {
        let _ = SCRATCH.try_with(|scratch| scratch.set(buffer));
    }
}
