//! Attacks that have succeeded once, each with what was wrong. Those that are ignored succeed still.

use std::thread;
use std::time::{Duration, Instant};

use crate::arena::{Arena, EVERYBODY, Terms};
use crate::evil::Evil;
use crate::frames::{point, still_lives};
use crate::wire::{CLOSE_PROTOCOL, Hello, MESSAGE_LEN, MORE, REPLY_WINDOW, call, call_begun, frame, frame_with, kind};

/// The call was entered into the server's accounts before its chunk was found too short: a call and its total were lost to the whole server, for good.
#[test]
fn a_bad_first_chunk_is_not_paid_for_by_the_server() {
    let mut arena = Arena::new("");
    arena.attack(&Terms { budget: 0, counter: Some(|gauges| gauges.protocol_errors) }, |_, door| {
        for (total, there) in [(10_000, 1023), (10_000, 0), (1500, 2000)] {
            let mut evil = door.greet();
            evil.send(&call_begun(1, "upload", total, &vec![0; there]));
            evil.expect_close(CLOSE_PROTOCOL);
        }
    });
}

/// Replies were placed ahead of the HELLO that was still owed.
#[test]
fn the_first_frame_is_hello_whatever_comes_with_the_clients() {
    let mut arena = Arena::new("");
    arena.attack(&Terms::default(), |_, door| {
        for _ in 0..200 {
            let mut evil = door.connect();
            evil.send(&[Hello::honest().bytes(), call(1, "echo", &point(1)), call(3, "echo", &point(3))].concat());
            assert_eq!(evil.frame().expect("an answer").kind, kind::HELLO);
            still_lives(&mut evil, 5);
        }
    });
}

/// Calls were given back to the server's accounts while handlers that cannot be cancelled went on: who called,
/// hung up and came again ran as many as it liked.
#[test]
fn a_peer_that_hangs_up_still_pays_for_its_handlers() {
    let mut arena = Arena::new("");
    arena.attack(&Terms::default(), |arena, door| {
        let mut evil = door.greet();
        for n in 0..100 {
            evil.send(&call(2 * n + 1, "stubborn", &1500_u32.to_le_bytes()));
        }
        still_lives(&mut evil, 1001);
        drop(evil);
        arena.wait("it has hung up", |gauges, _| gauges.connections == EVERYBODY);
        let gauges = arena.gauges();
        assert!(gauges.running < gauges.calls_in_flight, "{}: handlers that nobody counts: {gauges:?}", door.name());
    });
}

/// A reply that waits for credit ends with its call's deadline. Otherwise a few connections without a window would hold
/// every place of the server.
#[test]
fn replies_that_get_no_credit_end() {
    let mut arena = Arena::new("write_stall=300");
    arena.attack(&Terms::default(), |arena, door| {
        let hello = Hello::honest().with_u64(REPLY_WINDOW, 2000).with_u64(MESSAGE_LEN, 2000);
        let mut evil = door.greet_with(&hello);
        for n in 0..100 {
            let mut call = call(2 * n + 1, "reply", &1000_u32.to_le_bytes());
            // Half a second, behind the header, the method and the fingerprint.
            call[16 + 12..][..4].copy_from_slice(&5000_u32.to_le_bytes());
            evil.send(&call);
        }
        arena.wait("the calls are there", |gauges, _| gauges.calls_in_flight > 90);
        arena.wait(&format!("{}: the calls are over", door.name()), |gauges, _| gauges.calls_in_flight == 1);
    });
}

/// The deadline of a half-received call passes while the server cannot write: its FAIL waits, and a chunk that an honest
/// client had sent already counted as a violation.
#[test]
fn a_chunk_that_meets_its_calls_deadline_is_stray() {
    let mut arena = Arena::new("");
    arena.attack(&Terms { budget: 48 << 20, counter: None }, |arena, door| {
        let mut evil = door.greet();
        // Nothing is read, until the server can write no more, not even a short reply.
        for n in 0..60 {
            evil.send(&call(2 * n + 1, "reply", &100_000_u32.to_le_bytes()));
        }
        let mut id = 201;
        while arena.gauges().calls_in_flight < 90 {
            for _ in 0..20 {
                evil.send(&call(id, "echo", &point(id)));
                id += 2;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let mut half = call_begun(id, "upload", 4000, &[0; 2000]);
        half[16 + 12 + 12..][..4].copy_from_slice(&1000_u32.to_le_bytes());
        evil.send(&half);
        thread::sleep(Duration::from_millis(400));
        evil.send(&frame_with(kind::CHUNK, 0, id, &[], &[0; 2000]));
        thread::sleep(Duration::from_millis(100));
        let mut failed = false;
        while !failed {
            let got = evil.frame().expect("the connection lives");
            assert_ne!(got.kind, kind::CLOSE, "{}: {got:?}", door.name());
            failed = got.id == id && got.kind == kind::FAIL;
        }
    });
}

/// The same bytes, once in one write and once in two, must have the same consequence.
#[test]
fn a_chunk_behind_its_cancel_means_the_same_in_every_split() {
    let mut arena = Arena::new("");
    arena.attack(&Terms::default(), |_, door| {
        let begun = [call_begun(1, "upload", 10_000, &[0; 2000]), frame(kind::CANCEL, 1, &[])].concat();
        let chunk = frame_with(kind::CHUNK, MORE, 1, &[], &[0; 2000]);
        let lives = |evil: &mut Evil| {
            evil.send(&call(3, "echo", &point(3)));
            loop {
                match evil.frame() {
                    Some(got) if got.kind == kind::CLOSE => return false,
                    Some(got) if got.id == 3 => return true,
                    Some(_) => {}
                    None => return false,
                }
            }
        };
        let mut whole = door.greet();
        whole.send(&[&begun[..], &chunk].concat());
        let mut split = door.greet();
        split.send(&begun);
        split.expect(kind::FAIL);
        split.send(&chunk);
        assert_eq!(lives(&mut whole), lives(&mut split), "{}", door.name());
    });
}

/// `docs/protocol.md`: a critical tag unknown on a CALL fails that call.
#[test]
fn an_unknown_critical_extension_fails_its_call_only() {
    let mut arena = Arena::new("");
    arena.attack(&Terms::default(), |_, door| {
        let mut evil = door.greet();
        let body = crate::wire::call_body("echo", &point(1));
        evil.send(&frame_with(kind::CALL, 0, 1, &crate::wire::field(0x8777, &[1]), &body));
        assert_eq!(evil.expect(kind::FAIL).body[0], 0, "not executed");
        still_lives(&mut evil, 3);
    });
}

/// Who says HELLO and nothing more on every connection that there may be locks everybody else out, for as long as it
/// likes. There is no fair share for each peer yet.
#[test]
#[ignore = "no idle timeout, and no fair share of connections"]
fn idle_peers_do_not_lock_others_out() {
    let mut arena = Arena::new("connections=100,hello_timeout=500");
    arena.attack(&Terms::default(), |_, door| {
        let idle: Vec<Option<Evil>> = (0..150)
            .map(|_| {
                let mut evil = door.connect();
                evil.send(&Hello::honest().bytes());
                evil.frame().is_some_and(|got| got.kind == kind::HELLO).then_some(evil)
            })
            .collect();
        let since = Instant::now();
        let served = loop {
            let mut late = door.connect();
            late.send(&Hello::honest().bytes());
            late.send(&call(1, "echo", &point(1)));
            if late.until_end_or(kind::REPLY) {
                break true;
            }
            if since.elapsed() > Duration::from_secs(3) {
                break false;
            }
            thread::sleep(Duration::from_millis(100));
        };
        drop(idle);
        assert!(served, "{}: nobody else gets in", door.name());
    });
}
