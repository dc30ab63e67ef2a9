//! Unix stream sockets: `unix:/path`.
//!
//! The kernel vouches for who is at the other end, and both ends use it: a listener admits its own user unless told
//! otherwise, and a connector talks to servers run by its own user or root. The identity is that of the process that
//! connected or listened; it may pass the descriptor on to others.

mod bind;
mod connect;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};

use socket2::Socket;
use tokio::net::UnixStream;
use trunkline_core::transport::{BoxTransport, Listener, PeerIdentity, Properties};

use crate::BindError;
use crate::socket::{self, SocketTransport};
use crate::suspect::Suspect;
use crate::sys;

use bind::SocketFile;
pub use connect::UnixConnector;

/// Accepts connections on a socket file.
///
/// While it lives it holds a lock on `<path>.lock`, so that one path never has two servers; that file stays when the
/// listener is dropped, the socket file goes.
#[derive(Debug)]
pub struct UnixListener {
    // Unlinked before the socket is closed: who finds the file finds somebody listening.
    _file: SocketFile,
    socket: tokio::net::UnixListener,
    address: Address,
    admitted: Users,
    refused: u64,
}

impl UnixListener {
    /// Listens on `path`, for processes of this process's own user. Only inside a tokio runtime.
    ///
    /// The file is put in its place with mode 0600 and with somebody listening on it, atomically. A socket file that a
    /// dead server left behind is replaced.
    ///
    /// # Errors
    ///
    /// [`BindError::InUse`] if a server listens there; [`BindError::Endpoint`] if the path is too long for a socket,
    /// its directory is missing or is one in which other users could replace the file, or something that is no socket
    /// is in the way; [`BindError::NoRuntime`] outside a runtime.
    pub fn bind(path: impl AsRef<Path>) -> Result<UnixListener, BindError> {
        UnixListener::builder(path).bind()
    }

    /// Like [`bind`](UnixListener::bind), with a say in who may connect.
    pub fn builder(path: impl AsRef<Path>) -> UnixListenerBuilder {
        UnixListenerBuilder::of(Address::new(SCHEME, path.as_ref()))
    }

    /// How many connections were dropped because their user is not admitted.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The next peer that is admitted, with the transport's type.
    ///
    /// # Errors
    ///
    /// Those of the system, such as too many open files. The listener goes on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept_transport(&mut self) -> io::Result<SocketTransport> {
        let (stream, peer) = poll_fn(|cx| self.poll_accept_stream(cx)).await?;
        transport(stream, peer)
    }

    /// The next stream of somebody who is admitted, and who that is. Nothing waits after a connection was accepted, so
    /// that none can be lost.
    pub(crate) fn poll_accept_stream(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, PeerIdentity)>> {
        loop {
            let stream = match ready!(self.socket.poll_accept(cx)) {
                Ok((stream, _)) => stream,
                // The peer gave up while it stood in line; that must not look like trouble of the listener's.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Poll::Ready(Err(error)),
            };
            match peer_of(&stream) {
                Ok((uid, peer)) if self.admitted.contain(uid) => return Poll::Ready(Ok((stream, peer))),
                Ok(_) | Err(_) => {
                    self.refused += 1;
                    drop(Suspect::new(stream));
                }
            }
        }
    }
}

#[async_trait::async_trait]
impl Listener for UnixListener {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        self.accept_transport().await.map(|transport| Some(BoxTransport::new(transport)))
    }

    fn endpoint(&self) -> String {
        self.address.to_string()
    }
}

/// How a [`UnixListener`] is to listen.
#[derive(Clone, Debug)]
pub struct UnixListenerBuilder {
    address: Address,
    mode: Option<u32>,
    admitted: Users,
    shared_directory: bool,
}

impl UnixListenerBuilder {
    pub(crate) fn of(address: Address) -> UnixListenerBuilder {
        UnixListenerBuilder { address, mode: None, admitted: Users::Only(vec![own_uid()]), shared_directory: false }
    }

    /// Admits this user too. The file's mode becomes 0666 (unless set): whom the file lets in, the listener checks.
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.admitted.add(uid);
        self
    }

    /// Admits everybody. The file's mode becomes 0666 (unless set).
    pub fn allow_any_user(mut self) -> Self {
        self.admitted = Users::Any;
        self
    }

    /// Sets the file's mode, for example 0660 for the processes of a group. The default is 0600.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Accepts a directory in which other users can replace the socket file by one of their own. Clients can still tell
    /// by asking who serves it, as [`UnixConnector`] does.
    pub fn allow_shared_directory(mut self) -> Self {
        self.shared_directory = true;
        self
    }

    /// Listens. Only inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Those of [`UnixListener::bind`].
    pub fn bind(self) -> Result<UnixListener, BindError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(BindError::NoRuntime);
        }
        let mode = self.mode.unwrap_or(if self.admitted.is_just(own_uid()) { 0o600 } else { 0o666 });
        let (file, socket) = bind::bind(&self.address, mode, self.shared_directory)?;
        let socket = tokio::net::UnixListener::from_std(socket.into()).map_err(|source| BindError::Io {
            endpoint: self.address.to_string(),
            what: "registering the socket with the runtime",
            source,
        })?;
        if !self.address.has_descriptors() {
            sys::refuse_descriptors(socket.as_fd());
        }
        Ok(UnixListener { _file: file, socket, address: self.address, admitted: self.admitted, refused: 0 })
    }
}

/// A set of users.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Users {
    Any,
    Only(Vec<u32>),
}

impl Users {
    fn add(&mut self, uid: u32) {
        match self {
            Users::Any => {}
            Users::Only(uids) => uids.push(uid),
        }
    }

    fn contain(&self, uid: u32) -> bool {
        match self {
            Users::Any => true,
            Users::Only(uids) => uids.contains(&uid),
        }
    }

    fn is_just(&self, uid: u32) -> bool {
        match self {
            Users::Any => false,
            Users::Only(uids) => uids.iter().all(|&other| other == uid),
        }
    }
}

/// What the kernel says about the process at the other end.
fn peer_of(stream: &UnixStream) -> io::Result<(u32, PeerIdentity)> {
    let cred = stream.peer_cred()?;
    Ok((cred.uid(), PeerIdentity::Unix { uid: cred.uid(), gid: cred.gid(), pid: cred.pid() }))
}

fn transport(stream: UnixStream, peer: PeerIdentity) -> io::Result<SocketTransport> {
    socket::transport(Socket::from(stream.into_std()?), Properties::new(SCHEME, peer))
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The path of a socket file, and the scheme of the URIs that lead to it, for messages.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    scheme: &'static str,
    path: PathBuf,
}

impl Address {
    pub(crate) fn new(scheme: &'static str, path: &Path) -> Address {
        Address { scheme, path: path.to_owned() }
    }

    /// Whether peers send descriptors. To a stream of bytes none do.
    fn has_descriptors(&self) -> bool {
        self.scheme != SCHEME
    }
}

impl Deref for Address {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, self.path.display())
    }
}

const SCHEME: &str = "unix";
