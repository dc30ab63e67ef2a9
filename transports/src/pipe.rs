//! Pairs of pipes: one a direction, between a parent and its child ([`Spawn`], [`Inherited`]), or on a program's standard
//! input and output ([`Stdio`]).
//!
//! # Invariants
//!
//! - A child that was started here is reaped, whoever drops what, and killed if it does not end by itself, as long as this
//!   process lives.
//! - A child gets its own two ends and no others; no process that is started at the same time gets any.
//! - SIGPIPE is never raised, whatever the program does with that signal.
//! - O_NONBLOCK is set on descriptions of our own only, apart from sockets and from pipes that cannot be opened anew on
//!   standard input and output, and from what is given to [`PipeTransport::builder`].
//!
//! # Limits of the mechanism
//!
//! An end of file comes when the last copy of the writing end is closed. Whoever forks without an exec holds copies of
//! everything; between a parent and its child, where the kernel tells of the child's end itself (Linux from 5.3 on), that
//! does not matter.

mod child;
mod half;
mod inherited;
mod spawn;
mod stdio;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use trunkline_core::transport::{PeerIdentity, Properties};

use crate::framing::ByteTransport;
use child::ChildEnd;

pub use half::{PipeReader, PipeWriter};
pub use inherited::Inherited;
pub use spawn::Spawn;
pub use stdio::Stdio;

/// A pair of pipes as a transport.
pub type PipeTransport = ByteTransport<PipeReader, PipeWriter>;

impl PipeTransport {
    /// A transport that reads from `read` and writes to `write`: pipes, or stream sockets, also the same one twice.
    ///
    /// ```no_run
    /// # use std::os::fd::OwnedFd;
    /// # use trunkline_core::transport::PeerIdentity;
    /// # use trunkline_transports::pipe::PipeTransport;
    /// # fn example(read: OwnedFd, write: OwnedFd) -> std::io::Result<()> {
    /// let transport = PipeTransport::builder(read, write).build()?;
    /// # Ok(()) }
    /// ```
    pub fn builder(read: impl Into<OwnedFd>, write: impl Into<OwnedFd>) -> PipeBuilder {
        PipeBuilder {
            read: read.into(),
            write: write.into(),
            peer: PeerIdentity::Unknown,
            capacity: Capacity::Default,
            silent_loss: false,
            child: None,
        }
    }
}

/// Two transports that are connected with each other, by two pipes in this process. Only inside a tokio runtime.
///
/// # Errors
///
/// Those of the system, such as too many open files; also outside a runtime.
pub fn pair() -> io::Result<(PipeTransport, PipeTransport)> {
    let (here_read, there_write) = make()?;
    let (there_read, here_write) = make()?;
    let here = PipeTransport::builder(here_read, here_write).peer(PeerIdentity::SameProcess).build()?;
    let there = PipeTransport::builder(there_read, there_write).peer(PeerIdentity::SameProcess).build()?;
    Ok((here, there))
}

/// How a [`PipeTransport`] is to be made.
#[derive(Debug)]
#[must_use]
pub struct PipeBuilder {
    read: OwnedFd,
    write: OwnedFd,
    peer: PeerIdentity,
    capacity: Capacity,
    silent_loss: bool,
    child: Option<ChildEnd>,
}

impl PipeBuilder {
    /// Says who is at the other end. Unless told, nobody vouches for it.
    pub fn peer(mut self, peer: PeerIdentity) -> Self {
        self.peer = peer;
        self
    }

    /// Sets how many bytes each pipe can hold, where the system lets it be set; it may round up. The default enlarges
    /// them to 256 KiB, or as much as the system allows.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = Capacity::Exactly(bytes);
        self
    }

    /// Sets whether the peer can vanish without a sign: where something stands in between, such as `ssh`, it can.
    pub fn silent_loss(mut self, yes: bool) -> Self {
        self.silent_loss = yes;
        self
    }

    /// Watches over this child, which is at the other end.
    fn child(mut self, child: ChildEnd) -> Self {
        self.child = Some(child);
        self
    }

    /// Leaves the pipes' capacity to who made them.
    fn capacity_as_it_is(mut self) -> Self {
        self.capacity = Capacity::AsItIs;
        self
    }

    /// Makes the transport: sets O_NONBLOCK on both, and registers them with the runtime. Only inside one.
    ///
    /// O_NONBLOCK belongs to what was opened, not to the descriptor: whoever shares it with a copy is affected.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if one of them is neither a pipe nor a socket, or is open in the other direction only; those of the
    /// system.
    pub fn build(self) -> io::Result<PipeTransport> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(io::Error::other("no tokio runtime here: make the transport inside one"));
        }
        prepare(self.read.as_fd(), OFlag::O_WRONLY, self.capacity)?;
        let kind = prepare(self.write.as_fd(), OFlag::O_RDONLY, self.capacity)?;
        let properties = Properties::new("pipe", self.peer).silent_loss(self.silent_loss);
        let writer = PipeWriter::new(self.write, kind, self.child.is_some())?;
        Ok(PipeTransport::new(properties, PipeReader::new(self.read, self.child)?, writer))
    }
}

#[derive(Clone, Copy, Debug)]
enum Capacity {
    /// Not less than [`CAPACITY`].
    Default,
    Exactly(usize),
    AsItIs,
}

/// What a descriptor is a descriptor of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pipe,
    Socket,
}

impl Kind {
    /// `None` if it is neither.
    fn of(fd: BorrowedFd<'_>) -> io::Result<Option<Kind>> {
        Ok(match SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFIFO => Some(Kind::Pipe),
            SFlag::S_IFSOCK => Some(Kind::Socket),
            _ => None,
        })
    }
}

/// Makes an end non-blocking, and the pipe as large as wanted. `wrong` is how it must not be open.
fn prepare(fd: BorrowedFd<'_>, wrong: OFlag, capacity: Capacity) -> io::Result<Kind> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let kind = Kind::of(fd)?.ok_or_else(|| invalid("neither a pipe nor a socket"))?;
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    if flags & OFlag::O_ACCMODE == wrong {
        return Err(invalid("a pipe's end in the wrong direction"));
    }
    if !flags.contains(OFlag::O_NONBLOCK) {
        fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    #[cfg(target_vendor = "apple")]
    crate::sys::never_sigpipe(fd)?;
    if kind == Kind::Pipe {
        resize(fd, capacity);
    }
    Ok(kind)
}

/// A user without privileges has a share of all pipes' memory: what is refused is not missed.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn resize(fd: BorrowedFd<'_>, capacity: Capacity) {
    let wanted = match capacity {
        Capacity::AsItIs => return,
        Capacity::Exactly(bytes) => i32::try_from(bytes).unwrap_or(i32::MAX),
        Capacity::Default if fcntl(fd, FcntlArg::F_GETPIPE_SZ).is_ok_and(|now| now >= CAPACITY) => return,
        Capacity::Default => CAPACITY,
    };
    let _ = fcntl(fd, FcntlArg::F_SETPIPE_SZ(wanted));
}

/// It cannot be asked for here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn resize(_fd: BorrowedFd<'_>, _capacity: Capacity) {}

/// A new pipe, reading end first: close-on-exec, and clear of the standard descriptors, which are written over when a
/// child is started.
fn make() -> io::Result<(OwnedFd, OwnedFd)> {
    #[cfg(not(target_vendor = "apple"))]
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    #[cfg(target_vendor = "apple")]
    let (read, write) = nix::unistd::pipe()?;
    #[cfg(target_vendor = "apple")]
    for fd in [&read, &write] {
        fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    Ok((clear_of_standard(read)?, clear_of_standard(write)?))
}

/// The descriptor itself, or a copy of it above the standard ones.
fn clear_of_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() > libc::STDERR_FILENO { Ok(fd) } else { fd.try_clone() }
}

/// What leaves a connection at once. An unprivileged process may ask for four times as much, but all pipes of its user's have
/// a share of 64 MiB, and who has used it up gets pipes of 8 KiB.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CAPACITY: i32 = 256 << 10;
