//! What transports take for themselves counts towards a server's `memory_total`.

#![cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]

use std::time::Duration;

use trunkline::transport::ShmListener;
use trunkline::{ConnectError, Limits, Server};

#[trunkline::service]
trait Echo {
    async fn echo(&self, number: u64) -> u64;
}

struct Plain;

impl Echo for Plain {
    async fn echo(&self, number: u64) -> u64 {
        number
    }
}

#[tokio::test]
async fn a_ring_that_finds_no_room_is_turned_away_until_another_goes() {
    let directory = tempfile::tempdir().expect("a directory of our own");
    let listener = ShmListener::bind(directory.path().join("s")).expect("a listener");
    // Room for two rings of 256 KiB and 4 KiB, and not for a third.
    let limits = Limits::default().memory_total(700 << 10);
    let server = Server::builder().service(EchoServer::new(Plain)).limits(limits).listen(listener);
    let (uri, handle) = (server.endpoints().concat(), server.handle());
    let served = tokio::spawn(server.run());

    let first = EchoClient::connect(&uri).await.expect("room for one");
    let second = EchoClient::connect(&uri).await.expect("room for two");
    let third = EchoClient::connect(&uri).await.map(drop).expect_err("no room for three");
    assert!(matches!(third, ConnectError::Lost(_)), "{third:?}");
    assert_eq!(handle.stats().connections_refused, 1);
    assert_eq!((first.echo(1).await, second.echo(2).await), (Ok(1), Ok(2)));

    drop(first);
    tokio::time::timeout(Duration::from_secs(20), async {
        while handle.stats().connections > 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("the first is gone");
    let third = EchoClient::connect(&uri).await.expect("room again");
    assert_eq!(third.echo(3).await, Ok(3));

    handle.shutdown();
    served.await.expect("the server ends well");
}
