//! The measured service.

use serde::{Deserialize, Serialize};

/// 32 bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    id: u64,
    rest: [u8; 24],
}

impl Item {
    pub(crate) fn new(id: u64) -> Item {
        Item { id, rest: [id as u8; 24] }
    }
}

#[trunkline::service]
pub(crate) trait Bench {
    async fn echo(&self, item: Item) -> Item;
    /// A digest of the bytes, so that the reply shows that they came.
    async fn upload(&self, bytes: &[u8]) -> u64;
}

struct Server;

impl Bench for Server {
    async fn echo(&self, item: Item) -> Item {
        item
    }

    async fn upload(&self, bytes: &[u8]) -> u64 {
        digest(bytes)
    }
}

/// The length and a byte of every page: enough to notice a chunk that is lost, doubled or moved.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let sample = bytes.iter().step_by(4093).fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    sample.wrapping_mul(31).wrapping_add(bytes.len() as u64)
}

/// Serves at `uri` until the process ends, and prints where.
pub(crate) fn serve(uri: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = trunkline::Server::builder()
            .service(BenchServer::new(Server))
            .bind(uri)
            .await
            .expect("the endpoint is free");
        println!("{}", server.endpoints()[0]);
        server.run().await;
    });
}
