//! Asking again before going to sleep.
//!
//! To wake a sleeping processor takes longer than anything else about a call: some 40 us here, whatever the mechanism,
//! and most of the processor time of a call goes there as well. So a connection that has just been busy keeps asking for
//! a while. It does not spin: after each try, which is a few looks of a microsecond together at most, it goes to the end of
//! the runtime's queue, so that other tasks run.
//!
//! | state | left when | then |
//! |---|---|---|
//! | cold | something came, and no wait is to be slept through | hot |
//! | hot | nothing came for the patience: a miss | cold |
//!
//! After three misses in a row the next 8 waits are slept through, then, with each further miss, twice as many, up to
//! 512; what comes in time ends that. Where a wait turns out to have lasted much longer than it was to, others wanted the
//! processor meanwhile: many of the next are slept through at once. A connection on which nothing happens costs nothing.
//!
//! **One processor for both ends.** There a try can only succeed once the peer has run. Every 32nd try therefore offers
//! the processor to others (`sched_yield`), timed: if that took long and the next try finds something, the peer lives here,
//! and from then on every try offers it first. If it took very long, a stranger has taken the slice: then no offer is made
//! for a while, and for four times as long if it happens again. Not on a runtime of several threads, whose other
//! tasks such a thread would keep waiting.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::latency::Latency;

/// When to try again, and when to sleep.
#[derive(Debug)]
pub(super) struct Polling {
    /// How long to go on after the last success; zero = never begin.
    patience: Duration,
    /// Whether waits that came to nothing make the next ones sleep.
    backs_off: bool,
    hot: bool,
    /// Tries since the last success.
    tries: u32,
    /// How many there had been when the task went behind everybody else.
    deferred: u32,
    /// When patience ends; set at the first look at the clock.
    until: Option<Instant>,
    /// Waits in a row that came to nothing.
    misses: u32,
    /// Waits to be slept through.
    skip: u32,
    /// How many the next time.
    skip_next: u32,
    /// On a current-thread runtime.
    offers: Option<Offers>,
}

impl Polling {
    pub(super) fn new(latency: Latency, multi_thread: bool) -> Polling {
        Polling {
            patience: latency.patience(),
            backs_off: latency == Latency::Balanced,
            hot: false,
            tries: 0,
            deferred: 0,
            until: None,
            misses: 0,
            skip: 0,
            skip_next: SKIP_MIN,
            offers: (!multi_thread).then_some(Offers::NONE),
        }
    }

    pub(super) fn is_hot(&self) -> bool {
        self.hot
    }

    /// Whether the peer was found on this processor.
    pub(super) fn peer_is_here(&self) -> bool {
        self.offers.as_ref().is_some_and(|offers| offers.peer_is_here)
    }

    /// Something has come. `alone`: it was the only thing waited for, so that a long wait might as well have been slept
    /// through.
    pub(super) fn hit(&mut self, alone: bool) {
        if self.hot {
            self.came(alone);
        }
        self.begin();
    }

    /// The same for a thread or a future, whose next wait begins when it [says so](Self::begin).
    pub(super) fn hit_here(&mut self) {
        self.came(true);
        self.hot = true;
        (self.tries, self.deferred) = (0, 0);
        self.until = None;
    }

    /// A wait begins; `false` if it is to be slept through.
    pub(super) fn begin(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            self.hot = false;
        } else {
            self.hot = !self.patience.is_zero();
            (self.tries, self.deferred) = (0, 0);
            self.until = None;
        }
        self.hot
    }

    fn came(&mut self, alone: bool) {
        if let Some(offers) = &mut self.offers {
            offers.hit();
        }
        let late = |until: Instant| Instant::now() + self.patience / 2 >= until;
        if alone && self.until.is_some_and(late) {
            self.miss();
        } else {
            self.misses = 0;
            self.skip_next = (self.skip_next / 2).max(SKIP_MIN);
        }
    }

    /// There is nothing to wait for.
    pub(super) fn rest(&mut self) {
        self.hot = false;
    }

    /// A try has found nothing. `true`: to be tried again. `false`: time to sleep.
    pub(super) fn tried(&mut self) -> bool {
        self.tries += 1;
        if self.tries % TRIES_PER_CLOCK == 0 {
            let now = Instant::now();
            let until = *self.until.get_or_insert(now + self.patience);
            if now >= until {
                if now >= until + CROWDED {
                    self.misses = MISSES_MAX;
                    self.skip_next = self.skip_next.max(SKIP_CROWDED);
                }
                self.miss();
                return false;
            }
        }
        if let Some(offers) = &mut self.offers {
            offers.tried(self.tries);
        }
        true
    }

    /// The same for a task. `true`: it is scheduled to try again.
    pub(super) fn again(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.tried() {
            return false;
        }
        self.schedule(false, cx);
        true
    }

    /// Schedules a task that has tried in vain: now and then, and if it has `worked` meanwhile, behind everybody else.
    pub(super) fn schedule(&mut self, worked: bool, cx: &mut Context<'_>) {
        let first = self.deferred == 0 && self.tries >= TRIES_TO_DEFER;
        if (worked || first || self.tries - self.deferred >= TRIES_PER_DEFER) && self.offers.is_some() {
            self.deferred = self.tries;
            // To the very end: behind sockets, timers, and the future that the runtime was entered with, which is in no
            // queue and may be whose answer has just come. Not on a runtime of several threads: what is deferred there
            // waits for one of them, which may be computing, and no other can take it over.
            defer(cx);
        } else {
            cx.waker().wake_by_ref();
        }
    }

    fn miss(&mut self) {
        self.hot = false;
        self.misses = self.misses.saturating_add(1);
        if self.backs_off && self.misses >= MISSES_MAX {
            self.skip = self.skip_next;
            self.skip_next = (self.skip_next * 2).min(SKIP_MAX);
        }
    }
}

/// Schedules the task again, behind all others, after a turn that took long. On one thread also behind sockets and timers,
/// which would else be looked at only once in so many turns.
pub(crate) fn step_back(cx: &mut Context<'_>) {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::CurrentThread) => defer(cx),
        _ => cx.waker().wake_by_ref(),
    }
}

/// Schedules the task as [`tokio::task::yield_now`] does.
fn defer(cx: &mut Context<'_>) {
    let yielding = std::pin::pin!(tokio::task::yield_now());
    if let Poll::Ready(()) = yielding.poll(cx) {
        cx.waker().wake_by_ref();
    }
}

/// The processor, offered to whoever else is on it.
#[derive(Debug)]
struct Offers {
    /// The peer was found on this processor.
    peer_is_here: bool,
    /// The last offer was taken up, and nothing has been tried since.
    taken: bool,
    /// Tries for which none is made.
    pause: u32,
    /// How many after the next stranger.
    pause_next: u32,
}

impl Offers {
    const NONE: Offers = Offers { peer_is_here: false, taken: false, pause: 0, pause_next: PAUSE_MIN };

    fn tried(&mut self, tries: u32) {
        self.taken = false;
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        if !self.peer_is_here && tries % TRIES_PER_OFFER != 0 {
            return;
        }
        let began = Instant::now();
        std::thread::yield_now();
        let took = began.elapsed();
        self.taken = took > OFFER_TAKEN;
        if !self.taken {
            self.peer_is_here = false;
        }
        if took > OFFER_ABUSED {
            self.pause = self.pause_next;
            self.pause_next = (self.pause_next * 4).min(PAUSE_MAX);
        }
    }

    fn hit(&mut self) {
        if std::mem::take(&mut self.taken) {
            self.peer_is_here = true;
            self.pause_next = (self.pause_next - self.pause_next / 8).max(PAUSE_MIN);
        }
    }
}

/// The clock costs as much as some tries.
const TRIES_PER_CLOCK: u32 = 16;
const TRIES_PER_DEFER: u32 = 16;
/// The first time.
const TRIES_TO_DEFER: u32 = 2;
const TRIES_PER_OFFER: u32 = 32;
const MISSES_MAX: u32 = 3;
const SKIP_MIN: u32 = 8;
const SKIP_MAX: u32 = 512;
/// Somebody else has had the thread for as long.
const CROWDED: Duration = Duration::from_micros(200);
const SKIP_CROWDED: u32 = 64;
/// An offer that nobody takes up is over sooner.
const OFFER_TAKEN: Duration = Duration::from_micros(1);
/// A peer that is asked something does not take so long.
const OFFER_ABUSED: Duration = Duration::from_micros(200);
const PAUSE_MIN: u32 = 64;
const PAUSE_MAX: u32 = 1 << 17;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Tries in vain until it is to sleep; how often.
    fn wait_in_vain(polling: &mut Polling) -> u32 {
        let mut cx = Context::from_waker(Waker::noop());
        let mut tries = 0;
        while polling.again(&mut cx) {
            tries += 1;
            assert!(tries < 100_000_000, "it never sleeps");
        }
        assert!(!polling.is_hot());
        tries
    }

    /// How many times something comes before it is hot again.
    fn comings_until_hot(polling: &mut Polling) -> u32 {
        let mut comings = 0;
        while !polling.is_hot() {
            polling.hit(false);
            comings += 1;
        }
        comings
    }

    #[test]
    fn it_is_cold_until_something_comes() {
        let mut polling = Polling::new(Latency::Balanced, true);
        assert!(!polling.is_hot());
        assert_eq!(comings_until_hot(&mut polling), 1);
        assert!(wait_in_vain(&mut polling) >= TRIES_PER_CLOCK);
    }

    #[test]
    fn waits_in_vain_are_slept_through_more_and_more() {
        let mut polling = Polling::new(Latency::Balanced, true);
        let mut slept = Vec::new();
        for _ in 0..12 {
            slept.push(comings_until_hot(&mut polling));
            wait_in_vain(&mut polling);
        }
        // The first three are free. Where this thread was interrupted, it sleeps sooner.
        assert!(slept[3] >= SKIP_MIN, "{slept:?}");
        assert!(slept[3..].windows(2).all(|pair| pair[1] >= pair[0]), "{slept:?}");
        assert_eq!(slept[11], SKIP_MAX + 1, "{slept:?}");
    }

    #[test]
    fn what_comes_in_time_ends_the_sleeping() {
        let mut polling = Polling::new(Latency::Balanced, true);
        for _ in 0..12 {
            comings_until_hot(&mut polling);
            wait_in_vain(&mut polling);
        }
        comings_until_hot(&mut polling);
        for _ in 0..12 {
            polling.hit(false);
        }
        wait_in_vain(&mut polling);
        assert_eq!(comings_until_hot(&mut polling), 1);
    }

    #[test]
    fn low_latency_never_gives_up_and_power_save_never_begins() {
        let mut low = Polling::new(Latency::Low, false);
        for _ in 0..6 {
            assert_eq!(comings_until_hot(&mut low), 1);
            wait_in_vain(&mut low);
        }
        let mut saving = Polling::new(Latency::PowerSave, false);
        saving.hit(false);
        assert!(!saving.is_hot());
    }
}
