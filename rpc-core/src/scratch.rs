//! A buffer a thread, used again and again to encode into.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::body::Body;

/// A buffer that grew beyond this is left to others.
const KEPT_MAX: usize = 2 << 20;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's buffer, which it has again when this is dropped.
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    /// The thread's buffer, empty. Somebody who takes it while it is taken (a `Serialize` that makes a call) gets another.
    pub(crate) fn take() -> Scratch {
        let mut buffer = SCRATCH.try_with(Cell::take).unwrap_or_default();
        if buffer.capacity() == 0 {
            // The last one went with a long message. A longer one would go back each time.
            buffer = Body::up_to(KEPT_MAX).into_vec();
        }
        buffer.clear();
        Scratch(buffer)
    }

    /// The buffer, which does not go back.
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl Deref for Scratch {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        if buffer.capacity() > KEPT_MAX {
            drop(Body::from(buffer));
        } else if buffer.capacity() > 0 {
            let _ = SCRATCH.try_with(|scratch| scratch.set(buffer));
        }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
