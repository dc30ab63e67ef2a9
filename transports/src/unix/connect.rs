//! The client's side: find the socket, and see who serves it before a byte is sent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};
use trunkline_core::ConnectError;
use trunkline_core::transport::{BoxTransport, Connector, PeerIdentity};

use super::{Address, SCHEME, Users, own_uid, peer_of, transport};
use crate::socket::SocketTransport;
use crate::sys;

/// Leads to whoever listens on a socket file, if it is somebody to trust: this process's own user or root, unless told
/// otherwise.
#[derive(Clone, Debug)]
pub struct UnixConnector {
    address: Address,
    trusted: Users,
}

impl UnixConnector {
    /// Leads to the server at `path`.
    pub fn new(path: impl AsRef<Path>) -> UnixConnector {
        UnixConnector::of(Address::new(SCHEME, path.as_ref()))
    }

    pub(crate) fn of(address: Address) -> UnixConnector {
        UnixConnector { address, trusted: Users::Only(vec![own_uid(), 0]) }
    }

    /// Trusts servers run by this user too.
    pub fn trust_uid(mut self, uid: u32) -> Self {
        self.trusted.add(uid);
        self
    }

    /// Trusts whoever listens there.
    pub fn trust_any_user(mut self) -> Self {
        self.trusted = Users::Any;
        self
    }

    /// Connects once. While the server's line is full, tries again for up to 5 s.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Unreachable`] if there is no such file or nobody listens on it, [`ConnectError::Timeout`] if the
    /// server's line stays full, [`ConnectError::PeerRefused`] if its user is not trusted,
    /// [`ConnectError::Endpoint`] if no socket can have that path, [`ConnectError::NoRuntime`] outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn connect_transport(&self) -> Result<SocketTransport, ConnectError> {
        let (stream, peer) = self.connect_stream().await?;
        transport(stream, peer).map_err(|source| self.unreachable(source))
    }

    /// A stream to a server whose user is trusted, and who that is.
    pub(crate) async fn connect_stream(&self) -> Result<(UnixStream, PeerIdentity), ConnectError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ConnectError::NoRuntime);
        }
        let stream = self.reach().await?;
        let (uid, peer) = peer_of(&stream).map_err(|source| self.unreachable(source))?;
        if !self.trusted.contain(uid) {
            return Err(ConnectError::PeerRefused { endpoint: self.address.to_string(), peer: peer.to_string() });
        }
        Ok((stream, peer))
    }

    async fn reach(&self) -> Result<UnixStream, ConnectError> {
        let since = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            match connect_now(&self.address) {
                Ok(stream) => return Ok(stream),
                // Neither is a full line something to wait for in the system, nor does it say when it has moved on.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if since.elapsed() >= PATIENCE {
                        return Err(ConnectError::Timeout { endpoint: self.address.to_string(), after: PATIENCE });
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    fn explain(&self, error: io::Error) -> ConnectError {
        let hint = match error.kind() {
            io::ErrorKind::InvalidInput => {
                return ConnectError::Endpoint { endpoint: self.address.to_string(), why: error.to_string() };
            }
            io::ErrorKind::NotFound => "there is no such file: is the server running, and does it use this path?",
            io::ErrorKind::ConnectionRefused => "nobody listens on it: the server that made the file has ended",
            io::ErrorKind::PermissionDenied => "the file's mode, or a directory's, keeps this user out",
            _ => return self.unreachable(error),
        };
        self.unreachable(io::Error::new(error.kind(), format!("{hint} ({error})")))
    }

    pub(crate) fn unreachable(&self, source: io::Error) -> ConnectError {
        ConnectError::Unreachable { endpoint: self.address.to_string(), source }
    }
}

/// Connecting to a socket file takes no time: it is done, or it fails, at once. To wait until the socket can be written,
/// which it can, would only let others pass.
fn connect_now(path: &Address) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if !path.has_descriptors() {
        sys::refuse_descriptors(socket.as_fd());
    }
    socket.connect(&SockAddr::unix(&**path)?)?;
    UnixStream::from_std(OwnedFd::from(socket).into())
}

#[async_trait::async_trait]
impl Connector for UnixConnector {
    async fn connect(&self) -> Result<BoxTransport, ConnectError> {
        self.connect_transport().await.map(BoxTransport::new)
    }

    fn endpoint(&self) -> String {
        self.address.to_string()
    }
}

/// How long a server whose line is full is given.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);
