//! HELLO: versions, limits, codecs, features, time.

use super::*;

fn apart() -> Pair {
    Pair::apart(Limits::default(), Limits::default(), false)
}

/// An honest HELLO with one field replaced, or left out.
pub(super) fn hello(tag: u16, value: Option<&[u8]>) -> Vec<u8> {
    let mut body = b"TRNK\x01\x00".to_vec();
    let defaults: [(u16, Vec<u8>); 11] = [
        (1, vec![0; 8]),
        (2, vec![0; 8]),
        (3, 4096u64.to_le_bytes().to_vec()),
        (4, 16384u64.to_le_bytes().to_vec()),
        (5, 8u32.to_le_bytes().to_vec()),
        (6, 8192u64.to_le_bytes().to_vec()),
        (7, 8192u64.to_le_bytes().to_vec()),
        (8, vec![1]),
        (9, vec![0; 16]),
        (10, 4096u64.to_le_bytes().to_vec()),
        (11, 8192u64.to_le_bytes().to_vec()),
    ];
    for (known, default) in defaults {
        match value {
            None if known == tag => {}
            Some(value) if known == tag => body.extend(extension(tag, value)),
            _ => body.extend(extension(known, &default)),
        }
    }
    if let (12.., Some(value)) = (tag, value) {
        body.extend(extension(tag, value));
    }
    raw(1, 0, 0, &[], &body)
}

fn handshake_error(handled: Result<(), ConnectionError>) -> HandshakeError {
    match violation(handled) {
        ProtocolError::Handshake(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_client_speaks_first_and_both_are_open() {
    let mut pair = apart();
    pair.flush();
    assert_eq!((pair.server.inbox.len(), pair.client.inbox.len()), (1, 0));
    pair.server_takes();
    assert!(pair.server.protocol.is_open() && !pair.client.protocol.is_open());
    pair.settle();
    assert!(pair.client.protocol.is_open());
    assert!(pair.client.protocol.take_changed() && pair.server.protocol.take_changed());
    assert!(!pair.client.protocol.take_changed());
}

#[test]
fn nothing_goes_before_the_servers_hello() {
    let mut pair = apart();
    pair.flush();
    pair.server_takes();
    // The machine is open the moment the peer's HELLO is in.
    let id = pair.server.place(b"at once".to_vec());
    pair.flush();
    assert_eq!(pair.client.coming(), [(Kind::Hello, 0), (Kind::Call, id)]);
    let mut pair = apart();
    pair.flush();
    pair.server_takes();
    pair.server.receive(&raw(2, 0, 1, &[], &call_body(b"x"))).unwrap();
    pair.server.finish(1, b"y");
    pair.flush();
    assert_eq!(pair.client.coming(), [(Kind::Hello, 0), (Kind::Reply, 1)]);
}

#[test]
fn another_major_version_is_named_on_both_sides() {
    let mut pair = apart();
    let mut theirs = hello(0, None);
    theirs[20] = 9;
    assert_eq!(handshake_error(pair.server.receive(&theirs)), HandshakeError::Version { ours: 1, theirs: 9 });
    // The server says its own version all the same, and then why it closes.
    pair.server.protocol.close(CloseReason::Protocol);
    let frames = pair.server.output();
    assert_eq!(frames.iter().map(|frame| kind_and_id(frame).0).collect::<Vec<_>>(), [Kind::Hello, Kind::Close]);
    assert_eq!(&frames[0][16..22], b"TRNK\x01\x00");
    assert_eq!(handshake_error(pair.client.receive(&theirs)), HandshakeError::Version { ours: 1, theirs: 9 });
}

#[test]
fn another_minor_version_is_fine() {
    let mut pair = apart();
    let mut theirs = hello(0, None);
    theirs[21] = 200;
    pair.server.receive(&theirs).unwrap();
    assert!(pair.server.protocol.is_open());
}

#[test]
fn what_is_not_trunkline_is_named_so() {
    let not = [
        raw(1, 0, 0, &[], b"HTTP/1"),
        raw(1, 0, 0, &[], b""),
        raw(1, 0, 1, &[], b"TRNK\x01\x00"),
        raw(2, 0, 1, &[], &call_body(b"x")),
        raw(11, 0, 0, &[], &[0; 8]),
        raw(0x80, 0, 0, &[], &[]),
        raw(0, 0, 0, &[], &[]),
        raw(1, 8, 0, &[], b"TRNK\x01\x00"),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0; 16],
    ];
    for frame in not {
        for node in [apart().client, apart().server] {
            let mut node = node;
            assert_eq!(handshake_error(node.receive(&frame)), HandshakeError::NotTrunkline);
        }
    }
}

#[test]
fn a_malformed_hello_is_refused() {
    let whole = hello(0, None);
    // The instance and what belongs to streams may be missing.
    for cut in (22..whole.len()).filter(|cut| ![24, 44].contains(&(whole.len() - cut))) {
        let body = &whole[16..cut];
        let handled = apart().server.receive(&raw(1, 0, 0, &[], body));
        assert!(handled.is_err(), "cut at {cut}");
    }
    assert_eq!(handshake_error(apart().server.receive(&raw(1, 0, 0, &[], b"TRNK\x01"))), HandshakeError::Malformed);
    for tag in [1, 2, 3, 4, 5, 6, 7, 9, 10, 11] {
        let handled = apart().server.receive(&hello(tag, Some(&[1, 2, 3])));
        assert_eq!(handshake_error(handled), HandshakeError::Malformed);
    }
    // A field that may be ignored, and one that may not.
    apart().server.receive(&hello(99, Some(b"later"))).unwrap();
    assert_eq!(handshake_error(apart().server.receive(&hello(0x8001, Some(&[])))), HandshakeError::Malformed);
}

#[test]
fn a_hello_has_at_most_4_kib() {
    let base = hello(0, None).len() + 4;
    apart().server.receive(&hello(99, Some(&vec![0; 4096 - base]))).unwrap();
    let handled = apart().server.receive(&hello(99, Some(&vec![0; 4097 - base])));
    assert_eq!(handshake_error(handled), HandshakeError::Malformed);
}

#[test]
fn impossible_limits_are_refused() {
    let eight = |value: u64| value.to_le_bytes().to_vec();
    let impossible = [
        (3, eight(0)),
        (3, eight(8193)),
        (3, eight(u64::MAX)),
        (4, eight(0)),
        (4, eight(4095)),
        (5, vec![0; 4]),
        (6, eight(0)),
        (6, eight(4095)),
        (6, eight((1 << 48) + 1)),
        (6, eight(u64::MAX)),
        (7, eight(0)),
        (7, eight(4095)),
        (7, eight(u64::MAX)),
        (10, eight(u64::MAX)),
        (11, eight(1)),
        (11, eight(u64::MAX)),
    ];
    for (tag, value) in impossible {
        let handled = apart().server.receive(&hello(tag, Some(&value)));
        assert!(matches!(handshake_error(handled), HandshakeError::Limit(_)), "{tag} {value:?}");
    }
    for tag in 3..=7 {
        assert!(matches!(handshake_error(apart().server.receive(&hello(tag, None))), HandshakeError::Limit(_)));
    }
    for (tag, value) in [(4, eight(4096)), (4, eight(u64::MAX)), (5, vec![0xff; 4]), (6, eight(4096))] {
        let mut pair = apart();
        pair.server.receive(&hello(tag, Some(&value))).unwrap();
        // Whatever they announce, frames fit into it.
        pair.server.place(bytes(4096, 0));
        for frame in pair.server.output() {
            assert!(frame.len() <= 4096 + 200);
        }
    }
}

#[test]
fn frames_keep_to_the_receivers_shortest_possible() {
    let mut pair = apart();
    pair.server.receive(&hello(4, Some(&4096u64.to_le_bytes()))).unwrap();
    pair.server.place(bytes(4096, 0));
    let frames = pair.server.output();
    assert_eq!(frames.len(), 1 + 4);
    assert!(frames.iter().all(|frame| frame.len() <= 4096));
}

#[test]
fn the_server_picks_the_codec_and_says_which() {
    let mut pair = apart();
    pair.server.receive(&hello(8, Some(&[200, 2, 1, 201]))).unwrap();
    let codec = pair.server.protocol.codec();
    let frames = pair.server.output();
    let field = extension(8, &[codec.to_wire()]);
    assert!(frames[0].windows(field.len()).any(|window| window == field));
    for none in [&[][..], &[200, 201]] {
        let handled = apart().server.receive(&hello(8, Some(none)));
        assert_eq!(handshake_error(handled), HandshakeError::NoCommonCodec { ours: "bincode".to_owned() });
    }
}

#[test]
fn a_required_feature_that_is_missing_is_named() {
    let handled = apart().server.receive(&hello(2, Some(&6u64.to_le_bytes())));
    assert_eq!(handshake_error(handled), HandshakeError::Feature(6));
    apart().server.receive(&hello(1, Some(&[0xff; 8]))).unwrap();
}

#[test]
fn a_second_hello_closes() {
    let mut pair = Pair::new();
    for node in [&mut pair.client, &mut pair.server] {
        assert_eq!(violation(node.receive(&hello(0, None))), ProtocolError::Unexpected("second HELLO"));
    }
}

#[test]
fn a_close_instead_of_a_hello_says_why() {
    let handled = apart().client.receive(&raw(14, 0, 0, &[], &[4]));
    assert_eq!(handled, Err(ConnectionError::ClosedByPeer(CloseReason::TooManyConnections)));
}

#[test]
fn a_hello_that_does_not_come_times_out() {
    let mut pair = apart();
    pair.advance(Duration::ZERO);
    let mut pair = apart();
    pair.client.out.room = 0;
    pair.advance(Duration::from_secs(5) - Duration::from_nanos(1));
    assert_eq!((&pair.client.error, &pair.server.error), (&None, &None));
    pair.advance(Duration::from_nanos(1));
    let timeout = ConnectionError::Protocol(HandshakeError::Timeout(Duration::from_secs(5)).into());
    assert_eq!((&pair.client.error, &pair.server.error), (&Some(timeout.clone()), &Some(timeout)));
}
