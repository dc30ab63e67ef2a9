//! The way of an encoder's bytes to the buffer.

/// Appends to a buffer, by way of a few bytes on the stack.
///
/// A buffer on the heap is asked for room with every number, and must be looked at anew after every write, as the compiler
/// cannot know that it has not written over where the buffer is. Of bytes on the stack it knows all: a struct of known
/// size becomes a few moves of whole words, an array of bytes one copy, and room is asked for once.
///
/// What was not [finished](Staging::finish) may be there in part.
pub(super) struct Staging<'o> {
    out: &'o mut Vec<u8>,
    /// What has yet to be appended to `out`: the first `len`.
    bytes: &'o mut [u8; LEN],
    len: usize,
}

pub(super) const LEN: usize = 64;

impl<'o> Staging<'o> {
    #[inline]
    pub(super) fn new(bytes: &'o mut [u8; LEN], out: &'o mut Vec<u8>) -> Self {
        Staging { out, bytes, len: 0 }
    }

    #[inline]
    pub(super) fn put_byte(&mut self, byte: u8) {
        if self.len >= LEN {
            self.flush();
        }
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    pub(super) fn put_array<const N: usize>(&mut self, array: [u8; N]) {
        const { assert!(N <= LEN) };
        if self.len > LEN - N {
            self.flush();
        }
        self.bytes[self.len..self.len + N].copy_from_slice(&array);
        self.len += N;
    }

    #[inline]
    pub(super) fn put_slice(&mut self, slice: &[u8]) {
        let Some(room) = self.bytes.get_mut(self.len..).and_then(|rest| rest.get_mut(..slice.len())) else {
            self.flush();
            return self.out.extend_from_slice(slice);
        };
        room.copy_from_slice(slice);
        self.len += slice.len();
    }

    /// Everything is in the buffer then.
    #[inline]
    pub(super) fn finish(self) {
        self.out.extend_from_slice(&self.bytes[..self.len]);
    }

    #[inline]
    fn flush(&mut self) {
        append(self.out, &self.bytes[..self.len]);
        self.len = 0;
    }
}

/// Apart, because it is seldom needed.
#[inline(never)]
fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}
