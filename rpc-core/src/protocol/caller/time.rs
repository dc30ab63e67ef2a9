//! Deadlines: one sweep over the calls stamps the new ones and ends the overdue.

use std::task::Waker;
use std::time::Instant;

use super::{Caller, Outcome};
use crate::error::Reason;
use crate::frame::timeout_units;
use crate::protocol::fail::Failure;

impl Caller {
    /// Stamps new calls and ends overdue ones. Returns when the next one is due.
    pub(crate) fn sweep(&mut self, now: Instant, wakers: &mut Vec<Waker>) -> Option<Instant> {
        self.unstamped = false;
        let mut next: Option<Instant> = None;
        let mut overdue = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| slot.id != 0 && slot.wanted && !slot.expired) {
            let deadline = *slot.deadline.get_or_insert(now + slot.timeout);
            if deadline <= now {
                overdue.push(slot.id);
            } else {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        self.waiting.fail_where(
            |call| {
                let deadline = *call.deadline.get_or_insert(now + call.timeout);
                if deadline <= now {
                    return Some(Failure::not_executed(Reason::DeadlineExceeded));
                }
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
                // What it will say to the peer is the time left then, not when it was made.
                call.head.timeout = call.head.timeout.min(timeout_units(deadline - now));
                None
            },
            wakers,
        );
        self.starved.wake(wakers);
        for id in overdue {
            self.expire(id, wakers);
        }
        next
    }

    fn expire(&mut self, id: u64, wakers: &mut Vec<Waker>) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        slot.expired = true;
        let failure = match slot.outgoing {
            // The callee starts nothing before it has all of it.
            Some(_) => Failure::not_executed(Reason::DeadlineExceeded),
            None => Failure::maybe_executed(Reason::DeadlineExceeded),
        };
        match slot.outcome.take() {
            // A small answer lies in its slot and harms nobody; a large one is memory that nobody came for.
            Some(Outcome::Large { bytes, .. }) => {
                slot.outcome = Some(Outcome::Failed(failure));
                self.replies.release(bytes.len() as u64);
            }
            Some(outcome) => slot.outcome = Some(outcome),
            None => {
                slot.outcome = Some(Outcome::Failed(failure));
                wakers.extend(slot.waker.take());
                self.cancel(id);
            }
        }
    }

    /// Whether sweeps have something to do: calls to stamp, or calls that wait, whose time left is kept up to date.
    pub(crate) fn unstamped(&self) -> bool {
        self.unstamped || !self.starved.is_empty() || !self.waiting.is_empty()
    }
}
