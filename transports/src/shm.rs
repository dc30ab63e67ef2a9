//! Rings in shared memory: `shm:/path`. Two processes on one machine, and no system call of ours while both are busy.
//!
//! Each side makes a segment of memory that only it can write, and the kernel sees to that. In it lies the ring of what
//! it sends, and how far it has read the other's. A frame is written where it is to be read, and its own first word,
//! stored last, makes it visible: one line of 64 bytes each way for a small call. A side that finds nothing to read says so
//! in its segment and sleeps until it is rung: by a pipe between processes of one user, or with root; by a byte on the
//! socket where the peer is a stranger.
//!
//! The segments come into being over a Unix socket that is found and guarded like any `unix:` endpoint's. The socket stays
//! open; between strangers it carries rings, otherwise nothing. Its hang-up is the kernel's word that the peer is gone. There
//! is no other name anywhere, so a process that was killed leaves nothing behind but its socket file.
//!
//! `docs/shared-memory.md` has the layout, the order of every store, and what a peer can and cannot do.
//!
//! # Invariants
//!
//! - Every word of shared memory has one writer, and the kernel enforces it.
//! - What a peer wrote is copied once, opaquely, before anything looks at it; every position and length of its is checked
//!   after it was loaded once. A peer can end its connection, and nothing else. Only for a peer that the program has vouched
//!   for, in so many `unsafe` words, are messages read where they are.
//! - Whoever goes to sleep is rung for whatever happens after it looked for the last time.

#[macro_use]
mod options;
mod bell;
mod connect;
mod copy;
mod lease;
mod line;
mod listen;
mod memory;
mod ring;
mod segment;
mod setup;
mod transport;

use std::time::Duration;

use options::Options;

pub use connect::ShmConnector;
pub use listen::{ShmListener, ShmListenerBuilder};
pub use transport::{ShmBatch, ShmReceiver, ShmSender, ShmTransport, ShmWriter};

const SCHEME: &str = "shm";
/// How long the set-up may take, once the socket is connected.
const SETUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why this system cannot do it, if it cannot.
fn unsupported() -> Option<String> {
    let system = nix::sys::utsname::uname().ok()?;
    let release = system.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next()?, numbers.next()?);
    (version < LINUX_MIN).then(|| {
        let (major, minor) = LINUX_MIN;
        format!("it takes Linux {major}.{minor} or later, this is {release}: use `unix:`")
    })
}

/// Sealing against other writers is older; `MADV_POPULATE_WRITE`, and that a pipe tells of every byte written to it, read or
/// not, are from here on.
const LINUX_MIN: (u32, u32) = (5, 14);
