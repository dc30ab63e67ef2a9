//! Ten million items, in order and without a gap, each way. In debug builds fewer; `cargo test --release --test many_items`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use trunkline::{Server, Stream, Streaming};

const ITEMS: u64 = if cfg!(debug_assertions) { 100_000 } else { 10_000_000 };

/// Counts.
#[trunkline::service]
pub trait Count {
    /// Rows from 0 on.
    async fn rows(&self, number: u64) -> impl Stream<Item = Row>;

    /// How many rows came, or the number of the first that is not the one after the last.
    #[rpc(timeout = "10m")]
    async fn check(&self, rows: Streaming<Row>) -> Result<u64, u64>;
}

/// 32 bytes, which say which they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Row([u64; 4]);

impl Row {
    fn new(number: u64) -> Row {
        Row([number, number.rotate_left(32), !number, number.wrapping_mul(0x9e37_79b9_7f4a_7c15)])
    }
}

struct Rows(std::ops::Range<u64>);

impl Stream for Rows {
    type Item = Row;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Row>> {
        Poll::Ready(self.0.next().map(Row::new))
    }
}

struct Counter;

impl Count for Counter {
    async fn rows(&self, number: u64) -> impl Stream<Item = Row> {
        Rows(0..number)
    }

    async fn check(&self, rows: Streaming<Row>) -> Result<u64, u64> {
        check(rows).await
    }
}

async fn check(mut rows: Streaming<Row>) -> Result<u64, u64> {
    let mut number = 0;
    while let Some(row) = rows.next().await {
        if row != Ok(Row::new(number)) {
            return Err(number);
        }
        number += 1;
    }
    Ok(number)
}

async fn both_ways(scheme: &str) {
    let directory = tempfile::tempdir().expect("a directory of our own");
    let endpoint = format!("{scheme}:{}/s", directory.path().display());
    let server = Server::builder().service(CountServer::new(Counter)).bind(&endpoint).await.expect("a server");
    tokio::spawn(server.run_until(std::future::pending::<()>()));
    let client = CountClient::connect(&endpoint).await.expect("a client");
    let began = Instant::now();
    assert_eq!(check(client.rows(ITEMS).await.expect("a stream")).await, Ok(ITEMS));
    let down = ITEMS as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    assert_eq!(client.check(Rows(0..ITEMS)).await, Ok(ITEMS));
    let up = ITEMS as f64 / began.elapsed().as_secs_f64();
    println!("{scheme}: {:.1} million items a second to the client, {:.1} to the server", down / 1e6, up / 1e6);
    assert_eq!(client.connection().stats().memory_in, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_million_items_arrive_over_a_socket() {
    both_ways("unix").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_million_items_arrive_over_a_ring() {
    both_ways("shm").await;
}
