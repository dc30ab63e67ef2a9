//! Windows that grow with bandwidth and delay.
//!
//! A sender that has used all of its window waits a round trip for more. Where that, and not the receiver, is what keeps a
//! stream, its window doubles. Measured is what its receiver lets go of in a round trip: a PING goes with a CREDIT, and its
//! PONG ends the round.
//!
//! | what a round has brought | then |
//! |---|---|
//! | half the window, and a quarter more a second than when it was last doubled | it doubles, and counts anew when the sender has had time to fill it |
//! | less | it stays; the next round is so many bytes later, and twice as many each time |
//!
//! A receiver that takes nothing lets go of nothing. Where a larger window brings no more bytes, since the way or an end is as
//! fast as it can be, it doubles once and no further, though more of it lies in buffers on the way and round trips take longer.
//! One stream is measured at a time.
//!
//! A window that has grown stays so, and takes nothing from the others: what may be there of all streams has a window of its
//! own, which does not grow. See [`Growth`].

use std::sync::Arc;
use std::time::Instant;

use crate::share::Share;

/// By how much the windows of all streams have grown together, and what of that counts in the memory of all connections: as
/// much as their common window at most. More of what they have grown by cannot be there at once, and a peer would else have
/// all of a server's memory charged for what it does not use.
#[derive(Debug)]
pub(super) struct Growth {
    grown: u64,
    /// The common window.
    most: u64,
    share: Arc<Share>,
}

impl Growth {
    pub(super) fn new(most: u64, share: Arc<Share>) -> Growth {
        Growth { grown: 0, most, share }
    }

    /// One grows by so much, if there is memory for it.
    pub(super) fn grow(&mut self, more: u64) -> bool {
        let before = self.charged();
        self.grown += more;
        let grows = self.share.charge(self.charged() - before).is_ok();
        if !grows {
            self.grown -= more;
        }
        grows
    }

    /// One is gone that had grown by so much.
    pub(super) fn forget(&mut self, more: u64) {
        let before = self.charged();
        self.grown -= more;
        self.share.release(before - self.charged());
    }

    fn charged(&self) -> u64 {
        self.grown.min(self.most)
    }

    pub(super) fn is_none(&self) -> bool {
        self.grown == 0
    }
}

/// What a stream that is received knows of its own speed.
#[derive(Debug, Default)]
pub(super) struct Speed {
    /// Bytes a second when its window was last doubled.
    rate: u64,
    /// Bytes to be let go of before it is measured again.
    rest: u64,
    /// Rounds in a row that have brought nothing.
    idle_rounds: u32,
}

impl Speed {
    pub(super) fn let_go(&mut self, bytes: u64) {
        self.rest = self.rest.saturating_sub(bytes);
    }

    pub(super) fn may_be_measured(&self) -> bool {
        self.rest == 0
    }

    /// So many bytes came in a round; whether `window` should double.
    fn judge(&mut self, bytes: u64, micros: u64, window: u64) -> bool {
        let rate = bytes.saturating_mul(1_000_000) / micros.max(1);
        let grows = bytes >= window / 2 && rate > self.rate + self.rate / 4;
        if grows {
            self.rate = rate;
            self.idle_rounds = 0;
            // What has been measured came by the old window; the first bytes of the new one come behind all of that.
            self.rest = window.saturating_mul(2);
        } else {
            self.rest = window << self.idle_rounds;
            self.idle_rounds = (self.idle_rounds + 1).min(IDLE_ROUNDS_MAX);
        }
        grows
    }
}

/// The stream that is measured.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) stream: u64,
    /// Of the PING that has gone with the credit.
    number: u64,
    since: Instant,
    /// Bytes its receiver has let go of since.
    bytes: u64,
    /// The PONG is in.
    over: bool,
}

impl Round {
    pub(super) fn new(stream: u64, number: u64, since: Instant) -> Round {
        Round { stream, number, since, bytes: 0, over: false }
    }

    pub(super) fn let_go(&mut self, bytes: u64) {
        if !self.over {
            self.bytes += bytes;
        }
    }

    /// A PONG has come. One with a larger number answers this PING too, or ends the round early: then it brings less.
    pub(super) fn answered(&mut self, number: u64) {
        self.over |= number >= self.number;
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether `window`, that of the stream that was measured, should double.
    pub(super) fn judge(&self, speed: &mut Speed, window: u64, now: Instant) -> bool {
        let micros = u64::try_from(now.saturating_duration_since(self.since).as_micros()).unwrap_or(u64::MAX);
        speed.judge(self.bytes, micros, window)
    }
}

/// After so many rounds that have brought nothing they become no rarer: 64 windows.
const IDLE_ROUNDS_MAX: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_doubles_as_long_as_that_brings_more() {
        let (mut speed, mut window) = (Speed::default(), 1 << 18);
        // 25 ms each way at 125 bytes a microsecond: 6.25 MB are under way.
        for _ in 0..100 {
            assert!(speed.may_be_measured());
            let bytes = (window * 3 / 4).min(6_250_000);
            if speed.judge(bytes, 50_000, window) {
                window *= 2;
            }
            speed.let_go(u64::MAX);
        }
        // What is under way, and no more than twice as much again.
        assert_eq!(window, 16 << 20);
    }

    #[test]
    fn where_a_larger_one_brings_no_more_it_doubles_once() {
        let (mut speed, mut window) = (Speed::default(), 1_u64 << 18);
        let mut rounds = 0;
        for _ in 0..1000 {
            // All of it lies on the way, whatever it is, and comes at 4 GB/s.
            if speed.may_be_measured() {
                rounds += 1;
                if speed.judge(window, window / 4000, window) {
                    window *= 2;
                }
            }
            speed.let_go(window);
        }
        assert_eq!(window, 1 << 19);
        assert!(rounds < 30, "{rounds}");
    }

    #[test]
    fn what_comes_slowly_needs_no_larger_one() {
        let mut speed = Speed::default();
        for bytes in [0, 1, 1000, (1 << 17) - 1] {
            assert!(!speed.judge(bytes, 1, 1 << 18));
        }
    }
}
