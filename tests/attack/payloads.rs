//! Good frames with arguments that are bombs. Each fails its own call, before the handler, and nothing else.

use crate::arena::{Arena, Terms};
use crate::evil::Evil;
use crate::frames::{point, still_lives};
use crate::target::ONE_THREAD;
use crate::wire::{Random, call, call_begun, call_head, frame, frame_with, kind, method};

/// FAIL: class "not executed".
const NOT_EXECUTED: u8 = 0;
const UNKNOWN_METHOD: u8 = 3;
const INVALID_ARGUMENTS: u8 = 5;
/// What was wrong with arguments.
const ANY: &[u8] = &[0, 1, 2, 3, 4, 5, 6];
const UNEXPECTED_END: &[u8] = &[1];
const TOO_DEEP: &[u8] = &[2];
const MEMORY: &[u8] = &[1, 3];
const TRAILING: &[u8] = &[4];

#[track_caller]
fn refused(evil: &mut Evil, id: u64, why: &[u8], what: &str) {
    let got = loop {
        let got = evil.frame().unwrap_or_else(|| panic!("{what}: hung up"));
        if got.id == id || got.kind == kind::CLOSE {
            break got;
        }
    };
    assert_eq!(got.kind, kind::FAIL, "{what}: {got:?}");
    assert_eq!(got.body[..2], [NOT_EXECUTED, INVALID_ARGUMENTS], "{what}: {got:?}");
    assert!(why.contains(&got.body[4]), "{what}: {got:?}");
}

/// A message in chunks of 100,000 bytes.
pub(crate) fn chunked(id: u64, name: &str, payload: &[u8]) -> Vec<u8> {
    let mut parts = payload.chunks(100_000).peekable();
    let first = parts.next().unwrap_or_default();
    if parts.peek().is_none() {
        return call(id, name, first);
    }
    let mut bytes = call_begun(id, name, payload.len() as u64, first);
    while let Some(part) = parts.next() {
        bytes.extend(frame_with(kind::CHUNK, u8::from(parts.peek().is_some()), id, &[], part));
    }
    bytes
}

#[test]
fn arguments_that_are_bombs() {
    bombs("");
}

#[test]
fn arguments_that_are_bombs_for_a_server_of_one_thread() {
    bombs(ONE_THREAD);
}

fn bombs(limits: &str) {
    let mut arena = Arena::new(limits);
    let len = |n: u64| n.to_le_bytes().to_vec();
    let lens = [1 << 36, u64::MAX, u64::MAX / 2, u64::MAX / 8 + 1, 1 << 32, 1 << 63, 9];
    let mut bombs: Vec<(String, &str, Vec<u8>, &[u8])> = Vec::new();
    for depth in [64, 65, 100, 1000, 50_000, 120_000] {
        let mut open = vec![1; depth];
        bombs.push((format!("{depth} options that do not end"), "nested", open.clone(), ANY));
        open.push(0);
        bombs.push((format!("{depth} options in each other"), "nested", open, TOO_DEEP));
    }
    bombs.push(("four million options in each other".to_owned(), "nested", vec![1; 4_000_000], TOO_DEEP));
    for n in lens {
        for name in ["upload", "text", "numbers", "fat"] {
            bombs.push((format!("{name} of {n}"), name, len(n), MEMORY));
            bombs.push((format!("{name} of {n}, 8 there"), name, [len(n), len(0)].concat(), MEMORY));
        }
    }
    for n in [u64::MAX, u64::MAX / 2, 1 << 40, 64 << 20 | 1] {
        bombs.push((format!("{n} units"), "units", len(n), &[3]));
    }
    // A million times four bytes, each of which would be a kilobyte.
    let million = [len(1_000_000), vec![0; 4_000_000]].concat();
    bombs.push(("a million fat values".to_owned(), "fat", million, &[3]));
    for argument in [&point(1)[..], &[]] {
        for extra in [1, 7, 5000] {
            let payload = [argument, &vec![0; extra]].concat();
            let (name, why) = if argument.is_empty() { ("gauges", TRAILING) } else { ("echo", TRAILING) };
            bombs.push((format!("{extra} bytes too many for {name}"), name, payload, why));
        }
    }
    for short in 0..point(1).len() {
        bombs.push((format!("{short} bytes of a point"), "echo", point(1)[..short].to_vec(), UNEXPECTED_END));
    }
    let mut wrong = point(1);
    wrong[31] = 2;
    bombs.push(("a bool of 2".to_owned(), "echo", wrong, &[0]));
    bombs.push(("an option of 2".to_owned(), "nested", vec![2], &[0]));
    bombs.push(("text that is none".to_owned(), "text", [len(4), vec![0xff; 4]].concat(), &[0]));
    bombs.push(("a variant too far".to_owned(), "fat", [len(1), vec![9, 0, 0, 0]].concat(), &[0, 6]));

    let terms = Terms { budget: 80 << 20, counter: None };
    arena.attack(&terms, |_, door| {
        let mut evil = door.greet();
        let mut id = 1;
        for (what, name, payload, why) in &bombs {
            evil.send(&chunked(id, name, payload));
            refused(&mut evil, id, why, what);
            id += 2;
        }
        // What is just within the limits is served.
        let mut deep = vec![1; 20];
        deep.push(0);
        evil.send(&call(id, "nested", &deep));
        assert_eq!(evil.expect(kind::REPLY).body, 20_u32.to_le_bytes());
        evil.send(&call(id + 2, "units", &len(1_000_000)));
        assert_eq!(evil.expect(kind::REPLY).body, len(1_000_000));
        still_lives(&mut evil, id + 4);
    });
}

#[test]
fn random_arguments_for_every_method() {
    let mut arena = Arena::new("");
    let terms = Terms { budget: 80 << 20, counter: None };
    arena.attack(&terms, |_, door| {
        let mut random = Random(77);
        let mut evil = door.greet();
        let mut id = 1;
        for round in 0..600 {
            // Not `reply`, `hold` and `stubborn`: every number is good for them.
            let name = ["echo", "upload", "nested", "units", "numbers", "text", "fat", "gauges"][round % 8];
            let len = random.below(80);
            let mut payload = random.bytes(len);
            if round % 3 > 0 {
                payload.iter_mut().skip(1).take(7).for_each(|byte| *byte = 0);
            }
            evil.send(&call(id, name, &payload));
            let got = evil.frame().expect("the connection lives");
            assert!(matches!(got.kind, kind::REPLY | kind::FAIL | kind::CREDIT), "seed 77, round {round}: {got:?}");
            id += 2;
        }
        still_lives(&mut evil, id);
    });
}

#[test]
fn methods_that_do_not_exist() {
    let mut arena = Arena::new("");
    arena.attack(&Terms::default(), |_, door| {
        let mut evil = door.greet();
        for (id, method) in [(1, 0), (3, u64::MAX), (5, method("echo") + 1), (7, method("Echo")), (9, method(""))] {
            evil.send(&frame(kind::CALL, id, &[call_head(method, 10_000), point(1)].concat()));
            let fail = evil.expect(kind::FAIL);
            assert_eq!((fail.id, &fail.body[..2]), (id, &[NOT_EXECUTED, UNKNOWN_METHOD][..]), "{fail:?}");
        }
        still_lives(&mut evil, 11);
    });
}

/// Memory that has been used is handed out before a message is taken: little of it, whoever asks how often.
#[test]
fn heads_of_long_messages_behind_honest_ones() {
    // 32 MiB for all connections; 48 of them.
    let mut arena = Arena::new("memory_total=33554432");
    let door = arena.unix();
    let mut upload = ((4_u64 << 20) - 8).to_le_bytes().to_vec();
    upload.resize(4 << 20, 7);
    let honest = chunked(1, "upload", &upload);
    let mut head = call_begun(3, "upload", 4 << 20, &[7; 120_000]);
    head.truncate(100);
    arena.attack_one(&Terms { budget: 32 << 20, ..Terms::default() }, &door, |_, door| {
        let mut held = Vec::new();
        for _ in 0..48 {
            let mut evil = door.greet();
            evil.send(&honest);
            let answer = loop {
                let frame = evil.frame().expect("an answer");
                if frame.id == 1 {
                    break frame;
                }
            };
            assert_eq!(answer.kind, kind::REPLY, "{answer:?}");
            evil.send(&head);
            held.push(evil);
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    });
}
