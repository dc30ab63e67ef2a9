//! C6: serde's attributes that compact codecs cannot carry. What is not refused here is listed at the module.

use serde::ser::SerializeSeq;

use super::*;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Skips {
    id: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    maybe: Option<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
enum SkipsInVariant {
    Only {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        list: Vec<u8>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Flattens {
    id: u8,
    #[serde(flatten)]
    rest: Skips,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    A { id: u8 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    A(u8),
    B(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value")]
enum Adjacent {
    A(u8),
    B { id: u8 },
}

fn unencodable<T: Serialize>(value: &T, why: EncodeError) {
    for &codec in CodecId::SUPPORTED {
        let mut out = vec![7];
        assert_eq!(codec.encode(value, &mut out), Err(why.clone()), "{codec}");
        assert_eq!(out, [7], "{codec}");
    }
}

#[test]
fn a_skipped_field_is_refused_and_a_present_one_travels() {
    unencodable(&Skips::default(), EncodeError::SkippedField("maybe"));
    unencodable(&vec![Skips { id: 1, maybe: Some(2) }, Skips::default()], EncodeError::SkippedField("maybe"));
    unencodable(&SkipsInVariant::Only { list: vec![] }, EncodeError::SkippedField("list"));
    round_trips(&Skips { id: 1, maybe: Some(2) });
}

#[test]
fn flatten_is_refused_on_both_sides() {
    unencodable(&Flattens { id: 1, rest: Skips { id: 1, maybe: Some(1) } }, EncodeError::UnknownLength);
    for &codec in CodecId::SUPPORTED {
        assert_eq!(decoded::<Flattens>(codec, &[1; 64]).unwrap_err().to_wire(), refusal(codec).to_wire());
    }
}

/// Eight bytes of 1 are a length that no budget carries, one is a length of 1.
fn refusal(codec: CodecId) -> DecodeError {
    match codec.name() {
        "bincode" => DecodeError::MemoryExceeded { max: MEMORY },
        _ => DecodeError::NotSelfDescribing,
    }
}

#[test]
fn enums_that_ask_what_comes_next_are_refused_by_the_receiver() {
    for &codec in CodecId::SUPPORTED {
        let tagged = encoded(codec, &Tagged::A { id: 1 });
        assert_eq!(decoded::<Tagged>(codec, &tagged).unwrap_err(), DecodeError::NotSelfDescribing);
        for value in [Untagged::A(1), Untagged::B("one".into())] {
            let untagged = encoded(codec, &value);
            assert_eq!(decoded::<Untagged>(codec, &untagged).unwrap_err(), DecodeError::NotSelfDescribing);
        }
        assert_eq!(decoded::<serde::de::IgnoredAny>(codec, &[1; 9]).unwrap_err(), DecodeError::NotSelfDescribing);
    }
    for &codec in CodecId::SUPPORTED {
        for value in [Adjacent::A(1), Adjacent::B { id: 1 }] {
            let adjacent = encoded(codec, &value);
            assert_eq!(decoded::<Adjacent>(codec, &adjacent).unwrap_err(), DecodeError::NotSelfDescribing);
        }
    }
}

#[test]
fn a_wrong_length_is_refused() {
    struct Announces(Option<usize>);
    impl Serialize for Announces {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(self.0)?;
            seq.serialize_element(&1u8)?;
            seq.serialize_element(&2u8)?;
            seq.end()
        }
    }
    unencodable(&Announces(None), EncodeError::UnknownLength);
    unencodable(&Announces(Some(1)), EncodeError::WrongLength { announced: 1, written: 2 });
    unencodable(&Announces(Some(3)), EncodeError::WrongLength { announced: 3, written: 2 });
    for &codec in CodecId::SUPPORTED {
        assert_eq!(decoded::<Vec<u8>>(codec, &encoded(codec, &Announces(Some(2)))), Ok(vec![1, 2]));
    }
}
