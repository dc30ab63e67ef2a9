//! Callers whose calls have found no memory to wait in.

use std::task::Waker;

/// Each is woken once, and tries again.
#[derive(Debug)]
pub(super) struct Starved {
    /// Of calls that go in one chunk, and need no memory where they need not wait.
    short: Vec<Waker>,
    others: Vec<Waker>,
    /// The least that one of them needs; `usize::MAX` without any.
    least: usize,
}

impl Default for Starved {
    fn default() -> Starved {
        Starved { short: Vec::new(), others: Vec::new(), least: usize::MAX }
    }
}

impl Starved {
    pub(super) fn len(&self) -> usize {
        self.short.len() + self.others.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.short.is_empty() && self.others.is_empty()
    }

    /// Whether somebody waits who need not, once there is a slot.
    pub(super) fn has_short(&self) -> bool {
        !self.short.is_empty()
    }

    /// The memory with which it is worth trying again.
    pub(super) fn least(&self) -> usize {
        self.least
    }

    /// Adds a caller, whose call takes so many bytes. One that comes back for other reasons is there already.
    pub(super) fn add(&mut self, waker: &mut Option<Waker>, bytes: usize, short: bool) {
        let known = |known: &Waker| waker.as_ref().is_some_and(|waker| known.will_wake(waker));
        if !self.short.iter().chain(&self.others).any(known) {
            let list = if short { &mut self.short } else { &mut self.others };
            list.extend(waker.take());
        }
        self.least = self.least.min(bytes);
    }

    /// So many of those with short calls, in their order.
    pub(super) fn wake_short(&mut self, most: usize, wakers: &mut Vec<Waker>) {
        wakers.extend(self.short.drain(..most.min(self.short.len())));
    }

    pub(super) fn wake(&mut self, wakers: &mut Vec<Waker>) {
        self.least = usize::MAX;
        wakers.append(&mut self.short);
        wakers.append(&mut self.others);
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.short.shrink_to_fit();
        self.others.shrink_to_fit();
    }
}
