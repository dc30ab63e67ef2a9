//! Random numbers that follow from a seed, and bytes that follow from a number.

/// xorshift.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Mostly small, at most `max`.
    pub(crate) fn size(&mut self, max: u64) -> u64 {
        let bits = u64::from(64 - max.leading_zeros());
        let most = 1 << self.below(bits + 1);
        self.below(most).min(max)
    }

    /// Another one.
    pub(crate) fn split(&mut self) -> Random {
        Random::new(self.next())
    }
}

/// The bytes of that number.
pub(crate) fn bytes(number: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(number);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Whether they are.
pub(crate) fn are(bytes: &[u8], number: u64) -> bool {
    let mut random = Random::new(number);
    bytes.chunks(8).all(|chunk| chunk == &random.next().to_le_bytes()[..chunk.len()])
}
