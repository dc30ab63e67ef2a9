//! trunkline itself: as it is for whoever sets nothing, and with one thing set.

use std::future::Future;
use std::marker::PhantomData;
use std::path::Path;

use bytes::Bytes;
use tokio::runtime::Builder;
use trunkline::transport::{ShmConnector, ShmListener};
use trunkline::{Connection, ConnectionBuilder, Latency, Limits, Server, ServerBuilder, Stream, Streaming};
use trunkline_benches::subject::{
    About, Blocking, Client, Each, Error, InOrder, Ready, Recorder, Sink, Source, Spec, Subject, Workload, child, items,
};
use trunkline_benches::{Item, checksum, checksum_in_turns, payload};

#[trunkline::service]
pub(crate) trait Bench {
    async fn echo(&self, item: Item) -> Item;
    async fn upload(&self, bytes: &[u8]) -> u64;
    /// Does not end.
    async fn down(&self) -> impl Stream<Item = Item>;
    /// How many items have come, up to the first wrong one.
    async fn up(&self, items: Streaming<Item>) -> u64;
}

struct Measured;

impl Bench for Measured {
    async fn echo(&self, item: Item) -> Item {
        item
    }

    async fn upload(&self, bytes: &[u8]) -> u64 {
        checksum_in_turns(bytes).await
    }

    async fn down(&self) -> impl Stream<Item = Item> {
        Each(items())
    }

    async fn up(&self, mut items: Streaming<Item>) -> u64 {
        let mut seen = InOrder::default();
        while let Some(Ok(item)) = items.next().await {
            if seen.take(item).is_err() {
                break;
            }
        }
        seen.count()
    }
}

/// The service that is measured.
pub(crate) fn service() -> impl trunkline::Service {
    BenchServer::new(Measured)
}

/// What is set, on both sides.
pub(crate) trait Setting {
    const ABOUT: About;

    fn server() -> ServerBuilder {
        Server::builder()
    }

    fn connection() -> ConnectionBuilder {
        Connection::builder()
    }

    fn bind(server: ServerBuilder, uri: String) -> impl Future<Output = Result<Server, Error>> + Send {
        async { Ok(server.bind(uri).await?) }
    }

    fn connect(connection: ConnectionBuilder, uri: &str) -> impl Future<Output = Result<Connection, Error>> + Send {
        async move { Ok(connection.connect(uri).await?) }
    }
}

const TRANSPORTS: &[&str] = &["tcp", "unix", "pipe", "shm"];
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Nothing.
pub(crate) struct Default;

impl Setting for Default {
    const ABOUT: About = About {
        name: "trunkline",
        version: VERSION,
        configuration: "nothing is set",
        transports: TRANSPORTS,
        modes: &["ct", "mt"],
        beside_max: 0,
        streams: true,
    };
}

/// That it sleeps at once.
pub(crate) struct Asleep;

impl Setting for Asleep {
    const ABOUT: About = About {
        name: "trunkline-asleep",
        version: VERSION,
        configuration: "Latency::PowerSave: sleeps at once",
        transports: TRANSPORTS,
        modes: &["ct"],
        beside_max: 0,
        streams: true,
    };

    fn server() -> ServerBuilder {
        Server::builder().latency(Latency::PowerSave)
    }

    fn connection() -> ConnectionBuilder {
        Connection::builder().latency(Latency::PowerSave)
    }
}

/// Limits, so that a message may have 64 MiB.
pub(crate) struct Roomy;

impl Roomy {
    fn limits() -> Limits {
        let mut limits = Limits::default();
        limits.message_len = 2 * BESIDE_MAX;
        limits.memory_in = 2 * BESIDE_MAX;
        limits
    }
}

const BESIDE_MAX: usize = 64 << 20;

impl Setting for Roomy {
    const ABOUT: About = About {
        name: "trunkline-roomy",
        version: VERSION,
        configuration: "limits for messages of 128 MiB",
        transports: TRANSPORTS,
        modes: &["ct"],
        beside_max: BESIDE_MAX,
        streams: true,
    };

    fn server() -> ServerBuilder {
        Server::builder().limits(Roomy::limits())
    }

    fn connection() -> ConnectionBuilder {
        Connection::builder().limits(Roomy::limits())
    }
}

/// That the server reads uploads where the client has put them.
pub(crate) struct Trusting;

impl Trusting {
    fn path(uri: &str) -> &str {
        uri.trim_start_matches("shm:")
    }
}

impl Setting for Trusting {
    const ABOUT: About = About {
        name: "trunkline-trusting",
        version: VERSION,
        configuration: "blocks for 8 messages of 1 MiB, read in place: the client is trusted",
        transports: &["shm"],
        modes: &["ct"],
        beside_max: 0,
        streams: true,
    };

    #[expect(unsafe_code, reason = "vouches for the client")]
    async fn bind(server: ServerBuilder, uri: String) -> Result<Server, Error> {
        let listener = ShmListener::builder(Trusting::path(&uri));
        // SAFETY: the client is this very program, in which nobody writes to a message that was sent.
        let listener = unsafe { listener.assume_peer_trusted() };
        Ok(server.listen(listener.bind()?))
    }

    async fn connect(connection: ConnectionBuilder, uri: &str) -> Result<Connection, Error> {
        let connector = ShmConnector::new(Trusting::path(uri)).blocks(8, 1 << 20);
        Ok(connection.connect_with(&connector).await?)
    }
}

/// trunkline in tasks, with this setting.
pub(crate) struct Trunkline<S>(PhantomData<S>);

impl<S: Setting> Subject for Trunkline<S> {
    const ABOUT: About = S::ABOUT;
    type Client = Caller;

    async fn serve(transport: &str, dir: &Path, ready: Ready) -> Result<(), Error> {
        let uri = match transport {
            "tcp" => "tcp://127.0.0.1:0".to_owned(),
            "pipe" => "inherited:".to_owned(),
            "unix" | "shm" => format!("{transport}:{}/trunkline-{transport}.sock", dir.display()),
            _ => return Err(format!("trunkline has no transport `{transport}`").into()),
        };
        let server = S::bind(S::server().service(service()), uri).await?;
        ready.at(&server.endpoints()[0]);
        server.run().await;
        Ok(())
    }

    async fn connect(transport: &str, address: &str) -> Result<Caller, Error> {
        let builder = S::connection();
        let connection = match transport {
            "pipe" => builder.spawn(child(address)).await?,
            _ => S::connect(builder, address).await?,
        };
        Ok(Caller { client: connection.client(), connection })
    }
}

/// A client, and the connection that lives as long as it does.
#[derive(Clone)]
pub(crate) struct Caller {
    client: BenchClient,
    connection: Connection,
}

impl Client for Caller {
    async fn echo(&self, item: Item) -> Result<Item, Error> {
        Ok(self.client.echo(item).await?)
    }

    async fn upload(&self, bytes: &Bytes) -> Result<u64, Error> {
        Ok(self.client.upload(bytes).await?)
    }

    async fn down(&self, mut sink: Sink) -> Result<(), Error> {
        let mut items = self.client.down().await?;
        while let Some(item) = items.next().await {
            if !sink.take(item?)? {
                return Ok(());
            }
        }
        Err("the stream has ended".into())
    }

    async fn up(&self, source: Source) -> Result<u64, Error> {
        Ok(self.client.up(Each(source)).await?)
    }

    fn server_pid(&self) -> Option<u32> {
        self.connection.peer().pid()
    }
}

/// Calls from a plain thread.
pub(crate) struct Waiting;

impl Blocking for Waiting {
    const ABOUT: About = About {
        name: "trunkline-wait",
        version: VERSION,
        configuration: "calls with .wait() on a plain thread; the server as `trunkline`, ct",
        // Nothing starts a child without a runtime.
        transports: &["tcp", "unix", "shm"],
        modes: &["thread"],
        beside_max: 0,
        streams: false,
    };

    fn serve(transport: &str, dir: &Path, ready: Ready) -> Result<(), Error> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(Trunkline::<Default>::serve(transport, dir, ready))
    }

    fn load(_: &str, address: &str, spec: &Spec, recorder: &mut Recorder) -> Result<(), Error> {
        if spec.in_flight != 1 || spec.connections != 1 || spec.is_open() {
            return Err("a thread that waits makes one call at a time".into());
        }
        let client = BenchClient::connect_blocking(address)?;
        let bytes = payload(spec.size);
        let sum = checksum(&bytes);
        let mut since = recorder.begin();
        for number in 0.. {
            let right = match spec.workload {
                Workload::Echo => client.echo(Item::new(number)).wait()? == Item::new(number),
                Workload::Upload => client.upload(&bytes).wait()? == sum,
                Workload::Down | Workload::Up => return Err("streams are measured in tasks".into()),
            };
            if !right {
                return Err(format!("a wrong reply to call {number}").into());
            }
            match recorder.completed(since, 1) {
                Some(now) => since = now,
                None => break,
            }
        }
        Ok(())
    }
}
