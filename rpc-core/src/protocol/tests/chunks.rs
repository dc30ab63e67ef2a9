//! Messages of more than one frame.

use super::*;

const EDGES: [usize; 7] = [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK + CHUNK / 2];

#[test]
fn messages_at_every_edge_of_a_chunk_arrive_whole() {
    for request in EDGES {
        for reply in EDGES {
            let mut pair = Pair::new();
            let id = pair.client.place(bytes(request, 1));
            pair.flush();
            assert_eq!(pair.server.inbox.len(), request.div_ceil(CHUNK));
            pair.settle();
            assert_eq!(pair.server.requests[0].payload.as_slice(), bytes(request, 1));
            pair.server.finish(id, &bytes(reply, 2));
            pair.flush();
            assert_eq!(pair.client.inbox.len(), reply.div_ceil(CHUNK));
            pair.settle();
            assert_eq!(pair.client.reply(id), bytes(reply, 2));
            pair.assert_at_rest();
        }
    }
}

#[test]
fn a_message_goes_whole_where_there_is_a_place_for_it() {
    for (len, whole) in [(CHUNK, true), (CHUNK + 100, true), (WHOLE, true), (WHOLE + 1, false), (5 * WHOLE, false)] {
        let mut pair = Pair::new();
        (pair.client.out.places, pair.server.out.places) = (1, 1);
        let frames = |whole: bool| if whole { 1 } else { len.div_ceil(CHUNK) };
        // The second finds none.
        let ids = [1, 2].map(|seed| (pair.client.place(bytes(len, seed)), seed));
        pair.flush();
        assert_eq!(pair.server.inbox.len(), frames(whole) + frames(false));
        pair.settle();
        pair.server.requests.sort_by_key(|request| request.id);
        for (request, (_, seed)) in pair.server.requests.iter().zip(ids) {
            assert_eq!(request.payload.as_slice(), bytes(len, seed));
        }
        pair.server.finish(ids[0].0, &bytes(len, 3));
        pair.flush();
        assert_eq!(pair.client.inbox.len(), frames(whole));
        pair.settle();
        assert_eq!(pair.client.reply(ids[0].0), bytes(len, 3));
        pair.server.finish(ids[1].0, &[]);
        pair.settle();
        assert_eq!(pair.client.reply(ids[1].0), []);
        pair.assert_at_rest();
    }
}

#[test]
fn a_lent_payload_is_neither_copied_nor_given_back_before_its_end() {
    let mut pair = Pair::new();
    pair.server.out.places = 2;
    pair.client.out.places = 2;
    let (kept, abandoned) = (pair.client.place(bytes(WHOLE, 1)), pair.client.place(bytes(WHOLE, 2)));
    pair.flush();
    let lend = |node: &mut Node, record: Vec<u8>, gone: &Arc<Count>| {
        let partial = Partial { bytes: &record[..64], len: record.len() };
        let len = node.protocol.whole(&partial).unwrap();
        let lease = Lease::new(Watched(record[len..].to_vec(), Arc::clone(gone)));
        let address = lease.as_ptr();
        node.protocol.handle_lent(&record[..len], lease, &mut node.effects).unwrap();
        node.sort_effects();
        address
    };
    let gone = Count::new();
    for _ in 0..2 {
        let record = pair.server.inbox.pop_front().unwrap();
        let address = lend(&mut pair.server, record, &gone);
        assert_eq!(pair.server.requests.last().unwrap().payload.as_slice().as_ptr(), address);
    }
    assert_eq!(pair.server.protocol.stats().memory_in, 2 * WHOLE as u64);
    assert_eq!(gone.woken(), 0);
    pair.server.requests.clear();
    assert_eq!(gone.woken(), 2);
    for id in [kept, abandoned] {
        pair.server.finish(id, &bytes(WHOLE, 3));
    }
    pair.client.protocol.caller().abandon(abandoned, &mut Vec::new());
    pair.flush();
    let gone = Count::new();
    for record in std::mem::take(&mut pair.client.inbox) {
        lend(&mut pair.client, record, &gone);
    }
    assert_eq!(gone.woken(), 1, "nobody wants the second");
    assert_eq!(pair.client.reply(kept), bytes(WHOLE, 3));
    assert_eq!(gone.woken(), 2);
    pair.assert_at_rest();
}

/// Bytes that say when they are gone.
struct Watched(Vec<u8>, Arc<Count>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        Arc::clone(&self.1).wake();
    }
}

#[test]
fn chunks_of_several_messages_take_turns_and_small_calls_pass() {
    let mut pair = Pair::new();
    let a = pair.client.place(bytes(4 * CHUNK, 1));
    let b = pair.client.place(bytes(4 * CHUNK, 2));
    let small = pair.client.place(b"small".to_vec());
    pair.flush();
    let ids: Vec<u64> = pair.server.coming().into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, [a, b, small, a, b, a, b, a, b]);
    pair.settle();
    assert_eq!(pair.server.requests[0].id, small);
    pair.server.echo_all();
    pair.settle();
    assert_eq!(pair.client.reply(a), bytes(4 * CHUNK, 1));
    assert_eq!(pair.client.reply(b), bytes(4 * CHUNK, 2));
    assert_eq!(pair.client.reply(small), b"small");
    pair.assert_at_rest();
}

#[test]
fn a_request_that_does_not_add_up_closes() {
    let first = |total_len: u64, len: usize| raw(2, 1, 1, &total(total_len), &call_body(&bytes(len, 0)));
    let more = |flags: u8, len: usize| raw(5, flags, 1, &[], &bytes(len, 0));
    let conversations: [&[Vec<u8>]; 9] = [
        // The total is not more than the first frame, or even less.
        &[first(2000, 2000)],
        &[first(1999, 2000)],
        &[first(0, 2000)],
        // More is promised, but no total; a total, but no more.
        &[raw(2, 1, 1, &[], &call_body(&bytes(2000, 0)))],
        &[raw(2, 0, 1, &total(4000), &call_body(&bytes(2000, 0)))],
        // The first frame is too short for one of several.
        &[first(4000, 1023)],
        // A chunk that is too short, or empty; the last one too early.
        &[first(4000, 2000), more(1, 1023)],
        &[first(4000, 2000), more(1, 0)],
        &[first(4000, 2000), more(0, 1999)],
    ];
    for conversation in conversations {
        let mut pair = Pair::new();
        let (last, before) = conversation.split_last().unwrap();
        before.iter().for_each(|frame| pair.server.receive(frame).unwrap());
        assert_eq!(violation(pair.server.receive(last)), ProtocolError::Chunks);
    }
    // One that is too long is no more welcome where another message has been promised as much.
    let mut pair = Pair::new();
    pair.server.receive(&first(4000, 2000)).unwrap();
    pair.server.receive(&raw(2, 1, 3, &total(4000), &call_body(&bytes(2000, 0)))).unwrap();
    assert_eq!(violation(pair.server.receive(&more(0, 2001))), ProtocolError::Chunks);
    pair.server.end(ConnectionError::PeerGone, 0);
    assert!(pair.server.stats().is_at_rest());
    let mut pair = Pair::new();
    pair.server.receive(&first(4000, 2000)).unwrap();
    pair.server.receive(&more(0, 2000)).unwrap();
    // It is whole: there is no more of it.
    assert_eq!(violation(pair.server.receive(&more(0, 1))), ProtocolError::Chunks);
}

#[test]
fn a_reply_that_does_not_add_up_closes() {
    let first = |total_len: u64, len: usize| raw(3, 1, 1, &total(total_len), &bytes(len, 0));
    let more = |flags: u8, len: usize| raw(5, flags, 1, &[], &bytes(len, 0));
    let conversations: [&[Vec<u8>]; 7] = [
        &[first(1999, 2000)],
        &[first(10, 9)],
        &[raw(3, 1, 1, &[], &bytes(2000, 0))],
        &[raw(3, 0, 1, &total(4000), &bytes(2000, 0))],
        &[first(4000, 2000), more(1, 0)],
        &[first(4000, 2000), more(0, 1999)],
        // The framework's own failures are short.
        &[raw(4, 1, 1, &total(4000), &bytes(2000, 0)), more(0, 1999)],
    ];
    for wanted in [true, false] {
        for conversation in conversations {
            let mut pair = Pair::new();
            let id = pair.client.place(vec![]);
            if !wanted {
                pair.client.abandon(id);
            }
            let error = conversation.iter().find_map(|frame| pair.client.receive(frame).err());
            assert_eq!(violation(Err(error.unwrap())), ProtocolError::Chunks);
        }
    }
}

#[test]
fn too_short_a_total_for_a_call_that_is_refused_or_dropped_is_no_panic() {
    // Accounts are settled for calls that get no state, and must not be by more than was taken.
    let limits = Limits::default().in_flight_per_connection(1);
    let mut pair = Pair::with(limits.clone(), limits);
    pair.server.receive(&raw(2, 0, 1, &[], &call_body(b""))).unwrap();
    let bad = raw(2, 1, 3, &total(10), &call_body(&bytes(2000, 0)));
    assert_eq!(violation(pair.server.receive(&bad)), ProtocolError::Chunks);
    let mut pair = Pair::new();
    pair.server.protocol.drain(pair.server.now);
    pair.server.protocol.conclude_drain();
    let bad = raw(2, 1, 1, &total(10), &call_body(&bytes(2000, 0)));
    assert_eq!(violation(pair.server.receive(&bad)), ProtocolError::Chunks);
}

#[test]
fn a_message_over_the_announced_maximum_closes() {
    let limits = Limits::default().message_len(5000);
    let mut pair = Pair::with(limits.clone(), limits);
    let long = ProtocolError::MessageTooLong { len: 5001, max: 5000 };
    let call = raw(2, 1, 1, &total(5001), &call_body(&bytes(2000, 0)));
    assert_eq!(violation(pair.server.receive(&call)), long);
    let id = pair.client.place(vec![]);
    let reply = raw(3, 1, id, &total(5001), &bytes(2000, 0));
    assert_eq!(violation(pair.client.receive(&reply)), long);
}

#[test]
fn a_chunk_of_a_call_that_never_began_closes() {
    let mut pair = Pair::new();
    for id in [0, 1, 3] {
        violation(pair.server.receive(&raw(5, 0, id, &[], &[1])));
        violation(pair.client.receive(&raw(5, 0, id, &[], &[1])));
    }
}

#[test]
fn chunks_on_their_way_when_a_deadline_passes_are_dropped() {
    let mut pair = Pair::new();
    let id = placed(pair.client.begin(timed(pair.client.now, 50 * MS), bytes(4 * CHUNK, 0), None));
    pair.flush();
    assert!(pair.server_takes());
    // The server's own clock runs out; it has no room to say so.
    pair.server.out.room = 0;
    pair.server.timeout();
    for wait in [10, 60] {
        pair.server.now += wait * MS;
        pair.server.protocol.handle_timeout(pair.server.now, &mut pair.server.effects).unwrap();
    }
    while pair.server_takes() {}
    assert_eq!(pair.server.error, None);
    pair.server.out.room = usize::MAX;
    pair.settle();
    assert_eq!(*not_executed(&pair.client.failure(id)), Reason::DeadlineExceeded);
    assert!(pair.server.requests.is_empty());
    pair.assert_at_rest();
}

#[test]
fn frames_land_where_they_belong() {
    for (request, lands) in [(200, 0), (CHUNK, 1), (3 * CHUNK, 3)] {
        let mut pair = Pair::new();
        pair.client.place(bytes(request, 1));
        pair.flush();
        let frames = std::mem::take(&mut pair.server.inbox);
        let landed = frames.iter().filter(|frame| pair.server.receive_landing(frame));
        assert_eq!(landed.count(), lands);
        assert_eq!(pair.server.requests[0].payload.as_slice(), bytes(request, 1));
    }
}

#[test]
fn what_nobody_wants_or_is_wrong_lands_nowhere() {
    let mut pair = Pair::new();
    let offered = |node: &mut Node, frame: &[u8]| {
        let partial = Partial { bytes: &frame[..64], len: frame.len() };
        node.protocol.offer(&partial).is_some()
    };
    let chunk = |flags, id, len| raw(5, flags, id, &[], &bytes(len, 0));
    // A call that has not begun, and kinds without a payload of a message.
    assert!(!offered(&mut pair.server, &chunk(0, 1, 2000)));
    for kind in [1, 4, 6, 10, 14, 0x7e, 0x90] {
        assert!(!offered(&mut pair.server, &raw(kind, 0, 0, &[], &bytes(2000, 0))), "kind {kind}");
    }
    pair.server.receive(&raw(2, 1, 1, &total(4000), &call_body(&bytes(2000, 0)))).unwrap();
    // More than was announced.
    assert!(!offered(&mut pair.server, &chunk(0, 1, 2001)));
    assert!(offered(&mut pair.server, &chunk(0, 1, 2000)));
    // A reply whose caller has left.
    let id = pair.client.place(vec![]);
    pair.client.receive(&raw(3, 1, id, &total(4000), &bytes(2000, 0))).unwrap();
    pair.client.abandon(id);
    assert!(!offered(&mut pair.client, &chunk(0, id, 2000)));
    // A message that may not be so long, or does not add up.
    let max = Limits::default().message_len as u64;
    assert!(!offered(&mut pair.server, &raw(2, 1, 3, &total(max + 1), &call_body(&bytes(2000, 0)))));
    assert!(!offered(&mut pair.server, &raw(2, 0, 3, &total(5000), &call_body(&bytes(2000, 0)))));
    // Longer extensions than this version has.
    let long = [extension(7, &[0; 60]), total(4000)].concat();
    assert!(!offered(&mut pair.server, &raw(2, 1, 3, &long, &call_body(&bytes(2000, 0)))));
    // Nothing lands before the handshake.
    let mut pair = Pair::apart(Limits::default(), Limits::default(), false);
    assert!(!offered(&mut pair.server, &raw(2, 0, 1, &[], &call_body(&bytes(2000, 0)))));
}

#[test]
fn a_call_that_ends_while_a_chunk_lands_leaves_nothing_behind() {
    // Its caller leaves.
    let mut pair = Pair::new();
    pair.client.lands_slowly = true;
    let id = pair.client.place(vec![]);
    pair.settle();
    pair.server.finish(id, &bytes(4 * CHUNK, 0));
    pair.flush();
    while pair.client.landing.is_none() || pair.client.received % 2 == 0 {
        assert!(pair.client_takes());
    }
    pair.client.abandon(id);
    pair.assert_at_rest();
    // Its deadline passes.
    let mut pair = Pair::new();
    pair.server.lands_slowly = true;
    let id = placed(pair.client.begin(timed(pair.client.now, 50 * MS), bytes(4 * CHUNK, 0), None));
    pair.flush();
    while pair.server.landing.is_none() {
        assert!(pair.server_takes());
    }
    pair.server.timeout();
    for wait in [10, 60] {
        pair.server.now += wait * MS;
        pair.server.protocol.handle_timeout(pair.server.now, &mut pair.server.effects).unwrap();
    }
    pair.settle();
    pair.client.now = pair.server.now;
    assert_eq!(*not_executed(&pair.client.failure(id)), Reason::DeadlineExceeded);
    assert!(pair.server.requests.is_empty());
    pair.assert_at_rest();
    // The connection ends.
    let mut pair = Pair::new();
    pair.server.lands_slowly = true;
    pair.client.place(bytes(4 * CHUNK, 0));
    pair.flush();
    while pair.server.landing.is_none() {
        assert!(pair.server_takes());
    }
    pair.server.end(ConnectionError::PeerGone, 0);
    pair.server.landing = None;
    assert!(pair.server.stats().is_at_rest());
    assert_eq!((pair.server.share.calls(), pair.server.share.bytes()), (0, 0));
}
