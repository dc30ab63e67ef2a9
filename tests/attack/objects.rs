//! Objects that nobody wants, that cannot be, and far too many of them.

use std::thread;
use std::time::Duration;

use crate::arena::{Arena, Terms};
use crate::evil::Door;
use crate::floods::{flood, hundred, patient_flood};
use crate::frames::{point, still_lives};
use crate::wire::{CLOSE_PROTOCOL, call_body, field, frame, frame_with, kind};

const OBJECT: u16 = 0x8008;
const HANDLES: u16 = 0x8009;
const RELEASE: u8 = 15;
const GONE: u8 = 16;

/// A call that hands over so many objects, which are no others' than the call's.
fn handing(id: u64, objects: u64) -> Vec<u8> {
    let ids = (0..objects).flat_map(|n| (id * 1024 + 2 * n + 1).to_le_bytes()).collect::<Vec<u8>>();
    frame_with(kind::CALL, 0, id, &field(HANDLES, &ids), &call_body("echo", &point(id)))
}

#[test]
fn objects_that_nobody_wants() {
    let mut arena = Arena::new("");
    arena.attack(&Terms { budget: 16 << 20, counter: None }, |_, door| {
        // They are given back as fast as they come.
        let (mut evil, id) = patient_flood(door, |id| hundred(id, |id| handing(id, 4)));
        eprintln!("{}: {} objects handed over", door.name(), id * 2);
        still_lives(&mut evil, id);
        // Whoever does not wait for that is cut off, sooner or later.
        flood(door, |id| hundred(id, |id| handing(id, 4)));
        flood(door, |id| hundred(id, |id| handing(id, 500)));
    });
}

#[test]
fn releases_that_are_not_read() {
    let mut arena = Arena::new("write_stall=400");
    arena.attack(&Terms { budget: 16 << 20, counter: None }, |_, door| {
        let mut evil = door.greet();
        evil.set_write_timeout(Duration::from_millis(300));
        for id in 0..100_000 {
            if evil.try_send(&handing(2 * id + 1, 100)).is_err() {
                break;
            }
        }
        thread::sleep(Duration::from_millis(500));
    });
}

#[test]
fn objects_that_cannot_be() {
    let mut arena = Arena::new("");
    arena.attack(&Terms { budget: 16 << 20, counter: Some(|gauges| gauges.protocol_errors) }, |_, door| {
        let object =
            |id: u64| frame_with(kind::CALL, 0, 1, &field(OBJECT, &id.to_le_bytes()), &call_body("echo", &point(1)));
        let given = |ids: &[u64]| {
            let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            frame_with(kind::CALL, 0, 1, &field(HANDLES, &ids), &call_body("echo", &point(1)))
        };
        let ids = |ids: &[u64]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
        let wrong = [
            ("a call on an object that was never given", object(2)),
            ("a call on an object of one's own", object(1)),
            ("a call on none", object(0)),
            ("the same twice", given(&[1, 1])),
            ("one of the server's that it has not given", given(&[2])),
            ("a release of nothing", frame(RELEASE, 0, &[])),
            ("a release of what one does not have", frame(RELEASE, 0, &ids(&[2]))),
            ("half an id", frame(RELEASE, 0, &[2; 7])),
            ("an end of what is the server's", frame(GONE, 2, &[])),
            ("an end of none", frame(GONE, 0, &[])),
        ];
        for (what, bytes) in wrong {
            cut_off(door, what, &bytes);
        }
    });
}

fn cut_off(door: &Door, what: &str, bytes: &[u8]) {
    let mut evil = door.greet();
    evil.send(bytes);
    let all = evil.until_end();
    assert!(all.last().is_some_and(|last| last.is_close(CLOSE_PROTOCOL)), "{}: {what}: {all:?}", door.name());
}
