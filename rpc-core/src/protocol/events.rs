//! What frames or the time ask of this side, until it is done.

use super::callee::Incoming;
use super::payload::Payload;
use crate::body::{Body, Received};

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request is whole.
    Request(Incoming),
    /// Its caller no longer wants it.
    Cancel(u64),
    /// Its deadline has passed.
    Expire(u64),
}

/// What is to be done, in order.
#[derive(Debug, Default)]
pub(crate) struct Events {
    list: Vec<Event>,
    /// The bytes of short requests, one after the other: less to move than each in a place of its own.
    short: Vec<u8>,
    /// The calls of the cancels among them.
    cancelled: Vec<u64>,
}

/// The bytes of a request, until its handler has them.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// In [`Events`], from `start` on.
    Short {
        start: u32,
        len: u32,
    },
    Long(Received),
}

impl Arrived {
    /// Takes them out. Those of a short request lie among `short`.
    #[inline]
    pub(crate) fn take(&mut self, short: &[u8]) -> Payload {
        match std::mem::replace(self, Arrived::Short { start: 0, len: 0 }) {
            Arrived::Short { start, len } => Payload::copy(&short[start as usize..][..len as usize]),
            Arrived::Long(bytes) => Payload::from(bytes),
        }
    }

    /// Keeps them apart from `short`.
    pub(super) fn keep(&mut self, short: &[u8]) {
        if let Arrived::Short { start, len } = *self {
            *self = Arrived::Long(Body::from(&short[start as usize..][..len as usize]).into());
        }
    }

    #[cfg(test)]
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Arrived::Short { .. } => panic!("they are elsewhere"),
            Arrived::Long(bytes) => bytes,
        }
    }
}

impl Events {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[inline]
    pub(crate) fn push(&mut self, event: Event) {
        if let Event::Cancel(id) = event {
            self.cancelled.push(id);
        }
        self.list.push(event);
    }

    /// Keeps the bytes of a request that is about to be added.
    #[inline]
    pub(crate) fn keep(&mut self, payload: &[u8]) -> Arrived {
        if payload.len() > Payload::INLINE_MAX {
            return Arrived::Long(Body::from(payload).into());
        }
        let start = self.short.len() as u32;
        self.short.extend_from_slice(payload);
        Arrived::Short { start, len: payload.len() as u32 }
    }

    /// What was added last, if that is a request.
    pub(crate) fn last_request(&self) -> Option<&Incoming> {
        match self.list.last() {
            Some(Event::Request(incoming)) => Some(incoming),
            _ => None,
        }
    }

    /// The same, taken out, with its bytes.
    pub(crate) fn pop_request(&mut self) -> Option<Incoming> {
        self.last_request()?;
        let Some(Event::Request(mut incoming)) = self.list.pop() else {
            return None;
        };
        if let Arrived::Short { start, .. } = incoming.payload {
            incoming.payload.keep(&self.short);
            // Nobody comes for them where nothing else is to be done.
            self.short.truncate(start as usize);
        }
        Some(incoming)
    }

    /// Takes everything out, in order. The bytes are those of short requests.
    #[inline]
    pub(crate) fn each(&mut self, mut f: impl FnMut(&mut Event, &[u8])) {
        for at in 0..self.list.len() {
            if !self.cancelled.is_empty() {
                self.look_ahead(at);
            }
            f(&mut self.list[at], &self.short);
        }
        self.list.clear();
        self.short.clear();
        self.cancelled.clear();
    }

    /// Tells a request of its cancel, which can only have come behind it.
    #[cold]
    fn look_ahead(&mut self, at: usize) {
        if at == 0 {
            self.cancelled.sort_unstable();
        }
        if let Event::Request(incoming) = &mut self.list[at] {
            incoming.cancelled = self.cancelled.binary_search(&incoming.id).is_ok();
        }
    }

    /// Gives memory back.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.list.shrink_to_fit();
        self.short.shrink_to_fit();
        self.cancelled.shrink_to_fit();
    }
}
