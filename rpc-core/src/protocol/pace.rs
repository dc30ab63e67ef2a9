//! How much of long messages, and of items of streams, may be on its way where short calls go beside them.
//!
//! A mechanism takes megabytes that nobody has read yet, and what is placed behind them waits for all of them. So while
//! short calls pass, a PING goes behind every few chunks, and no more chunks go than the PONGs have room for: what its
//! number names has been read. A long message that is alone is not held back. Items are frames like chunks here.
//!
//! | state | chunks go | left when |
//! |---|---|---|
//! | alone | as the sender has room | a short call passes while a long message is half sent, or many items unread |
//! | paced | as long as less than the window is unread | so many bytes have gone without a short call |

/// The numbers of one connection's long messages, requests and replies, and of its streams' items.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes placed since the beginning of time.
    placed: u64,
    /// Up to where the peer has read them, as last heard.
    read: u64,
    /// Up to where a PING has been placed behind them.
    marked: u64,
    /// Up to where they are paced.
    paced: u64,
    window: u64,
    /// How much was read at the last sweep, if chunks were held back then.
    held: Option<u64>,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { placed: 0, read: 0, marked: 0, paced: 0, window: WINDOW_MIN, held: None }
    }
}

impl Pace {
    /// A short call passes a long message.
    pub(super) fn passed(&mut self) {
        self.paced = self.placed + MEMORY;
    }

    /// Whether less is sent at a time than there is room for.
    pub(super) fn is_on(&self) -> bool {
        self.placed < self.paced
    }

    /// Whether a chunk may go.
    pub(super) fn allows(&self) -> bool {
        !self.is_on() || self.placed - self.read < self.window
    }

    /// So long a chunk.
    pub(super) fn chunk_len(&self, most: usize) -> usize {
        if self.is_on() { most.min(CHUNK_LEN) } else { most }
    }

    /// Bytes placed since the beginning of time.
    pub(super) fn bytes(&self) -> u64 {
        self.placed
    }

    pub(super) fn placed(&mut self, bytes: u64) {
        self.placed += bytes;
    }

    /// The number of the PING that is to be placed now, if one is.
    pub(super) fn due(&self) -> Option<u64> {
        let due = self.is_on() && self.placed - self.marked >= MARK_EVERY;
        due.then_some(MARK | self.placed)
    }

    /// It has been placed.
    pub(super) fn marked(&mut self) {
        self.marked = self.placed;
    }

    /// A PONG has come.
    pub(super) fn answered(&mut self, number: u64) {
        let read = number & !MARK;
        // Also if nobody has asked that.
        if number & MARK != 0 && read <= self.marked {
            self.read = self.read.max(read);
        }
    }

    /// Whether sweeps have to look after it.
    pub(super) fn needs_sweep(&self) -> bool {
        !self.allows()
    }

    /// A sweep. Where no PONG has come since the one before, the way is long, and the window too small for it.
    pub(super) fn sweep(&mut self) {
        let held = (!self.allows()).then_some(self.read);
        self.window = match held {
            Some(_) if held == self.held => {
                if self.window == WINDOW_MAX {
                    // Nobody is made to wait for ever by a peer that answers nothing: what it does not read the mechanism
                    // will not take, and that has a time limit.
                    self.read = self.placed;
                }
                (self.window * 2).min(WINDOW_MAX)
            }
            _ => (self.window / 2).max(WINDOW_MIN),
        };
        self.held = held;
    }
}

/// PINGs with this bit are marks; the others are probes, which count from 1, and that of a drain, 2^64 - 1.
const MARK: u64 = 1 << 63;
/// Bytes that may be unread. A receiver reads them in less than a tenth of a millisecond, and has something to read while
/// the PONG is on its way.
const WINDOW_MIN: u64 = 256 << 10;
const WINDOW_MAX: u64 = 16 << 20;
const MARK_EVERY: u64 = 64 << 10;
const CHUNK_LEN: usize = 64 << 10;
/// So long short calls are remembered: at some gigabytes a second, tenths of one.
const MEMORY: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Places as many chunks as may go.
    fn send(pace: &mut Pace) -> u64 {
        let before = pace.placed;
        while pace.allows() && pace.placed < before + (1 << 30) {
            pace.placed(pace.chunk_len(128 << 10) as u64);
            if pace.due().is_some() {
                pace.marked();
            }
        }
        pace.placed - before
    }

    #[test]
    fn a_long_message_that_is_alone_is_not_held_back() {
        let mut pace = Pace::default();
        assert_eq!(send(&mut pace), 1 << 30);
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn beside_short_calls_little_is_unread() {
        let mut pace = Pace::default();
        pace.placed(10 << 20);
        pace.passed();
        // All that has gone before is read first.
        assert_eq!(send(&mut pace), 0);
        pace.answered(pace.due().unwrap());
        pace.marked();
        assert_eq!(send(&mut pace), 0);
        pace.answered(MARK | pace.placed);
        assert_eq!(send(&mut pace), WINDOW_MIN);
        pace.answered(MARK | (pace.placed - MARK_EVERY));
        assert_eq!(send(&mut pace), WINDOW_MIN - MARK_EVERY);
    }

    #[test]
    fn what_nobody_has_asked_says_nothing() {
        let mut pace = Pace::default();
        pace.passed();
        assert_eq!(send(&mut pace), WINDOW_MIN);
        for number in [0, 1, u64::MAX, MARK | (pace.placed + 1), MARK] {
            pace.answered(number);
            assert!(!pace.allows(), "{number:x}");
        }
    }

    #[test]
    fn short_calls_are_forgotten() {
        let mut pace = Pace::default();
        pace.passed();
        let mut gone = 0;
        while gone < MEMORY {
            let sent = send(&mut pace);
            assert!(sent > 0);
            gone += sent;
            pace.answered(MARK | pace.marked);
        }
        assert_eq!(send(&mut pace), 1 << 30);
    }

    #[test]
    fn a_peer_that_answers_nothing_holds_nothing_back_for_ever() {
        let mut pace = Pace::default();
        pace.passed();
        let mut gone = 0;
        for _ in 0..40 {
            gone += send(&mut pace);
            assert!(pace.needs_sweep());
            pace.sweep();
        }
        assert!(gone > 10 * WINDOW_MAX, "{gone} bytes");
    }

    #[test]
    fn a_long_way_widens_the_window_and_a_short_one_narrows_it_again() {
        let mut pace = Pace::default();
        pace.passed();
        send(&mut pace);
        pace.sweep();
        assert!(!pace.allows());
        for _ in 0..20 {
            pace.sweep();
            send(&mut pace);
        }
        assert_eq!(pace.placed - pace.read, WINDOW_MAX);
        pace.answered(MARK | pace.placed);
        for _ in 0..20 {
            pace.sweep();
        }
        assert_eq!(send(&mut pace), WINDOW_MIN);
    }
}
