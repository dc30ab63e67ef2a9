//! What both ends of a stream ask of its connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::shared::{Shared, State};
use crate::clock;
use crate::protocol::extras::Extras;
use crate::protocol::{Failure, Protocol, Pushed, Room, Took};
use crate::transport::Transport;

/// A task that drives a stream.
pub(crate) type Feeder = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The part of [`Link`](super::Link) that belongs to streams.
pub(crate) trait StreamLink {
    /// REPLY for a handler that goes on to send items.
    fn reply(&self, id: u64, extras: Extras);
    /// The longest item, with its head, that the peer takes.
    fn item_max(&self) -> usize;
    /// How many bytes of items that have no room yet are kept for a reader that is to miss some.
    fn backlog_max(&self) -> usize;
    /// Takes items over, to be sent. See [`Pushed`].
    fn push_items(&self, id: u64, items: &mut Vec<u8>, waker: &mut Option<Waker>) -> Pushed;
    /// Whether items would be taken over now; if not, the waker is called when they would. `singly` and `missed` are said of
    /// those that are pushed then; `kept` bytes of items are there, with those. See [`Pushed`].
    fn prepare_items(&self, id: u64, singly: bool, missed: u64, kept: usize, waker: &mut Option<Waker>) -> Pushed;
    /// A hint: streams may have so much to send already that sources have to wait.
    fn is_glutted(&self) -> bool;
    /// How much may be made of a stream now, of which nothing is kept. See [`Room`].
    fn room_for_items(&self, id: u64, waker: &mut Option<Waker>) -> Room;
    /// Whether anybody wants more of a stream; if so, the waker is called when that changes.
    fn watch_stream(&self, id: u64, waker: &mut Option<Waker>) -> bool;
    /// The source of a stream that a call gives has ended.
    fn end_items(&self, id: u64, status: Result<(), Failure>);
    /// Somebody will take what comes of a stream: the longest item, with its head, that there can be.
    fn claim_stream(&self, id: u64) -> Option<u64>;
    /// Takes what has come of a stream. See [`Took`].
    fn take_items(&self, id: u64, done: u64, hungry: bool, buffer: &mut Vec<u8>, waker: &mut Option<Waker>) -> Took;
    /// Nobody will take more.
    fn unclaim_stream(&self, id: u64);
    /// Runs a task on the connection's runtime.
    fn spawn(&self, task: Feeder);
    /// Whether this side takes no new calls.
    fn draining(&self) -> bool;
}

impl<T: Transport> StreamLink for Shared<T> {
    fn reply(&self, id: u64, extras: Extras) {
        self.with(|State { protocol, sender, .. }, _| protocol.reply(id, extras, sender));
    }

    fn item_max(&self) -> usize {
        usize::try_from(self.lock().protocol.item_max()).unwrap_or(usize::MAX)
    }

    fn backlog_max(&self) -> usize {
        usize::try_from(self.lock().protocol.backlog_max()).unwrap_or(usize::MAX)
    }

    fn push_items(&self, id: u64, items: &mut Vec<u8>, waker: &mut Option<Waker>) -> Pushed {
        let pushed = self.with(|state, _| {
            let pushed = state.protocol.push_items(id, items, waker);
            self.note_glut(&mut state.protocol);
            pushed
        });
        self.take_back();
        pushed
    }

    fn prepare_items(&self, id: u64, singly: bool, missed: u64, kept: usize, waker: &mut Option<Waker>) -> Pushed {
        let (pushed, sweep) = {
            let mut state = self.lock();
            let pushed = state.protocol.prepare_items(id, singly, missed, kept, waker);
            self.note_glut(&mut state.protocol);
            (pushed, if state.protocol.needs_sweep() { state.driver() } else { None })
        };
        self.call(sweep);
        pushed
    }

    fn is_glutted(&self) -> bool {
        self.glutted.load(Ordering::Relaxed)
    }

    fn room_for_items(&self, id: u64, waker: &mut Option<Waker>) -> Room {
        let mut state = self.lock();
        let room = state.protocol.room_for_items(id, waker);
        self.note_glut(&mut state.protocol);
        room
    }

    fn watch_stream(&self, id: u64, waker: &mut Option<Waker>) -> bool {
        self.lock().protocol.watch_stream(id, waker)
    }

    fn end_items(&self, id: u64, status: Result<(), Failure>) {
        self.with(|state, _| state.protocol.end_items(id, status));
    }

    fn claim_stream(&self, id: u64) -> Option<u64> {
        self.lock().protocol.claim_stream(id)
    }

    fn take_items(&self, id: u64, done: u64, hungry: bool, buffer: &mut Vec<u8>, waker: &mut Option<Waker>) -> Took {
        let (took, dues, sweep) = {
            let mut state = self.lock();
            let (took, dues) = state.protocol.take_items(id, done, hungry, buffer, waker, clock::now);
            let sweep = if state.protocol.needs_sweep() { state.driver() } else { None };
            (took, dues, sweep)
        };
        self.call(sweep);
        if dues {
            self.with(|_, _| ());
        }
        if took == Took::Nothing {
            self.take_back();
        }
        took
    }

    fn unclaim_stream(&self, id: u64) {
        let mut idle = Vec::new();
        self.with(|state, wakers| state.protocol.unclaim_stream(id, &mut idle, wakers));
        self.take_back();
    }

    fn spawn(&self, task: Feeder) {
        self.runtime.spawn(task);
    }

    fn draining(&self) -> bool {
        self.lock().draining
    }
}

impl<T: Transport> Shared<T> {
    /// Written under the lock, so that the last to write knows best.
    fn note_glut(&self, protocol: &mut Protocol) {
        let glutted = protocol.is_glutted();
        if self.glutted.load(Ordering::Relaxed) != glutted {
            self.glutted.store(glutted, Ordering::Relaxed);
        }
    }
}
