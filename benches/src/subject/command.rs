//! The command line of a subject.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::{env, process, thread};

use serde::Serialize;
use serde_json::json;

use super::{About, Error, Outcome, Spec};
use crate::allocations;

/// The variable by which a subject is asked to count its allocations, both as server and as client.
pub const COUNT_ALLOCATIONS: &str = "TRUNKLINE_BENCH_ALLOCATIONS";

/// What a subject is asked to do.
pub(super) enum Command {
    Serve { transport: String, mode: String, dir: PathBuf, ready: Ready },
    Load { transport: String, mode: String, address: String, spec: Spec },
}

/// To be told where the server listens, once it does.
#[derive(Debug)]
#[must_use]
pub struct Ready(());

impl Ready {
    /// Tells whoever started the server. An address is one line.
    pub fn at(self, address: impl std::fmt::Display) {
        let mut out = io::stdout().lock();
        // Nobody who reads is nobody to serve: the end of stdin says so as well.
        let _ = writeln!(out, "{address}").and_then(|()| out.flush());
    }
}

/// Does what the arguments ask for.
pub(super) fn run(about: &About, act: impl FnOnce(Command) -> Result<Option<Outcome>, Error>) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1 + prefix().len()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if env::var_os(COUNT_ALLOCATIONS).is_some() {
        allocations::count();
    }
    match *arguments {
        ["describe"] => describe(about),
        ["serve", transport, mode, dir] => {
            // A child over pipes has no stdin worth reading: its framework tells it when the parent has gone.
            if transport != "pipe" {
                end_with_stdin();
            }
            let (transport, mode) = (transport.to_owned(), mode.to_owned());
            match act(Command::Serve { transport, mode, dir: dir.into(), ready: Ready(()) }) {
                Ok(_) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{}: {error}", about.name);
                    ExitCode::FAILURE
                }
            }
        }
        ["load", transport, mode, address, spec] => {
            let (transport, mode, address) = (transport.to_owned(), mode.to_owned(), address.to_owned());
            let outcome = serde_json::from_str(spec)
                .map_err(Error::from)
                .and_then(|spec| act(Command::Load { transport, mode, address, spec }));
            match outcome {
                Ok(Some(outcome)) => print(&Outcome { allocations: allocations::counted(), ..outcome }),
                Ok(None) => print(&json!({ "error": "nothing was measured" })),
                Err(error) => print(&json!({ "error": error.to_string() })),
            }
            // Connections and threads may be left; they have done their duty.
            process::exit(0);
        }
        _ => {
            eprintln!("usage: describe | serve TRANSPORT MODE DIR | load TRANSPORT MODE ADDRESS SPEC");
            ExitCode::from(2)
        }
    }
}

/// This program as the server at the other end of the pipes that `load` makes, in the mode that `load` runs in. It must not
/// print: stdout belongs to the outcome.
pub fn child(dir: &str) -> process::Command {
    let prefix = prefix();
    let mode = env::args_os().nth(prefix.len() + 3).unwrap_or_default();
    let mut command = process::Command::new(env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()));
    command.args(prefix).args(["serve", "pipe"]).arg(mode).arg(dir).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The arguments that choose among several subjects in one program.
fn prefix() -> Vec<OsString> {
    let words = ["describe", "serve", "load"];
    env::args_os().skip(1).take_while(|argument| !words.iter().any(|word| argument == *word)).collect()
}

fn describe(about: &About) -> ExitCode {
    #[derive(Serialize)]
    struct Described<'a> {
        #[serde(flatten)]
        about: &'a About,
        workloads: &'a [&'a str],
    }
    let workloads = ["echo", "upload", "down", "up"];
    print(&Described { about, workloads: if about.streams { &workloads } else { &workloads[..2] } });
    ExitCode::SUCCESS
}

fn print(line: &impl Serialize) {
    match serde_json::to_string(line) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("{error}"),
    }
}

/// Ends this process with whoever started it, however that one ends. Until then a line asks for the number of allocations.
fn end_with_stdin() {
    thread::spawn(|| {
        for _ in io::stdin().lines().map_while(Result::ok) {
            println!("{}", allocations::counted());
        }
        process::exit(0);
    });
}
