//! C9, and the promise of never panicking: random input, and the crates whose formats these are.

use super::*;

const INPUTS: usize = 100_000;

/// Mutations of real values, and what the real decoder says to them.
fn mutations<T: Serialize>(codec: CodecId, value: &T, mut check: impl FnMut(&[u8])) {
    let original = encoded(codec, value);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::new();
    for _ in 0..INPUTS {
        // Some mutate further, as one change seldom reaches what stands behind it.
        if bytes.is_empty() || random.below(3) > 0 {
            bytes.clone_from(&original);
        }
        random.mutate(&mut bytes);
        check(&bytes);
    }
}

/// A value that begins with `lead` bytes, so that everything in it stands wherever the encoder's own bytes may end.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Placed {
    lead: Vec<u8>,
    number: u32,
    array: [u8; 24],
    wide: u128,
    char: char,
    text: String,
    float: f64,
    tuple: (u8, i64, bool, [u8; 3]),
    tail: Vec<u16>,
}

fn placed(lead: usize) -> Placed {
    let mut random = Random(lead as u64 + 1);
    Placed {
        lead: vec![7; lead],
        number: random.next() as u32,
        array: std::array::from_fn(|_| random.next() as u8),
        wide: u128::from(random.next()) << 64 | u128::from(random.next()),
        char: ['x', 'ß', '\u{20ac}', '\u{1f600}'][lead % 4],
        text: "text".repeat(random.below(40)),
        float: random.next() as f64,
        tuple: (random.next() as u8, random.next() as i64, lead % 2 == 0, [1, 2, 3]),
        tail: (0..random.below(100)).map(|_| random.next() as u16).collect(),
    }
}

/// Every place is that of every part once.
const PLACES: std::ops::Range<usize> = 0..200;

/// C7: whatever decodes, encodes to the same bytes, so that no value has two forms.
#[test]
fn mutated_input_never_panics_and_never_has_two_forms() {
    for &codec in CodecId::SUPPORTED {
        let mut values = 0;
        mutations(codec, &rich(), |bytes| {
            let mut budget = DecodeBudget::new(4096, 16);
            let mut input = bytes;
            if let Ok(value) = codec.decode::<Rich>(&mut input, &mut budget) {
                values += 1;
                assert!(encoded(codec, &value) == bytes[..bytes.len() - input.len()], "{codec}: {bytes:x?}");
            }
            assert!(budget.memory_used() <= 4096);
        });
        assert!(values > INPUTS / 100, "{codec}: only {values} were values");
    }
}

#[test]
fn mutated_maps_never_panic() {
    type Maps = (BTreeMap<String, Vec<Shape>>, std::collections::HashMap<u16, Option<Box<Shape>>>, BTreeSet<char>);
    let maps: Maps = (
        BTreeMap::from([("a".into(), vec![Shape::Unit, Shape::Newtype(None)]), (String::new(), vec![])]),
        std::collections::HashMap::from([(1, None), (2, Some(Box::new(Shape::Tuple(1, 'x'))))]),
        BTreeSet::from(['a', 'ß']),
    );
    for &codec in CodecId::SUPPORTED {
        mutations(codec, &maps, |bytes| {
            let mut budget = DecodeBudget::new(4096, 16);
            let _ = codec.decode::<Maps>(&mut &bytes[..], &mut budget);
            assert!(budget.memory_used() <= 4096);
        });
    }
}

#[cfg(feature = "bincode")]
mod bincode {
    use super::*;

    type Config = ::bincode::config::Configuration<
        ::bincode::config::LittleEndian,
        ::bincode::config::Fixint,
        ::bincode::config::Limit<{ 1 << 20 }>,
    >;

    // They need one: without one, a length alone ends the process.
    const CONFIG: Config = ::bincode::config::legacy().with_limit::<{ 1 << 20 }>();

    #[test]
    fn bincode_writes_the_same_bytes() {
        let value = vec![rich(), rich()];
        assert_eq!(encoded(CodecId::Bincode, &value), ::bincode::serde::encode_to_vec(&value, CONFIG).unwrap());
        for value in PLACES.map(placed) {
            assert_eq!(encoded(CodecId::Bincode, &value), ::bincode::serde::encode_to_vec(&value, CONFIG).unwrap());
            assert_eq!(decoded(CodecId::Bincode, &encoded(CodecId::Bincode, &value)), Ok(value));
        }
    }

    #[test]
    fn bincode_reads_the_same_values() {
        mutations(CodecId::Bincode, &rich(), |bytes| {
            let mut input = bytes;
            let ours = CodecId::Bincode.decode::<Rich>(&mut input, &mut budget());
            let theirs = ::bincode::serde::decode_from_slice::<Rich, _>(bytes, CONFIG);
            match (ours, theirs) {
                (Ok(ours), Ok((theirs, used))) => {
                    assert_eq!(used, bytes.len() - input.len());
                    assert!(encoded(CodecId::Bincode, &ours) == encoded(CodecId::Bincode, &theirs));
                }
                (Err(_), Err(_)) => {}
                (ours, theirs) => panic!("{ours:?} here and {theirs:?} there, of {bytes:x?}"),
            }
        });
    }
}

#[cfg(feature = "postcard")]
mod postcard {
    use super::*;

    #[test]
    fn postcard_writes_the_same_bytes() {
        let value = vec![rich(), rich()];
        assert_eq!(encoded(CodecId::Postcard, &value), ::postcard::to_allocvec(&value).unwrap());
        for value in PLACES.map(placed) {
            assert_eq!(encoded(CodecId::Postcard, &value), ::postcard::to_allocvec(&value).unwrap());
            assert_eq!(decoded(CodecId::Postcard, &encoded(CodecId::Postcard, &value)), Ok(value));
        }
    }

    /// It also reads numbers that are longer than they need be, and these decoders do not.
    #[test]
    fn postcard_reads_the_same_values() {
        mutations(CodecId::Postcard, &rich(), |bytes| {
            let mut input = bytes;
            let ours = CodecId::Postcard.decode::<Rich>(&mut input, &mut budget());
            let theirs = ::postcard::take_from_bytes::<Rich>(bytes);
            match (ours, theirs) {
                (Ok(ours), Ok((theirs, rest))) => {
                    assert_eq!(rest, input);
                    assert!(encoded(CodecId::Postcard, &ours) == encoded(CodecId::Postcard, &theirs));
                }
                (Ok(ours), Err(theirs)) => panic!("{ours:?} here and {theirs} there, of {bytes:x?}"),
                (Err(ours), Ok((theirs, rest))) => {
                    // They differ only where theirs has a shorter form.
                    let used = &bytes[..bytes.len() - rest.len()];
                    assert!(encoded(CodecId::Postcard, &theirs) != used, "{ours} here and {theirs:?} there");
                }
                (Err(_), Err(_)) => {}
            }
        });
    }
}
