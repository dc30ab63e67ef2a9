//! An answer, in the types of the method.

use crate::client::Client;
use crate::codec::{DecodeBudget, DecodeError};
use crate::error::{CallError, Reason};
use crate::method::MethodDescriptor;
use crate::object::Received;
use crate::protocol::{Answer, Class, Failure};
use crate::streaming::Receiver;
use crate::wire::{Half, Output};

/// The outcome of an answer to call `id`, of which `given` arguments are streams.
#[inline]
pub(super) fn outcome<R: Output>(
    client: &Client,
    method: &'static MethodDescriptor,
    answer: &mut Answer,
    id: u64,
    given: u8,
) -> Result<R::Ok, CallError<R::Err>> {
    if R::STREAMS == 0 {
        return decode::<R>(client, method, answer);
    }
    // Before it is decoded: a reply that cannot be is the end of its stream.
    let id = id + 2 * (u64::from(given) + 1);
    let receiver = Receiver::new(client.connection().clone(), id, client.codec, client.decode);
    let mut ok = decode::<R>(client, method, answer)?;
    R::attach(&mut ok, receiver);
    Ok(ok)
}

/// The same without its streams, in the types of the method.
#[inline]
pub(super) fn decode<R: Output>(
    client: &Client,
    method: &'static MethodDescriptor,
    answer: &mut Answer,
) -> Result<R::Ok, CallError<R::Err>> {
    // What came along, for as long as it is decoded.
    let mut _received = None;
    let (half, bytes) = match answer {
        Answer::Small { half, bytes, len } => (*half, &bytes[..usize::from(*len)]),
        Answer::Large { half, bytes } => (*half, &**bytes),
        Answer::Failed(failure) => return Err(failed(failure.clone(), method)),
        Answer::Extended(extended) => {
            let Some(extended) = extended.as_mut() else {
                return Err(CallError::MaybeExecuted(Reason::InvalidReply(DecodeError::Malformed)));
            };
            _received = extended.claim.take().map(|claim| Received::new(claim, client.connection()).entered());
            match &extended.answer {
                Ok((half, bytes)) => (*half, &**bytes),
                Err(failure) => return Err(failed(failure.clone(), method)),
            }
        }
    };
    let mut input = bytes;
    let mut budget = DecodeBudget::new(client.decode.0, client.decode.1);
    // The handler did run; where what it said cannot be read, that is lost.
    let lost = |error| CallError::MaybeExecuted(Reason::InvalidReply(error));
    match half {
        Half::Ok => {
            let ok = R::decode_ok(client.codec, &mut input, &mut budget).map_err(lost)?;
            all_of(input).map_err(lost)?;
            Ok(ok)
        }
        Half::Err => {
            let error = R::decode_err(client.codec, &mut input, &mut budget).map_err(lost)?;
            all_of(input).map_err(lost)?;
            Err(CallError::App(error))
        }
    }
}

/// That nothing is left behind a reply.
fn all_of(rest: &[u8]) -> Result<(), DecodeError> {
    if rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes { left: rest.len() }) }
}

pub(super) fn failed<E>(failure: Failure, method: &'static MethodDescriptor) -> CallError<E> {
    let reason = match failure.reason {
        // The peer says only that it does not know the method; this side knows which it was.
        Reason::UnknownMethod { .. } => {
            Reason::UnknownMethod { service: method.service.to_owned(), method: method.name.to_owned() }
        }
        reason => reason,
    };
    match failure.class {
        Class::NotExecuted => CallError::NotExecuted(reason),
        Class::MaybeExecuted | Class::App => CallError::MaybeExecuted(reason),
    }
}
