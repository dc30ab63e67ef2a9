//! What a method that returns a stream returns, as a type for the compiler.

use std::convert::Infallible;
use std::marker::PhantomData;

use super::{Receiver, Streaming};
use crate::codec::{CodecId, DecodeBudget, DecodeError, EncodeError};
use crate::wire::{DeserializeAs, Half, Output, Plain, ResultLike, SerializeAs, decode_as, encode_as};

/// What a method returns that returns a stream: [`Streamed`] or [`FallibleStreamed`].
pub trait StreamOutput: Output {
    /// An item.
    type Item;
    /// Its form.
    type Form: SerializeAs<Self::Item>;

    /// Appends the method's own error to `out`.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded.
    fn encode_err(codec: CodecId, error: &Self::Err, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// A method that returns a stream of `T`s in the form `F`.
#[derive(Debug)]
pub struct Streamed<T, F = Plain>(PhantomData<fn() -> (T, F)>);

impl<T, F> Output for Streamed<T, F>
where
    F: SerializeAs<T> + for<'de> DeserializeAs<'de, T>,
{
    type Returned = ();
    type Ok = Streaming<T>;
    type Err = Infallible;
    const STREAMS: u8 = 1;

    fn encode(_: CodecId, _: &(), _: &mut Vec<u8>) -> Result<Half, EncodeError> {
        Ok(Half::Ok)
    }

    fn decode_ok(_: CodecId, _: &mut &[u8], _: &mut DecodeBudget) -> Result<Streaming<T>, DecodeError> {
        Ok(Streaming::unattached())
    }

    fn decode_err(_: CodecId, _: &mut &[u8], _: &mut DecodeBudget) -> Result<Infallible, DecodeError> {
        Err(DecodeError::Malformed)
    }

    fn attach(ok: &mut Streaming<T>, receiver: Receiver) {
        *ok = Streaming::receive::<F>(receiver);
    }
}

impl<T, F> StreamOutput for Streamed<T, F>
where
    F: SerializeAs<T> + for<'de> DeserializeAs<'de, T>,
{
    type Item = T;
    type Form = F;

    fn encode_err(_: CodecId, error: &Infallible, _: &mut Vec<u8>) -> Result<(), EncodeError> {
        match *error {}
    }
}

/// A method that returns a `Result` whose value is a stream of `T`s in the form `F`. `R` is that `Result` as its caller sees
/// it.
#[derive(Debug)]
pub struct FallibleStreamed<R, T, F = Plain>(PhantomData<fn() -> R>, Streamed<T, F>);

impl<R, T, F> Output for FallibleStreamed<R, T, F>
where
    R: ResultLike<Ok = Streaming<T>>,
    F: SerializeAs<T> + for<'de> DeserializeAs<'de, T>,
    Plain: SerializeAs<R::Err> + for<'de> DeserializeAs<'de, R::Err>,
{
    type Returned = ();
    type Ok = Streaming<T>;
    type Err = R::Err;
    const STREAMS: u8 = 1;

    fn encode(_: CodecId, _: &(), _: &mut Vec<u8>) -> Result<Half, EncodeError> {
        Ok(Half::Ok)
    }

    fn decode_ok(_: CodecId, _: &mut &[u8], _: &mut DecodeBudget) -> Result<Streaming<T>, DecodeError> {
        Ok(Streaming::unattached())
    }

    fn decode_err(codec: CodecId, input: &mut &[u8], budget: &mut DecodeBudget) -> Result<R::Err, DecodeError> {
        decode_as::<R::Err, Plain>(codec, input, budget)
    }

    fn attach(ok: &mut Streaming<T>, receiver: Receiver) {
        *ok = Streaming::receive::<F>(receiver);
    }
}

impl<R, T, F> StreamOutput for FallibleStreamed<R, T, F>
where
    R: ResultLike<Ok = Streaming<T>>,
    F: SerializeAs<T> + for<'de> DeserializeAs<'de, T>,
    Plain: SerializeAs<R::Err> + for<'de> DeserializeAs<'de, R::Err>,
{
    type Item = T;
    type Form = F;

    fn encode_err(codec: CodecId, error: &R::Err, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        encode_as::<R::Err, Plain>(codec, error, out)
    }
}
