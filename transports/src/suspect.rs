//! What a peer has sent, or may have, and is to be closed without waiting for it.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Descriptors of kinds unknown, or a socket on which some may wait to be received. Whoever closes one of them last can
/// be kept waiting by whoever made it, as long as that one likes: by a socket that lingers, by a file system in user
/// space. So it is closed on a thread that has nothing else to do.
#[derive(Debug)]
pub(crate) struct Suspect<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Suspect<T> {
    pub(crate) fn new(thing: T) -> Suspect<T> {
        Suspect(Some(thing))
    }

    /// It has turned out to be harmless.
    #[allow(dead_code, reason = "streams of bytes have no use for it")]
    pub(crate) fn trust(mut self) -> T {
        self.0.take().expect("taken only here and when it is dropped")
    }
}

impl<T: Send + 'static> Deref for Suspect<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken only when it is gone")
    }
}

impl<T: Send + 'static> DerefMut for Suspect<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("taken only when it is gone")
    }
}

impl<T: Send + 'static> Drop for Suspect<T> {
    fn drop(&mut self) {
        if let Some(thing) = self.0.take() {
            close(Box::new(thing));
        }
    }
}

/// So many can be held up at a time before others pile up behind them. None of them has a descriptor: it is given back
/// before the waiting begins.
const THREADS_MAX: usize = 64;

struct Waiting {
    things: VecDeque<Box<dyn Send>>,
    threads: usize,
}

/// Protects what waits to be closed; never held while something is closed.
static WAITING: Mutex<Waiting> = Mutex::new(Waiting { things: VecDeque::new(), threads: 0 });

fn close(thing: Box<dyn Send>) {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.things.push_back(thing);
    if waiting.threads < THREADS_MAX {
        let closer = thread::Builder::new().name("trunkline-close".to_owned()).stack_size(64 << 10);
        // If there can be no thread now, the next one does it.
        if closer.spawn(close_all).is_ok() {
            waiting.threads += 1;
        }
    }
}

fn close_all() {
    loop {
        let thing = {
            let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
            let thing = waiting.things.pop_front();
            waiting.threads -= usize::from(thing.is_none());
            thing
        };
        match thing {
            Some(thing) => drop(thing),
            None => return,
        }
    }
}
