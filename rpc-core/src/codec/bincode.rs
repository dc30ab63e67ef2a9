//! Fixed width, little-endian: the format of bincode 1, and of bincode 2's `legacy` configuration.

use super::DecodeError;
use super::failed::Failed;
use super::layout::{Layout, array, bytes, only_char};
use super::staging::Staging;

/// Every number as it is, little-endian; a `char` as UTF-8 without a length.
pub(super) struct FixedWidth;

macro_rules! numbers {
    ($($ty:ident $put:ident $take:ident)*) => {$(
        #[inline]
        fn $put(out: &mut Staging<'_>, value: $ty) {
            out.put_array(value.to_le_bytes());
        }

        #[inline]
        fn $take(input: &mut &[u8]) -> Result<$ty, Failed> {
            array(input).map($ty::from_le_bytes)
        }
    )*};
}

impl Layout for FixedWidth {
    numbers! {
        u16 put_u16 take_u16
        u32 put_u32 take_u32
        u64 put_u64 take_u64
        u128 put_u128 take_u128
        i16 put_i16 take_i16
        i32 put_i32 take_i32
        i64 put_i64 take_i64
        i128 put_i128 take_i128
    }

    #[inline]
    fn put_char(out: &mut Staging<'_>, value: char) {
        out.put_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
    }

    #[inline]
    fn take_char(input: &mut &[u8]) -> Result<char, Failed> {
        let len = match input.first() {
            None => return Err(Failed::TOO_SHORT),
            Some(0x00..=0x7f) => 1,
            Some(0xc2..=0xdf) => 2,
            Some(0xe0..=0xef) => 3,
            Some(0xf0..=0xf4) => 4,
            Some(_) => return Err(DecodeError::Malformed.into()),
        };
        only_char(bytes(input, len)?)
    }
}
