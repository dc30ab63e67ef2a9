//! PING, PONG and silence.

use super::*;

fn quick() -> Limits {
    Limits::default().ping_interval(100 * MS).ping_timeout(50 * MS)
}

#[test]
fn a_ping_is_answered_with_its_own_number() {
    let mut pair = Pair::new();
    pair.server.receive(&raw(11, 0, 0, &[], &7u64.to_le_bytes())).unwrap();
    pair.server.receive(&raw(11, 0, 0, &[], &9u64.to_le_bytes())).unwrap();
    assert_eq!(pair.server.output(), [raw(12, 0, 0, &[], &9u64.to_le_bytes())], "the latest is enough");
}

#[test]
fn a_peer_that_answers_lives_on() {
    let mut pair = Pair::with(quick(), quick());
    let id = pair.client.place(vec![]);
    pair.advance(Duration::from_secs(5));
    assert_eq!((&pair.client.error, &pair.server.error), (&None, &None));
    assert!(pair.server.stats().frames_received > 20);
    pair.server.finish(id, b"");
    pair.settle();
    pair.client.reply(id);
    pair.assert_at_rest();
}

#[test]
fn silence_while_a_call_is_in_flight_ends_the_connection() {
    let mut pair = Pair::with(quick(), quick());
    pair.client.place(vec![]);
    pair.server.out.room = 0;
    pair.advance(SWEEP);
    // The handshake was heard; what counts is the silence since the last look.
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.client.error, Some(ConnectionError::Silent(150 * MS)));
}

#[test]
fn silence_is_not_noticed_early() {
    let mut pair = Pair::with(quick(), quick());
    pair.client.place(vec![]);
    pair.server.out.room = 0;
    pair.advance(150 * MS - Duration::from_nanos(1));
    assert_eq!(pair.client.error, None);
    pair.advance(SWEEP + Duration::from_nanos(1));
    assert_eq!(pair.client.error, Some(ConnectionError::Silent(150 * MS)));
}

#[test]
fn any_frame_counts_as_life() {
    let mut pair = Pair::with(quick(), quick());
    pair.client.place(vec![]);
    pair.server.out.room = 0;
    for _ in 0..50 {
        pair.advance(90 * MS);
        // Of a kind nobody knows.
        pair.client.receive(&raw(0x90, 0, 0, &[], &[])).unwrap();
    }
    assert_eq!(pair.client.error, None);
}

#[test]
fn an_idle_connection_that_cannot_vanish_silently_has_no_timeout() {
    let mut pair = Pair::with(quick(), quick());
    assert_eq!((pair.client.timeout(), pair.server.timeout()), (None, None));
    let id = pair.client.place(vec![]);
    pair.settle();
    pair.server.finish(id, b"");
    pair.settle();
    pair.client.reply(id);
    pair.advance(Duration::from_secs(1));
    assert_eq!((pair.client.timeout(), pair.server.timeout()), (None, None));
}

#[test]
fn an_idle_connection_over_a_network_is_probed_from_both_ends() {
    let mut pair = Pair::apart(quick(), quick(), true);
    pair.settle();
    pair.advance(Duration::from_secs(1));
    assert_eq!((&pair.client.error, &pair.server.error), (&None, &None));
    pair.client.out.room = 0;
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.server.error, Some(ConnectionError::Silent(150 * MS)));
}

#[test]
fn a_pong_nobody_asked_for_is_ignored() {
    let mut pair = Pair::new();
    pair.client.receive(&raw(12, 0, 0, &[], &[0xff; 8])).unwrap();
    pair.client.receive(&raw(12, 0, 0, &[], &[1; 8])).unwrap();
    violation(pair.client.receive(&raw(12, 0, 0, &[], &[1; 7])));
    violation(pair.client.receive(&raw(11, 0, 0, &[], &[1; 9])));
}
