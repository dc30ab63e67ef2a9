//! Writing without SIGPIPE, whatever the program does with that signal.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::Ordering;

/// Writes like `write`, and never raises SIGPIPE, whatever the program does with that signal.
///
/// # Errors
///
/// Those of `write`; `BrokenPipe` where the signal would have come.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn write_nosignal(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(outcome) = flagged::write(fd, bytes) {
        return outcome;
    }
    masked::write(fd, bytes)
}

/// Writes like `write`. The descriptor has been told not to raise SIGPIPE, by [`never_sigpipe`].
///
/// # Errors
///
/// Those of `write`.
#[cfg(target_vendor = "apple")]
pub(crate) fn write_nosignal(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    plain_write(fd, bytes)
}

/// Tells a descriptor not to raise SIGPIPE, where that is a property of descriptors.
#[cfg(target_vendor = "apple")]
pub(crate) fn never_sigpipe(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed, and the call takes a number.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETNOSIGPIPE, 1) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn plain_write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a slice, which the call only reads.
    let n = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// The kernel is asked not to raise the signal: Linux, from 6.18 on.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod flagged {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Whether the kernel may know how; learnt at the first write. Nothing is ordered by it.
    pub(super) static KNOWN: AtomicBool = AtomicBool::new(true);

    /// Of `linux/fs.h`.
    const RWF_NOSIGNAL: libc::c_int = 0x100;

    /// `None` if the kernel, or what filters system calls, does not know how.
    pub(super) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Option<io::Result<usize>> {
        if !KNOWN.load(Ordering::Relaxed) {
            return None;
        }
        let slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let (fd, one, here, flags) = (
            libc::c_long::from(fd.as_raw_fd()),
            1 as libc::c_long,
            -1 as libc::c_long,
            libc::c_long::from(RWF_NOSIGNAL),
        );
        // SAFETY: one slice is announced and one is there; the call only reads what it points to. An offset of -1, in
        // two halves, means that of the descriptor.
        let n = unsafe { libc::syscall(libc::SYS_pwritev2, fd, &raw const slice, one, here, here, flags) };
        let Ok(n) = usize::try_from(n) else {
            let error = io::Error::last_os_error();
            if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS | libc::EPERM)) {
                return Some(Err(error));
            }
            KNOWN.store(false, Ordering::Relaxed);
            return None;
        };
        Some(Ok(n))
    }
}

/// The signal is raised and taken back, seen by nobody.
#[cfg(not(target_vendor = "apple"))]
mod masked {
    use std::mem::MaybeUninit;

    use nix::sys::signal::{SigSet, SigmaskHow, Signal};

    use super::*;

    pub(super) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        let mut sigpipe = SigSet::empty();
        sigpipe.add(Signal::SIGPIPE);
        let before = sigpipe.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let was_blocked = before.contains(Signal::SIGPIPE);
        // One that waits already is the program's own, and ours is then one with it.
        let was_pending = was_blocked && is_pending(&sigpipe);
        let outcome = plain_write(fd, bytes);
        if outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) && !was_pending {
            take_back(&sigpipe);
        }
        if !was_blocked {
            before.thread_set_mask()?;
        }
        outcome
    }

    fn is_pending(sigpipe: &SigSet) -> bool {
        let mut pending = MaybeUninit::uninit();
        // SAFETY: the call fills the set that it is given, unless it fails.
        let pending = match unsafe { libc::sigpending(pending.as_mut_ptr()) } {
            // SAFETY: it has not failed.
            0 => unsafe { SigSet::from_sigset_t_unchecked(pending.assume_init()) },
            _ => return false,
        };
        sigpipe.iter().all(|signal| pending.contains(signal))
    }

    /// A failed write raises the signal in its own thread, so it is there, or is ignored: nothing is waited for.
    fn take_back(sigpipe: &SigSet) {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            // SAFETY: the set and the time are valid for the call, which may leave the signal's details untold.
            let taken = unsafe { libc::sigtimedwait(sigpipe.as_ref(), std::ptr::null_mut(), &raw const now) };
            if taken >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return;
            }
        }
    }
}

/// Writes to a socket, and never raises SIGPIPE.
///
/// # Errors
///
/// Those of `send`; `BrokenPipe` where the signal would have come.
#[cfg(feature = "pipe")]
pub(crate) fn send_nosignal(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(not(target_vendor = "apple"))]
    const FLAGS: libc::c_int = libc::MSG_NOSIGNAL;
    #[cfg(target_vendor = "apple")]
    const FLAGS: libc::c_int = 0;
    // SAFETY: the pointer and the length are those of a slice, which the call only reads.
    let n = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), FLAGS) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

    use super::*;

    const ROLE: &str = "TRUNKLINE_SIGPIPE_ROLE";

    /// Not a test: what the tests below run in a process of its own, with SIGPIPE as the system has it.
    #[test]
    fn a_process_that_sigpipe_would_kill() {
        let Ok(role) = std::env::var(ROLE) else {
            return;
        };
        // SAFETY: no handler is installed; the default is what the test is about.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        drop(read);
        match role.as_str() {
            "control" => drop(plain_write(write.as_fd(), b"x")),
            "masked" => flagged::KNOWN.store(false, Ordering::Relaxed),
            _ => {}
        }
        for _ in 0..3 {
            let error = write_nosignal(write.as_fd(), b"x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
        let mask = SigSet::thread_get_mask().unwrap();
        assert!(!mask.contains(Signal::SIGPIPE), "the mask is as before");
        blocked_by_the_program(write.as_fd());
    }

    /// A signal of the program's own that waits is still there afterwards.
    fn blocked_by_the_program(write: BorrowedFd<'_>) {
        let mut sigpipe = SigSet::empty();
        sigpipe.add(Signal::SIGPIPE);
        sigpipe.thread_block().unwrap();
        write_nosignal(write, b"x").unwrap_err();
        let mut pending = SigSet::empty();
        nix::sys::signal::raise(Signal::SIGPIPE).unwrap();
        write_nosignal(write, b"x").unwrap_err();
        pending.add(sigpipe.wait().unwrap());
        assert!(pending.contains(Signal::SIGPIPE));
        sigpipe.thread_unblock().unwrap();
    }

    fn run(role: &str) -> std::process::ExitStatus {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "sys::signal::tests::a_process_that_sigpipe_would_kill",
                "--test-threads=1",
                "--nocapture",
            ])
            .env(ROLE, role)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap()
    }

    #[test]
    fn sigpipe_kills_who_does_not_see_to_it() {
        assert_eq!(run("control").signal(), Some(libc::SIGPIPE));
    }

    #[test]
    fn a_flagged_write_raises_no_signal() {
        assert!(run("flagged").success());
    }

    #[test]
    fn a_masked_write_raises_no_signal() {
        assert!(run("masked").success());
    }
}
