//! What a peer may send: C1 to C4 and C7.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::thread;

use serde::de::{SeqAccess, Visitor};

use super::*;

/// Lengths that nothing follows, and a byte that does.
fn bombs(codec: CodecId) -> impl Iterator<Item = Vec<u8>> {
    [1 << 32, 1 << 36, 1 << 63, u64::MAX].into_iter().flat_map(move |len: u64| {
        let bytes = encoded(codec, &len);
        let longer = [&bytes[..], &[1]].concat();
        [bytes, longer]
    })
}

fn survives<T: DeserializeOwned>() {
    for &codec in CodecId::SUPPORTED {
        for bytes in bombs(codec) {
            let mut budget = DecodeBudget::new(64 << 20, DEPTH);
            assert!(codec.decode::<T>(&mut &bytes[..], &mut budget).is_err());
            assert!(budget.memory_used() <= 64, "{} bytes for {}", budget.memory_used(), bytes.len());
        }
    }
}

/// C1 and C2.
#[test]
fn a_length_without_its_bytes_costs_nothing() {
    survives::<Vec<u64>>();
    survives::<Vec<u8>>();
    survives::<String>();
    survives::<Box<str>>();
    survives::<VecDeque<String>>();
    survives::<HashMap<u64, u64>>();
    survives::<BTreeMap<String, u8>>();
    survives::<HashSet<u8>>();
    survives::<BTreeSet<u8>>();
    survives::<std::ffi::CString>();
    survives::<Vec<()>>();
    survives::<Vec<[u64; 0]>>();
    survives::<HashMap<(), ()>>();
    survives::<Vec<Vec<()>>>();
}

/// C2: what is within the budget at first sight ends at it.
#[test]
fn elements_without_a_size_end() {
    for &codec in CodecId::SUPPORTED {
        let bytes = encoded(codec, &(MEMORY as u64 - 1));
        assert_eq!(decoded::<Vec<()>>(codec, &bytes), Err(DecodeError::MemoryExceeded { max: MEMORY }));
        assert_eq!(decoded::<HashMap<(), ()>>(codec, &bytes), Err(DecodeError::MemoryExceeded { max: MEMORY }));
        assert_eq!(decoded::<Vec<()>>(codec, &encoded(codec, &100u64)).map(|units| units.len()), Ok(100));
    }
}

/// C1: containers that reserve what they are told are told no lie.
#[test]
fn hints_are_bounded_by_the_bytes_that_are_there() {
    #[derive(Debug)]
    struct Hint(Option<usize>);
    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Hint, D::Error> {
            struct Asks;
            impl<'de> Visitor<'de> for Asks {
                type Value = Hint;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Hint, A::Error> {
                    Ok(Hint(seq.size_hint()))
                }
            }
            deserializer.deserialize_seq(Asks)
        }
    }
    for &codec in CodecId::SUPPORTED {
        let mut bytes = encoded(codec, &500_000u64);
        bytes.extend_from_slice(&[0; 10]);
        assert_eq!(decoded::<Hint>(codec, &bytes).unwrap().0, Some(10));
        bytes.resize(1 << 20, 0);
        assert_eq!(decoded::<Hint>(codec, &bytes).unwrap().0, Some(4096));
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "it is what is tested")]
enum Large {
    Small,
    Array([[u64; 16]; 8]),
}

#[derive(Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "it is what is tested")]
enum Chain {
    End,
    Next(Box<Chain>),
    Array([[u64; 16]; 8]),
}

fn exceeds<T: DeserializeOwned>(codec: CodecId, bytes: &[u8]) {
    let mut budget = budget();
    let error = codec.decode::<T>(&mut &bytes[..], &mut budget).err();
    assert_eq!(error, Some(DecodeError::MemoryExceeded { max: MEMORY }), "{codec}");
    assert!(budget.memory_used() <= MEMORY);
    assert!(budget.memory_used() > MEMORY / 2, "it ended early: {}", budget.memory_used());
}

/// C3, also where the memory stands behind a box, of which serde shows nothing.
#[test]
fn small_bytes_that_become_large_values_end_at_the_budget() {
    for &codec in CodecId::SUPPORTED {
        let count = 100_000u64;
        let mut bytes = encoded(codec, &count);
        bytes.resize(bytes.len() + 4 * count as usize, 0);
        exceeds::<Vec<Large>>(codec, &bytes);
        exceeds::<Vec<Box<Large>>>(codec, &bytes);
        exceeds::<VecDeque<(Box<Large>,)>>(codec, &bytes);
        exceeds::<BTreeMap<[u8; 4], Large>>(codec, &bytes);

        let chain = || (0..30).fold(Chain::End, |chain, _| Chain::Next(Box::new(chain)));
        let chains: Vec<Chain> = (0..200).map(|_| chain()).collect();
        exceeds::<Vec<Chain>>(codec, &encoded(codec, &chains));
    }
}

#[test]
fn plain_nested_values_are_charged_once() {
    for &codec in CodecId::SUPPORTED {
        let mut charged = budget();
        codec
            .decode::<Rich>(&mut &encoded(codec, &Rich { shapes: vec![], nested: vec![], ..rich() })[..], &mut charged)
            .unwrap();
        assert_eq!(charged.memory_used(), "trunk".len(), "{codec}");

        let values = vec![(Newtype(1), [[1u64; 3]; 3], Some(Tuple(1, "four".into()))); 10];
        let mut charged = budget();
        codec
            .decode::<Vec<(Newtype, [[u64; 3]; 3], Option<Tuple>)>>(&mut &encoded(codec, &values)[..], &mut charged)
            .unwrap();
        assert_eq!(charged.memory_used(), size_of_val(&values[..]) + 10 * 4, "{codec}");
    }
}

#[derive(Serialize, Deserialize)]
struct InOption(Option<Box<InOption>>);

#[derive(Serialize, Deserialize)]
struct InField {
    next: Option<Box<InField>>,
}

#[derive(Deserialize)]
struct InNewtype(#[allow(dead_code, reason = "nobody looks")] Box<InNewtype>);

#[derive(Deserialize)]
#[allow(dead_code, reason = "nobody looks")]
struct InTupleStruct(Vec<InTupleStruct>, u8);

#[derive(Deserialize)]
#[allow(dead_code, reason = "nobody looks")]
struct InTuple(Box<(InTuple, InTuple)>);

#[derive(Deserialize)]
#[allow(dead_code, reason = "nobody looks")]
struct InSeq(Vec<InSeq>);

#[derive(Deserialize)]
#[allow(dead_code, reason = "nobody looks")]
struct InMapValue(BTreeMap<u8, InMapValue>);

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[allow(dead_code, reason = "nobody looks")]
struct InMapKey(BTreeMap<InMapKey, u8>);

#[derive(Deserialize)]
#[allow(dead_code, reason = "nobody looks")]
enum InNewtypeVariant {
    A(Box<InNewtypeVariant>),
    B(Box<InNewtypeVariant>),
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "nobody looks")]
enum InTupleVariant {
    A(u8),
    B(Box<InTupleVariant>, u8),
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "nobody looks")]
enum InStructVariant {
    A { byte: u8 },
    B { next: Box<InStructVariant> },
}

fn too_deep<T: DeserializeOwned>() {
    let ones = |width: usize| {
        let mut bytes = vec![0; width];
        bytes[0] = 1;
        bytes.repeat(1_000_000 / width)
    };
    for &codec in CodecId::SUPPORTED {
        for depth in [DEPTH, 128] {
            let mut errors = Vec::new();
            for bytes in [vec![0; 1_000_000], ones(1), ones(4), ones(8), ones(9), vec![1; 50_000], vec![0xff; 50_000]] {
                errors.extend(codec.decode::<T>(&mut &bytes[..], &mut DecodeBudget::new(MEMORY, depth)).err());
            }
            let expected = DecodeError::TooDeep { max: usize::from(depth) };
            assert!(errors.contains(&expected), "{codec}, {}: {errors:?}", std::any::type_name::<T>());
        }
    }
}

/// C4: an error, where without a count the stack would end, and the process with it.
#[test]
fn every_shape_that_can_nest_is_refused_when_it_is_too_deep() {
    let shapes = || {
        too_deep::<InOption>();
        too_deep::<InField>();
        too_deep::<InNewtype>();
        too_deep::<InTupleStruct>();
        too_deep::<InTuple>();
        too_deep::<InSeq>();
        too_deep::<InMapValue>();
        too_deep::<InMapKey>();
        too_deep::<InNewtypeVariant>();
        too_deep::<InTupleVariant>();
        too_deep::<InStructVariant>();
    };
    thread::Builder::new().stack_size(256 << 10).spawn(shapes).unwrap().join().unwrap();
}

#[test]
fn depth_is_counted_exactly() {
    for &codec in CodecId::SUPPORTED {
        // A newtype and an option a level, and the newtype of the last.
        let nested = |levels: usize| (0..levels).fold(InOption(None), |inner, _| InOption(Some(Box::new(inner))));
        let decode = |levels: usize, depth: u16| {
            let bytes = encoded(codec, &nested(levels));
            codec.decode::<InOption>(&mut &bytes[..], &mut DecodeBudget::new(MEMORY, depth)).map(drop)
        };
        assert_eq!(decode(4, 9), Ok(()));
        assert_eq!(decode(4, 8), Err(DecodeError::TooDeep { max: 8 }));
        assert_eq!(codec.decode::<u8>(&mut &[1][..], &mut DecodeBudget::new(0, 0)), Ok(1));

        let list = InField { next: Some(Box::new(InField { next: None })) };
        assert!(decoded::<InField>(codec, &encoded(codec, &list)).is_ok());
    }
}

fn malformed<T: DeserializeOwned + Debug>(codec: CodecId, bytes: &[u8]) {
    let error = decoded::<T>(codec, bytes).err();
    assert_eq!(error, Some(DecodeError::Malformed), "{codec}: {bytes:x?} as {}", std::any::type_name::<T>());
}

/// C7.
#[test]
fn what_is_no_value_is_refused() {
    for &codec in CodecId::SUPPORTED {
        for byte in [2, 0x80, 0xff] {
            malformed::<bool>(codec, &[byte]);
            malformed::<Option<()>>(codec, &[byte]);
        }
        let mut text = encoded(codec, "abc");
        *text.last_mut().unwrap() = 0xc3;
        malformed::<String>(codec, &text);
        for variant in [4u32, u32::MAX] {
            let error = decoded::<Shape>(codec, &encoded(codec, &variant)).unwrap_err();
            assert!(matches!(&error, DecodeError::Rejected(why) if why.contains("variant index")), "{error}");
        }
        let zero = encoded(codec, &0u32);
        assert!(matches!(decoded::<std::num::NonZeroU32>(codec, &zero), Err(DecodeError::Rejected(_))));
    }
    #[cfg(feature = "bincode")]
    for bytes in [&[0x80][..], &[0xc1, 0x81], &[0xc3, 0x28], &[0xed, 0xa0, 0x80], &[0xf5, 0x80, 0x80, 0x80]] {
        malformed::<char>(CodecId::Bincode, bytes);
    }
    #[cfg(feature = "postcard")]
    {
        malformed::<char>(CodecId::Postcard, &[0]);
        malformed::<char>(CodecId::Postcard, &[2, b'a', b'b']);
        malformed::<char>(CodecId::Postcard, &[5, 0, 0, 0, 0, 0]);
        // Longer than it need be, and too large.
        malformed::<u16>(CodecId::Postcard, &[0x80, 0]);
        malformed::<u64>(CodecId::Postcard, &[0xff, 0x80, 0]);
        malformed::<u16>(CodecId::Postcard, &[0xff, 0xff, 0x04]);
        malformed::<u32>(CodecId::Postcard, &[0xff, 0xff, 0xff, 0xff, 0x10]);
        malformed::<u64>(CodecId::Postcard, &[0xff; 10]);
        malformed::<u64>(CodecId::Postcard, &[0x80; 20]);
        malformed::<u128>(CodecId::Postcard, &[0xff; 19]);
    }
}
