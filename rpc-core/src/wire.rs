//! How values are laid into a payload: the form of one value, the arguments of a call, what a method returns.
//!
//! Generated code chooses among the types here and has no logic of its own.

use std::convert::Infallible;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::codec::{CodecId, DecodeBudget, DecodeError, EncodeError};
use crate::streaming::{Feed, Receiver};

/// How a value of type `T` is given to serde, on the sender's side.
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot travel: it is not `Serialize`",
    label = "cannot be sent to another process",
    note = "derive it: #[derive(serde::Serialize, serde::Deserialize)]"
)]
pub trait SerializeAs<T: ?Sized> {
    /// Serializes `value`.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    fn serialize_as<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error>;

    /// The bytes of a value that is encoded as their number and then themselves.
    fn as_block(value: &T) -> Option<&[u8]> {
        let _ = value;
        None
    }
}

/// How a value of type `T` is taken from serde, on the receiver's side.
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot travel: it is not `Deserialize`",
    label = "cannot be received from another process",
    note = "derive it: #[derive(serde::Serialize, serde::Deserialize)]"
)]
pub trait DeserializeAs<'de, T> {
    /// Deserializes a value.
    ///
    /// # Errors
    ///
    /// Those of the deserializer.
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error>;
}

/// The form of everything that has none of its own: what serde makes of it.
#[derive(Debug)]
pub struct Plain(());

// Without this the compiler looks through the implementation, and says what serde says instead of the text above.
#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> SerializeAs<T> for Plain {
    #[inline]
    fn serialize_as<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }
}

#[diagnostic::do_not_recommend]
impl<'de, T: Deserialize<'de>> DeserializeAs<'de, T> for Plain {
    #[inline]
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

/// The form of bytes: one block instead of one element after the other. The same bytes on the wire.
#[derive(Debug)]
pub struct Block(());

impl<T: AsRef<[u8]> + ?Sized> SerializeAs<T> for Block {
    fn serialize_as<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(value.as_ref())
    }

    fn as_block(value: &T) -> Option<&[u8]> {
        Some(value.as_ref())
    }
}

impl<'de> DeserializeAs<'de, &'de [u8]> for Block {
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<&'de [u8], D::Error> {
        Deserialize::deserialize(deserializer)
    }
}

impl<'de> DeserializeAs<'de, Vec<u8>> for Block {
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(BlockVisitor)
    }
}

impl<'de> DeserializeAs<'de, bytes::Bytes> for Block {
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<bytes::Bytes, D::Error> {
        deserializer.deserialize_byte_buf(BlockVisitor).map(bytes::Bytes::from)
    }
}

struct BlockVisitor;

impl<'de> Visitor<'de> for BlockVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

/// The form of an `Option` whose value has the form `F`.
#[derive(Debug)]
pub struct Maybe<F>(PhantomData<F>);

impl<T, F: SerializeAs<T>> SerializeAs<Option<T>> for Maybe<F> {
    fn serialize_as<S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            None => serializer.serialize_none(),
            Some(value) => serializer.serialize_some(&Formed::<T, F>::new(value)),
        }
    }
}

impl<'de, T, F: DeserializeAs<'de, T>> DeserializeAs<'de, Option<T>> for Maybe<F> {
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        let value = Option::<Unformed<T, F>>::deserialize(deserializer)?;
        Ok(value.map(|value| value.0))
    }
}

/// A borrowed value together with its form.
struct Formed<'a, T: ?Sized, F>(&'a T, PhantomData<F>);

impl<'a, T: ?Sized, F> Formed<'a, T, F> {
    fn new(value: &'a T) -> Self {
        Formed(value, PhantomData)
    }
}

impl<T: ?Sized, F: SerializeAs<T>> Serialize for Formed<'_, T, F> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        F::serialize_as(self.0, serializer)
    }
}

/// An owned value together with its form.
struct Unformed<T, F>(T, PhantomData<F>);

impl<'de, T, F: DeserializeAs<'de, T>> Deserialize<'de> for Unformed<T, F> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        F::deserialize_as(deserializer).map(|value| Unformed(value, PhantomData))
    }
}

#[inline]
pub(crate) fn encode_as<T: ?Sized, F: SerializeAs<T>>(
    codec: CodecId,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    codec.encode(&Formed::<T, F>::new(value), out)
}

#[inline]
pub(crate) fn encode_behind_as<T: ?Sized, F: SerializeAs<T>, const N: usize>(
    codec: CodecId,
    head: [u8; N],
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    codec.encode_behind(head, &Formed::<T, F>::new(value), out)
}

#[inline]
pub(crate) fn decode_as<'de, T, F: DeserializeAs<'de, T>>(
    codec: CodecId,
    input: &mut &'de [u8],
    budget: &mut DecodeBudget,
) -> Result<T, DecodeError> {
    codec.decode::<Unformed<T, F>>(input, budget).map(|value| value.0)
}

/// Never run: says at the user's own type that it can't be sent.
#[doc(hidden)]
pub const fn assert_serialize<F: SerializeAs<T>, T>() {}

/// One argument of a call: a value, usually a reference, and its form.
#[derive(Debug)]
pub struct Arg<T, F = Plain>(T, PhantomData<fn() -> F>);

impl<T, F> Arg<T, F> {
    /// Wraps `value`.
    pub fn new(value: T) -> Arg<T, F> {
        Arg(value, PhantomData)
    }
}

/// The arguments of a call: a tuple of [`Arg`]s.
pub trait Arguments {
    /// Appends them, one after the other, to `out`, but for the bytes of a long block at the end: they need no encoding,
    /// and are returned.
    ///
    /// # Errors
    ///
    /// If one of them cannot be encoded.
    fn encode(&self, codec: CodecId, out: &mut Vec<u8>) -> Result<&[u8], EncodeError>;

    /// What [`encode`](Arguments::encode) returns, once more.
    fn tail(&self) -> &[u8];

    /// How many of the arguments are streams.
    fn streams(&self) -> u8 {
        0
    }

    /// The streams among them, once, in the order of the signature.
    fn take_feeds(&mut self) -> Vec<Feed> {
        Vec::new()
    }
}

/// A shorter block is copied with the rest.
const TAIL_LEN_MIN: usize = 512;

fn long_block<T: ?Sized, F: SerializeAs<T>>(value: &T) -> Option<&[u8]> {
    F::as_block(value).filter(|block| block.len() >= TAIL_LEN_MIN)
}

fn encode_last<'a, T: ?Sized, F: SerializeAs<T>>(
    codec: CodecId,
    value: &'a T,
    out: &mut Vec<u8>,
) -> Result<&'a [u8], EncodeError> {
    match long_block::<T, F>(value) {
        // Both codecs write the length of a sequence as they write a `u64`.
        Some(block) => codec.encode(&(block.len() as u64), out).map(|()| block),
        None => encode_as::<T, F>(codec, value, out).map(|()| &[][..]),
    }
}

impl Arguments for () {
    fn encode(&self, _: CodecId, _: &mut Vec<u8>) -> Result<&[u8], EncodeError> {
        Ok(&[])
    }

    fn tail(&self) -> &[u8] {
        &[]
    }
}

macro_rules! arguments {
    ($($value:ident $form:ident $at:tt,)* => $last:ident $last_form:ident $last_at:tt) => {
        impl<$($value, $form: SerializeAs<$value>,)* $last, $last_form: SerializeAs<$last>> Arguments
            for ($(Arg<$value, $form>,)* Arg<$last, $last_form>,)
        {
            fn encode(&self, codec: CodecId, out: &mut Vec<u8>) -> Result<&[u8], EncodeError> {
                $(encode_as::<$value, $form>(codec, &self.$at.0, out)?;)*
                encode_last::<$last, $last_form>(codec, &self.$last_at.0, out)
            }

            fn tail(&self) -> &[u8] {
                long_block::<$last, $last_form>(&self.$last_at.0).unwrap_or_default()
            }
        }
    };
}

arguments!(=> A FA 0);
arguments!(A FA 0, => B FB 1);
arguments!(A FA 0, B FB 1, => C FC 2);
arguments!(A FA 0, B FB 1, C FC 2, => D FD 3);
arguments!(A FA 0, B FB 1, C FC 2, D FD 3, => E FE 4);
arguments!(A FA 0, B FB 1, C FC 2, D FD 3, E FE 4, => G FG 5);
arguments!(A FA 0, B FB 1, C FC 2, D FD 3, E FE 4, G FG 5, => H FH 6);
arguments!(A FA 0, B FB 1, C FC 2, D FD 3, E FE 4, G FG 5, H FH 6, => I FI 7);
arguments!(A FA 0, B FB 1, C FC 2, D FD 3, E FE 4, G FG 5, H FH 6, I FI 7, => J FJ 8);
arguments!(A FA 0, B FB 1, C FC 2, D FD 3, E FE 4, G FG 5, H FH 6, I FI 7, J FJ 8, => K FK 9);
arguments!(A FA 0, B FB 1, C FC 2, D FD 3, E FE 4, G FG 5, H FH 6, I FI 7, J FJ 8, K FK 9, => L FL 10);
arguments!(A FA 0, B FB 1, C FC 2, D FD 3, E FE 4, G FG 5, H FH 6, I FI 7, J FJ 8, K FK 9, L FL 10, => M FM 11);

/// Which half of a `Result` a payload holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The value.
    Ok,
    /// The method's own error.
    Err,
}

/// What a method returns, as a type for the compiler: [`Value`], [`Fallible`] or [`Oneway`].
pub trait Output {
    /// What the trait's method returns.
    type Returned;
    /// What a call that went well gives the caller.
    type Ok;
    /// The method's own error; [`Infallible`] without one.
    type Err;
    /// Whether the caller waits for the reply.
    const ONEWAY: bool = false;
    /// How many streams the callee sends.
    const STREAMS: u8 = 0;

    /// Appends what the handler returned to `out`, and says which half it was.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded.
    fn encode(codec: CodecId, returned: &Self::Returned, out: &mut Vec<u8>) -> Result<Half, EncodeError>;

    /// Takes a value from a reply.
    ///
    /// # Errors
    ///
    /// If it cannot be decoded.
    fn decode_ok(codec: CodecId, input: &mut &[u8], budget: &mut DecodeBudget) -> Result<Self::Ok, DecodeError>;

    /// Takes the method's own error from a reply.
    ///
    /// # Errors
    ///
    /// If it cannot be decoded.
    fn decode_err(codec: CodecId, input: &mut &[u8], budget: &mut DecodeBudget) -> Result<Self::Err, DecodeError>;

    /// Gives a value that is a stream what it receives.
    fn attach(ok: &mut Self::Ok, receiver: Receiver) {
        let _ = (ok, receiver);
    }
}

/// A method that returns a `T` in the form `F`.
#[derive(Debug)]
pub struct Value<T, F = Plain>(PhantomData<fn() -> (T, F)>);

impl<T, F> Output for Value<T, F>
where
    F: SerializeAs<T> + for<'de> DeserializeAs<'de, T>,
{
    type Returned = T;
    type Ok = T;
    type Err = Infallible;

    fn encode(codec: CodecId, returned: &T, out: &mut Vec<u8>) -> Result<Half, EncodeError> {
        encode_as::<T, F>(codec, returned, out).map(|()| Half::Ok)
    }

    fn decode_ok(codec: CodecId, input: &mut &[u8], budget: &mut DecodeBudget) -> Result<T, DecodeError> {
        decode_as::<T, F>(codec, input, budget)
    }

    fn decode_err(_: CodecId, _: &mut &[u8], _: &mut DecodeBudget) -> Result<Infallible, DecodeError> {
        Err(DecodeError::Malformed)
    }
}

/// A `Result`, whatever alias it hides behind.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is called Result but is no `core::result::Result`",
    note = "a return type whose last segment is `Result` is taken apart into a value and the method's own error"
)]
pub trait ResultLike: sealed::Sealed {
    /// The value.
    type Ok;
    /// The error.
    type Err;

    /// Both halves, borrowed.
    fn halves(&self) -> Result<&Self::Ok, &Self::Err>;
    /// Both halves.
    fn into_halves(self) -> Result<Self::Ok, Self::Err>;
}

impl<T, E> ResultLike for Result<T, E> {
    type Ok = T;
    type Err = E;

    fn halves(&self) -> Result<&T, &E> {
        self.as_ref()
    }

    fn into_halves(self) -> Result<T, E> {
        self
    }
}

mod sealed {
    pub trait Sealed {}
    impl<T, E> Sealed for Result<T, E> {}
}

/// A method that returns a `Result`, whose value has the form `F`.
#[derive(Debug)]
pub struct Fallible<R, F = Plain>(PhantomData<fn() -> (R, F)>);

impl<R, F> Output for Fallible<R, F>
where
    R: ResultLike,
    F: SerializeAs<R::Ok> + for<'de> DeserializeAs<'de, R::Ok>,
    Plain: SerializeAs<R::Err> + for<'de> DeserializeAs<'de, R::Err>,
{
    type Returned = R;
    type Ok = R::Ok;
    type Err = R::Err;

    fn encode(codec: CodecId, returned: &R, out: &mut Vec<u8>) -> Result<Half, EncodeError> {
        match returned.halves() {
            Ok(value) => encode_as::<R::Ok, F>(codec, value, out).map(|()| Half::Ok),
            Err(error) => encode_as::<R::Err, Plain>(codec, error, out).map(|()| Half::Err),
        }
    }

    fn decode_ok(codec: CodecId, input: &mut &[u8], budget: &mut DecodeBudget) -> Result<R::Ok, DecodeError> {
        decode_as::<R::Ok, F>(codec, input, budget)
    }

    fn decode_err(codec: CodecId, input: &mut &[u8], budget: &mut DecodeBudget) -> Result<R::Err, DecodeError> {
        decode_as::<R::Err, Plain>(codec, input, budget)
    }
}

/// A method whose caller waits for no reply.
#[derive(Debug)]
pub struct Oneway(());

impl Output for Oneway {
    type Returned = ();
    type Ok = ();
    type Err = Infallible;
    const ONEWAY: bool = true;

    fn encode(_: CodecId, _: &(), _: &mut Vec<u8>) -> Result<Half, EncodeError> {
        Ok(Half::Ok)
    }

    fn decode_ok(_: CodecId, _: &mut &[u8], _: &mut DecodeBudget) -> Result<(), DecodeError> {
        Ok(())
    }

    fn decode_err(_: CodecId, _: &mut &[u8], _: &mut DecodeBudget) -> Result<Infallible, DecodeError> {
        Err(DecodeError::Malformed)
    }
}
