//! Many peers: that say nothing, that take every descriptor, that are killed.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::arena::{Arena, EVERYBODY, Terms, again};
use crate::evil::Evil;
use crate::frames::{point, still_lives};
use crate::target::{Point, TargetClient};
use crate::wire::{CLOSE_TOO_MANY, Hello, Random, call, call_begun};

/// Kills at random moments, all transports together.
const KILLS: u64 = 100;

#[test]
fn two_thousand_peers_that_say_nothing() {
    let mut arena = Arena::new("connections=200,hello_timeout=1500");
    // Those that have a place and those that are being turned away.
    let terms = Terms { budget: 264 * (64 << 10), counter: Some(|gauges| gauges.connections_refused) };
    arena.attack(&terms, |arena, door| {
        let before = arena.fds();
        let silent: Vec<Evil> = (0..2000)
            .map(|n| {
                if n % 100 == 0 {
                    assert!(arena.gauges().connections <= 200);
                }
                door.connect()
            })
            .collect();
        arena.wait("the server has looked at them all", |gauges, _| gauges.connections_refused >= 1000);
        // The bridge of `mem:` has a descriptor for each of its own.
        let fds = arena.fds();
        // Besides those with a place and those that are being turned away, one that has just been accepted.
        let most = before + 200 + 64 + 1;
        assert!(door.name() == "mem" || fds <= most, "{fds} descriptors for 200 connections, {before} before");
        // Those that got a place lose it.
        arena.wait("their patience is over", |gauges, _| gauges.connections <= EVERYBODY);
        still_lives(&mut door.greet(), 1);
        drop(silent);
    });
}

/// Who comes when there are too many is told so, and gets nothing done, however quickly it asks.
#[test]
fn a_peer_too_many_is_not_served() {
    let mut arena = Arena::new("connections=15");
    let terms = Terms { budget: 0, counter: Some(|gauges| gauges.connections_refused) };
    arena.attack(&terms, |_, door| {
        let kept: Vec<Evil> = (0..10).map(|_| door.greet()).collect();
        for _ in 0..50 {
            let mut evil = door.connect();
            evil.send(&[Hello::honest().bytes(), call(1, "echo", &point(1))].concat());
            let all = evil.until_end();
            assert!(all.len() == 1 && all[0].is_close(CLOSE_TOO_MANY), "{}: {all:?}", door.name());
        }
        drop(kept);
    });
}

#[test]
fn two_thousand_peers_that_talk_nonsense() {
    let mut arena = Arena::new("connections=500");
    let terms = Terms { budget: 64 << 20, counter: Some(|gauges| gauges.protocol_errors) };
    arena.attack(&terms, |arena, door| {
        // Each stays until the end, although it has been told to go, and is hung up on.
        let nonsense: Vec<Evil> = (0..2000)
            .map(|n| {
                let mut evil = door.connect();
                evil.send(&Random(n).bytes(100));
                evil
            })
            .collect();
        arena.wait("the server has hung up", |gauges, _| gauges.connections == EVERYBODY);
        still_lives(&mut door.greet(), 1);
        drop(nonsense);
    });
}

#[test]
fn more_peers_than_descriptors() {
    let mut arena = Arena::with("hello_timeout=60000", Some("ulimit -n 64"));
    let terms = Terms { budget: 0, counter: Some(|gauges| gauges.accept_errors) };
    // The bridge of `mem:` needs descriptors of its own, and is no part of the library.
    for door in [arena.unix(), arena.tcp()] {
        arena.attack_one(&terms, &door, |arena, door| {
            let crowd: Vec<Evil> = (0..200).map(|_| door.connect()).collect();
            arena.wait("no descriptors are left", |gauges, fds| gauges.accept_errors > 0 && fds >= 60);
            thread::sleep(Duration::from_millis(700));
            drop(crowd);
            still_lives(&mut door.greet(), 1);
        });
    }
}

/// The part of a process that is killed: it calls in every way until then.
pub(crate) fn client(endpoint: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = TargetClient::connect(endpoint).await.unwrap();
        println!("\nconnected");
        let block = vec![1; 600_000];
        let point = Point { a: 1, b: 2, c: 3.0, d: (4, 5, 6, true) };
        loop {
            let _ = tokio::join!(
                client.echo(point),
                client.upload(&block),
                client.reply(700_000),
                client.hold(3),
                client.numbers(vec![1; 1000]),
                client.stubborn(2),
            );
        }
    });
}

#[test]
fn clients_killed_at_random_moments() {
    let mut arena = Arena::new("");
    let doors = [arena.unix(), arena.tcp()];
    let endpoints = [format!("unix:{}", arena.dir().join("rpc.sock").display()), format!("tcp://{}", arena.tcp)];
    let mut random = Random(2024);
    for (door, endpoint) in doors.iter().zip(endpoints) {
        let delays: Vec<Duration> = (0..KILLS / 2).map(|_| Duration::from_micros(random.next() % 20_000)).collect();
        arena.attack_one(&Terms { budget: 32 << 20, counter: None }, door, |arena, _| {
            for delay in &delays {
                let mut client = again("client", arena.dir(), &endpoint, None);
                let mut client = client.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
                let mut lines = std::io::BufRead::lines(std::io::BufReader::new(client.stdout.take().unwrap()));
                let connected = lines.any(|line| line.is_ok_and(|line| line == "connected"));
                assert!(connected, "a client could not connect");
                thread::sleep(*delay);
                client.kill().unwrap();
                client.wait().unwrap();
            }
        });
    }
    // In the server's own process there is nobody to kill; hanging up in the middle is the same to it.
    let door = &arena.doors()[2];
    arena.attack_one(&Terms { budget: 32 << 20, counter: None }, door, |_, door| {
        for n in 0..KILLS {
            let mut evil = door.greet();
            evil.send(&call(1, "hold", &3_u32.to_le_bytes()));
            evil.send(&call(3, "reply", &700_000_u32.to_le_bytes()));
            evil.send(&call_begun(5, "upload", 600_000, &[0; 5000])[..500 + 40 * n as usize]);
            thread::sleep(Duration::from_micros(n * 50));
        }
    });
}
