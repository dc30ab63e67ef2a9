//! Worker processes: how one is started, and how it ends.

use std::env;
use std::error::Error;
use std::fs;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::timeout;
use trunkline::transport::Spawn;
use trunkline::{Connection, Limits};

/// What carries the calls to the workers.
pub enum Over {
    /// A pair of pipes to each.
    Pipe,
    /// Rings in shared memory, which are set up over sockets in this directory.
    Shm(Directory),
}

/// A worker process. Dropping it ends it, by force if need be.
pub struct Process {
    pub pid: u32,
    pub connection: Connection,
    /// The process where it is this program's to wait for. With pipes, it is trunkline's.
    child: Option<Child>,
}

impl Process {
    /// Starts a worker and connects to it.
    pub async fn start(over: &Over) -> Result<Process, Box<dyn Error + Send + Sync>> {
        let started = async {
            match over {
                Over::Pipe => Process::start_over_pipes().await,
                Over::Shm(directory) => Process::start_at(&directory.fresh()).await,
            }
        };
        timeout(START_MAX, started).await?
    }

    async fn start_over_pipes() -> Result<Process, Box<dyn Error + Send + Sync>> {
        let spawn = Spawn::from(&mut command()?).kill_after(END_MAX);
        let connection = Connection::builder().limits(limits()).spawn(spawn).await?;
        let pid = connection.peer().pid().ok_or("the peer is no child")?;
        Ok(Process { pid, connection, child: None })
    }

    async fn start_at(socket: &Path) -> Result<Process, Box<dyn Error + Send + Sync>> {
        let mut command = tokio::process::Command::from(command()?);
        command.arg(format!("shm:{}", socket.display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut endpoint = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut endpoint).await?;
        }
        let (Some(pid), false) = (child.id(), endpoint.is_empty()) else {
            return Err("the worker ended before it could be reached".into());
        };
        let connection = Connection::builder().limits(limits()).connect(endpoint.trim_end()).await?;
        // Nobody else connects, and a worker that is killed leaves it behind.
        let _ = fs::remove_file(socket);
        Ok(Process { pid, connection, child: Some(child) })
    }

    /// Ends it in good order: what was sent is flushed, and its calls have a while to come to their end.
    pub async fn end(mut self) {
        self.connection.close();
        self.connection.closed().await;
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            if timeout(END_MAX, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }
}

/// This program again, as a worker. It has a process group of its own: `Ctrl-C` in a terminal is for the web server, which
/// ends its workers when the last request has been answered.
fn command() -> io::Result<Command> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(env::current_exe()?);
    command.arg("--worker").stdin(Stdio::null()).process_group(0);
    Ok(command)
}

/// A worker that hangs is taken for lost after six seconds; one that has ended is noticed at once, by itself.
fn limits() -> Limits {
    Limits::default().ping_interval(Duration::from_secs(1)).ping_timeout(Duration::from_secs(5))
}

/// A directory for sockets. It goes when this is dropped.
pub struct Directory {
    directory: TempDir,
    sockets: AtomicU64,
}

impl Directory {
    pub fn new() -> Result<Directory, String> {
        let directory = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| format!("cannot make a directory for sockets: {error}"))?;
        Ok(Directory { directory, sockets: AtomicU64::new(0) })
    }

    /// A place where there is no socket yet.
    fn fresh(&self) -> PathBuf {
        self.directory.path().join(format!("worker-{}.sock", self.sockets.fetch_add(1, Ordering::Relaxed)))
    }
}

/// How long a worker may take to be there.
const START_MAX: Duration = Duration::from_secs(10);
/// How long a worker may take to end.
const END_MAX: Duration = Duration::from_secs(5);
