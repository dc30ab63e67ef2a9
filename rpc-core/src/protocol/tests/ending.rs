//! CLOSE, and the end of a connection from whatever cause.

use super::*;

fn lost() -> Reason {
    Reason::ConnectionLost(ConnectionError::PeerGone)
}

#[test]
fn what_has_not_been_written_was_not_executed() {
    let mut pair = Pair::new();
    let written = pair.client.place(b"x".to_vec());
    let position = pair.client.out.position();
    let unwritten = pair.client.place(b"y".to_vec());
    let half = pair.client.place(bytes(3 * CHUNK, 0));
    let count = Count::new();
    let oneway = placed(pair.client.begin(NewCall { oneway: true, ..new_call() }, vec![], count.waker()));
    pair.client.abandon(oneway);
    pair.client.end(ConnectionError::PeerGone, position);
    assert_eq!(*maybe_executed(&pair.client.failure(written)), lost());
    assert_eq!(*not_executed(&pair.client.failure(unwritten)), lost());
    assert_eq!(*not_executed(&pair.client.failure(half)), lost());
    assert!(pair.client.stats().is_at_rest());
    assert_eq!(pair.client.timeout(), None);
}

#[test]
fn a_call_whose_last_byte_is_missing_was_not_executed() {
    let mut pair = Pair::new();
    let id = pair.client.place(bytes(3 * CHUNK, 0));
    pair.flush();
    let position = pair.client.out.position();
    pair.client.end(ConnectionError::PeerGone, position - 1);
    assert_eq!(*not_executed(&pair.client.failure(id)), lost());
}

#[test]
fn a_half_sent_call_was_not_executed_whatever_is_written() {
    let mut pair = Pair::new();
    let id = pair.client.place(bytes(3 * CHUNK, 0));
    pair.client.end(ConnectionError::ClosedHere, u64::MAX - 1);
    not_executed(&pair.client.failure(id));
}

#[test]
fn everybody_who_waits_is_told() {
    let limits = Limits::default().in_flight_per_connection(1).memory_out(100);
    let mut pair = Pair::with(limits.clone(), limits);
    let counts: Vec<_> = (0..3).map(|_| Count::new()).collect();
    let id = placed(pair.client.begin(new_call(), vec![], counts[0].waker()));
    let Begun::Queued(ticket) = pair.client.begin(new_call(), bytes(90, 0), counts[1].waker()) else {
        panic!("one slot")
    };
    assert!(matches!(pair.client.begin(new_call(), bytes(90, 0), counts[2].waker()), Begun::Starved));
    pair.client.end(ConnectionError::PeerGone, u64::MAX - 1);
    assert!(counts.iter().all(|count| count.woken() == 1), "{counts:?}");
    assert_eq!(*maybe_executed(&pair.client.failure(id)), lost());
    let Waited::Failed(failure) = pair.client.poll_waiting(ticket) else { panic!("it is over") };
    assert_eq!(*not_executed(&failure), lost());
    assert!(
        matches!(pair.client.begin(new_call(), vec![], None), Begun::Failed(reason) if matches!(*reason, Reason::ConnectionLost(_)))
    );
    // Once is enough.
    pair.client.end(ConnectionError::ClosedHere, 0);
    assert_eq!(pair.client.protocol.ended(), Some(&ConnectionError::PeerGone));
    assert!(pair.client.stats().is_at_rest());
}

#[test]
fn an_answer_that_has_come_survives_the_end() {
    let mut pair = Pair::new();
    let ids: Vec<u64> = (0..3).map(|_| pair.client.place(vec![])).collect();
    pair.settle();
    pair.server.finish(ids[0], b"small");
    pair.server.finish(ids[1], &bytes(3 * CHUNK, 0));
    pair.settle();
    pair.server.finish(ids[2], &bytes(3 * CHUNK, 0));
    pair.flush();
    pair.client_takes();
    pair.client.end(ConnectionError::PeerGone, u64::MAX - 1);
    assert_eq!(pair.client.reply(ids[0]), b"small");
    assert_eq!(pair.client.reply(ids[1]).len(), 3 * CHUNK);
    assert_eq!(*maybe_executed(&pair.client.failure(ids[2])), lost());
    assert!(pair.client.stats().is_at_rest());
}

#[test]
fn handlers_that_outlive_their_connection_are_counted_until_they_are_gone() {
    let mut pair = Pair::new();
    let running = pair.client.place(bytes(500, 0));
    let replying = pair.client.place(bytes(500, 0));
    let half = pair.client.place(bytes(3 * CHUNK, 0));
    pair.client.out.room = 0;
    pair.settle();
    pair.server.out.room = 0;
    pair.server.finish(replying, &bytes(500, 0));
    assert_eq!(pair.server.share.calls(), 3);
    pair.server.end(ConnectionError::PeerGone, 0);
    assert_eq!((pair.server.share.calls(), pair.server.share.bytes()), (1, 500));
    assert_eq!(pair.server.stats().handlers_in_flight, 1);
    pair.server.finish(running, b"too late");
    pair.server.finish(half, b"never began");
    assert_eq!((pair.server.share.calls(), pair.server.share.bytes()), (0, 0));
    assert!(pair.server.stats().is_at_rest());
    assert!(pair.server.output().is_empty());
}

#[test]
fn close_is_said_after_everything_that_is_owed() {
    let mut pair = Pair::new();
    let id = pair.client.place(bytes(3 * CHUNK, 0));
    pair.client.protocol.close(CloseReason::Normal);
    pair.client.protocol.close(CloseReason::Timeout);
    pair.flush();
    let kinds: Vec<Kind> = pair.server.coming().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::Call, Kind::Chunk, Kind::Chunk, Kind::Close]);
    pair.settle();
    assert_eq!(pair.server.error, Some(ConnectionError::ClosedByPeer(CloseReason::Normal)));
    assert_eq!(pair.server.requests[0].id, id);
}

#[test]
fn nothing_goes_after_close() {
    let mut pair = Pair::new();
    let (replied, failed) = (pair.client.place(b"x".to_vec()), pair.client.place(b"y".to_vec()));
    pair.settle();
    pair.server.protocol.close(CloseReason::Protocol);
    let kinds = |frames: Vec<Vec<u8>>| frames.iter().map(|frame| frame[4]).collect::<Vec<u8>>();
    assert_eq!(kinds(pair.server.output()), [Kind::Close as u8]);
    // Handlers that end between CLOSE and the end of the connection, on another thread.
    pair.server.finish(replied, b"too late");
    pair.server.finish_with(failed, Failure::maybe_executed(Reason::Cancelled));
    assert!(pair.server.output().is_empty());
    pair.server.end(ConnectionError::ClosedHere, u64::MAX - 1);
    assert!(pair.server.output().is_empty());
    assert!(pair.server.stats().is_at_rest());
    assert_eq!((pair.server.share.calls(), pair.server.share.bytes()), (0, 0));
}

#[test]
fn every_close_reason_survives_the_wire() {
    for code in 0..=255 {
        let mut pair = Pair::new();
        let Err(ConnectionError::ClosedByPeer(reason)) = pair.client.receive(&raw(14, 0, 0, &[], &[code])) else {
            panic!("CLOSE ends a connection");
        };
        assert_eq!(reason.to_wire(), code);
    }
    let mut pair = Pair::new();
    violation(pair.client.receive(&raw(14, 0, 0, &[], &[])));
    violation(pair.client.receive(&raw(14, 0, 0, &[], &[0, 0])));
}

#[test]
fn the_rest_of_a_lent_call_does_not_follow_close() {
    let mut pair = Pair::new();
    let payload = bytes(3 * CHUNK, 0);
    let whole = || Parts::from(payload.as_slice());
    let (begun, _) =
        pair.client.protocol.begin(&new_call(), whole(), false, &mut None, &mut None, &mut pair.client.out);
    let Attempt::Lent(id) = begun else { panic!("it is longer than a chunk") };
    pair.client.protocol.close(CloseReason::Normal);
    pair.flush();
    assert_eq!(
        pair.client.protocol.feed(id, whole(), false, &mut NewWaker::default(), &mut pair.client.out),
        Fed::Over
    );
    pair.flush();
    assert_eq!(pair.server.coming(), [(Kind::Call, id), (Kind::Close, 0)]);
    pair.client.end(ConnectionError::ClosedHere, u64::MAX - 1);
    not_executed(&pair.client.failure(id));
}

#[test]
fn a_call_made_after_close_was_said_does_not_follow_it() {
    let mut pair = Pair::new();
    pair.client.protocol.close(CloseReason::Normal);
    pair.flush();
    let ticket = pair.client.queue(b"late".to_vec());
    pair.flush();
    assert_eq!(pair.server.coming(), [(Kind::Close, 0)]);
    pair.client.end(ConnectionError::ClosedHere, u64::MAX - 1);
    let Waited::Failed(failure) = pair.client.poll_waiting(ticket) else { panic!("it is over") };
    assert_eq!(*not_executed(&failure), Reason::ConnectionLost(ConnectionError::ClosedHere));
}
