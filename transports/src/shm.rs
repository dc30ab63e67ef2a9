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
//!   after it was loaded once. A peer can end its connection, and nothing else.
//! - Whoever goes to sleep is rung for whatever happens after it looked for the last time.

/// The setters of [`Options`], which both sides have.
macro_rules! ring_options {
    ($from_whom:literal) => {
        #[doc = concat!("Sets how many bytes the ring ", $from_whom, " holds: rounded up to a power of two from 64 KiB")]
        /// to 64 MiB. 256 KiB by default. Messages over an eighth of the smaller of the two rings, less some 4 KiB, travel
        /// in chunks: to send larger ones, enlarge both.
        pub fn capacity(mut self, bytes: usize) -> Self {
            self.options.capacity =
                bytes.clamp($crate::shm::setup::CAPACITY_MIN, $crate::shm::setup::CAPACITY_MAX).next_power_of_two();
            self
        }

        /// Treats processes of this process's own user, and root's, as strangers too: those in a sandbox, say, that could
        /// not stop or inspect this one.
        ///
        /// With strangers the doorbell is the socket. It takes two or three microseconds longer to ring than a pipe, which a
        /// stranger could block.
        pub fn distrust_own_user(mut self) -> Self {
            self.options.trusting = false;
            self
        }
    };
}

mod bell;
mod connect;
mod copy;
mod line;
mod listen;
mod memory;
mod ring;
mod segment;
mod setup;
mod transport;

use std::time::Duration;

use trunkline_core::transport::PeerIdentity;

pub use connect::ShmConnector;
pub use listen::{ShmListener, ShmListenerBuilder};
pub use transport::{ShmBatch, ShmReceiver, ShmSender, ShmTransport, ShmWriter};

const SCHEME: &str = "shm";
/// How long the set-up may take, once the socket is connected.
const SETUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Fits into the second-level cache of most processors, next to the other direction's.
const CAPACITY_DEFAULT: usize = 256 << 10;

/// What either side can say about its rings.
#[derive(Clone, Copy, Debug)]
struct Options {
    /// Of this side's ring, in bytes.
    capacity: usize,
    /// Whether this process's own user and root are no strangers.
    trusting: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { capacity: CAPACITY_DEFAULT, trusting: true }
    }
}

impl Options {
    /// Whether the peer could not stop this process anyway, as its own user and root can.
    fn is_stranger(&self, peer: &PeerIdentity) -> bool {
        let own = [nix::unistd::geteuid().as_raw(), 0];
        !self.trusting || !matches!(peer, PeerIdentity::Unix { uid, .. } if own.contains(uid))
    }
}

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
