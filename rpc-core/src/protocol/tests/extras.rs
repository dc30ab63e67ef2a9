//! What travels beside payloads: metadata, trace, call id, priority.

use super::*;
use crate::call_id::CallId;
use crate::limits::Limit;
use crate::metadata::MetadataError;
use crate::priority::Priority;
use crate::trace::TraceContext;

fn metadata(entries: &[(&str, &str)]) -> Metadata {
    let mut metadata = Metadata::new();
    for (name, value) in entries {
        metadata.insert(*name, *value).unwrap();
    }
    metadata
}

fn long(len: usize) -> Metadata {
    let metadata = metadata(&[("a", &"x".repeat(len - 5))]);
    assert_eq!(metadata.encoded_len(), len);
    metadata
}

fn trace() -> TraceContext {
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap()
}

fn call_with(metadata: &Metadata) -> NewCall {
    NewCall { extras: Some(Sent::with_call(metadata, None, None, Priority::Normal, true).into()), ..new_call() }
}

/// A CALL with these extensions, and how it is refused; `None` if it is taken.
fn refused(extensions: &[u8]) -> Option<Reason> {
    let mut pair = Pair::new();
    let id = pair.client.place(vec![]);
    pair.flush();
    pair.server.inbox.clear();
    pair.server.receive(&raw(2, 0, id, extensions, &call_body(&[]))).unwrap();
    pair.server.echo_all();
    pair.settle();
    let reason = match pair.client.poll(id) {
        Some(Answer::Failed(failure)) => Some(not_executed(&failure).clone()),
        _ => None,
    };
    // Whatever it was, it costs this call alone.
    let next = pair.client.place(b"next".to_vec());
    pair.settle();
    pair.server.echo_all();
    pair.settle();
    assert_eq!(pair.client.reply(next), b"next");
    pair.assert_at_rest();
    reason
}

#[test]
fn everything_arrives_beside_a_call_and_metadata_beside_its_reply() {
    for len in [0, 50, 300, CHUNK, 3 * CHUNK] {
        let mut pair = Pair::new();
        let (sent, id) = (metadata(&[("tenant", "blue"), ("empty", "")]), CallId::from_u128(1 << 100 | 7));
        let extras = Sent::with_call(&sent, Some(trace()), Some(id), Priority::High, true);
        let call = NewCall { extras: Some(extras.into()), ..new_call() };
        let made = placed(pair.client.begin(call, bytes(len, 1), None));
        pair.settle();
        let request = &pair.server.requests[0];
        assert_eq!(request.payload.as_slice(), bytes(len, 1));
        let came = request.extras.as_ref().unwrap();
        assert_eq!((&came.metadata, came.trace, came.call_id), (&sent, Some(trace()), Some(id)));
        assert_eq!(came.priority, Priority::High);
        pair.server.finish(made, &bytes(len, 2));
        pair.settle();
        assert_eq!(pair.client.reply(made), bytes(len, 2));
        assert_eq!(pair.client.beside, Some(sent));
        pair.assert_at_rest();
    }
}

#[test]
fn a_long_reply_with_something_beside_it_gives_its_credit_back_as_any_other() {
    for sent in [None, Some(metadata(&[("a", "1")]))] {
        let mut pair = Pair::new();
        let call = sent.as_ref().map_or_else(new_call, call_with);
        let id = placed(pair.client.begin(call, vec![], None));
        pair.settle();
        let how = Finish::Returned(Half::Ok, sent.as_ref().and_then(Sent::with_reply));
        pair.server.protocol.finish(id, how, Encoded::There(&bytes(CHUNK, 1)), &mut pair.server.out);
        pair.settle();
        let mut answer = Answer::EMPTY;
        let (answered, frees) = pair.client.protocol.poll_call(id, &mut None, &mut answer);
        assert!(answered && frees, "others may wait for it, and nobody else tells the peer");
        assert_eq!(matches!(answer, Answer::Extended(_)), sent.is_some());
    }
}

#[test]
fn it_comes_with_the_methods_own_error_and_not_with_the_frameworks() {
    let mut pair = Pair::new();
    let sent = metadata(&[("a", "1")]);
    let id = placed(pair.client.begin(call_with(&sent), vec![], None));
    pair.settle();
    let how = Finish::Returned(Half::Err, Sent::with_reply(&sent));
    pair.server.protocol.finish(id, how, Encoded::There(b"no"), &mut pair.server.out);
    pair.settle();
    assert!(matches!(pair.client.poll(id), Some(Answer::Small { half: Half::Err, len: 2, .. })));
    assert_eq!(pair.client.beside, Some(sent.clone()));
    let id = placed(pair.client.begin(call_with(&sent), vec![], None));
    pair.settle();
    pair.server.finish_with(id, Failure::maybe_executed(Reason::Panicked));
    pair.settle();
    pair.client.failure(id);
    assert_eq!(pair.client.beside, Some(Metadata::new()));
}

#[test]
fn it_is_kept_for_those_who_ask() {
    let mut pair = Pair::new();
    let sent = metadata(&[("a", "1")]);
    let extras = Sent::with_call(&sent, None, None, Priority::Normal, false);
    let call = NewCall { extras: Some(extras.into()), ..new_call() };
    let id = placed(pair.client.begin(call, vec![], None));
    pair.settle();
    pair.server.finish(id, b"yes");
    pair.settle();
    assert_eq!((pair.client.reply(id), pair.client.beside.take()), (b"yes".to_vec(), None));
    // Whoever asked and went leaves nothing to the next in its slot.
    let id = placed(pair.client.begin(call_with(&sent), vec![], None));
    pair.settle();
    pair.server.finish(id, b"yes");
    pair.settle();
    pair.client.abandon(id);
    for _ in 0..40 {
        let id = placed(pair.client.begin(call_with(&Metadata::new()), vec![], None));
        pair.settle();
        pair.server.finish(id, b"");
        pair.settle();
        pair.client.reply(id);
        assert_eq!(pair.client.beside, Some(Metadata::new()));
    }
    pair.assert_at_rest();
}

#[test]
fn a_call_without_any_has_no_extensions() {
    let mut pair = Pair::new();
    let nothing = Sent::with_call(&Metadata::new(), None, None, Priority::Normal, true);
    assert!(nothing.extensions.is_empty() && Sent::with_reply(&Metadata::new()).is_none());
    placed(pair.client.begin(NewCall { extras: Some(nothing.into()), ..new_call() }, vec![], None));
    assert_eq!(pair.client.output(), [raw(2, 0, 1, &[], &call_body(&[]))]);
}

#[test]
fn a_call_that_waits_keeps_what_it_has_and_is_counted_with_it() {
    let mut pair = Pair::with(Limits::default(), Limits::default().in_flight_per_connection(1));
    let first = pair.client.place(vec![]);
    let sent = metadata(&[("tenant", "blue")]);
    let Begun::Queued(ticket) = pair.client.begin(call_with(&sent), vec![1; 10], None) else { panic!("it waits") };
    let extension_len = 4 + sent.encoded_len() as u64;
    assert_eq!(pair.client.stats().memory_out, 10 + extension_len);
    pair.settle();
    pair.server.echo_all();
    pair.settle();
    pair.client.reply(first);
    pair.settle();
    let Waited::Placed(id) = pair.client.poll_waiting(ticket) else { panic!("it was placed") };
    assert_eq!(pair.server.requests[0].extras.as_ref().unwrap().metadata, sent);
    assert_eq!(pair.client.stats().memory_out, 0);
    pair.server.echo_all();
    pair.settle();
    pair.client.reply(id);
    pair.assert_at_rest();
}

#[test]
fn what_a_handler_holds_of_it_is_charged() {
    let limits = Limits::default().memory_total(3000);
    let mut pair = Pair::with(Limits::default(), limits);
    let first = placed(pair.client.begin(call_with(&long(2000)), vec![], None));
    pair.settle();
    assert_eq!(pair.server.share.bytes(), 2000);
    let second = placed(pair.client.begin(call_with(&long(1500)), vec![], None));
    pair.settle();
    let full = Reason::Overloaded { limit: Limit::MemoryTotal };
    assert_eq!(*not_executed(&pair.client.failure(second)), full);
    pair.server.finish(first, b"");
    pair.settle();
    pair.client.reply(first);
    pair.assert_at_rest();
}

#[test]
fn the_receivers_limit_is_told() {
    let mut pair = Pair::with(Limits::default(), Limits::default().metadata_len(100));
    let id = placed(pair.client.begin(call_with(&long(100)), vec![], None));
    pair.settle();
    pair.server.echo_all();
    pair.settle();
    pair.client.reply(id);
    let id = placed(pair.client.begin(call_with(&long(101)), bytes(2 * CHUNK, 0), None));
    pair.settle();
    let too_long = Reason::Metadata(MetadataError::TooLong { len: 101, max: 100 });
    assert_eq!(*not_executed(&pair.client.failure(id)), too_long);
    assert!(pair.server.requests.is_empty());
    pair.assert_at_rest();
    // Of a reply: the handler has run. Those who do not ask get what it said.
    let mut pair = Pair::with(Limits::default().metadata_len(100), Limits::default());
    for (asks, len) in [(true, 0), (true, 3 * CHUNK), (false, 0)] {
        let extras = Sent::with_call(&Metadata::new(), None, None, Priority::Normal, asks);
        let id = placed(pair.client.begin(NewCall { extras: Some(extras.into()), ..new_call() }, vec![], None));
        pair.settle();
        let how = Finish::Returned(Half::Ok, Sent::with_reply(&long(101)));
        let payload = bytes(len, 0);
        let payload = Encoded::There(&payload);
        pair.server.protocol.finish(id, how, payload, &mut pair.server.out);
        pair.settle();
        if asks {
            assert_eq!(*maybe_executed(&pair.client.failure(id)), too_long);
        } else {
            pair.client.reply(id);
        }
        pair.assert_at_rest();
    }
}

#[test]
fn metadata_that_is_malformed_fails_the_call_that_has_it() {
    let malformed = Some(Reason::MalformedExtension(tag::METADATA));
    let good: &[u8] = &[0, 1, 1, 0, b'a', b'x'];
    assert_eq!(refused(&extension(tag::METADATA, good)), None);
    assert_eq!(refused(&extension(tag::METADATA, &[])), None);
    for cut in 1..good.len() {
        assert_eq!(refused(&extension(tag::METADATA, &good[..cut])), malformed);
    }
    let twice_named = [good, good].concat();
    let not_text = [0, 1, 1, 0, b'a', 0xff];
    let bad_name = [0, 1, 1, 0, b'A', b'x'];
    let beyond = [0, 1, 0xff, 0xff, b'a', b'x'];
    for bad in [&twice_named[..], &not_text, &bad_name, &beyond] {
        assert_eq!(refused(&extension(tag::METADATA, bad)), malformed);
    }
    // Twice in a frame, though each is good.
    let twice = [extension(tag::METADATA, good), extension(tag::METADATA, &[0, 1, 0, 0, b'b'])].concat();
    assert_eq!(refused(&twice), malformed);
    let too_long = refused(&extension(tag::METADATA, &[0; 4000]));
    assert_eq!(too_long, Some(Reason::Metadata(MetadataError::TooLong { len: 4000, max: 2048 })));
}

#[test]
fn a_replys_metadata_that_is_malformed_fails_those_who_ask() {
    let twice = [extension(tag::METADATA, &[0, 1, 0, 0, b'b']), extension(tag::METADATA, &[])].concat();
    for bad in [extension(tag::METADATA, &[1, 2, 3]), twice] {
        for asks in [true, false] {
            let mut pair = Pair::new();
            let count = Count::new();
            let extras = Sent::with_call(&Metadata::new(), None, None, Priority::Normal, asks);
            let call = NewCall { extras: Some(extras.into()), ..new_call() };
            let id = placed(pair.client.begin(call, vec![], count.waker()));
            pair.client.receive(&raw(3, 0, id, &bad, b"y")).unwrap();
            assert_eq!(count.woken(), 1);
            if asks {
                let reason = Reason::MalformedExtension(tag::METADATA);
                assert_eq!(*maybe_executed(&pair.client.failure(id)), reason);
            } else {
                assert_eq!(pair.client.reply(id), b"y");
            }
            assert_eq!(pair.client.stats().calls_in_flight, 0);
        }
    }
}

#[test]
fn a_call_id_has_sixteen_bytes_and_comes_once() {
    let malformed = Some(Reason::MalformedExtension(tag::CALL_ID));
    for len in [0, 15, 17] {
        assert_eq!(refused(&extension(tag::CALL_ID, &vec![1; len])), malformed);
    }
    let once = extension(tag::CALL_ID, &[1; 16]);
    assert_eq!(refused(&once), None);
    assert_eq!(refused(&[once.clone(), once].concat()), malformed);
}

#[test]
fn a_trace_or_a_priority_that_makes_no_sense_is_ignored() {
    let mut pair = Pair::new();
    let mut id = 1;
    let mut take = |extensions: &[u8]| {
        pair.server.receive(&raw(2, 0, id, extensions, &call_body(&[]))).unwrap();
        id += 2;
        let request = pair.server.requests.pop().unwrap();
        let came = request.extras.unwrap();
        (came.trace, came.priority)
    };
    let good = extension(tag::TRACE, &trace().to_wire());
    assert_eq!(take(&good), (Some(trace()), Priority::Normal));
    for bad in [&[][..], &[1; 24], &[1; 26], &[0; 25]] {
        assert_eq!(take(&extension(tag::TRACE, bad)), (None, Priority::Normal));
    }
    // The first that is one counts.
    let other = extension(tag::TRACE, &[9; 25]);
    assert_eq!(take(&[good, other].concat()), (Some(trace()), Priority::Normal));
    for (bytes, priority) in [
        (&[0][..], Priority::Low),
        (&[1], Priority::Normal),
        (&[2], Priority::High),
        (&[3], Priority::Normal),
        (&[], Priority::Normal),
        (&[2, 2], Priority::Normal),
    ] {
        assert_eq!(take(&extension(tag::PRIORITY, bytes)), (None, priority));
    }
    assert_eq!(take(&[extension(tag::PRIORITY, &[0]), extension(tag::PRIORITY, &[2])].concat()).1, Priority::Low);
}
