//! The tour: the same calls to the same service over every transport there is, each answer checked.
//!
//! `cargo run --release --example tour` starts real server processes, prints a table, and fails if any answer was wrong.

#![allow(unreachable_pub, reason = "its files are modules of one program")]

mod measure;
mod report;
mod service;
mod stops;

use std::error::Error;
use std::fs::Permissions;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use measure::{Extent, Measured, measure};
use report::{Outcome, table};
use stops::{STOPS, Served, Stop};

const HELP: &str = "\
The same calls to the same service over every transport, each answer checked.

Usage: cargo run --release --example tour -- [OPTIONS]

Options:
  --json   print one JSON object a transport instead of the table
  --quick  make few calls: it is for seeing that everything works, not for numbers
  --help   print this

The exit status is 0 if every answer was right, 1 if not, 2 if the options make no sense.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mut json, mut quick) = (false, false);
    for argument in &arguments {
        match argument.as_str() {
            // How it starts its own servers.
            "--serve" if arguments.len() == 2 => return finish(service::serve(&arguments[1]).map(|()| true)),
            "--json" => json = true,
            "--quick" => quick = true,
            "--help" | "-h" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            unknown => {
                eprintln!("tour: there is no option `{unknown}`; `--help` lists them");
                return ExitCode::from(2);
            }
        }
    }
    finish(tour(json, quick))
}

fn finish(went_well: Result<bool, Box<dyn Error>>) -> ExitCode {
    match went_well {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tour: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every answer was right.
fn tour(json: bool, quick: bool) -> Result<bool, Box<dyn Error>> {
    let extent = if quick {
        Extent { time: Duration::from_millis(200), calls: 640 }
    } else {
        Extent { time: Duration::from_millis(1500), calls: 10_000_000 }
    };
    let directory = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()?;
    let mut outcomes = Vec::new();
    for (n, stop) in STOPS.iter().enumerate() {
        progress(&format!("{} of {}: {} ...", n + 1, STOPS.len(), stop.transport));
        let outcome = visit(stop, directory.path(), extent);
        if json {
            writeln!(stdout(), "{}", outcome.json())?;
        }
        outcomes.push(outcome);
    }
    progress("");
    if !json {
        write!(stdout(), "{}", table(&outcomes))?;
    }
    for outcome in &outcomes {
        if let Err(error) = &outcome.measured {
            eprintln!("tour: {}: {error}", outcome.transport);
        }
    }
    Ok(outcomes.iter().all(Outcome::ok))
}

fn visit(stop: &Stop, directory: &Path, extent: Extent) -> Outcome {
    let measured = stop.serve(directory).and_then(|served| call(&served, extent));
    let (peer, measured) = match measured {
        Ok((peer, measured)) => (peer, Ok(measured)),
        Err(error) => (String::new(), Err(error.to_string())),
    };
    Outcome { transport: stop.transport, peer, measured }
}

/// Who answered, and how fast.
#[tokio::main]
async fn call(served: &Served, extent: Extent) -> Result<(String, Measured), Box<dyn Error>> {
    let tour = served.connect().await?;
    let peer = served.meet(tour.pid().await?, tour.connection().peer())?;
    Ok((peer, measure(&tour, extent).await?))
}

/// Shows what is going on; on a terminal, in one line that is written over.
fn progress(line: &str) {
    if stderr().is_terminal() {
        eprint!("\r\x1b[K{line}");
    } else if !line.is_empty() {
        eprintln!("{line}");
    }
}
