//! Both ends of a connection in one process, and nothing between them that could be named.

use super::{Connection, ConnectionBuilder};
use crate::error::{ConnectError, ConnectionError, ProtocolError};
use crate::layer::Layers;
use crate::protocol::introduce;
use crate::server::ServerBuilder;
use crate::transport::Transport;

impl<L: Layers> ConnectionBuilder<L> {
    /// Serves `server` at one end of `pair` and connects the other to it. There is no handshake to wait for, and no listener:
    /// the server ends with the connection. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the two sides have no codec in common.
    pub fn local<T: Transport, M: Layers>(
        self,
        server: ServerBuilder<M>,
        pair: (T, T),
    ) -> Result<Connection, ConnectError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ConnectError::NoRuntime);
        }
        let (ours, theirs) = (self.into_start(), server.into_start());
        let mut client = ours.protocol(&pair.0.properties());
        let mut server = theirs.protocol(&pair.1.properties());
        introduce(&mut client, &mut server).map_err(|error| match error {
            ConnectionError::Protocol(ProtocolError::Handshake(error)) => ConnectError::Handshake(error),
            error => ConnectError::Lost(error),
        })?;
        // Nobody owns the server's end: it goes when the client's has.
        theirs.drive(pair.1, server);
        Ok(ours.drive(pair.0, client).owned())
    }
}
