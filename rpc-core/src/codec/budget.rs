//! What decoding may use.

use super::DecodeError;

/// What decoding a message may use: memory, which all its values share, and depth.
#[derive(Clone, Debug)]
pub struct DecodeBudget {
    memory: usize,
    /// `<= memory`.
    left: usize,
    depth: u16,
}

impl DecodeBudget {
    /// A budget of `memory` bytes, for values nested at most `depth` deep.
    pub fn new(memory: usize, depth: u16) -> DecodeBudget {
        DecodeBudget { memory, left: memory, depth }
    }

    /// The bytes charged so far; never more than there were.
    pub fn memory_used(&self) -> usize {
        self.memory - self.left
    }

    #[inline]
    pub(super) fn depth(&self) -> u16 {
        self.depth
    }

    #[inline]
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.left = self.left.checked_sub(bytes).ok_or(DecodeError::MemoryExceeded { max: self.memory })?;
        Ok(())
    }

    /// Refuses a length that cannot end well, before anything loops over it.
    ///
    /// Elements beyond the bytes that are there can take none of them, and each is charged at least 1.
    #[inline]
    pub(super) fn foresee(&self, len: usize, bytes_there: usize) -> Result<(), DecodeError> {
        if len.saturating_sub(bytes_there) > self.left {
            return Err(DecodeError::MemoryExceeded { max: self.memory });
        }
        Ok(())
    }
}
