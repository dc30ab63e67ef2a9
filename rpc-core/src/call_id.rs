//! A number that a call keeps when it is made again.

use std::fmt;
use std::str::FromStr;

use crate::random;

/// A number that tells a call from all others, and that its caller gives it again when it makes it again.
///
/// The framework makes a call at most once. Where an outcome is not known ([`MaybeExecuted`](crate::CallError::MaybeExecuted)),
/// a caller may try again with the same id, and a handler can see that it has done this before:
///
/// ```
/// # use std::collections::HashMap;
/// # use std::sync::Mutex;
/// # use trunkline_core::CallId;
/// /// Remembers what it has answered, by who asked and the call's id. A real one forgets after a while.
/// #[derive(Default)]
/// struct Accounts {
///     answered: Mutex<HashMap<(u32, CallId), u64>>,
/// }
///
/// impl Accounts {
///     /// In a handler: `self.deposit(uid, cx.call_id(), cents)`, with the `uid` of `cx.peer()`.
///     fn deposit(&self, uid: u32, call: CallId, cents: u64) -> u64 {
///         let mut answered = self.answered.lock().unwrap();
///         *answered.entry((uid, call)).or_insert_with(|| cents /* the work that must be done once */)
///     }
/// }
///
/// # let accounts = Accounts::default();
/// let id = CallId::random(); // a caller's: `accounts.deposit(50).call_id(id).await`
/// assert_eq!(accounts.deposit(1000, id, 50), 50);
/// assert_eq!(accounts.deposit(1000, id, 50), 50); // the second time it only remembers
/// # assert_eq!(accounts.answered.lock().unwrap().len(), 1);
/// ```
///
/// A peer chooses its ids itself, and may choose another's: remember them by who it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(u128);

impl CallId {
    /// One that nobody else has.
    pub fn random() -> CallId {
        CallId(random::bits128())
    }

    /// One that means something to its caller.
    pub const fn from_u128(number: u128) -> CallId {
        CallId(number)
    }

    /// The number.
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallId({self})")
    }
}

impl FromStr for CallId {
    type Err = std::num::ParseIntError;

    /// Parses hex digits.
    fn from_str(text: &str) -> Result<CallId, Self::Err> {
        u128::from_str_radix(text, 16).map(CallId)
    }
}
