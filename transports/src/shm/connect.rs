//! The client's side.

use std::io;
use std::path::Path;
use std::time::Duration;

use trunkline_core::ConnectError;
use trunkline_core::transport::{BoxTransport, Connector};

use super::{Options, SCHEME, SETUP_TIMEOUT, ShmTransport, setup, unsupported};
use crate::suspect::Suspect;
use crate::unix::{Address, UnixConnector};

/// Leads to the server on a socket file, if it is somebody to trust, and sets up a pair of rings with it.
///
/// Whom it trusts is as with [`UnixConnector`]: this process's own user and root, unless told otherwise.
#[derive(Clone, Debug)]
pub struct ShmConnector {
    socket: UnixConnector,
    options: Options,
}

impl ShmConnector {
    /// Leads to the server at `path`.
    pub fn new(path: impl AsRef<Path>) -> ShmConnector {
        ShmConnector { socket: UnixConnector::of(Address::new(SCHEME, path.as_ref())), options: Options::default() }
    }

    /// Trusts servers run by this user too.
    pub fn trust_uid(mut self, uid: u32) -> Self {
        self.socket = self.socket.trust_uid(uid);
        self
    }

    /// Trusts whoever listens there.
    pub fn trust_any_user(mut self) -> Self {
        self.socket = self.socket.trust_any_user();
        self
    }

    /// Sets how many bytes the ring from this client to the server holds: rounded up to a power of two from 64 KiB to
    /// 64 MiB. 256 KiB by default. Messages over an eighth of the smaller of the two rings, less some 4 KiB, travel in
    /// chunks: to send larger ones, enlarge both.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.options.set_capacity(bytes);
        self
    }

    /// Sets how long this side goes on asking its ring after something came, before it sleeps: not at all by default.
    ///
    /// To be woken takes several microseconds, to find an answer by asking takes a fraction of one. It pays where answers
    /// come within that time, at the price of a busy processor: the runtime's thread runs other tasks in between, but does
    /// not rest. Some 50 us suit most; 10 ms is the most.
    pub fn poll_for(mut self, time: Duration) -> Self {
        self.options.poll_for = time;
        self
    }

    /// Treats processes of this process's own user, and root's, as strangers too: those in a sandbox, say, that could not
    /// stop or inspect this one.
    ///
    /// With strangers the doorbell is the socket. It takes a microsecond or two longer to ring than a pipe, which a
    /// stranger could block.
    pub fn distrust_own_user(mut self) -> Self {
        self.options.trusting = false;
        self
    }

    /// Connects once. While the server's line is full, tries again for up to 5 s; the set-up may take another 5 s.
    ///
    /// # Errors
    ///
    /// Those of [`UnixConnector::connect_transport`]. [`ConnectError::Unreachable`] as well if the two sides come to no
    /// pair of rings: the server is of another transport or version, or one side lacks memory or descriptors.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn connect_transport(&self) -> Result<ShmTransport, ConnectError> {
        if let Some(why) = unsupported() {
            return Err(ConnectError::Endpoint { endpoint: self.endpoint(), why });
        }
        let failed = |error| self.socket.unreachable(io::Error::other(error));
        let own = setup::Own::create(self.options.capacity, !self.options.trusting).map_err(failed)?;
        let (stream, peer) = self.socket.connect_stream().await?;
        let stream = Suspect::new(stream);
        let stranger = self.options.is_stranger(&peer);
        match tokio::time::timeout(SETUP_TIMEOUT, setup::connect(&stream, own, stranger)).await {
            Ok(Ok(rings)) => Ok(ShmTransport::new(stream.trust(), peer, rings, self.options.poll_for)),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(ConnectError::Timeout { endpoint: self.endpoint(), after: SETUP_TIMEOUT }),
        }
    }
}

#[async_trait::async_trait]
impl Connector for ShmConnector {
    async fn connect(&self) -> Result<BoxTransport, ConnectError> {
        self.connect_transport().await.map(BoxTransport::new)
    }

    fn endpoint(&self) -> String {
        self.socket.endpoint()
    }
}
