//! How values become bytes and bytes become values. The only module that knows which crate does it.
//!
//! Two codecs, and a value is the same serde type to both:
//!
//! | codec | bytes | for |
//! |---|---|---|
//! | `bincode` | little-endian, fixed width: integers and floats as they are, lengths `u64`, variants `u32`, the tag of an option 1 byte, `char` as UTF-8 | speed |
//! | `postcard` | the same shapes with lengths, variants and integers of more than 8 bits as varints, signed ones zigzag; `char` as a string | small messages |
//!
//! The bytes are those of the crates of these names, and stay so: golden vectors fix them, and the tests compare with
//! the crates. What encodes and decodes is our own, for the reasons at the top of `encode.rs` and `decode.rs`. Every
//! value has one form: whatever decodes, encodes to the same bytes again, but for maps and sets, whose order is theirs.
//!
//! # Invariants
//!
//! - A decoder allocates nothing that is not backed by bytes that are there or charged to the [`DecodeBudget`], but for
//!   the slack of containers (a table's free slots, a B-tree's node of eleven), whose size serde does not show.
//! - A decoder recurses at most as deep as the budget says, whatever the type.
//! - Zero-sized elements end too: they are charged for the time they take.
//! - A failed encoding leaves nothing behind; a failed decoding moves nothing forward.
//!
//! # What these codecs cannot carry
//!
//! Neither codec writes names, so a receiver knows from its types alone what comes next. Some of serde's attributes
//! break that. Refused, on one side or the other:
//!
//! - `skip_serializing_if` on a named field: refused by the sender as soon as it skips ([`EncodeError::SkippedField`]);
//! - `flatten`: refused by the sender ([`EncodeError::UnknownLength`]);
//! - `tag` (with `content` or without), `untagged`, and types such as `serde_json::Value`: refused by the receiver
//!   ([`DecodeError::NotSelfDescribing`]).
//!
//! What nobody can see from here, and what therefore needs a test of the type itself:
//!
//! - `skip_serializing` or `skip_deserializing` without its counterpart (`skip` is both and safe, the field is lost);
//! - `skip_serializing_if` on a field without a name;
//! - `serialize_with` and `deserialize_with`, or a `Serialize` and a `Deserialize`, that do not mirror each other;
//! - `default` and `alias`, which do nothing here: a field cannot be missing and has no name.
//!
//! And a type whose `Deserialize` tries one form after another (`DefaultOnError` in serde_with) cannot work: the bytes of
//! the first attempt are gone.

mod budget;
mod decode;
mod encode;
mod error;
mod failed;
mod layout;
mod staging;

#[cfg(feature = "bincode")]
mod bincode;
#[cfg(feature = "postcard")]
mod postcard;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::Deserialize;
use serde::ser::Serialize;

use self::decode::{Decoder, Source};
use self::encode::Encoder;
use self::failed::Failed;
use self::staging::Staging;

pub use self::budget::DecodeBudget;
pub use self::error::{DecodeError, EncodeError};

#[cfg(not(any(feature = "bincode", feature = "postcard")))]
compile_error!("trunkline-core needs a codec: enable the feature `bincode` or `postcard`");

/// A codec that is compiled in: its features decide which there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CodecId {
    /// Fixed-width little-endian, the format of bincode 1 and of bincode 2's `legacy` configuration.
    #[cfg(feature = "bincode")]
    Bincode,
    /// Varints, the format of postcard 1.
    #[cfg(feature = "postcard")]
    Postcard,
}

impl CodecId {
    /// Every codec there is, the preferred one first.
    pub const SUPPORTED: &'static [CodecId] = &[
        #[cfg(feature = "bincode")]
        CodecId::Bincode,
        #[cfg(feature = "postcard")]
        CodecId::Postcard,
    ];

    /// Its number on the wire.
    pub fn to_wire(self) -> u8 {
        match self {
            #[cfg(feature = "bincode")]
            CodecId::Bincode => 1,
            #[cfg(feature = "postcard")]
            CodecId::Postcard => 2,
        }
    }

    /// The codec with this number; `None` if it is unknown or not compiled in.
    pub fn from_wire(code: u8) -> Option<CodecId> {
        CodecId::SUPPORTED.iter().copied().find(|codec| codec.to_wire() == code)
    }

    /// Its name, as people write it.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "bincode")]
            CodecId::Bincode => "bincode",
            #[cfg(feature = "postcard")]
            CodecId::Postcard => "postcard",
        }
    }

    /// Appends `value` to `out`; after an error `out` is as it was.
    #[inline]
    pub(crate) fn encode<T: Serialize + ?Sized>(self, value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encode_behind([], value, out)
    }

    /// The same behind a head.
    #[inline]
    pub(crate) fn encode_behind<T: Serialize + ?Sized, const N: usize>(
        self,
        head: [u8; N],
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let before = out.len();
        let mut bytes = [0; staging::LEN];
        let mut staging = Staging::new(&mut bytes, out);
        staging.put_array(head);
        let result = match self {
            #[cfg(feature = "bincode")]
            CodecId::Bincode => value.serialize(Encoder::<bincode::FixedWidth>::new(&mut staging)),
            #[cfg(feature = "postcard")]
            CodecId::Postcard => value.serialize(Encoder::<postcard::Varint>::new(&mut staging)),
        };
        match result {
            Ok(()) => staging.finish(),
            Err(_) => out.truncate(before),
        }
        result
    }

    /// Takes one value from the front of `input`, which moves past it; after an error it is where it was.
    ///
    /// The caller checks that nothing is left when nothing should be ([`DecodeError::TrailingBytes`]).
    // By itself all of a value's own code finds room in it, which is worth more than the call.
    #[inline(never)]
    pub(crate) fn decode<'de, T: Deserialize<'de>>(
        self,
        input: &mut &'de [u8],
        budget: &mut DecodeBudget,
    ) -> Result<T, DecodeError> {
        Failed::begin();
        let mut source = Source { input, budget };
        let result = match self {
            #[cfg(feature = "bincode")]
            CodecId::Bincode => T::deserialize(Decoder::<bincode::FixedWidth>::root(&mut source, size_of::<T>())),
            #[cfg(feature = "postcard")]
            CodecId::Postcard => T::deserialize(Decoder::<postcard::Varint>::root(&mut source, size_of::<T>())),
        };
        match result {
            Ok(value) => {
                *input = source.input;
                Ok(value)
            }
            Err(failed) => failed.into_result(),
        }
    }
}

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
