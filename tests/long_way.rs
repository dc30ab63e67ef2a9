//! A stream through a relay that delays every byte: its window grows until the way is full.
//!
//! `cargo test --release --test long_way -- --nocapture` prints the rate at 1 Gbit/s and 25 ms each way.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use trunkline::{Connection, Server, Stream, Streaming};

/// Takes blocks.
#[trunkline::service]
pub trait Store {
    /// Bytes of the blocks.
    #[rpc(timeout = "10m")]
    async fn put(&self, blocks: Streaming<Vec<u8>>) -> u64;
}

struct Counter(Arc<AtomicU64>);

impl Store for Counter {
    async fn put(&self, mut blocks: Streaming<Vec<u8>>) -> u64 {
        let mut bytes = 0;
        while let Some(block) = blocks.next().await {
            bytes += block.expect("a block").len() as u64;
            self.0.store(bytes, Ordering::Relaxed);
        }
        bytes
    }
}

const BLOCK_LEN: usize = 32 << 10;

/// Blocks, as many as are wanted, until somebody says that it is enough.
struct Blocks {
    enough: Box<dyn FnMut() -> bool + Send>,
    made: Arc<AtomicU64>,
}

impl Stream for Blocks {
    type Item = Vec<u8>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        if (self.enough)() {
            return Poll::Ready(None);
        }
        self.made.fetch_add(BLOCK_LEN as u64, Ordering::Relaxed);
        Poll::Ready(Some(vec![7; BLOCK_LEN]))
    }
}

/// What goes one way: each byte so much later, and no more in a second than that.
async fn delay(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    delay: Duration,
    bytes_per_second: f64,
) {
    let (sender, mut under_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, bytes)) = under_way.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    let mut taken = Instant::now();
    loop {
        let mut bytes = vec![0; 64 << 10];
        let Ok(len @ 1..) = from.read(&mut bytes).await else { return };
        bytes.truncate(len);
        taken = taken.max(Instant::now()) + Duration::from_secs_f64(len as f64 / bytes_per_second);
        if sender.send((taken + delay, bytes)).is_err() {
            return;
        }
        // What is on it is as much as it takes, and little waits in front of it.
        tokio::time::sleep_until((taken - Duration::from_millis(2)).into()).await;
    }
}

async fn relay(to: String, each_way: Duration, bytes_per_second: f64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.expect("a connection");
        let far = TcpStream::connect(to).await.expect("the server");
        for stream in [&near, &far] {
            stream.set_nodelay(true).expect("no delay of TCP's own");
        }
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::spawn(delay(near_in, far_out, each_way, bytes_per_second));
        delay(far_in, near_out, each_way, bytes_per_second).await;
    });
    format!("tcp://{address}")
}

/// A client whose way to the server is so long, and how many bytes have got there.
async fn connect(each_way: Duration, bytes_per_second: f64) -> (Connection, Arc<AtomicU64>) {
    let arrived = Arc::<AtomicU64>::default();
    let server = Server::builder()
        .service(StoreServer::new(Counter(Arc::clone(&arrived))))
        .bind("tcp://127.0.0.1:0")
        .await
        .expect("a server");
    let address = server.endpoints()[0].to_string().trim_start_matches("tcp://").to_owned();
    tokio::spawn(server.run_until(std::future::pending::<()>()));
    let endpoint = relay(address, each_way, bytes_per_second).await;
    (Connection::builder().connect(&endpoint).await.expect("a connection"), arrived)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_fills_a_way_that_is_long() {
    // As much under way as at 1 Gbit/s and 25 ms, for a machine that is slower.
    let (connection, _) = connect(Duration::from_millis(100), f64::INFINITY).await;
    let store: StoreClient = connection.client();
    let made = Arc::<AtomicU64>::default();
    let watched = connection.clone();
    let most = Arc::<AtomicU64>::default();
    let enough = {
        let most = Arc::clone(&most);
        move || most.fetch_max(watched.stats().credit_in_use, Ordering::Relaxed) >= 6_250_000
    };
    let blocks = Blocks { enough: Box::new(enough), made: Arc::clone(&made) };
    let put = tokio::time::timeout(Duration::from_secs(120), store.put(blocks)).await;
    let most = most.load(Ordering::Relaxed);
    let bytes = put.unwrap_or_else(|_| panic!("never more than {most} bytes under way")).expect("an answer");
    assert_eq!(bytes, made.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_at_1_gbit() {
    const RATE: f64 = 125e6;
    let (connection, arrived) = connect(Duration::from_millis(25), RATE).await;
    let store: StoreClient = connection.client();
    let began = Instant::now();
    let (warm, whole) = if cfg!(debug_assertions) { (200, 400) } else { (2000, 5000) };
    let (warm, whole) = (Duration::from_millis(warm), Duration::from_millis(whole));
    let blocks = Blocks { enough: Box::new(move || began.elapsed() > whole), made: Arc::default() };
    let put = tokio::spawn(async move { store.put(blocks).await });
    tokio::time::sleep(warm).await;
    let (before, since) = (arrived.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(whole - warm).await;
    let rate = (arrived.load(Ordering::Relaxed) - before) as f64 / since.elapsed().as_secs_f64();
    put.await.expect("no panic").expect("an answer");
    println!("{:.1} MB/s of {:.1}: {:.1} %", rate / 1e6, RATE / 1e6, rate / RATE * 100.0);
}
