//! System calls that no crate offers.

use std::io;
use std::os::fd::BorrowedFd;

pub(crate) fn write_nosignal(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(nix::unistd::write(fd, bytes)?)
}
