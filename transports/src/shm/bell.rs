//! The doorbell between processes of one user, or with root: a pipe in each direction, whose bytes mean nothing but "look".
//!
//! A pipe and not an eventfd, because a peer must not be able to make this side block. Whether a descriptor blocks is a
//! property of the open file, which both holders of an eventfd share; a pipe has two, and this side has the writing one
//! for itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::task::{Context, Poll};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::line::Peer;
use super::setup::SetupError;
use crate::fd::{register, retry_interrupted};
use crate::sys;

/// What this side rings.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

/// A doorbell, and the end of it that the peer listens to.
pub(super) fn pair() -> io::Result<(Bell, OwnedFd)> {
    let (sound, bell) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    // The peer opens it anew, and may be root without its privileges. Only who holds a descriptor finds it at all.
    fchmod(&sound, Mode::from_bits_retain(0o444))?;
    Ok((Bell(bell), sound))
}

impl Bell {
    /// Never waits.
    pub(super) fn ring(&self) -> io::Result<()> {
        rung(retry_interrupted(|| sys::write_nosignal(self.0.as_fd(), &[0])))
    }
}

/// What came of ringing. In vain is well, too: there are rings enough that nobody has listened to; or nobody is there, which
/// the receiving half finds out once it has read what is left.
pub(super) fn rung(outcome: io::Result<usize>) -> io::Result<()> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, WouldBlock};
    match outcome {
        Err(error) if !matches!(error.kind(), WouldBlock | BrokenPipe | ConnectionReset) => Err(error),
        _ => Ok(()),
    }
}

/// What this side listens to.
#[derive(Debug)]
pub(super) struct Incoming {
    pipe: AsyncFd<OwnedFd>,
}

impl Incoming {
    /// Takes the reading end of the peer's pipe, if it is one.
    pub(super) fn new(sound: &OwnedFd) -> Result<Incoming, SetupError> {
        check(sound)?;
        let pipe =
            register(own_file(sound)?, Interest::READABLE).map_err(SetupError::io("listening to the doorbell"))?;
        Ok(Incoming { pipe })
    }

    /// Forgets rings up to now, and has the task woken at the next. A peer that can ring no more has ended.
    pub(super) fn clear(&self, cx: &mut Context<'_>) -> io::Result<Peer> {
        loop {
            match self.pipe.poll_read_ready(cx)? {
                Poll::Pending => return Ok(Peer::Lives),
                Poll::Ready(guard) if guard.ready().is_read_closed() => return Ok(Peer::Ended),
                Poll::Ready(mut guard) => guard.clear_ready(),
            }
        }
    }

    /// Takes the bytes out of the pipe, before it is so full that a ring changes nothing.
    pub(super) fn drain(&self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        for _ in 0..DRAIN_MAX / bytes.len() {
            match retry_interrupted(|| Ok(nix::unistd::read(self.pipe.get_ref(), &mut bytes)?)) {
                Ok(n) if n == bytes.len() => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => break,
            }
        }
        Ok(())
    }
}

/// Whether it is a pipe's reading end.
fn check(sound: &OwnedFd) -> Result<(), SetupError> {
    // Neither asks the file system that the descriptor may be of, which could keep this side waiting: `fstat` would.
    let path = nix::fcntl::readlink(own_path(sound).as_str());
    let is_pipe = path.is_ok_and(|path| path.as_encoded_bytes().starts_with(b"pipe:["));
    if !is_pipe || fcntl(sound, FcntlArg::F_GETPIPE_SZ).is_err() {
        return Err(SetupError::Bell("is no pipe"));
    }
    let mode = fcntl(sound, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    if !mode.is_ok_and(|mode| mode & OFlag::O_ACCMODE == OFlag::O_RDONLY) {
        return Err(SetupError::Bell("cannot be read"));
    }
    Ok(())
}

/// The most bytes a pipe has by default: a peer that writes on while they are read must not keep this side busy.
const DRAIN_MAX: usize = 64 << 10;

/// The same pipe as an open file of this side's own, so that the peer cannot make reading it block.
fn own_file(sound: &OwnedFd) -> Result<OwnedFd, SetupError> {
    let path = own_path(sound);
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    nix::fcntl::open(path.as_str(), flags, Mode::empty())
        .map_err(|errno| SetupError::io("opening the doorbell anew, through /proc")(errno.into()))
}

fn own_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
