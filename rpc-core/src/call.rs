//! A call, from the caller's side: a value, then a future, then an outcome.

mod exchange;
mod opener;
mod options;
mod outcome;
mod pipelined;
mod with_metadata;
mod witness;

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::body::Parts;
use crate::call_layer::OutgoingCall;
use crate::client::Client;
use crate::clock;
use crate::connection::polling::step_back;
use crate::connection::{Feeding, Link, Looker, Next};
use crate::context::{Scope, waiting_would_deadlock};
use crate::error::{CallError, Reason};
use crate::frame::{CallHead, StreamCounts, timeout_units};
use crate::limits::Limit;
use crate::method::MethodDescriptor;
use crate::object::{self, Passing};
use crate::protocol::extras::Sent;
use crate::protocol::{Answer, Begun, NewCall};
use crate::rare::Rare;
use crate::scratch::Scratch;
use crate::waiter::block_on;
use crate::wire::{Arguments, Output};
use exchange::Exchange;
use outcome::{failed, outcome};
use witness::Witness;

pub(crate) use opener::Opener;
pub(crate) use options::Options;
pub use pipelined::{Opened, Pipelinable, Pipelined};
pub use with_metadata::WithMetadata;

/// A call that has not been made yet. It borrows its arguments; nothing has been encoded, sent or allocated.
///
/// `.await` it, or [`wait`](Call::wait) for it on a plain thread. Options come before either.
///
/// # Cancel safety
///
/// Dropping the future cancels the call: the peer is told, best effort, and its handler is dropped at its next await, or never
/// begun.
///
/// A future that is not polled any more holds up no others. But what the mechanism does not take at once of a call of more
/// than a megabyte is sent by its own future: until that is polled again, or its time is over, the call stands still.
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<'a, A, R> {
    client: &'a Client,
    method: &'static MethodDescriptor,
    arguments: A,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    options: Rare<Options>,
    output: PhantomData<fn() -> R>,
}

impl<'a, A, R> Call<'a, A, R> {
    pub(crate) fn new(client: &'a Client, method: &'static MethodDescriptor, arguments: A) -> Self {
        Call { client, method, arguments, timeout: None, deadline: None, options: Rare::none(), output: PhantomData }
    }

    /// Gives the call this long, from when it is first polled. At most
    /// [`Limits::deadline_max`](crate::Limits::deadline_max).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self.deadline = None;
        self
    }

    /// Gives the call until then.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self.timeout = None;
        self
    }
}

impl<'a, A: Arguments, R: Output> Call<'a, A, R> {
    /// Makes the call and blocks the thread until it has its outcome.
    ///
    /// Where this is the only call in flight and the connection serves nothing, the thread reads the reply itself: it looks
    /// again for as long as [`Latency`](crate::Latency) says, and then sleeps.
    ///
    /// # Errors
    ///
    /// As the call's; and [`Reason::WouldBlockRuntime`] on a thread of an async runtime, where it could only deadlock.
    /// It works in `#[rpc(blocking)]` handlers and inside [`allow_wait`](crate::allow_wait).
    pub fn wait(self) -> Result<R::Ok, CallError<R::Err>> {
        let mut answer = Answer::EMPTY;
        self.wait_for(&mut answer)
    }

    /// The same, with the answer.
    fn wait_for(self, answer: &mut Answer) -> Result<R::Ok, CallError<R::Err>> {
        if waiting_would_deadlock() {
            return Err(CallError::NotExecuted(Reason::WouldBlockRuntime));
        }
        let (client, method, given) = (self.client, self.method, self.arguments.streams());
        let next = if R::ONEWAY { Next::GoesOn } else { Next::Looks(Looker::Thread) };
        let mut call = CallFuture { call: self, exchange: Exchange::Unsent, next, witness: Witness::none() };
        let answered = block_on(|cx| call.poll_answer(cx, answer), |_| ());
        let result = answered.and_then(|id| outcome::<R>(client, method, answer, id, given));
        call.witness.end(client, method, &result);
        result
    }

    /// Makes the call and returns once it is on its way, with a handle for its outcome. A long one is when all of it is.
    ///
    /// The handle does not borrow the arguments, and keeps the connection open as long as the client would.
    ///
    /// # Errors
    ///
    /// If it can't be sent.
    pub async fn send(self) -> Result<Pending<R>, CallError<R::Err>> {
        let client = self.client.clone();
        let method = self.method;
        let witness = Witness::none();
        let mut call = CallFuture { call: self, exchange: Exchange::Unsent, next: Next::GoesOn, witness };
        let sent = poll_fn(|cx| call.poll_sent(cx)).await;
        if sent.is_err() {
            call.witness.end(&client, method, &sent);
        }
        sent?;
        let exchange = std::mem::take(&mut call.exchange);
        let given = call.call.arguments.streams();
        let witness = std::mem::replace(&mut call.witness, Witness::none());
        Ok(Pending { client, method, exchange, given, witness, output: PhantomData })
    }
}

impl<A: fmt::Debug, R> fmt::Debug for Call<'_, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("service", &self.method.service)
            .field("method", &self.method.name)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

impl<'a, A: Arguments, R: Output> IntoFuture for Call<'a, A, R> {
    type Output = Result<R::Ok, CallError<R::Err>>;
    type IntoFuture = CallFuture<'a, A, R>;

    fn into_future(self) -> CallFuture<'a, A, R> {
        let next = if R::ONEWAY { Next::GoesOn } else { Next::Awaits };
        CallFuture { call: self, exchange: Exchange::Unsent, next, witness: Witness::none() }
    }
}

/// A call being made. Dropping it cancels the call.
#[must_use = "futures do nothing unless polled"]
pub struct CallFuture<'a, A, R> {
    call: Call<'a, A, R>,
    exchange: Exchange,
    next: Next,
    witness: Witness,
}

// Nothing in it is ever pinned: arguments are only encoded.
impl<A, R> Unpin for CallFuture<'_, A, R> {}

impl<A: Arguments, R: Output> Future for CallFuture<'_, A, R> {
    type Output = Result<R::Ok, CallError<R::Err>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = Answer::EMPTY;
        self.get_mut().poll_outcome(cx, &mut answer)
    }
}

impl<A: Arguments, R: Output> CallFuture<'_, A, R> {
    /// The outcome, and the answer that it was in.
    #[inline]
    fn poll_outcome(&mut self, cx: &mut Context<'_>, answer: &mut Answer) -> Poll<Result<R::Ok, CallError<R::Err>>> {
        // A future that is always ready would own its thread: charge the task's budget, as sockets and channels do.
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let answered = ready!(self.poll_answer(cx, answer));
        coop.made_progress();
        let Call { client, method, arguments, .. } = &self.call;
        let outcome = |id| outcome::<R>(client, method, answer, id, arguments.streams());
        if !self.witness.is_there() {
            return Poll::Ready(answered.and_then(outcome));
        }
        let result = answered.and_then(outcome);
        self.witness.end(client, method, &result);
        Poll::Ready(result)
    }

    /// The id of the call, when it has its answer.
    fn poll_answer(&mut self, cx: &mut Context<'_>, answer: &mut Answer) -> Poll<Result<u64, CallError<R::Err>>> {
        let fresh = matches!(self.exchange, Exchange::Unsent);
        ready!(self.poll_sent(cx))?;
        if R::ONEWAY {
            self.exchange = Exchange::Over;
            return Poll::Ready(Ok(0));
        }
        // Whoever has the answer to a call that has just gone out wakes this task; or it looks, and asks to be polled for that.
        if fresh && self.next != Next::Looks(Looker::Thread) {
            if let Next::Looks(_) = self.next {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let link = &**self.call.client.connection().link();
        let polled = match self.next {
            Next::Looks(looker) => self.exchange.look(link, looker, cx, answer),
            Next::Awaits | Next::GoesOn => self.exchange.poll_answer(link, cx, answer),
        };
        polled.map(Ok)
    }

    /// Ready when the call has an id.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError<R::Err>>> {
        if let Exchange::Unsent = self.exchange {
            ready!(self.poll_begin(cx)).map_err(CallError::NotExecuted)?;
        } else if let Exchange::Part { .. } = self.exchange {
            self.feed(cx).map_err(CallError::NotExecuted)?;
        }
        let link = &**self.call.client.connection().link();
        if !matches!(self.exchange, Exchange::Placed(_)) {
            ready!(self.exchange.poll_placed(link, cx)).map_err(|failure| failed(failure, self.call.method))?;
        }
        if let (1.., Exchange::Placed(id)) = (self.call.arguments.streams(), &self.exchange) {
            let link = self.call.client.connection().link();
            for (at, feed) in (1..).zip(self.call.arguments.take_feeds()) {
                feed.start(id + 2 * at, link);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Encodes the arguments, outside any lock, and hands the call to the connection.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        if self.call.client.layers.is_some() && !self.witness.has_begun() {
            self.ask_layers()?;
        }
        let link = &**self.call.client.connection().link();
        let scope = Scope::current();
        let Terms { head, timeout, deadline, nested, hops } = match self.call.terms(scope, link) {
            Ok(terms) => terms,
            Err(reason) => return Poll::Ready(Err(reason)),
        };
        let extras = match self.call.extras(scope, &mut self.witness.span) {
            Ok(extras) => extras,
            Err(reason) => return Poll::Ready(Err(reason)),
        };
        let streams = StreamCounts { given: self.call.arguments.streams(), returned: R::STREAMS };
        let object = self.call.client.object(R::ONEWAY);
        let mut call = NewCall {
            head,
            oneway: R::ONEWAY,
            timeout,
            deadline,
            nested,
            streams,
            extras,
            hops,
            object,
            result: false,
        };
        let mut payload = Scratch::take();
        let passing = Passing::begin();
        let tail = match self.call.arguments.encode(self.call.client.codec, &mut payload) {
            Ok(tail) => tail,
            Err(error) => return Poll::Ready(Err(Reason::Unencodable(error.to_string()))),
        };
        let passed = passing.end();
        if let Some(passed) = &passed {
            let (beside, len) = (Sent::bytes(&call.extras).len(), payload.len() + tail.len());
            let cargo = object::hand_over(passed, self.call.client.connection().link(), beside, len)?;
            call.extras = Sent::load(call.extras, cargo);
        }
        let parts = Parts { head: &payload, tail };
        let len = parts.len();
        if self.next == Next::Awaits {
            let in_task = tokio::task::try_id().is_some();
            self.next = Next::Looks(if in_task { Looker::Task } else { Looker::Future });
        }
        let begun = link.begin(&call, parts, cx.waker(), &mut self.next);
        if passed.is_some() {
            // Where the call has failed, or will be encoded anew, nobody else would notice.
            call.extras = None;
            link.tidy();
        }
        if let Begun::Part { id, room } = begun {
            if tail.is_empty() {
                link.keep(id, payload.into_vec().into());
                self.exchange = Exchange::Placed(id);
            } else {
                self.exchange = Exchange::Part { id, head: payload.into_vec(), len };
                if room {
                    self.step_back(cx);
                }
            }
            return Poll::Ready(Ok(()));
        }
        self.exchange = match begun {
            Begun::Placed(id) | Begun::Part { id, .. } => Exchange::Placed(id),
            Begun::Queued(ticket) => Exchange::Waiting(ticket),
            Begun::Failed(reason) => return self.poll_failed(*reason, &call, cx),
            Begun::Starved => {
                // It will be encoded anew; but its time runs from now. A timeout would begin again at every attempt.
                self.call.timeout = None;
                self.call.deadline.get_or_insert_with(|| clock::now() + call.timeout);
                return Poll::Pending;
            }
        };
        Poll::Ready(Ok(()))
    }

    /// It cannot be placed. Where that is because it is made on the result of a call that has not been placed, it waits for
    /// that.
    #[cold]
    fn poll_failed(&mut self, reason: Reason, call: &NewCall, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        let client = self.call.client;
        let Some(opener) = client.opener().filter(|_| call.object > opener::OBJECT_MAX) else {
            return Poll::Ready(Err(reason));
        };
        match opener.poll_object(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(_)) => cx.waker().wake_by_ref(),
            Poll::Ready(Err(reason)) => return Poll::Ready(Err(reason)),
        }
        // It will be encoded anew, and its time runs from now.
        self.call.timeout = None;
        let deadline = *self.call.deadline.get_or_insert_with(|| clock::now() + call.timeout);
        let patience = &mut self.call.options.get_or_insert_default().patience;
        patience.poll(&**client.connection().link(), deadline, cx).map(|()| Err(Reason::DeadlineExceeded))
    }

    /// Has the connection's layers look at the call before it is encoded.
    #[cold]
    fn ask_layers(&mut self) -> Result<(), Reason> {
        let Call { client, method, timeout, deadline, options, .. } = &mut self.call;
        let Some(layers) = &client.layers else {
            return Ok(());
        };
        let given = match (*timeout, *deadline) {
            (Some(timeout), _) => timeout,
            (None, Some(deadline)) => deadline.saturating_duration_since(clock::now()),
            (None, None) => method.options.timeout.unwrap_or(client.deadline_default),
        };
        let peer = client.connection().peer();
        let mut call = OutgoingCall { method, peer, timeout: given, is_set: false, options };
        self.witness.begin(layers.begin(&mut call)?);
        if call.is_set {
            (*timeout, *deadline) = (Some(call.timeout), None);
        }
        Ok(())
    }

    /// Sends more of a long call, as far as there is room.
    fn feed(&mut self, cx: &mut Context<'_>) -> Result<(), Reason> {
        let Exchange::Part { id, head, len } = &mut self.exchange else {
            return Ok(());
        };
        let link = &**self.call.client.connection().link();
        let payload = Parts { head, tail: self.call.arguments.tail() };
        if payload.len() != *len {
            // Whose `as_ref` says something else each time has itself to blame.
            self.exchange.abandon(link);
            return Err(Reason::Unencodable("its length changed while it was sent".to_owned()));
        }
        match link.feed(*id, payload, cx.waker()) {
            Feeding::Over => self.exchange = Exchange::Placed(*id),
            Feeding::Room => self.step_back(cx),
            Feeding::Blocked => {}
        }
        Ok(())
    }

    /// There is more to do, when others have had their turn. A thread that waits has no others.
    fn step_back(&self, cx: &mut Context<'_>) {
        if self.next == Next::Looks(Looker::Thread) {
            cx.waker().wake_by_ref();
        } else {
            step_back(cx);
        }
    }
}

/// How a call is to be made.
struct Terms {
    head: CallHead,
    timeout: Duration,
    deadline: Option<Instant>,
    nested: bool,
    hops: u8,
}

impl<A, R> Call<'_, A, R> {
    /// How the call is to be made, if it can be.
    fn terms(&self, scope: Option<Scope>, link: &dyn Link) -> Result<Terms, Reason> {
        let client = self.client;
        let explicit = match (self.timeout, self.deadline) {
            (None, None) => None,
            (Some(timeout), _) => {
                let timeout = timeout.min(client.deadline_max);
                Some((timeout, clock::now() + timeout))
            }
            (None, Some(deadline)) => {
                let now = clock::now();
                let timeout = deadline.saturating_duration_since(now).min(client.deadline_max);
                Some((timeout, now + timeout))
            }
        };
        let default = self.method.options.timeout.unwrap_or(client.deadline_default).min(client.deadline_max);
        let mut timeout = explicit.map_or(default, |(timeout, _)| timeout);
        let mut deadline = explicit.map(|(_, deadline)| deadline);
        if let Some(scope) = scope {
            let (left, ends) = match scope.deadline {
                Some(ends) => (ends.saturating_duration_since(clock::now()), Some(ends)),
                None => (scope.timeout, None),
            };
            if left < timeout {
                (timeout, deadline) = (left, ends);
            }
        }
        if timeout.is_zero() {
            return Err(Reason::DeadlineExceeded);
        }
        let head = CallHead {
            method: self.method.id.0,
            fingerprint: self.method.fingerprint,
            timeout: timeout_units(timeout),
        };
        let (mut nested, mut hops) = (false, 0);
        if let Some(scope) = scope {
            nested = scope.link == link.id();
            hops = scope.hops;
            if hops > link.limits().hops {
                return Err(Reason::Overloaded { limit: Limit::Hops });
            }
        }
        Ok(Terms { head, timeout, deadline, nested, hops })
    }
}

impl<A, R> Drop for CallFuture<'_, A, R> {
    fn drop(&mut self) {
        self.exchange.abandon(&**self.call.client.connection().link());
        self.witness.dropped(self.call.client, self.call.method);
    }
}

/// A call that is on its way. Dropping it cancels the call.
///
/// # Cancel safety
///
/// `&mut` it to wait for it in pieces: a poll that is not ready loses nothing.
#[must_use = "dropping it cancels the call"]
pub struct Pending<R> {
    client: Client,
    method: &'static MethodDescriptor,
    exchange: Exchange,
    /// Streams among its arguments.
    given: u8,
    witness: Witness,
    output: PhantomData<fn() -> R>,
}

impl<R: Output> Pending<R> {
    /// Blocks the thread until the call has its outcome.
    ///
    /// # Errors
    ///
    /// As [`Call::wait`]; a refusal to block cancels the call.
    pub fn wait(self) -> Result<R::Ok, CallError<R::Err>> {
        let mut answer = Answer::EMPTY;
        self.wait_for(&mut answer)
    }

    /// The same, with the answer.
    fn wait_for(mut self, answer: &mut Answer) -> Result<R::Ok, CallError<R::Err>> {
        if waiting_would_deadlock() {
            return Err(CallError::MaybeExecuted(Reason::WouldBlockRuntime));
        }
        let link = Arc::clone(self.client.connection().link());
        let id = block_on(|cx| self.poll_answer(cx, answer), |waiter| link.read_here(waiter));
        self.conclude(answer, id)
    }

    /// The outcome, and the answer that it was in.
    fn poll_outcome(&mut self, cx: &mut Context<'_>, answer: &mut Answer) -> Poll<Result<R::Ok, CallError<R::Err>>> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let id = ready!(self.poll_answer(cx, answer));
        coop.made_progress();
        Poll::Ready(self.conclude(answer, id))
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>, answer: &mut Answer) -> Poll<u64> {
        if R::ONEWAY {
            self.exchange = Exchange::Over;
            return Poll::Ready(0);
        }
        self.exchange.poll_answer(&**self.client.connection().link(), cx, answer)
    }

    fn conclude(&mut self, answer: &mut Answer, id: u64) -> Result<R::Ok, CallError<R::Err>> {
        let result = outcome::<R>(&self.client, self.method, answer, id, self.given);
        self.witness.end(&self.client, self.method, &result);
        result
    }
}

impl<R: Output> Future for Pending<R> {
    type Output = Result<R::Ok, CallError<R::Err>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = Answer::EMPTY;
        self.poll_outcome(cx, &mut answer)
    }
}

impl<R> fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("service", &self.method.service)
            .field("method", &self.method.name)
            .finish_non_exhaustive()
    }
}

impl<R> Drop for Pending<R> {
    fn drop(&mut self) {
        self.exchange.abandon(&**self.client.connection().link());
        self.witness.dropped(&self.client, self.method);
    }
}
