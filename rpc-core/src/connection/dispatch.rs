//! Requests become running handlers: on the driver's own task where they are quick, else in tasks of their own.

mod control;
mod tasks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Instant;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Connection, EARLY_MIN, OnEnd};
use crate::body::Body;
use crate::clock;
use crate::context::{Context, Facts};
use crate::error::{ConnectionError, Reason};
use crate::object::{Object, Received};
use crate::protocol::{Brought, Class, Encoded, Event, Events, Failure, Finish, Incoming, Target};
use crate::service::{Handler, Request, Route, Router};
use crate::share::Share;
use crate::telemetry::HandlerSpan;
use control::Stop;
use tasks::{Task, Tasks};

pub(crate) use control::Control;

/// Places kept for the next requests of a service on a connection.
const POOL_MAX: usize = 32;

pub(super) struct Dispatcher {
    router: Arc<Router>,
    runner: Runner,
    on_end: Option<OnEnd>,
}

/// Runs handlers.
struct Runner {
    connection: Connection,
    share: Arc<Share>,
    /// Empty places, by service.
    pools: Vec<Vec<Box<Running>>>,
    tasks: Arc<Tasks>,
    /// On a multi-thread runtime a handler that computes can go on beside the driver; on one thread it can't anyway.
    multi_thread: bool,
    /// Handlers that ended here, whose replies are to be placed.
    done: Done,
    /// There is one event in this turn.
    alone: bool,
    /// Its reply has been placed.
    answered: bool,
    /// The next reply leaves at once: the peer sleeps, and wakes up while the others are made.
    early: bool,
}

/// A place and the context of the handler in it.
pub(crate) struct Running<H: ?Sized = dyn Handler> {
    context: Context,
    /// The same, for the next request, which gives it back: so that counting it costs nothing.
    lent: Option<Context>,
    span: HandlerSpan,
    /// It is of an object: its place goes with it.
    object: bool,
    place: H,
}

impl<H> Running<H> {
    pub(crate) fn new(place: H, context: Context) -> Running<H> {
        Running { context, lent: None, span: HandlerSpan::none(), object: false, place }
    }
}

impl Dispatcher {
    pub(super) fn new(
        connection: Connection,
        router: Arc<Router>,
        share: Arc<Share>,
        on_end: Option<OnEnd>,
    ) -> Dispatcher {
        let runner = Runner {
            pools: (0..router.services()).map(|_| Vec::new()).collect(),
            tasks: Arc::default(),
            multi_thread: Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread,
            done: Done::default(),
            alone: false,
            answered: false,
            early: false,
            connection,
            share,
        };
        Dispatcher { router, runner, on_end }
    }

    pub(super) fn is_multi_thread(&self) -> bool {
        self.runner.multi_thread
    }

    /// How the handlers ended that did so here.
    pub(super) fn done(&mut self) -> &mut Done {
        &mut self.runner.done
    }

    /// Does what is asked for; `true` if that was one call, which has been answered.
    pub(super) fn handle_all(&mut self, events: &mut Events, early: bool) -> bool {
        let Dispatcher { router, runner, .. } = self;
        runner.alone = events.len() == 1;
        runner.early = early && events.len() >= EARLY_MIN;
        runner.answered = false;
        // Where they lie: a request is moved once, into the place of its handler.
        events.each(|event, short| match event {
            Event::Request(incoming) => runner.request(router, incoming, short),
            Event::Cancel(id) => runner.tasks.stop(*id, Stop::Cancelled),
            Event::Expire(id) => runner.tasks.stop(*id, Stop::Expired),
        });
        runner.answered
    }

    /// Nothing has come for a while: gives memory back.
    pub(super) fn rest(&mut self) {
        let Runner { pools, done, tasks, .. } = &mut self.runner;
        for pool in pools {
            *pool = Vec::new();
        }
        *done = Done::default();
        tasks.lock().shrink_to_fit();
    }

    /// Nobody waits for anything any more.
    pub(super) fn cancel_all(&mut self) {
        let all: Vec<Context> = self.runner.tasks.lock().drain().map(|(_, context)| context).collect();
        for context in all {
            context.control().stop(Stop::Lost);
        }
    }

    /// Tells the server how the connection ended.
    pub(super) fn report(&mut self, error: &ConnectionError) {
        if let Some(on_end) = self.on_end.take() {
            on_end(error, self.runner.connection.stats());
        }
    }
}

impl Runner {
    /// Serves a request, or has it refused. One whose bytes are short has them among `short`.
    fn request(&mut self, router: &Router, incoming: &mut Incoming, short: &[u8]) {
        let brought = incoming.extras.as_mut().and_then(|extras| extras.brought.take());
        match brought {
            None => self.request_of(router, None, None, incoming, short),
            Some(brought) => self.request_with(router, *brought, incoming, short),
        }
    }

    /// A request that has to do with objects.
    #[cold]
    fn request_with(&mut self, router: &Router, brought: Brought, incoming: &mut Incoming, short: &[u8]) {
        if let Some(deadline) = brought.deadline {
            // It has waited for what it is made on.
            incoming.timeout = deadline.saturating_duration_since(clock::now()).min(incoming.timeout);
        }
        let received = brought.claim.map(|claim| Received::new(claim, &self.connection));
        let object = brought.target.and_then(Target::take);
        let id = incoming.id;
        // What the program has handed out may be dropped with a request that is refused, and panic.
        let begun = catch_unwind(AssertUnwindSafe(|| match &object {
            None => self.request_of(router, None, received, incoming, short),
            Some(object) => self.request_of(object.router(), Some(object), received, incoming, short),
        }));
        if begun.is_err() {
            // One that has been answered already is not answered twice.
            let failure = Failure::maybe_executed(Reason::Panicked);
            self.done.push(id, Finish::Failed(failure), Encoded::EMPTY);
        }
        drop_guarded(object);
    }

    #[inline]
    fn request_of(
        &mut self,
        router: &Router,
        object: Option<&Object>,
        received: Option<Arc<Received>>,
        incoming: &mut Incoming,
        short: &[u8],
    ) {
        let Some(route) = router.route(incoming.head.method) else {
            let reason = Reason::UnknownMethod { service: String::new(), method: String::new() };
            return self.refuse(incoming.id, reason);
        };
        let (ours, theirs) = (route.method.fingerprint, incoming.head.fingerprint);
        if ours != 0 && theirs != 0 && ours != theirs {
            return self.refuse(incoming.id, Reason::SchemaMismatch { ours, theirs });
        }
        let id = incoming.id;
        let options = &route.method.options;
        if incoming.cancelled && !options.no_cancel {
            // It would make a reply for nobody.
            return self.refuse(id, Reason::Cancelled);
        }
        let running = self.begin(router, route, object, received, incoming, short);
        if options.blocking {
            let mut task = self.task(id, route, running);
            task.queued = true;
            let runtime = Handle::current();
            tokio::task::spawn_blocking(move || task.run_blocking(&runtime));
        } else if options.spawn || (self.multi_thread && !route.runs_inline()) {
            tokio::spawn(self.task(id, route, running));
        } else {
            self.run(id, route, running);
        }
    }

    fn refuse(&mut self, id: u64, reason: Reason) {
        self.done.push(id, Finish::Failed(Failure::not_executed(reason)), Encoded::EMPTY);
    }

    /// Puts the request into a place.
    fn begin(
        &mut self,
        router: &Router,
        route: &Route,
        object: Option<&Object>,
        received: Option<Arc<Received>>,
        incoming: &mut Incoming,
        short: &[u8],
    ) -> Box<Running> {
        let Incoming { id, timeout, ref mut payload, streams, hops, ref mut extras, .. } = *incoming;
        let span = HandlerSpan::begin(&self.connection, route.method, extras);
        let mut facts = Facts { id, timeout, hops, extras: extras.take() };
        let context = |facts| Context::new(self.connection.clone(), Arc::clone(&self.share), facts);
        let pooled = if object.is_some() { None } else { self.pools[route.service].pop() };
        let mut running = match pooled {
            None => {
                let mut running = router.place(route.service, context(&mut facts));
                running.object = object.is_some();
                running
            }
            Some(mut running) => {
                if !running.lent.as_ref().is_some_and(|lent| running.context.renew(lent, &facts)) {
                    running.lent = None;
                    if !running.context.reset(&mut facts) {
                        running.context = context(&mut facts);
                    }
                }
                running
            }
        };
        running.span = span;
        let payload = payload.take(short);
        let context = running.lent.take().unwrap_or_else(|| running.context.share_out());
        let request = Request::new(payload, route.method, context, id, streams, received);
        running.place.start(request);
        running
    }

    /// Runs a handler here. If it has to wait for something, a task goes on with it.
    fn run(&mut self, id: u64, route: &Arc<Route>, mut running: Box<Running>) {
        let began = self.multi_thread.then(Instant::now);
        // Whatever the handler waits for is asked again by the task, with the task's own waker.
        let mut cx = task::Context::from_waker(Waker::noop());
        let polled = running.poll(self.connection.link().id(), &mut cx);
        if let Some(began) = began {
            route.ran(began.elapsed());
        }
        match polled {
            Poll::Ready((how, payload)) => {
                running.span.end(&how);
                if (self.alone || self.early) && !running.object && payload.as_slice().len() <= SHORT_MAX {
                    // Its caller has it while the place is cleared.
                    self.connection.link().finish(id, how, payload);
                    self.answered = self.alone;
                    self.early = false;
                } else {
                    self.early = false;
                    self.done.push(id, how, payload);
                }
                if !running.clear() || running.object {
                    return drop_guarded(running);
                }
                let pool = &mut self.pools[route.service];
                if pool.len() < POOL_MAX {
                    pool.push(running);
                }
            }
            Poll::Pending => {
                let mut task = self.task(id, route, running);
                task.started = true;
                tokio::spawn(task);
            }
        }
    }

    fn task(&self, id: u64, route: &Arc<Route>, running: Box<Running>) -> Task {
        Task::new(id, self.connection.clone(), &self.tasks, route, running, !self.multi_thread)
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.cancel_all();
        self.report(&ConnectionError::RuntimeGone);
    }
}

impl Running {
    /// Polls the handler, in its scope. A panic ends the call and nothing else.
    fn poll(&mut self, link: u64, cx: &mut task::Context<'_>) -> Poll<(Finish, Encoded<'static>)> {
        let scope = self.context.scope_of_calls(link);
        let Running { place, context, lent, span, .. } = self;
        let poll = || span.enter(|| scope.enter(|| context.handed(), || place.poll(cx, lent)));
        let polled = catch_unwind(AssertUnwindSafe(poll));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(answer))) => {
                Poll::Ready((Finish::Returned(answer.half, self.context.reply_extras()), answer.payload))
            }
            Ok(Poll::Ready(Err(refusal))) => {
                // There may have been one, which whoever stands around the service has thrown away.
                self.context.keep_back();
                let mut failure = refusal.0;
                // Whoever stands around a service may say anything; the class is not its to choose.
                if self.context.control().has_begun() {
                    failure.class = Class::MaybeExecuted;
                }
                Poll::Ready((Finish::Failed(failure), Encoded::EMPTY))
            }
            Err(panic) => {
                // Its payload is the user's as well, and may panic again when it is dropped.
                drop_guarded(panic);
                self.context.keep_back();
                self.clear();
                Poll::Ready((Finish::Failed(Failure::maybe_executed(Reason::Panicked)), Encoded::EMPTY))
            }
        }
    }

    /// Drops the handler; `false` if that panicked, so that the place is not used again.
    fn clear(&mut self) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.place.clear())).is_ok()
    }
}

/// Drops what belongs to the program, also where that panics: its call is to be answered all the same.
fn drop_guarded<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

/// How calls ended, until it is said.
#[derive(Default)]
pub(super) struct Done {
    calls: Vec<Ended>,
    /// Short replies, one after the other: less to move than each in a place of its own.
    short: Vec<u8>,
}

struct Ended {
    id: u64,
    how: Finish,
    payload: Encoded<'static>,
    /// Bytes of the payload in [`Done::short`].
    short: usize,
}

/// Replies up to this many bytes are short.
const SHORT_MAX: usize = 1024;

impl Done {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    fn push(&mut self, id: u64, how: Finish, payload: Encoded<'static>) {
        let (payload, short) = match payload {
            Encoded::Scratch(bytes) if bytes.len() <= SHORT_MAX => {
                self.short.extend_from_slice(&bytes);
                (Encoded::EMPTY, bytes.len())
            }
            // The thread has but one.
            Encoded::Scratch(bytes) => (Encoded::Own(Body::from(bytes.as_slice())), 0),
            payload => (payload, 0),
        };
        self.calls.push(Ended { id, how, payload, short });
    }

    /// Takes them out, in order.
    pub(super) fn each(&mut self, mut f: impl FnMut(u64, Finish, Encoded<'_>)) {
        let mut rest = &*self.short;
        for Ended { id, how, payload, short } in self.calls.drain(..) {
            let (bytes, others) = rest.split_at(short);
            rest = others;
            f(id, how, if short > 0 { Encoded::There(bytes) } else { payload });
        }
        self.short.clear();
    }
}
