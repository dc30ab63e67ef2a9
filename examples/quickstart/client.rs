mod kv;

use std::error::Error;

use kv::KvClient;
use trunkline::CallError;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let uri = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:4000".to_owned());
    let kv = KvClient::connect(uri).await?;

    kv.put("greeting", "hello").await?;
    println!("greeting: {}", kv.get("greeting").await?);

    match kv.get("farewell").await {
        Ok(value) => println!("farewell: {value}"),
        Err(CallError::App(error)) => println!("the store says: {error}"),
        Err(error) => return Err(error.into()), // the call itself failed: says whether it may have run
    }
    Ok(())
}
