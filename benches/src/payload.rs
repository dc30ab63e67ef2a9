//! What calls carry.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The argument and the result of an echo: 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The number of the call.
    pub id: u64,
    /// Follows from `id`.
    pub rest: [u8; 24],
}

impl Item {
    /// The item of one call.
    pub fn new(id: u64) -> Item {
        let mut rest = [0; 24];
        for (word, at) in rest.chunks_exact_mut(8).zip(1..) {
            word.copy_from_slice(&id.wrapping_add(at).wrapping_mul(ODD).to_le_bytes());
        }
        Item { id, rest }
    }
}

/// What an upload carries: the same bytes whoever asks.
pub fn payload(size: usize) -> Bytes {
    (0..size.div_ceil(8) as u64).flat_map(|at| at.wrapping_mul(ODD).to_le_bytes()).take(size).collect()
}

/// The wrapping sum of all little-endian words and of the length; the last word is filled up with zeros.
///
/// Cheap enough to leave an upload what it is, the transport of bytes, yet no byte can be missing or wrong unnoticed.
pub fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    let mut sum = u64::from_le_bytes(last).wrapping_add(bytes.len() as u64);
    for word in words {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        sum = sum.wrapping_add(u64::from_le_bytes(eight));
    }
    sum
}

/// The same for a handler on a runtime: others have their turns meanwhile, as what takes milliseconds must let them.
pub async fn checksum_in_turns(bytes: &[u8]) -> u64 {
    if bytes.len() <= TURN_LEN {
        return checksum(bytes);
    }
    // The length counts once for each piece, and so for all of them; so many bytes are whole words.
    let mut sum = 0u64;
    for piece in bytes.chunks(TURN_LEN) {
        sum = sum.wrapping_add(checksum(piece));
        tokio::task::yield_now().await;
    }
    sum
}

/// A turn for each 1 MiB: W3 is one.
const TURN_LEN: usize = 1 << 20;
/// An odd number with its bits well spread.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        let bytes = payload(83).to_vec();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(checksum(&bytes), checksum(&other), "byte {at}");
        }
        assert_ne!(checksum(&[0; 8]), checksum(&[0; 7]));
    }

    #[tokio::test]
    async fn turns_do_not_change_the_sum() {
        for len in [0, 7, TURN_LEN, TURN_LEN + 13, 3 * TURN_LEN] {
            let bytes = payload(len);
            assert_eq!(checksum_in_turns(&bytes).await, checksum(&bytes), "{len} bytes");
        }
    }
}
