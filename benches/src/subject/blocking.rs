//! Subjects that loop by themselves: on a plain thread, or around a runtime that they own.

use std::path::Path;
use std::process::ExitCode;

use super::command::{self, Command};
use super::recorder::Recorder;
use super::{About, Error, Ready, Spec};

/// A framework, or a bare mechanism, with loops of its own.
pub trait Blocking {
    /// What it says about itself.
    const ABOUT: About;

    /// Listens, calls [`Ready::at`], and serves; the process ends it.
    fn serve(transport: &str, dir: &Path, ready: Ready) -> Result<(), Error>;

    /// Connects and calls until the recorder has enough.
    fn load(transport: &str, address: &str, spec: &Spec, recorder: &mut Recorder) -> Result<(), Error>;
}

/// The whole program of a [`Blocking`] subject.
pub fn main_blocking<S: Blocking>() -> ExitCode {
    command::run(&S::ABOUT, |command| match command {
        Command::Serve { transport, dir, ready, .. } => {
            S::serve(&transport, &dir, ready)?;
            Ok(None)
        }
        Command::Load { transport, address, spec, .. } => {
            let mut recorder = Recorder::new(spec);
            S::load(&transport, &address, &spec, &mut recorder)?;
            recorder.outcome().map(Some)
        }
    })
}
