//! What a call costs in instructions and allocations: a guard against regressions, and no measurement of time.
//!
//! ```text
//! trunkline-instructions TRANSPORT WORKLOAD CALLS
//! ```
//!
//! Makes the calls and prints how often both sides together have allocated. `.ci/instructions` runs it under callgrind
//! with some calls and with six times as many: the difference is what the calls cost, without what starting costs.
//!
//! Client and server are tasks of one thread, and neither looks again before it sleeps. What happens therefore depends on
//! the code alone, but for a sweep of each connection every 10 ms, and for what one finds changed right after it. Streams
//! are sent in batches of what was made in 50 us, under callgrind a few items; for them the clock goes slower.

use std::error::Error;
use std::process::ExitCode;
use std::{env, io};

use tokio::runtime::Builder;
use tokio::task::JoinSet;
use trunkline::transport::{BoxTransport, Listener, PipeTransport, async_trait, pipe};
use trunkline::{Connection, Latency, Server, Stream, Streaming};
use trunkline_benches::subject::{Each, InOrder, items};
use trunkline_benches::{Item, allocations, payload};

#[path = "instructions/clock.rs"]
mod clock;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [transport, workload, calls] = &arguments[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(transport, workload, calls) {
        Ok(allocations) => {
            println!("{allocations} allocations");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("trunkline-instructions: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

const USAGE: &str =
    "usage: trunkline-instructions tcp|unix|pipe|shm|mem echo|echo-64|upload|stream-down|stream-up CALLS";

fn run(transport: &str, workload: &str, calls: &str) -> Result<u64, Box<dyn Error>> {
    let workload = Workload::named(workload)?;
    if matches!(workload, Workload::Down | Workload::Up) {
        clock::slow_down();
    }
    let calls = calls.parse()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connection = connection(transport).await?;
        let client = connection.client();
        workload.run(&client, WARM_UP).await;
        allocations::count();
        workload.run(&client, calls).await;
        Ok(allocations::counted())
    })
}

/// Calls before those that count: buffers have their size then.
const WARM_UP: u64 = 640;

/// Items of a stream for each call: what is counted is what so many cost.
const ITEMS: u64 = 64;

/// What is called.
#[derive(Clone, Copy)]
enum Workload {
    /// An item there and back, so many at a time.
    Echo { in_flight: u64 },
    /// 64 KiB there, their number back, one at a time.
    Upload,
    /// A stream from the server, of [`ITEMS`] for each call that was asked for.
    Down,
    /// The same to the server.
    Up,
}

impl Workload {
    fn named(name: &str) -> Result<Workload, String> {
        match name {
            "echo" => Ok(Workload::Echo { in_flight: 1 }),
            "echo-64" => Ok(Workload::Echo { in_flight: 64 }),
            "upload" => Ok(Workload::Upload),
            "stream-down" => Ok(Workload::Down),
            "stream-up" => Ok(Workload::Up),
            _ => Err(format!("no workload is called `{name}`")),
        }
    }

    async fn run(self, client: &GuardedClient, calls: u64) {
        match self {
            Workload::Echo { in_flight: 1 } => echo(client.clone(), calls).await,
            Workload::Echo { in_flight } => {
                let mut callers = JoinSet::new();
                for _ in 0..in_flight {
                    callers.spawn(echo(client.clone(), calls / in_flight));
                }
                callers.join_all().await;
            }
            Workload::Upload => {
                let bytes = payload(64 << 10);
                for _ in 0..calls {
                    assert_eq!(client.upload(&bytes).await.expect("the server answers"), 64 << 10);
                }
            }
            Workload::Down => {
                let (mut stream, mut seen) = (client.down(ITEMS * calls).await.expect("a stream"), InOrder::default());
                while let Some(item) = stream.next().await {
                    seen.take(item.expect("the stream goes on")).expect("the next item");
                }
                assert_eq!(seen.count(), ITEMS * calls);
            }
            Workload::Up => {
                let stream = Each(items().take((ITEMS * calls) as usize));
                assert_eq!(client.up(stream).await.expect("the server answers"), ITEMS * calls);
            }
        }
    }
}

async fn echo(client: GuardedClient, calls: u64) {
    for id in 0..calls {
        let item = Item::new(id);
        assert_eq!(client.echo(item).await.expect("the server answers"), item);
    }
}

#[trunkline::service]
trait Guarded {
    async fn echo(&self, item: Item) -> Item;
    async fn upload(&self, bytes: &[u8]) -> u64;
    async fn down(&self, count: u64) -> impl Stream<Item = Item>;
    async fn up(&self, items: Streaming<Item>) -> u64;
}

struct Handlers;

impl Guarded for Handlers {
    async fn echo(&self, item: Item) -> Item {
        item
    }

    /// The number only: a checksum would cost more than all that is to be guarded.
    async fn upload(&self, bytes: &[u8]) -> u64 {
        bytes.len() as u64
    }

    async fn down(&self, count: u64) -> impl Stream<Item = Item> {
        Each(items().take(count as usize))
    }

    async fn up(&self, mut items: Streaming<Item>) -> u64 {
        let mut seen = InOrder::default();
        while let Some(item) = items.next().await {
            seen.take(item.expect("the stream goes on")).expect("the next item");
        }
        seen.count()
    }
}

/// A connection to a server that is a task of this runtime.
async fn connection(transport: &str) -> Result<Connection, Box<dyn Error>> {
    let server = Server::builder().latency(Latency::PowerSave).service(GuardedServer::new(Handlers));
    let client = Connection::builder().latency(Latency::PowerSave);
    if transport == "pipe" {
        let (here, there) = pipe::pair()?;
        tokio::spawn(server.listen(Once(Some(there))).run());
        return Ok(client.over_transport(here).await?);
    }
    // They need no name any more once they are connected.
    let directory = tempfile::tempdir()?;
    let uri = match transport {
        "tcp" => "tcp://127.0.0.1:0".to_owned(),
        "unix" | "shm" => format!("{transport}:{}/s", directory.path().display()),
        "mem" => "mem:instructions".to_owned(),
        _ => return Err(format!("no transport is called `{transport}`").into()),
    };
    let server = server.bind(uri).await?;
    let endpoint = server.endpoints().remove(0);
    tokio::spawn(server.run());
    Ok(client.connect(endpoint).await?)
}

/// Listens for one peer that is there already.
struct Once(Option<PipeTransport>);

#[async_trait]
impl Listener for Once {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        Ok(self.0.take().map(BoxTransport::new))
    }

    fn endpoint(&self) -> String {
        "pipe:".to_owned()
    }
}
