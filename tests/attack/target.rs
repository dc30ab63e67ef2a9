//! The process under attack: a server on `unix:`, `tcp:`, `mem:` and `shm:` at once, and what it says of itself.

use std::future::poll_fn;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use trunkline::transport::{
    BatchBuffer, BatchWriter, Filled, FrameReceiver, FrameSender, MemConnector, Transport, framing, mem,
};
use trunkline::{Limits, Server, ServerHandle};

/// 32 bytes.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) a: u64,
    pub(crate) b: i64,
    pub(crate) c: f64,
    pub(crate) d: (u32, u16, u8, bool),
}

/// A type that contains itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct Nest(pub(crate) Option<Box<Nest>>);

/// Four bytes on the wire can be a kilobyte in memory.
#[derive(Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "that is what it is for")]
pub(crate) enum Fat {
    Thin,
    Thick([[u64; 32]; 4]),
}

/// What a server says of itself. At rest only the call that asks is in flight.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) connections: usize,
    pub(crate) calls_in_flight: usize,
    pub(crate) memory: u64,
    /// Of all connections that are open.
    pub(crate) memory_out: u64,
    /// Handlers of `hold` and `stubborn` that exist.
    pub(crate) running: usize,
    /// The most of them since the last question.
    pub(crate) running_most: usize,
    pub(crate) connections_accepted: u64,
    pub(crate) connections_refused: u64,
    pub(crate) accept_errors: u64,
    pub(crate) protocol_errors: u64,
    pub(crate) timeouts: u64,
    pub(crate) requests_refused: u64,
    /// Answered calls of the honest client on `mem:`, and what went wrong.
    pub(crate) mem_answered: u64,
    pub(crate) mem_failed: u64,
}

#[trunkline::service]
pub(crate) trait Target {
    async fn echo(&self, point: Point) -> Point;
    async fn upload(&self, bytes: &[u8]) -> u64;
    async fn nested(&self, nest: Nest) -> u32;
    async fn units(&self, units: Vec<()>) -> u64;
    async fn numbers(&self, numbers: Vec<u64>) -> u64;
    async fn text(&self, text: String) -> u64;
    async fn fat(&self, fat: Vec<Fat>) -> u64;
    async fn reply(&self, len: u32) -> Vec<u8>;
    /// Goes on for some time, unless it is cancelled.
    async fn hold(&self, millis: u32);
    /// The same, whether it is cancelled or not.
    #[rpc(no_cancel)]
    async fn stubborn(&self, millis: u32);
    async fn gauges(&self) -> Gauges;
}

pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

struct Victim;

static HANDLE: OnceLock<ServerHandle> = OnceLock::new();
static RUNNING: AtomicUsize = AtomicUsize::new(0);
static RUNNING_MOST: AtomicUsize = AtomicUsize::new(0);
static MEM_ANSWERED: AtomicU64 = AtomicU64::new(0);
static MEM_FAILED: AtomicU64 = AtomicU64::new(0);

/// Counts a handler for as long as it exists.
struct Counted;

impl Counted {
    fn new() -> Counted {
        RUNNING_MOST.fetch_max(RUNNING.fetch_add(1, Relaxed) + 1, Relaxed);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Relaxed);
    }
}

impl Target for Victim {
    async fn echo(&self, point: Point) -> Point {
        point
    }

    async fn upload(&self, bytes: &[u8]) -> u64 {
        checksum(bytes)
    }

    async fn nested(&self, nest: Nest) -> u32 {
        let (mut depth, mut at) = (0, &nest);
        while let Some(next) = &at.0 {
            (depth, at) = (depth + 1, next);
        }
        depth
    }

    async fn units(&self, units: Vec<()>) -> u64 {
        units.len() as u64
    }

    async fn numbers(&self, numbers: Vec<u64>) -> u64 {
        numbers.len() as u64
    }

    async fn text(&self, text: String) -> u64 {
        text.len() as u64
    }

    async fn fat(&self, fat: Vec<Fat>) -> u64 {
        fat.len() as u64
    }

    async fn reply(&self, len: u32) -> Vec<u8> {
        // A handler that lets its callers choose has to bound what they choose.
        vec![7; len.min(4 << 20) as usize]
    }

    async fn hold(&self, millis: u32) {
        let _counted = Counted::new();
        tokio::time::sleep(Duration::from_millis(millis.into())).await;
    }

    async fn stubborn(&self, millis: u32) {
        let _counted = Counted::new();
        tokio::time::sleep(Duration::from_millis(millis.into())).await;
    }

    async fn gauges(&self) -> Gauges {
        let Some(handle) = HANDLE.get() else {
            return Gauges::default();
        };
        let (stats, connections) = (handle.stats(), handle.connections());
        let running = RUNNING.load(Relaxed);
        Gauges {
            connections: stats.connections,
            calls_in_flight: stats.calls_in_flight,
            memory: stats.memory,
            memory_out: connections.iter().map(|connection| connection.memory_out).sum(),
            running,
            running_most: RUNNING_MOST.swap(running, Relaxed),
            connections_accepted: stats.connections_accepted,
            connections_refused: stats.connections_refused,
            accept_errors: stats.accept_errors,
            protocol_errors: stats.protocol_errors,
            timeouts: stats.timeouts,
            requests_refused: stats.requests_refused
                + connections.iter().map(|connection| connection.requests_refused).sum::<u64>(),
            mem_answered: MEM_ANSWERED.load(Relaxed),
            mem_failed: MEM_FAILED.load(Relaxed),
        }
    }
}

/// Before the limits: the server has one thread, on which handlers run inline first.
pub(crate) const ONE_THREAD: &str = "one thread,";

/// Limits from `name=value,name=value`; times in milliseconds.
fn limits(text: &str) -> Limits {
    let mut limits = Limits::default();
    for (name, value) in text.split(',').filter_map(|pair| pair.split_once('=')) {
        let n: usize = value.parse().expect("a number");
        let time = Duration::from_millis(n as u64);
        limits = match name {
            "hello_timeout" => limits.hello_timeout(time),
            "write_stall" => limits.write_stall(time),
            "connections" => limits.connections(n),
            "in_flight_per_connection" => limits.in_flight_per_connection(n),
            "in_flight_per_server" => limits.in_flight_per_server(n),
            "memory_total" => limits.memory_total(n),
            _ => panic!("no such limit: {name}"),
        };
    }
    limits
}

/// The server's whole life. Its directory holds the sockets; it ends when its standard input does.
pub(crate) fn serve(dir: &Path, limits_text: &str) {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let mut builder = match limits_text.strip_prefix(ONE_THREAD) {
        Some(_) => tokio::runtime::Builder::new_current_thread(),
        None => tokio::runtime::Builder::new_multi_thread(),
    };
    let limits_text = limits_text.trim_start_matches(ONE_THREAD);
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let builder = Server::builder().service(TargetServer::new(Victim)).limits(limits(limits_text));
        let server = builder.bind(format!("unix:{}", dir.join("rpc.sock").display())).await.unwrap();
        let server = server.bind("tcp://127.0.0.1:0").await.unwrap().bind("mem:target").await.unwrap();
        let server = server.bind(format!("shm:{}", dir.join("ring.sock").display())).await.unwrap();
        let _ = HANDLE.set(server.handle());
        let endpoints = server.endpoints();
        let running = tokio::spawn(server.run());
        tokio::spawn(bridge(UnixListener::bind(dir.join("mem.sock")).unwrap()));
        let honest = TargetClient::connect("mem:target").await.unwrap();
        tokio::spawn(honest_on_mem(honest));
        println!("\nendpoint {}", endpoints[1]);
        running.await.unwrap();
    });
}

async fn honest_on_mem(client: TargetClient) {
    for round in 0_u64.. {
        let point = Point { a: round, b: -1, c: 0.5, d: (1, 2, 3, true) };
        let counter = match client.echo(point).await {
            Ok(echoed) if echoed == point => &MEM_ANSWERED,
            other => {
                println!("\nhonest mem: {other:?}");
                &MEM_FAILED
            }
        };
        counter.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

type MemReader = framing::FrameReader<mem::MemReader>;
type MemWriter = framing::BatchedWriter<mem::MemWriter>;

/// Passes the bytes of a Unix socket on to `mem:`, so that an attacker outside reaches it byte by byte.
async fn bridge(listener: UnixListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Ok(transport) = MemConnector::new("target").connect_transport().await else {
            continue;
        };
        let (_, writer, reader) = transport.split(8 << 20);
        let (from, to) = stream.into_split();
        tokio::spawn(upstream(from, writer));
        tokio::spawn(downstream(reader, to));
    }
}

async fn upstream(mut from: OwnedReadHalf, mut writer: MemWriter) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        // A frame whose head is not sent: whatever bytes there are.
        let mut sender = BatchBuffer::default();
        let mut batch = Default::default();
        sender.reserve(8 + n).expect("an empty sender has room").copy_from_slice(&buffer[..n]);
        sender.commit(1);
        sender.take_batch(&mut batch);
        batch.advance(8);
        if poll_fn(|cx| writer.poll_write(cx, &mut batch)).await.is_err() {
            return;
        }
    }
    let _ = poll_fn(|cx| writer.poll_shutdown(cx)).await;
}

async fn downstream(mut reader: MemReader, mut to: OwnedWriteHalf) {
    while let Ok(Filled::Some) = poll_fn(|cx| reader.poll_fill(cx)).await {
        while let Ok(Some(frame)) = reader.frame() {
            if to.write_all(frame).await.is_err() {
                return;
            }
            reader.consume();
        }
        reader.idle();
    }
}
