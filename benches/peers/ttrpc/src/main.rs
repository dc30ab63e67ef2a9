//! ttrpc, its asynchronous flavour, over Unix sockets.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use generated::bench::{Checksum, Item as Words, Upload};
use generated::bench_ttrpc::{Bench, BenchClient, create_bench};
use trunkline_benches::subject::{self, About, Client, Error, Ready, Subject};
use trunkline_benches::{Item, checksum};
use ttrpc::asynchronous::{Server, TtrpcContext};
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
}

#[derive(Clone)]
struct Caller(BenchClient);

impl Client for Caller {
    async fn echo(&self, item: Item) -> Result<Item, Error> {
        let [a, b, c] = peer_shared::words(&item);
        let argument = Words { id: item.id, a, b, c, ..Words::default() };
        let reply = self.0.echo(context::Context::default(), &argument).await?;
        Ok(peer_shared::item(reply.id, [reply.a, reply.b, reply.c]))
    }

    async fn upload(&self, bytes: &Bytes) -> Result<u64, Error> {
        let argument = Upload { bytes: bytes.clone(), ..Upload::default() };
        Ok(self.0.send(context::Context::default(), &argument).await?.checksum)
    }
}
