//! The subjects that this program contains: trunkline, and what it stands on.

mod floor;
pub(crate) mod trunkline;

use std::process::ExitCode;

use trunkline_benches::subject::{self, About, Blocking};

/// A subject by its name.
pub(crate) struct Contained {
    pub(crate) about: About,
    pub(crate) main: fn() -> ExitCode,
}

/// All of them, trunkline first.
pub(crate) const CONTAINED: &[Contained] = &[
    tasks::<trunkline::Default>(),
    tasks::<trunkline::Asleep>(),
    blocking::<trunkline::Waiting>(),
    tasks::<trunkline::Roomy>(),
    tasks::<trunkline::Trusting>(),
    blocking::<floor::Sleeping>(),
    blocking::<floor::Spinning>(),
    blocking::<floor::RuntimeSleeping>(),
    blocking::<floor::RuntimeSpinning>(),
    blocking::<floor::Ring>(),
];

const fn tasks<S: trunkline::Setting>() -> Contained {
    Contained { about: S::ABOUT, main: subject::main::<trunkline::Trunkline<S>> }
}

const fn blocking<S: Blocking>() -> Contained {
    Contained { about: S::ABOUT, main: subject::main_blocking::<S> }
}

/// Is the subject of that name.
pub(crate) fn main(name: &str) -> ExitCode {
    match CONTAINED.iter().find(|subject| subject.about.name == name) {
        Some(subject) => (subject.main)(),
        None => {
            eprintln!("there is no subject `{name}`");
            ExitCode::from(2)
        }
    }
}
