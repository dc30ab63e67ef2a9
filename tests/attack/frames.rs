//! Bytes that are no conversation: garbage, broken handshakes, frames that contradict themselves or the rules.

use std::time::Duration;

use crate::arena::{Arena, Terms};
use crate::evil::{Door, Evil};
use crate::wire::{
    CLOSE_PROTOCOL, CODECS, FRAME_LEN, Hello, IN_FLIGHT, MESSAGE_LEN, MORE, REPLY_WINDOW, REQUEST_WINDOW, Random, call,
    call_begun, call_body, call_head, credit, field, frame, frame_with, kind, raw, total,
};

const PROTOCOL: Terms = Terms { budget: 0, counter: Some(|gauges| gauges.protocol_errors) };

/// A `Point` as the codec lays it out.
pub(crate) fn point(a: u64) -> Vec<u8> {
    let mut bytes = a.to_le_bytes().to_vec();
    bytes.extend(3_i64.to_le_bytes());
    bytes.extend(0.25_f64.to_le_bytes());
    bytes.extend(5_u32.to_le_bytes());
    bytes.extend(6_u16.to_le_bytes());
    bytes.extend([7, 1]);
    bytes
}

/// The connection still works.
#[track_caller]
pub(crate) fn still_lives(evil: &mut Evil, id: u64) {
    evil.send(&call(id, "echo", &point(id)));
    loop {
        let got = evil.frame().expect("the connection lives");
        if got.id == id {
            assert_eq!((got.kind, &got.body), (kind::REPLY, &point(id)), "{got:?}");
            return;
        }
        assert!(!matches!(got.kind, kind::CLOSE), "{got:?}");
    }
}

#[test]
fn garbage_instead_of_a_handshake() {
    let mut arena = Arena::new("");
    arena.attack(&PROTOCOL, |_, door| {
        let client_hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        let mut scripts = vec![
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8\r\n\r\n".to_vec(),
            [&client_hello[..], &Random(1).bytes(500)].concat(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
            b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec(),
            vec![0; 5000],
            vec![0xff; 5000],
            b"\n".to_vec(),
            Vec::new(),
        ];
        scripts.extend((0..150).map(|seed| {
            let mut random = Random(seed);
            let len = random.below(3000);
            random.bytes(len)
        }));
        for script in &scripts {
            let mut evil = door.connect();
            evil.send(script);
            evil.finish_sending();
            evil.until_end();
        }
        // Random bodies behind a good header, of every kind, before and after the handshake.
        for seed in 0..150 {
            let mut random = Random(1000 + seed);
            let mut evil = if seed % 3 == 0 { door.connect() } else { door.greet() };
            for _ in 0..4 {
                let len = random.below(200);
                let body = random.bytes(len);
                evil.send(&frame_with(random.below(16) as u8, random.next() as u8, random.next(), &[], &body));
            }
            evil.finish_sending();
            evil.until_end();
        }
    });
}

#[test]
fn a_handshake_that_ends_at_every_byte() {
    let mut arena = Arena::new("hello_timeout=400");
    arena.attack(&PROTOCOL, |_, door| {
        let hello = Hello::honest().bytes();
        let part = |cut: usize| {
            let mut evil = door.connect();
            evil.send(&hello[..cut]);
            evil
        };
        // Then nothing more: the server's patience ends.
        let mut silent: Vec<Evil> = (0..hello.len()).map(part).collect();
        for cut in 0..hello.len() {
            drop(part(cut));
            let mut half = part(cut);
            half.finish_sending();
            assert_eq!(half.until_end(), [], "cut at {cut}");
        }
        for evil in &mut silent {
            evil.expect_close(CLOSE_PROTOCOL);
        }
    });
}

#[test]
fn hellos_that_promise_too_much_or_too_little() {
    let mut arena = Arena::new("");
    arena.attack(&PROTOCOL, |_, door| {
        let honest = Hello::honest;
        let major = |major| Hello { magic: vec![b'T', b'R', b'N', b'K', major, 0], ..honest() };
        let refused = [
            honest().with_u64(MESSAGE_LEN, 0),
            honest().with_u64(MESSAGE_LEN, u64::MAX),
            honest().with_u64(FRAME_LEN, 0),
            honest().with_u64(FRAME_LEN, 4095),
            honest().with(IN_FLIGHT, &[0; 4]),
            honest().with_u64(REQUEST_WINDOW, 0),
            honest().with_u64(REQUEST_WINDOW, u64::MAX),
            honest().with_u64(REPLY_WINDOW, 0),
            honest().with_u64(REPLY_WINDOW, u64::MAX),
            honest().with(CODECS, &[]),
            honest().with(CODECS, &[0, 99, 255]),
            honest().with_u64(2, u64::MAX),
            honest().with(0x8000, b"critical"),
            honest().with(MESSAGE_LEN, &[0; 7]),
            honest().with(IN_FLIGHT, &[1; 8]),
            honest().with(0x7000, &[0; 4000]),
            major(0),
            major(2),
            major(255),
            Hello { magic: b"TRNK".to_vec(), fields: Vec::new() },
            Hello { magic: b"TRNK\x01\x00".to_vec(), fields: Vec::new() },
            Hello { magic: b"trnk\x01\x00".to_vec(), ..honest() },
        ];
        for hello in refused {
            let mut evil = door.connect();
            evil.send(&hello.bytes());
            let all = evil.until_end();
            let kinds: Vec<u8> = all.iter().map(|got| got.kind).collect();
            // The server's own HELLO goes out all the same, so that the client can say what does not fit.
            assert!(matches!(kinds[..], [kind::HELLO, kind::CLOSE] | [kind::CLOSE]), "{:?}: {all:?}", hello.fields);
            assert!(all.last().unwrap().is_close(CLOSE_PROTOCOL), "{:?}: {all:?}", hello.fields);
        }
        let accepted = [
            honest().with_u64(FRAME_LEN, u64::MAX),
            honest().with(IN_FLIGHT, &[0xff; 4]),
            honest().with(IN_FLIGHT, &[1, 0, 0, 0]),
            honest().with_u64(REQUEST_WINDOW, 1 << 48).with_u64(REPLY_WINDOW, 1 << 48),
            honest().with(0x7000, &[0; 3000]),
            honest().with_u64(1, u64::MAX),
            honest().with(CODECS, &[99, 1, 98]),
            Hello { magic: b"TRNK\x01\xff".to_vec(), ..honest() },
        ];
        for hello in accepted {
            still_lives(&mut door.greet_with(&hello), 1);
        }
        // A peer that takes no long messages gets no long replies, and is told so.
        let mut narrow = door.greet_with(&honest().with_u64(MESSAGE_LEN, 1).with_u64(REPLY_WINDOW, 1));
        narrow.send(&call(1, "reply", &1000_u32.to_le_bytes()));
        let fail = narrow.expect(kind::FAIL);
        assert_eq!(fail.body[..2], [1, 6], "maybe executed, too large: {fail:?}");

        for bytes in [
            frame(kind::HELLO, 7, &honest().body()),
            frame(kind::PING, 0, &[0; 8]),
            call(1, "echo", &point(1)),
            frame_with(kind::HELLO, 0x0c, 0, &[], &honest().body()),
            [honest().bytes(), honest().bytes()].concat(),
        ] {
            let mut evil = door.connect();
            evil.send(&bytes);
            evil.expect_close(CLOSE_PROTOCOL);
        }
        // CLOSE is an answer to nothing here, and still no violation.
        let mut evil = door.connect();
        evil.send(&frame(kind::CLOSE, 0, &[4]));
        assert_eq!(evil.until_end(), []);
    });
}

#[test]
fn lengths_that_lie() {
    let mut arena = Arena::new("");
    arena.attack(&PROTOCOL, |_, door| {
        // What the server says it accepts.
        let mut evil = door.connect();
        evil.send(&Hello::honest().bytes());
        let hello = evil.expect(kind::HELLO);
        let at = hello.body.windows(4).position(|field| field == [4, 0, 8, 0]).expect("the field of the frame length");
        let max = u32::from_le_bytes(hello.body[at + 4..at + 8].try_into().unwrap());

        for claim in [u32::MAX, u32::MAX - 8, 1 << 31, max - 8 + 1, 0, 7] {
            let mut before = door.connect();
            before.send(&raw(claim, kind::HELLO, 0, 0, 0, &[]));
            before.expect_close(CLOSE_PROTOCOL);
            let mut after = door.greet();
            after.send(&raw(claim, kind::CALL, 0, 0, 1, &call_body("echo", &point(1))));
            after.expect_close(CLOSE_PROTOCOL);
        }
        // The longest there may be is taken.
        let mut longest = door.greet();
        let padding = max as usize - 16 - 16 - 8;
        let bytes = [&(padding as u64).to_le_bytes()[..], &vec![3; padding]].concat();
        longest.send(&call(1, "upload", &bytes));
        assert_eq!(longest.expect(kind::REPLY).id, 1);
        still_lives(&mut longest, 3);
    });
    // The longest is claimed, and then nothing comes: what is not there takes no memory.
    let flat = Terms { budget: 300 * (32 << 10), counter: None };
    arena.attack(&flat, |_, door| {
        let stalled: Vec<Evil> = (0..300)
            .map(|n| {
                let mut evil = if n % 2 == 0 { door.connect() } else { door.greet() };
                evil.send(&raw(128 << 10, kind::CALL, 0, 0, 1, &call_body("upload", &[0; 100])));
                evil
            })
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        drop(stalled);
    });
}

/// Each ends its connection, with the reason, and no other.
#[test]
fn frames_no_honest_peer_sends() {
    let mut arena = Arena::new("");
    let begun = |len: u64, there: usize| call_begun(1, "upload", len, &vec![0; there]);
    let chunk = |flags, len: usize| frame_with(kind::CHUNK, flags, 1, &[], &vec![0; len]);
    let echo = |id| call(id, "echo", &point(id));
    // A call that gives a stream and expects one, of a method that has none and lasts.
    let streaming = || {
        let body = call_body("hold", &9000_u32.to_le_bytes());
        frame_with(kind::CALL, 0, 1, &field(0x8002, &[1, 1]), &body)
    };
    const ITEM: u8 = 7;
    const END: u8 = 8;
    const RELEASE: u8 = 15;
    const GONE: u8 = 16;
    let mut scripts: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("extensions longer than the frame", vec![raw(8 + 4, kind::CALL, 0, 5, 1, &[0; 4])]),
        ("extensions longer than allowed", vec![frame_with(kind::PING, 0, 0, &[0; 4100], &[0; 8])]),
        ("half an extension", vec![frame_with(kind::CALL, 0, 1, &[1, 0, 9], &call_body("echo", &point(1)))]),
        ("a short extension", vec![frame_with(kind::CALL, 0, 1, &[1, 0, 9, 0, 1], &call_body("echo", &point(1)))]),
        ("a total of 7 bytes", vec![frame_with(kind::CALL, 0, 1, &field(0x8001, &[0; 7]), &call_body("echo", &[]))]),
        ("a call without its head", vec![frame(kind::CALL, 1, &[0; 15])]),
        ("the same id twice", vec![echo(1), echo(1)]),
        ("a lower id", vec![echo(9), echo(7)]),
        ("an even id", vec![echo(2)]),
        ("id 0", vec![echo(0)]),
        ("an id after the last", vec![echo(u64::MAX), echo(1)]),
        ("a reply to nothing", vec![frame(kind::REPLY, 2, &[0; 8])]),
        ("a reply to a call of its own", vec![echo(1), frame(kind::REPLY, 1, &[0; 8])]),
        ("a reply to id 0", vec![frame(kind::REPLY, 0, &[])]),
        ("a failure of nothing", vec![frame(kind::FAIL, 2, &[0, 1])]),
        ("half a failure", vec![frame(kind::FAIL, 2, &[0])]),
        ("an application's error to nothing", vec![frame(kind::FAIL, 2, &[2, 0, 1, 2, 3])]),
        ("a chunk of a call not made", vec![chunk(0, 8)]),
        ("a chunk of a reply to nothing", vec![frame(kind::CHUNK, 2, &[0; 8])]),
        ("CANCEL of a call not made", vec![frame(kind::CANCEL, 1, &[])]),
        ("CANCEL of the server's call", vec![frame(kind::CANCEL, 2, &[])]),
        ("a tiny chunk", vec![begun(10_000, 2000), chunk(MORE, 1)]),
        ("an empty chunk", vec![begun(10_000, 2000), chunk(MORE, 0)]),
        ("too few bytes", vec![begun(10_000, 2000), chunk(0, 2000)]),
        ("too many bytes", vec![begun(4000, 2000), chunk(0, 2001)]),
        ("more, but it is whole", vec![begun(4000, 2000), chunk(MORE, 2000)]),
        ("more, without a total", vec![frame_with(kind::CALL, MORE, 1, &[], &call_body("upload", &[0; 2000]))]),
        ("a total, without more", vec![frame_with(kind::CALL, 0, 1, &total(9), &call_body("upload", &[0; 8]))]),
        ("a chunk of a call that is whole", vec![call(1, "hold", &9000_u32.to_le_bytes()), chunk(0, 8)]),
        ("a message over the maximum", vec![begun((4 << 20) + 1, 2000)]),
        ("a message of 2^64 bytes", vec![begun(u64::MAX, 2000)]),
        ("credit beyond the window", vec![credit(2, 1)]),
        ("credit that overflows", vec![credit(2, u64::MAX)]),
        ("credit for requests never sent", vec![credit(1, 1)]),
        ("credit for no window", vec![credit(0, 1)]),
        ("credit for items never sent", vec![credit(3, 1)]),
        ("credit for a fourth window", vec![credit(4, 0)]),
        ("an item of no stream", vec![echo(1), frame(ITEM, 3, &[0; 8])]),
        ("an end that is half a failure", vec![streaming(), frame(END, 3, &[1])]),
        ("items beyond their window", {
            let item = frame(ITEM, 3, &[0; 100_000]);
            vec![streaming(), item.clone(), item.clone(), item]
        }),
        ("credit for items that were not sent", vec![streaming(), frame(kind::CREDIT, 5, &[3; 9])]),
        ("half a number of streams", vec![frame_with(kind::CALL, 0, 1, &field(0x8002, &[1]), &call_body("echo", &[]))]),
        ("credit for a stream", vec![frame(kind::CREDIT, 1, &[2; 9])]),
        ("a short CREDIT", vec![frame(kind::CREDIT, 0, &[2; 8])]),
        ("a short PING", vec![frame(kind::PING, 0, &[0; 7])]),
        ("a long PING", vec![frame(kind::PING, 0, &[0; 9])]),
        ("an empty PONG", vec![frame(kind::PONG, 0, &[])]),
        ("a short GOAWAY", vec![frame(kind::GOAWAY, 0, &[0; 12])]),
        ("an empty CLOSE", vec![frame(kind::CLOSE, 0, &[])]),
        ("a second HELLO", vec![Hello::honest().bytes()]),
        ("a release of nothing", vec![frame(RELEASE, 0, &2_u64.to_le_bytes())]),
        ("the end of an object that was never there", vec![frame(GONE, 1, &[])]),
    ];
    for flag in [0x08, 0x09, 0x0c] {
        scripts.push(("an unknown critical flag", vec![frame_with(kind::PING, flag, 0, &[], &[0; 8])]));
    }
    for kind in [0, 7, 8, 9].into_iter().chain(17..0x80) {
        scripts.push(("an unknown kind", vec![frame(kind, 1, &[0; 8])]));
    }
    // Half-sent messages may hold the window, and not a byte more.
    let over: Vec<Vec<u8>> = [1, 3, 5].map(|id| call_begun(id, "upload", 4 << 20, &[0; 1024])).into();
    scripts.push(("a message beyond the credit", over));
    let mut one_more = over_by_one();
    one_more.push(call(5, "upload", &[0]));
    scripts.push(("a byte beyond the credit", one_more));

    arena.attack(&PROTOCOL, |_, door| {
        for (what, script) in &scripts {
            let mut evil = door.greet();
            script.iter().for_each(|bytes| evil.send(bytes));
            let all = evil.until_end();
            assert!(all.last().is_some_and(|last| last.is_close(CLOSE_PROTOCOL)), "{what}: {all:?}");
        }
    });
}

/// Two messages that take all the credit.
fn over_by_one() -> Vec<Vec<u8>> {
    [1, 3].map(|id| call_begun(id, "upload", 4 << 20, &[0; 1024])).into()
}

/// What a later version may send, and what comes late, harms nobody.
#[test]
fn frames_that_are_let_pass() {
    let mut arena = Arena::new("");
    let unknown = [field(0x0123, b"whatever"), field(0x7fff, &[])].concat();
    let with_extensions = frame_with(kind::CALL, 0, 1, &unknown, &call_body("echo", &point(1)));
    let full = frame_with(kind::CALL, 0, 1, &field(2, &[0; 4092]), &call_body("echo", &point(1)));
    let done = call(1, "echo", &point(1));
    let scripts: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("kinds to be skipped", (0x80..=0xff).map(|kind| frame_with(kind, 0xff, 5, &[1], &[0; 9])).collect()),
        ("flags to be ignored", vec![frame_with(kind::PING, 0xf0, 0, &[], &[0; 8])]),
        ("extensions to be ignored", vec![with_extensions]),
        ("as many extensions as there may be", vec![full]),
        ("CANCEL of a call that is over", vec![done.clone(), frame(kind::CANCEL, 1, &[]), frame(kind::CANCEL, 1, &[])]),
        ("a PONG nobody asked for", vec![frame(kind::PONG, 0, &[0xff; 8]), frame(kind::PONG, 0, &[1; 8])]),
        ("no credit", vec![credit(1, 0), credit(2, 0)]),
        ("GOAWAY, again and again", (0..500).map(|n| frame(kind::GOAWAY, 0, &[n as u8; 13])).collect()),
        ("a call whose time is over", vec![frame(kind::CALL, 1, &[call_head(1, 0), point(1)].concat())]),
        ("a call with all the time in the world", vec![frame(kind::CALL, 1, &call_head(1, u32::MAX))]),
    ];
    arena.attack(&Terms::default(), |_, door: &Door| {
        for (what, script) in &scripts {
            eprintln!("{}: {what}", door.name());
            let mut evil = door.greet();
            script.iter().for_each(|bytes| evil.send(bytes));
            still_lives(&mut evil, 1001);
        }
        // CLOSE, and then some more.
        let mut evil = door.greet();
        evil.send(&frame(kind::CLOSE, 0, &[0]).repeat(1000));
        evil.until_end();
    });
}
