//! Calls in an open loop: each has a time at which it is due, whatever became of those before it.
//!
//! Its latency counts from then. A server that stalls therefore shows in all the calls that were due meanwhile, also where
//! the client itself came too late to make them.

use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::meter::Meter;
use super::recorder::Tally;
use super::{Error, Outcome, Spec};

/// What the calls of a run have in common.
struct Shared {
    tally: Mutex<Tally>,
    failed: Mutex<Option<Error>>,
    outstanding: AtomicUsize,
}

/// When a call is due, and where its time goes.
pub(super) struct Due {
    at: Instant,
    counts: bool,
    shared: Arc<Shared>,
}

/// Makes one call.
pub(super) async fn one(call: impl Future<Output = Result<(), Error>>, due: Due) {
    let ended = call.await;
    let time = due.at.elapsed();
    match ended {
        Ok(()) if due.counts => due.shared.tally.lock().expect("nobody panics with it").record(1, time),
        Ok(()) => {}
        Err(error) => *due.shared.failed.lock().expect("nobody panics with it") = Some(error),
    }
    due.shared.outstanding.fetch_sub(1, Ordering::Relaxed);
}

pub(super) async fn run(spec: Spec, spawn: impl Fn(usize, Due) -> JoinHandle<()>) -> Result<Outcome, Error> {
    let shared = Arc::new(Shared {
        tally: Mutex::new(Tally::new()),
        failed: Mutex::new(None),
        outstanding: AtomicUsize::new(0),
    });
    let alarm = Alarm::new()?;
    let meter = Meter::new(spec.server_pid);
    let mut schedule = Schedule::new(spec.rate.unwrap_or(1.0))?;
    let began = Instant::now();
    let (warm, end) = (spec.warm(), spec.warm() + spec.span());
    let (mut first, mut now) = (None, began);
    for number in 0.. {
        let due = schedule.next_due();
        if due > end {
            break;
        }
        let counts = due >= warm;
        if counts && first.is_none() {
            first = Some(meter.read());
        }
        if began + due > now {
            now = alarm.ring_at(began + due).await?;
        }
        // What cannot be made yet is made later; it was due when it was.
        while shared.outstanding.load(Ordering::Relaxed) >= OUTSTANDING_MAX {
            tokio::task::yield_now().await;
            if began.elapsed() > end + PATIENCE {
                return Err("the server has stopped to answer".into());
            }
        }
        shared.outstanding.fetch_add(1, Ordering::Relaxed);
        drop(spawn(number, Due { at: began + due, counts, shared: shared.clone() }));
    }
    // All that were due are waited for: those that take longest are the ones that must not be missing.
    while shared.outstanding.load(Ordering::Relaxed) > 0 && began.elapsed() < end + PATIENCE {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if let Some(error) = shared.failed.lock().expect("nobody panics with it").take() {
        return Err(error);
    }
    if shared.outstanding.load(Ordering::Relaxed) > 0 {
        return Err("replies do not come".into());
    }
    let mut outcome = shared.tally.lock().expect("nobody panics with it").outcome(&spec);
    let first = first.ok_or("no call was due: the rate is too small for the span")?;
    first.until(&meter.read(), &mut outcome);
    Ok(outcome)
}

/// When calls are due: gaps as of callers who know nothing of each other, the same ones in every run.
struct Schedule {
    mean: f64,
    due: f64,
    state: u64,
}

impl Schedule {
    fn new(rate: f64) -> Result<Schedule, Error> {
        if rate.is_finite() && rate > 0.0 {
            Ok(Schedule { mean: 1.0 / rate, due: 0.0, state: SEED })
        } else {
            Err("a rate must be more than 0".into())
        }
    }

    fn next_due(&mut self) -> Duration {
        // Marsaglia's xorshift, and an exponential distribution out of a uniform one.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let uniform = ((self.state >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        self.due -= uniform.ln() * self.mean;
        Duration::from_secs_f64(self.due)
    }
}

/// Sleeps to the microsecond: the runtime's own timers only know milliseconds.
struct Alarm {
    timer: TimerFd,
    /// The same timer, to wait for.
    rings: AsyncFd<OwnedFd>,
}

impl Alarm {
    fn new() -> Result<Alarm, Error> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        #[allow(deprecated, reason = "what replaces it is newer than the oldest tokio that will do")]
        let rings = AsyncFd::with_interest(timer.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        Ok(Alarm { timer, rings })
    }

    /// Now, which is then or later. Calls that are due by now leave together, as they would from callers of their own.
    async fn ring_at(&self, at: Instant) -> Result<Instant, Error> {
        let now = Instant::now();
        let wait = at.saturating_duration_since(now);
        if wait < SHORT {
            // Late or nearly so. Others have their turn first, or a client that is too slow would send and never receive.
            tokio::task::yield_now().await;
            return Ok(now.max(at));
        }
        self.timer.set(Expiration::OneShot(TimeSpec::from_duration(wait)), TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.rings.readable().await?;
            match nix::unistd::read(&self.timer, &mut [0; 8]) {
                Ok(_) => return Ok(Instant::now()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What is less than setting the timer takes.
const SHORT: Duration = Duration::from_micros(1);
/// Calls that the client has made and not yet seen the reply of. More than that, frameworks refuse.
const OUTSTANDING_MAX: usize = 1024;
const SEED: u64 = 0x2545_f491_4f6c_dd1d;
/// How long the last replies may take.
const PATIENCE: Duration = Duration::from_secs(10);
