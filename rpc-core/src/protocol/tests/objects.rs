//! Objects: handed over, called, given back; and every order in which what ends them can cross on the wire.

use std::sync::atomic::AtomicBool;

use super::handshake::hello;
use super::*;
use crate::call_id::CallId;
use crate::limits::Limit;
use crate::metadata::METADATA_LEN_MAX;
use crate::method::ServiceDescriptor;
use crate::object::{Closed, Object, Passed};
use crate::priority::Priority;
use crate::protocol::caller::Fate;
use crate::protocol::extras::{Extras, Sent};
use crate::service::{self, Request, Service};

static NONE: ServiceDescriptor = ServiceDescriptor::new("None", "", &[]);

/// A service without methods that says when it is dropped.
struct Thing(Arc<AtomicBool>);

impl Service for Thing {
    fn descriptor(&self) -> &'static ServiceDescriptor {
        &NONE
    }

    async fn call(&self, request: &Request) -> Result<service::Answer, service::Refusal> {
        Err(request.unknown_method())
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An object, and whether it has been dropped.
pub(super) fn thing() -> (Arc<Object>, Arc<AtomicBool>) {
    let dropped = Arc::new(AtomicBool::new(false));
    let connect = Box::new(|_| -> crate::Connection { unreachable!("nobody calls it here") });
    (Arc::new(Object::new(Thing(Arc::clone(&dropped)), connect)), dropped)
}

pub(super) fn is(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

/// So many things, as a message hands them over, and whether each has been dropped.
pub(super) fn things(n: usize) -> (Vec<Passed>, Vec<Arc<AtomicBool>>) {
    (0..n).map(|_| thing()).map(|(object, dropped)| (Passed::Object(object), dropped)).unzip()
}

pub(super) fn handles(ids: &[u64]) -> Vec<u8> {
    extension(tag::HANDLES, &ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>())
}

pub(super) fn release(ids: &[u64]) -> Vec<u8> {
    raw(15, 0, 0, &[], &ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>())
}

impl Node {
    pub(super) fn pack(&mut self, passed: &[Passed]) -> Result<Extras, Reason> {
        self.protocol.pack(passed, 0, 0).map(|cargo| Sent::load(None, cargo))
    }

    /// Makes a call that hands `passed` over.
    pub(super) fn hand_over(&mut self, passed: &[Passed], len: usize) -> Begun {
        let extras = self.pack(passed).unwrap();
        self.begin(NewCall { extras, ..new_call() }, bytes(len, 0), None)
    }

    /// A handler returns `passed`.
    pub(super) fn return_objects(&mut self, id: u64, passed: &[Passed], len: usize) {
        let finish = Finish::Returned(Half::Ok, self.pack(passed).unwrap());
        self.requests.retain(|request| request.id != id);
        self.protocol.finish(id, finish, Encoded::There(&bytes(len, 0)), &mut self.out);
    }

    /// The ids that came with a request.
    pub(super) fn ids_of_request(&mut self, id: u64) -> Vec<u64> {
        let request = self.requests.iter_mut().find(|request| request.id == id).unwrap();
        let brought = request.extras.as_mut().and_then(|extras| extras.brought.as_mut());
        theirs(brought.and_then(|brought| brought.claim.take()).expect("it brought some"))
    }

    /// The ids that came with a reply.
    pub(super) fn ids_of_reply(&mut self, id: u64) -> Vec<u64> {
        assert!(self.poll(id).is_some(), "it was answered");
        theirs(self.claim.take().expect("it brought some"))
    }

    /// Makes a call on an object of the peer's.
    pub(super) fn call_object(&mut self, object: u64) -> Begun {
        self.begin(NewCall { object, ..new_call() }, b"x".to_vec(), None)
    }

    /// What a locked section would leave to be dropped.
    pub(super) fn drop_spent(&mut self) {
        drop(self.protocol.take_spent());
    }

    pub(super) fn objects(&mut self) -> (usize, usize) {
        let stats = self.stats();
        (stats.objects_exported, stats.objects_imported)
    }
}

fn theirs(claim: Claim) -> Vec<u64> {
    let held = claim.into_held().into_iter();
    held.map(|held| match held {
        Held::Theirs(id) => id,
        Held::Ours(_) => panic!("expected one of the peer's"),
    })
    .collect()
}

/// A pair whose client has handed one thing to its server, and the id of the call.
fn handed_over() -> (Pair, u64, Arc<AtomicBool>) {
    let mut pair = Pair::new();
    let (passed, dropped) = things(1);
    let id = placed(pair.client.hand_over(&passed, 10));
    drop(passed);
    pair.settle();
    (pair, id, dropped.into_iter().next().unwrap())
}

#[test]
fn an_object_lives_as_long_as_its_holder_has_it() {
    let (mut pair, id, dropped) = handed_over();
    assert_eq!((pair.client.objects(), pair.server.objects()), ((1, 0), (0, 1)));
    let ids = pair.server.ids_of_request(id);
    assert_eq!(ids, [1]);
    pair.server.finish(id, b"");
    pair.settle();
    assert_eq!(pair.client.reply(id), b"");
    // It outlives the call, and is called.
    let called = placed(pair.server.call_object(1));
    pair.settle();
    let request = pair.client.requests.pop().unwrap();
    assert!(request.extras.unwrap().brought.unwrap().target.unwrap().take().is_some());
    pair.client.finish(called, b"y");
    pair.settle();
    assert_eq!(pair.server.reply(called), b"y");
    pair.server.protocol.release(1);
    pair.advance(SWEEP * 2);
    pair.client.drop_spent();
    assert!(is(&dropped));
    pair.assert_at_rest();
}

#[test]
fn a_reply_hands_objects_over_in_one_frame_or_in_chunks() {
    for len in [10, 100, 3 * CHUNK] {
        let mut pair = Pair::new();
        let id = pair.client.place(vec![]);
        pair.settle();
        let (passed, dropped) = things(3);
        pair.server.return_objects(id, &passed, len);
        drop(passed);
        pair.settle();
        assert_eq!(pair.client.ids_of_reply(id), [2, 4, 6]);
        assert_eq!((pair.server.objects(), pair.client.objects()), ((3, 0), (0, 3)));
        for object in [4, 2, 6] {
            pair.client.protocol.release(object);
        }
        pair.advance(SWEEP * 2);
        pair.server.drop_spent();
        assert!(dropped.iter().all(|dropped| is(dropped)));
        pair.assert_at_rest();
    }
}

#[test]
fn a_request_in_chunks_hands_objects_over() {
    let mut pair = Pair::new();
    let (passed, _dropped) = things(2);
    let id = placed(pair.client.hand_over(&passed, 3 * CHUNK));
    pair.settle();
    assert_eq!(pair.server.ids_of_request(id), [1, 3]);
    assert_eq!(pair.server.requests[0].payload.as_slice(), bytes(3 * CHUNK, 0));
    pair.server.finish(id, b"");
    [1, 3].into_iter().for_each(|object| pair.server.protocol.release(object));
    pair.settle();
    pair.client.reply(id);
    pair.assert_at_rest();
}

#[test]
fn what_waits_hands_over_when_it_goes() {
    let mut pair = Pair::new();
    pair.client.out.room = 0;
    let (passed, dropped) = things(1);
    let Begun::Queued(ticket) = pair.client.hand_over(&passed, 10) else { panic!("there is no room") };
    assert_eq!(pair.client.objects(), (1, 0));
    pair.client.out.room = usize::MAX;
    pair.settle();
    let Waited::Placed(id) = pair.client.poll_waiting(ticket) else { panic!("there was room") };
    assert_eq!(pair.server.ids_of_request(id), [1]);
    drop(passed);
    assert!(!is(&dropped[0]));
}

#[test]
fn what_never_goes_hands_over_nothing() {
    // A call that is taken back, one whose time is over while it waits, one that the connection's end finds waiting.
    for end in 0..3 {
        let mut pair = Pair::new();
        pair.client.out.room = 0;
        let (passed, dropped) = things(1);
        let Begun::Queued(ticket) = pair.client.hand_over(&passed, 10) else { panic!("there is no room") };
        drop(passed);
        match end {
            0 => pair.client.abandon_waiting(ticket),
            1 => pair.advance(Duration::from_secs(31)),
            _ => pair.client.end(ConnectionError::PeerGone, 0),
        }
        pair.client.output();
        pair.client.drop_spent();
        assert!(is(&dropped[0]), "{end}");
        assert_eq!(pair.client.objects(), (0, 0));
    }
    // A reply that its caller does not want any more before it has gone, and one that is too long.
    let mut pair = Pair::with(Limits::default().message_len(2 * CHUNK), Limits::default());
    for len in [3 * CHUNK, 100] {
        let id = pair.client.place(vec![]);
        pair.settle();
        let (passed, dropped) = things(1);
        pair.server.out.room = 0;
        pair.server.return_objects(id, &passed, len);
        drop(passed);
        pair.client.abandon(id);
        pair.settle();
        pair.server.out.room = usize::MAX;
        pair.settle();
        pair.server.drop_spent();
        assert!(is(&dropped[0]), "{len}");
        pair.assert_at_rest();
    }
}

#[test]
fn whoever_gets_objects_owes_releases_whatever_becomes_of_the_message() {
    // Refused, because the limit of calls is reached.
    let mut pair = Pair::with(Limits::default(), Limits::default().in_flight_per_connection(1));
    pair.client.place(vec![]);
    pair.settle();
    pair.server.receive(&raw(2, 0, 3, &handles(&[1, 3]), &call_body(b""))).unwrap();
    assert_eq!(pair.server.objects(), (0, 2));
    pair.advance(SWEEP);
    assert_eq!(pair.server.objects(), (0, 0));

    // Refused because of an extension, in several chunks.
    let mut pair = Pair::new();
    let extensions = [total(2000), handles(&[1]), extension(0x8101, &[])].concat();
    pair.server.receive(&raw(2, 1, 1, &extensions, &call_body(&bytes(1500, 0)))).unwrap();
    pair.server.timeout();
    pair.server.now += SWEEP;
    pair.server.protocol.handle_timeout(pair.server.now, &mut pair.server.effects).unwrap();
    let sent = pair.server.output();
    assert!(sent.contains(&release(&[1])), "{sent:?}");

    // Cancelled when half of it is there.
    let mut pair = Pair::new();
    let (passed, dropped) = things(1);
    pair.client.out.room = 2 * CHUNK;
    let id = placed(pair.client.hand_over(&passed, 3 * CHUNK));
    drop(passed);
    pair.settle();
    pair.client.abandon(id);
    pair.client.out.room = usize::MAX;
    pair.settle();
    pair.advance(SWEEP * 2);
    pair.client.drop_spent();
    assert!(is(&dropped[0]));
    pair.assert_at_rest();

    // Above the last call of a drain.
    let mut pair = Pair::new();
    let now = pair.server.now;
    pair.server.protocol.drain(now);
    pair.settle();
    pair.server.receive(&raw(2, 0, 1, &handles(&[1]), &call_body(b""))).unwrap();
    assert_eq!(pair.server.objects(), (0, 1));
    pair.advance(SWEEP);
    assert_eq!(pair.server.objects(), (0, 0));
}

#[test]
fn replies_that_nobody_wants_are_given_back() {
    // Dropped before the reply, after it, and while it comes.
    for (when, len) in [(0, 10), (1, 10), (0, 3 * CHUNK), (1, 3 * CHUNK), (2, 3 * CHUNK)] {
        let mut pair = Pair::new();
        let id = pair.client.place(vec![]);
        pair.settle();
        let (passed, dropped) = things(1);
        if when == 0 {
            pair.client.abandon(id);
        }
        pair.server.return_objects(id, &passed, len);
        drop(passed);
        pair.flush();
        if when == 2 {
            pair.client_takes();
            pair.client.abandon(id);
        }
        pair.settle();
        if when == 1 {
            assert_eq!(pair.client.protocol.caller().fate(id), Fate::Answered);
            pair.client.abandon(id);
        }
        pair.advance(SWEEP * 2);
        pair.server.drop_spent();
        assert!(is(&dropped[0]), "{when} {len}");
        pair.assert_at_rest();
    }
}

#[test]
fn an_object_that_comes_back_is_the_very_one() {
    let (mut pair, id, dropped) = handed_over();
    assert_eq!(pair.server.ids_of_request(id), [1]);
    // The holder gives it back in a reply, lets go of it at once, and its release comes behind.
    let extras = Sent::load(None, pair.server.protocol.objects().pack_back(1));
    pair.server.protocol.release(1);
    assert_eq!(pair.server.output(), Vec::<Vec<u8>>::new());
    pair.server.requests.clear();
    pair.server.protocol.finish(id, Finish::Returned(Half::Ok, extras), Encoded::EMPTY, &mut pair.server.out);
    pair.advance(SWEEP * 2);
    assert_eq!((pair.client.objects(), pair.server.objects()), ((0, 0), (0, 0)));
    pair.client.poll(id);
    let [Held::Ours(object)] = &pair.client.claim.take().unwrap().into_held()[..] else {
        panic!("it is the client's own")
    };
    pair.client.drop_spent();
    assert!(!is(&dropped) && Arc::strong_count(object) == 1);
    pair.assert_at_rest();
}

#[test]
fn a_call_that_crosses_nothing_reaches_the_object_and_one_behind_its_end_does_not_run() {
    let (mut pair, id, _dropped) = handed_over();
    pair.server.ids_of_request(id);
    pair.server.protocol.release(1);
    // No honest holder calls what it has let go of; if one does, it is told.
    pair.advance(SWEEP);
    let object = extension(tag::OBJECT, &1u64.to_le_bytes());
    pair.client.receive(&raw(2, 0, 2, &object, &call_body(b""))).unwrap();
    assert_eq!(pair.client.output(), [raw(4, 0, 2, &[], &[0, 13])]);
    assert_eq!(pair.client.requests.len(), 0);
}

/// What can be under way at the same time about one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// The holder calls it.
    Call,
    /// The holder drops that call.
    Cancel,
    /// The holder lets go of it.
    Release,
    /// The owner revokes it.
    Gone,
    /// The holder answers the call that brought it.
    Reply,
    /// The caller of that does not want the answer any more.
    Abandon,
    /// One frame reaches either side.
    Deliver,
    /// Time passes, so that releases go.
    Sweep,
    /// The owner closes the connection, or the holder does.
    Close(Side),
}

#[test]
fn every_order_of_calls_releases_revocations_replies_and_cancels_ends_well() {
    use Move::{Abandon, Call, Cancel, Deliver, Gone, Release, Reply, Sweep};
    let moves = [Call, Cancel, Release, Gone, Reply, Abandon, Sweep];
    let mut orders = 0;
    permute(&mut moves.to_vec(), 0, &mut |order| {
        orders += 1;
        // What is delivered in between, and when, is another pattern for each; in two of three, one side closes somewhere.
        for pattern in 0..12u32 {
            let closes = [None, Some(Side::Client), Some(Side::Server)][pattern as usize / 4];
            let mut order = order.to_vec();
            if let Some(side) = closes {
                order.insert((orders + pattern as usize) % (order.len() + 1), Move::Close(side));
            }
            let mut pair = Pair::new();
            let (object, dropped) = thing();
            let passed = [Passed::Object(Arc::clone(&object))];
            let id = placed(pair.client.hand_over(&passed, 10));
            drop(passed);
            pair.settle();
            pair.server.ids_of_request(id);
            let mut state = Orders { call: None, released: false };
            for (at, step) in order.iter().enumerate() {
                state.take(&mut pair, id, &object, *step);
                if ((pattern % 4) >> (at % 2)) & 1 == 1 {
                    state.take(&mut pair, id, &object, Deliver);
                }
            }
            let context = format!("{order:?} {pattern}");
            pair.settle();
            pair.client.echo_all();
            pair.settle();
            if closes.is_some() {
                pair.settle_closed(&context);
            }
            if let Some(call) = state.call {
                match pair.server.poll(call) {
                    Some(Answer::Small { bytes: [b'x', ..], len: 1, .. }) => {}
                    Some(Answer::Failed(Failure { reason: Reason::ConnectionLost(_), .. })) if closes.is_some() => {}
                    Some(Answer::Failed(failure)) => {
                        assert_eq!(*not_executed(&failure), Reason::ObjectGone, "{context}");
                    }
                    other => panic!("{context}: {other:?}"),
                }
            }
            drop(object);
            for node in [&mut pair.client, &mut pair.server] {
                node.drop_spent();
            }
            if closes.is_some() {
                pair.client.abandon(id);
                pair.server.finish(id, b"");
                pair.assert_nothing_left(&context);
            } else {
                pair.assert_at_rest();
            }
            pair.client.drop_spent();
            assert!(is(&dropped), "{context}");
        }
    });
    assert_eq!(orders, 5040);
}

struct Orders {
    call: Option<u64>,
    released: bool,
}

impl Orders {
    fn take(&mut self, pair: &mut Pair, id: u64, object: &Arc<Object>, step: Move) {
        match step {
            // Its client is gone with the last handle.
            Move::Call if self.released => {}
            Move::Call => match pair.server.call_object(1) {
                Begun::Placed(call) => self.call = Some(call),
                Begun::Failed(reason) if matches!(*reason, Reason::ObjectGone) => {}
                Begun::Failed(reason) if pair.is_closed() && matches!(*reason, Reason::ConnectionLost(_)) => {}
                other => panic!("{other:?}"),
            },
            Move::Cancel => {
                if let Some(call) = self.call.take() {
                    pair.server.abandon(call);
                }
            }
            Move::Release => {
                self.released = true;
                pair.server.protocol.release(1);
            }
            Move::Gone => pair.client.protocol.withdraw(object),
            Move::Reply => pair.server.finish(id, b""),
            Move::Abandon => pair.client.abandon(id),
            Move::Deliver => {
                pair.flush();
                pair.server_takes();
                pair.client_takes();
                for request in std::mem::take(&mut pair.client.requests) {
                    pair.client.finish(request.id, b"x");
                }
            }
            Move::Sweep => pair.advance(SWEEP),
            Move::Close(side) => pair.close(side),
        }
        pair.end_closed();
    }
}

pub(super) fn permute<T>(moves: &mut Vec<T>, from: usize, visit: &mut impl FnMut(&[T])) {
    if from == moves.len() {
        return visit(moves);
    }
    for at in from..moves.len() {
        moves.swap(from, at);
        permute(moves, from + 1, visit);
        moves.swap(from, at);
    }
}

#[test]
fn a_revoked_object_is_told_of_and_called_no_more() {
    let (mut pair, id, _dropped) = handed_over();
    pair.server.ids_of_request(id);
    let before = placed(pair.server.call_object(1));
    pair.settle();
    let object = pair.client.protocol.objects().exported(1);
    pair.client.protocol.withdraw(&object);
    let crossing = placed(pair.server.call_object(1));
    assert!(!pair.server.protocol.is_gone(1));
    pair.settle();
    assert_eq!(pair.server.protocol.closed(1), Some(Closed::Revoked));
    assert!(pair.server.protocol.is_gone(1) && pair.server.protocol.take_changed());
    assert!(matches!(pair.server.call_object(1), Begun::Failed(reason) if matches!(*reason, Reason::ObjectGone)));
    // What has begun goes on.
    assert_eq!(*not_executed(&pair.server.failure(crossing)), Reason::ObjectGone);
    pair.client.finish(before, b"y");
    pair.settle();
    assert_eq!(pair.server.reply(before), b"y");
    // It is still owed its release.
    assert_eq!((pair.client.objects(), pair.server.objects()), ((1, 0), (0, 1)));
    pair.server.protocol.release(1);
    pair.server.finish(id, b"");
    pair.settle();
    pair.client.reply(id);
    pair.assert_at_rest();
}

#[test]
fn objects_have_a_limit_on_either_side() {
    let mut pair = Pair::with(Limits::default(), Limits::default().objects(3));
    let (passed, _dropped) = things(4);
    assert_eq!(pair.client.pack(&passed).unwrap_err(), Reason::Overloaded { limit: Limit::Objects });
    let id = placed(pair.client.hand_over(&passed[..3], 10));
    assert_eq!(pair.client.pack(&passed[3..]).unwrap_err(), Reason::Overloaded { limit: Limit::Objects });
    pair.settle();
    // They count until the release is in.
    let ids = pair.server.ids_of_request(id);
    pair.server.protocol.release(ids[0]);
    assert_eq!(pair.client.pack(&passed[3..]).unwrap_err(), Reason::Overloaded { limit: Limit::Objects });
    pair.advance(SWEEP * 2);
    assert!(pair.client.pack(&passed[3..]).is_ok());
    // Whoever does not care is no honest peer.
    let error = violation(pair.server.receive(&raw(2, 0, 9, &handles(&[101, 103]), &call_body(b""))));
    assert_eq!(error, ProtocolError::TooManyObjects { max: 3 });
    let (many, _dropped) = things(129);
    let reason = Reason::Overloaded { limit: Limit::ObjectsPerMessage };
    assert_eq!(Pair::new().client.pack(&many).unwrap_err(), reason);
}

#[test]
fn what_goes_beside_a_payload_fits_the_shortest_frame_that_there_may_be() {
    // Of a peer that takes so many bytes in a frame, whatever they are.
    const SHORTEST: usize = 4096;
    let open = || {
        let mut node = Pair::apart(Limits::default(), Limits::default(), false).client;
        let mut hello = hello(4, Some(&(SHORTEST as u64).to_le_bytes()));
        hello.extend(extension(12, &1024_u32.to_le_bytes()));
        hello[0] += 8;
        node.output();
        node.receive(&hello).unwrap();
        node
    };
    let mut metadata = Metadata::new();
    metadata.insert("long", "x".repeat(METADATA_LEN_MAX - 8)).unwrap();
    assert_eq!(metadata.encoded_len(), METADATA_LEN_MAX);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let call = || Sent::with_call(&metadata, Some(trace), Some(CallId::from_u128(7)), Priority::High, true);
    let mut refused = Vec::new();
    for len in [0, 500, 4000] {
        for number in [1, 16, 17, 80, 128] {
            for replies in [false, true] {
                let mut node = open();
                let (passed, _) = things(number);
                let extras = if replies { Sent::with_reply(&metadata) } else { Some(Arc::new(call())) };
                let beside = Sent::bytes(&extras).len();
                let cargo = match node.protocol.pack(&passed, beside, len) {
                    Ok(cargo) => cargo,
                    Err(Reason::TooLarge { len: needed, max: 4096 }) if needed > 4096 => {
                        refused.push((len, number, replies));
                        assert_eq!((node.stats().objects_exported, node.output().len()), (0, 0));
                        continue;
                    }
                    Err(reason) => panic!("{reason}"),
                };
                let extras = Sent::load(extras, cargo);
                if replies {
                    node.receive(&raw(2, 0, 2, &[], &call_body(b""))).unwrap();
                    let finish = Finish::Returned(Half::Ok, extras);
                    node.protocol.finish(2, finish, Encoded::There(&bytes(len, 0)), &mut node.out);
                } else {
                    let streams = StreamCounts { given: 3, returned: 1 };
                    placed(node.begin(NewCall { extras, streams, hops: 3, ..new_call() }, bytes(len, 0), None));
                }
                let frames = node.output();
                assert!(frames.iter().all(|frame| frame.len() <= SHORTEST), "{len} bytes, {number} objects");
            }
        }
    }
    // They would have fit only just, or not.
    assert!(refused.contains(&(500, 128, false)) && refused.contains(&(4000, 80, true)), "{refused:?}");
    assert!(refused.iter().all(|(len, number, _)| *number >= 16 && *len + 8 * number > 1000), "{refused:?}");
}

#[test]
fn a_peer_that_knows_no_objects_gets_none() {
    let now = Instant::now();
    let mut node = Node::new(Side::Server, Limits::default(), CHUNK, false, now);
    let mut other = Node::new(Side::Client, Limits::default(), CHUNK, false, now);
    let mut hello = other.output().remove(0);
    // Its last field, but for the length of the frame.
    hello.truncate(hello.len() - 8);
    let len = hello.len() as u32 - 8;
    hello[..4].copy_from_slice(&len.to_le_bytes());
    node.receive(&hello).unwrap();
    let (passed, _dropped) = things(1);
    assert_eq!(node.pack(&passed).unwrap_err(), Reason::UnknownExtension(tag::HANDLES));
}

#[test]
fn releases_go_together_and_at_once_where_they_are_many() {
    let mut pair = Pair::new();
    let (passed, _dropped) = things(100);
    let id = placed(pair.client.hand_over(&passed, 10));
    pair.settle();
    let ids = pair.server.ids_of_request(id);
    for object in &ids[..63] {
        pair.server.protocol.release(*object);
        assert_eq!(pair.server.output().len(), 0);
    }
    assert!(pair.server.protocol.needs_sweep());
    pair.server.protocol.release(ids[63]);
    let sent = pair.server.output();
    assert_eq!((sent.len(), kind_and_id(&sent[0]).0), (1, Kind::Release));
    pair.client.receive(&sent[0]).unwrap();
    assert_eq!(pair.client.objects(), (36, 0));
    // Without room they wait where they are, and go when there is some.
    pair.server.out.room = 0;
    ids[64..].iter().for_each(|object| pair.server.protocol.release(*object));
    pair.advance(SWEEP);
    assert_eq!(pair.server.objects(), (0, 36));
    pair.server.out.room = usize::MAX;
    pair.settle();
    assert_eq!((pair.client.objects(), pair.server.objects()), ((0, 0), (0, 0)));
}

#[test]
fn no_honest_peer_names_objects_that_it_cannot_have() {
    let object = |id: u64| extension(tag::OBJECT, &id.to_le_bytes());
    let call = |extensions: &[u8]| raw(2, 0, 2, extensions, &call_body(b""));
    let hostile: &[(Vec<u8>, ProtocolError)] = &[
        // One that was never handed over, one of its own, none.
        (call(&object(3)), ProtocolError::UnknownObject(3)),
        (call(&object(2)), ProtocolError::UnknownObject(2)),
        (call(&object(0)), ProtocolError::UnknownObject(0)),
        (release(&[3]), ProtocolError::UnknownObject(3)),
        (release(&[2]), ProtocolError::UnknownObject(2)),
        // Twice.
        (release(&[1, 1]), ProtocolError::UnknownObject(1)),
        (release(&[]), ProtocolError::Frame(FrameError::Truncated { what: "RELEASE" })),
        (raw(15, 0, 0, &[], &[0; 7]), ProtocolError::Frame(FrameError::Truncated { what: "RELEASE" })),
        // Gives back what it has not; hands over the same twice, or none at all.
        (call(&handles(&[3])), ProtocolError::UnknownObject(3)),
        (call(&handles(&[2, 2])), ProtocolError::Unexpected("object that is here already")),
        (call(&handles(&[0])), ProtocolError::UnknownObject(0)),
        (call(&[handles(&[2]), handles(&[4])].concat()), ProtocolError::Unexpected("second HANDLES")),
        (
            call(&extension(tag::HANDLES, &[0; 9])),
            ProtocolError::Frame(FrameError::Truncated { what: "list of objects" }),
        ),
        (call(&extension(tag::OBJECT, &[1])), ProtocolError::Frame(FrameError::Truncated { what: "id of an object" })),
        // Revokes what is this side's.
        (raw(16, 0, 1, &[], &[]), ProtocolError::UnknownObject(1)),
        (raw(16, 0, 0, &[], &[]), ProtocolError::UnknownObject(0)),
        // Or what was never there. What is not there any more may be: that crosses its release, and has a test with all orders.
        (raw(16, 0, 2, &[], &[]), ProtocolError::UnknownObject(2)),
        (raw(16, 0, 2, &object(2), &[]), ProtocolError::Frame(FrameError::UnknownExtension(tag::OBJECT))),
    ];
    for (frame, expected) in hostile {
        let (mut pair, _, _dropped) = handed_over();
        assert_eq!(violation(pair.client.receive(frame)), *expected, "{frame:?}");
        pair.client.end(ConnectionError::PeerGone, 0);
        assert_eq!(pair.client.objects(), (0, 0));
    }
}

#[test]
fn an_object_that_was_not_handed_over_yet_is_nobodys_to_name() {
    let names = [
        raw(2, 0, 2, &extension(tag::OBJECT, &1_u64.to_le_bytes()), &call_body(b"x")),
        release(&[1]),
        raw(2, 0, 2, &handles(&[1]), &call_body(b"x")),
    ];
    for name in names {
        let mut pair = Pair::new();
        let (passed, dropped) = things(1);
        // The call that hands it over finds no room.
        pair.client.out.room = 0;
        assert!(matches!(pair.client.hand_over(&passed, 10), Begun::Queued(_)));
        drop(passed);
        assert_eq!(violation(pair.client.receive(&name)), ProtocolError::UnknownObject(1));
        pair.client.drop_spent();
        assert!(!is(&dropped[0]));
        // It finds some, in several frames, and with the first of them the object is the peer's.
        let mut pair = Pair::new();
        let (passed, _) = things(1);
        pair.client.out.room = CHUNK + 200;
        placed(pair.client.hand_over(&passed, 3 * CHUNK));
        assert_eq!(pair.client.output().len(), 1);
        pair.client.receive(&name).unwrap();
    }
}

#[test]
fn objects_are_charged_to_the_server() {
    let limits = Limits::default().memory_total(1000);
    let mut pair = Pair::with(Limits::default(), limits);
    let (passed, dropped) = things(4);
    let id = placed(pair.client.hand_over(&passed, 10));
    drop(passed);
    pair.settle();
    let reason = Reason::Overloaded { limit: Limit::MemoryTotal };
    assert_eq!(*not_executed(&pair.client.failure(id)), reason);
    pair.advance(SWEEP * 2);
    pair.client.drop_spent();
    assert!(dropped.iter().all(|dropped| is(dropped)));
    let (passed, _dropped) = things(3);
    let id = placed(pair.client.hand_over(&passed, 10));
    pair.settle();
    assert_eq!(pair.server.share.bytes(), 768);
    for object in pair.server.ids_of_request(id) {
        pair.server.protocol.release(object);
    }
    pair.server.finish(id, b"");
    pair.settle();
    pair.client.reply(id);
    pair.assert_at_rest();
}

#[test]
fn the_end_of_the_connection_lets_go_of_everything() {
    let (mut pair, id, dropped) = handed_over();
    pair.server.return_objects(id, &things(1).0, 10);
    pair.settle();
    for node in [&mut pair.client, &mut pair.server] {
        node.end(ConnectionError::PeerGone, 0);
        node.drop_spent();
        assert_eq!(node.objects(), (0, 0));
        assert!(node.pack(&things(1).0).is_err());
    }
    assert!(is(&dropped));
    assert_eq!(pair.server.share.bytes(), 0);
    // Handles of either side that go later have nothing to give back.
    pair.server.protocol.release(1);
    assert!(pair.server.protocol.is_gone(1));
    assert_eq!(pair.server.protocol.closed(1), Some(Closed::Connection(ConnectionError::PeerGone)));
    assert_eq!(pair.server.output().len(), 0);
}

#[test]
fn a_call_has_come_through_so_many_handlers_at_most() {
    let mut pair = Pair::with(Limits::default(), Limits::default().hops(2));
    for hops in [0, 1, 2, 3, 255] {
        let id = placed(pair.client.begin(NewCall { hops, ..new_call() }, vec![], None));
        pair.settle();
        if hops > 2 {
            let reason = Reason::Overloaded { limit: Limit::Hops };
            assert_eq!(*not_executed(&pair.client.failure(id)), reason);
        } else {
            assert_eq!(pair.server.requests[0].hops, hops);
            pair.server.finish(id, b"");
            pair.settle();
            pair.client.reply(id);
        }
    }
    // Who knows no count ignores it, and one of another length says nothing.
    pair.server.receive(&raw(2, 0, 99, &extension(tag::HOPS, &[9, 9]), &call_body(b""))).unwrap();
    assert_eq!(pair.server.requests[0].hops, 0);
}
