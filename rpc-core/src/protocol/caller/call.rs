//! A call that is made, and what becomes of it before it has its answer.

use std::task::Waker;
use std::time::{Duration, Instant};

use crate::error::Reason;
use crate::frame::{CallHead, CallTraits, Lead, StreamCounts};
use crate::protocol::extras::Extras;
use crate::protocol::waiting::Ticket;

/// A call to be made. Its payload travels beside it.
#[derive(Clone, Debug)]
pub(crate) struct NewCall {
    pub(crate) head: CallHead,
    pub(crate) oneway: bool,
    /// The time the call has, from when it was made.
    pub(crate) timeout: Duration,
    /// When that ends; stamped by the next sweep if the call's maker did not read the clock.
    pub(crate) deadline: Option<Instant>,
    /// Made inside a handler that this connection reached: fails rather than waits.
    pub(crate) nested: bool,
    pub(crate) streams: StreamCounts,
    pub(crate) extras: Extras,
    /// How many handlers it has come through.
    pub(crate) hops: u8,
    /// The object of the peer's that it is made on; 0 = a service.
    pub(crate) object: u64,
    /// Its result will be called before it is there.
    pub(crate) result: bool,
}

impl NewCall {
    #[inline(always)]
    pub(super) fn lead(&self) -> Lead {
        let traits = CallTraits { streams: self.streams, hops: self.hops, object: self.object, result: self.result };
        if traits == CallTraits::NONE { Lead::Call(self.head) } else { Lead::Extended(self.head, traits) }
    }
}

/// A call that others have to know of when it has been placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) id: u64,
    pub(crate) streams: StreamCounts,
    /// Its result will be called.
    pub(crate) result: bool,
}

/// What became of a new call.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It is placed, or what is left of it lies here.
    Placed(u64),
    /// A part of it is placed. The rest is to be fed, at once, if there is room, or when the waker is called; or to be kept.
    Part { id: u64, room: bool },
    /// It waits; the payload has been taken.
    Queued(Ticket),
    /// There is no memory for it to wait in; the waker is called when it is worth trying again.
    Starved,
    /// It failed, and was not executed. In a box, so that what mostly happens goes in two registers.
    Failed(Box<Reason>),
}

impl Begun {
    pub(crate) fn failed(reason: Reason) -> Begun {
        Begun::Failed(Box::new(reason))
    }
}

/// What came of an attempt to begin a call whose payload lies with its caller.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It has begun, or has not.
    Done(Begun),
    /// Its first frame is placed; the others are to be [fed](super::Caller::feed), or to be [kept](super::Caller::keep).
    Lent(u64),
    /// It has to wait, and is so long that its payload is to be copied outside of the lock: once more, with the copy.
    Unowned,
}

impl From<Begun> for Attempt {
    fn from(begun: Begun) -> Attempt {
        Attempt::Done(begun)
    }
}

/// How far a lent call got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// There is nothing left to feed: all of it is placed, or the call is over.
    Over,
    /// So many bytes of it are placed.
    Part(usize),
}

/// A waker that is to stand in a slot from now on, once. The one that stood there is dropped with this: not under the lock.
#[derive(Debug, Default)]
pub(crate) struct NewWaker {
    new: Option<Waker>,
    old: Option<Waker>,
}

impl NewWaker {
    pub(super) fn place(&mut self, slot: &mut Option<Waker>) {
        if let Some(new) = self.new.take() {
            self.old = slot.replace(new);
        }
    }
}

impl From<Waker> for NewWaker {
    fn from(waker: Waker) -> NewWaker {
        NewWaker { new: Some(waker), old: None }
    }
}
