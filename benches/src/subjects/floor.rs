//! What trunkline stands on, with no framework: the same bytes through the same mechanism.
//!
//! Calls and replies are as long as trunkline's frames, and every one is compared with what it should be. Calls in flight
//! are a batch: written at once, answered at once.

mod blocking;
mod bytes;
mod mapping;
mod ring;
mod runtime;

pub(crate) use blocking::{Sleeping, Spinning};
pub(crate) use ring::Ring;
pub(crate) use runtime::{RuntimeSleeping, RuntimeSpinning};

use std::time::Duration;

/// How long a floor that polls asks again before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
