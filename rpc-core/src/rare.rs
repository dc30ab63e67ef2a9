//! Values that are seldom there.

use std::ops::{Deref, DerefMut};

/// A box of which the drop is a function of its own. Where it stands in what every call has, it is no more code there than a look
/// whether it is there.
#[derive(Debug)]
pub(crate) struct Rare<T>(Option<Box<T>>);

impl<T> Rare<T> {
    pub(crate) fn new(value: T) -> Rare<T> {
        Rare(Some(Box::new(value)))
    }

    pub(crate) const fn none() -> Rare<T> {
        Rare(None)
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        self.0.take().map(|value| *value)
    }
}

impl<T> Deref for Rare<T> {
    type Target = Option<Box<T>>;

    #[inline]
    fn deref(&self) -> &Option<Box<T>> {
        &self.0
    }
}

impl<T> DerefMut for Rare<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Option<Box<T>> {
        &mut self.0
    }
}

impl<T> Drop for Rare<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            drop_rare(value);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_rare<T>(value: Box<T>) {
    drop(value);
}
