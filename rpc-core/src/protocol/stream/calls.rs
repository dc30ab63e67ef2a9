//! What streams and the calls that they belong to have to know of each other.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::{Over, Pushed, Room, Streams, Took};
use crate::error::{ConnectionError, ProtocolError, Reason};
use crate::frame::{Frame, RESULT, StreamCounts};
use crate::protocol::caller::{Fate, Opened};
use crate::protocol::extras::Extras;
use crate::protocol::fail::Failure;
use crate::protocol::{Callee, Encoded, Finish, Protocol, Ticket};
use crate::transport::FrameSender;
use crate::wire::Half;

/// The streams of calls end that this side has answered by itself.
fn fail_concluded(callee: &mut Callee, streams: &mut Streams, wakers: &mut Vec<Waker>) {
    while let Some(id) = callee.concluded.pop() {
        streams.fail(id, &Reason::Cancelled, wakers);
    }
}

impl Protocol {
    /// The streams of this connection, which have none of its memory before there are any.
    fn streams(&mut self) -> &mut Streams {
        let (config, share) = (self.stream_config, &self.config.share);
        self.streams.get_or_insert_with(|| Box::new(Streams::new(config, Arc::clone(share))))
    }

    /// Whether the peer knows streams.
    pub(in crate::protocol) fn may_stream(&self) -> bool {
        self.stream_config.window_out > 0
    }

    /// The longest item, with its head, that the peer takes.
    pub(crate) fn item_max(&self) -> u64 {
        self.stream_config.window_out
    }

    /// Bytes of items, for which there is no room yet, that are kept for a reader that is to miss some. Never more than this
    /// side itself would take: what a peer announces is no promise of memory.
    pub(crate) fn backlog_max(&self) -> u64 {
        self.stream_config.window_out.min(self.stream_config.window_in)
    }

    /// Calls with streams, or with a result that may be called, may have been placed.
    pub(in crate::protocol) fn open_own(&mut self) {
        while let Some(Opened { id, streams, result }) = self.caller.opened.pop() {
            if streams != StreamCounts::NONE {
                self.streams().open(id, streams, true);
            }
            if result {
                self.objects().open_result(id);
            }
        }
    }

    /// A call of the peer's with streams may have been taken.
    pub(in crate::protocol) fn open_peers_streams(&mut self) {
        while let Some((id, counts)) = self.callee.opened.pop() {
            self.streams().open(id, counts, false);
        }
    }

    /// A REPLY, or a chunk, has come for a call of this side's.
    pub(in crate::protocol) fn note_reply(&mut self, id: u64) {
        let Some(streams) = &mut self.streams else {
            return;
        };
        if self.caller.fate(id) == Fate::Answered && streams.answered(id) {
            self.caller.linger();
        }
        self.settle_streams();
    }

    /// A FAIL has come for a call of this side's, which ends its streams.
    pub(in crate::protocol) fn note_failure(&mut self, id: u64, wakers: &mut Vec<Waker>) {
        let Some(streams) = &mut self.streams else {
            return;
        };
        if streams.unanswered().contains(&id) {
            streams.fail(id, &Reason::Cancelled, wakers);
        }
        self.settle_streams();
    }

    /// The caller of a call has got an error in the place of a reply, and comes for none of its streams.
    pub(in crate::protocol) fn fail_streams(&mut self, id: u64) {
        let Some(streams) = &mut self.streams else {
            return;
        };
        let mut wakers = std::mem::take(&mut streams.woken);
        streams.abandon(id, &mut wakers);
        streams.woken = wakers;
        self.settle_streams();
    }

    /// Something other than a reply may have happened to calls of this side's.
    pub(in crate::protocol) fn look_after_streams(&mut self, wakers: &mut Vec<Waker>) {
        let Some(streams) = &mut self.streams else {
            return;
        };
        for id in streams.unanswered() {
            match self.caller.fate(id) {
                Fate::Open => {}
                Fate::Cancelled => streams.abandon(id, wakers),
                Fate::Answered => streams.fail(id, &Reason::Cancelled, wakers),
            }
        }
        fail_concluded(&mut self.callee, streams, wakers);
        self.settle_streams();
    }

    /// Calls of the peer's that this side has ended without a handler, or before it: their streams end with them.
    pub(in crate::protocol) fn settle_concluded(&mut self) {
        if self.callee.concluded.is_empty() {
            return;
        }
        let Some(streams) = &mut self.streams else {
            return;
        };
        let mut wakers = std::mem::take(&mut streams.woken);
        fail_concluded(&mut self.callee, streams, &mut wakers);
        streams.woken = wakers;
        self.settle_streams();
    }

    /// Time has passed. When streams that wait now are to be looked at again.
    pub(in crate::protocol) fn sweep_streams(&mut self, now: Instant, wakers: &mut Vec<Waker>) -> Option<Instant> {
        let next = self.streams.as_mut()?.sweep(now, self.config.limits.stream_idle, wakers);
        self.settle_streams();
        next
    }

    /// Calls whose streams have ended are over.
    pub(in crate::protocol) fn settle_streams(&mut self) {
        while let Some(Over { id, mine, lingered }) = self.streams.as_mut().and_then(|streams| streams.take_over()) {
            match (mine, lingered) {
                (true, true) => self.caller.linger_no_more(),
                (true, false) => {}
                (false, _) => self.callee.end_streams(id),
            }
        }
    }

    /// CANCEL.
    pub(in crate::protocol) fn cancel_streams(&mut self, id: u64, wakers: &mut Vec<Waker>) {
        let Some(streams) = &mut self.streams else {
            return;
        };
        streams.handle_cancel(id, wakers);
        self.look_after_streams(wakers);
    }

    /// CREDIT for the items of all streams.
    pub(in crate::protocol) fn handle_item_credit(&mut self, bytes: u64) -> Result<(), ProtocolError> {
        self.streams().handle_item_credit(bytes)
    }

    /// The caller has lost interest in a call.
    pub(crate) fn abandon(&mut self, id: u64, idle: &mut Vec<Waker>, wakers: &mut Vec<Waker>) {
        self.caller.abandon(id, idle);
        if let Some(streams) = &mut self.streams {
            streams.abandon(id, wakers);
            self.look_after_streams(wakers);
        }
    }

    /// The caller of a call that has waited has lost interest.
    pub(crate) fn abandon_waiting(&mut self, ticket: Ticket, idle: &mut Vec<Waker>, wakers: &mut Vec<Waker>) {
        let placed = self.caller.abandon_waiting(ticket, idle, wakers);
        if let (Some(id), Some(streams)) = (placed, &mut self.streams) {
            // It may have its reply already.
            streams.abandon(id, wakers);
        }
        if let (Some(id), Some(objects)) = (placed, &mut self.objects) {
            // Nobody has learnt of its result.
            objects.release(id | RESULT);
        }
        self.look_after_streams(wakers);
    }

    /// The handler of a call with streams has returned what it will send: REPLY goes out, and the call goes on.
    pub(crate) fn reply<S: FrameSender>(&mut self, id: u64, extras: Extras, out: &mut S) {
        if let Some(streams) = self.streams.as_mut().filter(|streams| streams.awaits_reply(id)) {
            streams.replied(id);
            self.say_hello(out);
            self.callee.finish(id, Finish::Returned(Half::Ok, extras), Encoded::EMPTY, out);
        }
    }

    /// The handler of a call is gone. Whether that is all: it has replied before.
    pub(in crate::protocol) fn finish_streams(&mut self, id: u64, how: &Finish) -> bool {
        let Some(streams) = &mut self.streams else {
            return false;
        };
        let replied = !streams.awaits_reply(id) && streams.has(id);
        self.callee.let_go(id);
        match how {
            Finish::Failed(failure) if replied => {
                self.callee.panicked += u64::from(failure.reason == Reason::Panicked);
                streams.handler_gone(id, &Err(failure.clone()));
            }
            Finish::Returned(Half::Err, _) | Finish::Failed(_) if !replied => {
                // FAIL ends them, also those that somebody else has got from the handler.
                let mut wakers = std::mem::take(&mut streams.woken);
                streams.fail(id, &Reason::Cancelled, &mut wakers);
                streams.woken = wakers;
            }
            _ => streams.handler_gone(id, &Ok(())),
        }
        self.settle_streams();
        replied
    }

    /// ITEM, END, STOP.
    pub(in crate::protocol) fn handle_stream(
        &mut self,
        frame: &Frame<'_>,
        wakers: &mut Vec<Waker>,
        act: impl FnOnce(&mut Streams, &mut Vec<Waker>) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        let last = if self.config.side.owns(frame.id) { self.caller.last_given() } else { self.callee.last_received() };
        if frame.id == 0 || frame.id > last {
            return Err(ProtocolError::UnknownStream(frame.id));
        }
        act(self.streams(), wakers)?;
        self.settle_streams();
        Ok(())
    }

    /// The connection is over.
    pub(in crate::protocol) fn end_streams(&mut self, error: &ConnectionError, wakers: &mut Vec<Waker>) {
        let Some(streams) = &mut self.streams else {
            return;
        };
        for (id, runs) in streams.end(&Reason::ConnectionLost(error.clone()), wakers) {
            if runs { self.callee.revive(id) } else { self.callee.end_streams(id) }
        }
        self.caller.end_lingering();
    }

    /// Takes items of a stream over, to be sent. See [`Streams::push`].
    pub(crate) fn push_items(&mut self, id: u64, items: &mut Vec<u8>, waker: &mut Option<Waker>) -> Pushed {
        match &mut self.streams {
            Some(streams) => streams.push(id, items, waker),
            None => Pushed::Over,
        }
    }

    /// Whether items of a stream would be taken over now. See [`Streams::prepare`].
    pub(crate) fn prepare_items(
        &mut self,
        id: u64,
        singly: bool,
        missed: u64,
        kept: usize,
        waker: &mut Option<Waker>,
    ) -> Pushed {
        match &mut self.streams {
            Some(streams) => streams.prepare(id, singly, missed, kept, waker),
            None => Pushed::Over,
        }
    }

    /// Whether streams have so much to send that their sources have to wait.
    pub(crate) fn is_glutted(&mut self) -> bool {
        self.streams.as_mut().is_some_and(|streams| streams.is_glutted())
    }

    /// How much may be made of a stream that this side sends. See [`Streams::room`].
    pub(crate) fn room_for_items(&mut self, id: u64, waker: &mut Option<Waker>) -> Room {
        self.streams.as_mut().map_or(Room::Over, |streams| streams.room(id, waker))
    }

    /// Whether anybody wants more of a stream that this side sends. See [`Streams::watch`].
    pub(crate) fn watch_stream(&mut self, id: u64, waker: &mut Option<Waker>) -> bool {
        self.streams.as_mut().is_some_and(|streams| streams.watch(id, waker))
    }

    /// The source of a stream that this side gives has ended.
    pub(crate) fn end_items(&mut self, id: u64, status: Result<(), Failure>) {
        if let Some(streams) = &mut self.streams {
            streams.finish_sending(id, status);
        }
    }

    /// Somebody will take the items of a stream; the longest that there can be, with its head.
    pub(crate) fn claim_stream(&mut self, id: u64) -> Option<u64> {
        self.streams.as_mut()?.claim(id)
    }

    /// Takes what has come of a stream. The second value says that `transmit` has something to do. See [`Streams::take`]. The
    /// clock is read where the stream's speed is measured.
    pub(crate) fn take_items(
        &mut self,
        id: u64,
        done: u64,
        hungry: bool,
        buffer: &mut Vec<u8>,
        waker: &mut Option<Waker>,
        clock: impl Fn() -> Instant,
    ) -> (Took, bool) {
        let Some(streams) = &mut self.streams else {
            return (Took::Ended(Err(Failure::maybe_executed(Reason::Cancelled))), false);
        };
        let took = streams.take(id, done, hungry, buffer, waker);
        if done > 0 {
            // One that is yet to go does for both.
            let number = self.latches.ping.unwrap_or(self.ping_number + 1);
            if streams.measure(id, done, number, clock) && self.latches.ping.is_none() {
                self.ping_number = number;
                self.latches.ping = Some(number);
            }
        }
        (took, streams.has_dues())
    }

    /// Nobody will take more of a stream.
    pub(crate) fn unclaim_stream(&mut self, id: u64, idle: &mut Vec<Waker>, wakers: &mut Vec<Waker>) {
        let Some(streams) = &mut self.streams else {
            return;
        };
        if let Some(call) = streams.unclaim(id, idle) {
            streams.abandon(call, wakers);
        }
        self.settle_streams();
    }
}
