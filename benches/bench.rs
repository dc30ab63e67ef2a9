//! What `cargo bench` runs: the measuring program, with the same arguments.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // Cargo adds `--bench` for harnesses that can also test.
    let arguments = env::args_os().skip(1).filter(|argument| argument != "--bench");
    let mut program = Command::new(env!("CARGO_BIN_EXE_trunkline-bench"));
    // Cargo starts this in the package; files are named from the top, where the command is given.
    let error = program.args(arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).exec();
    eprintln!("the measuring program does not start: {error}");
    ExitCode::FAILURE
}
