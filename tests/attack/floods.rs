//! Good frames, far too many of them; and peers that do not read, or read slowly.

use std::thread;
use std::time::{Duration, Instant};

use crate::arena::{Arena, EVERYBODY, Terms};
use crate::evil::{Door, Evil};
use crate::frames::{point, still_lives};
use crate::wire::{
    CLOSE_TIMEOUT, Got, Hello, call, call_begun, call_body, call_head, credit, field, frame, frame_with, kind,
};

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_millis(1500);

/// Writes what `batch` makes of a first id, with nothing in between, until the time is over or the peer hangs up; reads
/// what comes at the same time. More calls than there may be: the server may hang up at any time.
pub(crate) fn flood(door: &Door, batch: impl Fn(u64) -> (Vec<u8>, u64)) {
    let mut evil = door.greet();
    let mut reader = evil.split();
    let reading = thread::spawn(move || while reader.frame().is_some() {});
    let (since, mut id) = (Instant::now(), 1);
    while since.elapsed() < FLOOD {
        let (bytes, next) = batch(id);
        id = next;
        if evil.try_send(&bytes).is_err() {
            break;
        }
    }
    evil.finish_sending();
    reading.join().unwrap();
}

/// A hundred calls.
pub(crate) fn hundred(first: u64, one: impl Fn(u64) -> Vec<u8>) -> (Vec<u8>, u64) {
    let ids = (0..100).map(|n| first + 2 * n);
    (ids.flat_map(one).collect(), first + 200)
}

/// The same within the limits: the next batch leaves when every call of the last one has been answered.
pub(crate) fn patient_flood(door: &Door, batch: impl Fn(u64) -> (Vec<u8>, u64)) -> (Evil, u64) {
    let mut evil = door.greet();
    let (since, mut id) = (Instant::now(), 1);
    while since.elapsed() < FLOOD {
        let (bytes, next) = batch(id);
        evil.send(&bytes);
        for _ in 0..(next - id) / 2 {
            while !matches!(evil.frame().expect("the connection lives").kind, kind::REPLY | kind::FAIL) {}
        }
        id = next;
    }
    (evil, id)
}

#[test]
fn calls_of_unknown_methods() {
    let mut arena = Arena::new("");
    arena.attack(&Terms::default(), |_, door| {
        let one = |id| frame(kind::CALL, id, &[call_head(id, 10_000), point(1)].concat());
        flood(door, |id| hundred(id, one));
        let (mut evil, id) = patient_flood(door, |id| hundred(id, one));
        eprintln!("{}: {} calls answered", door.name(), id / 2);
        still_lives(&mut evil, id);
    });
}

/// As long and as many entries as there may be; more; and bytes that are none.
#[test]
fn metadata_without_end() {
    let mut arena = Arena::new("");
    let entry = |at: u8| [&[0, 2, 20, 0, b'a' + at % 26, b'a' + at / 26][..], &[b'x'; 20]].concat();
    let entries = |count| (0..count).flat_map(entry).collect::<Vec<u8>>();
    let values = [entries(64), entries(65), vec![0; 4000], vec![0xff; 2048]];
    arena.attack(&Terms::default(), |_, door| {
        let one = |id| {
            let metadata = field(0x10, &values[id as usize / 2 % values.len()]);
            frame_with(kind::CALL, 0, id, &metadata, &call_body("echo", &point(id)))
        };
        flood(door, |id| hundred(id, one));
        let (mut evil, id) = patient_flood(door, |id| hundred(id, one));
        eprintln!("{}: {} calls answered", door.name(), id / 2);
        still_lives(&mut evil, id);
    });
}

#[test]
fn calls_without_end_or_credit() {
    let mut arena = Arena::new("");
    arena.attack(&Terms { budget: 16 << 20, counter: None }, |_, door| {
        flood(door, |id| hundred(id, |id| call(id, "echo", &point(id))));
        flood(door, |id| hundred(id, |id| call(id, "upload", &[&1000_u64.to_le_bytes()[..], &[1; 1000]].concat())));
    });
}

/// Nothing is read: what is owed must not pile up.
#[test]
fn floods_of_a_peer_that_does_not_read() {
    let mut arena = Arena::new("write_stall=400");
    type Batch = fn(u64) -> (Vec<u8>, u64);
    let floods: [(&str, Batch); 5] = [
        ("PING", |id| (frame(kind::PING, 0, &[1; 8]).repeat(1000), id)),
        ("calls", |id| hundred(id, |id| call(id, "echo", &point(id)))),
        ("calls of nothing", |id| hundred(id, |id| frame(kind::CALL, id, &call_head(1, 10_000)))),
        ("calls whose time is over", |id| hundred(id, |id| frame(kind::CALL, id, &call_head(1, 0)))),
        ("calls and cancels", |id| {
            hundred(id, |id| [call(id, "reply", &900_u32.to_le_bytes()), frame(kind::CANCEL, id, &[])].concat())
        }),
    ];
    // What the kernel holds is not counted in the process.
    arena.attack(&Terms { budget: 16 << 20, counter: None }, |_, door| {
        let threads = floods.map(|(what, batch)| {
            let door = door.clone();
            thread::spawn(move || {
                let mut evil = door.greet();
                evil.set_write_timeout(Duration::from_millis(300));
                let (since, mut id, mut frames) = (Instant::now(), 1, 0);
                let mut blocked = false;
                while since.elapsed() < FLOOD && !blocked {
                    let (bytes, next) = batch(id);
                    blocked = evil.try_send(&bytes).is_err();
                    (id, frames) = (next, frames + 1);
                }
                eprintln!("{}: {what}: {frames} batches, blocked or cut off: {blocked}", door.name());
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_client_that_never_reads_its_replies() {
    let mut arena = Arena::new("write_stall=500,in_flight_per_connection=32");
    // As many values as calls, and the replies that are encoded already.
    let terms = Terms { budget: (32 << 20) + (8 << 20), counter: Some(|gauges| gauges.timeouts) };
    arena.attack(&terms, |arena, door| {
        let mut evil = door.greet();
        for id in 0..1000 {
            evil.send(&call(2 * id + 1, "reply", &(1_u32 << 20).to_le_bytes()));
        }
        let name = door.name();
        arena.wait(&format!("{name}: it is given up"), |gauges, _| gauges.connections == EVERYBODY);
        drop(evil);
        // The same, but it says now and then that it is alive.
        let mut evil = door.greet();
        evil.set_write_timeout(Duration::from_millis(200));
        let since = Instant::now();
        let mut cut = false;
        for id in 0.. {
            cut = evil.try_send(&call(2 * id + 1, "reply", &(1_u32 << 20).to_le_bytes())).is_err();
            if cut || since.elapsed() > Duration::from_secs(5) {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        assert!(cut, "{name}: still served after {:?}", since.elapsed());
    });
}

#[test]
fn a_client_that_reads_a_little() {
    let mut arena = Arena::new("write_stall=400,in_flight_per_connection=8");
    let terms = Terms { budget: (8 << 20) + (8 << 20), counter: Some(|gauges| gauges.timeouts) };
    arena.attack(&terms, |_, door| {
        let mut evil = door.greet();
        for id in 0..8 {
            evil.send(&call(2 * id + 1, "reply", &(1_u32 << 20).to_le_bytes()));
        }
        // Two frames, and then no more: the last word comes behind what was sent before.
        assert!(matches!(evil.frame(), Some(Got { kind: kind::REPLY | kind::CREDIT, .. })));
        thread::sleep(Duration::from_millis(1500));
        let all = evil.until_end();
        let close = all.iter().position(|got| got.kind == kind::CLOSE);
        assert!(close.is_none_or(|at| at + 1 == all.len() && all[at].is_close(CLOSE_TIMEOUT)));
    });
}

#[test]
fn calls_cancelled_at_once() {
    let mut arena = Arena::new("");
    // Handlers of `stubborn` cannot be cancelled, and keep their place until they are through.
    for (name, millis) in [("hold", 2000_u32), ("stubborn", 20)] {
        let one = |id| [call(id, name, &millis.to_le_bytes()), frame(kind::CANCEL, id, &[])].concat();
        // All calls first, so that some handlers start before they are cancelled.
        let later = |id| {
            let (mut bytes, next) = hundred(id, |id| call(id, name, &millis.to_le_bytes()));
            bytes.extend(hundred(id, |id| frame(kind::CANCEL, id, &[])).0);
            (bytes, next)
        };
        arena.attack(&Terms::default(), |arena, door| {
            arena.gauges();
            flood(door, |id| hundred(id, one));
            let (mut evil, once) = patient_flood(door, |id| hundred(id, one));
            still_lives(&mut evil, once);
            let (mut evil, twice) = patient_flood(door, later);
            still_lives(&mut evil, twice);
            let most = arena.gauges().running_most;
            eprintln!("{}: {name}: {} cancelled, at most {most} at once", door.name(), (once + twice) / 2);
            // Three connections, one after the other; the last handlers of one may overlap with the next's.
            assert!((1..=2 * 128).contains(&most), "{}: {name}: {most} handlers at once", door.name());
        });
    }
}

#[test]
fn ten_thousand_messages_begun() {
    let mut arena = Arena::new("");
    arena.attack(&Terms { budget: 16 << 20, counter: None }, |_, door| {
        let begun = |id| call_begun(id, "upload", 2048, &[0; 1024]);
        let mut evil = door.greet();
        let mut reader = evil.split();
        let reading = thread::spawn(move || while reader.frame().is_some() {});
        for id in 0..10_000 {
            evil.send(&begun(2 * id + 1));
        }
        evil.finish_sending();
        reading.join().unwrap();

        // As many as there may be are kept apart and end well, last first.
        let mut evil = door.greet();
        let payload = [&2040_u64.to_le_bytes()[..], &[5; 2040]].concat();
        for id in 0..128 {
            evil.send(&call_begun(2 * id + 1, "upload", 2048, &payload[..1024]));
        }
        for id in (0..128).rev() {
            evil.send(&frame_with(kind::CHUNK, 0, 2 * id + 1, &[], &payload[1024..]));
        }
        let answered = (0..128).map(|_| evil.expect(kind::REPLY).id).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(answered.len(), 128);
        still_lives(&mut evil, 1001);
    });
}

/// Large claims with little behind them fill the accounts, not the memory; the time of each call bounds how long.
#[test]
fn messages_begun_that_never_end() {
    let mut arena = Arena::new("");
    arena.attack(&Terms { budget: 16 << 20, counter: Some(|gauges| gauges.requests_refused) }, |arena, door| {
        let short = |id: u64, units: u32| {
            let mut call = call_begun(id, "upload", 4 << 20, &[0; 1024]);
            // Behind the header, the extension of the total, the method and the fingerprint.
            call[16 + 12 + 12..][..4].copy_from_slice(&units.to_le_bytes());
            call
        };
        let mut hoard: Vec<Evil> = (0..61).map(|_| door.greet()).collect();
        for evil in &mut hoard {
            evil.send(&short(1, 15_000));
            evil.send(&short(3, 15_000));
        }
        arena.wait("most of the memory is promised", |gauges, _| gauges.memory >= 61 * (8 << 20));
        for evil in &mut hoard {
            assert_eq!(evil.expect(kind::FAIL).body[..2], [0, 2], "not executed: the deadline passed");
            still_lives(evil, 5);
        }
        for evil in &mut hoard {
            // A third is within the window again, and a call more than there may be is refused, not closed.
            evil.send(&frame(kind::CALL, 7, &call_head(1, 0)));
        }
        hoard.iter_mut().for_each(|evil| still_lives(evil, 9));
    });
}

#[test]
fn credit_and_goodbyes_in_storms() {
    let mut arena = Arena::new("");
    arena.attack(&Terms::default(), |_, door| {
        for (what, bytes) in [
            ("GOAWAY", frame(kind::GOAWAY, 0, &[1; 13])),
            ("CREDIT", [credit(1, 0), credit(2, 0)].concat()),
            ("PONG", frame(kind::PONG, 0, &[0xff; 8])),
            ("CANCEL", frame(kind::CANCEL, 1, &[])),
            ("stray chunks", frame(kind::CHUNK, 1, &[])),
            ("kinds to be skipped", frame(0x80, 1, &[0; 100])),
        ] {
            let mut evil = door.greet();
            still_lives(&mut evil, 1);
            let since = Instant::now();
            while since.elapsed() < Duration::from_millis(200) {
                evil.send(&bytes.repeat(500));
            }
            eprintln!("{}: {what}", door.name());
            still_lives(&mut evil, 3);
        }
        let closes = door.greet().try_send(&frame(kind::CLOSE, 0, &[9]).repeat(100_000));
        eprintln!("{}: CLOSE: {closes:?}", door.name());
    });
}

#[test]
fn one_byte_at_a_time() {
    let mut arena = Arena::new("");
    arena.attack(&Terms::default(), |_, door| {
        let script = [
            Hello::honest().bytes(),
            call(1, "echo", &point(1)),
            frame(kind::PING, 0, &[3; 8]),
            call_begun(3, "upload", 1508, &[&1500_u64.to_le_bytes()[..], &[1; 1020]].concat()),
            frame_with(kind::CHUNK, 0, 3, &[], &[1; 480]),
        ]
        .concat();
        let mut evil = door.connect();
        let (hello, calls) = script.split_at(Hello::honest().bytes().len());
        hello.iter().for_each(|byte| evil.send(&[*byte]));
        assert_eq!(evil.expect(kind::HELLO).id, 0);
        calls.iter().for_each(|byte| evil.send(&[*byte]));
        let replies = [evil.expect(kind::REPLY).id, evil.expect(kind::REPLY).id];
        assert!(replies == [1, 3] || replies == [3, 1], "{replies:?}");
        still_lives(&mut evil, 5);
    });
}

#[test]
fn hanging_up_in_every_way() {
    let mut arena = Arena::new("");
    arena.attack(&Terms { budget: 16 << 20, counter: None }, |_, door| {
        for way in 0..120 {
            let mut evil = door.greet();
            evil.send(&call(1, "hold", &5000_u32.to_le_bytes()));
            evil.send(&call(3, "reply", &3_000_000_u32.to_le_bytes()));
            evil.send(&call_begun(5, "upload", 1 << 20, &[0; 2000]));
            if way % 2 == 0 {
                evil.send(&call(7, "echo", &point(1))[..way % 50]);
            }
            match way % 4 {
                0 => drop(evil),
                1 => evil.reset(),
                2 => {
                    evil.finish_sending();
                    evil.until_end();
                }
                _ => {
                    evil.finish_sending();
                    evil.reset();
                }
            }
        }
    });
}
