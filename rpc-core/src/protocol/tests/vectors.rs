//! The vectors of `docs/protocol.md`, against what the machine writes and accepts.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::call_id::CallId;
use crate::error::NoResult;
use crate::frame::RESULT;
use crate::limits::Limit;
use crate::metadata::{MetadataError, MetadataKey};
use crate::method::MethodId;
use crate::priority::Priority;
use crate::protocol::stream::RESERVE;

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md"));

/// The document's vectors, and which of them have been looked at.
struct Book {
    vectors: BTreeMap<&'static str, Vec<u8>>,
    seen: BTreeSet<&'static str>,
}

impl Book {
    fn open() -> Book {
        let mut vectors = BTreeMap::new();
        let mut lines = DOCUMENT.lines();
        while let Some(line) = lines.next() {
            let Some(name) = line.strip_prefix("```vector name=") else { continue };
            let mut bytes = Vec::new();
            for line in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                let hex = line.split('#').next().unwrap();
                for word in hex.split_whitespace() {
                    let (byte, times) = word.split_once('*').unwrap_or((word, "1"));
                    let byte = u8::from_str_radix(byte, 16).unwrap();
                    bytes.extend(std::iter::repeat_n(byte, times.parse().unwrap()));
                }
            }
            assert!(vectors.insert(name, bytes).is_none(), "two vectors named {name}");
        }
        Book { vectors, seen: BTreeSet::new() }
    }

    #[track_caller]
    fn bytes(&mut self, name: &'static str) -> Vec<u8> {
        self.seen.insert(name);
        self.vectors.get(name).unwrap_or_else(|| panic!("no vector {name}")).clone()
    }

    /// Exactly these frames, which are then the peer's to accept.
    #[track_caller]
    fn check(&mut self, frames: &[Vec<u8>], names: &[&'static str], receiver: &mut Node) {
        for (frame, name) in frames.iter().zip(names) {
            assert_eq!(hex(frame), hex(&self.bytes(name)), "{name}");
            receiver.receive(frame).unwrap();
        }
        assert_eq!(frames.len(), names.len());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

/// A connected pair whose chunks have 1,024 bytes.
fn connected() -> Pair {
    let now = Instant::now();
    let node = |side| Node::new(side, Limits::default(), 1024, false, now);
    let mut pair = Pair { client: node(Side::Client), server: node(Side::Server) };
    pair.settle();
    pair
}

fn get() -> NewCall {
    let head = CallHead { method: MethodId::of("Kv", "get").0, ..new_call().head };
    NewCall { head, ..new_call() }
}

#[test]
fn the_machine_speaks_as_the_document_says() {
    let mut book = Book::open();
    hello(&mut book);
    calls(&mut book);
    chunks(&mut book);
    failures(&mut book);
    extras(&mut book);
    streams(&mut book);
    objects(&mut book);
    results(&mut book);
    connection(&mut book);
    let unseen: Vec<_> = book.vectors.keys().filter(|name| !book.seen.contains(*name)).collect();
    assert!(unseen.is_empty(), "vectors that nobody looks at: {unseen:?}");
}

fn hello(book: &mut Book) {
    let now = Instant::now();
    let node = |side| Node::new(side, Limits::default(), 128 * 1024, false, now);
    let (mut client, mut server) = (node(Side::Client), node(Side::Server));
    book.check(&client.output(), &["hello"], &mut server);
    // Both have the same limits, and the same codec.
    book.check(&server.output(), &["hello"], &mut client);
    assert!(client.protocol.is_open() && server.protocol.is_open());
}

fn calls(book: &mut Book) {
    let mut pair = connected();
    let id = placed(pair.client.begin(get(), b"a".to_vec(), None));
    book.check(&pair.client.output(), &["call"], &mut pair.server);
    pair.server.finish(id, b"b");
    book.check(&pair.server.output(), &["reply"], &mut pair.client);
    assert_eq!(pair.client.reply(id), b"b");
    placed(pair.server.begin(get(), b"a".to_vec(), None));
    book.check(&pair.server.output(), &["call-of-the-server"], &mut pair.client);
    pair.advance(Duration::ZERO);
    pair.server.now += SWEEP;
    pair.server.protocol.handle_timeout(pair.server.now, &mut pair.server.effects).unwrap();
    book.check(&pair.server.output(), &["credit-requests"], &mut pair.client);

    let mut pair = connected();
    let id = placed(pair.client.begin(NewCall { oneway: true, ..get() }, b"a".to_vec(), None));
    book.check(&pair.client.output(), &["call-oneway"], &mut pair.server);
    pair.client.abandon(id);
    book.check(&pair.client.output(), &["cancel"], &mut pair.server);
    assert_eq!(pair.server.cancelled, [id]);
}

fn objects(book: &mut Book) {
    let mut pair = connected();
    let (passed, _dropped) = objects::things(1);
    let extras = pair.client.pack(&passed).unwrap();
    let id = placed(pair.client.begin(NewCall { extras, ..get() }, b"a".to_vec(), None));
    book.check(&pair.client.output(), &["call-with-an-object"], &mut pair.server);
    assert_eq!(pair.server.ids_of_request(id), [1]);
    let called = placed(pair.server.begin(NewCall { object: 1, ..get() }, b"a".to_vec(), None));
    book.check(&pair.server.output(), &["call-on-an-object"], &mut pair.client);
    pair.client.finish_with(called, Failure::not_executed(Reason::ObjectGone));
    book.check(&pair.client.output(), &["fail-object-gone"], &mut pair.server);
    let object = pair.client.protocol.objects().exported(1);
    pair.client.protocol.withdraw(&object);
    book.check(&pair.client.output(), &["gone"], &mut pair.server);
    pair.server.requests.clear();
    let finish = Finish::Returned(Half::Ok, pair.server.pack(&passed).unwrap());
    pair.server.protocol.finish(id, finish, Encoded::There(b"b"), &mut pair.server.out);
    book.check(&pair.server.output(), &["reply-with-an-object"], &mut pair.client);
    assert_eq!(pair.client.ids_of_reply(id), [2]);
    // And two given back.
    let mut pair = connected();
    let (passed, _dropped) = objects::things(2);
    let id = placed(pair.client.hand_over(&passed, 1));
    pair.settle();
    for id in pair.server.ids_of_request(id) {
        pair.server.protocol.release(id);
    }
    pair.server.finish(id, b"");
    pair.settle();
    pair.server.timeout();
    pair.server.now += SWEEP;
    pair.server.protocol.handle_timeout(pair.server.now, &mut pair.server.effects).unwrap();
    book.check(&pair.server.output()[..1], &["release"], &mut pair.client);

    // Inside a handler.
    let mut pair = connected();
    placed(pair.client.begin(NewCall { hops: 1, ..get() }, b"a".to_vec(), None));
    book.check(&pair.client.output(), &["call-inside-a-handler"], &mut pair.server);
}

fn results(book: &mut Book) {
    let mut pair = connected();
    let open = placed(pair.client.begin(NewCall { result: true, ..get() }, b"a".to_vec(), None));
    book.check(&pair.client.output(), &["call-with-a-result"], &mut pair.server);
    let call = placed(pair.client.begin(NewCall { object: open | RESULT, ..get() }, b"a".to_vec(), None));
    book.check(&pair.client.output(), &["call-on-a-result"], &mut pair.server);
    pair.server.finish_with(open, Failure::maybe_executed(Reason::Panicked));
    let frames = pair.server.output();
    assert_eq!(kind_and_id(&frames[0]), (Kind::Fail, open));
    book.check(&frames[1..], &["fail-no-result"], &mut pair.client);
    let why = NoResult::Failed(Box::new(Reason::Panicked));
    assert_eq!(*not_executed(&pair.client.failure(call)), Reason::NoResult(why));
}

fn chunks(book: &mut Book) {
    let mut pair = connected();
    let id = placed(pair.client.begin(get(), vec![0x61; 2500], None));
    let frames = pair.client.output();
    book.check(&frames, &["call-chunked-1", "call-chunked-2", "call-chunked-3"], &mut pair.server);
    assert_eq!(pair.server.requests[0].payload.as_slice(), [0x61; 2500]);
    pair.server.finish(id, &[0x62; 2500]);
    let frames = pair.server.output();
    book.check(&frames[..1], &["reply-chunked-1"], &mut pair.client);
    frames[1..].iter().for_each(|frame| pair.client.receive(frame).unwrap());
    assert_eq!(pair.client.reply(id), [0x62; 2500]);
    pair.client.now += SWEEP;
    pair.client.timeout();
    pair.client.now += SWEEP;
    pair.client.protocol.handle_timeout(pair.client.now, &mut pair.client.effects).unwrap();
    book.check(&pair.client.output(), &["credit-replies"], &mut pair.server);

    let mut pair = connected();
    let id = placed(pair.client.begin(get(), b"a".to_vec(), None));
    pair.settle();
    let payload = Encoded::There(&[0x62; 2500]);
    pair.server.protocol.finish(id, Finish::Returned(Half::Err, None), payload, &mut pair.server.out);
    let frames = pair.server.output();
    book.check(&frames[..1], &["fail-chunked-1"], &mut pair.client);
}

fn failures(book: &mut Book) {
    let mut fail = |name, how, reply: &[u8]| {
        let mut pair = connected();
        let id = placed(pair.client.begin(get(), b"a".to_vec(), None));
        pair.settle();
        pair.server.protocol.finish(id, how, Encoded::There(reply), &mut pair.server.out);
        book.check(&pair.server.output(), &[name], &mut pair.client);
        pair.client.poll(id).unwrap()
    };
    let overloaded = Failure::not_executed(Reason::Overloaded { limit: Limit::InFlightPerConnection });
    let answer = fail("fail-overloaded", Finish::Failed(overloaded.clone()), b"");
    assert!(matches!(answer, Answer::Failed(failure) if failure == overloaded));
    let panicked = Failure::maybe_executed(Reason::Panicked);
    let answer = fail("fail-panicked", Finish::Failed(panicked.clone()), b"");
    assert!(matches!(answer, Answer::Failed(failure) if failure == panicked));
    // Each side reads its own number as ours.
    let (callee, caller) =
        (Reason::SchemaMismatch { ours: 11, theirs: 10 }, Reason::SchemaMismatch { ours: 10, theirs: 11 });
    let answer = fail("fail-schema-mismatch", Finish::Failed(Failure::not_executed(callee)), b"");
    assert!(matches!(answer, Answer::Failed(failure) if failure.reason == caller));
    let answer = fail("fail-of-the-method", Finish::Returned(Half::Err, None), b"no");
    assert!(matches!(answer, Answer::Small { half: Half::Err, len: 2, .. }));

    let mut pair = connected();
    pair.server.receive(&book.bytes("call-with-an-extension")).unwrap();
    assert_eq!(pair.server.requests[0].payload.as_slice(), b"a");
    let mut pair = connected();
    let id = placed(pair.client.begin(get(), b"a".to_vec(), None));
    pair.server.receive(&book.bytes("call-with-a-critical-extension")).unwrap();
    book.check(&pair.server.output(), &["fail-unknown-extension"], &mut pair.client);
    assert_eq!(*not_executed(&pair.client.failure(id)), Reason::UnknownExtension(0x8101));
}

fn extras(book: &mut Book) {
    let mut metadata = Metadata::new();
    metadata.insert("tenant", "blue").unwrap();
    metadata.insert(MetadataKey::<[u8]>::secret("token"), [1, 2]).unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let none = Metadata::new();
    let calls = [
        ("call-with-metadata", Sent::with_call(&metadata, None, None, Priority::Normal, true)),
        ("call-with-trace", Sent::with_call(&none, Some(trace), None, Priority::Normal, true)),
        ("call-with-an-id", Sent::with_call(&none, None, Some(CallId::from_u128(7)), Priority::Normal, true)),
        ("call-of-low-priority", Sent::with_call(&none, None, None, Priority::Low, true)),
    ];
    for (name, extras) in calls {
        let mut pair = connected();
        let id = placed(pair.client.begin(NewCall { extras: Some(extras.into()), ..get() }, b"a".to_vec(), None));
        book.check(&pair.client.output(), &[name], &mut pair.server);
        let came = pair.server.requests[0].extras.as_ref().unwrap();
        match name {
            "call-with-metadata" => assert_eq!(came.metadata, metadata),
            "call-with-trace" => assert_eq!(came.trace, Some(trace)),
            "call-with-an-id" => assert_eq!(came.call_id, Some(CallId::from_u128(7))),
            _ => assert_eq!(came.priority, Priority::Low),
        }
        let mut from = Metadata::new();
        from.insert("from", "c").unwrap();
        let how = Finish::Returned(Half::Ok, Sent::with_reply(&from));
        pair.server.protocol.finish(id, how, Encoded::There(b"b"), &mut pair.server.out);
        book.check(&pair.server.output(), &["reply-with-metadata"], &mut pair.client);
        assert_eq!((pair.client.reply(id), pair.client.beside), (b"b".to_vec(), Some(from)));
    }
    let too_long = Reason::Metadata(MetadataError::TooLong { len: 3000, max: 2048 });
    for (name, value, reason) in [
        ("fail-malformed-extension", &[0][..], Reason::MalformedExtension(tag::METADATA)),
        ("fail-metadata-too-long", &[0; 3000], too_long),
    ] {
        let mut pair = connected();
        let id = placed(pair.client.begin(get(), b"a".to_vec(), None));
        pair.server.receive(&raw(2, 0, id, &extension(tag::METADATA, value), &call_body(&[]))).unwrap();
        book.check(&pair.server.output(), &[name], &mut pair.client);
        assert_eq!(*not_executed(&pair.client.failure(id)), reason);
    }
}

fn streams(book: &mut Book) {
    let mut pair = connected();
    let streams = StreamCounts { given: 1, returned: 1 };
    let id = placed(pair.client.begin(NewCall { streams, ..get() }, b"a".to_vec(), None));
    book.check(&pair.client.output(), &["call-with-streams"], &mut pair.server);
    let item = [&1u32.to_le_bytes()[..], b"x"].concat();
    let push = |node: &mut Node, id| {
        node.protocol.push_items(id, &mut [&item[..], &item[..]].concat(), &mut None);
    };
    push(&mut pair.client, id + 2);
    book.check(&pair.client.output(), &["items"], &mut pair.server);
    pair.server.protocol.claim_stream(id + 2);
    let mut taken = Vec::new();
    pair.server.protocol.take_items(id + 2, 0, false, &mut taken, &mut None, Instant::now);
    pair.server.protocol.take_items(id + 2, taken.len() as u64, true, &mut Vec::new(), &mut None, Instant::now);
    book.check(&pair.server.output(), &["credit-stream"], &mut pair.client);
    // Ten bytes beyond those that do not count in the window of all.
    let mut items = vec![0; RESERVE as usize + 10];
    pair.client.protocol.push_items(id + 2, &mut items, &mut None);
    for frame in pair.client.output() {
        pair.server.receive(&frame).unwrap();
    }
    taken.clear();
    pair.server.protocol.take_items(id + 2, 0, false, &mut taken, &mut None, Instant::now);
    pair.server.timeout();
    pair.server.now += SWEEP;
    pair.server.protocol.handle_timeout(pair.server.now, &mut pair.server.effects).unwrap();
    let credit: Vec<_> = pair.server.output().into_iter().filter(|frame| frame[16] == 3 && frame[8] == 0).collect();
    book.check(&credit, &["credit-items"], &mut pair.client);
    pair.client.receive(&book.bytes("credit-more")).unwrap();
    pair.server.protocol.prepare_items(id + 4, true, 3, 0, &mut None);
    pair.server.protocol.push_items(id + 4, &mut item.clone(), &mut None);
    let items: Vec<_> = pair.server.output().into_iter().filter(|frame| frame[4] == Kind::Item as u8).collect();
    book.check(&items, &["items-missed"], &mut pair.client);
    pair.server.protocol.unclaim_stream(id + 2, &mut Vec::new(), &mut Vec::new());
    let (credit, stop) = (Kind::Credit as u8, pair.server.output());
    let stop: Vec<_> = stop.into_iter().filter(|frame| frame[4] != credit).collect();
    book.check(&stop, &["stop"], &mut pair.client);
    book.check(&pair.client.output(), &["end"], &mut pair.server);
    pair.server.protocol.reply(id, None, &mut pair.server.out);
    pair.settle();
    pair.server.finish_with(id, Failure::maybe_executed(Reason::Panicked));
    book.check(&pair.server.output(), &["end-panicked"], &mut pair.client);
}

fn connection(book: &mut Book) {
    let mut pair = connected();
    placed(pair.client.begin(get(), b"a".to_vec(), None));
    pair.settle();
    // Thirty seconds of silence after the last look.
    for seconds in [0, 30] {
        pair.client.now += Duration::from_secs(seconds);
        pair.client.timeout();
        pair.client.protocol.handle_timeout(pair.client.now, &mut pair.client.effects).unwrap();
    }
    let ping: Vec<_> = pair.client.output().into_iter().filter(|frame| frame[4] == Kind::Ping as u8).collect();
    book.check(&ping, &["ping"], &mut pair.server);
    book.check(&pair.server.output(), &["pong"], &mut pair.client);
    pair.server.protocol.drain(pair.server.now);
    book.check(&pair.server.output(), &["goaway-announced", "goaway-ping"], &mut pair.client);
    let pong = pair.client.output();
    assert_eq!(pong, [raw(12, 0, 0, &[], &[0xff; 8])]);
    pair.server.receive(&pong[0]).unwrap();
    book.check(&pair.server.output(), &["goaway-final"], &mut pair.client);
    pair.server.protocol.close(CloseReason::Protocol);
    let close = pair.server.output();
    assert_eq!(close, [book.bytes("close")]);
    let closed = ConnectionError::ClosedByPeer(CloseReason::Protocol);
    assert_eq!(pair.client.receive(&close[0]), Err(closed));
}
