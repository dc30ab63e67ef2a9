//! The client's side.

use std::io;
use std::path::Path;

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

    ring_options!("from this client to the server", "the server");

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
        let own = setup::Own::create(self.options.shape, !self.options.trusting).await.map_err(failed)?;
        let (stream, peer) = self.socket.connect_stream().await?;
        let stream = Suspect::new(stream);
        let stranger = self.options.is_stranger(&peer);
        match tokio::time::timeout(SETUP_TIMEOUT, setup::connect(&stream, own, stranger)).await {
            Ok(Ok(rings)) => Ok(ShmTransport::new(stream.trust(), peer, rings, self.options.in_place)),
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
