//! The server's side: streams come in on a Unix socket, and become rings one by one, each at its client's pace.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep};
use trunkline_core::transport::{BoxTransport, Listener, PeerIdentity};

use super::{CAPACITY_DEFAULT, SCHEME, SETUP_TIMEOUT, ShmTransport, capacity_of, setup, unsupported};
use crate::BindError;
use crate::suspect::Suspect;
use crate::unix::{Address, UnixListener, UnixListenerBuilder};

/// Set-ups at a time. One more has to wait until one ends, or gives up its place.
const SETUPS_MAX: usize = 64;
/// How long a set-up has its place for itself. From then on, one that waits in line takes that of the oldest. An honest
/// client is through in a millisecond, if it gets the processor; silent ones hold up the line for little more than this.
const SETUP_PLACE: Duration = Duration::from_millis(250);

/// Accepts clients on a socket file, and sets up a pair of rings with each.
///
/// Who may connect, and what becomes of the file, is as with [`UnixListener`].
#[derive(Debug)]
pub struct ShmListener {
    socket: UnixListener,
    capacity: usize,
    setups: JoinSet<Option<ShmTransport>>,
    /// In the order they began, with when that was.
    begun: VecDeque<(Instant, AbortHandle)>,
    /// Until the oldest may have to go.
    place: Pin<Box<Sleep>>,
    failed: u64,
}

impl ShmListener {
    /// Listens on `path`, for processes of this process's own user. Only inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Those of [`UnixListener::bind`], and [`BindError::Endpoint`] where the system cannot do it.
    pub fn bind(path: impl AsRef<Path>) -> Result<ShmListener, BindError> {
        ShmListener::builder(path).bind()
    }

    /// Like [`bind`](ShmListener::bind), with options.
    pub fn builder(path: impl AsRef<Path>) -> ShmListenerBuilder {
        let socket = UnixListenerBuilder::of(Address::new(SCHEME, path.as_ref()));
        ShmListenerBuilder { socket, capacity: CAPACITY_DEFAULT }
    }

    /// How many connections were dropped because their user is not admitted.
    pub fn refused(&self) -> u64 {
        self.socket.refused()
    }

    /// How many connections came to nothing because the peer sent no ring, or none that can be trusted, within 5 s; or
    /// within 250 ms, while 64 were being set up and more stood in line.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// The next peer with whom rings are set up, with the transport's type.
    ///
    /// # Errors
    ///
    /// Those of the system, such as too many open files. The listener goes on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept_transport(&mut self) -> io::Result<ShmTransport> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ShmTransport>> {
        loop {
            while let Poll::Ready(Some(ended)) = self.setups.poll_join_next(cx) {
                match ended {
                    Ok(Some(transport)) => return Poll::Ready(Ok(transport)),
                    Ok(None) | Err(_) => self.failed += 1,
                }
            }
            ready!(self.poll_place(cx));
            // What begins here is waited for in the next round.
            let (stream, peer) = ready!(self.socket.poll_accept_stream(cx))?;
            self.begin(stream, peer);
        }
    }

    /// Ready when there is place for one more set-up. That another has ended wakes the task anyway.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.begun.retain(|(_, begun)| !begun.is_finished());
        let Some((since, _)) = self.begun.front().filter(|_| self.begun.len() >= SETUPS_MAX) else {
            return Poll::Ready(());
        };
        let until = *since + SETUP_PLACE;
        if self.place.deadline() != until {
            self.place.as_mut().reset(until);
        }
        ready!(self.place.as_mut().poll(cx));
        if let Some((_, oldest)) = self.begun.pop_front() {
            oldest.abort();
        }
        Poll::Ready(())
    }

    fn begin(&mut self, stream: UnixStream, peer: PeerIdentity) {
        let capacity = self.capacity;
        let stream = Suspect::new(stream);
        let handle = self.setups.spawn(async move {
            let rings = tokio::time::timeout(SETUP_TIMEOUT, setup::accept(&stream, capacity)).await.ok()?.ok()?;
            Some(ShmTransport::new(stream.trust(), peer, rings))
        });
        self.begun.push_back((Instant::now(), handle));
    }
}

#[async_trait::async_trait]
impl Listener for ShmListener {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        self.accept_transport().await.map(|transport| Some(BoxTransport::new(transport)))
    }

    fn endpoint(&self) -> String {
        self.socket.endpoint()
    }
}

/// How a [`ShmListener`] is to listen.
#[derive(Clone, Debug)]
pub struct ShmListenerBuilder {
    socket: UnixListenerBuilder,
    capacity: usize,
}

impl ShmListenerBuilder {
    /// Admits this user too. See [`UnixListenerBuilder::allow_uid`].
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.socket = self.socket.allow_uid(uid);
        self
    }

    /// Admits everybody. See [`UnixListenerBuilder::allow_any_user`].
    pub fn allow_any_user(mut self) -> Self {
        self.socket = self.socket.allow_any_user();
        self
    }

    /// Sets the socket file's mode. See [`UnixListenerBuilder::mode`].
    pub fn mode(mut self, mode: u32) -> Self {
        self.socket = self.socket.mode(mode);
        self
    }

    /// Accepts a directory that others can write. See [`UnixListenerBuilder::allow_shared_directory`].
    pub fn allow_shared_directory(mut self) -> Self {
        self.socket = self.socket.allow_shared_directory();
        self
    }

    /// Sets how many bytes the ring from the server to each client holds: rounded up to a power of two from 64 KiB to
    /// 64 MiB. 256 KiB by default. Messages over an eighth of it, less some 4 KiB, travel in chunks.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = capacity_of(bytes);
        self
    }

    /// Listens. Only inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Those of [`ShmListener::bind`].
    pub fn bind(self) -> Result<ShmListener, BindError> {
        let listener = self.socket.bind()?;
        if let Some(why) = unsupported() {
            return Err(BindError::Endpoint { endpoint: listener.endpoint(), why });
        }
        Ok(ShmListener {
            socket: listener,
            capacity: self.capacity,
            setups: JoinSet::new(),
            begun: VecDeque::new(),
            place: Box::pin(tokio::time::sleep(SETUP_PLACE)),
            failed: 0,
        })
    }
}
