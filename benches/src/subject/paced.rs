//! An open loop on one thread that never sleeps: what `open` is for tasks.

use std::collections::VecDeque;
use std::hint;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::recorder::Recorder;
use super::schedule::Schedule;
use super::{Error, Spec};

/// Makes calls when they are due, as the spec's rate or load asks, at most `window` outstanding.
///
/// `send` makes the calls of these numbers, all at once. `receive` says how many more have been answered, in the order of
/// their numbers, each reply checked; it does not wait.
///
/// # Errors
///
/// Those of the two, and if replies do not come.
pub fn paced(
    spec: &Spec,
    window: usize,
    recorder: &mut Recorder,
    send: impl FnMut(Range<u64>) -> Result<(), Error>,
    receive: impl FnMut() -> Result<u64, Error>,
) -> Result<(), Error> {
    let mut calls = Calls { window, send, receive, due: VecDeque::with_capacity(window), next: 0 };
    let rate = match spec.load {
        Some(load) => load * calls.peak(spec, recorder)?,
        None => spec.rate.ok_or("there is neither a rate nor a load")?,
    };
    let mut schedule = Schedule::new(rate)?;
    let began = recorder.begin();
    let (warm, end) = (began + spec.warm(), began + spec.warm() + spec.span());
    calls.make(
        began,
        end,
        |_| began + schedule.next_due(),
        |due, now| {
            if due >= warm {
                recorder.answered(due, now);
            }
        },
    )?;
    recorder.end();
    Ok(())
}

struct Calls<S, R> {
    window: usize,
    send: S,
    receive: R,
    /// When the outstanding calls were due, the oldest first.
    due: VecDeque<Instant>,
    next: u64,
}

impl<S: FnMut(Range<u64>) -> Result<(), Error>, R: FnMut() -> Result<u64, Error>> Calls<S, R> {
    /// How many are answered in a second when all are due at once.
    fn peak(&mut self, spec: &Spec, recorder: &mut Recorder) -> Result<f64, Error> {
        let span = spec.span() / 2;
        let began = recorder.begin();
        let (warm, end) = (began + spec.warm(), began + spec.warm() + span);
        // A schedule that nobody keeps to, since working it out takes its time as well.
        let mut schedule = Schedule::new(1.0)?;
        let next_due = |now| {
            hint::black_box(schedule.next_due());
            now
        };
        self.make(began, end, next_due, |due, now| {
            if (warm..end).contains(&now) {
                recorder.answered(due, now);
            }
        })?;
        Ok(recorder.peak(span))
    }

    /// Makes calls from `began` until one would be due after `end`, and waits for the replies.
    fn make(
        &mut self,
        began: Instant,
        end: Instant,
        mut next_due: impl FnMut(Instant) -> Instant,
        mut answered: impl FnMut(Instant, Instant),
    ) -> Result<(), Error> {
        let mut due = next_due(began);
        loop {
            let now = Instant::now();
            let first = self.next;
            // What cannot be made yet is made later; it was due when it was.
            while due <= now && due <= end && self.due.len() < self.window {
                self.due.push_back(due);
                self.next += 1;
                due = next_due(now);
            }
            if self.next > first {
                (self.send)(first..self.next)?;
            }
            let replies = (self.receive)()?;
            if replies > 0 {
                let now = Instant::now();
                for _ in 0..replies {
                    answered(self.due.pop_front().ok_or("a reply without a call")?, now);
                }
            } else if self.due.is_empty() && due > end {
                return Ok(());
            } else if now > end + PATIENCE {
                return Err("replies do not come".into());
            } else {
                hint::spin_loop();
            }
        }
    }
}

/// How long the last replies may take.
const PATIENCE: Duration = Duration::from_secs(10);
