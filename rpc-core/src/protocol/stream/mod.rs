//! Streams: the items of a call, in order, with credit for their bytes, and one END each.
//!
//! A stream belongs to a call and owns an id after the call's. Its bytes are its items, each behind its length; they are
//! cut into ITEM frames wherever a chunk or the credit ends.
//!
//! | a stream that is | state | left by |
//! |---|---|---|
//! | sent | open | its source's end, STOP, or what ends the call: CANCEL, FAIL |
//! | | ending: what is queued goes out, then END | END being placed |
//! | | muted: nobody wants it, and its handler is not gone yet | the handler's end; then END is placed |
//! | received | open | END, or what ends the call |
//! | | unwanted: its receiver is gone; bytes are counted and dropped | END |
//! | | ended: its receiver has yet to take what came | the receiver |
//!
//! A call is over when its reply is out, or in, and all of its streams have ended, and, on the callee's side, its handler
//! is gone. Until then it counts in flight. FAIL ends all of its streams, and CANCEL those that the caller sends: no END
//! follows for them. END of a stream that a callee sends goes out when the handler is gone, since that is what frees the
//! call's place.

mod calls;
mod growth;
mod idle;
mod pieces;
mod receiving;
mod sending;
mod unsent;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::fail::Failure;
use super::table::{Keyed, Table};
use super::window::{ReceiveWindow, SendWindow};
use crate::error::Reason;
use crate::frame::StreamCounts;
use crate::share::Share;
use growth::{Growth, Round};
use receiving::Incoming;
pub(crate) use receiving::place_credit;
use sending::Outgoing;
pub(crate) use unsent::Room;
use unsent::Unsent;

/// A call has no more streams than this.
pub(crate) const STREAMS_MAX: u64 = 16;

/// Bytes of a stream that nobody has looked at and that do not count in the window of all streams: so those that nobody
/// reads cannot stop the others.
pub(crate) const RESERVE: u64 = 16 << 10;

/// So long short calls beside streams are remembered: at a gigabyte a second, some hundredths of one.
const MEMORY: u64 = 32 << 20;

/// The windows, as both sides have announced them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamConfig {
    /// Of each stream to this side.
    pub(crate) window_in: u64,
    /// Up to where it grows.
    pub(crate) window_max: u64,
    /// Of each stream to the peer; 0 = it knows no streams.
    pub(crate) window_out: u64,
    /// Of all streams to this side.
    pub(crate) items_in: u64,
    /// Of all streams to the peer.
    pub(crate) items_out: u64,
    /// What all streams have to send may wait here.
    pub(crate) unsent_max: u64,
    pub(crate) chunk_len: usize,
}

/// What became of items that were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// They are taken.
    Taken,
    /// Those before them have yet to go; the waker is called when they have.
    Full,
    /// Nobody wants them.
    Over,
}

/// What a receiver gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// Bytes. `beside`: short calls go beside the streams, and want their turn soon. `missed`: so many items were left out
    /// before them, in all.
    Items { beside: bool, missed: u64 },
    /// Nothing yet; the waker is called when there is.
    Nothing,
    /// The stream has ended, and everything was taken.
    Ended(Result<(), Failure>),
}

/// A call with streams.
#[derive(Debug)]
struct Call {
    id: u64,
    counts: StreamCounts,
    /// Made by this side.
    mine: bool,
    /// Streams that have not ended.
    open: u64,
    /// The reply is in, or out.
    replied: bool,
    /// This side wants no more of it, or its caller does not.
    cancelled: bool,
    /// Its CANCEL stands in `cancels`: before that is placed the peer counts it, so no other call may have its place.
    cancel_due: bool,
    /// On the callee's side: the handler is no more.
    handler_gone: bool,
}

impl Keyed for Call {
    fn key(&self) -> u64 {
        self.id
    }
}

impl Call {
    fn ids(&self, returned: bool) -> impl Iterator<Item = u64> + use<> {
        let given = u64::from(self.counts.given);
        let range = if returned { given..self.counts.all() } else { 0..given };
        let first = self.id + 2;
        range.map(move |at| first + 2 * at)
    }

    /// Those that this side sends.
    fn sent(&self) -> impl Iterator<Item = u64> + use<> {
        self.ids(!self.mine)
    }

    /// Those that this side receives.
    fn received(&self) -> impl Iterator<Item = u64> + use<> {
        self.ids(self.mine)
    }

    fn is_over(&self) -> bool {
        self.replied && self.open == 0 && !self.cancel_due && (self.mine || self.handler_gone)
    }
}

/// A call that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Over {
    pub(crate) id: u64,
    pub(crate) mine: bool,
    /// It outlived its reply.
    pub(crate) lingered: bool,
}

/// The streams of a connection, in both directions.
#[derive(Debug)]
pub(crate) struct Streams {
    config: StreamConfig,
    calls: Table<Call>,
    sending: Table<Outgoing>,
    receiving: Table<Incoming>,
    /// What all streams have together.
    items_in: ReceiveWindow,
    items_out: SendWindow,
    unsent: Unsent,
    /// Streams with something to place, in turn.
    ready: VecDeque<u64>,
    /// Those that wait for credit of the connection.
    starved: VecDeque<u64>,
    /// Received streams for which CREDIT or STOP is due.
    dues: VecDeque<u64>,
    /// Calls for which CANCEL is due, though their reply is in.
    cancels: VecDeque<u64>,
    /// Streams have begun to wait for credit, and have no time for it yet.
    unstamped: bool,
    /// Credit is owed that is too little to leave at once.
    owing: bool,
    /// The stream that is measured.
    round: Option<Round>,
    growth: Growth,
    /// Bytes of items that may come until short calls beside them are forgotten.
    beside: u64,
    over: Vec<Over>,
    /// To be woken with the next `transmit`.
    pub(crate) woken: Vec<Waker>,
}

impl Streams {
    pub(crate) fn new(config: StreamConfig, share: Arc<Share>) -> Streams {
        Streams {
            calls: Table::new(),
            sending: Table::new(),
            receiving: Table::new(),
            items_in: ReceiveWindow::new(config.items_in),
            items_out: SendWindow::new(config.items_out),
            unsent: Unsent::new(config.unsent_max, Arc::clone(&share)),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            dues: VecDeque::new(),
            cancels: VecDeque::new(),
            owing: false,
            unstamped: false,
            round: None,
            growth: Growth::new(config.items_in, share),
            beside: 0,
            over: Vec::new(),
            woken: Vec::new(),
            config,
        }
    }

    /// A call with streams has begun.
    pub(crate) fn open(&mut self, id: u64, counts: StreamCounts, mine: bool) {
        let call = Call {
            id,
            counts,
            mine,
            open: counts.all(),
            replied: false,
            cancelled: false,
            cancel_due: false,
            handler_gone: false,
        };
        for stream in call.sent() {
            self.sending.insert(Outgoing::new(stream, id, self.config.window_out));
        }
        for stream in call.received() {
            self.receiving.insert(Incoming::new(stream, id, self.config.window_in));
        }
        self.calls.insert(call);
    }

    /// A short call goes beside streams.
    pub(crate) fn passed(&mut self) {
        self.beside = MEMORY;
    }

    /// Bytes that this side has sent and that the peer has not looked at, as far as is known.
    pub(crate) fn unread(&self) -> u64 {
        self.items_out.in_use()
    }

    /// Calls that have ended since this was asked last.
    pub(crate) fn take_over(&mut self) -> Option<Over> {
        self.over.pop()
    }

    /// The reply to a call of this side's is in; whether the call goes on.
    pub(crate) fn answered(&mut self, id: u64) -> bool {
        let Some(call) = self.calls.get_mut(id).filter(|call| call.mine && !call.replied) else {
            return false;
        };
        call.replied = true;
        if call.cancelled {
            // The CANCEL of the call's slot may have crossed the reply, or may never have gone out. A second does nothing.
            call.cancel_due = true;
            self.cancels.push_back(id);
        }
        self.look_whether_over(id, false)
    }

    /// Whether the call is one of the peer's, has streams, and its reply is yet to be made.
    pub(crate) fn awaits_reply(&self, id: u64) -> bool {
        self.calls.get(id).is_some_and(|call| !call.mine && !call.replied)
    }

    /// Whether the call has streams that go on.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.calls.get(id).is_some()
    }

    /// The handler has replied, and goes on to send items.
    pub(crate) fn replied(&mut self, id: u64) {
        if let Some(call) = self.calls.get_mut(id) {
            call.replied = true;
        }
    }

    /// The handler of a call is gone. `status` is what it says at the end of what it has sent.
    pub(crate) fn handler_gone(&mut self, id: u64, status: &Result<(), Failure>) {
        let Some(call) = self.calls.get_mut(id).filter(|call| !call.mine) else {
            return;
        };
        call.replied = true;
        call.handler_gone = true;
        for stream in call.received() {
            self.forsake_untaken(stream);
        }
        for stream in self.sent_by(id) {
            self.finish_sending(stream, status.clone());
        }
        self.look_whether_over(id, true);
    }

    /// Nothing of a call goes on: it has failed, or a FAIL is what its handler ends with.
    pub(crate) fn fail(&mut self, id: u64, reason: &Reason, wakers: &mut Vec<Waker>) {
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        (call.open, call.replied, call.cancel_due, call.handler_gone) = (0, true, false, true);
        for stream in self.sent_by(id) {
            self.drop_sending(stream, wakers);
        }
        for stream in self.received_by(id) {
            self.cut(stream, reason, wakers);
            self.forsake_untaken(stream);
        }
        self.look_whether_over(id, false);
    }

    /// CANCEL has come: the caller sends and wants no more.
    pub(crate) fn handle_cancel(&mut self, id: u64, wakers: &mut Vec<Waker>) {
        let Some(call) = self.calls.get_mut(id).filter(|call| !call.mine && !call.cancelled) else {
            return;
        };
        call.cancelled = true;
        for stream in self.sent_by(id) {
            self.mute(stream, wakers);
        }
        for stream in self.received_by(id) {
            if self.cut(stream, &Reason::Cancelled, wakers) {
                self.ended(id);
            }
        }
        self.look_whether_over(id, true);
    }

    /// This side wants no more of a call of its own. Until the reply is in, the CANCEL is the business of the call's slot.
    pub(crate) fn abandon(&mut self, id: u64, wakers: &mut Vec<Waker>) {
        let Some(call) = self.calls.get_mut(id) else {
            return self.forsake_left(id);
        };
        if !call.mine || call.cancelled {
            return;
        }
        call.cancelled = true;
        if call.replied {
            call.cancel_due = true;
            self.cancels.push_back(id);
        }
        for stream in self.sent_by(id) {
            if self.drop_sending(stream, wakers) {
                self.ended(id);
            }
        }
        for stream in self.received_by(id) {
            self.forsake(stream);
        }
        self.look_whether_over(id, true);
    }

    /// Calls of this side's whose reply is not in: what has become of them elsewhere is to be looked at.
    pub(crate) fn unanswered(&self) -> Vec<u64> {
        self.calls.iter().filter(|call| call.mine && !call.replied).map(|call| call.id).collect()
    }

    /// The connection is over. Returns the peer's calls, and whether their handlers are still there.
    pub(crate) fn end(&mut self, reason: &Reason, wakers: &mut Vec<Waker>) -> Vec<(u64, bool)> {
        let calls = self.calls.drain();
        for call in &calls {
            for stream in call.sent() {
                self.drop_sending(stream, wakers);
            }
            for stream in call.received() {
                self.lose(stream, reason, wakers);
                // What has come of a call that was answered can still be taken.
                if !call.replied || !call.mine {
                    self.forsake_untaken(stream);
                }
            }
        }
        self.ready.clear();
        self.starved.clear();
        self.dues.clear();
        self.cancels.clear();
        self.over.clear();
        calls.iter().filter(|call| !call.mine).map(|call| (call.id, !call.handler_gone)).collect()
    }

    /// Streams that have not ended, or whose end was not taken.
    pub(crate) fn len(&self) -> usize {
        self.sending.len() + self.receiving.len()
    }

    /// Whether it can be forgotten.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.calls.len() == 0
            && self.len() == 0
            && self.cancels.is_empty()
            && self.items_in.is_at_rest()
            && self.items_out.in_use() == 0
            && self.unsent.is_at_rest()
            && self.growth.is_none()
    }

    /// Bytes held of what was received, and of what is to be sent.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let held = self.receiving.iter().map(|stream| stream.held()).sum();
        (held, self.unsent.bytes())
    }

    /// Bytes sent for which no credit has come back, and bytes received and let go of that are owed.
    pub(crate) fn credit(&self) -> (u64, u64) {
        (self.items_out.in_use(), self.items_in.owed())
    }

    pub(crate) fn window(&mut self) -> &mut ReceiveWindow {
        &mut self.items_in
    }

    /// Whether credit is owed that is too little to leave at once.
    pub(crate) fn owes(&self) -> bool {
        self.owing
    }

    fn sent_by(&mut self, id: u64) -> impl Iterator<Item = u64> + use<> {
        self.calls.get_mut(id).map(|call| call.sent()).into_iter().flatten()
    }

    fn received_by(&mut self, id: u64) -> impl Iterator<Item = u64> + use<> {
        self.calls.get_mut(id).map(|call| call.received()).into_iter().flatten()
    }

    /// One of the call's streams has ended.
    fn ended(&mut self, call: u64) {
        if let Some(call) = self.calls.get_mut(call) {
            call.open = call.open.saturating_sub(1);
        }
    }

    /// Whether the call goes on; one that does not is forgotten.
    fn look_whether_over(&mut self, id: u64, lingered: bool) -> bool {
        let Some(call) = self.calls.get_mut(id) else {
            return false;
        };
        let over = call.is_over();
        if over {
            let mine = call.mine;
            self.calls.remove(id);
            self.over.push(Over { id, mine, lingered });
        }
        !over
    }
}
