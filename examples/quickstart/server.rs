mod kv;

use std::collections::HashMap;
use std::error::Error;
use std::sync::Mutex;

use kv::{Kv, KvError, KvServer};
use trunkline::Server;

#[derive(Default)]
struct Store {
    values: Mutex<HashMap<String, String>>,
}

impl Kv for Store {
    async fn get(&self, key: &str) -> Result<String, KvError> {
        let values = self.values.lock().unwrap();
        values.get(key).cloned().ok_or_else(|| KvError::NotFound { key: key.to_owned() })
    }

    async fn put(&self, key: &str, value: &str) {
        self.values.lock().unwrap().insert(key.to_owned(), value.to_owned());
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let uri = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:4000".to_owned());
    let server = Server::builder().service(KvServer::new(Store::default())).bind(uri).await?;
    println!("serving at {}", server.endpoints()[0]);
    server.run_until(tokio::signal::ctrl_c()).await;
    Ok(())
}
