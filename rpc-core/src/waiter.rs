//! Who waits for a call and may read the reply itself.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Who reads for a call of its own.
pub(crate) trait Reader {
    /// What the call wakes.
    fn waker(&self) -> &Waker;
    /// Whether there is reason to poll the call again.
    fn is_woken(&self) -> bool;
    /// Instead of waking it: it is the one who reads.
    fn note(&self);
}

/// What a thread that waits is woken with.
pub(crate) struct Waiter {
    signal: Arc<Signal>,
    waker: Waker,
}

impl Waiter {
    fn new() -> Waiter {
        let signal = Arc::new(Signal { thread: thread::current(), woken: AtomicBool::new(false) });
        Waiter { waker: Waker::from(Arc::clone(&signal)), signal }
    }

    fn forget(&self) {
        self.signal.woken.store(false, Ordering::Relaxed);
    }
}

impl Reader for Waiter {
    fn waker(&self) -> &Waker {
        &self.waker
    }

    fn is_woken(&self) -> bool {
        // Pairs with the Release in `wake_by_ref`, for wakers that have no lock in common with who waits.
        self.signal.woken.load(Ordering::Acquire)
    }

    fn note(&self) {
        self.signal.woken.store(true, Ordering::Relaxed);
    }
}

/// A future in one of its polls.
pub(crate) struct Glance<'a> {
    waker: &'a Waker,
    noted: Cell<bool>,
}

impl<'a> Glance<'a> {
    pub(crate) fn new(waker: &'a Waker) -> Glance<'a> {
        Glance { waker, noted: Cell::new(false) }
    }
}

impl Reader for Glance<'_> {
    fn waker(&self) -> &Waker {
        self.waker
    }

    /// Whom others wake is polled once more; here only what this poll has seen counts.
    fn is_woken(&self) -> bool {
        self.noted.get()
    }

    fn note(&self) {
        self.noted.set(true);
    }
}

/// Polls something on this thread until it is ready. In between, where the poll does not do that itself, `read` may have the
/// thread read what the connection brings ([`read_here`](crate::connection::Link::read_here)); then it sleeps.
pub(crate) fn block_on<R>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>, read: impl Fn(&Waiter)) -> R {
    thread_local! {
        static WAITER: Waiter = Waiter::new();
    }
    WAITER.with(|waiter| {
        let mut cx = Context::from_waker(waiter.waker());
        loop {
            waiter.forget();
            if let Poll::Ready(output) = poll(&mut cx) {
                return output;
            }
            read(waiter);
            if !waiter.is_woken() {
                // Spurious returns only poll once more.
                thread::park();
            }
        }
    })
}

/// The same where no connection is in sight.
pub(crate) fn park_on<R>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> R {
    let waiter = Waiter::new();
    let mut cx = Context::from_waker(waiter.waker());
    loop {
        if let Poll::Ready(output) = poll(&mut cx) {
            return output;
        }
        thread::park();
    }
}

struct Signal {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
