//! Streams wherever a method may have them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use trunkline::{Stream, Streaming};

#[derive(Serialize, Deserialize)]
pub struct Row(u32);

#[derive(Serialize, Deserialize, Debug)]
pub struct Wrong;

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("wrong")
    }
}

mod checked {
    pub type Result<T> = std::result::Result<T, super::Wrong>;
}

#[trunkline::service(mock)]
pub trait Kv {
    #[rpc(slow = "drop_oldest")]
    async fn watch(&self, prefix: &str) -> impl Stream<Item = Row>;
    #[rpc(slow = "latest", spawn)]
    async fn try_watch(&self, prefix: &str) -> Result<impl Stream<Item = Vec<u8>>, Wrong>;
    async fn alias(&self, rows: &[Row]) -> checked::Result<impl trunkline::Stream<Item = Option<Vec<u8>>> + Send>;
    async fn import(&self, rows: Streaming<Row>) -> Result<u64, Wrong>;
    async fn several(&self, a: trunkline::Streaming<u8>, b: u8, c: Streaming<Vec<u8>>, cx: &trunkline::Context);
    async fn chat(&self, said: Streaming<String>) -> impl Stream<Item = String>;
    #[cfg(any())]
    async fn never(&self, said: Streaming<Nothing>) -> impl Stream<Item = Nothing>;
    async fn by_default(&self, said: Streaming<u8>) -> impl Stream<Item = u8> {
        drop(said);
        Empty(std::marker::PhantomData)
    }
}

pub struct Empty<T>(std::marker::PhantomData<fn() -> T>);

impl<T> Stream for Empty<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
        Poll::Ready(None)
    }
}

/// It borrows.
pub struct Letters<'a>(std::str::Chars<'a>);

impl Stream for Letters<'_> {
    type Item = Row;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Row>> {
        Poll::Ready(self.0.next().map(|letter| Row(letter as u32)))
    }
}

struct Store;

impl Kv for Store {
    async fn watch(&self, prefix: &str) -> impl Stream<Item = Row> {
        Letters(prefix.chars())
    }

    async fn try_watch(&self, prefix: &str) -> Result<impl Stream<Item = Vec<u8>>, Wrong> {
        if prefix.is_empty() {
            return Err(Wrong);
        }
        let boxed: Pin<Box<dyn Stream<Item = Vec<u8>> + Send>> = Box::pin(Empty(std::marker::PhantomData));
        Ok(boxed)
    }

    async fn alias(&self, _: &[Row]) -> checked::Result<impl trunkline::Stream<Item = Option<Vec<u8>>>> {
        Ok(Empty(std::marker::PhantomData))
    }

    async fn import(&self, mut rows: Streaming<Row>) -> Result<u64, Wrong> {
        let mut sum = 0;
        while let Some(row) = rows.next().await {
            sum += u64::from(row.map_err(|_| Wrong)?.0);
        }
        Ok(sum)
    }

    async fn several(&self, _: Streaming<u8>, _: u8, _: Streaming<Vec<u8>>, _: &trunkline::Context) {}

    async fn chat(&self, said: Streaming<String>) -> impl Stream<Item = String> {
        drop(said);
        Empty(std::marker::PhantomData)
    }
}

fn is_send<T: Send>(value: T) -> T {
    value
}

async fn calls(kv: KvClient) -> Result<(), Box<dyn std::error::Error>> {
    let mut rows: Streaming<Row> = kv.watch("a").await?;
    while let Some(row) = rows.next().await {
        let _: Row = row?;
    }
    let _: Streaming<Vec<u8>> = kv.try_watch("a").await?;
    let _: u64 = kv.import(Empty(std::marker::PhantomData)).await?;
    kv.several(Empty(std::marker::PhantomData), 7, Empty(std::marker::PhantomData)).await?;
    Ok(())
}

fn main() -> io::Result<()> {
    let _ = KvServer::new(Store);
    let _ = KvServer::new(std::sync::Arc::new(Store));
    let _ = |kv| is_send(calls(kv));
    Ok(())
}
