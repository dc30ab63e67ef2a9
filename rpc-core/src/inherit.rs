//! What calls inherit from the handler that makes them, taken along to where the handler is not polled.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;

use crate::context::{Handed, Scope};

/// What calls inherit from the handler that makes them: the time that is left, the trace, a low priority; and that they fail
/// rather than wait at a limit of the connection that reached the handler.
///
/// It is kept for the thread that polls the handler, and lost where work goes on elsewhere. [`Context::inherit`] takes it
/// along:
///
/// ```no_run
/// # use trunkline_core::Context;
/// # async fn refresh() {}
/// # fn recount() {}
/// # async fn handler(cx: &Context) {
/// // To a task.
/// let refreshed = tokio::spawn(cx.scope(refresh()));
/// // To a thread that may block, where calls are made by `.wait()`.
/// let inherited = cx.inherit();
/// let recounted = tokio::task::spawn_blocking(move || inherited.run(recount));
/// # let _ = (refreshed, recounted);
/// # }
/// ```
///
/// The task goes on when the handler is done or cancelled; then its calls still end with the deadline.
///
/// [`Context::inherit`]: crate::Context::inherit
#[derive(Clone, Copy)]
pub struct Inherited {
    scope: Scope,
    handed: Handed,
}

impl Inherited {
    pub(crate) fn new(scope: Scope, handed: Handed) -> Inherited {
        Inherited { scope, handed }
    }

    /// A future that is polled with it.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| self.run(|| future.as_mut().poll(cx))).await
    }

    /// Runs `f` with it.
    pub fn run<T>(self, f: impl FnOnce() -> T) -> T {
        self.scope.enter(|| self.handed, f)
    }
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Handed { trace, priority } = &self.handed;
        f.debug_struct("Inherited")
            .field("deadline", &self.scope.deadline)
            .field("trace", trace)
            .field("priority", priority)
            .finish_non_exhaustive()
    }
}
