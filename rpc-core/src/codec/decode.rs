//! The decoder of both codecs, with every guard built in.
//!
//! It is ours, rather than bincode's and postcard's under a wrapper: the wrapper has to stand between the library and
//! the type at every element, which made a call-sized message take twice as long; and in here it is known how many
//! bytes are left, and an error keeps its type. The bytes are theirs, and the tests compare what is made of them.
//!
//! # What is charged
//!
//! Every element of a sequence or map is charged what it takes in memory, and every string and block its length, unless
//! it is borrowed from the input.
//! So is what stands behind a `Box`, or the like, of which serde shows nothing. It is found by size: a value is *paid*
//! if the memory it stands in is charged already, or lies on the stack (the root, the fields of a struct that is paid,
//! an element after its charge), and a compound value larger than what is paid must stand elsewhere: the difference is
//! charged. In plain nested structs that is nothing; in `Vec<Box<Large>>` it is `Large`.

use std::marker::PhantomData;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::failed::Failed;
use super::layout::{self, Layout};
use super::{DecodeBudget, DecodeError};

/// Decodes one value.
pub(super) struct Decoder<'s, 'b, 'de, L> {
    source: &'s mut Source<'b, 'de>,
    /// How many more levels there may be.
    depth_left: u16,
    /// Bytes of memory that are charged for this value already.
    paid: usize,
    layout: PhantomData<L>,
}

/// What all values of a decoding share.
pub(super) struct Source<'b, 'de> {
    pub(super) input: &'de [u8],
    pub(super) budget: &'b mut DecodeBudget,
}

impl<'s, 'b, 'de, L: Layout> Decoder<'s, 'b, 'de, L> {
    /// The decoder of a whole value of `size` bytes, which belongs to the caller and is not charged.
    #[inline]
    pub(super) fn root(source: &'s mut Source<'b, 'de>, size: usize) -> Self {
        let depth_left = source.budget.depth();
        Decoder { source, depth_left, paid: size, layout: PhantomData }
    }

    /// One level down, into a value that is not a scalar and of `size` bytes.
    ///
    /// Called at every point where a type can contain itself; the stack is safe because there is no other.
    #[inline]
    fn enter(mut self, size: usize) -> Result<Self, Failed> {
        let Some(depth_left) = self.depth_left.checked_sub(1) else {
            return Err(DecodeError::TooDeep { max: usize::from(self.source.budget.depth()) }.into());
        };
        if size > self.paid {
            self.source.budget.charge(size - self.paid)?;
        }
        self.depth_left = depth_left;
        self.paid = size;
        Ok(self)
    }

    #[inline]
    fn byte(self) -> Result<u8, Failed> {
        layout::byte(&mut self.source.input)
    }

    #[inline]
    fn len(&mut self) -> Result<usize, Failed> {
        let len = L::take_u64(&mut self.source.input)?;
        usize::try_from(len).map_err(|_| Failed::TOO_SHORT)
    }

    /// A block, borrowed: the length is compared with the bytes that are there before anything is allocated. Who asked
    /// to own it is charged for the copy.
    #[inline]
    fn block(mut self, owned: bool) -> Result<&'de [u8], Failed> {
        let len = self.len()?;
        let bytes = layout::bytes(&mut self.source.input, len)?;
        if owned {
            self.source.budget.charge(len)?;
        }
        Ok(bytes)
    }

    #[inline]
    fn text(self, owned: bool) -> Result<&'de str, Failed> {
        std::str::from_utf8(self.block(owned)?).map_err(|_| DecodeError::Malformed.into())
    }

    #[inline]
    fn elements(mut self) -> Result<Elements<'s, 'b, 'de, L>, Failed> {
        let left = self.len()?;
        self.source.budget.foresee(left, self.source.input.len())?;
        Ok(Elements { source: self.source, depth_left: self.depth_left, left, layout: PhantomData })
    }

    #[inline]
    fn fields(self, left: usize) -> Fields<'s, 'b, 'de, L> {
        Fields { source: self.source, depth_left: self.depth_left, left, layout: PhantomData }
    }
}

macro_rules! scalars {
    ($($deserialize:ident $take:ident $visit:ident)*) => {$(
        #[inline]
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
            visitor.$visit(L::$take(&mut self.source.input)?)
        }
    )*};
}

macro_rules! refused {
    ($($deserialize:ident)*) => {$(
        #[cold]
        fn $deserialize<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Failed> {
            Err(DecodeError::NotSelfDescribing.into())
        }
    )*};
}

impl<'de, L: Layout> Deserializer<'de> for Decoder<'_, '_, 'de, L> {
    type Error = Failed;

    scalars! {
        deserialize_u16 take_u16 visit_u16
        deserialize_u32 take_u32 visit_u32
        deserialize_u64 take_u64 visit_u64
        deserialize_u128 take_u128 visit_u128
        deserialize_i16 take_i16 visit_i16
        deserialize_i32 take_i32 visit_i32
        deserialize_i64 take_i64 visit_i64
        deserialize_i128 take_i128 visit_i128
        deserialize_char take_char visit_char
    }

    refused! { deserialize_any deserialize_ignored_any deserialize_identifier }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => Err(DecodeError::Malformed.into()),
        }
    }

    #[inline]
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_u8(self.byte()?)
    }

    #[inline]
    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_i8(self.byte()? as i8)
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_f32(f32::from_le_bytes(layout::array(&mut self.source.input)?))
    }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_f64(f64::from_le_bytes(layout::array(&mut self.source.input)?))
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_borrowed_str(self.text(false)?)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_borrowed_str(self.text(true)?)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_borrowed_bytes(self.block(false)?)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_borrowed_bytes(self.block(true)?)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        match layout::byte(&mut self.source.input)? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self.enter(size_of::<V::Value>())?),
            _ => Err(DecodeError::Malformed.into()),
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_newtype_struct(self.enter(size_of::<V::Value>())?)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_seq(self.enter(size_of::<V::Value>())?.elements()?)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Failed> {
        let size = size_of::<V::Value>();
        let Decoder { source, depth_left, .. } = self.enter(size)?;
        // Nobody else sees this copy, so it can stay in registers from field to field, and an array be read as a whole.
        let mut near = Source { input: source.input, budget: &mut *source.budget };
        let decoder = Decoder::<L> { source: &mut near, depth_left, paid: size, layout: PhantomData };
        let value = visitor.visit_seq(decoder.fields(len))?;
        source.input = near.input;
        Ok(value)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_map(self.enter(size_of::<V::Value>())?.elements()?)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        visitor.visit_enum(self.enter(size_of::<V::Value>())?)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }
}

impl<'de, L: Layout> de::EnumAccess<'de> for Decoder<'_, '_, 'de, L> {
    type Error = Failed;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Failed> {
        let index: de::value::U32Deserializer<Failed> = L::take_u32(&mut self.source.input)?.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

/// The level was counted, and the memory paid, when the enum was entered.
impl<'de, L: Layout> de::VariantAccess<'de> for Decoder<'_, '_, 'de, L> {
    type Error = Failed;

    #[inline]
    fn unit_variant(self) -> Result<(), Failed> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, Failed> {
        // Not the enum's size, which another variant may have made large: a chain of boxes would be paid by its first.
        self.paid = size_of::<S::Value>();
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_seq(self.fields(len))
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_seq(self.fields(fields.len()))
    }
}

/// What stands in the value itself, as many as the type says: fields, and the elements of tuples and arrays.
struct Fields<'s, 'b, 'de, L> {
    source: &'s mut Source<'b, 'de>,
    depth_left: u16,
    left: usize,
    layout: PhantomData<L>,
}

impl<'b, 'de, L> Fields<'_, 'b, 'de, L> {
    /// The decoder of an element of `size` bytes.
    #[inline]
    fn decoder(&mut self, size: usize) -> Decoder<'_, 'b, 'de, L> {
        Decoder { source: &mut *self.source, depth_left: self.depth_left, paid: size, layout: PhantomData }
    }
}

impl<'de, L: Layout> de::SeqAccess<'de> for Fields<'_, '_, 'de, L> {
    type Error = Failed;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failed> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.decoder(size_of::<S::Value>())).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// What stands in memory of its own, as many as the peer says: the elements of sequences and the entries of maps.
struct Elements<'s, 'b, 'de, L> {
    source: &'s mut Source<'b, 'de>,
    depth_left: u16,
    left: usize,
    layout: PhantomData<L>,
}

impl<'de, L: Layout> Elements<'_, '_, 'de, L> {
    #[inline]
    fn element<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failed> {
        let size = size_of::<S::Value>();
        self.source.budget.charge(if size == 0 { NO_SIZE_CHARGE } else { size })?;
        let decoder =
            Decoder::<L> { source: &mut *self.source, depth_left: self.depth_left, paid: size, layout: PhantomData };
        seed.deserialize(decoder)
    }

    /// Bounded by the bytes that are there, as an element with a size seldom takes none.
    #[inline]
    fn hint(&self) -> Option<usize> {
        Some(self.left.min(self.source.input.len()).min(HINT_MAX))
    }
}

impl<'de, L: Layout> de::SeqAccess<'de> for Elements<'_, '_, 'de, L> {
    type Error = Failed;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failed> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.element(seed).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de, L: Layout> de::MapAccess<'de> for Elements<'_, '_, 'de, L> {
    type Error = Failed;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failed> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failed> {
        self.element(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

/// An element without a size still takes time: at a charge of 1 a default budget would buy 67 million of them.
const NO_SIZE_CHARGE: usize = 64;

/// Some containers reserve what the hint says, whatever the size of their elements, before the first is charged.
const HINT_MAX: usize = 4096;
