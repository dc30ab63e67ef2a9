//! A good conversation, mutated: no seed may do more than end its own connection.

use std::time::{Duration, Instant};

use crate::arena::{Arena, Terms};
use crate::frames::point;
use crate::payloads::chunked;
use crate::target::ONE_THREAD;
use crate::wire::{Hello, Random, call, credit, frame, kind, mutate};

/// What an ordinary client says, and a little more.
fn conversation() -> Vec<Vec<u8>> {
    let block: Vec<u8> = [&120_000_u64.to_le_bytes()[..], &vec![9; 120_000]].concat();
    vec![
        Hello::honest().bytes(),
        call(1, "echo", &point(1)),
        call(3, "upload", &[&5_u64.to_le_bytes()[..], b"bytes"].concat()),
        frame(kind::PING, 0, &[1; 8]),
        chunked(5, "upload", &block),
        call(7, "nested", &[1, 1, 1, 0]),
        call(9, "hold", &50_u32.to_le_bytes()),
        frame(kind::CANCEL, 9, &[]),
        call(11, "numbers", &[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]),
        call(13, "reply", &300_u32.to_le_bytes()),
        credit(2, 0),
        call(15, "fat", &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        frame(kind::GOAWAY, 0, &[0; 13]),
        call(17, "text", &[2, 0, 0, 0, 0, 0, 0, 0, b'h', b'i']),
    ]
}

/// To begin with a seed that has failed.
pub(crate) fn first_seed() -> u64 {
    std::env::var("TRUNKLINE_ATTACK_SEED").map_or(0, |seed| seed.parse().expect("a number"))
}

/// For as long as one door may take.
const PER_DOOR: Duration = Duration::from_secs(3);
const SEEDS: u64 = 3000;

#[test]
fn mutated_conversations() {
    fuzz("");
}

#[test]
fn mutated_conversations_with_a_server_of_one_thread() {
    fuzz(ONE_THREAD);
}

fn fuzz(limits: &str) {
    let mut arena = Arena::new(limits);
    let terms = Terms { budget: 80 << 20, counter: Some(|gauges| gauges.protocol_errors) };
    arena.attack(&terms, |_, door| {
        let (since, first) = (Instant::now(), first_seed());
        let mut done = 0;
        for seed in first..first + SEEDS {
            if since.elapsed() > PER_DOOR {
                break;
            }
            let mut random = Random(seed);
            let mut frames = conversation();
            // Mostly the small frames: the large one would take all the hits.
            match random.below(3) {
                0 => {
                    frames.remove(4);
                    let mut all = frames.concat();
                    mutate(&mut all, &mut random);
                    frames = vec![all];
                }
                1 => {
                    let at = random.below(frames.len());
                    mutate(&mut frames[at], &mut random);
                }
                _ => {
                    let (one, other) = (random.below(frames.len()), random.below(frames.len()));
                    frames.swap(one, other);
                    let at = random.below(frames.len());
                    mutate(&mut frames[at], &mut random);
                }
            }
            // Shown only if the test fails.
            println!("{}: seed {seed}", door.name());
            let mut evil = door.connect();
            evil.send(&frames.concat());
            evil.finish_sending();
            evil.until_end();
            done += 1;
        }
        eprintln!("{}: {done} mutations in {:?}", door.name(), since.elapsed());
    });
}
