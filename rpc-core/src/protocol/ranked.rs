//! Queues in which the urgent go first and nobody is starved.

use std::collections::VecDeque;

use crate::priority::Priority;

/// Whose turn it is: of eight one is the least urgent's, and one more not the most urgent's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn(u8);

impl Turn {
    /// Who goes first, then who if there are none of those.
    fn order(self) -> [Priority; 3] {
        use Priority::{High, Low, Normal};
        match self.0 % 8 {
            3 => [Normal, High, Low],
            7 => [Low, Normal, High],
            _ => [High, Normal, Low],
        }
    }

    /// The place of a priority in this turn, from 0.
    pub(crate) fn place_of(self, priority: Priority) -> usize {
        self.order().iter().position(|other| *other == priority).unwrap_or_default()
    }

    pub(crate) fn pass(&mut self) {
        self.0 = self.0.wrapping_add(1);
    }

    fn come_back(&mut self) {
        self.0 = self.0.wrapping_sub(1);
    }
}

/// A queue for each priority.
#[derive(Debug)]
pub(crate) struct Ranked<T> {
    normal: VecDeque<T>,
    /// Where there are any, or have been since the last rest.
    others: Option<Box<Others<T>>>,
    len: usize,
}

#[derive(Debug)]
struct Others<T> {
    high: VecDeque<T>,
    low: VecDeque<T>,
}

impl<T> Default for Ranked<T> {
    fn default() -> Self {
        Ranked { normal: VecDeque::new(), others: None, len: 0 }
    }
}

impl<T> Ranked<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn of(&self, priority: Priority) -> Option<&VecDeque<T>> {
        match priority {
            Priority::Low => self.others.as_ref().map(|others| &others.low),
            Priority::Normal => Some(&self.normal),
            Priority::High => self.others.as_ref().map(|others| &others.high),
        }
    }

    fn of_mut(&mut self, priority: Priority) -> &mut VecDeque<T> {
        let others = || Box::new(Others { high: VecDeque::new(), low: VecDeque::new() });
        match priority {
            Priority::Low => &mut self.others.get_or_insert_with(others).low,
            Priority::Normal => &mut self.normal,
            Priority::High => &mut self.others.get_or_insert_with(others).high,
        }
    }

    pub(crate) fn push_back(&mut self, priority: Priority, item: T) {
        self.len += 1;
        self.of_mut(priority).push_back(item);
    }

    /// Who goes first in this turn, and how urgent it is.
    pub(crate) fn front(&self, turn: Turn) -> Option<(Priority, &T)> {
        if self.others.is_none() {
            return self.normal.front().map(|item| (Priority::Normal, item));
        }
        let mut order = turn.order().into_iter();
        order.find_map(|priority| Some((priority, self.of(priority)?.front()?)))
    }

    /// Takes that one out.
    pub(crate) fn pop_front(&mut self, turn: Turn) -> Option<(Priority, T)> {
        let (priority, _) = self.front(turn)?;
        self.len -= 1;
        self.of_mut(priority).pop_front().map(|item| (priority, item))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.normal.retain(&mut keep);
        self.len = self.normal.len();
        if let Some(others) = &mut self.others {
            others.high.retain(&mut keep);
            others.low.retain(&mut keep);
            self.len += others.high.len() + others.low.len();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Ranked::default();
    }

    /// Gives memory back.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.normal.shrink_to_fit();
        self.others.take_if(|others| others.high.is_empty() && others.low.is_empty());
    }
}

/// The same, where each that is taken out has had its turn.
#[derive(Debug)]
pub(crate) struct Line<T> {
    queue: Ranked<T>,
    turn: Turn,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Line { queue: Ranked::default(), turn: Turn::default() }
    }
}

impl<T> Line<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn push_back(&mut self, priority: Priority, item: T) {
        self.queue.push_back(priority, item);
    }

    pub(crate) fn pop_front(&mut self) -> Option<(Priority, T)> {
        let first = self.queue.pop_front(self.turn);
        if first.is_some() {
            self.turn.pass();
        }
        first
    }

    /// Puts back what has just been taken out: its turn is still to come.
    pub(crate) fn push_front(&mut self, priority: Priority, item: T) {
        self.turn.come_back();
        self.queue.len += 1;
        self.queue.of_mut(priority).push_front(item);
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.queue.retain(keep);
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }

    pub(crate) fn shrink_to_fit(&mut self) {
        self.queue.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urgent_go_first_and_nobody_is_starved() {
        let mut line = Line::default();
        let all = [Priority::Low, Priority::Normal, Priority::High];
        for number in 0..100 {
            for priority in all {
                line.push_back(priority, number);
            }
        }
        let mut went: Vec<(Priority, i32)> = Vec::new();
        for _ in 0..80 {
            // One that had no room is the next again.
            let (priority, number) = line.pop_front().unwrap();
            line.push_front(priority, number);
            assert_eq!(line.pop_front(), Some((priority, number)));
            went.push((priority, number));
        }
        for eight in went.chunks(8) {
            let of = |priority| eight.iter().filter(|(other, _)| *other == priority).count();
            assert_eq!(all.map(of), [1, 1, 6]);
        }
        // Within a priority, in order.
        for priority in all {
            let numbers: Vec<i32> = went.iter().filter(|(other, _)| *other == priority).map(|(_, n)| *n).collect();
            assert!(numbers.iter().copied().eq(0..numbers.len() as i32));
        }
        let rest: Vec<_> = std::iter::from_fn(|| line.pop_front()).collect();
        assert_eq!(went.len() + rest.len(), 300);
        assert!(line.is_empty());
    }

    #[test]
    fn it_knows_how_many_it_has() {
        let mut queue = Ranked::default();
        for number in 0..30 {
            queue.push_back([Priority::Low, Priority::Normal, Priority::High][number % 3], number);
        }
        queue.retain(|number| number % 2 == 0);
        assert_eq!(queue.len(), 15);
        let turn = Turn::default();
        for _ in 0..15 {
            let front = queue.front(turn).map(|(priority, number)| (priority, *number));
            assert_eq!(queue.pop_front(turn), front);
        }
        assert!(queue.is_empty() && queue.pop_front(turn).is_none());
        queue.shrink_to_fit();
        assert!(queue.others.is_none());
    }
}
