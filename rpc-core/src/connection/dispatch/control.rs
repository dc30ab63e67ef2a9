//! What a handler may be told while it runs, and how long it has.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::clock;

/// Why a handler should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stop {
    No = 0,
    Cancelled = 1,
    Expired = 2,
    /// The connection is gone.
    Lost = 3,
}

/// What the driver, a handler's task and its context share.
pub(crate) struct Control {
    /// A [`Stop`]. Set once; Release pairs with the Acquire of whoever asks.
    stop: AtomicU8,
    /// Its arguments have been read, so that nobody may say that the handler has not started.
    begun: AtomicBool,
    /// The reply is out and streams go on: the deadline was the reply's.
    replied: AtomicBool,
    timeout: Timeout,
    /// When `timeout` ends. Not known as long as the handler is in its first poll and nobody has asked.
    deadline: OnceLock<Instant>,
    /// The task the handler runs in.
    task: Mutex<Option<Waker>>,
    stopped: Notify,
}

impl Control {
    pub(crate) fn new(timeout: Duration) -> Control {
        Control {
            stop: AtomicU8::new(Stop::No as u8),
            begun: AtomicBool::new(false),
            replied: AtomicBool::new(false),
            timeout: Timeout::new(timeout),
            deadline: OnceLock::new(),
            task: Mutex::new(None),
            stopped: Notify::new(),
        }
    }

    /// For the next handler, where the last one ended in its first poll and asked for nothing; nobody else has it.
    pub(crate) fn renew(&self, timeout: Duration) -> bool {
        let Control { stop, begun, replied, timeout: known, deadline, task: _, stopped: _ } = self;
        if stop.load(Ordering::Relaxed) != Stop::No as u8 || deadline.get().is_some() {
            return false;
        }
        begun.store(false, Ordering::Relaxed);
        replied.store(false, Ordering::Relaxed);
        known.set(timeout);
        true
    }

    /// The handler is about to start.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether its arguments have been read.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    pub(super) fn why(&self) -> Stop {
        match self.stop.load(Ordering::Acquire) {
            0 => Stop::No,
            1 => Stop::Cancelled,
            2 => Stop::Expired,
            _ => Stop::Lost,
        }
    }

    pub(super) fn stop(&self, why: Stop) {
        let _ = self.stop.compare_exchange(Stop::No as u8, why as u8, Ordering::AcqRel, Ordering::Acquire);
        self.stopped.notify_waiters();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.wake();
        }
    }

    pub(super) fn register(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    /// Its time runs from now at the latest.
    pub(super) fn stamp(&self) {
        self.deadline();
    }

    pub(crate) fn deadline(&self) -> Instant {
        *self.deadline.get_or_init(|| clock::now() + self.timeout.get())
    }

    /// What the handler does from now on has no deadline.
    pub(crate) fn outlive(&self) {
        self.replied.store(true, Ordering::Relaxed);
    }

    /// Whether the reply is out.
    pub(crate) fn has_replied(&self) -> bool {
        self.replied.load(Ordering::Relaxed)
    }

    /// The time that the handler's calls have, and when that ends, if it is known.
    pub(crate) fn time(&self) -> (Duration, Option<Instant>) {
        if self.has_replied() {
            return (Duration::MAX, None);
        }
        (self.timeout.get(), self.deadline.get().copied())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.why() != Stop::No
    }

    pub(crate) async fn stopped(&self) {
        loop {
            let notified = self.stopped.notified();
            if self.is_stopped() {
                return;
            }
            notified.await;
        }
    }
}

/// A duration that is set before anybody reads it, through a shared reference.
struct Timeout {
    secs: AtomicU64,
    nanos: AtomicU32,
}

impl Timeout {
    fn new(timeout: Duration) -> Timeout {
        Timeout { secs: AtomicU64::new(timeout.as_secs()), nanos: AtomicU32::new(timeout.subsec_nanos()) }
    }

    fn set(&self, timeout: Duration) {
        self.secs.store(timeout.as_secs(), Ordering::Relaxed);
        self.nanos.store(timeout.subsec_nanos(), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::new(self.secs.load(Ordering::Relaxed), self.nanos.load(Ordering::Relaxed))
    }
}
