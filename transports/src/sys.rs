//! The system calls that neither std nor nix wraps safely. All of the crate's unsafe code, apart from shared memory's.

#[cfg(feature = "pipe")]
mod process;
mod signal;

#[cfg(feature = "pipe")]
pub(crate) use process::{pass_on_exec, pidfd_open, take_inherited};
#[cfg(target_vendor = "apple")]
pub(crate) use signal::never_sigpipe;
#[cfg(feature = "pipe")]
pub(crate) use signal::send_nosignal;
pub(crate) use signal::write_nosignal;
