//! The child's side: the pipes that its parent has handed down.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::fstat;
use trunkline_core::transport::{BoxTransport, Listener, PeerIdentity};

use super::PipeTransport;
use crate::{BindError, sys};

/// Names the pipes that a process inherits, as `<descriptor>:<inode>,<descriptor>:<inode>`: the end to read from, then
/// the one to write to. By the inode a process that has inherited the variable without the pipes knows.
pub(super) const VARIABLE: &str = "TRUNKLINE_INHERITED";

/// The variable's value for these two ends.
pub(super) fn name_pipes(read: &OwnedFd, write: &OwnedFd) -> io::Result<String> {
    use std::os::fd::AsRawFd;
    let (reads, writes) = (fstat(read)?.st_ino, fstat(write)?.st_ino);
    Ok(format!("{}:{reads},{}:{writes}", read.as_raw_fd(), write.as_raw_fd()))
}

/// Accepts one connection: the pipes that the process which started this one, by [`Spawn`](super::Spawn), has handed
/// down. After it there is never another, so a server ends when the connection does: when the parent closes it, and
/// when the parent dies.
///
/// Until the pipes are taken, a program that this one starts inherits them as well: [`bind`](Inherited::bind) first.
#[derive(Debug)]
pub struct Inherited {
    /// `None` once it has been accepted.
    transport: Option<PipeTransport>,
}

impl Inherited {
    /// Takes the pipes, once in a process. From then on no process that this one starts inherits them. Only inside a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BindError::Endpoint`] if this process was not started by `Spawn`, the pipes are not here, or have been taken;
    /// [`BindError::NoRuntime`] outside a runtime.
    pub fn bind() -> Result<Inherited, BindError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(BindError::NoRuntime);
        }
        let Some(named) = std::env::var_os(VARIABLE) else {
            return Err(unfit(NOT_SPAWNED));
        };
        let Some([read, write]) = named.to_str().and_then(parse) else {
            return Err(unfit(MALFORMED));
        };
        // Guards the two descriptors: whoever turns it owns them.
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Err(unfit(TWICE));
        }
        let take = |(number, inode)| sys::take_inherited(number, inode);
        let taken = take(read).and_then(|read| Ok((read, take(write)?)));
        let (read, write) = taken.map_err(|error| {
            TAKEN.store(false, Ordering::Relaxed);
            match error.kind() {
                io::ErrorKind::NotFound => unfit(STALE),
                _ => failed("taking the pipes", error),
            }
        })?;
        let peer = PeerIdentity::Parent { pid: std::os::unix::process::parent_id() };
        let builder = PipeTransport::builder(read, write).peer(peer).capacity_as_it_is();
        let transport = builder.build().map_err(|error| failed("registering the pipes with the runtime", error))?;
        Ok(Inherited { transport: Some(transport) })
    }

    /// The connection, with the transport's type; `None` once it has been accepted.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing waits.
    pub async fn accept_transport(&mut self) -> io::Result<Option<PipeTransport>> {
        Ok(self.transport.take())
    }
}

#[async_trait::async_trait]
impl Listener for Inherited {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        Ok(self.accept_transport().await?.map(BoxTransport::new))
    }

    fn endpoint(&self) -> String {
        ENDPOINT.to_owned()
    }
}

/// The numbers and inodes that the variable names.
fn parse(named: &str) -> Option<[(RawFd, u64); 2]> {
    let end = |named: &str| {
        let (number, inode) = named.split_once(':')?;
        Some((number.parse().ok()?, inode.parse().ok()?))
    };
    let (read, write) = named.split_once(',')?;
    let (read, write): ((RawFd, u64), (RawFd, u64)) = (end(read)?, end(write)?);
    (read.0 != write.0).then_some([read, write])
}

fn unfit(why: &str) -> BindError {
    BindError::Endpoint { endpoint: ENDPOINT.to_owned(), why: why.to_owned() }
}

fn failed(what: &'static str, source: io::Error) -> BindError {
    BindError::Io { endpoint: ENDPOINT.to_owned(), what, source }
}

const ENDPOINT: &str = "inherited:";
const NOT_SPAWNED: &str = "this process was not started by `spawn`, which hands the pipes down: start it from a program \
                           that calls `spawn`, or listen on `unix:/path` or `stdio:`";
const MALFORMED: &str = "the environment variable TRUNKLINE_INHERITED names no pipes: it is set by `spawn` alone";
const STALE: &str = "the pipes that the environment variable TRUNKLINE_INHERITED names are not open here: it was meant \
                     for the process that started this one; start this one by `spawn` too, or take the variable away";
const TWICE: &str = "this process has taken its pipes already: they are for one server, once";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_two_numbers_twice() {
        assert_eq!(parse("5:10,6:11"), Some([(5, 10), (6, 11)]));
        for bad in ["", "5", "5:10", "5:10,", "5:10,5:10", "x:10,6:11", "5:10,6:y", "5:10,6:11,7:12"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
