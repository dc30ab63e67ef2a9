//! Calls that wait because a limit is reached: encoded, in order of their priority, without an id yet.
//!
//! They lie here rather than in their callers' futures so that the connection can place them by itself: a caller that
//! is not polled any more must not hold up the others.

use std::task::Waker;

use super::caller::NewCall;
use super::extras::Sent;
use super::fail::Failure;
use super::ranked::{Ranked, Turn};
use crate::body::Body;

/// Names a waiting call: which entry, and which of the calls that have used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    index: u32,
    generation: u32,
}

/// What has become of a call that had to wait.
#[derive(Debug)]
pub(crate) enum Waited {
    /// Still waiting.
    Waiting,
    /// Placed under this id.
    Placed(u64),
    /// It will not be placed.
    Failed(Failure),
}

#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) call: NewCall,
    pub(crate) payload: Body,
}

impl Queued {
    /// Bytes that are held for it.
    pub(crate) fn held(&self) -> usize {
        self.payload.len() + Sent::bytes(&self.call.extras).len()
    }
}

#[derive(Debug)]
enum State {
    Free,
    Queued(Queued),
    Placed(u64),
    Failed(Failure),
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    /// Counts up over all calls; the lower came first.
    sequence: u64,
    state: State,
    waker: Option<Waker>,
}

/// The queue, in two lanes: messages of one chunk, and longer ones. In each the more urgent go first, in turn.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    entries: Vec<Entry>,
    free: Vec<u32>,
    small: Ranked<u32>,
    large: Ranked<u32>,
    /// Of both lanes.
    turn: Turn,
    next_sequence: u64,
    /// Bytes that are held for all queued calls.
    bytes: usize,
}

/// Who goes first of two that wait: the more urgent in this turn, then who came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(usize, u64);

/// The lane of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// One chunk.
    Small,
    /// More than one.
    Large,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.small.len() + self.large.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, lane: Lane, queued: Queued, waker: Option<Waker>) -> Ticket {
        self.bytes += queued.held();
        self.next_sequence += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, sequence: 0, state: State::Free, waker: None });
            (self.entries.len() - 1) as u32
        });
        let priority = Sent::priority(&queued.call.extras);
        let entry = &mut self.entries[index as usize];
        entry.sequence = self.next_sequence;
        entry.state = State::Queued(queued);
        entry.waker = waker;
        let generation = entry.generation;
        self.lane_mut(lane).push_back(priority, index);
        Ticket { index, generation }
    }

    fn lane(&self, lane: Lane) -> &Ranked<u32> {
        match lane {
            Lane::Small => &self.small,
            Lane::Large => &self.large,
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut Ranked<u32> {
        match lane {
            Lane::Small => &mut self.small,
            Lane::Large => &mut self.large,
        }
    }

    /// Whether any call waits in `lane`.
    pub(crate) fn has(&self, lane: Lane) -> bool {
        !self.lane(lane).is_empty()
    }

    /// The place and the payload length of the first call in `lane`.
    pub(crate) fn front(&self, lane: Lane) -> Option<(Place, u64)> {
        let (priority, index) = self.lane(lane).front(self.turn)?;
        let entry = &self.entries[*index as usize];
        match &entry.state {
            State::Queued(queued) => {
                Some((Place(self.turn.place_of(priority), entry.sequence), queued.payload.len() as u64))
            }
            _ => None,
        }
    }

    /// The first call in `lane`, to be looked at and perhaps placed.
    pub(crate) fn front_mut(&mut self, lane: Lane) -> Option<&mut Queued> {
        let (_, index) = self.lane(lane).front(self.turn)?;
        let index = *index;
        match &mut self.entries[index as usize].state {
            State::Queued(queued) => Some(queued),
            _ => None,
        }
    }

    /// Notes that the first call in `lane`, for which `held` bytes were held, was placed as `id`. Returns its caller's waker.
    pub(crate) fn placed(&mut self, lane: Lane, held: usize, id: u64) -> Option<Waker> {
        let turn = self.turn;
        let (_, index) = self.lane_mut(lane).pop_front(turn)?;
        self.turn.pass();
        self.bytes -= held;
        let entry = &mut self.entries[index as usize];
        entry.state = State::Placed(id);
        entry.waker.take()
    }

    /// What has become of the call; anything but [`Waited::Waiting`] ends the ticket.
    pub(crate) fn poll(&mut self, ticket: Ticket, waker: &mut Option<Waker>) -> Waited {
        let entry = &mut self.entries[ticket.index as usize];
        debug_assert_eq!(entry.generation, ticket.generation);
        if let State::Queued(_) = entry.state {
            if waker.is_some() {
                std::mem::swap(&mut entry.waker, waker);
            }
            return Waited::Waiting;
        }
        match self.remove(ticket) {
            State::Placed(id) => Waited::Placed(id),
            State::Failed(failure) => Waited::Failed(failure),
            State::Free | State::Queued(_) => Waited::Waiting,
        }
    }

    /// Takes the call out, whatever has become of it; returns its id if it was placed.
    pub(crate) fn abandon(&mut self, ticket: Ticket, idle: &mut Vec<Waker>) -> Option<u64> {
        idle.extend(self.entries[ticket.index as usize].waker.take());
        if let State::Queued(queued) = &self.entries[ticket.index as usize].state {
            self.bytes -= queued.held();
            self.small.retain(|index| *index != ticket.index);
            self.large.retain(|index| *index != ticket.index);
        }
        match self.remove(ticket) {
            State::Placed(id) => Some(id),
            _ => None,
        }
    }

    fn remove(&mut self, ticket: Ticket) -> State {
        let entry = &mut self.entries[ticket.index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        debug_assert!(entry.waker.is_none());
        self.free.push(ticket.index);
        std::mem::replace(&mut entry.state, State::Free)
    }

    /// Gives memory back, if nobody holds a ticket.
    pub(crate) fn rest(&mut self) {
        if self.free.len() == self.entries.len() {
            *self = Waiting { next_sequence: self.next_sequence, ..Waiting::default() };
        }
    }

    /// Fails those queued calls for which `verdict` has one, and collects their wakers.
    pub(crate) fn fail_where(
        &mut self,
        mut verdict: impl FnMut(&mut NewCall) -> Option<Failure>,
        wakers: &mut Vec<Waker>,
    ) {
        let mut any = false;
        for entry in &mut self.entries {
            let State::Queued(queued) = &mut entry.state else {
                continue;
            };
            let Some(failure) = verdict(&mut queued.call) else {
                continue;
            };
            any = true;
            self.bytes -= queued.held();
            entry.state = State::Failed(failure);
            wakers.extend(entry.waker.take());
        }
        if any {
            let entries = &self.entries;
            let queued = |index: &u32| matches!(entries[*index as usize].state, State::Queued(_));
            self.small.retain(queued);
            self.large.retain(queued);
        }
    }
}
