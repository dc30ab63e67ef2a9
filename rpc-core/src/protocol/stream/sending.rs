//! Streams that this side sends: a queue each, placed as far as credit and room allow.

use std::task::Waker;
use std::time::Instant;

use super::{Pushed, RESERVE, Room, Streams};
use crate::error::ProtocolError;
use crate::frame::{Head, Kind, Lead, flags};
use crate::protocol::fail::Failure;
use crate::protocol::table::Keyed;
use crate::protocol::window::SendWindow;
use crate::transport::FrameSender;

#[derive(Debug)]
pub(super) struct Outgoing {
    id: u64,
    call: u64,
    window: SendWindow,
    /// Items that were taken over, and how much of them has been placed.
    queue: Vec<u8>,
    placed: usize,
    /// Bytes of items that whoever makes them has for want of room.
    kept: usize,
    /// Of whoever makes the items.
    waker: Option<Waker>,
    /// It waits for the queue to become empty.
    full: bool,
    listed: Listed,
    /// Nobody wants more of it.
    muted: bool,
    /// Its items go one by one, each when the one before was taken.
    singly: bool,
    /// What the frame that begins the queue is to say: how many items were left out before it.
    missed: Option<u64>,
    /// Until when its receiver has to take something; not known, or nothing waits.
    pub(super) idle_at: Option<Instant>,
    /// What END is to say in the place of anything else.
    pub(super) verdict: Option<Failure>,
    /// What END is to say, behind the queue.
    end: Option<Result<(), Failure>>,
}

/// In which queue a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    No,
    Ready,
    Starved,
}

impl Keyed for Outgoing {
    fn key(&self) -> u64 {
        self.id
    }
}

impl Outgoing {
    pub(super) fn new(id: u64, call: u64, window: u64) -> Outgoing {
        Outgoing {
            id,
            call,
            window: SendWindow::new(window),
            queue: Vec::new(),
            placed: 0,
            kept: 0,
            waker: None,
            full: false,
            listed: Listed::No,
            muted: false,
            singly: false,
            missed: None,
            idle_at: None,
            verdict: None,
            end: None,
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len() - self.placed
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn call(&self) -> u64 {
        self.call
    }

    pub(super) fn is_muted(&self) -> bool {
        self.muted
    }

    /// Whether it has items, and no credit for them.
    pub(super) fn is_out_of_credit(&self) -> bool {
        self.queued() > 0 && self.listed != Listed::Ready
    }

    /// Whether there are items that go when the one before was taken.
    pub(super) fn awaits_its_turn(&self) -> bool {
        self.singly && self.full && self.queued() == 0 && self.window.in_use() > 0
    }

    /// Whether more may be taken over.
    fn is_free(&self) -> bool {
        self.queued() == 0 && !(self.singly && self.window.in_use() > 0)
    }

    /// Bytes that may go whatever other streams have left of the window of all.
    fn reserve(&self) -> u64 {
        RESERVE.saturating_sub(self.window.in_use())
    }
}

/// How far a stream got.
enum Step {
    /// There may be more to place.
    More,
    /// It has nothing to place, or no credit of its own.
    Rest,
    /// The connection has no credit, and the stream has used what it has without.
    Starved,
    /// The sender has no room.
    Blocked,
}

impl Streams {
    /// Takes `items` over, and leaves an empty buffer in their place. Keeps `waker`, if there is one, and puts the one it
    /// kept before in its place.
    pub(crate) fn push(&mut self, id: u64, items: &mut Vec<u8>, waker: &mut Option<Waker>) -> Pushed {
        let Some(stream) = self.sending.get_mut(id).filter(|stream| !stream.muted && stream.end.is_none()) else {
            return Pushed::Over;
        };
        if waker.is_some() {
            std::mem::swap(&mut stream.waker, waker);
        }
        let before = std::mem::take(&mut stream.kept);
        if !stream.is_free() {
            stream.full = true;
            stream.kept = items.len();
            self.unsent.replace(before, items.len());
            return Pushed::Full;
        }
        std::mem::swap(&mut stream.queue, items);
        items.clear();
        stream.placed = 0;
        // What is kept beside them is what these were not taken from.
        let pushed = stream.queue.len();
        stream.kept = before.saturating_sub(pushed);
        self.unsent.replace(before, pushed + stream.kept);
        self.list(id);
        if let Some(stream) = self.sending.get(id) {
            // Without credit it has no turn, in which that would be noticed.
            self.unstamped |= stream.idle_at.is_none() && stream.is_out_of_credit();
        }
        Pushed::Taken
    }

    /// Whether items would be taken over now; nobody else pushes any. With `singly` they go one by one from now on. `missed`
    /// have been left out before them, in all, and `kept` bytes are there, with those that are pushed next.
    pub(crate) fn prepare(
        &mut self,
        id: u64,
        singly: bool,
        missed: u64,
        kept: usize,
        waker: &mut Option<Waker>,
    ) -> Pushed {
        let Some(stream) = self.sending.get_mut(id).filter(|stream| !stream.muted && stream.end.is_none()) else {
            return Pushed::Over;
        };
        stream.singly = singly;
        self.unsent.replace(std::mem::replace(&mut stream.kept, kept), kept);
        if waker.is_some() {
            std::mem::swap(&mut stream.waker, waker);
        }
        stream.full = !stream.is_free();
        if stream.full {
            self.unstamped |= stream.idle_at.is_none();
            return Pushed::Full;
        }
        stream.missed = (missed > 0).then_some(missed);
        Pushed::Taken
    }

    /// Whether anybody wants more of the stream; if so, the waker is called when that changes.
    pub(crate) fn watch(&mut self, id: u64, waker: &mut Option<Waker>) -> bool {
        match self.sending.get_mut(id).filter(|stream| !stream.muted && stream.end.is_none()) {
            Some(stream) => {
                std::mem::swap(&mut stream.waker, waker);
                true
            }
            None => false,
        }
    }

    /// Whether so much is to be sent already that sources have to wait.
    pub(crate) fn is_glutted(&mut self) -> bool {
        self.unsent.is_full()
    }

    /// How much may be made of a stream, of which nothing is kept. If nothing, keeps `waker` as [`push`](Self::push) does.
    pub(crate) fn room(&mut self, id: u64, waker: &mut Option<Waker>) -> Room {
        let Some(stream) = self.sending.get_mut(id).filter(|stream| !stream.muted && stream.end.is_none()) else {
            return Room::Over;
        };
        if !self.unsent.is_full() {
            return Room::Much;
        }
        if stream.queued() == 0 {
            return Room::Little;
        }
        std::mem::swap(&mut stream.waker, waker);
        stream.full = true;
        Room::None
    }

    /// Its source has ended: END follows what is queued.
    pub(crate) fn finish_sending(&mut self, id: u64, status: Result<(), Failure>) {
        if let Some(stream) = self.sending.get_mut(id) {
            let status = stream.verdict.take().map_or(status, Err);
            stream.end.get_or_insert(status);
            self.unsent.remove(std::mem::take(&mut stream.kept));
            self.list(id);
        }
    }

    /// Nothing more of it goes out, END neither; whether it had not ended.
    pub(super) fn drop_sending(&mut self, id: u64, wakers: &mut Vec<Waker>) -> bool {
        let Some(stream) = self.sending.take(id) else {
            return false;
        };
        self.unsent.remove(stream.queued() + stream.kept);
        wakers.extend(stream.waker);
        self.starved.retain(|other| *other != id);
        true
    }

    /// Nobody wants more of it. What makes its items hears of it, and END is still owed.
    pub(super) fn mute(&mut self, id: u64, wakers: &mut Vec<Waker>) {
        let Some(stream) = self.sending.get_mut(id).filter(|stream| !stream.muted) else {
            return;
        };
        stream.muted = true;
        self.unsent.remove(stream.queued() + std::mem::take(&mut stream.kept));
        stream.queue = Vec::new();
        stream.placed = 0;
        wakers.extend(stream.waker.take());
        if std::mem::replace(&mut stream.listed, Listed::No) != Listed::No {
            self.ready.retain(|other| *other != id);
            self.starved.retain(|other| *other != id);
        }
        self.list(id);
    }

    /// STOP: the receiver wants no more.
    pub(crate) fn handle_stop(&mut self, id: u64, wakers: &mut Vec<Waker>) {
        self.mute(id, wakers);
        let Some(call) = self.sending.get_mut(id).map(|stream| stream.call) else {
            return;
        };
        // One that a handler sends ends with the handler.
        if self.is_mine(call) {
            self.finish_sending(id, Ok(()));
        }
    }

    pub(super) fn is_mine(&mut self, call: u64) -> bool {
        self.calls.get_mut(call).is_some_and(|call| call.mine)
    }

    /// CREDIT of a stream.
    pub(crate) fn handle_credit(&mut self, id: u64, bytes: u64, wakers: &mut Vec<Waker>) -> Result<(), ProtocolError> {
        let Some(stream) = self.sending.get_mut(id) else {
            return Ok(());
        };
        stream.window.give(bytes)?;
        self.unstamped |= stream.idle_at.take().is_some();
        if stream.singly && stream.full && stream.is_free() {
            stream.full = false;
            wakers.extend(stream.waker.take());
        }
        if stream.listed == Listed::Starved && stream.reserve() > 0 {
            stream.listed = Listed::No;
            self.starved.retain(|other| *other != id);
        }
        self.list(id);
        Ok(())
    }

    /// CREDIT that a stream has had no use for before: its window is larger now.
    pub(crate) fn handle_growth(&mut self, id: u64, bytes: u64) -> Result<(), ProtocolError> {
        let Some(stream) = self.sending.get_mut(id) else {
            return Ok(());
        };
        stream.window.grow(bytes)?;
        self.list(id);
        Ok(())
    }

    /// CREDIT of the connection.
    pub(crate) fn handle_item_credit(&mut self, bytes: u64) -> Result<(), ProtocolError> {
        self.items_out.give(bytes)?;
        for id in self.starved.drain(..) {
            if let Some(stream) = self.sending.get_mut(id) {
                stream.listed = Listed::Ready;
            }
            self.ready.push_back(id);
        }
        Ok(())
    }

    /// Gives the stream a turn, if it has anything to place.
    fn list(&mut self, id: u64) {
        let Some(stream) = self.sending.get_mut(id).filter(|stream| stream.listed == Listed::No) else {
            return;
        };
        if (stream.queued() > 0 && stream.window.available() > 0) || (stream.queued() == 0 && stream.end.is_some()) {
            stream.listed = Listed::Ready;
            self.ready.push_back(id);
        }
    }

    /// Places items of the stream whose turn it is, a chunk at most. `None` if there is nothing to place, `false` if the
    /// sender has no room.
    pub(crate) fn send<S: FrameSender>(&mut self, wakers: &mut Vec<Waker>, out: &mut S) -> Option<bool> {
        let id = self.ready.pop_front()?;
        let listed = match self.step(id, wakers, out) {
            Step::More => {
                self.ready.push_back(id);
                Listed::Ready
            }
            Step::Starved => {
                self.starved.push_back(id);
                Listed::Starved
            }
            Step::Rest => Listed::No,
            Step::Blocked => {
                self.ready.push_front(id);
                return Some(false);
            }
        };
        if let Some(stream) = self.sending.get_mut(id) {
            stream.listed = listed;
            self.unstamped |= stream.idle_at.is_none() && stream.is_out_of_credit();
        }
        Some(true)
    }

    /// Places one frame of a stream.
    fn step<S: FrameSender>(&mut self, id: u64, wakers: &mut Vec<Waker>, out: &mut S) -> Step {
        let Some(stream) = self.sending.get_mut(id) else {
            return Step::Rest;
        };
        let queued = stream.queued();
        if queued > 0 {
            let own = queued.min(self.config.chunk_len) as u64;
            let own = own.min(stream.window.available());
            if own == 0 {
                return Step::Rest;
            }
            let (free, counted) = (own.min(stream.reserve()), own.min(self.items_out.available()));
            let is_free = free >= counted;
            let len = free.max(counted);
            if len == 0 {
                return Step::Starved;
            }
            let end = stream.placed + len as usize;
            let mut head = Head::new(Kind::Item, id);
            head.flags = if is_free { flags::FREE } else { 0 } | if stream.singly { flags::PROMPT } else { 0 };
            if let Some(missed) = stream.missed {
                head.lead = Lead::Missed(missed);
            }
            if !head.place(&stream.queue[stream.placed..end], out) {
                return Step::Blocked;
            }
            stream.window.take(len);
            stream.window.sent(len);
            if !is_free {
                self.items_out.take(len);
                self.items_out.sent(len);
            }
            stream.placed = end;
            self.unsent.remove(len as usize);
            stream.missed = None;
            if stream.queued() == 0 {
                stream.queue.clear();
                stream.placed = 0;
                if !stream.singly && std::mem::take(&mut stream.full) {
                    wakers.extend(stream.waker.take());
                }
            }
            return if stream.queued() > 0 || stream.end.is_some() { Step::More } else { Step::Rest };
        }
        let Some(status) = &stream.end else {
            return Step::Rest;
        };
        let mut head = Head::new(Kind::End, id);
        let placed = match status {
            Ok(()) => head.place(&[], out),
            Err(failure) => {
                let (lead, reason) = failure.on_the_wire();
                head.lead = lead;
                head.place(reason.detail(), out)
            }
        };
        if !placed {
            return Step::Blocked;
        }
        let call = stream.call;
        self.drop_sending(id, wakers);
        self.ended(call);
        self.look_whether_over(call, true);
        Step::Rest
    }
}
