//! What a later version may add: kinds, flags, extensions.

use super::*;

const TRACE: u16 = 0x0101;
const TARGET: u16 = 0x8101;

#[test]
fn extensions_that_may_be_ignored_are() {
    let mut pair = Pair::new();
    let trace = extension(TRACE, b"trace");
    pair.server.receive(&raw(2, 0, 1, &trace, &call_body(b"x"))).unwrap();
    assert_eq!(pair.server.requests[0].payload.as_slice(), b"x");
    let id = pair.client.place(vec![]);
    pair.client.receive(&raw(3, 0, id, &trace, b"y")).unwrap();
    assert_eq!(pair.client.reply(id), b"y");
    pair.client.receive(&raw(11, 0, 0, &trace, &[0; 8])).unwrap();
}

#[test]
fn an_unknown_critical_extension_on_a_call_fails_that_call() {
    let mut pair = Pair::new();
    let target = extension(TARGET, &[1, 2, 3]);
    let id = pair.client.place(vec![]);
    pair.flush();
    pair.server.inbox.clear();
    pair.server.receive(&raw(2, 0, id, &target, &call_body(&[]))).unwrap();
    // FAIL, not executed, reason 12, the tag.
    assert_eq!(pair.server.output(), [raw(4, 0, id, &[], &[0, 12, 0x01, 0x81])]);
    pair.client.receive(&raw(4, 0, id, &[], &[0, 12, 0x01, 0x81])).unwrap();
    assert_eq!(*not_executed(&pair.client.failure(id)), Reason::UnknownExtension(TARGET));
    // One in chunks: its credit comes back as it comes in.
    let both = [total(4000), target].concat();
    pair.server.receive(&raw(2, 1, 3, &both, &call_body(&bytes(2000, 0)))).unwrap();
    pair.server.receive(&raw(5, 0, 3, &[], &bytes(2000, 0))).unwrap();
    assert_eq!(pair.server.stats().credit_owed, 4000);
    assert_eq!((pair.server.requests.len(), pair.server.stats().handlers_in_flight), (0, 0));
}

#[test]
fn an_unknown_critical_extension_on_a_reply_makes_it_maybe_executed() {
    let target = extension(TARGET, &[]);
    for kind in [3, 4] {
        let lead: &[u8] = if kind == 3 { &[] } else { &[2, 0] };
        for len in [10, 100] {
            let mut pair = Pair::new();
            let count = Count::new();
            let id = placed(pair.client.begin(new_call(), vec![], count.waker()));
            let body = [lead, &bytes(len, 0)].concat();
            pair.client.receive(&raw(kind, 0, id, &target, &body)).unwrap();
            assert_eq!(count.woken(), 1);
            assert_eq!(*maybe_executed(&pair.client.failure(id)), Reason::UnknownExtension(TARGET));
            assert_eq!((pair.client.stats().calls_in_flight, pair.client.stats().memory_in), (0, 0));
        }
    }
    // Also where it comes in chunks, whose end is the call's.
    let mut pair = Pair::new();
    let id = pair.client.place(vec![]);
    let both = [target.clone(), total(4000)].concat();
    pair.client.receive(&raw(3, 1, id, &both, &bytes(2000, 0))).unwrap();
    assert_eq!(*maybe_executed(&pair.client.failure(id)), Reason::UnknownExtension(TARGET));
    assert_eq!(pair.client.stats().calls_in_flight, 1);
    pair.client.receive(&raw(5, 0, id, &[], &bytes(2000, 0))).unwrap();
    assert_eq!((pair.client.stats().calls_in_flight, pair.client.stats().credit_owed), (0, 4000));
    // And on the framework's own failures.
    let id = pair.client.place(vec![]);
    pair.client.receive(&raw(4, 0, id, &target, &[0, 2])).unwrap();
    assert_eq!(*maybe_executed(&pair.client.failure(id)), Reason::UnknownExtension(TARGET));
}

#[test]
fn an_unknown_critical_extension_elsewhere_closes() {
    let mut pair = Pair::new();
    let id = pair.client.place(vec![]);
    pair.settle();
    for (kind, id, body) in [(6, id, vec![]), (11, 0, vec![0; 8]), (14, 0, vec![0])] {
        let error = violation(pair.server.receive(&raw(kind, 0, id, &extension(TARGET, &[]), &body)));
        assert_eq!(error, ProtocolError::Frame(FrameError::UnknownExtension(TARGET)));
    }
}

#[test]
fn malformed_extensions_close() {
    let mut pair = Pair::new();
    let cut = &extension(TRACE, b"trace")[..6];
    for kind in [2, 11] {
        violation(pair.server.receive(&raw(kind, 0, 1, cut, &call_body(&[]))));
    }
    let mut pair = Pair::new();
    let short_total = extension(tag::TOTAL, &[1; 7]);
    violation(pair.server.receive(&raw(2, 0, 1, &short_total, &call_body(&[]))));
    let mut pair = Pair::new();
    let long = extension(TRACE, &[0; 4093]);
    let error = violation(pair.server.receive(&raw(2, 0, 1, &long, &call_body(&[]))));
    assert_eq!(error, ProtocolError::Frame(FrameError::ExtensionsTooLong(4097)));
    let mut pair = Pair::new();
    let longest = extension(TRACE, &[0; 4092]);
    pair.server.receive(&raw(2, 0, 1, &longest, &call_body(&[]))).unwrap();
}

#[test]
fn unknown_kinds_are_skipped_from_0x80_up() {
    let mut pair = Pair::new();
    for kind in 0..=255 {
        let handled = pair.client.receive(&raw(kind, 0x0f, 5, &[1, 2, 3], &[4, 5]));
        match kind {
            0x80.. => handled.unwrap(),
            0 | 17..0x80 => {
                assert_eq!(violation(handled), ProtocolError::Frame(FrameError::UnknownKind(kind)));
            }
            _ => drop(violation(handled)),
        }
    }
}

#[test]
fn unknown_flags_close_if_they_are_critical_and_only_then() {
    for flag in [0x08, 0x10, 0x20, 0x40, 0x80] {
        let mut pair = Pair::new();
        let handled = pair.server.receive(&raw(2, flag, 1, &[], &call_body(b"x")));
        if flag < 0x10 {
            let unknown = FrameError::UnknownFlags { kind: 2, flags: flag };
            assert_eq!(violation(handled), ProtocolError::Frame(unknown));
        } else {
            handled.unwrap();
            assert_eq!(pair.server.requests.len(), 1);
        }
    }
}
