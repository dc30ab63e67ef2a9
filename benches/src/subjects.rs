//! The subjects that this program contains: trunkline, and what it stands on.

mod trunkline;

use std::process::ExitCode;

use trunkline_benches::subject;

/// Is the subject of that name.
pub(crate) fn main(name: &str) -> ExitCode {
    match name {
        "trunkline" => subject::main::<trunkline::Trunkline>(),
        _ => {
            eprintln!("there is no subject `{name}`");
            ExitCode::from(2)
        }
    }
}
