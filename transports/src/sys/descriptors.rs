//! A Unix socket that takes no descriptors.
#![allow(unsafe_code)] // `setsockopt` takes a pointer.

use std::os::fd::{AsRawFd, BorrowedFd};

/// From now on nobody can send descriptors to this Unix socket, nor to those that it accepts: who sends some is told so.
/// From Linux 6.16 on; elsewhere nothing happens.
///
/// A descriptor is closed by whoever drops the message it came with, and that may take as long as its sender likes: for
/// one, a socket that lingers. So a process that only reads bytes can be held up by descriptors it never wanted.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) {
    #[cfg(all(target_os = "linux", not(any(target_arch = "sparc", target_arch = "sparc64"))))]
    {
        /// Not in the C library's headers yet.
        const SO_PASSRIGHTS: libc::c_int = 83;
        let no: libc::c_int = 0;
        // SAFETY: the option's value is an `int`, which is borrowed and whose size is given.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PASSRIGHTS,
                (&raw const no).cast(),
                size_of_val(&no) as libc::socklen_t,
            );
        }
    }
    let _ = socket;
}
