//! Credit: permission to send payload bytes, counted on both sides of each direction.

use crate::error::ProtocolError;

/// No window is larger: far above what anybody has, far below where sums could overflow.
pub(crate) const WINDOW_MAX: u64 = 1 << 48;

/// The sender's side of a window.
#[derive(Debug)]
pub(crate) struct SendWindow {
    size: u64,
    /// Bytes that messages may begin with now.
    available: u64,
    /// Bytes of messages that have begun, yet to be sent. `available + reserved` is at most `size`; what is missing has
    /// been sent, and only for that can credit come back.
    reserved: u64,
}

impl SendWindow {
    pub(crate) fn new(size: u64) -> SendWindow {
        SendWindow { size, available: size, reserved: 0 }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes sent for which no credit has come back.
    pub(crate) fn in_use(&self) -> u64 {
        self.size - self.available
    }

    /// Bytes that may be sent now.
    pub(crate) fn available(&self) -> u64 {
        self.available
    }

    pub(crate) fn allows(&self, len: u64) -> bool {
        len <= self.available
    }

    /// Takes `len` bytes for a message that begins; the caller has asked [`allows`](Self::allows).
    pub(crate) fn take(&mut self, len: u64) {
        debug_assert!(self.allows(len));
        self.available = self.available.saturating_sub(len);
        self.reserved += len;
    }

    /// Notes that `len` of the bytes taken have been sent.
    pub(crate) fn sent(&mut self, len: u64) {
        debug_assert!(len <= self.reserved);
        self.reserved = self.reserved.saturating_sub(len);
    }

    /// Gives back what was taken but will not be sent.
    pub(crate) fn unsend(&mut self, len: u64) {
        self.sent(len);
        self.available += len;
    }

    /// The receiver allows `len` bytes more at a time than before.
    pub(crate) fn grow(&mut self, len: u64) -> Result<(), ProtocolError> {
        let size = self.size.checked_add(len).filter(|size| *size <= WINDOW_MAX);
        self.size = size.ok_or(ProtocolError::CreditOverflow)?;
        self.available += len;
        Ok(())
    }

    /// The receiver has let go of `len` bytes.
    pub(crate) fn give(&mut self, len: u64) -> Result<(), ProtocolError> {
        let outstanding = self.size - self.available - self.reserved;
        if len > outstanding {
            return Err(ProtocolError::CreditOverflow);
        }
        self.available += len;
        Ok(())
    }
}

/// The receiver's side: `granted + held + owed` is always `size`, and `promised <= granted`.
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    size: u64,
    /// Bytes the sender may still send.
    granted: u64,
    /// Of these, what messages that have begun will still take.
    promised: u64,
    /// Bytes received and still held.
    held: u64,
    /// Bytes let go of and not yet given back.
    owed: u64,
}

impl ReceiveWindow {
    pub(crate) fn new(size: u64) -> ReceiveWindow {
        ReceiveWindow { size, granted: size, promised: 0, held: 0, owed: 0 }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The caller has placed the CREDIT frame that says so.
    pub(crate) fn grow(&mut self, len: u64) {
        self.size += len;
        self.granted += len;
    }

    /// Whether the sender has used all of it.
    pub(crate) fn is_used_up(&self) -> bool {
        self.granted == 0
    }

    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// Accounts for the first frame of a message of `total` bytes, before anybody looks what it belongs to.
    pub(crate) fn begin(&mut self, len: u64, total: u64) -> Result<(), ProtocolError> {
        let free = self.granted - self.promised;
        if total.max(len) > free {
            return Err(ProtocolError::CreditOverrun { over: total.max(len) - free });
        }
        self.promised += total.saturating_sub(len);
        self.granted -= len;
        self.held += len;
        Ok(())
    }

    /// Accounts for a further chunk of a message that is known here.
    pub(crate) fn go_on(&mut self, len: u64) -> Result<(), ProtocolError> {
        let Some(promised) = self.promised.checked_sub(len) else {
            return Err(ProtocolError::CreditOverrun { over: len - self.promised });
        };
        self.promised = promised;
        self.granted -= len;
        self.held += len;
        Ok(())
    }

    /// The rest of a message that has begun will not come, or comes as [`stray`](Self::stray) bytes.
    pub(crate) fn forget(&mut self, rest: u64) {
        debug_assert!(rest <= self.promised);
        self.promised = self.promised.saturating_sub(rest);
    }

    /// Accounts for bytes that belong to nothing any more: they are let go of at once.
    pub(crate) fn stray(&mut self, len: u64) -> Result<(), ProtocolError> {
        self.begin(len, len)?;
        self.release(len);
        Ok(())
    }

    /// Lets go of bytes that were received.
    pub(crate) fn release(&mut self, len: u64) {
        debug_assert!(len <= self.held);
        self.held = self.held.saturating_sub(len);
        self.owed += len;
    }

    /// Whether so much is owed that the sender should hear of it now.
    pub(crate) fn pressing(&self) -> bool {
        self.owed * 4 >= self.size
    }

    pub(crate) fn owed(&self) -> u64 {
        self.owed
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.granted == self.size && self.promised == 0 && self.held == 0 && self.owed == 0
    }

    /// Grants what is owed; the caller has placed the CREDIT frame.
    pub(crate) fn grant(&mut self) {
        self.granted += self.owed;
        self.owed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_over_the_grant_are_an_overrun() {
        let mut window = ReceiveWindow::new(100);
        window.begin(60, 60).unwrap();
        assert_eq!(window.begin(1, 41), Err(ProtocolError::CreditOverrun { over: 1 }));
        window.begin(10, 40).unwrap();
        assert_eq!(window.stray(1), Err(ProtocolError::CreditOverrun { over: 1 }));
        window.go_on(30).unwrap();
        window.release(100);
        assert_eq!((window.held(), window.owed()), (0, 100));
        window.grant();
        window.begin(100, 100).unwrap();
    }

    #[test]
    fn credit_comes_back_only_for_what_was_sent() {
        let mut window = SendWindow::new(10);
        window.take(4);
        assert_eq!(window.give(1), Err(ProtocolError::CreditOverflow));
        window.sent(3);
        assert_eq!(window.give(4), Err(ProtocolError::CreditOverflow));
        assert_eq!(window.give(u64::MAX), Err(ProtocolError::CreditOverflow));
        window.give(3).unwrap();
        window.unsend(1);
        assert_eq!(window.in_use(), 0);
        assert_eq!(window.give(1), Err(ProtocolError::CreditOverflow));
        window.grow(5).unwrap();
        assert_eq!((window.available(), window.in_use()), (15, 0));
        for much in [WINDOW_MAX, u64::MAX] {
            assert_eq!(window.grow(much), Err(ProtocolError::CreditOverflow));
        }
    }
}
