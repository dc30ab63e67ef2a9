//! Streams whose receivers take nothing.
//!
//! One with items that wait for credit has a time from then on, `Limits::stream_idle`, and anew with each credit that comes. A
//! stream without items may be quiet for as long as it likes: whether its receiver is still there is the keepalive's business.
//! No timer is armed for it: the sweep that follows gives it its time, and the next one is when the first of them is over.

use std::task::Waker;
use std::time::{Duration, Instant};

use super::Streams;
use super::sending::Outgoing;
use crate::error::Reason;
use crate::protocol::fail::Failure;

impl Streams {
    /// Whether streams have begun to wait that have no time yet.
    pub(crate) fn unstamped(&self) -> bool {
        self.unstamped
    }

    /// Gives those that wait their time, and ends those whose time is over. Returns when the next one's is.
    pub(crate) fn sweep(&mut self, now: Instant, limit: Duration, wakers: &mut Vec<Waker>) -> Option<Instant> {
        self.unstamped = false;
        let mut next: Option<Instant> = None;
        let mut overdue = Vec::new();
        for stream in self.sending.iter_mut() {
            if !stream.waits() {
                stream.idle_at = None;
                continue;
            }
            let at = *stream.idle_at.get_or_insert(now + limit);
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
            } else {
                overdue.push((stream.id(), stream.call()));
            }
        }
        for (id, call) in overdue {
            self.give_up(id, call, limit, wakers);
        }
        next
    }

    /// What waits goes nowhere any more, and what makes it hears of that. What was sent can still be taken.
    fn give_up(&mut self, id: u64, call: u64, after: Duration, wakers: &mut Vec<Waker>) {
        self.mute(id, wakers);
        let failure = Failure::maybe_executed(Reason::StreamIdle { after });
        if let Some(stream) = self.sending.get_mut(id) {
            stream.verdict = Some(failure);
        }
        // One that a handler sends ends with the handler.
        if self.is_mine(call) {
            self.finish_sending(id, Ok(()));
        }
    }
}

impl Outgoing {
    /// Whether there are items for which there is no credit.
    fn waits(&self) -> bool {
        !self.is_muted() && (self.is_out_of_credit() || self.awaits_its_turn())
    }
}
