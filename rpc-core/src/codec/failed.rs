//! The error that types see while they are decoded.

use std::cell::Cell;
use std::fmt;

use super::DecodeError;

/// Decoding has failed. Why is kept by the thread, of the last failure; of a type that goes on after one and then runs out of
/// bytes, it may be that one.
///
/// A result has its value and its error in the same place. What serde makes of an array goes through results of which the
/// array is not aligned as an error is, and then the compiler moves it in pieces, some of a byte, cut where the parts of the
/// error are; storing those and loading them together takes the processor longer than all of the rest. With an error that
/// takes no place, values stay whole.
pub(super) struct Failed(());

thread_local! {
    /// It was not that the bytes were too short.
    static NOTED: Cell<bool> = const { Cell::new(false) };
    static WHY: Cell<Option<DecodeError>> = const { Cell::new(None) };
}

impl Failed {
    /// The bytes end inside the value. Nothing is noted of it: so that whatever reads the next bytes can fail in one place.
    pub(super) const TOO_SHORT: Failed = Failed(());

    /// A value is about to be decoded.
    #[inline]
    pub(super) fn begin() {
        NOTED.set(false);
    }

    /// What it was. As a result, because a function of its own has to make that: where it were made beside a value, the two
    /// would be taken apart and merged.
    #[cold]
    #[inline(never)]
    pub(super) fn into_result<T>(self) -> Result<T, DecodeError> {
        Err(self.why())
    }

    fn why(self) -> DecodeError {
        if !NOTED.get() {
            return DecodeError::UnexpectedEnd;
        }
        // The thread may be about to end.
        WHY.try_with(Cell::take).ok().flatten().unwrap_or(DecodeError::Malformed)
    }
}

impl From<DecodeError> for Failed {
    #[cold]
    #[inline(never)]
    fn from(error: DecodeError) -> Failed {
        NOTED.set(true);
        let _ = WHY.try_with(|why| why.set(Some(error)));
        Failed(())
    }
}

impl serde::de::Error for Failed {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Failed {
        DecodeError::Rejected(message.to_string()).into()
    }
}

/// For types that make an error of their own of it.
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = Failed(()).why();
        let shown = why.fmt(f);
        let _ = Failed::from(why);
        shown
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failed {}
