//! What leaves: replies and failures, at once where there is room and credit, else when there is.

use std::task::Waker;

use super::{Callee, Entry, Finish, State, failure_message};
use crate::error::Reason;
use crate::frame::{Extended, Head, Kind, Lead, StreamCounts, place_reply};
use crate::protocol::caller::REPLY_INLINE_MAX;
use crate::protocol::extras::Sent;
use crate::protocol::fail::{Class, Failure};
use crate::protocol::message::{APART_LEN_MIN, ChunkLen, Message, Progress};
use crate::protocol::payload::Encoded;
use crate::transport::FrameSender;
use crate::wire::Half;

impl Callee {
    /// The handler of `id` is gone: its memory is free, and its terminal frame is placed or waits.
    ///
    /// `payload` is what the handler returned, encoded.
    pub(crate) fn finish<S: FrameSender>(&mut self, id: u64, how: Finish, payload: Encoded<'_>, out: &mut S) {
        let Some(entry) = self.calls.get_mut(id).filter(|entry| matches!(entry.state, State::Running)) else {
            return;
        };
        // A handler with streams may go on after its reply.
        if entry.streams == StreamCounts::NONE {
            let (held, charged) = (std::mem::take(&mut entry.held), std::mem::take(&mut entry.charged));
            self.requests.release(held);
            self.share.release(charged);
        }
        if self.ended || self.silent {
            return self.remove(id);
        }
        let bytes = payload.as_slice();
        let len = bytes.len() as u64;
        let (half, extras) = match how {
            Finish::Returned(..) if len > self.reply_max || (entry.cancelled && len > REPLY_INLINE_MAX as u64) => {
                let failure = self.kept_back(id, &how, &payload);
                return failure.into_iter().for_each(|failure| self.fail(id, &failure, out));
            }
            Finish::Returned(half, extras) => (half, extras),
            Finish::Failed(failure) => return self.fail(id, &failure, out),
        };
        let (kind, lead) = match half {
            Half::Ok => (Kind::Reply, Lead::Nothing),
            Half::Err => (Kind::Fail, Lead::Fail { class: Class::App.to_wire(), code: 0 }),
        };
        let free = bytes.len() <= REPLY_INLINE_MAX;
        let ready = free || (self.backlog_credit.is_empty() && self.replies.allows(len));
        let at_once = ready && bytes.len() <= self.chunk_len.len;
        let apart = bytes.len() >= APART_LEN_MIN && out.gathers();
        if at_once && !apart {
            let placed = if half == Half::Ok && extras.is_none() {
                place_reply(id, bytes, out)
            } else {
                let extended = Extended::by(Sent::bytes(&extras));
                Head { kind, flags: 0, id, lead, extended }.place(bytes, out)
            };
            if placed {
                let alone = self.calls.len() == 1 && self.streaming == 0;
                if alone {
                    // As with a call that goes alone. But the next may come over another connection, and counts there.
                    self.share.leave();
                    out.show();
                }
                Sent::placed(&extras);
                if !free {
                    self.replies.take(len);
                    self.replies.sent(len);
                }
                if alone {
                    self.calls.remove(id);
                } else {
                    self.remove(id);
                }
                return;
            }
        }
        let mut message = Message::new(kind, 0, lead, extras, payload.into_body());
        if at_once && apart && message.advance(id, self.chunk_len, out) == Progress::Done {
            self.replies.take(len);
            self.replies.sent(len);
            return self.remove(id);
        }
        self.wait(id, message);
    }

    fn fail<S: FrameSender>(&mut self, id: u64, failure: &Failure, out: &mut S) {
        self.panicked += u64::from(failure.reason == Reason::Panicked);
        // Whoever cancels a call in time was not refused anything.
        self.refused += u64::from(failure.class == Class::NotExecuted && failure.reason != Reason::Cancelled);
        let mut message = failure_message(failure);
        match message.advance(id, self.chunk_len, out) {
            Progress::Blocked => self.wait(id, message),
            Progress::Done | Progress::More => self.remove(id),
        }
    }

    fn wait(&mut self, id: u64, message: Message) {
        let Some(entry) = self.calls.get_mut(id) else {
            return;
        };
        self.reply_bytes += message.len();
        if message.len() <= REPLY_INLINE_MAX {
            self.backlog_free.push_back(entry.priority, id);
        } else {
            // Its deadline counts here, too; it may have passed.
            self.unstamped = true;
            self.backlog_credit.push_back(entry.priority, id);
        }
        entry.state = State::Replying(Box::new(message));
    }

    pub(super) fn remove(&mut self, id: u64) {
        if self.streaming > 0 && self.keep(id) {
            return;
        }
        if self.calls.remove(id) {
            self.share.leave();
        }
    }

    /// The call's terminal frame is out; whether the call goes on.
    fn keep(&mut self, id: u64) -> bool {
        let entry = self.calls.get_mut(id).filter(|entry| entry.streams != StreamCounts::NONE);
        let Some(entry) = entry else {
            return false;
        };
        entry.state = State::Streaming;
        true
    }

    /// Why a reply is not sent although the handler has returned: the peer does not take as much, or wants it no more. Short ones
    /// take no memory but their caller's, and are.
    pub(crate) fn kept_back(&self, id: u64, how: &Finish, payload: &Encoded<'_>) -> Option<Failure> {
        let len = payload.as_slice().len() as u64;
        let unwanted = || len > REPLY_INLINE_MAX as u64 && self.calls.get(id).is_some_and(|entry| entry.cancelled);
        let reason = match how {
            Finish::Returned(..) if len > self.reply_max => Reason::TooLarge { len, max: self.reply_max },
            Finish::Returned(..) if unwanted() => Reason::Cancelled,
            _ => return None,
        };
        Some(Failure::maybe_executed(reason))
    }

    /// Whether nothing waits to be placed, and nobody for memory.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        let backlog = !self.backlog_free.is_empty() | !self.backlog_credit.is_empty();
        !(backlog | !self.refusals.is_empty() | !self.sending.is_empty() | !self.encoders.is_empty())
    }

    /// Whether the peer should hear now of what credit it has again.
    #[inline]
    pub(crate) fn owes_credit(&self) -> bool {
        self.requests.pressing()
    }

    /// Places what is owed, as far as there is room. `false` if the sender has no room.
    pub(crate) fn transmit<S: FrameSender>(&mut self, out: &mut S) -> bool {
        while let Some(refusal) = self.refusals.front() {
            let mut head = Head::new(Kind::Fail, refusal.id);
            head.lead = Lead::Fail { class: Class::NotExecuted.to_wire(), code: refusal.reason.code };
            if !head.place(refusal.reason.detail(), out) {
                return false;
            }
            self.refusals.pop_front();
        }
        while let Some((priority, id)) = self.backlog_free.pop_front() {
            if self.start(id, self.chunk_len, out) == Some(Progress::Blocked) {
                self.backlog_free.push_front(priority, id);
                return false;
            }
        }
        while let Some((priority, id)) = self.backlog_credit.pop_front() {
            let len = self.unsent(id);
            if !self.replies.allows(len) {
                self.backlog_credit.push_front(priority, id);
                break;
            }
            self.replies.take(len);
            if self.start(id, self.chunk_len, out) == Some(Progress::Blocked) {
                self.replies.unsend(len);
                self.backlog_credit.push_front(priority, id);
                return false;
            }
        }
        true
    }

    /// Wakes those who wait for memory to encode in, if there is some.
    pub(crate) fn wake_encoders(&mut self, wakers: &mut Vec<Waker>) {
        if !self.is_crowded() {
            wakers.append(&mut self.encoders);
        }
    }

    fn unsent(&mut self, id: u64) -> u64 {
        match self.calls.get_mut(id) {
            Some(Entry { state: State::Replying(message), .. }) => message.unsent() as u64,
            _ => 0,
        }
    }

    /// Places the next frame of a reply; `None` if there is no reply.
    fn start<S: FrameSender>(&mut self, id: u64, chunk_len: ChunkLen, out: &mut S) -> Option<Progress> {
        let entry = self.calls.get_mut(id)?;
        let State::Replying(message) = &mut entry.state else {
            return None;
        };
        let unsent = message.unsent();
        let progress = message.advance(id, chunk_len, out);
        let sent = unsent - message.unsent();
        self.reply_bytes -= sent;
        if message.len() > REPLY_INLINE_MAX {
            self.replies.sent(sent as u64);
        }
        match progress {
            Progress::Done => {
                self.replies.unsend(std::mem::take(&mut entry.cut));
                self.remove(id);
            }
            Progress::More => self.sending.push_back(entry.priority, id),
            Progress::Blocked => {}
        }
        Some(progress)
    }

    /// Places one chunk, of at most `most` bytes, of the half-sent reply whose turn it is.
    pub(crate) fn send_chunk<S: FrameSender>(&mut self, most: usize, out: &mut S) -> Option<Progress> {
        while let Some((priority, id)) = self.sending.pop_front() {
            let begun = match self.calls.get_mut(id) {
                Some(Entry { state: State::Replying(message), .. }) => message.begun,
                _ => false,
            };
            if !begun {
                continue;
            }
            let progress = self.start(id, self.chunk_len.at_most(most), out);
            if progress == Some(Progress::Blocked) {
                self.sending.push_front(priority, id);
            }
            return progress;
        }
        None
    }
}
