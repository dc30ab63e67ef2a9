//! Numbers that nobody else has: from the randomness that std keeps for its hash maps.

use std::hash::{BuildHasher, RandomState};

/// 64 bits. Not for secrets.
pub(crate) fn bits64() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// 128 bits. Not for secrets.
pub(crate) fn bits128() -> u128 {
    u128::from(bits64()) << 64 | u128::from(bits64())
}
