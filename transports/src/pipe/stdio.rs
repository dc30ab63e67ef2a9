//! This process's standard input and output as a connection: for `ssh`, `inetd` and containers.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use trunkline_core::ConnectError;
use trunkline_core::transport::{BoxTransport, Connector, Listener};

use super::{Capacity, Kind, PipeTransport, prepare};
use crate::BindError;

/// Standard input and output, taken away from the rest of the program: a listener with one connection, or a connector
/// that connects once.
///
/// Once they are taken, file descriptor 1 leads to standard error, so that a `println!` is harmless, and 0 to
/// `/dev/null`. Where standard error is the connection as well (`inetd`, or `2>&1`), 1 and 2 lead to `/dev/null` as well.
///
/// What the program has read from its standard input before, or printed, is lost to the connection or in its way: take
/// them first.
///
/// Pipes are opened anew where the system can, so that O_NONBLOCK is set for nobody else. On a socket, and on a pipe of
/// another user's, it is set for everybody who shares it.
#[derive(Debug)]
pub struct Stdio {
    /// `None` once they are used. Locked for a moment.
    ends: Mutex<Option<(OwnedFd, OwnedFd)>>,
}

impl Stdio {
    /// Takes them, once in a process.
    ///
    /// # Errors
    ///
    /// [`BindError::Endpoint`] if one of them is neither a pipe nor a socket, or they have been taken.
    pub fn take() -> Result<Stdio, BindError> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        check(stdin.as_fd(), stdin.is_terminal(), "input")?;
        check(stdout.as_fd(), stdout.is_terminal(), "output")?;
        // Guards the two descriptors: whoever turns it may move them.
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Err(unfit("standard input and output have been taken already: they are for one connection".into()));
        }
        let ends = take_away(stdin.as_fd(), stdout.as_fd()).map_err(|source| {
            TAKEN.store(false, Ordering::Relaxed);
            BindError::Io { endpoint: ENDPOINT.to_owned(), what: "taking standard input and output", source }
        })?;
        Ok(Stdio { ends: Mutex::new(Some(ends)) })
    }

    fn transport(&self) -> io::Result<Option<PipeTransport>> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Who is there is somebody's on another machine, as often as not, and can vanish like them.
        ends.map(|(read, write)| PipeTransport::builder(read, write).silent_loss(true).build()).transpose()
    }
}

#[async_trait::async_trait]
impl Listener for Stdio {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        Ok(self.transport()?.map(BoxTransport::new))
    }

    fn endpoint(&self) -> String {
        ENDPOINT.to_owned()
    }
}

#[async_trait::async_trait]
impl Connector for Stdio {
    async fn connect(&self) -> Result<BoxTransport, ConnectError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ConnectError::NoRuntime);
        }
        let endpoint = ENDPOINT.to_owned();
        match self.transport() {
            Ok(Some(transport)) => Ok(BoxTransport::new(transport)),
            Ok(None) => Err(ConnectError::Endpoint { endpoint, why: "it connects once".to_owned() }),
            Err(source) => Err(ConnectError::Unreachable { endpoint, source }),
        }
    }

    fn endpoint(&self) -> String {
        ENDPOINT.to_owned()
    }
}

fn check(fd: BorrowedFd<'_>, terminal: bool, which: &str) -> Result<(), BindError> {
    let what = match Kind::of(fd) {
        Ok(Some(_)) => return Ok(()),
        _ if terminal => "a terminal",
        _ => "neither a pipe nor a socket",
    };
    Err(unfit(format!(
        "standard {which} is {what}: start this program from one that speaks to it, by `ssh`, `inetd` or `Spawn::stdio`, \
         or listen on `unix:/path`"
    )))
}

fn take_away(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>) -> io::Result<(OwnedFd, OwnedFd)> {
    let nowhere = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let read = own(stdin, OpenOptions::new().read(true), "/proc/self/fd/0")?;
    let write = own(stdout, OpenOptions::new().write(true), "/proc/self/fd/1")?;
    // Whatever is wrong with them is said here, and not when the connection is made.
    prepare(read.as_fd(), OFlag::O_WRONLY, Capacity::Default)?;
    prepare(write.as_fd(), OFlag::O_RDONLY, Capacity::Default)?;
    let stderr = io::stderr();
    if is_same(stderr.as_fd(), stdout)? || is_same(stderr.as_fd(), stdin)? {
        dup2_stderr(&nowhere)?;
    }
    dup2_stdout(stderr.as_fd())?;
    dup2_stdin(&nowhere)?;
    Ok((read, write))
}

/// The same pipe, opened anew where that can be; else a copy of the descriptor. Close-on-exec.
fn own(fd: BorrowedFd<'_>, options: &mut OpenOptions, path: &str) -> io::Result<OwnedFd> {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        use std::os::unix::fs::OpenOptionsExt;
        // O_NONBLOCK, because opening a pipe waits for its other end.
        let anew = options.custom_flags(libc::O_NONBLOCK).open(path);
        if let Some(anew) = anew.ok().filter(|anew: &File| is_same(anew.as_fd(), fd).unwrap_or(false)) {
            return Ok(anew.into());
        }
    }
    fd.try_clone_to_owned()
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

fn unfit(why: String) -> BindError {
    BindError::Endpoint { endpoint: ENDPOINT.to_owned(), why }
}

const ENDPOINT: &str = "stdio:";
