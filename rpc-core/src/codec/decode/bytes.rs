//! Tuples that are as large as they have elements, which arrays of bytes are.
//!
//! Byte by byte, each with a look at what is left, an array of 24 takes as long as all else of a small message, and what
//! reads it next waits for so many small stores. Here so many bytes are borrowed first: the compiler then knows of each that
//! it is there, and copies many at once. Nothing else is different: an element that is no `u8` is decoded as anywhere.

use serde::de::{self, DeserializeSeed, Deserializer, Visitor};

use super::{DecodeError, Decoder, Fields, Layout};

/// Decodes a tuple of `len` elements.
#[inline]
pub(super) fn tuple<'de, L: Layout, V: Visitor<'de>>(
    decoder: Decoder<'_, '_, 'de, L>,
    len: usize,
    visitor: V,
) -> Result<V::Value, DecodeError> {
    let Some(ahead) = decoder.source.input.get(..len) else {
        return visitor.visit_seq(decoder.fields(len));
    };
    let mut elements = Elements { ahead, borrowed: len, fields: decoder.fields(len) };
    let value = visitor.visit_seq(&mut elements)?;
    elements.catch_up();
    Ok(value)
}

/// The elements, whose first bytes are borrowed.
struct Elements<'s, 'b, 'de, L> {
    /// What is left of them.
    ahead: &'de [u8],
    /// How many there were, of which the source does not know that they are taken.
    borrowed: usize,
    fields: Fields<'s, 'b, 'de, L>,
}

impl<L> Elements<'_, '_, '_, L> {
    /// The source has what is left.
    #[inline]
    fn catch_up(&mut self) {
        let taken = self.borrowed - self.ahead.len();
        let input = &mut self.fields.source.input;
        *input = input.get(taken..).unwrap_or_default();
        (self.ahead, self.borrowed) = (&[], 0);
    }
}

impl<'de, L: Layout> de::SeqAccess<'de> for Elements<'_, '_, 'de, L> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        if self.fields.left == 0 {
            return Ok(None);
        }
        self.fields.left -= 1;
        seed.deserialize(Element { elements: self, size: size_of::<S::Value>() }).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.fields.left)
    }
}

struct Element<'e, 's, 'b, 'de, L> {
    elements: &'e mut Elements<'s, 'b, 'de, L>,
    size: usize,
}

impl<'e, 'b, 'de, L: Layout> Element<'e, '_, 'b, 'de, L> {
    /// What decodes anything else.
    #[inline]
    fn general(self) -> Decoder<'e, 'b, 'de, L> {
        self.elements.catch_up();
        self.elements.fields.decoder(self.size)
    }
}

macro_rules! general {
    ($($deserialize:ident($($argument:ident: $type:ty),*))*) => {$(
        #[inline]
        fn $deserialize<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, DecodeError> {
            self.general().$deserialize($($argument,)* visitor)
        }
    )*};
}

impl<'de, L: Layout> Deserializer<'de> for Element<'_, '_, '_, 'de, L> {
    type Error = DecodeError;

    #[inline]
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let Some((&byte, rest)) = self.elements.ahead.split_first() else {
            return self.general().deserialize_u8(visitor);
        };
        self.elements.ahead = rest;
        visitor.visit_u8(byte)
    }

    general! {
        deserialize_any()
        deserialize_bool()
        deserialize_i8()
        deserialize_i16()
        deserialize_i32()
        deserialize_i64()
        deserialize_i128()
        deserialize_u16()
        deserialize_u32()
        deserialize_u64()
        deserialize_u128()
        deserialize_f32()
        deserialize_f64()
        deserialize_char()
        deserialize_str()
        deserialize_string()
        deserialize_bytes()
        deserialize_byte_buf()
        deserialize_option()
        deserialize_unit()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_seq()
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_map()
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
        deserialize_identifier()
        deserialize_ignored_any()
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }
}
