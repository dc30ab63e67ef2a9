//! A call whose result is called before it is there, as its caller sees it.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::Sleep;

use super::exchange::Exchange;
use super::opener::{Opener, Prepared, Told};
use super::outcome::decode;
use super::witness::Witness;
use super::{Call, CallFuture, Terms};
use crate::client::{Client, ServiceClient};
use crate::clock;
use crate::connection::{Link, Next};
use crate::context::{Scope, waiting_would_deadlock};
use crate::error::{CallError, Reason};
use crate::frame::StreamCounts;
use crate::object::{self, Passing};
use crate::protocol::NewCall;
use crate::protocol::extras::Sent;
use crate::waiter::block_on;
use crate::wire::{Arguments, Output};

/// What a method returns whose result can be called before it is there: a client.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no client, so nothing could be called on it before it is there",
    label = "only the call of a method that returns a client can be pipelined",
    note = "a method can return the client of a service, or a `Result` with one: `async fn open(&self) -> Result<DbClient, E>`"
)]
pub trait Pipelinable: ServiceClient {}

#[diagnostic::do_not_recommend]
impl<C: ServiceClient> Pipelinable for C {}

/// A client that a call is going to return, which can be called already.
///
/// It is used like the client itself, to which it dereferences; `.await` gives what the call returned: a client that has
/// nothing to do with the call any more, or the error. See [`Call::pipelined`].
///
/// Clones of the client inside, `(*db).clone()`, are the same as this.
#[must_use = "dropping it cancels the call, unless a call has been made on its result"]
pub struct Pipelined<R: Output> {
    client: R::Ok,
    opened: Opened<R>,
}

impl<'a, A: Arguments, R: Output> Call<'a, A, R> {
    /// Makes the call and gives the client that it is going to return at once, so that calls on that leave right behind it:
    /// one round trip for all of them, instead of one each.
    ///
    /// Those calls run when the client is there, in the order in which they were made. They fail as not executed, with
    /// [`Reason::NoResult`], if the call fails or returns an error; what became of it is said by awaiting what this returns.
    /// Each has a deadline of its own, which runs while it waits.
    ///
    /// Where limits are reached the call waits, and those on its result with it. Where there is not even memory to wait in it
    /// waits for that.
    ///
    /// Until the call has been answered, dropping all of what came of it cancels it: the clients, calls made on them, and
    /// whoever awaits its outcome. But once a oneway call has been made on it, it goes on.
    ///
    /// A client that is not there yet cannot be handed over in another call: that is the part of what `.await` gives. Where
    /// the method returns a client that its own caller has passed it, calls that do not wait for it fail with
    /// [`NoResult::Own`](crate::NoResult::Own).
    ///
    /// ```no_run
    /// # use trunkline_core::{Call, CallError, Client, ServiceClient, Pipelined, wire::{Arguments, Output}};
    /// # async fn example<A: Arguments, C: ServiceClient, R: Output<Ok = C, Err = String>>(open: Call<'_, A, R>)
    /// # -> Result<(), CallError<String>> {
    /// let db = open.pipelined();
    /// // let rows = db.query("select").await;
    ///
    /// let db: C = db.await?; // why, if there is none
    /// # Ok(()) }
    /// ```
    pub fn pipelined(self) -> Pipelined<R>
    where
        R::Ok: Pipelinable,
    {
        let method = self.method;
        let on = self.client.clone();
        let mut call =
            CallFuture { call: self, exchange: Exchange::Unsent, next: Next::GoesOn, witness: Witness::none() };
        let prepared = call.prepare();
        let told = Told {
            on: on.clone(),
            witness: std::mem::replace(&mut call.witness, Witness::none()),
            feeds: call.call.arguments.take_feeds(),
        };
        let opener = Opener::new(&on, method, told);
        opener.begin(prepared);
        let client = R::Ok::from_client(Client::promised(Arc::clone(&opener)));
        Pipelined { client, opened: Opened { opener, patience: Patience::default(), output: PhantomData } }
    }
}

impl<A: Arguments, R: Output> CallFuture<'_, A, R> {
    /// All that can be done before the call is placed.
    fn prepare(&mut self) -> Result<Prepared, Reason> {
        if self.call.client.layers.is_some() {
            self.ask_layers()?;
        }
        let link = &**self.call.client.connection().link();
        let scope = Scope::current();
        let Terms { head, timeout, deadline, nested, hops } = self.call.terms(scope, link)?;
        let extras = self.call.extras(scope, &mut self.witness.span)?;
        let streams = StreamCounts { given: self.call.arguments.streams(), returned: R::STREAMS };
        let (oneway, object, result) = (R::ONEWAY, self.call.client.object(false), true);
        let mut call = NewCall { head, oneway, timeout, deadline, nested, streams, extras, hops, object, result };
        let mut payload = Vec::new();
        let passing = Passing::begin();
        let tail = self.call.arguments.encode(self.call.client.codec, &mut payload);
        let tail = tail.map_err(|error| Reason::Unencodable(error.to_string()))?;
        payload.extend_from_slice(tail);
        if let Some(passed) = passing.end() {
            let beside = Sent::bytes(&call.extras).len();
            let cargo = object::hand_over(&passed, self.call.client.connection().link(), beside, payload.len())?;
            call.extras = Sent::load(call.extras, cargo);
        }
        Ok(Prepared { call, payload })
    }
}

impl<R: Output> Pipelined<R> {
    /// The client, and the outcome of the call, apart. A function rather than a method, so that it hides none of the
    /// client's.
    pub fn split(this: Self) -> (R::Ok, Opened<R>) {
        (this.client, this.opened)
    }
}

impl<R: Output> Deref for Pipelined<R> {
    type Target = R::Ok;

    fn deref(&self) -> &R::Ok {
        &self.client
    }
}

impl<R: Output> IntoFuture for Pipelined<R> {
    type Output = Result<R::Ok, CallError<R::Err>>;
    type IntoFuture = Opened<R>;

    fn into_future(self) -> Opened<R> {
        self.opened
    }
}

impl<R: Output> fmt::Debug for Pipelined<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pipelined").field(&self.opened.opener).finish()
    }
}

/// The outcome of a call that was [pipelined](Call::pipelined).
///
/// # Cancel safety
///
/// `&mut` it to wait for it in pieces: a poll that is not ready loses nothing. Dropping it does not cancel the call as long as
/// there is a client of its result.
#[must_use = "futures do nothing unless polled"]
pub struct Opened<R> {
    opener: Arc<Opener>,
    patience: Patience,
    output: PhantomData<fn() -> R>,
}

impl<R: Output> Opened<R> {
    /// Blocks the thread until the call has its outcome.
    ///
    /// # Errors
    ///
    /// As [`Call::wait`].
    pub fn wait(mut self) -> Result<R::Ok, CallError<R::Err>> {
        if waiting_would_deadlock() {
            return Err(CallError::MaybeExecuted(Reason::WouldBlockRuntime));
        }
        let link = Arc::clone(self.opener.client().connection().link());
        block_on(|cx| self.poll_outcome(cx), |waiter| link.read_here(waiter))
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Result<R::Ok, CallError<R::Err>>> {
        // A call that is not placed has nobody else to watch the time.
        if let Some(deadline) = self.opener.expire(clock::now()) {
            if self.patience.poll(&**self.opener.client().connection().link(), deadline, cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        let mut answer = ready!(self.opener.poll_answer(cx));
        Poll::Ready(decode::<R>(self.opener.client(), self.opener.method(), &mut answer))
    }
}

impl<R: Output> Future for Opened<R> {
    type Output = Result<R::Ok, CallError<R::Err>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let outcome = ready!(self.poll_outcome(cx));
        coop.made_progress();
        Poll::Ready(outcome)
    }
}

impl<R> fmt::Debug for Opened<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Opened").field(&self.opener).finish()
    }
}

/// How long somebody waits for what the connection does not watch: that a call is placed which is not its own.
#[derive(Debug, Default)]
pub(super) struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// Ready when it is over.
    pub(super) fn poll(&mut self, link: &dyn Link, deadline: std::time::Instant, cx: &mut Context<'_>) -> Poll<()> {
        // A thread that waits is in no runtime, but the connection is.
        let _runtime = link.runtime().enter();
        let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if timer.deadline() != deadline.into() {
            timer.as_mut().reset(deadline.into());
        }
        timer.as_mut().poll(cx)
    }
}
