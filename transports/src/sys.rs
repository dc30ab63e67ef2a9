//! The system calls that neither std nor nix wraps safely. All of the crate's unsafe code, apart from shared memory's.

#[cfg(feature = "unix")]
mod descriptors;
#[cfg(feature = "pipe")]
mod process;
#[cfg(any(feature = "pipe", feature = "shm"))]
mod signal;

#[cfg(feature = "unix")]
pub(crate) use descriptors::refuse_descriptors;
#[cfg(feature = "pipe")]
pub(crate) use process::{pass_on_exec, pidfd_kill, pidfd_open, take_inherited};
#[cfg(target_vendor = "apple")]
pub(crate) use signal::never_sigpipe;
#[cfg(feature = "pipe")]
pub(crate) use signal::send_nosignal;
#[cfg(any(feature = "pipe", feature = "shm"))]
pub(crate) use signal::write_nosignal;
