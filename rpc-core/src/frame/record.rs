//! Records: what follows one another in a stream or a ring. Mostly each is a frame; in a ring a record may also be a place to be
//! skipped, or say in which block the frame lies.

use super::{FIRST_WORD_LEN, FrameError, HEADER_LEN, Kind, flags};

/// How many bytes the record that begins with `first_word` has, header included.
///
/// # Errors
///
/// If the length is too short for a header or longer than `max`.
pub fn record_len(first_word: u64, max: usize) -> Result<usize, FrameError> {
    let len = u64::from(first_word as u32) + FIRST_WORD_LEN as u64;
    if len < HEADER_LEN as u64 {
        return Err(FrameError::Truncated { what: "header" });
    }
    if len > max as u64 {
        return Err(FrameError::TooLong { len, max: max as u64 });
    }
    Ok(len as usize)
}

/// The record at the front of `bytes`, if all of it is there.
///
/// # Errors
///
/// If its header cannot be that of an honest peer's frame.
pub fn first_record(bytes: &[u8], max: usize) -> Result<Option<&[u8]>, FrameError> {
    let Some(word) = bytes.first_chunk::<FIRST_WORD_LEN>() else {
        return Ok(None);
    };
    let len = record_len(u64::from_le_bytes(*word), max)?;
    Ok(bytes.get(..len))
}

/// A record of the shared-memory ring that holds no frame, up to the end of the ring. Never sent on a byte stream, where
/// it is an unknown kind.
pub(super) const KIND_PAD: u8 = 0x7f;

/// The first word of a record of `len` bytes, at least [`FIRST_WORD_LEN`], that is to be skipped.
pub fn pad(len: usize) -> u64 {
    (len - FIRST_WORD_LEN) as u64 | u64::from(KIND_PAD) << 32
}

/// How many bytes are to be skipped, if `first_word` begins a pad.
pub fn pad_len(first_word: u64) -> Option<usize> {
    ((first_word >> 32) as u8 == KIND_PAD).then_some(first_word as u32 as usize + FIRST_WORD_LEN)
}

/// A record of the shared-memory ring whose frame lies in a block beside it. Never sent on a byte stream either.
const KIND_ASIDE: u8 = 0x7e;
/// Bytes of such a record: its own first word, and that of the frame.
pub const ASIDE_LEN: usize = HEADER_LEN;

/// The first word of a record whose frame lies in the block with this number. The frame's own first word follows.
pub fn aside(block: u16) -> u64 {
    (ASIDE_LEN - FIRST_WORD_LEN) as u64 | u64::from(KIND_ASIDE) << 32 | u64::from(block) << 48
}

/// In which block the frame lies, if `first_word` begins such a record.
pub fn aside_block(first_word: u64) -> Option<u16> {
    ((first_word >> 32) as u8 == KIND_ASIDE).then_some((first_word >> 48) as u16)
}

/// Whether the frame that begins with `first_word` may lie in a block: whole calls and replies do.
pub fn lies_aside(first_word: u64) -> bool {
    let [_, _, _, _, kind, flags, ..] = first_word.to_le_bytes();
    matches!(Kind::from_wire(kind), Some(Kind::Call | Kind::Reply | Kind::Fail)) && flags & flags::MORE == 0
}
