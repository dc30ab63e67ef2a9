//! One mistake is one error, also where the service is used.

use std::sync::Arc;

#[trunkline::service]
pub trait Kv {
    async fn get(&self, key: &str) -> u32;
    async fn put(&mut self, key: &str, value: u32);
}

struct Store;

impl Kv for Store {
    async fn get(&self, _: &str) -> u32 {
        0
    }
    async fn put(&mut self, _: &str, _: u32) {}
}

async fn client(client: KvClient) {
    let _ = client.get("key").await;
}

fn main() {
    let _ = KvServer::new(Store);
    let _ = KvServer::new(Arc::new(Store));
    let _ = client;
}
