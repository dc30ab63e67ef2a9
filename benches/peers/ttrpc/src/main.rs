//! ttrpc, its asynchronous flavour, over Unix sockets.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use generated::bench::{Checksum, Count, Item as Words, Nothing, Upload};
use generated::bench_ttrpc::{Bench, BenchClient, create_bench};
use trunkline_benches::subject::{self, About, Client, Error, InOrder, Ready, Sink, Source, Subject, items};
use trunkline_benches::{Item, checksum};
use ttrpc::asynchronous::{Server, ServerStreamReceiver, ServerStreamSender, TtrpcContext};
use ttrpc::context;

#[allow(warnings, reason = "it is generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

fn main() -> ExitCode {
    peer_shared::keep_freed_memory();
    subject::main::<Ttrpc>()
}

struct Ttrpc;

impl Subject for Ttrpc {
    const ABOUT: About = About {
        name: "ttrpc",
        version: "0.10.0",
        configuration: "asynchronous, rust-protobuf messages, an item as four fixed64, bulk as Bytes, no timeout a call",
        transports: &["unix"],
        modes: &["ct", "mt"],
        beside_max: 0,
        streams: true,
    };
    type Client = Caller;

    async fn serve(_: &str, dir: &Path, ready: Ready) -> Result<(), Error> {
        let address = format!("unix://{}", dir.join("peer.sock").display());
        let mut server = Server::new().bind(&address)?.register_service(create_bench(Arc::new(Answers)));
        server.start().await?;
        ready.at(address);
        std::future::pending().await
    }

    async fn connect(_: &str, address: &str) -> Result<Caller, Error> {
        Ok(Caller(BenchClient::new(ttrpc::asynchronous::Client::connect(address).await?)))
    }
}

struct Answers;

#[async_trait::async_trait]
impl Bench for Answers {
    async fn echo(&self, _: &TtrpcContext, item: Words) -> ttrpc::Result<Words> {
        Ok(item)
    }

    async fn send(&self, _: &TtrpcContext, upload: Upload) -> ttrpc::Result<Checksum> {
        Ok(Checksum { checksum: checksum(&upload.bytes), ..Checksum::default() })
    }

    async fn down(&self, _: &TtrpcContext, _: Nothing, sender: ServerStreamSender<Words>) -> ttrpc::Result<()> {
        for item in items() {
            sender.send(&written(item)).await?;
        }
        Ok(())
    }

    async fn up(&self, _: &TtrpcContext, mut items: ServerStreamReceiver<Words>) -> ttrpc::Result<Count> {
        let mut seen = InOrder::default();
        while let Some(item) = items.recv().await? {
            if seen.take(read(&item)).is_err() {
                break;
            }
        }
        Ok(Count { items: seen.count(), ..Count::default() })
    }
}

#[derive(Clone)]
struct Caller(BenchClient);

impl Client for Caller {
    async fn echo(&self, item: Item) -> Result<Item, Error> {
        Ok(read(&self.0.echo(context::Context::default(), &written(item)).await?))
    }

    async fn upload(&self, bytes: &Bytes) -> Result<u64, Error> {
        let argument = Upload { bytes: bytes.clone(), ..Upload::default() };
        Ok(self.0.send(context::Context::default(), &argument).await?.checksum)
    }

    async fn down(&self, mut sink: Sink) -> Result<(), Error> {
        let mut items = self.0.down(context::Context::default(), &Nothing::default()).await?;
        while let Some(item) = items.recv().await? {
            if !sink.take(read(&item))? {
                return Ok(());
            }
        }
        Err("the stream has ended".into())
    }

    async fn up(&self, source: Source) -> Result<u64, Error> {
        let mut items = self.0.up(context::Context::default()).await?;
        for item in source {
            items.send(&written(item)).await?;
        }
        Ok(items.close_and_recv().await?.items)
    }
}

fn written(item: Item) -> Words {
    let [a, b, c] = peer_shared::words(&item);
    Words { id: item.id, a, b, c, ..Words::default() }
}

fn read(words: &Words) -> Item {
    peer_shared::item(words.id, [words.a, words.b, words.c])
}
