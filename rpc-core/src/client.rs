//! The client's side of a trait: what every generated client stands on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{self, Serialize, Serializer};

use crate::call::{Call, Opener};
use crate::call_layer::CallLayers;
use crate::codec::CodecId;
use crate::connection::Connection;
use crate::limits::Limits;
use crate::method::{MethodDescriptor, ServiceDescriptor};
use crate::object::{self, Closed, Connect, Found, Handle, Object, Passed};
use crate::service::Service;

/// A client that the macro has written.
///
/// It can be an argument or a result of a call, or a part of one, if it was made with `local`: the other side then gets a
/// client whose calls reach the very service that this one was made of. So can one that came that way, on the connection
/// that it came by.
pub trait ServiceClient {
    /// What the service says about itself.
    const SERVICE: &'static ServiceDescriptor;

    /// Wraps the untyped client.
    fn from_client(client: Client) -> Self;

    /// The untyped client.
    fn client(&self) -> &Client;

    /// Waits until this client can make no more calls, and says why: its connection has ended, or the object that it was handed
    /// has been revoked.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    fn closed(&self) -> impl Future<Output = Closed> + Send {
        let place = self.client().place.clone();
        async move {
            match &place {
                Place::Services(connection) => Closed::Connection(connection.lent().closed().await),
                Place::Held(handle) => handle.closed().await,
                Place::Own(object) => {
                    object.revoked().await;
                    Closed::Revoked
                }
                Place::Promised(opener) => opener.closed().await,
            }
        }
    }

    /// Waits until everybody has let go of the server of this client that it was handed to. Ready at once where this client is
    /// not one that `local` has made, or was handed to nobody.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    fn released(&self) -> impl Future<Output = ()> + Send {
        let own = self.client().own_object().cloned();
        async move {
            if let Some(object) = own {
                object.released().await;
            }
        }
    }

    /// Lets nobody who was handed the server of this client call it any more. Calls that have begun go on, and so does this
    /// client. Does nothing where it is not one that `local` has made.
    fn revoke(&self) {
        if let Some(object) = self.client().own_object() {
            object.revoke();
        }
    }
}

/// A client without a service: makes calls on a connection.
#[derive(Clone)]
pub struct Client {
    place: Place,
    pub(crate) codec: CodecId,
    pub(crate) deadline_default: Duration,
    pub(crate) deadline_max: Duration,
    pub(crate) decode: (usize, u16),
    pub(crate) layers: Option<Arc<CallLayers>>,
}

/// Where its calls go.
#[derive(Clone)]
enum Place {
    /// To the services at the other end.
    Services(Connection),
    /// To an object of the peer's.
    Held(Arc<Handle>),
    /// To an object of this process.
    Own(Arc<Object>),
    /// To the result of a call, which may not be there yet.
    Promised(Arc<Opener>),
}

impl Client {
    /// A client on `connection`; where that is its owner's, the client is an owner, too.
    pub fn new(connection: Connection) -> Client {
        let link = Arc::clone(connection.link());
        Client::with(Place::Services(connection), link.codec(), link.limits(), link.call_layers())
    }

    /// A client of `service` in this process, which can be handed to peers. What `connect` makes is used for calls from here.
    pub fn local(service: impl Service, connect: Connect) -> Client {
        Client::own(Arc::new(Object::new(service, connect)))
    }

    fn own_object(&self) -> Option<&Arc<Object>> {
        match &self.place {
            Place::Own(object) => Some(object),
            Place::Services(_) | Place::Held(_) | Place::Promised(_) => None,
        }
    }

    /// A client of the result of a call.
    pub(crate) fn promised(opener: Arc<Opener>) -> Client {
        let client = opener.client().clone();
        Client { place: Place::Promised(opener), ..client }
    }

    /// The same, whatever this one is a client of.
    pub(crate) fn on_connection(&self) -> Client {
        Client { place: Place::Services(self.connection().clone()), ..self.clone() }
    }

    /// The call whose result it is a client of.
    pub(crate) fn opener(&self) -> Option<&Arc<Opener>> {
        match &self.place {
            Place::Promised(opener) => Some(opener),
            Place::Services(_) | Place::Held(_) | Place::Own(_) => None,
        }
    }

    /// The same, which is all that is left of the client.
    pub(crate) fn into_opener(self) -> Option<Arc<Opener>> {
        match self.place {
            Place::Promised(opener) => Some(opener),
            Place::Services(_) | Place::Held(_) | Place::Own(_) => None,
        }
    }

    fn own(object: Arc<Object>) -> Client {
        Client::with(Place::Own(object), CodecId::SUPPORTED[0], &Limits::default(), None)
    }

    fn with(place: Place, codec: CodecId, limits: &Limits, layers: Option<&Arc<CallLayers>>) -> Client {
        let Limits { deadline_default, deadline_max, decode_memory, decode_depth, .. } = *limits;
        Client {
            place,
            codec,
            deadline_default: deadline_default.min(deadline_max),
            deadline_max,
            decode: (decode_memory, decode_depth),
            layers: layers.cloned(),
        }
    }

    /// The connection its calls are made on.
    pub fn connection(&self) -> &Connection {
        match &self.place {
            Place::Services(connection) => connection,
            Place::Held(handle) => handle.connection(),
            Place::Own(object) => object.connection(),
            Place::Promised(opener) => opener.client().connection(),
        }
    }

    /// The object that its calls are made on, of which one is made now; 0 = none, and above [`OBJECT_MAX`] it is not known.
    pub(crate) fn object(&self, oneway: bool) -> u64 {
        match &self.place {
            Place::Held(handle) => handle.id(),
            Place::Services(_) | Place::Own(_) => 0,
            Place::Promised(opener) => opener.object(oneway),
        }
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
        let mut client = f.debug_struct("Client");
        match &self.place {
            Place::Services(connection) => client.field("connection", connection),
            Place::Held(handle) => client.field("object", &handle.id()).field("connection", handle.connection()),
            Place::Own(object) => client.field("local", object),
            Place::Promised(opener) => client.field("result", opener),
        };
        client.finish_non_exhaustive()
    }
}

impl Serialize for Client {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let passed = match &self.place {
            Place::Own(object) => Passed::Object(Arc::clone(object)),
            Place::Held(handle) => Passed::Back(Arc::clone(handle)),
            Place::Services(_) => return Err(ser::Error::custom(NOT_AN_OBJECT)),
            Place::Promised(_) => return Err(ser::Error::custom(NOT_THERE_YET)),
        };
        let index = object::pass(passed).ok_or_else(|| ser::Error::custom(NOT_IN_A_MESSAGE))?;
        serializer.serialize_u32(index)
    }
}

impl<'de> Deserialize<'de> for Client {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Client, D::Error> {
        let index = u32::deserialize(deserializer)?;
        match object::find(index) {
            Some(Found::Own(object)) => Ok(Client::own(object)),
            Some(Found::Handle(handle)) => {
                let link = Arc::clone(handle.connection().link());
                Ok(Client::with(Place::Held(handle), link.codec(), link.limits(), link.call_layers()))
            }
            None => Err(de::Error::custom(NOT_IN_A_MESSAGE)),
        }
    }
}

const NOT_AN_OBJECT: &str = "a client that was made with `connect` or taken from a connection cannot be handed over: \
                             make it with `local`";
const NOT_THERE_YET: &str = "the client of a result that need not be there yet cannot be handed over: `.await` the pipelined \
                             call, and hand over the client that this gives";
const NOT_IN_A_MESSAGE: &str = "a client can only travel as a part of a call's arguments, or of what a call returns";
