//! How a case is run: on a runtime of its own, in a thread of its own, under a watchdog.

use std::future::{Future, IntoFuture};
use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::fixture::{Carrier, Fixture, Placement};
use crate::table;

/// For whatever has to happen at once: a guard against hanging, not a measurement.
pub(crate) const GUARD: Duration = Duration::from_secs(20);
/// For a whole case.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Runs one case, unless the table says that it cannot be.
pub(crate) fn run<F: Future<Output = ()>>(
    case: &'static str,
    test: impl FnOnce(Fixture) -> F + Send + 'static,
    carrier: Carrier,
    placement: Placement,
) {
    if let Some(why) = table::why_not(case, carrier, placement) {
        println!("not here: {why}");
        return;
    }
    under_watchdog(WATCHDOG, move || {
        let runtime = runtime(placement.client_threads());
        runtime.block_on(test(Fixture { carrier, placement }));
        // Handlers that block for ever would hold up its drop.
        runtime.shutdown_timeout(Duration::from_millis(500));
    });
}

/// Runs `f` in a thread, and fails if it does not come to an end: a deadlock stops timers, too.
pub(crate) fn under_watchdog(limit: Duration, f: impl FnOnce() + Send + 'static) {
    let (done, finished) = channel::<()>();
    let thread = std::thread::spawn(move || {
        let _done = done;
        f();
    });
    match finished.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("not at an end after {limit:?}"),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    }
}

/// A runtime of one thread, or of several.
pub(crate) fn runtime(threads: usize) -> Runtime {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().expect("a runtime")
}

/// The output of `future`, which has to come at once.
pub(crate) async fn soon<F: IntoFuture>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(GUARD, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {GUARD:?}: {what}"),
    }
}

/// Waits until `condition` holds, which has to be soon.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < GUARD, "not within {GUARD:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The output of a blocking closure on a plain thread, which no runtime knows.
pub(crate) async fn on_plain_thread<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let _ = sender.send(f());
    });
    match soon("a plain thread", receiver).await {
        Ok(output) => output,
        Err(_) => match thread.join() {
            Err(panic) => resume_unwind(panic),
            Ok(()) => panic!("the thread said nothing"),
        },
    }
}
