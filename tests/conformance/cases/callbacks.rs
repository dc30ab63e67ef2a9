//! Both directions on one connection.

use std::time::Duration;

use trunkline::transport::PeerIdentity;
use trunkline::{Connection, Limits};

use crate::fixture::{Carrier, Fixture, Served};
use crate::harness::soon;
use crate::ledger::token;
use crate::service::{Hearth, HomeServer, SuiteClient};

/// A connection over which the client serves, too.
async fn at_home(served: &Served, limits: Limits) -> (Connection, SuiteClient) {
    let hearth = Hearth { ledger: served.ledger.clone() };
    let builder = Connection::builder().service(HomeServer::new(hearth)).limits(limits);
    let connection = served.connect_with(builder).await;
    let suite = connection.client();
    (connection, suite)
}

pub(crate) async fn a_handler_calls_its_caller(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = at_home(&served, Limits::default()).await;
    for n in 0..50 {
        assert_eq!(soon("an answer", suite.ask_back(n)).await, Ok(2 * n));
    }
    // A client that serves nothing says so.
    let (mute, other) = served.suite().await;
    let refused = soon("an answer", other.ask_back(1)).await.expect_err("nobody is at home").to_string();
    assert!(refused.contains("the peer serves no method `Home.twice`"), "{refused}");
    served.rests_with(&connection).await;
    served.rests_with(&mute).await;
}

pub(crate) async fn a_nested_call_inherits_the_time_left(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = at_home(&served, Limits::default()).await;
    let left = soon("an answer", suite.time_left_back().timeout(Duration::from_secs(4))).await.expect("an answer");
    assert!((1..=4_000).contains(&left), "{left} ms");
    let left = soon("an answer", suite.time_left_back()).await.expect("an answer");
    assert!((20_000..=30_000).contains(&left), "{left} ms");
    served.rests_with(&connection).await;
}

pub(crate) async fn a_nested_call_at_the_limit_fails_at_once(fixture: Fixture) {
    let served = fixture.serve().await;
    // The client takes one call at a time, and the server's handlers respect that.
    let (connection, suite) = at_home(&served, Limits::default().in_flight_per_connection(1)).await;
    let call = token();
    let second = soon("an answer", suite.ask_back_twice(call)).await.expect("an answer");
    assert_eq!(second, "Err(NotExecuted(Overloaded { limit: InFlightPerConnection }))");
    // The first is cancelled, and may or may not have started before it heard of that.
    assert!(served.ledger.executions(call) <= 1);
    served.rests_with(&connection).await;
    assert_eq!(soon("an answer", suite.ask_back(1)).await, Ok(2));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_blocking_handler_may_wait(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = at_home(&served, Limits::default()).await;
    assert_eq!(soon("an answer", suite.ask_back_blocking(3)).await, Ok(12));
    served.rests_with(&connection).await;
}

pub(crate) async fn an_async_handler_may_not_wait(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = at_home(&served, Limits::default()).await;
    let refused = soon("an answer", suite.ask_back_wrongly(3)).await.expect_err("it would deadlock").to_string();
    assert!(refused.contains("`.wait()` inside an async runtime"), "{refused}");
    served.rests_with(&connection).await;
}

pub(crate) async fn the_peer_is_identified(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let told = soon("an answer", suite.whoami()).await.expect("an answer");
    let here = std::process::id() as i32;
    match (fixture.carrier, connection.peer()) {
        (Carrier::Unix | Carrier::Shm | Carrier::InPlace, PeerIdentity::Unix { pid, .. }) => {
            assert!(told.starts_with(&format!("pid {here} (uid ")), "{told}");
            assert_eq!(*pid == Some(here), fixture.placement.is_one_process(), "{pid:?}");
        }
        (Carrier::Tcp, PeerIdentity::Tcp { addr }) => {
            assert!(told.starts_with("127.0.0.1:"), "{told}");
            assert!(addr.ip().is_loopback());
        }
        (Carrier::Mem | Carrier::Own, PeerIdentity::SameProcess) => assert_eq!(told, "this process"),
        (Carrier::Pipe, PeerIdentity::SameProcess) if fixture.placement.is_one_process() => {
            assert_eq!(told, "this process");
        }
        (Carrier::Pipe | Carrier::Over, PeerIdentity::Unknown) => assert_eq!(told, "unknown"),
        (carrier, peer) => panic!("{carrier:?}: {peer:?}"),
    }
    let name = match fixture.carrier {
        Carrier::Mem => "mem",
        Carrier::Unix => "unix",
        Carrier::Shm | Carrier::InPlace => "shm",
        Carrier::Tcp => "tcp",
        Carrier::Pipe => "pipe",
        Carrier::Over => "over",
        Carrier::Own => "own",
    };
    assert_eq!(connection.transport(), name);
}
