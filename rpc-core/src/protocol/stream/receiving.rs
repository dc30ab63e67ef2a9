//! Streams that this side receives: bytes that their receivers have yet to take, and the credit for them.

use std::task::Waker;
use std::time::Instant;

use super::growth::{Round, Speed};
use super::pieces::Pieces;
use super::{RESERVE, Streams, Took};
use crate::error::{ProtocolError, Reason};
use crate::frame::{Frame, FrameError, Head, Kind, flags, tag};
use crate::protocol::fail::Failure;
use crate::protocol::table::Keyed;
use crate::protocol::window::ReceiveWindow;
use crate::protocol::{WINDOW_ITEMS, WINDOW_MORE};
use crate::transport::FrameSender;

#[derive(Debug)]
pub(super) struct Incoming {
    id: u64,
    call: u64,
    window: ReceiveWindow,
    /// What has come and was not fetched.
    pieces: Pieces,
    speed: Speed,
    /// By how much its window is to grow; the sender has yet to hear of it.
    more: u64,
    /// By how much it has grown, or will.
    grown: u64,
    /// Of the receiver.
    waker: Option<Waker>,
    /// There is, or was, a receiver.
    taken: bool,
    /// Its sender waits for its credit.
    prompt: bool,
    /// Nobody will take anything more.
    unwanted: bool,
    stop: Stop,
    /// Its place is in `dues`.
    listed: bool,
    ended: Option<Result<(), Failure>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    Due,
    Sent,
}

impl Keyed for Incoming {
    fn key(&self) -> u64 {
        self.id
    }
}

impl Incoming {
    pub(super) fn new(id: u64, call: u64, window: u64) -> Incoming {
        Incoming {
            id,
            call,
            window: ReceiveWindow::new(window),
            pieces: Pieces::default(),
            speed: Speed::default(),
            more: 0,
            grown: 0,
            waker: None,
            taken: false,
            prompt: false,
            unwanted: false,
            stop: Stop::No,
            listed: false,
            ended: None,
        }
    }

    /// Bytes that have come and that its receiver is not done with.
    pub(super) fn held(&self) -> u64 {
        self.window.held()
    }
}

impl Streams {
    /// ITEM.
    pub(crate) fn handle_items(&mut self, frame: &Frame<'_>, wakers: &mut Vec<Waker>) -> Result<(), ProtocolError> {
        let &Frame { id, body: bytes, .. } = frame;
        let free = frame.flags & flags::FREE != 0;
        let len = bytes.len() as u64;
        self.beside = self.beside.saturating_sub(len);
        // Before it is looked up: what belongs to nothing is credited all the same.
        let counted = if free { 0 } else { len };
        self.items_in.begin(counted, counted)?;
        let Some(stream) = self.receiving.get_mut(id).filter(|stream| stream.ended.is_none()) else {
            self.items_in.release(counted);
            return Ok(());
        };
        stream.window.begin(len, len)?;
        if stream.unwanted {
            self.items_in.release(counted);
            self.release(id, len, false);
            return Ok(());
        }
        stream.prompt |= frame.flags & flags::PROMPT != 0;
        if let Some(missed) = missed(frame)? {
            stream.pieces.mark(missed);
        }
        stream.pieces.push(bytes, free);
        let reserved = stream.pieces.free() as u64;
        if reserved > RESERVE {
            return Err(ProtocolError::CreditOverrun { over: reserved - RESERVE });
        }
        wakers.extend(stream.waker.take());
        Ok(())
    }

    /// END.
    pub(crate) fn handle_end(&mut self, id: u64, status: Result<(), Failure>, wakers: &mut Vec<Waker>) {
        let Some(stream) = self.receiving.get_mut(id).filter(|stream| stream.ended.is_none()) else {
            return;
        };
        stream.ended = Some(status);
        wakers.extend(stream.waker.take());
        let call = stream.call;
        if stream.unwanted {
            self.forget(id);
        }
        self.ended(call);
        self.look_whether_over(call, true);
    }

    /// Somebody will take the items of a stream. The longest that there can be; `None` if there is no such stream.
    pub(crate) fn claim(&mut self, id: u64) -> Option<u64> {
        let stream = self.receiving.get_mut(id)?;
        stream.taken = true;
        Some(self.config.window_in)
    }

    /// Swaps what has come first for `buffer`, which is empty, and lets go of `done` bytes fetched before.
    ///
    /// What is fetched no longer counts in the window of all streams, only in its own until it is decoded or put with the rest
    /// of its item. Halves of long items could otherwise hold all of either, and none of them would become whole.
    ///
    /// `hungry`: the receiver has part of an item, and its sender may have no credit for the rest. Keeps the waker where
    /// there is nothing.
    pub(crate) fn take(
        &mut self,
        id: u64,
        done: u64,
        hungry: bool,
        buffer: &mut Vec<u8>,
        waker: &mut Option<Waker>,
    ) -> Took {
        // One that is unwanted, since its call was dropped elsewhere, has let go of everything.
        if self.receiving.get_mut(id).is_none_or(|stream| stream.unwanted) {
            return Took::Ended(Err(Failure::maybe_executed(Reason::Cancelled)));
        }
        self.release(id, done, false);
        let Some(stream) = self.receiving.get_mut(id) else {
            return Took::Nothing;
        };
        if stream.pieces.len() > 0 {
            let (counted, missed) = stream.pieces.take(buffer);
            self.items_in.release(counted);
            return Took::Items { beside: self.beside > 0, missed };
        }
        if let Some(status) = &stream.ended {
            return Took::Ended(status.clone());
        }
        if waker.is_some() {
            std::mem::swap(&mut stream.waker, waker);
        }
        if hungry || stream.prompt {
            self.release(id, 0, true);
        }
        Took::Nothing
    }

    /// Notes that the receiver of a stream has let go of `done` bytes, and lets its window grow where that would bring more.
    /// Whether a round begins, of which the PING has this number.
    pub(crate) fn measure(&mut self, id: u64, done: u64, number: u64, clock: impl Fn() -> Instant) -> bool {
        let stream = self.receiving.get_mut(id);
        let Some(stream) = stream.filter(|stream| stream.ended.is_none() && !stream.unwanted) else {
            return false;
        };
        stream.speed.let_go(done);
        let size = stream.window.size() + stream.more;
        let room = self.config.window_max - size;
        if let Some(round) = &mut self.round {
            if round.stream == id {
                round.let_go(done);
            }
            if !round.is_over() {
                return false;
            }
            if round.stream == id && round.judge(&mut stream.speed, size, clock()) {
                let more = size.min(room);
                // Where there is no memory for it, it stays as it is.
                if self.growth.grow(more) {
                    stream.grown += more;
                    stream.more += more;
                    self.round = None;
                    self.owe(id);
                    return false;
                }
            }
            self.round = None;
        }
        let begins = room > 0 && stream.window.pressing() && stream.speed.may_be_measured();
        if begins {
            self.round = Some(Round::new(id, number, clock()));
        }
        begins
    }

    /// PONG.
    pub(crate) fn handle_pong(&mut self, number: u64) {
        if let Some(round) = &mut self.round {
            round.answered(number);
        }
    }

    /// Whether anything is to be placed.
    pub(crate) fn has_dues(&self) -> bool {
        !self.dues.is_empty() || !self.cancels.is_empty() || self.items_in.pressing()
    }

    /// The receiver is gone. Its call, if that is one of this side's, which ends with it.
    pub(crate) fn unclaim(&mut self, id: u64, idle: &mut Vec<Waker>) -> Option<u64> {
        let stream = self.receiving.get_mut(id)?;
        let (call, ended) = (stream.call, stream.ended.is_some());
        idle.extend(stream.waker.take());
        self.forsake(id);
        if ended {
            return None;
        }
        self.calls.get_mut(call).filter(|call| call.mine).map(|call| call.id)
    }

    /// Nobody will take anything more of a stream, but for whoever has claimed it.
    pub(super) fn forsake_untaken(&mut self, id: u64) {
        if self.receiving.get_mut(id).is_some_and(|stream| !stream.taken) {
            self.forsake(id);
        }
    }

    /// The same, for what a call that is over has left.
    pub(super) fn forsake_left(&mut self, call: u64) {
        let left = |stream: &&Incoming| stream.call == call && !stream.taken;
        let ids: Vec<u64> = self.receiving.iter().filter(left).map(|stream| stream.id).collect();
        ids.into_iter().for_each(|id| self.forget(id));
    }

    /// The same, whoever has.
    pub(super) fn forsake(&mut self, id: u64) {
        let Some(stream) = self.receiving.get_mut(id) else {
            return;
        };
        if stream.ended.is_some() {
            return self.forget(id);
        }
        stream.unwanted = true;
        let (_, counted) = stream.pieces.clear();
        let held = stream.window.held();
        // CANCEL says it for calls of this side's.
        let call = stream.call;
        let stops = stream.stop == Stop::No && self.calls.get_mut(call).is_some_and(|call| !call.mine);
        if stops {
            if let Some(stream) = self.receiving.get_mut(id) {
                stream.stop = Stop::Due;
            }
        }
        self.items_in.release(counted);
        self.release(id, held, stops);
    }

    /// Nothing more of it will come, and what has come is dropped; whether it had not ended.
    pub(super) fn cut(&mut self, id: u64, reason: &Reason, wakers: &mut Vec<Waker>) -> bool {
        let Some(stream) = self.receiving.get_mut(id).filter(|stream| stream.ended.is_none()) else {
            return false;
        };
        stream.ended = Some(Err(Failure::maybe_executed(reason.clone())));
        wakers.extend(stream.waker.take());
        let unwanted = stream.unwanted;
        let (dropped, counted) = stream.pieces.clear();
        self.items_in.release(counted);
        self.release(id, dropped, false);
        if unwanted {
            self.forget(id);
        }
        true
    }

    /// The same, but what has come can still be taken.
    pub(super) fn lose(&mut self, id: u64, reason: &Reason, wakers: &mut Vec<Waker>) {
        let Some(stream) = self.receiving.get_mut(id).filter(|stream| stream.ended.is_none()) else {
            return;
        };
        stream.ended = Some(Err(Failure::maybe_executed(reason.clone())));
        wakers.extend(stream.waker.take());
        if stream.unwanted {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: u64) {
        if let Some(stream) = self.receiving.take(id) {
            self.items_in.release(stream.pieces.counted());
            self.growth.forget(stream.grown);
            self.round.take_if(|round| round.stream == id);
        }
    }

    /// Lets go of `len` bytes in a stream's own window. With `now` what it is owed leaves at once.
    fn release(&mut self, id: u64, len: u64, now: bool) {
        let Some(stream) = self.receiving.get_mut(id) else {
            return;
        };
        stream.window.release(len);
        if stream.ended.is_some() {
            return;
        }
        let owes = stream.window.owed() > 0;
        // Without room in the window of all, it goes on by what it has without.
        let now = now || self.items_in.is_used_up();
        let due = stream.stop == Stop::Due || stream.window.pressing() || (now && owes);
        self.owing |= owes;
        if due {
            self.owe(id);
        }
    }

    /// What a stream is owed leaves with the next `transmit`.
    fn owe(&mut self, id: u64) {
        if let Some(stream) = self.receiving.get_mut(id).filter(|stream| !stream.listed) {
            stream.listed = true;
            self.dues.push_back(id);
        }
    }

    /// All credit that is owed leaves, however little.
    pub(crate) fn settle_credit(&mut self) {
        if !std::mem::take(&mut self.owing) {
            return;
        }
        for stream in self.receiving.iter_mut() {
            if stream.window.owed() > 0 && stream.ended.is_none() && !stream.listed {
                stream.listed = true;
                self.dues.push_back(stream.id);
            }
        }
    }

    /// Places what a receiver owes: CANCEL, STOP, CREDIT. `false` if the sender has no room.
    pub(crate) fn send_dues<S: FrameSender>(&mut self, out: &mut S) -> bool {
        while let Some(&id) = self.cancels.front() {
            if !Head::new(Kind::Cancel, id).place(&[], out) {
                return false;
            }
            self.cancels.pop_front();
            if let Some(call) = self.calls.get_mut(id) {
                call.cancel_due = false;
            }
            self.look_whether_over(id, true);
        }
        while let Some(&id) = self.dues.front() {
            if let Some(stream) = self.receiving.get_mut(id).filter(|stream| stream.ended.is_none()) {
                if stream.stop == Stop::Due {
                    if !Head::new(Kind::Stop, id).place(&[], out) {
                        return false;
                    }
                    stream.stop = Stop::Sent;
                }
                if stream.window.owed() > 0 {
                    if !place_credit(WINDOW_ITEMS, id, stream.window.owed(), out) {
                        return false;
                    }
                    stream.window.grant();
                }
                if stream.more > 0 {
                    if !place_credit(WINDOW_MORE, id, stream.more, out) {
                        return false;
                    }
                    stream.window.grow(std::mem::take(&mut stream.more));
                }
                stream.listed = false;
            }
            self.dues.pop_front();
        }
        true
    }
}

/// How many items were left out before those of an ITEM, if it says so.
fn missed(frame: &Frame<'_>) -> Result<Option<u64>, FrameError> {
    for extension in frame.extensions() {
        let (tag, value) = extension?;
        if tag == tag::MISSED {
            let missed = value.try_into().map_err(|_| FrameError::Truncated { what: "number of items missed" })?;
            return Ok(Some(u64::from_le_bytes(missed)));
        }
    }
    Ok(None)
}

/// Places CREDIT.
pub(crate) fn place_credit<S: FrameSender>(name: u8, id: u64, bytes: u64, out: &mut S) -> bool {
    let mut body = [name; 9];
    body[1..].copy_from_slice(&bytes.to_le_bytes());
    Head::new(Kind::Credit, id).place(&body, out)
}
