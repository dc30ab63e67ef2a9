//! A call whose result is called before it is there, after it has been made.
//!
//! Nobody need poll it: whatever happens to it wakes its [`Bell`], and that looks after it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use super::witness::Witness;
use crate::body::Parts;
use crate::client::Client;
use crate::clock;
use crate::connection::{Link, Next, wake_all};
use crate::error::{CallError, NoResult, Reason};
use crate::frame::{RESULT, timeout_units};
use crate::method::MethodDescriptor;
use crate::object::Closed;
use crate::protocol::extras::Sent;
use crate::protocol::{Answer, Begun, Class, Failure, NewCall, Ticket, Waited};
use crate::streaming::Feed;
use crate::wire::Half;

/// The call, for all who have to do with it: the clients of its result, and who waits for its outcome.
pub(crate) struct Opener {
    /// A client of the connection, as the one that made the call.
    client: Client,
    method: &'static MethodDescriptor,
    /// The id of the result; [`UNKNOWN`] as long as the call has not been placed, [`NONE`] once it is known that there is none.
    object: AtomicU64,
    /// A oneway call was made on the result, which nobody waits for.
    left: AtomicBool,
    bell: Arc<Bell>,
    /// Never held while anybody else's code runs, the connection's included.
    state: Mutex<State>,
}

/// The highest id of a call's result.
pub(super) const OBJECT_MAX: u64 = u64::MAX - 2;
/// Not known yet.
const UNKNOWN: u64 = u64::MAX;
/// There is none, nor will there be.
const NONE: u64 = u64::MAX - 1;

struct State {
    stage: Stage,
    /// The id of the call once it has been placed, of whose result a release is owed; else 0.
    placed: u64,
    /// The bell has rung while somebody looked.
    again: bool,
    /// Why there is no result.
    failed: Option<NoResult>,
    /// Until the outcome is known.
    told: Option<Told>,
}

/// Whom the outcome concerns.
pub(super) struct Told {
    /// The client that the call was made on: where it is itself a result that is not there yet, it must stay.
    pub(super) on: Client,
    pub(super) witness: Witness,
    /// Streams among the arguments.
    pub(super) feeds: Vec<Feed>,
}

/// A call, encoded.
pub(super) struct Prepared {
    pub(super) call: NewCall,
    pub(super) payload: Vec<u8>,
}

enum Stage {
    /// To be placed when that is possible.
    Behind(Box<Prepared>),
    /// In the queue.
    Waiting(Ticket),
    /// In a slot.
    Placed(u64),
    /// Answered.
    Answered(Answer),
    /// Its answer has been fetched.
    Fetched,
    /// Somebody looks after it.
    Busy,
}

impl Opener {
    pub(super) fn new(client: &Client, method: &'static MethodDescriptor, told: Told) -> Arc<Opener> {
        Arc::new_cyclic(|opener| Opener {
            client: client.on_connection(),
            method,
            object: AtomicU64::new(UNKNOWN),
            left: AtomicBool::new(false),
            bell: Arc::new(Bell { opener: Weak::clone(opener), waiting: Mutex::default() }),
            state: Mutex::new(State { stage: Stage::Fetched, placed: 0, again: false, failed: None, told: Some(told) }),
        })
    }

    pub(super) fn begin(&self, prepared: Result<Prepared, Reason>) {
        self.lock().stage = match prepared {
            Ok(prepared) => Stage::Behind(Box::new(prepared)),
            Err(reason) => Stage::Answered(Answer::Failed(Failure::not_executed(reason))),
        };
        self.look();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self) -> &dyn Link {
        &**self.client.connection().link()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn method(&self) -> &'static MethodDescriptor {
        self.method
    }

    /// The id of the result, for a call on it; above [`OBJECT_MAX`] if that is not known.
    pub(crate) fn object(&self, oneway: bool) -> u64 {
        if oneway {
            self.left.store(true, Ordering::Relaxed);
        }
        self.object.load(Ordering::Acquire)
    }

    /// Ready when the id of the result is known, or it is known that there is none.
    pub(super) fn poll_object(&self, cx: &mut Context<'_>) -> Poll<Result<u64, Reason>> {
        if self.object.load(Ordering::Acquire) == UNKNOWN {
            self.bell.add(cx.waker());
        }
        // After that, so that nothing is missed in between.
        match self.object.load(Ordering::Acquire) {
            UNKNOWN => Poll::Pending,
            NONE => Poll::Ready(Err(self.failed())),
            object => Poll::Ready(Ok(object)),
        }
    }

    fn failed(&self) -> Reason {
        let failed = self.lock().failed.clone();
        Reason::NoResult(failed.unwrap_or(NoResult::NoClient))
    }

    /// The answer, once.
    pub(super) fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<Answer> {
        if let Some(answer) = self.take_answer() {
            return Poll::Ready(answer);
        }
        self.bell.add(cx.waker());
        // After that, so that nothing is missed in between.
        self.take_answer().map_or(Poll::Pending, Poll::Ready)
    }

    fn take_answer(&self) -> Option<Answer> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.stage, Stage::Fetched) {
            Stage::Answered(answer) => Some(answer),
            stage => {
                state.stage = stage;
                None
            }
        }
    }

    /// Gives up a call that has not been placed when its time is over; when that is.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let Stage::Behind(prepared) = &state.stage else {
            return None;
        };
        let deadline = prepared.call.deadline?;
        if deadline <= now {
            let failure = Failure::not_executed(Reason::DeadlineExceeded);
            let given_up = std::mem::replace(&mut state.stage, Stage::Answered(Answer::Failed(failure)));
            drop(state);
            drop(given_up);
            self.link().tidy();
            self.look();
        }
        Some(deadline)
    }

    /// Waits until the result can be called no more, and says why.
    pub(crate) async fn closed(&self) -> Closed {
        let opened = std::future::poll_fn(|cx| {
            self.bell.add(cx.waker());
            let state = self.lock();
            let failed = state.failed.is_some();
            if failed || matches!(state.stage, Stage::Answered(_) | Stage::Fetched) {
                return Poll::Ready(!failed);
            }
            Poll::Pending
        });
        if !opened.await {
            return self.link().ended().map_or(Closed::NoResult, Closed::Connection);
        }
        let object = self.object(false);
        let connection = self.client.connection();
        connection.watch(|link| link.closed(object)).await
    }

    /// Looks after the call, and wakes those who wait for it if there is any news.
    fn look(&self) {
        let mut state = self.lock();
        match state.stage {
            Stage::Busy => state.again = true,
            Stage::Answered(_) | Stage::Fetched if state.told.is_none() => {}
            _ => {
                let stage = std::mem::replace(&mut state.stage, Stage::Busy);
                drop(state);
                self.look_at(stage);
            }
        }
    }

    fn look_at(&self, mut stage: Stage) {
        // Also where a layer panics.
        let _rings = Rings(&self.bell);
        let over = loop {
            // A transport of the program's own may panic while it writes. Whether the call has gone out is not known then.
            stage = catch_unwind(AssertUnwindSafe(|| self.advance(stage)))
                .unwrap_or_else(|_| Stage::Answered(Answer::Failed(Failure::maybe_executed(Reason::Cancelled))));
            let mut state = self.lock();
            if !std::mem::take(&mut state.again) {
                let over = if let Stage::Answered(answer) = &stage {
                    let outcome = outcome_of(answer);
                    if let Some(why) = no_result(&outcome).filter(|_| state.failed.is_none()) {
                        self.object.store(NONE, Ordering::Release);
                        state.failed = Some(why);
                    }
                    state.told.take().map(|told| (told, outcome))
                } else {
                    None
                };
                state.stage = stage;
                break over;
            }
        };
        if let Some((mut told, outcome)) = over {
            told.witness.end(&self.client, self.method, &outcome);
        }
    }

    fn advance(&self, stage: Stage) -> Stage {
        match stage {
            Stage::Behind(prepared) => {
                let hands_over = Sent::first_object(&prepared.call.extras).is_some();
                let stage = self.place(prepared);
                if hands_over && !matches!(stage, Stage::Behind(_)) {
                    // Where the call has failed nobody else would notice.
                    self.link().tidy();
                }
                stage
            }
            Stage::Waiting(ticket) => match self.link().poll_waiting(ticket, &mut Some(self.waker())) {
                Waited::Waiting => Stage::Waiting(ticket),
                // It may have its answer already, whose wake-up has gone with that of its place.
                Waited::Placed(id) => self.advance(self.placed(id)),
                Waited::Failed(failure) => Stage::Answered(Answer::Failed(failure)),
            },
            Stage::Placed(id) => {
                let mut answer = Answer::EMPTY;
                match self.link().poll_call(id, &mut Some(self.waker()), &mut answer) {
                    true => Stage::Answered(answer),
                    false => Stage::Placed(id),
                }
            }
            stage => stage,
        }
    }

    /// Places the call, unless what it is made on is itself not placed yet.
    fn place(&self, mut prepared: Box<Prepared>) -> Stage {
        let Prepared { call, payload } = &mut *prepared;
        let before = self.lock().told.as_ref().and_then(|told| told.on.opener().cloned());
        if let Some(before) = before {
            match before.poll_object(&mut Context::from_waker(&self.waker())) {
                Poll::Pending => {
                    // Its time runs from now on.
                    call.deadline.get_or_insert_with(|| clock::now() + call.timeout);
                    return Stage::Behind(prepared);
                }
                Poll::Ready(Err(reason)) => return Stage::Answered(Answer::Failed(Failure::not_executed(reason))),
                Poll::Ready(Ok(object)) => call.object = object,
            }
        }
        if let Some(deadline) = call.deadline {
            call.timeout = deadline.saturating_duration_since(clock::now()).min(call.timeout);
            call.head.timeout = timeout_units(call.timeout);
            if call.head.timeout == 0 {
                return Stage::Answered(Answer::Failed(Failure::not_executed(Reason::DeadlineExceeded)));
            }
        }
        let parts = Parts { head: payload, tail: &[] };
        let begun = self.link().begin(call, parts, &self.waker(), &mut Next::GoesOn);
        match begun {
            Begun::Placed(id) => self.placed(id),
            Begun::Part { id, .. } => {
                self.link().keep(id, std::mem::take(payload).into());
                self.placed(id)
            }
            Begun::Queued(ticket) => Stage::Waiting(ticket),
            Begun::Starved => {
                call.deadline.get_or_insert_with(|| clock::now() + call.timeout);
                Stage::Behind(prepared)
            }
            Begun::Failed(reason) => Stage::Answered(Answer::Failed(Failure::not_executed(*reason))),
        }
    }

    fn placed(&self, id: u64) -> Stage {
        let feeds = {
            let mut state = self.lock();
            state.placed = id;
            state.told.as_mut().map(|told| std::mem::take(&mut told.feeds))
        };
        self.object.store(id | RESULT, Ordering::Release);
        for (at, feed) in (1..).zip(feeds.unwrap_or_default()) {
            feed.start(id + 2 * at, self.client.connection().link());
        }
        Stage::Placed(id)
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.bell))
    }

    /// Gives up what is held of the connection and of others; does nothing the second time. What comes back is the call that
    /// this one was made on, if there is nobody else to drop it.
    fn let_go(&mut self) -> Option<Opener> {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (stage, told) = (std::mem::replace(&mut state.stage, Stage::Fetched), state.told.take());
        let placed = std::mem::take(&mut state.placed);
        // The bells of those behind it, which hold further ones.
        drop(self.bell.take());
        let link = &**self.client.connection().link();
        match stage {
            Stage::Waiting(ticket) => link.abandon_waiting(ticket),
            // What was sent after it for nobody to wait for is wanted all the same, and with it the call that this one was
            // made on.
            Stage::Placed(id) if *self.left.get_mut() => {
                if let Some(before) = told.as_ref().and_then(|told| told.on.opener()) {
                    before.left.store(true, Ordering::Relaxed);
                }
                link.detach(id);
            }
            Stage::Placed(id) => link.abandon(id),
            Stage::Behind(prepared) => {
                drop(prepared);
                link.tidy();
            }
            Stage::Answered(_) | Stage::Fetched | Stage::Busy => {}
        }
        if placed != 0 {
            link.release(placed | RESULT);
        }
        let Told { on, mut witness, feeds } = told?;
        drop(feeds);
        // A layer's panic must not meet that of another in the same row, which would be the end of the process.
        let _ = catch_unwind(AssertUnwindSafe(|| witness.dropped(&self.client, self.method)));
        on.into_opener().and_then(Arc::into_inner)
    }
}

impl Drop for Opener {
    /// Takes a row apart one by one: it may be longer than the stack is deep.
    fn drop(&mut self) {
        let mut next = self.let_go();
        while let Some(mut opener) = next {
            next = opener.let_go();
        }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("method", &format_args!("{}.{}", self.method.service, self.method.name))
            .finish_non_exhaustive()
    }
}

/// What an answer says, whatever it holds.
fn outcome_of(answer: &Answer) -> Result<(), CallError<()>> {
    let half = match answer {
        Answer::Small { half, .. } | Answer::Large { half, .. } => Ok(*half),
        Answer::Failed(failure) => Err(failure),
        Answer::Extended(extended) => match extended.as_ref().map(|extended| &extended.answer) {
            Some(Ok((half, _))) => Ok(*half),
            Some(Err(failure)) => Err(failure),
            None => Ok(Half::Ok),
        },
    };
    match half {
        Ok(Half::Ok) => Ok(()),
        Ok(Half::Err) => Err(CallError::App(())),
        Err(Failure { class: Class::NotExecuted, reason }) => Err(CallError::NotExecuted(reason.clone())),
        Err(Failure { reason, .. }) => Err(CallError::MaybeExecuted(reason.clone())),
    }
}

fn no_result(outcome: &Result<(), CallError<()>>) -> Option<NoResult> {
    match outcome {
        Ok(()) => None,
        Err(CallError::App(())) => Some(NoResult::App),
        Err(CallError::NotExecuted(reason) | CallError::MaybeExecuted(reason)) => Some(reason.clone().into()),
    }
}

/// What the connection wakes when something has happened to the call, and who is woken then in turn.
struct Bell {
    opener: Weak<Opener>,
    waiting: Mutex<Vec<Waker>>,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, waker: &Waker) {
        // Whose it is may do anything when it is cloned: not under the lock.
        let mut new = Some(waker.clone());
        let mut waiting = self.lock();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.extend(new.take());
        }
        drop(waiting);
    }

    fn ring(&self) {
        wake_all(self.take());
    }

    fn take(&self) -> Vec<Waker> {
        std::mem::take(&mut *self.lock())
    }
}

/// Rings at the end, whatever that is.
struct Rings<'a>(&'a Bell);

impl Drop for Rings<'_> {
    fn drop(&mut self) {
        self.0.ring();
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// To look after a call may ring the bells of those behind it, and so on through a row that may be longer than the stack
    /// is deep: a thread looks after one at a time.
    fn wake_by_ref(self: &Arc<Self>) {
        let mut next = Some(Weak::clone(&self.opener));
        let looks = LOOKS.try_with(|looks| match &mut *looks.borrow_mut() {
            Some(rung) => rung.extend(next.take()),
            none => *none = Some(VecDeque::new()),
        });
        while let Some(opener) = next {
            if let Some(opener) = opener.upgrade() {
                // It may be dropped here, with what is the program's: that is not to stop the others either.
                let _ = catch_unwind(AssertUnwindSafe(move || opener.look()));
            }
            // A thread that is ending has no list, and looks at once.
            next = looks.ok().and_then(|()| LOOKS.with_borrow_mut(next_rung));
        }
    }
}

thread_local! {
    /// What has rung on this thread while it looks after a call, in that order; `None` while it does not.
    static LOOKS: RefCell<Option<VecDeque<Weak<Opener>>>> = const { RefCell::new(None) };
}

/// The next that has rung; if there is none, the thread looks no more.
fn next_rung(looks: &mut Option<VecDeque<Weak<Opener>>>) -> Option<Weak<Opener>> {
    let next = looks.as_mut()?.pop_front();
    if next.is_none() {
        *looks = None;
    }
    next
}
