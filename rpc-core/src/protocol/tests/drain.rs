//! GOAWAY in two steps.

use super::*;

impl Node {
    fn drain(&mut self) {
        self.protocol.drain(self.now);
    }
}

fn shutting_down() -> Reason {
    Reason::ShuttingDown { retry_after: None }
}

#[test]
fn calls_between_the_announcement_and_the_last_id_are_accepted() {
    let mut pair = Pair::new();
    let before = pair.client.place(b"before".to_vec());
    pair.settle();
    pair.server.drain();
    pair.flush();
    assert_eq!(pair.client.coming(), [(Kind::GoAway, 0), (Kind::Ping, 0)]);
    // The client has not read it yet.
    let crossing = pair.client.place(b"crossing".to_vec());
    pair.settle();
    assert!(pair.client.protocol.peer_draining());
    assert!(
        matches!(pair.client.begin(new_call(), vec![], None), Begun::Failed(reason) if matches!(*reason, Reason::ShuttingDown { .. }))
    );
    assert!(!pair.server.protocol.drained());
    pair.server.echo_all();
    assert!(pair.server.protocol.drained());
    pair.settle();
    assert_eq!(pair.client.reply(before), b"before");
    assert_eq!(pair.client.reply(crossing), b"crossing");
    pair.assert_at_rest();
}

#[test]
fn calls_above_the_last_id_were_not_executed() {
    let mut pair = Pair::new();
    let accepted = pair.client.place(vec![]);
    pair.settle();
    pair.server.drain();
    pair.server.protocol.conclude_drain();
    let count = Count::new();
    let small = placed(pair.client.begin(new_call(), bytes(500, 0), count.waker()));
    let large = placed(pair.client.begin(new_call(), bytes(3 * CHUNK, 0), count.waker()));
    let dropped = pair.client.place(bytes(3 * CHUNK, 0));
    let oneway = placed(pair.client.begin(NewCall { oneway: true, ..new_call() }, bytes(99, 0), None));
    assert!(oneway > dropped);
    pair.client.abandon(dropped);
    pair.settle();
    assert_eq!(count.woken(), 2);
    assert_eq!(pair.server.requests.len(), 1);
    for id in [small, large] {
        assert_eq!(*not_executed(&pair.client.failure(id)), shutting_down());
    }
    pair.server.finish(accepted, b"done");
    pair.settle();
    assert_eq!(pair.client.reply(accepted), b"done");
    pair.assert_at_rest();
}

#[test]
fn calls_that_wait_are_told_at_the_announcement() {
    let limits = Limits::default().in_flight_per_connection(1).memory_out(100);
    let mut pair = Pair::with(limits.clone(), limits);
    let first = pair.client.place(vec![]);
    let (queued, starved) = (Count::new(), Count::new());
    let Begun::Queued(ticket) = pair.client.begin(new_call(), bytes(90, 0), queued.waker()) else { panic!("one slot") };
    assert!(matches!(pair.client.begin(new_call(), bytes(90, 0), starved.waker()), Begun::Starved));
    pair.server.drain();
    pair.settle();
    assert_eq!((queued.woken(), starved.woken()), (1, 1));
    let Waited::Failed(failure) = pair.client.poll_waiting(ticket) else { panic!("the peer is going") };
    assert_eq!(*not_executed(&failure), shutting_down());
    pair.server.finish(first, b"");
    pair.settle();
    pair.client.reply(first);
    pair.assert_at_rest();
}

#[test]
fn a_half_received_call_counts_as_accepted() {
    let mut pair = Pair::new();
    let id = pair.client.place(bytes(3 * CHUNK, 0));
    pair.client.out.room = 100;
    pair.flush();
    pair.server_takes();
    pair.server.drain();
    pair.settle();
    assert!(!pair.server.protocol.drained());
    pair.client.out.room = usize::MAX;
    pair.settle();
    pair.server.finish(id, b"done");
    pair.settle();
    assert_eq!(pair.client.reply(id), b"done");
    assert!(pair.server.protocol.drained());
    pair.assert_at_rest();
}

#[test]
fn the_other_direction_still_works() {
    let mut pair = Pair::new();
    let outer = pair.client.place(vec![]);
    pair.settle();
    pair.server.drain();
    pair.settle();
    let inner = pair.server.place(b"back".to_vec());
    pair.settle();
    pair.client.echo_all();
    pair.settle();
    assert_eq!(pair.server.reply(inner), b"back");
    pair.server.finish(outer, b"");
    pair.settle();
    pair.client.reply(outer);
    assert!(pair.server.protocol.drained());
    pair.assert_at_rest();
}

#[test]
fn a_drain_without_a_pong_gives_up_after_a_second() {
    let mut pair = Pair::new();
    pair.server.drain();
    pair.client.out.room = 0;
    pair.advance(Duration::from_secs(1) - Duration::from_nanos(1));
    assert!(!pair.server.protocol.drained());
    pair.advance(Duration::from_nanos(1));
    assert!(pair.server.protocol.drained());
    pair.client.out.room = usize::MAX;
    pair.assert_at_rest();
}

#[test]
fn draining_twice_or_from_both_ends_is_draining() {
    let mut pair = Pair::new();
    pair.server.drain();
    pair.client.drain();
    pair.settle();
    pair.server.drain();
    pair.settle();
    assert!(pair.server.protocol.drained() && pair.client.protocol.drained());
    for node in [&mut pair.client, &mut pair.server] {
        assert!(
            matches!(node.begin(new_call(), vec![], None), Begun::Failed(reason) if matches!(*reason, Reason::ShuttingDown { .. }))
        );
    }
    pair.assert_at_rest();
}

#[test]
fn a_drain_during_the_handshake_follows_it() {
    let mut pair = Pair::apart(Limits::default(), Limits::default(), false);
    pair.server.drain();
    pair.settle();
    assert!(pair.client.protocol.peer_draining() && pair.server.protocol.drained());
    assert!(
        matches!(pair.client.begin(new_call(), vec![], None), Begun::Failed(reason) if matches!(*reason, Reason::ShuttingDown { .. }))
    );
}

#[test]
fn retry_after_reaches_the_caller() {
    let mut pair = Pair::new();
    let mut body = vec![0];
    body.extend_from_slice(&1500u32.to_le_bytes());
    body.extend_from_slice(&[0; 8]);
    pair.client.receive(&raw(13, 0, 0, &[], &body)).unwrap();
    match pair.client.begin(new_call(), vec![], None) {
        Begun::Failed(reason) => {
            let Reason::ShuttingDown { retry_after } = *reason else { panic!("{reason}") };
            assert_eq!(retry_after, Some(Duration::from_millis(1500)));
        }
        other => panic!("{other:?}"),
    }
    violation(pair.client.receive(&raw(13, 0, 0, &[], &body[..12])));
}
