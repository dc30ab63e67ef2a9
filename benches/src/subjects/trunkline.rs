//! trunkline itself, as it is for whoever sets nothing.

use std::path::Path;

use bytes::Bytes;
use trunkline::Server;
use trunkline_benches::subject::{About, Client, Error, Ready, Subject, child};
use trunkline_benches::{Item, checksum};

pub(crate) struct Trunkline;

#[trunkline::service]
pub(crate) trait Bench {
    async fn echo(&self, item: Item) -> Item;
    async fn upload(&self, bytes: &[u8]) -> u64;
}

struct Measured;

impl Bench for Measured {
    async fn echo(&self, item: Item) -> Item {
        item
    }

    async fn upload(&self, bytes: &[u8]) -> u64 {
        checksum(bytes)
    }
}

/// The service that is measured.
pub(crate) fn service() -> impl trunkline::Service {
    BenchServer::new(Measured)
}

impl Subject for Trunkline {
    const ABOUT: About = About {
        name: "trunkline",
        version: env!("CARGO_PKG_VERSION"),
        configuration: "nothing is set",
        transports: &["tcp", "unix", "pipe", "shm"],
        modes: &["ct", "mt"],
    };
    type Client = BenchClient;

    async fn serve(transport: &str, dir: &Path, ready: Ready) -> Result<(), Error> {
        let uri = match transport {
            "tcp" => "tcp://127.0.0.1:0".to_owned(),
            "pipe" => "inherited:".to_owned(),
            "unix" | "shm" => format!("{transport}:{}/trunkline-{transport}.sock", dir.display()),
            _ => return Err(format!("trunkline has no transport `{transport}`").into()),
        };
        let server = Server::builder().service(service()).bind(uri).await?;
        ready.at(&server.endpoints()[0]);
        server.run().await;
        Ok(())
    }

    async fn connect(transport: &str, address: &str) -> Result<BenchClient, Error> {
        match transport {
            "pipe" => Ok(BenchClient::spawn(child(address)).await?),
            _ => Ok(BenchClient::connect(address).await?),
        }
    }
}

impl Client for BenchClient {
    async fn echo(&self, item: Item) -> Result<Item, Error> {
        Ok(BenchClient::echo(self, item).await?)
    }

    async fn upload(&self, bytes: &Bytes) -> Result<u64, Error> {
        Ok(BenchClient::upload(self, bytes).await?)
    }

    fn server_pid(&self) -> Option<u32> {
        self.connection().peer().pid()
    }
}
