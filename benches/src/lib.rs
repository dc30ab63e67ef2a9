//! What a program needs in order to be measured.
//!
//! The measuring program, `trunkline-bench`, starts other programs, the subjects, twice each: as a server and as a client
//! that makes the calls. [`subject`] is all of a subject but the framework that it is about.
//!
//! # Invariants
//!
//! - A call counts when its reply has been compared with what it should be, not before.
//! - All subjects are driven by the same code: the same loops, clocks and histograms.
//!
//! # Non-goals
//!
//! Measuring inside one process; anything but Linux.

mod payload;
pub mod subject;

pub use payload::{Item, checksum, payload};
