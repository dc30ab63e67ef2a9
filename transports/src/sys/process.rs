//! Descriptors that pass from a parent to its child, and word of the child's end.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// A descriptor that becomes readable when the process ends. The process is a child of this one that has not been
/// waited for, so that its number is still its own.
///
/// # Errors
///
/// `Unsupported` or another error where the kernel is older than Linux 5.3.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let flags: libc::c_uint = 0;
    // SAFETY: the call takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor, close-on-exec, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Ends the process that `pidfd` stands for, at once. It can be no other's, whatever became of its number.
///
/// # Errors
///
/// Those of the system: it may have ended.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn pidfd_kill(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let (fd, kill, none) =
        (libc::c_long::from(pidfd.as_raw_fd()), libc::c_long::from(libc::SIGKILL), 0 as libc::c_long);
    // SAFETY: the call takes numbers, and no pointer but null.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, kill, none, none) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// There is no such descriptor here.
///
/// # Errors
///
/// Always.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn pidfd_kill(_pidfd: BorrowedFd<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// There is no such descriptor here.
///
/// # Errors
///
/// Always.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn pidfd_open(_pid: u32) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// From now on, a process that `command` starts keeps the descriptors that are in `passed` at that moment; those below 0
/// stand for none. No other process does: for them they stay close-on-exec.
pub(crate) fn pass_on_exec(command: &mut Command, passed: Arc<[AtomicI32; 2]>) {
    let pass = move || {
        for fd in passed.iter() {
            // Stored before the fork by the thread that forks.
            let fd = fd.load(Ordering::Relaxed);
            // SAFETY: the call takes numbers; on a number that is no descriptor it fails.
            if fd >= 0 && unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure loads two atomics and calls `fcntl`, which is async-signal-safe; an
    // error made of a number allocates nothing.
    unsafe { command.pre_exec(pass) };
}

/// Takes possession of a pipe that this process was started with, recognised by its inode, and makes it close-on-exec.
///
/// Asked for each number at most once: the caller sees to it.
///
/// # Errors
///
/// `NotFound` if no pipe of that inode is open under that number.
pub(crate) fn take_inherited(number: RawFd, inode: u64) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the call fills the structure that it is given, unless it fails, as on a number that is no descriptor.
    if unsafe { libc::fstat(number, stat.as_mut_ptr()) } < 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: it has not failed.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the width differs between systems")]
    let found = stat.st_ino as u64;
    if stat.st_mode & libc::S_IFMT != libc::S_IFIFO || found != inode {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: it is open, and it is the pipe that the parent made for this process and named to nobody else. Nothing
    // here opened it, so nothing else here owns it; that it is taken once is the caller's promise.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_such_pipe_is_not_taken() {
        let (read, _write) = nix::unistd::pipe().unwrap();
        let inode = nix::sys::stat::fstat(&read).unwrap().st_ino;
        for (number, inode) in [(read.as_raw_fd(), inode + 1), (0, inode), (-1, inode), (99_999, inode)] {
            let error = take_inherited(number, inode).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{number}");
        }
    }
}
