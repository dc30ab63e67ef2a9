//! Where the codecs differ: how a number and a `char` are laid out.

use super::DecodeError;
use super::failed::Failed;
use super::staging::Staging;

/// How numbers are written and read. Bytes, tags and floats are the same in every codec; lengths are `u64`, and the
/// indices of variants `u32`.
///
/// Reading takes from the front of `input`, and accepts of every value only the form that writing gives it.
pub(super) trait Layout {
    fn put_u16(out: &mut Staging<'_>, value: u16);
    fn put_u32(out: &mut Staging<'_>, value: u32);
    fn put_u64(out: &mut Staging<'_>, value: u64);
    fn put_u128(out: &mut Staging<'_>, value: u128);
    fn put_i16(out: &mut Staging<'_>, value: i16);
    fn put_i32(out: &mut Staging<'_>, value: i32);
    fn put_i64(out: &mut Staging<'_>, value: i64);
    fn put_i128(out: &mut Staging<'_>, value: i128);
    fn put_char(out: &mut Staging<'_>, value: char);

    fn take_u16(input: &mut &[u8]) -> Result<u16, Failed>;
    fn take_u32(input: &mut &[u8]) -> Result<u32, Failed>;
    fn take_u64(input: &mut &[u8]) -> Result<u64, Failed>;
    fn take_u128(input: &mut &[u8]) -> Result<u128, Failed>;
    fn take_i16(input: &mut &[u8]) -> Result<i16, Failed>;
    fn take_i32(input: &mut &[u8]) -> Result<i32, Failed>;
    fn take_i64(input: &mut &[u8]) -> Result<i64, Failed>;
    fn take_i128(input: &mut &[u8]) -> Result<i128, Failed>;
    fn take_char(input: &mut &[u8]) -> Result<char, Failed>;
}

#[inline]
pub(super) fn byte(input: &mut &[u8]) -> Result<u8, Failed> {
    let (&byte, rest) = input.split_first().ok_or(Failed::TOO_SHORT)?;
    *input = rest;
    Ok(byte)
}

#[inline]
pub(super) fn array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Failed> {
    let (&array, rest) = input.split_first_chunk().ok_or(Failed::TOO_SHORT)?;
    *input = rest;
    Ok(array)
}

#[inline]
pub(super) fn bytes<'de>(input: &mut &'de [u8], len: usize) -> Result<&'de [u8], Failed> {
    let (bytes, rest) = input.split_at_checked(len).ok_or(Failed::TOO_SHORT)?;
    *input = rest;
    Ok(bytes)
}

/// The one character that `bytes` are in UTF-8.
pub(super) fn only_char(bytes: &[u8]) -> Result<char, Failed> {
    let mut chars = std::str::from_utf8(bytes).map_err(|_| Failed::from(DecodeError::Malformed))?.chars();
    match (chars.next(), chars.next()) {
        (Some(char), None) => Ok(char),
        _ => Err(DecodeError::Malformed.into()),
    }
}
