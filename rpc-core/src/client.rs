//! The client's side of a trait: what every generated client stands on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::call::Call;
use crate::call_layer::CallLayers;
use crate::codec::CodecId;
use crate::connection::Connection;
use crate::limits::Limits;
use crate::method::{MethodDescriptor, ServiceDescriptor};

/// A client that the macro has written.
pub trait ServiceClient {
    /// What the service says about itself.
    const SERVICE: &'static ServiceDescriptor;

    /// Wraps the untyped client.
    fn from_client(client: Client) -> Self;
}

/// A client without a service: makes calls on a connection.
#[derive(Clone)]
pub struct Client {
    connection: Connection,
    pub(crate) codec: CodecId,
    pub(crate) deadline_default: Duration,
    pub(crate) deadline_max: Duration,
    pub(crate) decode: (usize, u16),
    pub(crate) layers: Option<Arc<CallLayers>>,
}

impl Client {
    /// A client on `connection`; where that is its owner's, the client is an owner, too.
    pub fn new(connection: Connection) -> Client {
        let link = connection.link();
        let Limits { deadline_default, deadline_max, decode_memory, decode_depth, .. } = *link.limits();
        Client {
            codec: link.codec(),
            deadline_default: deadline_default.min(deadline_max),
            deadline_max,
            decode: (decode_memory, decode_depth),
            layers: link.call_layers().cloned(),
            connection,
        }
    }

    /// The connection its calls are made on.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// A call that nothing has been done for yet.
    ///
    /// Without bounds: a type that can't travel is reported where the service is defined, not at every call.
    pub fn call<A, R>(&self, method: &'static MethodDescriptor, arguments: A) -> Call<'_, A, R> {
        Call::new(self, method, arguments)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("connection", &self.connection).finish_non_exhaustive()
    }
}
