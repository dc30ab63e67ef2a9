//! Streams that this side receives: bytes that their receivers have yet to take, and the credit for them.

use std::task::Waker;

use super::{Streams, Took};
use crate::error::{ProtocolError, Reason};
use crate::frame::{Head, Kind};
use crate::protocol::WINDOW_ITEMS;
use crate::protocol::fail::Failure;
use crate::protocol::table::Keyed;
use crate::protocol::window::ReceiveWindow;
use crate::transport::FrameSender;

#[derive(Debug)]
pub(super) struct Incoming {
    id: u64,
    call: u64,
    window: ReceiveWindow,
    /// What has come and was not taken.
    bytes: Vec<u8>,
    /// Of the receiver.
    waker: Option<Waker>,
    /// There is, or was, a receiver.
    taken: bool,
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
            bytes: Vec::new(),
            waker: None,
            taken: false,
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
    pub(crate) fn handle_items(&mut self, id: u64, bytes: &[u8], wakers: &mut Vec<Waker>) -> Result<(), ProtocolError> {
        let len = bytes.len() as u64;
        self.beside = self.beside.saturating_sub(len);
        // Before it is looked up: what belongs to nothing is credited all the same.
        self.items_in.begin(len, len)?;
        let Some(stream) = self.receiving.get_mut(id).filter(|stream| stream.ended.is_none()) else {
            self.items_in.release(len);
            return Ok(());
        };
        stream.window.begin(len, len)?;
        if stream.unwanted {
            self.items_in.release(len);
            self.release(id, len, false);
            return Ok(());
        }
        stream.bytes.extend_from_slice(bytes);
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

    /// Swaps what has come for `buffer`, which is empty, and lets go of `done` bytes taken before.
    ///
    /// What is taken no longer counts in the window of all streams, only in its own: halves of long items could otherwise
    /// hold all of that, and none of them would become whole.
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
        self.release(id, done, false);
        let Some(stream) = self.receiving.get_mut(id) else {
            return Took::Ended(Err(Failure::maybe_executed(Reason::Cancelled)));
        };
        if !stream.bytes.is_empty() {
            std::mem::swap(&mut stream.bytes, buffer);
            self.items_in.release(buffer.len() as u64);
            return Took::Items { beside: self.beside > 0 };
        }
        if let Some(status) = &stream.ended {
            return Took::Ended(status.clone());
        }
        if waker.is_some() {
            std::mem::swap(&mut stream.waker, waker);
        }
        if hungry {
            self.release(id, 0, true);
        }
        Took::Nothing
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

    /// The same, whoever has.
    pub(super) fn forsake(&mut self, id: u64) {
        let Some(stream) = self.receiving.get_mut(id) else {
            return;
        };
        if stream.ended.is_some() {
            return self.forget(id);
        }
        stream.unwanted = true;
        let dropped = std::mem::take(&mut stream.bytes).len() as u64;
        let held = stream.window.held();
        // CANCEL says it for calls of this side's.
        let call = stream.call;
        let stops = stream.stop == Stop::No && self.calls.get_mut(call).is_some_and(|call| !call.mine);
        if stops {
            if let Some(stream) = self.receiving.get_mut(id) {
                stream.stop = Stop::Due;
            }
        }
        self.items_in.release(dropped);
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
        let dropped = std::mem::take(&mut stream.bytes).len() as u64;
        self.items_in.release(dropped);
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
            self.items_in.release(stream.bytes.len() as u64);
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
        let due = stream.stop == Stop::Due || stream.window.pressing() || (now && stream.window.owed() > 0);
        if due && !stream.listed {
            stream.listed = true;
            self.dues.push_back(id);
        }
        self.owing |= stream.window.owed() > 0;
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
                    if !place_credit(WINDOW_ITEMS, id, &stream.window, out) {
                        return false;
                    }
                    stream.window.grant();
                }
                stream.listed = false;
            }
            self.dues.pop_front();
        }
        true
    }
}

/// Places CREDIT for all that a window owes.
pub(crate) fn place_credit<S: FrameSender>(name: u8, id: u64, window: &ReceiveWindow, out: &mut S) -> bool {
    let mut body = [name; 9];
    body[1..].copy_from_slice(&window.owed().to_le_bytes());
    Head::new(Kind::Credit, id).place(&body, out)
}
