//! What the streams of a connection have yet to send: items that were taken over, and those that whoever makes them keeps
//! until there is room. All of them together have a limit.
//!
//! Where that is reached, a source is asked for more when nothing of its own waits any more, and for a little at a time
//! ([`Room`]). So what readers that take nothing leave lying holds up nobody who reads, and is no more than the limit and a
//! little for each stream.

use std::sync::Arc;

use crate::share::Share;

/// How much of a stream may be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Much,
    /// Some, since nothing of it waits.
    Little,
    /// Nothing; the waker is called when what waits of it has gone.
    None,
    /// Nobody wants any of it.
    Over,
}

#[derive(Debug)]
pub(super) struct Unsent {
    bytes: u64,
    max: u64,
    share: Arc<Share>,
    /// So many of them count in the memory of all connections.
    charged: u64,
}

/// So many bytes do not count in the memory of all connections, and those above do in steps of as many: streams whose
/// readers keep up have nothing to do with what everybody counts in.
const STEP: u64 = 64 << 10;

impl Unsent {
    pub(super) fn new(max: u64, share: Arc<Share>) -> Unsent {
        Unsent { bytes: 0, max, share, charged: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is kept of a stream was so much.
    pub(super) fn replace(&mut self, before: usize, now: usize) {
        self.bytes += now as u64;
        self.remove(before);
        self.charge();
    }

    pub(super) fn remove(&mut self, bytes: usize) {
        debug_assert!(bytes as u64 <= self.bytes);
        self.bytes = self.bytes.saturating_sub(bytes as u64);
        if self.charged > 0 {
            let needed = self.bytes.next_multiple_of(STEP);
            let freed = self.charged.saturating_sub(needed);
            self.charged -= freed;
            self.share.release(freed);
        }
    }

    fn charge(&mut self) {
        let over = self.bytes.saturating_sub(self.charged + STEP);
        if over > 0 && self.share.charge_spare(over.next_multiple_of(STEP)) {
            self.charged += over.next_multiple_of(STEP);
        }
    }

    /// Whether the limit is reached, here or by all connections.
    pub(super) fn is_full(&mut self) -> bool {
        self.charge();
        self.bytes >= self.max || self.bytes > self.charged + STEP
    }

    pub(super) fn is_at_rest(&self) -> bool {
        (self.bytes, self.charged) == (0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn what_waits_counts_for_all_connections_and_leaves_them_half() {
        let share = Arc::new(Share::new(&Limits::default().memory_total(1 << 20)));
        let [mut first, mut second] = [0; 2].map(|_| Unsent::new(1 << 20, Arc::clone(&share)));
        first.replace(0, STEP as usize);
        assert_eq!((first.is_full(), share.bytes()), (false, 0));
        first.replace(STEP as usize, 6 * STEP as usize + 1);
        assert_eq!((first.is_full(), share.bytes()), (false, 6 * STEP));
        second.replace(0, 3 * STEP as usize);
        assert_eq!((second.is_full(), share.bytes()), (false, 8 * STEP));
        second.replace(3 * STEP as usize, 3 * STEP as usize + 1);
        assert_eq!((second.is_full(), first.is_full(), share.bytes()), (true, false, 8 * STEP));
        assert!(share.charge(8 * STEP).is_ok());
        share.release(8 * STEP);
        // As soon as there is room again.
        first.remove(6 * STEP as usize);
        assert_eq!((second.is_full(), share.bytes()), (false, 4 * STEP));
        first.remove(1);
        second.remove(3 * STEP as usize + 1);
        assert!(first.is_at_rest() && second.is_at_rest());
        assert_eq!(share.bytes(), 0);
    }

    #[test]
    fn a_connection_has_a_limit_of_its_own() {
        let share = Arc::new(Share::new(&Limits::default()));
        let mut unsent = Unsent::new(1000, Arc::clone(&share));
        unsent.replace(0, 999);
        assert!(!unsent.is_full());
        unsent.replace(0, 1);
        assert!(unsent.is_full());
        unsent.remove(1);
        assert!(!unsent.is_full());
    }
}
