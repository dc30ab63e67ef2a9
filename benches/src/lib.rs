//! What a program needs in order to be measured.
//!
//! The measuring program, `trunkline-bench`, starts other programs, the subjects, twice each: as a server and as a client
//! that makes the calls. [`subject`] is all of a subject but the framework that it is about.
//!
//! Another program, `trunkline-instructions`, has no clock: `.ci/instructions` counts with it what a call takes, and
//! compares that with `instructions.txt`. A third, `trunkline-soak`, measures nothing: it does everything at once, and looks
//! whether anything is wrong or left.
//!
//! # Invariants
//!
//! - A call counts when its reply has been compared with what it should be, not before.
//! - All subjects are driven by the same code: the same loops, clocks and histograms.
//!
//! # Non-goals
//!
//! Measuring time inside one process; anything but Linux.

pub mod allocations;
mod payload;
pub mod subject;

pub use payload::{Item, checksum, checksum_in_turns, payload};
