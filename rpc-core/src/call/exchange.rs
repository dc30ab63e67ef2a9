//! Where a call is, from its caller's side.

use std::task::{Context, Poll};

use crate::connection::{Link, Looked, Looker};
use crate::protocol::{Answer, Failure, Ticket, Waited};

/// What a call's future holds of the connection.
#[derive(Debug, Default)]
pub(super) enum Exchange {
    /// Not begun.
    Unsent,
    /// In the queue.
    Waiting(Ticket),
    /// In a slot, and begun. What is left of it is here: this, and behind it the tail of the arguments; so many bytes in all.
    Part { id: u64, head: Vec<u8>, len: usize },
    /// In a slot.
    Placed(u64),
    /// Nothing any more.
    #[default]
    Over,
}

impl Exchange {
    pub(super) fn poll_placed(&mut self, link: &dyn Link, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let ticket = match *self {
            Exchange::Waiting(ticket) => ticket,
            Exchange::Part { .. } => return Poll::Pending,
            _ => return Poll::Ready(Ok(())),
        };
        let mut waker = Some(cx.waker().clone());
        match link.poll_waiting(ticket, &mut waker) {
            Waited::Waiting => Poll::Pending,
            Waited::Placed(id) => {
                *self = Exchange::Placed(id);
                Poll::Ready(Ok(()))
            }
            Waited::Failed(failure) => {
                *self = Exchange::Over;
                Poll::Ready(Err(failure))
            }
        }
    }

    /// Polls for the answer, which may be read here.
    pub(super) fn look(
        &mut self,
        link: &dyn Link,
        looker: Looker,
        cx: &mut Context<'_>,
        answer: &mut Answer,
    ) -> Poll<u64> {
        let Exchange::Placed(id) = *self else {
            return self.poll_answer(link, cx, answer);
        };
        match link.look(id, looker, cx, answer) {
            Looked::Answer => {
                *self = Exchange::Over;
                Poll::Ready(id)
            }
            Looked::Again => Poll::Pending,
            Looked::NoMore => self.poll_answer(link, cx, answer),
        }
    }

    pub(super) fn poll_answer(&mut self, link: &dyn Link, cx: &mut Context<'_>, answer: &mut Answer) -> Poll<u64> {
        let Exchange::Placed(id) = *self else {
            panic!("a call was polled after it had its outcome");
        };
        // Mostly the poll that follows the wake-up finds the answer, and needs no waker of its own.
        if !link.poll_call(id, &mut None, answer) && !link.poll_call(id, &mut Some(cx.waker().clone()), answer) {
            return Poll::Pending;
        }
        *self = Exchange::Over;
        Poll::Ready(id)
    }

    /// Lets go of the call, if there is one; mostly it is over.
    #[inline]
    pub(super) fn abandon(&mut self, link: &dyn Link) {
        if !matches!(self, Exchange::Unsent | Exchange::Over) {
            self.abandon_call(link);
        }
    }

    #[cold]
    fn abandon_call(&mut self, link: &dyn Link) {
        match std::mem::take(self) {
            Exchange::Unsent | Exchange::Over => {}
            Exchange::Waiting(ticket) => link.abandon_waiting(ticket),
            Exchange::Part { id, .. } | Exchange::Placed(id) => link.abandon(id),
        }
    }
}
