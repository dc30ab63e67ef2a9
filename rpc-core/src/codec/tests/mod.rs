//! Rows C1 to C9 of the threat table: lengths, elements without a size, amplification, recursion, short and long input,
//! lossy attributes, values with two forms, and drift of the format. (C8, hash flooding, is not the codec's: the maps
//! are the user's.)

mod differential;
mod golden;
mod hostile;
mod lossy;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{CodecId, DecodeBudget, DecodeError, EncodeError};

const MEMORY: usize = 1 << 20;
const DEPTH: u16 = 64;

fn budget() -> DecodeBudget {
    DecodeBudget::new(MEMORY, DEPTH)
}

fn encoded<T: Serialize + ?Sized>(codec: CodecId, value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    codec.encode(value, &mut out).unwrap();
    out
}

fn decoded<'de, T: Deserialize<'de>>(codec: CodecId, mut input: &'de [u8]) -> Result<T, DecodeError> {
    codec.decode(&mut input, &mut budget())
}

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Up to four bytes changed, inserted, removed, or cut off.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len() + 1);
            let byte = [0, 1, 2, 3, 0x7f, 0x80, 0xff, self.next() as u8][self.below(8)];
            match self.below(8) {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => bytes.push(byte),
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tuple(u8, String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(Option<i16>),
    Tuple(u16, char),
    Struct { on: bool, size: f64 },
}

/// Every kind of value but maps and sets, whose order is not the wire's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rich {
    unit: (),
    nothing: Unit,
    on: bool,
    small: (u8, i8, u16, i16),
    large: (u32, i32, u64, i64, u128, i128),
    floats: [f32; 3],
    letter: char,
    name: String,
    maybe: Option<Box<Newtype>>,
    shapes: Vec<Shape>,
    tuple: Tuple,
    nested: Vec<Vec<Option<u8>>>,
}

fn rich() -> Rich {
    Rich {
        unit: (),
        nothing: Unit,
        on: true,
        small: (1, -1, 300, -300),
        large: (1, -1, u64::MAX, i64::MIN, u128::MAX, i128::MIN),
        floats: [0.0, -1.5, f32::MAX],
        letter: 'ß',
        name: "trunk".into(),
        maybe: Some(Box::new(Newtype(9))),
        shapes: vec![
            Shape::Unit,
            Shape::Newtype(Some(-2)),
            Shape::Tuple(7, '𝄞'),
            Shape::Struct { on: false, size: 0.25 },
        ],
        tuple: Tuple(3, String::new()),
        nested: vec![vec![], vec![None, Some(1)], vec![Some(0)]],
    }
}

/// C5: the value comes back, no strict prefix is a value, and what follows it is left.
fn round_trips<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    for &codec in CodecId::SUPPORTED {
        let mut bytes = encoded(codec, value);
        let mut input = &bytes[..];
        assert_eq!(&codec.decode::<T>(&mut input, &mut budget()).unwrap(), value, "{codec}");
        assert!(input.is_empty(), "{codec}: {input:?} is left of {value:?}");

        for end in 0..bytes.len() {
            let mut prefix = &bytes[..end];
            let result = codec.decode::<T>(&mut prefix, &mut budget());
            assert!(result.is_err(), "{codec}: {end} of {} bytes are a value: {result:?}", bytes.len());
            assert_eq!(prefix.len(), end, "{codec}: a failed decoding moved on");
        }

        bytes.push(0xa5);
        let mut input = &bytes[..];
        codec.decode::<T>(&mut input, &mut budget()).unwrap();
        assert_eq!(input, [0xa5], "{codec}");
    }
}

#[test]
fn every_kind_of_value_comes_back_and_no_prefix_does() {
    round_trips(&rich());
    round_trips(&vec![rich(), rich()]);
    round_trips(&());
    round_trips(&Unit);
    round_trips(&[0u8; 24]);
    round_trips(&Some(Some(None::<u8>)));
    round_trips(&BTreeMap::from([("a".to_owned(), vec![1u8]), ("b".to_owned(), vec![])]));
    round_trips(&BTreeSet::from([1u16, 500]));
    round_trips(&(u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX));
    round_trips(&(i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN));
    round_trips(&(i8::MAX, i16::MAX, i32::MAX, i64::MAX, i128::MAX, isize::MAX));
    round_trips(&vec!['\0', 'a', 'ß', '€', '𝄞', char::MAX]);
    round_trips(&(f32::MIN_POSITIVE, f64::NEG_INFINITY));
    round_trips(&std::time::Duration::new(5, 6));
    round_trips(&std::net::IpAddr::from([127, 0, 0, 1]));
    round_trips(&Ok::<u8, String>(1));
    round_trips(&Err::<u8, String>("no".into()));
}

/// One byte in memory, four or one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Small {
    One,
    Two,
}

/// As large as it has fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bytewise {
    first: u8,
    second: Small,
    third: bool,
    fourth: i8,
    fifth: u8,
}

#[test]
fn tuples_as_large_as_they_have_elements_come_back() {
    round_trips(&[7u8; 1]);
    round_trips(&[[1u8, 2, 3], [4, 5, 6]]);
    round_trips(&vec![[0x80u8, 0xff, 1]; 9]);
    round_trips(&[Small::One, Small::Two, Small::Two]);
    round_trips(&[true, false, true, true]);
    round_trips(&((), 0x1234u16));
    round_trips(&(Some(()), None::<()>, 5u8));
    round_trips(&(1u8, Small::Two, 2u8, Small::One, 3u8, 4u8));
    let bytewise = Bytewise { first: 1, second: Small::Two, third: true, fourth: -1, fifth: 0xff };
    round_trips(&bytewise);
    round_trips(&(vec![bytewise.clone(), bytewise], [9u8; 5], "behind".to_owned()));
}

#[test]
fn several_values_share_an_input_and_a_budget() {
    for &codec in CodecId::SUPPORTED {
        let mut bytes = encoded(codec, "one");
        codec.encode(&2u64, &mut bytes).unwrap();
        codec.encode("three", &mut bytes).unwrap();
        let (mut input, mut budget) = (&bytes[..], DecodeBudget::new(100, 4));
        assert_eq!(codec.decode::<&str>(&mut input, &mut budget), Ok("one"));
        assert_eq!(codec.decode::<u64>(&mut input, &mut budget), Ok(2));
        assert_eq!(codec.decode::<String>(&mut input, &mut budget).as_deref(), Ok("three"));
        assert!(input.is_empty());
        // What is borrowed takes none.
        assert_eq!(budget.memory_used(), 5);
    }
}

#[test]
fn bytes_are_the_same_as_a_block_and_one_by_one() {
    use crate::wire::{Block, Plain, decode_as, encode_as};

    let bytes: Vec<u8> = (0..64 << 10).map(|n| n as u8).collect();
    for &codec in CodecId::SUPPORTED {
        let (mut plain, mut block) = (Vec::new(), Vec::new());
        encode_as::<Vec<u8>, Plain>(codec, &bytes, &mut plain).unwrap();
        encode_as::<Vec<u8>, Block>(codec, &bytes, &mut block).unwrap();
        assert!(plain == block);

        let borrowed: &[u8] = decode_as::<&[u8], Block>(codec, &mut &block[..], &mut budget()).unwrap();
        assert!(borrowed == bytes);
        assert!(block.as_ptr_range().contains(&borrowed.as_ptr()), "it was copied");
        assert!(decode_as::<Vec<u8>, Block>(codec, &mut &block[..], &mut budget()).unwrap() == bytes);
        assert!(decode_as::<bytes::Bytes, Block>(codec, &mut &block[..], &mut budget()).unwrap() == bytes);
        assert!(decode_as::<Vec<u8>, Plain>(codec, &mut &block[..], &mut budget()).unwrap() == bytes);
    }
}

#[test]
fn a_failed_encoding_leaves_nothing_behind() {
    struct Fails;
    impl Serialize for Fails {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    for &codec in CodecId::SUPPORTED {
        let mut out = vec![1, 2, 3];
        assert_eq!(codec.encode(&("text", Fails), &mut out), Err(EncodeError::Message("not today".into())));
        assert_eq!(out, [1, 2, 3]);
    }
}

/// A flag, or else why there is none.
#[derive(Debug, PartialEq)]
struct Flag(Result<bool, String>);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Flag, D::Error> {
        Ok(Flag(bool::deserialize(deserializer).map_err(|error| error.to_string())))
    }
}

/// A flag, or an error that says more than there was no flag.
#[derive(Debug, PartialEq)]
struct Needed(bool);

impl<'de> Deserialize<'de> for Needed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Needed, D::Error> {
        bool::deserialize(deserializer).map(Needed).map_err(|error| {
            assert_eq!(format!("{error:?}"), error.to_string());
            serde::de::Error::custom(format_args!("no flag: {error}"))
        })
    }
}

#[test]
fn types_see_why_what_is_in_them_has_failed() {
    for &codec in CodecId::SUPPORTED {
        for (bytes, why) in [(&[][..], DecodeError::UnexpectedEnd), (&[2][..], DecodeError::Malformed)] {
            assert_eq!(decoded::<Flag>(codec, bytes), Ok(Flag(Err(why.to_string()))));
            // What a type went on after does not count for the next.
            assert_eq!(decoded::<u64>(codec, &[]), Err(DecodeError::UnexpectedEnd));
            assert_eq!(decoded::<Needed>(codec, bytes), Err(DecodeError::Rejected(format!("no flag: {why}"))));
            assert_eq!(decoded::<u64>(codec, &[]), Err(DecodeError::UnexpectedEnd));
        }
        assert_eq!(decoded::<Needed>(codec, &[1]), Ok(Needed(true)));
    }
}

#[test]
fn errors_of_one_thread_are_not_those_of_another() {
    let refused = |byte: u8, why: DecodeError| {
        move || {
            (0..10_000)
                .for_each(|_| assert_eq!(decoded::<bool>(CodecId::SUPPORTED[0], &[byte][..]).err(), Some(why.clone())))
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(refused(2, DecodeError::Malformed));
        (0..10_000).for_each(|_| {
            assert_eq!(decoded::<u64>(CodecId::SUPPORTED[0], &[1]), Err(DecodeError::UnexpectedEnd));
        });
    });
}

#[test]
fn codecs_have_their_numbers_and_names() {
    for &codec in CodecId::SUPPORTED {
        assert_eq!(CodecId::from_wire(codec.to_wire()), Some(codec));
        assert_eq!(codec.to_string(), codec.name());
    }
    assert_eq!(CodecId::from_wire(0), None);
    assert_eq!(CodecId::from_wire(3), None);
    #[cfg(feature = "bincode")]
    assert_eq!((CodecId::SUPPORTED[0].to_wire(), CodecId::SUPPORTED[0].name()), (1, "bincode"));
    #[cfg(feature = "postcard")]
    assert_eq!((CodecId::Postcard.to_wire(), CodecId::Postcard.name()), (2, "postcard"));
}

#[test]
fn the_kind_of_an_error_crosses_the_wire() {
    for code in 0..=6 {
        assert_eq!(DecodeError::from_wire(code).to_wire(), code);
    }
    assert_eq!(DecodeError::from_wire(200), DecodeError::Malformed);
    let here = DecodeError::MemoryExceeded { max: 64 };
    assert_eq!(
        here.to_string(),
        "decoding takes more memory than the receiver grants (64): raise `decode_memory`, or send less"
    );
    let there = DecodeError::from_wire(here.to_wire());
    assert_eq!(
        there.to_string(),
        "decoding takes more memory than the receiver grants: raise `decode_memory`, or send less"
    );
}
