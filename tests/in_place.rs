//! Messages that are read where the peer has put them: that they really are, and what becomes of everybody else while one
//! is kept.
#![cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
#![allow(unsafe_code, reason = "vouches for a peer: it is this process itself")]

use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};
use trunkline::transport::{ShmConnector, ShmListener};
use trunkline::{CallError, Connection, Limits, Reason, Server, ServerHandle};

const BLOCKS: usize = 4;
const BLOCK: usize = 256 << 10;

#[trunkline::service]
trait Reader {
    /// Where its argument begins, and its sum.
    async fn read(&self, bytes: &[u8]) -> (u64, u64);
    async fn text(&self, text: &str) -> u64;
    /// Keeps its argument until it is let go, and says its sum then.
    async fn keep(&self, bytes: &[u8]) -> u64;
    /// The same, whatever becomes of the caller.
    #[rpc(no_cancel)]
    async fn keep_on(&self, bytes: &[u8]) -> u64;
    async fn pattern(&self, len: usize) -> Vec<u8>;
}

struct Place {
    kept: mpsc::UnboundedSender<Range<usize>>,
    sums: mpsc::UnboundedSender<u64>,
    go: Arc<Semaphore>,
}

impl Reader for Place {
    async fn read(&self, bytes: &[u8]) -> (u64, u64) {
        (bytes.as_ptr() as u64, sum(bytes))
    }

    async fn text(&self, text: &str) -> u64 {
        text.as_ptr() as u64
    }

    async fn keep(&self, bytes: &[u8]) -> u64 {
        let _ = self.kept.send(range(bytes));
        let _go = self.go.acquire().await;
        sum(bytes)
    }

    async fn keep_on(&self, bytes: &[u8]) -> u64 {
        let sum = self.keep(bytes).await;
        let _ = self.sums.send(sum);
        sum
    }

    async fn pattern(&self, len: usize) -> Vec<u8> {
        pattern(len, 7)
    }
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + seed * 77) as u8).collect()
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(1, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

fn range(bytes: &[u8]) -> Range<usize> {
    bytes.as_ptr() as usize..bytes.as_ptr() as usize + bytes.len()
}

/// What of this process's memory is somebody's ring, and not to be written.
fn rings() -> Vec<Range<usize>> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let rings = maps.lines().filter(|line| line.contains("memfd:trunkline") && line.contains(" r--s "));
    let number = |hex: &str| usize::from_str_radix(hex, 16).unwrap();
    let ranges = rings.filter_map(|line| line.split_once(' ')?.0.split_once('-'));
    ranges.map(|(start, end)| number(start)..number(end)).collect()
}

fn is_in_a_ring(start: usize, len: usize) -> bool {
    rings().iter().any(|ring| ring.start <= start && start + len <= ring.end)
}

struct Scene {
    kept: mpsc::UnboundedReceiver<Range<usize>>,
    sums: mpsc::UnboundedReceiver<u64>,
    go: Arc<Semaphore>,
    handle: ServerHandle,
    connection: Connection,
    client: ReaderClient,
    directory: TempDir,
}

/// A server and a client in this process; where they are `trusting`, both read in place.
async fn scene(trusting: bool) -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut listener = ShmListener::builder(&path).blocks(BLOCKS, BLOCK);
    let mut connector = ShmConnector::new(&path).blocks(BLOCKS, BLOCK);
    if trusting {
        // SAFETY: both are this process, which writes to no message that it has sent.
        listener = unsafe { listener.assume_peer_trusted() };
        // SAFETY: as above.
        connector = unsafe { connector.assume_peer_trusted() };
    }
    let (kept_sender, kept) = mpsc::unbounded_channel();
    let (sums_sender, sums) = mpsc::unbounded_channel();
    let go = Arc::new(Semaphore::new(0));
    let place = Place { kept: kept_sender, sums: sums_sender, go: Arc::clone(&go) };
    let server = Server::builder().service(ReaderServer::new(place)).listen(listener.bind().unwrap());
    let handle = server.handle();
    tokio::spawn(server.run());
    let connection = Connection::builder().connect_with(&connector).await.unwrap();
    Scene { kept, sums, go, handle, client: connection.client(), connection, directory }
}

async fn soon<F: IntoFuture>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), what.into_future()).await.expect("nothing happened for 20 s")
}

#[tokio::test]
async fn an_argument_lies_where_the_client_has_put_it() {
    let scene = scene(true).await;
    // Longer than a chunk, up to the longest that a block is for.
    for len in [40_000, 100_001, BLOCK] {
        for seed in 0..3 * BLOCKS {
            let bytes = pattern(len, seed);
            let (start, told) = soon(scene.client.read(&bytes)).await.unwrap();
            assert_eq!(told, sum(&bytes));
            assert!(is_in_a_ring(start as usize, len), "{len} bytes were copied");
        }
    }
    let text = "text ".repeat(10_000);
    assert!(is_in_a_ring(soon(scene.client.text(&text)).await.unwrap() as usize, text.len()));
}

#[tokio::test]
async fn what_is_short_or_longer_than_a_block_is_copied() {
    let scene = scene(true).await;
    for len in [10, 1000, 20_000, BLOCK + 10_000, 1 << 20] {
        let bytes = pattern(len, 1);
        let (start, told) = soon(scene.client.read(&bytes)).await.unwrap();
        assert_eq!(told, sum(&bytes));
        assert!(!is_in_a_ring(start as usize, len), "{len} bytes");
    }
}

/// The blocks are used all the same.
#[tokio::test]
async fn nothing_is_read_in_place_unless_the_program_has_vouched_for_the_peer() {
    let scene = scene(false).await;
    for len in [100, 40_000, BLOCK] {
        let bytes = pattern(len, 1);
        let (start, told) = soon(scene.client.read(&bytes)).await.unwrap();
        assert_eq!(told, sum(&bytes));
        assert!(!is_in_a_ring(start as usize, len), "{len} bytes");
        assert!(soon(scene.client.pattern(len)).await.unwrap() == pattern(len, 7));
    }
}

#[tokio::test]
async fn replies_come_in_blocks_as_well() {
    let scene = scene(true).await;
    for len in [100, 40_000, BLOCK, 2 * BLOCK] {
        let calls: Vec<_> = (0..3 * BLOCKS).map(|_| scene.client.pattern(len)).collect();
        let mut handles = Vec::new();
        for call in calls {
            handles.push(soon(call.send()).await.unwrap());
        }
        for handle in handles {
            assert!(soon(handle).await.unwrap() == pattern(len, 7));
        }
    }
}

/// All blocks are kept, for as long as the ring takes to go around many times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_keeps_its_argument_holds_up_nobody() {
    let mut scene = scene(true).await;
    let arguments: Vec<_> = (0..BLOCKS + 1).map(|seed| pattern(BLOCK, seed)).collect();
    let mut calls = Vec::new();
    let mut places = Vec::new();
    for bytes in &arguments {
        calls.push(soon(scene.client.keep(bytes).send()).await.unwrap());
        places.push(soon(scene.kept.recv()).await.unwrap());
    }
    let in_rings = places.iter().filter(|place| is_in_a_ring(place.start, BLOCK)).count();
    assert_eq!(in_rings, BLOCKS, "the last one finds no block and is copied");
    let kept = (BLOCKS + 1) * BLOCK;
    assert!(scene.handle.connections()[0].memory_in >= kept as u64, "what is kept counts");

    for seed in 0..200 {
        let bytes = pattern([100, 20_000, BLOCK][seed % 3], seed);
        let (start, told) = soon(scene.client.read(&bytes)).await.unwrap();
        assert_eq!(told, sum(&bytes));
        assert!(!is_in_a_ring(start as usize, bytes.len()));
    }
    scene.go.add_permits(1);
    for (call, bytes) in calls.into_iter().zip(&arguments) {
        assert_eq!(soon(call).await, Ok(sum(bytes)), "an argument was written over");
    }
    // Given back, they are used again.
    let bytes = pattern(BLOCK, 1);
    let (start, _) = soon(scene.client.read(&bytes)).await.unwrap();
    assert!(is_in_a_ring(start as usize, BLOCK));
    soon(async {
        while !(scene.handle.connections()[0].is_at_rest() && scene.connection.stats().is_at_rest()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_argument_outlives_its_connection() {
    let mut scene = scene(true).await;
    let bytes = pattern(BLOCK, 3);
    let call = soon(scene.client.keep_on(&bytes).send()).await.unwrap();
    let place = soon(scene.kept.recv()).await.unwrap();
    assert!(is_in_a_ring(place.start, BLOCK));
    drop(call);
    scene.connection.close();
    soon(scene.connection.closed()).await;
    soon(async {
        while !scene.handle.connections().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert!(is_in_a_ring(place.start, BLOCK), "it is no longer mapped");
    scene.go.add_permits(1);
    assert_eq!(soon(scene.sums.recv()).await, Some(sum(&bytes)));
    soon(async {
        while is_in_a_ring(place.start, BLOCK) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn limits_are_what_they_are_elsewhere() {
    let scene = scene(true).await;
    let path = scene.directory.path().join("small");
    // SAFETY: this process writes to no message that it has sent.
    let listener = unsafe { ShmListener::builder(&path).assume_peer_trusted() };
    let (kept, sums) = (mpsc::unbounded_channel().0, mpsc::unbounded_channel().0);
    let place = Place { kept, sums, go: Arc::clone(&scene.go) };
    let limits = Limits::default().message_len(50_000);
    let server = Server::builder().limits(limits).service(ReaderServer::new(place)).listen(listener.bind().unwrap());
    tokio::spawn(server.run());
    let connector = ShmConnector::new(&path).blocks(BLOCKS, BLOCK);
    let connection = Connection::builder().connect_with(&connector).await.unwrap();
    let client: ReaderClient = connection.client();
    let (start, _) = soon(client.read(&pattern(49_000, 1))).await.unwrap();
    assert!(is_in_a_ring(start as usize, 49_000));
    let error = soon(client.read(&pattern(60_000, 1))).await.unwrap_err();
    assert!(matches!(error, CallError::NotExecuted(Reason::TooLarge { max: 50_000, .. })), "{error}");
}
