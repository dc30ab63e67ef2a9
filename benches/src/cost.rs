//! What calls and connections cost that no clock shows: system calls, and the memory of connections that do nothing.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use trunkline_benches::subject::{COUNT_ALLOCATIONS, Error};

use crate::codec::Codec;
use crate::idle::{self, Idle};
use crate::peers::Subject;
use crate::plan::{Cell, TRANSPORTS, Times, What};
use crate::process::{Pin, Server, end, load};

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Cost {
    /// Who counted, if anybody can.
    pub(crate) counter: Option<&'static str>,
    pub(crate) calls: Vec<Counted>,
    pub(crate) allocations: Vec<Counted>,
    pub(crate) codec: Option<Codec>,
    pub(crate) idle: Vec<Idle>,
    /// What could not be measured, and why.
    pub(crate) missing: Vec<String>,
}

/// How often both processes do something for one call.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Counted {
    pub(crate) transport: &'static str,
    pub(crate) subject: String,
    pub(crate) mode: String,
    pub(crate) what: String,
    pub(crate) a_call: f64,
}

impl Cost {
    /// System calls a call in this row, if they were counted. Those of starting and connecting are among them.
    pub(crate) fn calls(&self, transport: &str, subject: &str, mode: &str, what: What) -> Option<f64> {
        of(&self.calls, transport, subject, mode, what)
    }

    /// Allocations a call in this row, if they were counted.
    pub(crate) fn allocations(&self, transport: &str, subject: &str, mode: &str, what: What) -> Option<f64> {
        of(&self.allocations, transport, subject, mode, what)
    }
}

fn of(rows: &[Counted], transport: &str, subject: &str, mode: &str, what: What) -> Option<f64> {
    let what = what.name();
    let row = rows.iter().find(|row| {
        (row.transport, row.subject.as_str(), row.mode.as_str(), row.what.as_str())
            == (transport, subject, mode, what.as_str())
    });
    row.map(|row| row.a_call)
}

/// A program that counts system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    Perf,
    Strace,
}

impl Counter {
    /// The one that works here, and disturbs least.
    pub(crate) fn find(dir: &Path) -> Option<Counter> {
        [Counter::Perf, Counter::Strace].into_iter().find(|counter| {
            let file = dir.join("counter");
            let status = counter.command(&file).arg("true").stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success()) && counter.read(&file).is_some()
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Counter::Perf => "perf stat",
            Counter::Strace => "strace",
        }
    }

    fn command(self, file: &Path) -> Command {
        match self {
            Counter::Perf => {
                let mut command = Command::new("perf");
                command.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-o"]).arg(file);
                command
            }
            Counter::Strace => {
                let mut command = Command::new("strace");
                command.args(["-c", "-f", "-o"]).arg(file);
                command
            }
        }
    }

    fn read(self, file: &Path) -> Option<f64> {
        let text = fs::read_to_string(file).ok()?;
        match self {
            Counter::Perf => text.lines().find(|line| line.contains("sys_enter"))?.split(',').next()?.parse().ok(),
            Counter::Strace => {
                text.lines().find(|line| line.ends_with("total"))?.split_whitespace().nth(3)?.parse().ok()
            }
        }
    }

    /// Counts what a process does from now on.
    fn attach(self, pid: u32, file: &Path) -> Result<Child, Error> {
        let mut command = self.command(file);
        let child = command.arg("-p").arg(pid.to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        sleep(ATTACHING);
        Ok(child)
    }

    /// System calls a call in this cell.
    pub(crate) fn count(self, subject: &Subject, cell: &Cell, times: Times, dir: &Path) -> Result<Counted, Error> {
        let (ours, theirs) = (dir.join("client-calls"), dir.join("server-calls"));
        let mut client = self.command(&ours);
        client.args(&subject.program);
        let spec = cell.what.spec(Times { warm_ms: 0, ..times });
        let place = [cell.transport, &cell.mode];
        let mut counted = 0.0;
        let outcome = if cell.transport == "pipe" {
            // The server is a child of what is counted.
            load(client, place, &dir.display().to_string(), &spec, Pin::None)?
        } else {
            let server = Server::start(subject.command(), cell.transport, &cell.mode, dir, Pin::None)?;
            let mut counter = self.attach(server.pid(), &theirs)?;
            let outcome = load(client, place, &server.address, &spec, Pin::None);
            let _ = kill(Pid::from_raw(counter.id() as i32), Signal::SIGINT);
            end(&mut counter);
            counted += self.read(&theirs).ok_or("the server's system calls were not counted")?;
            outcome?
        };
        counted += self.read(&ours).ok_or("the client's system calls were not counted")?;
        Ok(Counted::of(subject, cell, counted / outcome.calls as f64))
    }
}

impl Counted {
    fn of(subject: &Subject, cell: &Cell, a_call: f64) -> Counted {
        Counted {
            transport: cell.transport,
            subject: subject.name.clone(),
            mode: cell.mode.clone(),
            what: cell.what.name(),
            a_call,
        }
    }
}

/// Allocations a call in this cell: by how many more a longer run makes than a shorter one, so that starting cancels out.
pub(crate) fn allocations(subject: &Subject, cell: &Cell, times: Times, dir: &Path) -> Result<Counted, Error> {
    let place = [cell.transport, &cell.mode];
    let counting = || {
        let mut command = subject.command();
        command.env(COUNT_ALLOCATIONS, "1");
        command
    };
    let run = |span_ms| -> Result<(f64, f64), Error> {
        let mut server = Server::start(counting(), cell.transport, &cell.mode, dir, Pin::None)?;
        let spec = cell.what.spec(Times { span_ms, ..times });
        let outcome = load(counting(), place, &server.address, &spec, Pin::None)?;
        Ok(((outcome.allocations + server.allocations()?) as f64, outcome.calls as f64))
    };
    let (few, many) = (run(times.span_ms / 2)?, run(2 * times.span_ms)?);
    let a_call = (many.0 - few.0) / (many.1 - few.1);
    Ok(Counted::of(subject, cell, a_call))
}

/// Cells whose allocations are counted: W1 and W4 of trunkline and of peers, on one thread.
pub(crate) fn is_allocating(subject: &Subject, cell: &Cell) -> bool {
    (cell.what == What::W1 || cell.what.is_stream())
        && ["unix", "shm"].contains(&cell.transport)
        && cell.mode != "mt"
        && (["trunkline", "raw", "raw-ring"].contains(&subject.name.as_str()) || subject.is_peer())
}

/// Cells whose system calls are counted: W1 and W2 of trunkline, of floors that sleep, and of peers, on one thread.
pub(crate) fn is_counted(subject: &Subject, cell: &Cell) -> bool {
    matches!(cell.what, What::W1 | What::W2)
        && cell.mode != "mt"
        && (["trunkline", "trunkline-asleep", "raw", "raw-tokio"].contains(&subject.name.as_str()) || subject.is_peer())
}

/// Transports on which idle connections are measured.
pub(crate) fn idle_transports() -> impl Iterator<Item = &'static str> {
    TRANSPORTS.into_iter().filter(|transport| idle::TRANSPORTS.contains(transport))
}

/// A tracer has no way to say that it has begun.
const ATTACHING: Duration = Duration::from_millis(100);
