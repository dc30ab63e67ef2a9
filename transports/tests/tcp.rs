//! TCP: where it may listen, and what it says when it cannot.

#![cfg(all(unix, feature = "tcp"))]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use trunkline_core::ConnectError;
use trunkline_core::transport::{Connector, Listener, PeerIdentity};
use trunkline_transports::BindError;
use trunkline_transports::tcp::{TcpConnector, TcpListener};

async fn guard<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("nothing happened for 20 s")
}

#[tokio::test]
async fn an_address_that_the_network_reaches_must_be_asked_for_by_name() {
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        let error = TcpListener::bind(addr).await.unwrap_err();
        assert!(error.to_string().contains(".allow_plaintext_network()"), "{error}");
        assert!(matches!(error, BindError::Endpoint { .. }));
    }
    TcpListener::builder("0.0.0.0:0").allow_plaintext_network().bind().await.unwrap();
}

#[tokio::test]
async fn port_0_becomes_a_real_one() {
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let listener = match TcpListener::bind(format!("{host}:0")).await {
            Ok(listener) => listener,
            Err(error) if host == "[::1]" => {
                eprintln!("skipped: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let port = listener.local_addr().port();
        assert_ne!(port, 0);
        assert_eq!(Listener::endpoint(&listener), format!("tcp://{}", listener.local_addr()));
    }
}

#[tokio::test]
async fn each_side_has_the_others_address() {
    let mut listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr();
    let connector = TcpConnector::new(format!("localhost:{}", addr.port()));
    assert_eq!(connector.endpoint(), format!("tcp://localhost:{}", addr.port()));
    let (a, b) = guard(async { tokio::join!(connector.connect(), listener.accept()) }).await;
    let (a, b) = (a.unwrap(), b.unwrap().unwrap());
    assert_eq!(a.properties().peer, PeerIdentity::Tcp { addr });
    assert!(matches!(b.properties().peer, PeerIdentity::Tcp { addr } if addr.ip().is_loopback()));
    for transport in [a, b] {
        assert_eq!(transport.properties().name, "tcp");
        assert!(transport.properties().silent_loss);
    }
}

#[tokio::test]
async fn a_taken_port_is_said_to_be_taken() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = TcpListener::bind(first.local_addr().to_string()).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
}

#[tokio::test]
async fn connecting_in_vain_says_why() {
    // A port that was free a moment ago, and that nobody else is given while it is bound here without listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let error = guard(TcpConnector::new(addr.to_string()).connect()).await.unwrap_err();
    assert!(error.to_string().contains("nobody listens on that port"), "{error}");
    for malformed in ["localhost", "::1", ""] {
        let error = guard(TcpConnector::new(malformed).connect()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Endpoint { .. }), "{malformed}: {error}");
        let error = guard(TcpListener::bind(malformed)).await.unwrap_err();
        assert!(matches!(error, BindError::Endpoint { .. }), "{malformed}: {error}");
    }
}

#[tokio::test]
async fn an_accept_that_is_dropped_loses_no_connection() {
    let mut listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert!(pin!(listener.accept()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let _client = TcpConnector::new(listener.local_addr().to_string()).connect().await.unwrap();
    guard(listener.accept()).await.unwrap();
}
