//! A server over one of the transports, and how to get there.

use std::path::PathBuf;
use std::sync::Mutex;
use std::{env, fs, io, process};

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
pub(crate) enum Place {
    Tcp,
    Unix,
    Pipe,
    Shm,
    /// The same with blocks, read in place on both sides.
    Lending,
    Mem,
}

impl Place {
    pub(crate) const ALL: [Place; 6] = [Place::Tcp, Place::Unix, Place::Pipe, Place::Shm, Place::Lending, Place::Mem];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Place::Tcp => "tcp",
            Place::Unix => "unix",
            Place::Pipe => "pipe",
            Place::Shm => "shm",
            Place::Lending => "in-place",
            Place::Mem => "mem",
        }
    }
}

pub(crate) struct Site {
    pub(crate) place: Place,
    server: Mutex<Option<Server>>,
    endpoint: String,
    /// To a server over pipes.
    pipes: Option<mpsc::UnboundedSender<PipeTransport>>,
    directory: Option<PathBuf>,
}

impl Site {
    /// A server here.
    pub(crate) async fn open(place: Place, random: &mut Random) -> Site {
        let directory = env::temp_dir().join(format!("trunkline-soak-{}-{}", process::id(), place.name()));
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&directory).expect("a directory of our own");
        let builder = Server::builder().limits(limits(random)).service(SoakServer::new(Handlers));
        let socket = directory.join("s");
        let (pipes, arriving) = mpsc::unbounded_channel();
        let server = match place {
            Place::Tcp => builder.bind("tcp://127.0.0.1:0").await,
            Place::Unix | Place::Shm => builder.bind(format!("{}:{}", place.name(), socket.display())).await,
            Place::Mem => builder.bind("mem:soak").await,
            Place::Pipe => Ok(builder.listen(Pipes(arriving))),
            Place::Lending => listen_in_place(builder, socket),
        };
        let server = server.expect("a listener");
        let endpoint = server.endpoints().concat();
        let pipes = (place == Place::Pipe).then_some(pipes);
        Site { place, server: Mutex::new(Some(server)), endpoint, pipes, directory: Some(directory) }
    }

    /// One in another process.
    pub(crate) fn elsewhere(name: &str, uri: &str) -> Site {
        let place = Place::ALL.into_iter().find(|place| place.name() == name).expect("a transport");
        Site { place, server: Mutex::new(None), endpoint: uri.to_owned(), pipes: None, directory: None }
    }

    /// Where another process finds the server.
    pub(crate) fn uri(&self) -> Option<&str> {
        (!matches!(self.place, Place::Pipe | Place::Mem)).then_some(&self.endpoint)
    }

    pub(crate) fn handle(&self) -> ServerHandle {
        self.server.lock().expect("nobody panics with it").as_ref().expect("it does not run yet").handle()
    }

    /// Serves, once.
    pub(crate) fn run(&self) -> JoinHandle<DrainReport> {
        tokio::spawn(self.server.lock().expect("nobody panics with it").take().expect("it does not run yet").run())
    }

    pub(crate) async fn connect(&self, builder: ConnectionBuilder) -> Result<Connection, ConnectError> {
        match (self.place, &self.pipes) {
            (Place::Pipe, Some(server)) => {
                let (here, there) = pipe::pair().expect("there are descriptors left");
                let _ = server.send(there);
                builder.over_transport(here).await
            }
            (Place::Lending, _) => builder.connect_with(&in_place(&self.endpoint)).await,
            _ => builder.connect(&self.endpoint).await,
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir_all(directory);
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
