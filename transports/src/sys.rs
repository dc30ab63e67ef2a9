//! System calls that no crate offers.

#[cfg(feature = "unix")]
mod descriptors;

#[cfg(any(feature = "pipe", feature = "shm"))]
use std::io;
#[cfg(any(feature = "pipe", feature = "shm"))]
use std::os::fd::BorrowedFd;

#[cfg(feature = "unix")]
pub(crate) use descriptors::refuse_descriptors;

#[cfg(any(feature = "pipe", feature = "shm"))]
pub(crate) fn write_nosignal(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(nix::unistd::write(fd, bytes)?)
}
