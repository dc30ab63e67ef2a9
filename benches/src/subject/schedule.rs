//! When the calls of an open loop are due.

use std::time::Duration;

use super::Error;

/// Gaps as of callers who know nothing of each other, the same ones in every run.
pub(super) struct Schedule {
    mean: f64,
    due: f64,
    state: u64,
}

impl Schedule {
    /// So many calls a second.
    pub(super) fn new(rate: f64) -> Result<Schedule, Error> {
        if rate.is_finite() && rate > 0.0 {
            Ok(Schedule { mean: 1.0 / rate, due: 0.0, state: SEED })
        } else {
            Err("a rate must be more than 0".into())
        }
    }

    /// When the next call is due, from the beginning.
    pub(super) fn next_due(&mut self) -> Duration {
        // Marsaglia's xorshift, and an exponential distribution out of a uniform one.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let uniform = ((self.state >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        self.due -= uniform.ln() * self.mean;
        Duration::from_secs_f64(self.due)
    }
}

const SEED: u64 = 0x2545_f491_4f6c_dd1d;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_due_at_the_rate_that_was_asked_for() {
        let mut schedule = Schedule::new(1000.0).expect("it is more than 0");
        let mut before = Duration::ZERO;
        for _ in 0..100_000 {
            let due = schedule.next_due();
            assert!(due >= before);
            before = due;
        }
        assert!((95.0..105.0).contains(&before.as_secs_f64()), "{before:?}");
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Schedule::new(rate).is_err(), "{rate}");
        }
    }
}
