//! The parent's side: a program that is started to be the server.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use trunkline_core::ConnectError;
use trunkline_core::transport::{BoxTransport, Connector, PeerIdentity};

use super::child::ChildEnd;
use super::inherited::{self, VARIABLE};
use super::{Capacity, PipeTransport, make, resize};
use crate::sys;

/// Starts a program and connects to it: each connection is a process of its own.
///
/// The program serves `inherited:`. It gets two pipes beside its standard streams, which stay what the command says; so
/// a `println!` in it is harmless. With [`stdio`](Spawn::stdio) the pipes are its standard input and output, and it
/// serves `stdio:`.
///
/// The child ends by itself when the connection does: it reads an end of file, drains, and its `serve` returns. If it
/// does not end, it is killed after [`kill_after`](Spawn::kill_after). It is waited for in either case; no zombie stays.
/// A thread of this process does so: if this process ends first, nobody kills the child. Its `serve` returns all the same,
/// and its `main` should, too.
/// Where it ends first, calls fail with [`ConnectionError::ChildEnded`](trunkline_core::ConnectionError::ChildEnded).
///
/// It is started by the thread that connects. In a terminal, `Ctrl-C` reaches it as well, unless the command says
/// `process_group(0)`. A program that ignores SIGCHLD, or waits for whatever child there is, takes the exit status away:
/// then the end is told without it.
///
/// # Examples
///
/// ```
/// use std::process::Command;
/// use std::time::Duration;
/// use trunkline_transports::pipe::Spawn;
///
/// let spawn = Spawn::from(Command::new("./worker").arg("--threads=1")).kill_after(Duration::from_secs(5));
/// let remote = Spawn::from(Command::new("ssh").args(["host", "worker"])).stdio();
/// ```
pub struct Spawn {
    /// Locked while a process is started, so that each gets its own pipes.
    command: Mutex<Command>,
    /// The descriptors that the process being started keeps.
    passed: Arc<[AtomicI32; 2]>,
    program: String,
    endpoint: String,
    stdio: bool,
    capacity: Capacity,
    kill_after: Duration,
}

impl Spawn {
    /// Starts processes by `command`.
    pub fn new(mut command: Command) -> Spawn {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut endpoint = format!("exec:{program}");
        for argument in command.get_args() {
            endpoint.push(' ');
            endpoint.push_str(&argument.to_string_lossy());
        }
        let passed = Arc::new([AtomicI32::new(-1), AtomicI32::new(-1)]);
        // Once: what is to be done before an exec adds up on a command.
        sys::pass_on_exec(&mut command, Arc::clone(&passed));
        Spawn {
            command: Mutex::new(command),
            passed,
            program,
            endpoint,
            stdio: false,
            capacity: Capacity::Default,
            kill_after: KILL_AFTER,
        }
    }

    /// Speaks over the child's standard input and output, for a program that serves `stdio:` and for those that connect
    /// to one elsewhere, such as `ssh`. The command's own settings for the two are replaced.
    ///
    /// The peer is then taken for one that can vanish without a sign.
    pub fn stdio(mut self) -> Self {
        self.stdio = true;
        self
    }

    /// Sets how long a child that is not wanted any more has to end by itself before it is killed. The default is 40 s:
    /// longer than a server drains by default. One that has never sent anything has 1 s at the most.
    pub fn kill_after(mut self, grace: Duration) -> Self {
        self.kill_after = grace;
        self
    }

    /// Sets how many bytes each pipe can hold, where the system lets it be set; it may round up. The default is 256 KiB,
    /// or as much as the system allows.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = Capacity::Exactly(bytes);
        self
    }

    /// Starts a process, with the transport's type.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Spawn`] if the program cannot be started, or the command asks for a piped standard stream, which
    /// nobody would read; [`ConnectError::NoRuntime`] outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Nothing waits: the process is started, or it is not.
    pub async fn connect_transport(&self) -> Result<PipeTransport, ConnectError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ConnectError::NoRuntime);
        }
        self.start().map_err(|source| ConnectError::Spawn { program: self.program.clone(), source })
    }

    fn start(&self) -> io::Result<PipeTransport> {
        let (child_read, write) = make()?;
        let (read, child_write) = make()?;
        for fd in [&read, &write] {
            resize(std::os::fd::AsFd::as_fd(fd), self.capacity);
        }
        let process = if self.stdio {
            self.launch_on_stdio(child_read, child_write)?
        } else {
            self.launch_beside_stdio(&child_read, &child_write)?
        };
        let piped = process.stdin.is_some() || process.stdout.is_some() || process.stderr.is_some();
        let peer = PeerIdentity::Child { pid: process.id() };
        // From here on the process is waited for, whatever happens.
        let child = ChildEnd::new(process, if piped { Duration::ZERO } else { self.kill_after });
        if piped {
            let why =
                "nobody would read a stream of the child's that is `Stdio::piped()`: give it a file, or inherit it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let builder = PipeTransport::builder(read, write).peer(peer).silent_loss(self.stdio);
        builder.capacity_as_it_is().child(child).build()
    }

    fn launch_beside_stdio(&self, read: &OwnedFd, write: &OwnedFd) -> io::Result<Child> {
        let mut command = self.command.lock().unwrap_or_else(PoisonError::into_inner);
        // The fork is made by this thread, after these.
        self.passed[0].store(read.as_raw_fd(), Ordering::Relaxed);
        self.passed[1].store(write.as_raw_fd(), Ordering::Relaxed);
        command.env(VARIABLE, inherited::name_pipes(read, write)?);
        let process = command.spawn();
        // The numbers are others' soon.
        for passed in self.passed.iter() {
            passed.store(-1, Ordering::Relaxed);
        }
        process
    }

    fn launch_on_stdio(&self, read: OwnedFd, write: OwnedFd) -> io::Result<Child> {
        let mut command = self.command.lock().unwrap_or_else(PoisonError::into_inner);
        command.env_remove(VARIABLE).stdin(read).stdout(write);
        let process = command.spawn();
        // The command would hold the child's ends open, and nobody would notice that the child has closed its own.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        process
    }
}

impl From<Command> for Spawn {
    fn from(command: Command) -> Spawn {
        Spawn::new(command)
    }
}

/// Takes the command out of what `Command`'s methods return. Of the one it is taken from, only the program stays.
impl From<&mut Command> for Spawn {
    fn from(command: &mut Command) -> Spawn {
        let program = Command::new(command.get_program());
        Spawn::new(std::mem::replace(command, program))
    }
}

#[async_trait::async_trait]
impl Connector for Spawn {
    async fn connect(&self) -> Result<BoxTransport, ConnectError> {
        self.connect_transport().await.map(BoxTransport::new)
    }

    fn endpoint(&self) -> String {
        self.endpoint.clone()
    }
}

impl fmt::Debug for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn")
            .field("endpoint", &self.endpoint)
            .field("stdio", &self.stdio)
            .field("kill_after", &self.kill_after)
            .finish_non_exhaustive()
    }
}

/// A server's drain and its linger, and a margin.
const KILL_AFTER: Duration = Duration::from_secs(40);
