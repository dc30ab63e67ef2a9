//! Second processes, and what the system says about processes.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;
use tempfile::{TempDir, tempdir};
use tokio::runtime::{Builder, Runtime};
use trunkline::transport::{BoxTransport, Connector, Inherited, PeerIdentity, Spawn, async_trait};
use trunkline::{ConnectError, Server};

use crate::service::{Host, WorkerClient, WorkerServer};
use crate::{ends, lives, pipes, refused};

const ROLE: &str = "TRUNKLINE_SPAWN_ROLE";
/// A file in which a process notes that it has come to its end in good order.
pub(crate) const MARK: &str = "TRUNKLINE_SPAWN_MARK";
/// A guard against hanging, not a measurement.
pub(crate) const GUARD: Duration = Duration::from_secs(20);

/// This program, in a role.
pub(crate) fn command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args(["--exact", "the_other_process", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env_remove(MARK).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A worker and a client of it.
pub(crate) async fn worker() -> WorkerClient {
    WorkerClient::spawn(command("serve")).await.expect("a worker")
}

/// A process of this program's own, in a role that ends by itself, and ends well.
pub(crate) fn ends_well(role: &str) {
    let status = command(role).status().expect("a process");
    assert!(status.success(), "{role}: {status}");
}

/// What this program does when it is the other process; nothing if it is not.
pub(crate) fn play() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let _mark = Mark;
    match role.as_str() {
        "serve" => serve("inherited:"),
        "serve-and-fear-sigpipe" => {
            sigpipe_kills();
            serve("inherited:");
        }
        "serve-stdio" => {
            get_stdout_back();
            serve("stdio:");
        }
        "serve-inetd" => {
            // The harness has printed to nowhere; from here on it is one socket for all three.
            nix::unistd::dup2_stdout(std::io::stdin()).expect("it can be copied");
            serve("stdio:");
        }
        "call-stdio" => {
            get_stdout_back();
            pipes::calls_over_standard_streams();
        }
        "ignores-sigchld" => {
            // SAFETY: no handler is installed.
            unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.expect("it can be set");
            ends::without_a_status();
        }
        "bind" => eprintln!("{}", runtime().block_on(bind_error())),
        "descriptors" => lives::descriptors_in_a_process_of_its_own(),
        "sigpipe" => {
            sigpipe_kills();
            pipes::writes_to_a_dead_child();
        }
        "serve-stdio-nowhere" => refused::serves_standard_streams(),
        "closes-its-input" => ends::half_closed(true),
        "closes-its-output" => ends::half_closed(false),
        role => panic!("an unknown role: {role}"),
    }
}

fn serve(uri: &str) {
    runtime().block_on(async {
        let server = Server::builder().service(WorkerServer::new(Host::default()));
        server.bind(uri).await.expect("the pipes are there").run().await;
    });
}

pub(crate) async fn bind_error() -> String {
    Inherited::bind().expect_err("there is nothing to take").to_string()
}

/// What Rust's runtime has changed at the start, back to what the system does.
fn sigpipe_kills() {
    // SAFETY: no handler is installed; the default is what the tests are about.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.expect("it can be set");
}

/// A program under the test harness, which prints before the program runs, with the pipe under number 3 for the time
/// being. It is to be started by [`aside`].
fn get_stdout_back() {
    let pipe = OpenOptions::new().write(true).open("/proc/self/fd/3").expect("it was put aside");
    nix::unistd::dup2_stdout(&pipe).expect("it can be moved");
}

/// A command whose standard output is put aside as number 3, and is standard error itself until the program moves it.
pub(crate) fn aside(role: &str) -> Command {
    let program = command(role);
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec "$0" "$@" 3>&1 1>&2"#]).arg(program.get_program()).args(program.get_args());
    shell.env(ROLE, role).stderr(Stdio::null());
    shell
}

/// Notes the end in good order.
struct Mark;

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(path) = std::env::var_os(MARK).filter(|_| !std::thread::panicking()) {
            let mut file = OpenOptions::new().create(true).append(true).open(path).expect("it can be made");
            file.write_all(b"ended well\n").expect("it can be written");
        }
    }
}

/// Starts a program that never says anything, which is killed soon after nobody wants it, and remembers its id.
pub(crate) struct Mute {
    spawn: Spawn,
    /// 0 until it has started.
    pid: AtomicU32,
}

impl Mute {
    pub(crate) fn new() -> Mute {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Mute { spawn: spawn(sleep), pid: AtomicU32::new(0) }
    }

    pub(crate) fn pid(&self) -> u32 {
        // A number alone.
        self.pid.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Connector for Mute {
    async fn connect(&self) -> Result<BoxTransport, ConnectError> {
        let transport = self.spawn.connect().await?;
        if let PeerIdentity::Child { pid } = transport.properties().peer {
            self.pid.store(pid, Ordering::Relaxed);
        }
        Ok(transport)
    }

    fn endpoint(&self) -> String {
        self.spawn.endpoint()
    }
}

/// A file that is not there yet, gone with the test.
pub(crate) struct File(TempDir);

impl File {
    pub(crate) fn new() -> File {
        File(tempdir().expect("a directory of our own"))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("file")
    }

    /// The process id in it.
    pub(crate) fn pid(&self) -> u32 {
        self.text().trim().parse().expect("a process id")
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap_or_default()
    }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Runs a test on a runtime of one thread, and fails instead of hanging.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    runtime().block_on(async { tokio::time::timeout(GUARD, test).await.expect("nothing happens") });
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < GUARD, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The state letter of a process and the id of its parent, if it is there.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether a child of this process has ended and been waited for.
pub(crate) fn is_reaped(pid: u32) -> bool {
    stat(pid).is_none_or(|(_, parent)| parent != std::process::id())
}

/// Whether a process, anybody's, has ended.
pub(crate) fn is_gone(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == 'Z' || state == 'X')
}

pub(crate) fn kill_process(pid: u32) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), Signal::SIGKILL).expect("it is there");
}

/// A process that is killed at the test's end.
pub(crate) struct Doomed(pub(crate) u32);

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0 as i32), Signal::SIGKILL);
    }
}

/// A way to start workers, with a short patience for those that do not end.
pub(crate) fn spawn(command: impl Into<Spawn>) -> Spawn {
    command.into().kill_after(Duration::from_millis(200))
}
