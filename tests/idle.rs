//! What a connection that does nothing holds of the allocator's memory, also after it has been busy.

mod counting;

use std::time::Duration;

use trunkline::Server;

use counting::in_use;

#[trunkline::service]
trait Busy {
    async fn double(&self, number: u64) -> u64;
    async fn take(&self, bytes: &[u8]) -> u64;
    async fn give(&self, bytes: u64) -> Vec<u8>;
}

struct Plain;

impl Busy for Plain {
    async fn double(&self, number: u64) -> u64 {
        tokio::task::yield_now().await;
        2 * number
    }

    async fn take(&self, bytes: &[u8]) -> u64 {
        bytes.len() as u64
    }

    async fn give(&self, bytes: u64) -> Vec<u8> {
        vec![7; bytes as usize]
    }
}

const CONNECTIONS: usize = 64;
/// Of one end.
const BYTES_MAX: usize = 8 << 10;

/// What an end of a connection holds, once it is no more than it may be or enough time has passed.
async fn bytes_of_an_end(before: usize) -> usize {
    let mut bytes = usize::MAX;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bytes = in_use().saturating_sub(before) / (2 * CONNECTIONS);
        if bytes <= BYTES_MAX {
            break;
        }
    }
    bytes
}

async fn connect(uri: &str) -> Vec<BusyClient> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(BusyClient::connect(uri).await.expect("a server"));
    }
    clients
}

/// Connections that have been through something.
async fn busy(uri: &str) -> Vec<BusyClient> {
    let clients = connect(uri).await;
    let block = vec![1; 300_000];
    for client in &clients {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..200 {
            let client = client.clone();
            calls.spawn(async move { assert_eq!(client.double(number).await, Ok(2 * number)) });
        }
        calls.join_all().await;
        assert_eq!(client.take(&block).await, Ok(300_000));
        assert_eq!(client.give(300_000).await.map(|bytes| bytes.len()), Ok(300_000));
    }
    clients
}

#[tokio::test]
async fn a_connection_at_rest_is_small() {
    let directory = tempfile::tempdir().expect("a directory of our own");
    let server = Server::builder().service(BusyServer::new(Plain));
    let server = server.bind(format!("unix:{}/s", directory.path().display())).await.expect("a socket");
    let (uri, handle) = (server.endpoints().concat(), server.handle());
    let served = tokio::spawn(server.run());
    // What the process keeps for all connections, present and future, is nobody's.
    let first = busy(&uri).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(500)).await;

    let before = in_use();
    let clients = connect(&uri).await;
    let fresh = bytes_of_an_end(before).await;
    println!("fresh: {fresh} bytes an end");
    assert!(fresh <= BYTES_MAX, "a connection that was never used: {fresh} bytes an end");
    drop(clients);
    tokio::time::sleep(Duration::from_millis(500)).await;

    let clients = busy(&uri).await;
    let rested = bytes_of_an_end(before).await;
    println!("after work: {rested} bytes an end");
    assert!(rested <= BYTES_MAX, "a connection at rest after work: {rested} bytes an end");

    drop(clients);
    handle.shutdown();
    served.await.expect("the server ends well");
}
