//! Varints: the format of postcard 1, of which only the shortest form of every number is accepted.

use super::DecodeError;
use super::failed::Failed;
use super::layout::{Layout, byte, bytes, only_char};
use super::staging::Staging;

/// Seven bits a byte, the lowest first, the eighth bit set while more follow; signed numbers zigzag, so that small
/// ones of either sign stay short; a `char` as a string.
pub(super) struct Varint;

macro_rules! unsigned {
    ($($ty:ident $put:ident $take:ident)*) => {$(
        #[inline]
        fn $put(out: &mut Staging<'_>, mut value: $ty) {
            while value >= 0x80 {
                out.put_byte(value as u8 | 0x80);
                value >>= 7;
            }
            out.put_byte(value as u8);
        }

        #[inline]
        fn $take(input: &mut &[u8]) -> Result<$ty, Failed> {
            let mut value = 0;
            let mut shift = 0;
            loop {
                let byte = byte(input)?;
                let bits = $ty::from(byte & 0x7f);
                // Bits beyond the type's width: a number that is too large.
                if shift >= $ty::BITS || (bits << shift) >> shift != bits {
                    return Err(DecodeError::Malformed.into());
                }
                value |= bits << shift;
                if byte < 0x80 {
                    // Nothing in the highest byte: there is a shorter form.
                    return if byte == 0 && shift != 0 { Err(DecodeError::Malformed.into()) } else { Ok(value) };
                }
                shift += 7;
            }
        }
    )*};
}

macro_rules! signed {
    ($($ty:ident as $unsigned:ident $put:ident by $put_unsigned:ident $take:ident by $take_unsigned:ident)*) => {$(
        #[inline]
        fn $put(out: &mut Staging<'_>, value: $ty) {
            Self::$put_unsigned(out, ((value << 1) ^ (value >> ($ty::BITS - 1))) as $unsigned);
        }

        #[inline]
        fn $take(input: &mut &[u8]) -> Result<$ty, Failed> {
            let zigzag = Self::$take_unsigned(input)?;
            Ok((zigzag >> 1) as $ty ^ -((zigzag & 1) as $ty))
        }
    )*};
}

impl Layout for Varint {
    unsigned! {
        u16 put_u16 take_u16
        u32 put_u32 take_u32
        u64 put_u64 take_u64
        u128 put_u128 take_u128
    }

    signed! {
        i16 as u16 put_i16 by put_u16 take_i16 by take_u16
        i32 as u32 put_i32 by put_u32 take_i32 by take_u32
        i64 as u64 put_i64 by put_u64 take_i64 by take_u64
        i128 as u128 put_i128 by put_u128 take_i128 by take_u128
    }

    #[inline]
    fn put_char(out: &mut Staging<'_>, value: char) {
        // At most 4: the varint of the length is the length.
        out.put_byte(value.len_utf8() as u8);
        out.put_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
    }

    #[inline]
    fn take_char(input: &mut &[u8]) -> Result<char, Failed> {
        match byte(input)? {
            len @ 1..=4 => only_char(bytes(input, usize::from(len))?),
            _ => Err(DecodeError::Malformed.into()),
        }
    }
}
