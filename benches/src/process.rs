//! The two processes of one measurement.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use trunkline_benches::subject::{Error, Outcome, Spec};

use crate::peers::Subject;

/// Where the two processes may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pin {
    /// Both on core 0.
    Same,
    /// The server on core 0 and the client on core 1; over pipes the server is the client's child, and on its core.
    Split,
    /// Wherever the kernel puts them.
    None,
}

/// A server that runs. It ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it prints, line by line.
    lines: mpsc::Receiver<String>,
    /// A directory of its own: the path of a server before it would be taken.
    dir: PathBuf,
    pub(crate) address: String,
}

impl Server {
    /// Starts what `command` begins and waits until it listens.
    pub(crate) fn start(
        mut command: Command,
        transport: &str,
        mode: &str,
        dir: &Path,
        pin: Pin,
    ) -> Result<Server, Error> {
        let dir = dir.join("server");
        fs::create_dir_all(&dir)?;
        command.args(["serve", transport, mode]).arg(&dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pin.server().spawn(&mut command)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("a server without stdout")?;
        let (sender, lines) = mpsc::sync_channel(1);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut server = Server { child, stdin, lines, dir, address: String::new() };
        server.address = server.lines.recv_timeout(PATIENCE).unwrap_or_default().trim().to_owned();
        if server.address.is_empty() { Err("the server does not start".into()) } else { Ok(server) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many allocations it has made, if it counts them.
    pub(crate) fn allocations(&mut self) -> Result<u64, Error> {
        self.stdin.as_mut().ok_or("a server without stdin")?.write_all(b"\n")?;
        Ok(self.lines.recv_timeout(PATIENCE)?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        end(&mut self.child);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Measures once, with a new server and a new client.
pub(crate) fn measure(
    subject: &Subject,
    transport: &str,
    mode: &str,
    spec: &Spec,
    dir: &Path,
    pin: Pin,
) -> Result<Outcome, Error> {
    if transport == "pipe" {
        return load(subject.command(), [transport, mode], &dir.display().to_string(), spec, pin);
    }
    let server = Server::start(subject.command(), transport, mode, dir, pin)?;
    let spec = Spec { server_pid: Some(server.pid()), ..*spec };
    load(subject.command(), [transport, mode], &server.address, &spec, pin)
}

/// Runs a client, which `command` begins.
pub(crate) fn load(
    mut command: Command,
    place: [&str; 2],
    address: &str,
    spec: &Spec,
    pin: Pin,
) -> Result<Outcome, Error> {
    command.arg("load").args(place).arg(address).arg(serde_json::to_string(spec)?);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = pin.client().spawn(&mut command)?;
    let mut stdout = child.stdout.take().ok_or("a client without stdout")?;
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut text = String::new();
        let _ = stdout.read_to_string(&mut text);
        let _ = sender.send(text);
    });
    // A load is preceded by the search for its peak.
    let text = receiver.recv_timeout(PATIENCE + 2 * (spec.warm() + spec.span()));
    if text.is_err() {
        let _ = child.kill();
    }
    end(&mut child);
    let text = text.map_err(|_| "the client does not end")?;
    let value: Value = serde_json::from_str(text.trim()).map_err(|_| "the client has ended without an outcome")?;
    if let Some(error) = value["error"].as_str() {
        return Err(error.into());
    }
    let outcome: Outcome = serde_json::from_value(value)?;
    if outcome.calls == 0 { Err("there was not one reply".into()) } else { Ok(outcome) }
}

/// The core of one process, if it shall have one.
struct Core(Option<usize>);

impl Pin {
    fn server(self) -> Core {
        Core(if self == Pin::None { None } else { Some(0) })
    }

    fn client(self) -> Core {
        Core(match self {
            Pin::Same => Some(0),
            Pin::Split => Some(1),
            Pin::None => None,
        })
    }
}

impl Core {
    /// Starts a process there. It inherits the core from this thread, and so do its children from the first one on.
    fn spawn(&self, command: &mut Command) -> Result<Child, Error> {
        let Some(core) = self.0 else { return Ok(command.spawn()?) };
        let own = Pid::from_raw(0);
        let before = sched_getaffinity(own)?;
        let mut cores = CpuSet::new();
        cores.set(core)?;
        sched_setaffinity(own, &cores).map_err(|error| format!("core {core}: {error}"))?;
        let child = command.spawn();
        sched_setaffinity(own, &before)?;
        Ok(child?)
    }
}

/// Waits for a process that has been told to end, and then no longer.
pub(crate) fn end(child: &mut Child) {
    for _ in 0..500 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    let _ = child.wait();
}

/// How long something may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(20);
