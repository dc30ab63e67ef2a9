//! Handlers that run in tasks of their own.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll};
use std::time::Instant;

use tokio::runtime::Handle;

use super::control::Stop;
use super::{Running, drop_guarded};
use crate::connection::Connection;
use crate::context::{Context, allow_wait};
use crate::error::Reason;
use crate::protocol::{Encoded, Failure, Finish};
use crate::service::Route;

/// The handlers of a connection that run in tasks, by call.
#[derive(Default)]
pub(super) struct Tasks(Mutex<HashMap<u64, Context>>);

impl Tasks {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<u64, Context>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop(&self, id: u64, why: Stop) {
        let context = self.lock().get(&id).map(Context::share_out);
        if let Some(context) = context {
            context.control().stop(why);
        }
    }
}

/// A handler in a task of its own.
pub(super) struct Task {
    id: u64,
    connection: Connection,
    tasks: Arc<Tasks>,
    route: Arc<Route>,
    running: Option<Box<Running>>,
    /// The handler has been polled, so that nobody may say that it was not.
    pub(super) started: bool,
    /// It has stood in the runtime's queue. A task just spawned stands in front of it, where tokio wakes no other
    /// worker: if it computes, and this worker was the one that watches the sockets, nobody reads until it is done.
    pub(super) queued: bool,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(running) = &mut this.running else {
            return Poll::Ready(());
        };
        let control = running.context.control();
        control.register(cx.waker());
        let stopped = control.why();
        if stopped != Stop::No && !this.route.method.options.no_cancel {
            this.end(stopped);
            return Poll::Ready(());
        }
        if !std::mem::replace(&mut this.queued, true) && !this.started {
            // Who wakes itself goes to the end of the queue, and another worker is called to look at it.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let first = !std::mem::replace(&mut this.started, true);
        let began = first.then(Instant::now);
        let polled = running.poll(this.connection.link().id(), cx);
        if let Some(began) = began {
            this.route.ran(began.elapsed());
        }
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready((how, payload)) => {
                this.leave(&how);
                this.finish(how, payload);
                Poll::Ready(())
            }
        }
    }
}

impl Task {
    /// A handler that is to run in a task, and known to `tasks` from now on.
    pub(super) fn new(
        id: u64,
        connection: Connection,
        tasks: &Arc<Tasks>,
        route: &Arc<Route>,
        running: Box<Running>,
        queued: bool,
    ) -> Task {
        running.context.control().stamp();
        tasks.lock().insert(id, running.context.share_out());
        Task {
            id,
            connection,
            tasks: Arc::clone(tasks),
            route: Arc::clone(route),
            running: Some(running),
            started: false,
            queued,
        }
    }

    /// Runs the handler on this thread, which may block. The stream that it returns is polled as any other: it would keep one
    /// of the few threads there are for as long as it lasts.
    pub(super) fn run_blocking(self, runtime: &Handle) {
        let mut task = Some(self);
        let returned = poll_fn(|cx| {
            let polled = task.as_mut().map_or(Poll::Ready(()), |task| Pin::new(task).poll(cx));
            if polled.is_ready() {
                task = None;
            }
            let streams = task.as_ref().and_then(|task| task.running.as_ref());
            let streams = streams.is_some_and(|running| running.context.control().has_replied());
            if streams { Poll::Ready(()) } else { polled }
        });
        allow_wait(|| runtime.block_on(returned));
        if let Some(task) = task {
            runtime.spawn(task);
        }
    }

    /// Drops the handler and says so.
    fn end(&mut self, why: Stop) {
        let reason = match why {
            Stop::Expired => Reason::DeadlineExceeded,
            Stop::No | Stop::Cancelled | Stop::Lost => Reason::Cancelled,
        };
        let failure = if self.started { Failure::maybe_executed(reason) } else { Failure::not_executed(reason) };
        let how = Finish::Failed(failure);
        self.leave(&how);
        self.finish(how, Encoded::EMPTY);
    }

    /// Lets go of the handler. With the place of an object's, the object itself may go.
    fn leave(&mut self, how: &Finish) {
        if let Some(mut running) = self.running.take() {
            running.context.keep_back();
            running.clear();
            running.span.end(how);
            drop_guarded(running);
        }
    }

    fn finish(&mut self, how: Finish, payload: Encoded<'_>) {
        self.tasks.lock().remove(&self.id);
        self.connection.link().finish(self.id, how, payload);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // The runtime is shutting down.
        if self.running.is_some() {
            self.end(Stop::Lost);
        }
    }
}
