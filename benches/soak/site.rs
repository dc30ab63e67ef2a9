//! A server over one of the transports, and how to get there.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use tempfile::{TempDir, tempdir};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use trunkline::transport::{BoxTransport, Listener, PipeTransport, ShmConnector, ShmListener, async_trait, pipe};
use trunkline::{
    BindError, ConnectError, Connection, ConnectionBuilder, DrainReport, Limits, Server, ServerBuilder, ServerHandle,
};

use crate::random::Random;
use crate::service::{Handlers, SoakServer};

/// What carries the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Tcp,
    Unix,
    Pipe,
    Shm,
    /// The same with blocks, read in place on both sides.
    InPlace,
    Mem,
}

impl Carrier {
    pub(crate) const ALL: [Carrier; 6] =
        [Carrier::Tcp, Carrier::Unix, Carrier::Pipe, Carrier::Shm, Carrier::InPlace, Carrier::Mem];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Carrier::Tcp => "tcp",
            Carrier::Unix => "unix",
            Carrier::Pipe => "pipe",
            Carrier::Shm => "shm",
            Carrier::InPlace => "in-place",
            Carrier::Mem => "mem",
        }
    }
}

pub(crate) struct Site {
    pub(crate) carrier: Carrier,
    server: Mutex<Option<Server>>,
    endpoint: String,
    /// To a server over pipes.
    pipes: Option<mpsc::UnboundedSender<PipeTransport>>,
    _directory: Option<TempDir>,
}

impl Site {
    /// A server here.
    pub(crate) async fn open(carrier: Carrier, random: &mut Random) -> Site {
        let directory = tempdir().expect("a directory of our own");
        let builder = Server::builder().limits(limits(random)).service(SoakServer::new(Handlers));
        let socket = directory.path().join("s");
        let (pipes, arriving) = mpsc::unbounded_channel();
        let server = match carrier {
            Carrier::Tcp => builder.bind("tcp://127.0.0.1:0").await,
            Carrier::Unix | Carrier::Shm => builder.bind(format!("{}:{}", carrier.name(), socket.display())).await,
            Carrier::Mem => builder.bind("mem:soak").await,
            Carrier::Pipe => Ok(builder.listen(Pipes(arriving))),
            Carrier::InPlace => listen_in_place(builder, socket),
        };
        let server = server.expect("a listener");
        let endpoint = server.endpoints().concat();
        let pipes = (carrier == Carrier::Pipe).then_some(pipes);
        Site { carrier, server: Mutex::new(Some(server)), endpoint, pipes, _directory: Some(directory) }
    }

    /// One in another process.
    pub(crate) fn elsewhere(name: &str, uri: &str) -> Site {
        let carrier = Carrier::ALL.into_iter().find(|carrier| carrier.name() == name).expect("a transport");
        Site { carrier, server: Mutex::new(None), endpoint: uri.to_owned(), pipes: None, _directory: None }
    }

    /// Where another process finds the server.
    pub(crate) fn uri(&self) -> Option<&str> {
        (!matches!(self.carrier, Carrier::Pipe | Carrier::Mem)).then_some(&self.endpoint)
    }

    pub(crate) fn handle(&self) -> ServerHandle {
        self.server.lock().expect("nobody panics with it").as_ref().expect("it does not run yet").handle()
    }

    /// Serves, once.
    pub(crate) fn run(&self) -> JoinHandle<DrainReport> {
        tokio::spawn(self.server.lock().expect("nobody panics with it").take().expect("it does not run yet").run())
    }

    pub(crate) async fn connect(&self, builder: ConnectionBuilder) -> Result<Connection, ConnectError> {
        match (self.carrier, &self.pipes) {
            (Carrier::Pipe, Some(server)) => {
                let (here, there) = pipe::pair().expect("there are descriptors left");
                let _ = server.send(there);
                builder.over_transport(here).await
            }
            (Carrier::InPlace, _) => builder.connect_with(&in_place(&self.endpoint)).await,
            _ => builder.connect(&self.endpoint).await,
        }
    }
}

/// Some that are met, and none that a call here has to fail at.
pub(crate) fn limits(random: &mut Random) -> Limits {
    Limits::default()
        .stream_window([8 << 10, 20_000, 64 << 10, 256 << 10][random.below(4) as usize])
        .in_flight_per_connection([24, 64, 128][random.below(3) as usize])
        .memory_in([600 << 10, 8 << 20][random.below(2) as usize])
        .memory_out([600 << 10, 8 << 20][random.below(2) as usize])
        .message_len(512 << 10)
}

#[expect(unsafe_code, reason = "vouches for the peers")]
fn listen_in_place(builder: ServerBuilder, socket: PathBuf) -> Result<Server, BindError> {
    let listener = ShmListener::builder(socket).blocks(2, 64 << 10);
    // SAFETY: all peers are this very program, in which nobody writes to a message that was sent.
    Ok(builder.listen(unsafe { listener.assume_peer_trusted() }.bind()?))
}

#[expect(unsafe_code, reason = "vouches for the peer")]
fn in_place(uri: &str) -> ShmConnector {
    let connector = ShmConnector::new(uri.trim_start_matches("shm:")).blocks(3, 128 << 10);
    // SAFETY: the server is this very program, in which nobody writes to a message that was sent.
    unsafe { connector.assume_peer_trusted() }
}

/// Listens for peers that are handed over.
struct Pipes(mpsc::UnboundedReceiver<PipeTransport>);

#[async_trait]
impl Listener for Pipes {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        match self.0.recv().await {
            Some(transport) => Ok(Some(BoxTransport::new(transport))),
            None => std::future::pending().await,
        }
    }

    fn endpoint(&self) -> String {
        "pipe:".to_owned()
    }
}
