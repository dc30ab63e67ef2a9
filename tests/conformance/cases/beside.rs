//! What travels beside the arguments: metadata, trace, call id, priority.

use std::future::IntoFuture;
use std::time::Duration;

use trunkline::{CallError, CallId, Connection, Metadata, MetadataError, MetadataKey, Priority, Reason, TraceContext};

use crate::errand::{DIGEST, ErrandClient, ErrandServer, Messenger, TOKEN, Way};
use crate::fixture::{Fixture, Served, Setup, limits};
use crate::harness::{on_plain_thread, soon};
use crate::service::SuiteError;

/// A connection over which the client serves what it calls.
async fn errand(served: &Served) -> (Connection, ErrandClient) {
    let builder = Connection::builder().service(ErrandServer::new(Messenger));
    let connection = served.connect_with(builder).await;
    let errand = connection.client();
    (connection, errand)
}

fn trace() -> TraceContext {
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("a traceparent")
}

fn check(metadata: &Metadata) {
    assert_eq!(metadata.get("tenant"), Some("blue-"));
    assert_eq!(metadata.get(DIGEST), Some(&[1, 0, 255, 1, 0, 255][..]));
    assert_eq!(metadata.iter().count(), 2);
}

const SHOWN: &str = r#"{"tenant": "blue", "digest": [1, 0, 255], "token": [redacted]}"#;

pub(crate) async fn metadata_travels_both_ways(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, errand) = errand(&served).await;
    // In one frame, in chunks, and long enough to be received where it belongs.
    for len in [0, 1000, 100 << 10, 3 << 20] {
        let block = vec![7; len];
        let call =
            || errand.tell(&block).metadata("tenant", "blue").metadata(DIGEST, [1, 0, 255]).metadata(TOKEN, "s3");
        let (told, metadata) = soon("an answer", call().with_metadata().into_future()).await;
        let (received, beside) = told.expect("an answer");
        assert_eq!((received, &*beside.metadata), (len as u64, SHOWN));
        assert_eq!(beside.token.as_deref(), Some("s3"));
        check(&metadata);
        // Without asking for it, and sent first.
        let (_, beside) = soon("an answer", call().into_future()).await.expect("an answer");
        assert_eq!(beside.metadata, SHOWN);
        let sent = soon("it to be sent", call().with_metadata().send()).await.expect("it is sent");
        let (told, metadata) = soon("an answer", sent).await;
        assert_eq!(told.expect("an answer").0, len as u64);
        check(&metadata);
    }
    // Nothing comes of nothing, and nothing of the calls before it.
    let (told, metadata) = soon("an answer", errand.tell(&[]).with_metadata().into_future()).await;
    assert_eq!((&*told.expect("an answer").1.metadata, metadata), ("{}", Metadata::new()));
    let later = soon("an answer", errand.tell_later().metadata("tenant", "blue").with_metadata().into_future()).await;
    assert_eq!(later.1.get("tenant"), Some("blue-"));
    served.rests_with(&connection).await;
}

pub(crate) async fn metadata_comes_to_a_thread_that_waits(fixture: Fixture) {
    let served = fixture.serve().await;
    let connection = served.connect().await;
    let errand: ErrandClient = connection.client();
    on_plain_thread(move || {
        let call = || errand.tell(&[]).metadata("tenant", "blue").metadata(DIGEST, [1, 0, 255]).with_metadata();
        let (told, metadata) = call().wait();
        assert_eq!(told.expect("an answer").0, 0);
        check(&metadata);
    })
    .await;
    served.rests_with(&connection).await;
}

pub(crate) async fn metadata_comes_with_the_methods_own_error(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, errand) = errand(&served).await;
    let call = errand.refuse().metadata("tenant", "blue").with_metadata();
    let (refused, metadata) = soon("an error", call.into_future()).await;
    assert_eq!(refused, Err(CallError::App(SuiteError::Small { code: 3 })));
    assert_eq!(metadata.get("tenant"), Some("blue-"));
    served.rests_with(&connection).await;
}

pub(crate) async fn metadata_comes_before_the_items_of_a_stream(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, errand) = errand(&served).await;
    let (stream, metadata) =
        soon("a stream", errand.count().metadata("tenant", "blue").with_metadata().into_future()).await;
    assert_eq!(metadata.get("tenant"), Some("blue-"));
    let mut stream = stream.expect("a stream");
    for item in 1..=3 {
        assert_eq!(soon("an item", stream.next()).await, Some(Ok(item)));
    }
    assert_eq!(soon("the end", stream.next()).await, None);
    served.rests_with(&connection).await;
}

pub(crate) async fn metadata_has_a_limit_on_either_side(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("metadata_len", 500)])).await;
    let (connection, errand) = errand(&served).await;
    let with = |name: &str, len: usize| errand.tell(&[]).metadata(name, "x".repeat(len)).into_future();
    let too_long = |len, max| CallError::NotExecuted(Reason::Metadata(MetadataError::TooLong { len, max }));
    // The name is of one byte, and there are four before it.
    assert!(soon("an answer", with("a", 495)).await.is_ok());
    // The server's limit, then this side's own, then that of all.
    assert_eq!(soon("a refusal", with("a", 496)).await, Err(too_long(501, 500)));
    assert_eq!(soon("a refusal", with("a", 2044)).await, Err(too_long(2049, 2048)));
    assert_eq!(soon("a refusal", with("a", 90_000)).await, Err(too_long(90_005, 2816)));
    let bad = CallError::NotExecuted(Reason::Metadata(MetadataError::Name("Not A Name".to_owned())));
    assert_eq!(soon("a refusal", with("Not A Name", 1)).await, Err(bad));
    // A handler is told of it where it sets it.
    assert_eq!(soon("an answer", errand.set(495).into_future()).await, Ok(None));
    assert_eq!(soon("an answer", errand.set(496).into_future()).await, Ok(Some((501, 500))));
    // A caller that accepts less than the server sends: those who ask hear of it.
    let small = served.connect_with(Connection::builder().limits(limits(&[("metadata_len", 100)]))).await;
    let errand: ErrandClient = small.client();
    let (outcome, metadata) = soon("an answer", errand.set(200).with_metadata().into_future()).await;
    let too_long = Reason::Metadata(MetadataError::TooLong { len: 205, max: 100 });
    assert_eq!((outcome, metadata), (Err(CallError::MaybeExecuted(too_long)), Metadata::new()));
    assert_eq!(soon("an answer", errand.set(200).into_future()).await, Ok(None));
    served.rests_with(&connection).await;
    served.rests_with(&small).await;
}

pub(crate) async fn malformed_metadata_fails_its_call_alone(fixture: Fixture) {
    use crate::raw::{call, hello};
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let mut peer = served.endpoint().raw().await;
    peer.send(&hello(1, 1)).await.expect("it is taken");
    soon("its HELLO", peer.frame()).await.expect("a HELLO");
    let method = trunkline::descriptor::MethodId::of("Other", "name").0;
    // An entry of which the name should have 9 bytes.
    let bad = [0x10, 0, 5, 0, 0, 9, 0, 0, b'a'];
    let mut refused = call(1, method, 60_000, &[]);
    refused.splice(16..16, bad);
    let len = u32::try_from(refused.len() - 8).expect("it is short").to_le_bytes();
    refused[..4].copy_from_slice(&len);
    refused[6] = bad.len() as u8;
    peer.send(&refused).await.expect("it is taken");
    let fail = soon("a FAIL", peer.frame()).await.expect("a FAIL");
    assert_eq!(fail[4..], [&[4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0][..], &[0, 20, 0x10, 0]].concat()[..]);
    peer.send(&call(3, method, 60_000, &[])).await.expect("it is taken");
    let reply = soon("a REPLY", peer.frame()).await.expect("a REPLY");
    assert_eq!((reply[4], reply[8]), (3, 3));
    drop(peer);
    assert!(soon("an answer", suite.whoami().into_future()).await.is_ok());
    served.rests_with(&connection).await;
}

pub(crate) async fn a_trace_goes_with_the_calls_of_a_handler(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, errand) = errand(&served).await;
    let ask = |way| errand.ask(way).trace(trace()).timeout(Duration::from_secs(4)).priority(Priority::Low);
    for way in [Way::Itself, Way::TaskInScope, Way::ThreadInScope] {
        let told = soon("an answer", ask(way).into_future()).await.expect("an answer");
        let there: TraceContext = told.trace.expect("a trace").parse().expect("a traceparent");
        assert_eq!((there.trace_id(), there.flags()), (trace().trace_id(), trace().flags()), "{way:?}");
        assert_eq!(told.priority, "Low");
        assert!((1..=4_000).contains(&told.time_left), "{} ms", told.time_left);
        // What one peer says is not told to another.
        assert_eq!(told.metadata, "{}");
    }
    // A task of its own is none of the call's.
    let told = soon("an answer", ask(Way::Task).into_future()).await.expect("an answer");
    assert_eq!((told.trace, &*told.priority), (None, "Normal"));
    assert!(told.time_left > 4_000, "{} ms", told.time_left);
    // Nor is it the next call's.
    let told = soon("an answer", errand.ask(Way::Itself).into_future()).await.expect("an answer");
    assert_eq!((told.trace, &*told.priority), (None, "Normal"));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_call_id_is_the_callers_or_no_other_calls(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, first) = errand(&served).await;
    let (other_connection, second) = errand(&served).await;
    let id = CallId::random();
    for _ in 0..2 {
        let told = soon("an answer", first.tell(&[]).call_id(id).into_future()).await.expect("an answer").1;
        assert_eq!(told.call_id, id.as_u128());
    }
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        for errand in [&first, &second] {
            let told = soon("an answer", errand.tell(&[]).into_future()).await.expect("an answer").1;
            assert!(seen.insert(told.call_id), "an id twice");
        }
    }
    served.rests_with(&connection).await;
    served.rests_with(&other_connection).await;
}

pub(crate) async fn urgency_is_told_and_only_a_low_one_inherited(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, errand) = errand(&served).await;
    for (priority, handed_down) in [(Priority::Low, "Low"), (Priority::Normal, "Normal"), (Priority::High, "Normal")] {
        let told = soon("an answer", errand.tell(&[]).priority(priority).into_future()).await.expect("an answer").1;
        assert_eq!(told.priority, format!("{priority:?}"));
        let asked = errand.ask(Way::Itself).priority(priority);
        let told = soon("an answer", asked.into_future()).await.expect("an answer");
        assert_eq!(told.priority, handed_down);
    }
    served.rests_with(&connection).await;
}

/// What no type of this suite says is a secret, but its sender does.
pub(crate) async fn a_secret_is_one_on_the_other_side_as_well(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, errand) = errand(&served).await;
    let key: MetadataKey<[u8]> = MetadataKey::secret("private");
    let call = errand.tell(&[]).metadata(key, b"hush").metadata("public", "loud");
    let shown = format!("{call:?}");
    assert!(!shown.contains("hush"), "{shown}");
    let told = soon("an answer", call.into_future()).await.expect("an answer").1;
    assert_eq!(told.metadata, r#"{"private": [redacted], "public": "loud"}"#);
    served.rests_with(&connection).await;
}
