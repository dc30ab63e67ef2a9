//! Names inside one process.

#![cfg(feature = "mem")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use trunkline_core::ConnectError;
use trunkline_core::transport::{Connector, Listener, PeerIdentity};
use trunkline_transports::BindError;
use trunkline_transports::mem::{MemConnector, MemListener};

#[tokio::test]
async fn a_name_has_one_listener_and_is_free_after_it() {
    let first = MemListener::bind("one").unwrap();
    assert_eq!(first.endpoint(), "mem:one");
    assert!(matches!(MemListener::bind("one"), Err(BindError::InUse { endpoint }) if endpoint == "mem:one"));
    let _another = MemListener::bind("another").unwrap();
    drop(first);
    MemListener::bind("one").unwrap();
}

#[tokio::test]
async fn an_unknown_name_is_unreachable() {
    let connector = MemConnector::new("nobody");
    let error = connector.connect().await.unwrap_err();
    assert!(error.to_string().contains("nobody in this process listens under that name"), "{error}");
    assert!(error.to_string().contains("mem:nobody"), "{error}");

    drop(MemListener::bind("nobody").unwrap());
    assert!(matches!(connector.connect().await, Err(ConnectError::Unreachable { .. })));
}

#[tokio::test]
async fn both_sides_are_this_process() {
    let mut listener = MemListener::bind("self").unwrap();
    let a = MemConnector::new("self").connect().await.unwrap();
    let b = listener.accept().await.unwrap().unwrap();
    for transport in [a, b] {
        assert_eq!(transport.properties().name, "mem");
        assert_eq!(transport.properties().peer, PeerIdentity::SameProcess);
    }
}

#[tokio::test]
async fn an_accept_that_is_dropped_loses_no_connection() {
    let mut listener = MemListener::bind("cancelled").unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(listener.accept()).poll(&mut cx).is_pending());
    let _client = MemConnector::new("cancelled").connect().await.unwrap();
    assert!(pin!(listener.accept()).poll(&mut cx).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_full_line_is_waited_for_but_not_for_ever() {
    let mut listener = MemListener::bind("busy").unwrap();
    let connector = MemConnector::new("busy");
    let mut waiting = Vec::new();
    for _ in 0..128 {
        waiting.push(connector.connect().await.unwrap());
    }
    assert!(matches!(connector.connect().await, Err(ConnectError::Timeout { .. })));
    let (late, accepted) = tokio::join!(connector.connect(), listener.accept());
    late.unwrap();
    accepted.unwrap();
}
