//! The measuring program.

mod subjects;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("subject") => subjects::main(arguments.get(1).map_or("", String::as_str)),
        _ => ExitCode::FAILURE,
    }
}
