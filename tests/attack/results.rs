//! Results that are called before they are there: that nobody lets go of, that will never be there, and that cannot be.

use crate::arena::{Arena, Terms};
use crate::evil::{Door, Evil};
use crate::floods::{flood, hundred, patient_flood};
use crate::frames::{point, still_lives};
use crate::wire::{CLOSE_PROTOCOL, call_body, field, frame, frame_with, kind};

const OBJECT: u16 = 0x8008;
const HANDLES: u16 = 0x8009;
const RESULT: u16 = 0x800a;
const RELEASE: u8 = 15;
const GONE: u8 = 16;

/// Makes of a call's id that of its result.
const BIT: u64 = 1 << 63;

fn promise() -> Vec<u8> {
    field(RESULT, &[])
}

fn on(object: u64) -> Vec<u8> {
    field(OBJECT, &object.to_le_bytes())
}

fn release(ids: &[u64]) -> Vec<u8> {
    frame(RELEASE, 0, &ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>())
}

/// A call with these extensions that ends at once, or after a long time.
fn quick(id: u64, extensions: &[u8]) -> Vec<u8> {
    frame_with(kind::CALL, 0, id, extensions, &call_body("echo", &point(id)))
}

fn long(id: u64, extensions: &[u8]) -> Vec<u8> {
    frame_with(kind::CALL, 0, id, extensions, &call_body("hold", &20_000_u32.to_le_bytes()))
}

/// Waits for so many answers.
fn answers(evil: &mut Evil, mut calls: usize) {
    while calls > 0 {
        let got = evil.frame().expect("the connection lives");
        calls -= usize::from(matches!(got.kind, kind::REPLY | kind::FAIL));
    }
}

#[test]
fn results_that_are_never_released() {
    let mut arena = Arena::new("");
    arena.attack(&Terms { budget: 16 << 20, counter: None }, |_, door| {
        // Of what returns no object. Beyond the limit they are refused.
        let (mut evil, id) = patient_flood(door, |id| hundred(id, |id| quick(id, &promise())));
        eprintln!("{}: {} results promised", door.name(), id / 2);
        still_lives(&mut evil, id);
        // Calls on those that failed, and on those that there was no room for.
        let row = |id: u64| hundred(id, |id| quick(id, &[promise(), on((id - 2).max(1) | BIT)].concat()));
        let (mut evil, id) =
            patient_flood(door, |id| if id == 1 { hundred(id, |id| quick(id, &promise())) } else { row(id) });
        still_lives(&mut evil, id);
        // And given back at once, before and after they are settled.
        let back = |id: u64| [quick(id, &promise()), release(&[id | BIT])].concat();
        let (mut evil, id) = patient_flood(door, |id| hundred(id, back));
        still_lives(&mut evil, id);
        flood(door, |id| hundred(id, |id| quick(id, &promise())));
    });
}

#[test]
fn calls_that_wait_by_the_thousand() {
    let mut arena = Arena::new("");
    arena.attack(&Terms { budget: 16 << 20, counter: None }, |_, door| {
        // As many as there may be, for what never comes; ended by its end, again and again.
        let mut evil = door.greet();
        let mut first = 1;
        for _ in 0..100 {
            let waiting = (1..100).map(|n| quick(first + 2 * n, &on(first | BIT)));
            let all: Vec<u8> = std::iter::once(long(first, &promise())).chain(waiting).flatten().collect();
            evil.send(&all);
            evil.send(&frame(kind::CANCEL, first, &[]));
            answers(&mut evil, 100);
            first += 200;
        }
        // In a row, each for the one before.
        for _ in 0..100 {
            let row = (1..100).map(|n| quick(first + 2 * n, &[promise(), on((first + 2 * n - 2) | BIT)].concat()));
            let all: Vec<u8> = std::iter::once(long(first, &promise())).chain(row).flatten().collect();
            evil.send(&all);
            let ids: Vec<u64> = (0..100).map(|n| (first + 2 * n) | BIT).collect();
            evil.send(&release(&ids));
            evil.send(&frame(kind::CANCEL, first, &[]));
            answers(&mut evil, 100);
            first += 200;
        }
        // Parked and cancelled.
        evil.send(&long(first, &promise()));
        for n in 1..5_000 {
            let id = first + 2 * n;
            evil.send(&[quick(id, &on(first | BIT)), frame(kind::CANCEL, id, &[])].concat());
            answers(&mut evil, 1);
        }
        evil.send(&frame(kind::CANCEL, first, &[]));
        answers(&mut evil, 1);
        still_lives(&mut evil, first + 20_000);
        // Far more than there may be.
        flood(door, |id| match id {
            1 => (long(1, &promise()), 3),
            id => hundred(id, |id| quick(id, &on(1 | BIT))),
        });
        // And one who goes away.
        let mut evil = door.greet();
        evil.send(&long(1, &promise()));
        evil.send(&hundred(3, |id| quick(id, &[promise(), on(1 | BIT)].concat())).0);
    });
}

#[test]
fn results_that_cannot_be() {
    let mut arena = Arena::new("");
    arena.attack(&Terms { budget: 16 << 20, counter: Some(|gauges| gauges.protocol_errors) }, |_, door| {
        let handed = |id: u64| quick(3, &field(HANDLES, &id.to_le_bytes()));
        let wrong = [
            ("a call on the result of a call that was never made", quick(3, &on(5 | BIT))),
            ("a call on the result of a call of the server's", quick(3, &on(2 | BIT))),
            ("a call on its own result", quick(3, &[promise(), on(3 | BIT)].concat())),
            ("the same, the other way round", quick(3, &[on(3 | BIT), promise()].concat())),
            ("two promises", quick(3, &[promise(), promise()].concat())),
            ("a promise with a value", quick(3, &field(RESULT, &[1]))),
            ("a promise of a call that has the bit", quick(3 | BIT, &promise())),
            ("a call that was there already", quick(1, &promise())),
            ("a result handed over", handed(1 | BIT)),
            ("a result of the server's handed over", handed(2 | BIT)),
            ("a release of what was never promised", release(&[3 | BIT])),
            ("a release of the server's", release(&[2 | BIT])),
            ("an end of one's own", frame(GONE, 1 | BIT, &[])),
            ("an end of the server's", frame(GONE, 2 | BIT, &[])),
        ];
        for (what, bytes) in wrong {
            cut_off(door, what, &bytes);
        }
    });
}

/// Behind a call whose result is promised.
fn cut_off(door: &Door, what: &str, bytes: &[u8]) {
    let mut evil = door.greet();
    evil.send(&[long(1, &promise()), bytes.to_vec()].concat());
    let all = evil.until_end();
    assert!(all.last().is_some_and(|last| last.is_close(CLOSE_PROTOCOL)), "{}: {what}: {all:?}", door.name());
}
