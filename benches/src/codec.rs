//! How long the codec takes for the message of a call, beside a codec of the same format without any guard.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;
use trunkline::codec::CodecId;
use trunkline_benches::Item;
use trunkline_core::codec::DecodeBudget;
use trunkline_core::wire::{Arg, Arguments, Output, Value};

/// Nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Codec {
    pub(crate) encode: f64,
    pub(crate) decode: f64,
    /// bincode, which knows no limit by itself.
    pub(crate) bare_encode: f64,
    pub(crate) bare_decode: f64,
}

/// Measures an item: 32 bytes. Medians of interleaved rounds.
pub(crate) fn measure() -> Codec {
    let item = Item::new(7);
    let mut bytes = Vec::with_capacity(64);
    (Arg::<_>::new(&item),).encode(CODEC, &mut bytes).expect("an item can be encoded");

    let mut rounds = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let mut out = Vec::with_capacity(64);
        rounds[0].push(nanos(|| {
            out.clear();
            encode(black_box(&item), black_box(&mut out))
        }));
        rounds[1].push(nanos(|| decode(black_box(&bytes)).is_some_and(|item| black_box(item).id == 7)));
        let mut space = [0; 64];
        rounds[2].push(nanos(|| bare_encode(black_box(&item), black_box(&mut space))));
        rounds[3].push(nanos(|| bare_decode(black_box(&bytes)).is_some_and(|item| black_box(item).id == 7)));
    }
    let [encode, decode, bare_encode, bare_decode] = rounds.map(median);
    Codec { encode, decode, bare_encode, bare_decode }
}

// Functions of their own: what becomes of them in a loop would differ from build to build.

#[inline(never)]
fn encode(item: &Item, out: &mut Vec<u8>) -> bool {
    (Arg::<_>::new(item),).encode(CODEC, out).is_ok()
}

#[inline(never)]
fn decode(mut bytes: &[u8]) -> Option<Item> {
    let mut budget = DecodeBudget::new(64 << 20, 64);
    let item = Value::<Item>::decode_ok(CODEC, &mut bytes, &mut budget).ok()?;
    bytes.is_empty().then_some(item)
}

/// Into an array: its own way to append to a vector is ten times slower.
#[inline(never)]
fn bare_encode(item: &Item, out: &mut [u8]) -> bool {
    bincode::serde::encode_into_slice(item, out, bincode::config::legacy()).is_ok()
}

#[inline(never)]
fn bare_decode(bytes: &[u8]) -> Option<Item> {
    Some(bincode::serde::decode_from_slice(bytes, bincode::config::legacy()).ok()?.0)
}

/// How long it takes on the average of some milliseconds.
fn nanos(mut work: impl FnMut() -> bool) -> f64 {
    let began = Instant::now();
    let mut times = 0u32;
    loop {
        for _ in 0..1000 {
            assert!(work(), "the codec refuses what it should take");
        }
        times += 1000;
        let elapsed = began.elapsed();
        if elapsed > SPAN {
            return elapsed.as_nanos() as f64 / f64::from(times);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The one that connections agree on if nothing is set.
const CODEC: CodecId = CodecId::SUPPORTED[0];
const ROUNDS: usize = 9;
const SPAN: Duration = Duration::from_millis(10);
