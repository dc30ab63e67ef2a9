//! Counts calls and how long they took.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::meter::{Meter, Reading};
use super::{Error, Latency, Outcome, Spec};

/// Calls and their times.
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) times: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        // From 1 ns to 60 s, with three digits.
        let times = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order");
        Tally { calls: 0, times }
    }

    pub(super) fn record(&mut self, calls: u64, time: Duration) {
        self.calls += calls;
        self.times.saturating_record_n(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), calls);
    }

    pub(super) fn add(&mut self, other: &Tally) {
        self.calls += other.calls;
        self.times.add(&other.times).expect("all have the same bounds");
    }

    pub(super) fn outcome(&self, spec: &Spec) -> Outcome {
        Outcome {
            calls: self.calls,
            bytes: self.calls * spec.call_len() as u64,
            latency: Latency::of(&self.times),
            ..Outcome::default()
        }
    }
}

/// Watches the clock for a loop on one thread, and counts what it does.
///
/// ```ignore
/// let mut since = recorder.begin();
/// loop {
///     // … one call, its reply checked …
///     match recorder.completed(since, 1) {
///         Some(now) => since = now,
///         None => return Ok(()),
///     }
/// }
/// ```
pub struct Recorder {
    spec: Spec,
    meter: Meter,
    tally: Tally,
    /// When what happens begins to count.
    warm_until: Instant,
    first: Option<Reading>,
    last: Option<Reading>,
    peak: Option<f64>,
}

impl Recorder {
    /// Nothing is counted yet.
    pub fn new(spec: Spec) -> Recorder {
        let meter = Meter::new(spec.server_pid);
        let warm_until = Instant::now();
        Recorder { spec, meter, tally: Tally::new(), warm_until, first: None, last: None, peak: None }
    }

    /// Says which process the server is, for a client that started it.
    pub fn server_is(&mut self, pid: u32) {
        self.meter = Meter::new(Some(pid));
    }

    /// Begins to warm up; connections stand. Now.
    pub fn begin(&mut self) -> Instant {
        let now = Instant::now();
        self.warm_until = now + self.spec.warm();
        now
    }

    /// Counts calls that were made together at `since`, and whose replies were right. Now, or nothing when it is enough.
    pub fn completed(&mut self, since: Instant, calls: u64) -> Option<Instant> {
        let now = Instant::now();
        if self.first.is_some() {
            self.tally.record(calls, now.duration_since(since));
            if now.duration_since(self.warm_until) > self.spec.span() {
                self.last = Some(self.meter.read());
                return None;
            }
            return Some(now);
        }
        if now < self.warm_until {
            return Some(now);
        }
        self.first = Some(self.meter.read());
        self.warm_until = Instant::now();
        Some(self.warm_until)
    }

    /// Counts a call of an open loop, which was due then and whose reply was right.
    pub(super) fn answered(&mut self, due: Instant, now: Instant) {
        if self.first.is_none() {
            self.first = Some(self.meter.read());
        }
        self.tally.record(1, now.saturating_duration_since(due));
    }

    /// An open loop knows by itself when it is enough.
    pub(super) fn end(&mut self) {
        self.last = Some(self.meter.read());
    }

    /// Makes a rate of what was counted in `span`, and counts anew.
    pub(super) fn peak(&mut self, span: Duration) -> f64 {
        let peak = self.tally.calls as f64 / span.as_secs_f64();
        (self.tally, self.first, self.peak) = (Tally::new(), None, Some(peak));
        peak
    }

    pub(super) fn outcome(self) -> Result<Outcome, Error> {
        let (Some(first), Some(last)) = (&self.first, &self.last) else {
            return Err("the loop ended before its time".into());
        };
        let mut outcome = self.tally.outcome(&self.spec);
        outcome.peak = self.peak;
        first.until(last, &mut outcome);
        Ok(outcome)
    }
}
