//! Calls in an open loop: each has a time at which it is due, whatever became of those before it.
//!
//! Its latency counts from then. A server that stalls therefore shows in all the calls that were due meanwhile, also where
//! the client itself came too late to make them.
//!
//! A load is a part of the peak: what the same loop reaches when every call is due at once, so that no more of them are
//! made than may be outstanding. It is found out on the same connection, right before.

use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::meter::Meter;
use super::recorder::Tally;
use super::schedule::Schedule;
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
        Ok(()) if due.counts => due.shared.tally().record(1, time),
        Ok(()) => {}
        Err(error) => *due.shared.failed.lock().expect("nobody panics with it") = Some(error),
    }
    due.shared.outstanding.fetch_sub(1, Ordering::Relaxed);
}

pub(super) async fn run(spec: Spec, spawn: impl Fn(u64, Due) -> JoinHandle<()>) -> Result<Outcome, Error> {
    let mut calls = Calls::new(spawn);
    let peak = match spec.load {
        Some(_) => Some(calls.saturate(spec.warm(), spec.span() / 2).await?),
        None => None,
    };
    let rate = match (spec.load, peak) {
        (Some(load), Some(peak)) => load * peak,
        _ => spec.rate.ok_or("there is neither a rate nor a load")?,
    };
    let mut outcome = calls.offer(&spec, rate).await?;
    outcome.peak = peak;
    Ok(outcome)
}

/// Who makes the calls.
struct Calls<S> {
    spawn: S,
    shared: Arc<Shared>,
    /// The number of the next one.
    next: u64,
}

impl<S: Fn(u64, Due) -> JoinHandle<()>> Calls<S> {
    fn new(spawn: S) -> Self {
        let shared =
            Shared { tally: Mutex::new(Tally::new()), failed: Mutex::new(None), outstanding: AtomicUsize::new(0) };
        Calls { spawn, shared: Arc::new(shared), next: 0 }
    }

    fn outstanding(&self) -> usize {
        self.shared.outstanding.load(Ordering::Relaxed)
    }

    /// Calls as fast as it goes. How many were answered in a second of `span`.
    async fn saturate(&mut self, warm: Duration, span: Duration) -> Result<f64, Error> {
        // Nobody keeps to it, but working it out takes its time as well.
        let mut schedule = Schedule::new(1.0)?;
        let began = Instant::now();
        let mut first = None;
        let peak = loop {
            self.until_there_is_room(began + warm + span).await?;
            let now = Instant::now();
            let answered = self.next - self.outstanding() as u64;
            match first {
                None if now >= began + warm => first = Some((now, answered)),
                Some((then, before)) if now >= then + span => {
                    break (answered - before) as f64 / now.duration_since(then).as_secs_f64();
                }
                _ => {}
            }
            std::hint::black_box(schedule.next_due());
            self.make(now, true);
        };
        self.until_all_are_answered(Instant::now()).await?;
        *self.shared.tally() = Tally::new();
        Ok(peak)
    }

    /// Calls at a rate.
    async fn offer(&mut self, spec: &Spec, rate: f64) -> Result<Outcome, Error> {
        let alarm = Alarm::new()?;
        let meter = Meter::new(spec.server_pid);
        let mut schedule = Schedule::new(rate)?;
        let began = Instant::now();
        let (warm, end) = (began + spec.warm(), began + spec.warm() + spec.span());
        let (mut first, mut now) = (None, began);
        loop {
            let due = began + schedule.next_due();
            if due > end {
                break;
            }
            if due >= warm && first.is_none() {
                first = Some(meter.read());
            }
            if due > now {
                now = alarm.ring_at(due).await?;
            }
            // What cannot be made yet is made later; it was due when it was.
            self.until_there_is_room(end).await?;
            self.make(due, due >= warm);
        }
        // All that were due are waited for: those that take longest are the ones that must not be missing.
        self.until_all_are_answered(end).await?;
        let mut outcome = self.shared.tally().outcome(spec);
        let first = first.ok_or("no call was due: the rate is too small for the span")?;
        first.until(&meter.read(), &mut outcome);
        Ok(outcome)
    }

    fn make(&mut self, at: Instant, counts: bool) {
        self.shared.outstanding.fetch_add(1, Ordering::Relaxed);
        drop((self.spawn)(self.next, Due { at, counts, shared: self.shared.clone() }));
        self.next += 1;
    }

    async fn until_there_is_room(&self, end: Instant) -> Result<(), Error> {
        while self.outstanding() >= OUTSTANDING_MAX {
            tokio::task::yield_now().await;
            if Instant::now() > end + PATIENCE {
                return Err("the server has stopped to answer".into());
            }
        }
        Ok(())
    }

    async fn until_all_are_answered(&self, end: Instant) -> Result<(), Error> {
        while self.outstanding() > 0 && Instant::now() < end + PATIENCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if let Some(error) = self.shared.failed.lock().expect("nobody panics with it").take() {
            return Err(error);
        }
        if self.outstanding() > 0 { Err("replies do not come".into()) } else { Ok(()) }
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("nobody panics with it")
    }
}

/// Waits to the microsecond: the runtime's own timers only know milliseconds.
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
        let wait = at.saturating_duration_since(Instant::now());
        if wait < SHORT {
            // Others have their turn in any case, or a client that is too slow would send and never receive.
            for turn in 1.. {
                give_way(turn).await;
                let now = Instant::now();
                if now >= at {
                    return Ok(now);
                }
            }
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

/// Lets other tasks run, and now and then sockets be looked at. With the runtime's `yield_now` alone, which waits until
/// nobody else has anything to do, calls would come late just where tasks are busy.
async fn give_way(turn: u64) {
    if turn % 16 == 1 {
        return tokio::task::yield_now().await;
    }
    let mut asked = false;
    std::future::poll_fn(|cx| {
        if asked {
            return Poll::Ready(());
        }
        asked = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A timer's alarm comes later than what is shorter than this would.
const SHORT: Duration = Duration::from_micros(20);
/// Calls that the client has made and not yet seen the reply of. More than that, frameworks refuse.
const OUTSTANDING_MAX: usize = 1024;
/// How long the last replies may take.
const PATIENCE: Duration = Duration::from_secs(10);
