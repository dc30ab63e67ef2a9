//! The server's side: streams come in on a Unix socket and become rings, up to 64 at a time, each at its client's pace.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep};
use trunkline_core::transport::{BoxTransport, Listener, PeerIdentity};

use super::{Options, SCHEME, SETUP_TIMEOUT, ShmTransport, setup, unsupported};
use crate::BindError;
use crate::suspect::Suspect;
use crate::unix::{Address, UnixListener, UnixListenerBuilder};

/// Set-ups at a time. One more has to wait until one ends, or gives up its place.
const SETUPS_MAX: usize = 64;
/// What may have been taken from the system for connections that nobody has been given yet, in bytes; or for one of them, if
/// that is more. Only then is it known whether the server has room for them.
const ROOM: usize = 32 << 20;
/// How long a client that is waited for has its place for itself. From then on, one that stands in line takes that of the
/// one that has been waited for longest. An honest client speaks in the moment it connects; silent ones hold up the line
/// for little more than this.
const SETUP_PLACE: Duration = Duration::from_millis(100);

/// Accepts clients on a socket file, and sets up a pair of rings with each.
///
/// Who may connect, and what becomes of the file, is as with [`UnixListener`].
#[derive(Debug)]
pub struct ShmListener {
    socket: UnixListener,
    options: Options,
    /// Accepted, and without a place yet.
    next: Option<(UnixStream, PeerIdentity)>,
    /// Each with what it has of `room`.
    setups: JoinSet<Option<(ShmTransport, Option<OwnedSemaphorePermit>)>>,
    /// In the order they began.
    begun: VecDeque<Begun>,
    /// Until one of them may have to go.
    place: Pin<Box<Sleep>>,
    /// For segments, in [`units`].
    room: Arc<Semaphore>,
    failed: u64,
}

/// Of 64 KiB each.
fn units(bytes: usize) -> u32 {
    bytes.min(ROOM).div_ceil(64 << 10) as u32
}

/// A set-up.
#[derive(Debug)]
struct Begun {
    task: AbortHandle,
    /// Since when the client has been waited for. Not while it is this side that has something to do.
    waits: Arc<Mutex<Option<Instant>>>,
}

impl Begun {
    fn waits_since(&self) -> Option<Instant> {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        ShmListenerBuilder { socket, options: Options::default() }
    }

    /// How many connections were dropped because their user is not admitted.
    pub fn refused(&self) -> u64 {
        self.socket.refused()
    }

    /// How many connections came to nothing because the peer sent no ring, or none that can be trusted, within 5 s; or
    /// within 100 ms, while 64 were being set up and more stood in line; or because this side lacked memory or descriptors.
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
                    Ok(Some((transport, _))) => return Poll::Ready(Ok(transport)),
                    Ok(None) | Err(_) => self.failed += 1,
                }
            }
            if self.next.is_none() {
                self.next = Some(ready!(self.socket.poll_accept_stream(cx))?);
            }
            // Nobody loses a place but to somebody who is there.
            ready!(self.poll_place(cx));
            // What begins here is waited for in the next round.
            if let Some((stream, peer)) = self.next.take() {
                self.begin(stream, peer);
            }
        }
    }

    /// Ready when there is place for one more set-up. That another has ended wakes the task anyway.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.begun.retain(|begun| !begun.task.is_finished());
            if self.begun.len() < SETUPS_MAX {
                return Poll::Ready(());
            }
            let now = Instant::now();
            let waiting = self.begun.iter().enumerate().filter_map(|(at, begun)| Some((begun.waits_since()?, at)));
            let oldest = waiting.min();
            let until = oldest.map_or(now, |(since, _)| since) + SETUP_PLACE;
            match oldest.filter(|_| until <= now).and_then(|(_, at)| self.begun.remove(at)) {
                Some(oldest) => oldest.task.abort(),
                None => {
                    self.place.as_mut().reset(until);
                    ready!(self.place.as_mut().poll(cx));
                }
            }
        }
    }

    fn begin(&mut self, stream: UnixStream, peer: PeerIdentity) {
        let Options { shape, in_place, .. } = self.options;
        let stranger = self.options.is_stranger(&peer);
        let stream = Suspect::new(stream);
        let waits = Arc::<Mutex<Option<Instant>>>::default();
        let theirs = Arc::clone(&waits);
        let room = Arc::clone(&self.room);
        let task = self.setups.spawn(async move {
            let waits = |waits: bool| {
                let mut since = theirs.lock().unwrap_or_else(PoisonError::into_inner);
                *since = since.or_else(|| Some(Instant::now())).filter(|_| waits);
            };
            let mut made = None;
            let make = async |stranger| {
                made = room.acquire_many_owned(units(shape.len())).await.ok();
                setup::Own::create(shape, stranger).await
            };
            let accepted = setup::accept(&stream, stranger, waits, make);
            let rings = tokio::time::timeout(SETUP_TIMEOUT, accepted).await.ok()?.ok()?;
            Some((ShmTransport::new(stream.trust(), peer, rings, in_place), made))
        });
        self.begun.push_back(Begun { task, waits });
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
    options: Options,
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

    ring_options!("from the server to each client", "the clients");

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
            options: self.options,
            next: None,
            setups: JoinSet::new(),
            begun: VecDeque::new(),
            place: Box::pin(tokio::time::sleep(SETUP_PLACE)),
            room: Arc::new(Semaphore::new(units(ROOM) as usize)),
            failed: 0,
        })
    }
}
