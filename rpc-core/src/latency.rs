//! How soon a connection goes to sleep.

use std::time::Duration;

/// What a connection does while it waits: how much processor time it may spend to answer sooner.
///
/// To wake a sleeping processor takes some 40 us, more than anything else about a call on one machine, and costs more
/// processor time than the call itself. A connection that has just been busy therefore looks again for a while before it
/// sleeps. It goes to the end of the runtime's queue after a microsecond of looks, so that other tasks run as they would. A
/// thread in [`Call::wait`](crate::Call::wait) looks for itself, and so does the future that a runtime's `block_on` was given,
/// `main` for most, or over shared memory a task that makes one call after another: a few times each time it is polled, and
/// then it is polled again.
/// A connection on which nothing happens sleeps, whatever is set here. So does one within a process
/// ([`PeerIdentity::SameProcess`](crate::transport::PeerIdentity::SameProcess)): the runtime that would look again is what makes
/// the other end answer.
///
/// Both ends choose for themselves, and both matter: a call wakes the server, its reply the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Latency {
    /// Looks for up to 50 us after something has come, if that has been worth it lately: after three waits in vain it
    /// sleeps through the next 8, after a further one through 16, at most 512. Calls one after another are answered
    /// without sleep, and cost less processor time than they would with it. Calls now and then cost what they would
    /// without.
    #[default]
    Balanced,
    /// Looks for up to 1 ms after something has come, each time. The least delay for calls that come often but not one
    /// after another; a connection with a call each millisecond keeps a processor busy.
    Low,
    /// Sleeps at once. For batteries, and for machines where every processor has better things to do.
    PowerSave,
}

impl Latency {
    /// How long to look after the last success.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Latency::Balanced => Duration::from_micros(50),
            Latency::Low => Duration::from_millis(1),
            Latency::PowerSave => Duration::ZERO,
        }
    }
}
