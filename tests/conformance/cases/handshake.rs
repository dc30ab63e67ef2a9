//! The handshake, with peers of every kind.

use std::time::Duration;

use trunkline::codec::CodecId;
use trunkline::{ConnectError, Connection, ConnectionError, HandshakeError};

use crate::fixture::{Carrier, Fixture, Setup, limits};
use crate::harness::{soon, until};
use crate::raw::{CLOSE, GARBAGE, HELLO, frame, hello, kind};
use crate::service::SuiteClient;

const BINCODE: u8 = 1;
/// A length that leaves no room for a header, and then nothing. Not zeroes alone: in a ring they are nothing at all.
const NO_HEADER: [u8; 64] = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    bytes
};

pub(crate) async fn garbage_is_refused_by_the_server(fixture: Fixture) {
    // Not because it waits in vain for something better.
    let served = fixture.serve_with(Setup::limits(&[("hello_timeout", 60_000)])).await;
    let (connection, suite) = served.suite().await;
    let short = b"\x08\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0".as_slice();
    let other_magic = frame(HELLO, 0, b"QRNK\x01\x00");
    let cut = frame(HELLO, 0, b"TRN");
    let too_long = frame(HELLO, 0, &[b'T'; 5000]);
    let broken_field = frame(HELLO, 0, b"TRNK\x01\x00\x03\x00\x08\x00\x01");
    let no_limits = frame(HELLO, 0, b"TRNK\x01\x00");
    for (at, garbage) in
        [GARBAGE, short, &other_magic, &cut, &too_long, &broken_field, &no_limits, &NO_HEADER].into_iter().enumerate()
    {
        let mut peer = served.endpoint().raw().await;
        peer.send(garbage).await.expect("it is taken");
        let frames = soon("the end", peer.frames_to_the_end()).await;
        // It may tell who it is before it says why it goes; it says nothing else.
        assert!(frames.iter().all(|frame| [HELLO, CLOSE].contains(&kind(frame))), "{frames:?}");
        drop(peer);
        until("it is counted", async || served.accounts().await.protocol_errors == at as u64 + 1).await;
    }
    assert_eq!(soon("a call", suite.echo(b"and on")).await, Ok(b"and on".to_vec()));
    until("they are gone", async || served.accounts().await.connections == 1).await;
    served.rests_with(&connection).await;
}

/// What a client makes of a server that says this.
async fn met_with(fixture: &Fixture, words: &[u8]) -> ConnectError {
    let (mut listener, endpoint, _scratch) = fixture.raw_listener().await;
    let server = async {
        let mut peer = listener.next().await;
        let first = peer.frame().await.expect("a HELLO");
        assert_eq!(kind(&first), HELLO);
        peer.send(words).await.expect("it is taken");
        peer.frames_to_the_end().await;
    };
    let client = async { endpoint.connect(Connection::builder()).await };
    let ((), connected) = soon("the end", async { tokio::join!(server, client) }).await;
    connected.expect_err("it is no server of ours")
}

pub(crate) async fn garbage_is_refused_by_the_client(fixture: Fixture) {
    for garbage in [GARBAGE, &NO_HEADER, &frame(HELLO, 0, b"something else")] {
        let error = met_with(&fixture, garbage).await;
        let told = error.to_string();
        let expected = ["does not speak trunkline's protocol", "broke the protocol"];
        assert!(expected.iter().any(|text| told.contains(text)), "{error:?}");
    }
}

pub(crate) async fn another_version_is_named_by_the_server(fixture: Fixture) {
    let served = fixture.serve().await;
    let mut peer = served.endpoint().raw().await;
    peer.send(&hello(9, BINCODE)).await.expect("it is taken");
    let frames = soon("the end", peer.frames_to_the_end()).await;
    // Its own HELLO goes out all the same, so that the client can name both versions.
    let first = frames.first().expect("a HELLO");
    assert_eq!((kind(first), &first[16..21]), (HELLO, b"TRNK\x01".as_slice()));
    assert_eq!(frames.last(), Some(&frame(CLOSE, 0, &[2])));
    drop(peer);
    served.rests_at(0).await;
    assert_eq!(served.accounts().await.protocol_errors, 1);
}

pub(crate) async fn another_version_is_named_by_the_client(fixture: Fixture) {
    let error = met_with(&fixture, &hello(9, BINCODE)).await;
    assert!(matches!(error, ConnectError::Handshake(HandshakeError::Version { ours: 1, theirs: 9 })), "{error:?}");
    assert_eq!(error.to_string(), "handshake failed: protocol version 1 here, 9 there");
}

pub(crate) async fn a_silent_client_is_dropped(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("hello_timeout", 100)])).await;
    let mut silent = served.endpoint().raw().await;
    let mut half = served.endpoint().raw().await;
    half.send(&hello(1, BINCODE)[..40]).await.expect("it is taken");
    let (connection, suite) = served.suite().await;
    soon("the end", silent.frames_to_the_end()).await;
    soon("the end", half.frames_to_the_end()).await;
    // Whoever has shaken hands may be silent for longer.
    assert_eq!(suite.echo(b"still").await, Ok(b"still".to_vec()));
    until("they are gone", async || served.accounts().await.connections == 1).await;
    assert_eq!(served.accounts().await.protocol_errors, 2);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_silent_server_is_given_up(fixture: Fixture) {
    let (mut listener, endpoint, _scratch) = fixture.raw_listener().await;
    let builder = Connection::builder().limits(limits(&[("hello_timeout", 100)]));
    let server = async {
        let mut peer = listener.next().await;
        peer.frames_to_the_end().await
    };
    let (frames, connected) =
        soon("the end", async { tokio::join!(server, async { endpoint.connect(builder).await }) }).await;
    assert_eq!(frames.first().map(|first| kind(first)), Some(HELLO));
    let error = connected.expect_err("nobody answered");
    let timeout = Duration::from_millis(100);
    assert!(
        matches!(&error, ConnectError::Handshake(HandshakeError::Timeout(after)) if *after == timeout),
        "{error:?}"
    );
}

pub(crate) async fn a_peer_that_leaves_during_the_handshake_is_noticed(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("hello_timeout", 60_000)])).await;
    for _ in 0..10 {
        let mut peer = served.endpoint().raw().await;
        peer.send(&hello(1, BINCODE)[..40]).await.expect("it is taken");
        drop(peer);
        drop(served.endpoint().raw().await);
    }
    served.rests_at(0).await;
    let (connection, suite) = served.suite().await;
    assert_eq!(suite.echo(b"and on").await, Ok(b"and on".to_vec()));
    served.rests_with(&connection).await;
    drop(connection);

    if fixture.placement.is_one_process() {
        let (mut listener, endpoint, _scratch) = fixture.raw_listener().await;
        let server = async { drop(listener.next().await) };
        let client = async { endpoint.connect(Connection::builder()).await };
        let ((), connected) = soon("the end", async { tokio::join!(server, client) }).await;
        let error = connected.expect_err("it left");
        assert!(matches!(error, ConnectError::Lost(ConnectionError::PeerGone)), "{error:?}");
    }
}

pub(crate) async fn nobody_there_is_said_so(fixture: Fixture) {
    let served = fixture.serve().await;
    let endpoint = format!("{:?}", served.endpoint());
    let (connection, _) = served.suite().await;
    drop(connection);
    served.begin_shutdown().await;
    served.report().await;
    // The kernel may still have the port of a connection that has just ended, but nobody listens on it.
    let error = soon("an error", SuiteClient::connect(&endpoint)).await.map(drop).expect_err("nobody is there");
    assert!(matches!(&error, ConnectError::Unreachable { .. }), "{error:?}");
    let told = error.to_string();
    assert!(told.contains(&endpoint), "{told}");
    let hint = match fixture.carrier {
        Carrier::Mem => "nobody in this process listens under that name",
        Carrier::Tcp => "is the server running?",
        _ => "",
    };
    assert!(told.contains(hint), "{told}");

    let error = SuiteClient::connect("carrier-pigeon:here").await.map(drop).expect_err("no such transport");
    assert!(error.to_string().contains("there is no transport `carrier-pigeon` here"), "{error}");
}

pub(crate) async fn a_codec_is_agreed_upon(fixture: Fixture) {
    // In every order that both sides can want; a server takes the client's first that it allows.
    for codec in CodecId::SUPPORTED {
        let served = fixture.serve_with(Setup { codecs: vec![codec.name().to_owned()], ..Setup::default() }).await;
        for offer in [CodecId::SUPPORTED.to_vec(), vec![*codec]] {
            let connection = served.connect_with(Connection::builder().codecs(&offer)).await;
            let suite: SuiteClient = connection.client();
            for len in [0, 10, 1000, 200_000] {
                let bytes = crate::cases::payloads::pattern(len);
                assert_eq!(soon("an echo", suite.echo(&bytes)).await, Ok(bytes));
            }
            served.rests_with(&connection).await;
        }
    }
}

pub(crate) async fn no_common_codec_is_said_so(fixture: Fixture) {
    let served = fixture.serve().await;
    let mut peer = served.endpoint().raw().await;
    peer.send(&hello(1, 77)).await.expect("it is taken");
    let frames = soon("the end", peer.frames_to_the_end()).await;
    assert_eq!(frames.iter().map(|frame| kind(frame)).collect::<Vec<_>>(), [HELLO, CLOSE]);
    drop(peer);
    served.rests_at(0).await;

    #[cfg(feature = "postcard")]
    {
        let setup = Setup { codecs: vec!["postcard".to_owned()], ..Setup::default() };
        let served = fixture.serve_with(setup).await;
        let builder = Connection::builder().codecs(&[CodecId::Bincode]);
        let refused = soon("a refusal", served.endpoint().connect(builder)).await;
        let error = refused.expect_err("they have no codec in common");
        assert_eq!(error.to_string(), "handshake failed: no common codec: we have bincode");
        served.rests_at(0).await;
    }
}
