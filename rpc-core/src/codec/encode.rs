//! The encoder of both codecs: serde's data model laid out by a [`Layout`].
//!
//! It is ours, rather than bincode's and postcard's under a wrapper, because it has to be strict about what the
//! receiver could not notice, must append to a buffer that is not empty, and keeps the message of a type's own error.
//! And it is faster: what it writes takes the way over a few bytes on the stack, see [`Staging`]. The bytes are theirs,
//! and the tests compare them.

use std::marker::PhantomData;

use serde::ser::{self, Serialize, Serializer};

use super::EncodeError;
use super::layout::Layout;
use super::staging::Staging;

/// Appends one value to a buffer.
pub(super) struct Encoder<'a, 'o, L> {
    out: &'a mut Staging<'o>,
    layout: PhantomData<L>,
}

impl<'a, 'o, L: Layout> Encoder<'a, 'o, L> {
    #[inline]
    pub(super) fn new(out: &'a mut Staging<'o>) -> Self {
        Encoder { out, layout: PhantomData }
    }

    #[inline]
    fn block(self, bytes: &[u8]) -> Result<(), EncodeError> {
        L::put_u64(self.out, bytes.len() as u64);
        self.out.put_slice(bytes);
        Ok(())
    }

    #[inline]
    fn elements(self, len: Option<usize>) -> Result<Elements<'a, 'o, L>, EncodeError> {
        let announced = len.ok_or(EncodeError::UnknownLength)?;
        L::put_u64(self.out, announced as u64);
        Ok(Elements { out: self.out, announced, written: 0, layout: PhantomData })
    }

    #[inline]
    fn fields(self) -> Result<Fields<'a, 'o, L>, EncodeError> {
        Ok(Fields { out: self.out, layout: PhantomData })
    }

    #[inline]
    fn variant(self, index: u32) -> Result<Fields<'a, 'o, L>, EncodeError> {
        L::put_u32(self.out, index);
        self.fields()
    }
}

macro_rules! scalars {
    ($($name:ident $put:ident $ty:ident)*) => {$(
        #[inline]
        fn $name(self, value: $ty) -> Result<(), EncodeError> {
            L::$put(self.out, value);
            Ok(())
        }
    )*};
}

impl<'a, 'o, L: Layout> Serializer for Encoder<'a, 'o, L> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Elements<'a, 'o, L>;
    type SerializeTuple = Fields<'a, 'o, L>;
    type SerializeTupleStruct = Fields<'a, 'o, L>;
    type SerializeTupleVariant = Fields<'a, 'o, L>;
    type SerializeMap = Elements<'a, 'o, L>;
    type SerializeStruct = Fields<'a, 'o, L>;
    type SerializeStructVariant = Fields<'a, 'o, L>;

    scalars! {
        serialize_u16 put_u16 u16
        serialize_u32 put_u32 u32
        serialize_u64 put_u64 u64
        serialize_u128 put_u128 u128
        serialize_i16 put_i16 i16
        serialize_i32 put_i32 i32
        serialize_i64 put_i64 i64
        serialize_i128 put_i128 i128
        serialize_char put_char char
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.serialize_u8(u8::from(value))
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<(), EncodeError> {
        self.out.put_byte(value);
        Ok(())
    }

    #[inline]
    fn serialize_i8(self, value: i8) -> Result<(), EncodeError> {
        self.serialize_u8(value as u8)
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), EncodeError> {
        self.out.put_array(value.to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), EncodeError> {
        self.out.put_array(value.to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        self.block(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        self.block(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_u8(0)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        self.out.put_byte(1);
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), EncodeError> {
        self.serialize_u32(index)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.variant(index)?.field(value)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Elements<'a, 'o, L>, EncodeError> {
        self.elements(len)
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Fields<'a, 'o, L>, EncodeError> {
        self.fields()
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Fields<'a, 'o, L>, EncodeError> {
        self.fields()
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Fields<'a, 'o, L>, EncodeError> {
        self.variant(index)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Elements<'a, 'o, L>, EncodeError> {
        self.elements(len)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a, 'o, L>, EncodeError> {
        self.fields()
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Fields<'a, 'o, L>, EncodeError> {
        self.variant(index)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence or map, counted: what follows a wrong length would be read as something else.
pub(super) struct Elements<'a, 'o, L> {
    out: &'a mut Staging<'o>,
    announced: usize,
    written: usize,
    layout: PhantomData<L>,
}

impl<L: Layout> Elements<'_, '_, L> {
    #[inline]
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(Encoder::<L>::new(self.out))
    }

    #[inline]
    fn finish(self) -> Result<(), EncodeError> {
        let Elements { announced, written, .. } = self;
        if written == announced { Ok(()) } else { Err(EncodeError::WrongLength { announced, written }) }
    }
}

impl<L: Layout> ser::SerializeSeq for Elements<'_, '_, L> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.written += 1;
        self.value(value)
    }

    #[inline]
    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl<L: Layout> ser::SerializeMap for Elements<'_, '_, L> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.written += 1;
        self.value(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.value(value)
    }

    #[inline]
    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

/// What stands in a row and whose number the type knows: fields, and the elements of tuples and arrays.
pub(super) struct Fields<'a, 'o, L> {
    out: &'a mut Staging<'o>,
    layout: PhantomData<L>,
}

impl<L: Layout> Fields<'_, '_, L> {
    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(Encoder::<L>::new(self.out))
    }
}

macro_rules! unnamed {
    ($($name:ident $method:ident)*) => {$(
        impl<L: Layout> ser::$name for Fields<'_, '_, L> {
            type Ok = ();
            type Error = EncodeError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
                self.field(value)
            }

            #[inline]
            fn end(self) -> Result<(), EncodeError> {
                Ok(())
            }
        }
    )*};
}

unnamed! {
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

macro_rules! named {
    ($($name:ident)*) => {$(
        impl<L: Layout> ser::$name for Fields<'_, '_, L> {
            type Ok = ();
            type Error = EncodeError;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), EncodeError> {
                self.field(value)
            }

            #[cold]
            fn skip_field(&mut self, name: &'static str) -> Result<(), EncodeError> {
                Err(EncodeError::SkippedField(name))
            }

            #[inline]
            fn end(self) -> Result<(), EncodeError> {
                Ok(())
            }
        }
    )*};
}

named! { SerializeStruct SerializeStructVariant }
