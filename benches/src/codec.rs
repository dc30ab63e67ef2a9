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
    let bare = bincode::config::legacy();

    let mut rounds = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let mut out = Vec::with_capacity(64);
        rounds[0].push(nanos(|| {
            out.clear();
            (Arg::<_>::new(black_box(&item)),).encode(CODEC, black_box(&mut out)).is_ok()
        }));
        rounds[1].push(nanos(|| {
            let mut input = black_box(&bytes[..]);
            let mut budget = DecodeBudget::new(64 << 20, 64);
            let decoded = Value::<Item>::decode_ok(CODEC, &mut input, &mut budget);
            decoded.is_ok_and(|decoded| black_box(decoded).id == 7) && input.is_empty()
        }));
        let mut out = Vec::with_capacity(64);
        rounds[2].push(nanos(|| {
            // Its own way to append to a vector is slower than this.
            let mut space = [0; 64];
            let Ok(len) = bincode::serde::encode_into_slice(black_box(&item), &mut space, bare) else { return false };
            out.clear();
            black_box(&mut out).extend_from_slice(&space[..len]);
            true
        }));
        rounds[3].push(nanos(|| {
            let decoded = bincode::serde::decode_from_slice::<Item, _>(black_box(&bytes), bare);
            decoded.is_ok_and(|(decoded, _)| black_box(decoded).id == 7)
        }));
    }
    let [encode, decode, bare_encode, bare_decode] = rounds.map(median);
    Codec { encode, decode, bare_encode, bare_decode }
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
