//! Peers that set up their rings as they should, and then rewrite every word they own while the other side reads it.
//!
//! Each is a process of its own, with a second thread that never does anything else. Both ways: a hostile client at a
//! server, and a hostile server at a client.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use trunkline::{CallError, Connection, ConnectionError, Limits, Reason};

use crate::arena::{Arena, Terms, again};
use crate::evil::GUARD;
use crate::frames::point;
use crate::ring::{DATA, HEAD, PAD, PARK, Ring, WANT_SPACE, Words};
use crate::target::{Point, TargetClient};
use crate::wire::{Got, Hello, Random, call, call_begun, credit, frame, frame_with, kind, total};

/// For how many seconds each of the two goes on.
const SECONDS: &str = "TRUNKLINE_ATTACK_RING_SECONDS";

fn seconds() -> u64 {
    std::env::var(SECONDS).map_or(4, |seconds| seconds.parse().expect("a number"))
}

/// What the second thread does to the memory, all the time, while the first speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scribble {
    Nothing,
    Sleeps,
    Heads,
    NearHeads,
    FirstWords,
    Lengths,
    Payloads,
    Everything,
    Flicker,
}

/// What the first thread does beside speaking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Manner {
    Polite,
    NeverRings,
    NeverReleases,
    RingsAllTheTime,
    ClosesItsBell,
    ClosesTheOthersBell,
    ClosesBothBells,
    ClosesTheSocket,
    ShrinksThePipes,
    FillsItsBell,
    SpeaksOnTheSocket,
    BadLength,
    Pads,
    BadHead,
    Mutates,
}

use Manner::*;

const SCRIBBLES: [Scribble; 9] = [
    Scribble::Nothing,
    Scribble::Sleeps,
    Scribble::Heads,
    Scribble::NearHeads,
    Scribble::FirstWords,
    Scribble::Lengths,
    Scribble::Payloads,
    Scribble::Everything,
    Scribble::Flicker,
];
const MANNERS: [Manner; 15] = [
    Polite,
    NeverRings,
    NeverReleases,
    RingsAllTheTime,
    ClosesItsBell,
    ClosesTheOthersBell,
    ClosesBothBells,
    ClosesTheSocket,
    ShrinksThePipes,
    FillsItsBell,
    SpeaksOnTheSocket,
    BadLength,
    Pads,
    BadHead,
    Mutates,
];
/// No connection is attacked for longer.
const PATIENCE: Duration = Duration::from_millis(60);

fn scribble(own: &Words, what: Scribble, mut random: Random, stop: &AtomicBool, bell: impl Fn()) {
    let lines = (own.len() - DATA) / 64;
    while !stop.load(Relaxed) {
        let line = DATA + 64 * random.below(lines);
        let noise = random.next();
        match what {
            Scribble::Nothing => thread::sleep(Duration::from_micros(100)),
            Scribble::Sleeps => own.store([PARK, WANT_SPACE][random.below(2)], noise),
            Scribble::Heads => own.store(HEAD, [noise, noise & !63, u64::MAX, 0][random.below(4)]),
            // What might be true.
            Scribble::NearHeads => own.store(HEAD, (noise % (1 << 20)) & !63),
            Scribble::FirstWords => own.store(
                line,
                [noise, 0, 1 << 32, u64::from(PAD) << 32 | 56, u64::from(PAD - 1) << 32 | 8][random.below(5)],
            ),
            // A frame of a kind that there is.
            Scribble::Lengths => own.store(line, (noise % 9000) | (1 + noise % 14) << 32),
            Scribble::Payloads => own.store(line + 8 * (1 + random.below(7)), noise),
            Scribble::Everything => own.store(8 * random.below(own.len() / 8), noise),
            Scribble::Flicker => {
                // The first records come and go.
                let place = DATA + 64 * random.below(24);
                let word = own.word(place).swap(0, Relaxed);
                own.store(place, if word == 0 { 24 | 2 << 32 } else { word });
            }
        }
        if noise % 64 == 0 {
            bell();
        }
    }
}

fn misbehave(ring: &mut Ring, manner: Manner, random: &mut Random) {
    match manner {
        Polite | Mutates => {}
        NeverRings => ring.rings = false,
        NeverReleases => ring.releases = false,
        RingsAllTheTime => (0..500).for_each(|_| ring.ring()),
        ClosesItsBell => ring.bell = None,
        ClosesTheOthersBell => ring.sound = None,
        ClosesBothBells => (ring.bell, ring.sound) = (None, None),
        ClosesTheSocket => ring.socket = None,
        ShrinksThePipes => ring.resize_pipes(4096),
        FillsItsBell => {
            ring.resize_pipes(1 << 20);
            ring.fill_bell(1 << 20);
        }
        SpeaksOnTheSocket => ring.write_on_socket(),
        BadLength => {
            let len = [0, 1, 7, 8, 9, 60_000, 8 << 20, u64::from(u32::MAX)][random.below(8)];
            let place = ring.place(ring.published);
            ring.own.store(place, len | (random.next() % 256) << 32);
            ring.ring();
        }
        Pads => {
            for at in (DATA..ring.own.len()).step_by(64) {
                let left = (ring.own.len() - at) as u64;
                let len = [left - 8, 56, 0, u64::from(u32::MAX)][random.below(4)];
                ring.own.store(at, len | u64::from(PAD) << 32);
            }
            ring.ring();
        }
        BadHead => {
            let (head, far) = (ring.consumed, random.next());
            let wrong: [u64; 8] = [head + 1, head + 64, head.wrapping_sub(64), 0, u64::MAX, !63, far, far & !63];
            ring.own.store(HEAD, wrong[random.below(8)]);
            ring.releases = false;
            ring.ring();
        }
    }
}

/// Speaks, with both hands on the memory, until the other side has had enough or patience ends. `say` makes the next
/// frame, given what came in.
fn torment(
    ring: &mut Ring,
    random: &mut Random,
    mut say: impl FnMut(&mut Random, Option<Got>) -> Option<Vec<u8>>,
) -> bool {
    let what = SCRIBBLES[random.below(SCRIBBLES.len())];
    let manner = MANNERS[random.below(MANNERS.len())];
    let until = Instant::now() + PATIENCE;
    // Only later, so that some calls run.
    let misbehaves = random.below(200);
    let stop = AtomicBool::new(false);
    // The second thread has the memory and a bell; all else is the first's.
    let (own, bell) = (ring.own.clone(), ring.bell.as_ref().map(|bell| bell.try_clone().unwrap()));
    let seed = Random(random.next());
    thread::scope(|scope| {
        scope.spawn(|| {
            scribble(&own, what, seed, &stop, || {
                if let Some(bell) = bell.as_ref().filter(|_| manner == RingsAllTheTime) {
                    let _ = nix::unistd::write(bell, &[0]);
                }
            });
        });
        // However this ends.
        let _stop = Stopping(&stop);
        let mut ended = false;
        for turn in 0.. {
            if turn == misbehaves {
                misbehave(ring, manner, random);
            }
            let came = ring.next();
            let idle = came.is_none();
            if let Some(mut frame) = say(random, came) {
                if manner == Mutates && random.below(20) == 0 {
                    crate::wire::mutate(&mut frame, random);
                }
                ring.publish(&frame);
            } else if idle {
                thread::sleep(Duration::from_micros(30));
            }
            if turn % 16 == 0 {
                ended = ring.is_over();
                if ended || Instant::now() > until {
                    break;
                }
            }
        }
        ended
    })
}

/// Stops the second thread when the first is done, or panics.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[derive(Default)]
struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn add(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    fn say(&self) {
        let all: Vec<String> = self.0.iter().map(|(what, count)| format!("{what}: {count}")).collect();
        println!("\ntally {}", all.join(", "));
    }
}

/// `path seconds seed`
fn arguments(text: &str) -> (PathBuf, Duration, Random) {
    let mut parts = text.split(' ');
    let mut next = || parts.next().expect("one more argument");
    let path = PathBuf::from(next());
    (path, Duration::from_secs(next().parse().unwrap()), Random(next().parse().unwrap()))
}

/// The part of a hostile client.
pub(crate) fn hostile_client(text: &str) {
    let (path, time, mut random) = arguments(text);
    let (since, mut tally) = (Instant::now(), Tally::default());
    while since.elapsed() < time {
        let mut ring = match Ring::connect_as(&path, random.below(2) == 0) {
            Ok(ring) => ring,
            Err(error) => {
                tally.add(format!("not set up ({:?})", error.kind()));
                continue;
            }
        };
        if random.below(10) > 0 {
            ring.publish(&Hello::honest().bytes());
            if random.below(4) > 0 {
                ring.wait(Instant::now() + GUARD);
            }
        }
        // Others break the rules in their memory alone.
        let rude = random.below(3) == 0;
        let mut id = 1_u64;
        let ended = torment(&mut ring, &mut random, |random, _| {
            id += 2;
            match random.below(if rude { 12 } else { 8 }) {
                0 => Some(call(id, "reply", &(random.next() as u32 % 200_000).to_le_bytes())),
                1 => Some(frame(kind::PING, 0, &[0; 8])),
                2 => Some(call(id, "upload", &[&5000_u64.to_le_bytes()[..], &[3; 5000]].concat())),
                3 => None,
                8 => Some(call_begun(id, "upload", 30_000, &vec![9; 3000])),
                9 => {
                    let len = 2000 + random.below(3000);
                    Some(frame_with(kind::CHUNK, random.below(2) as u8, id.saturating_sub(4), &[], &vec![9; len]))
                }
                10 => Some(frame(kind::CANCEL, id - 2, &[])),
                11 => Some(credit(2, random.below(100_000) as u64)),
                _ => Some(call(id, "echo", &point(id))),
            }
        });
        tally.add(if ended { "cut off" } else { "left" });
    }
    tally.say();
}

/// The part of a hostile server: it listens on `path` and torments whoever comes, until it is killed.
pub(crate) fn hostile_server(text: &str) {
    let (path, _, mut random) = arguments(text);
    let listener = UnixListener::bind(&path).unwrap();
    println!("\nlistening");
    loop {
        let Ok(mut ring) = Ring::accept_as(&listener, random.below(2) == 0) else { continue };
        if random.below(10) > 0 {
            ring.publish(&Hello::honest().bytes());
        }
        let rude = random.below(3) == 0;
        torment(&mut ring, &mut random, |random, got| {
            let Some(got) = got.filter(|got| got.kind == kind::CALL) else {
                return (rude && random.below(50) == 0).then(|| credit(1, random.below(70_000) as u64));
            };
            match random.below(if rude { 12 } else { 60 }) {
                0 => None,
                1 => Some(frame(kind::FAIL, got.id, &[random.below(3) as u8, random.below(9) as u8])),
                2 => Some(frame_with(kind::REPLY, 1, got.id, &total(9000), &[0; 3000])),
                3 => Some(frame_with(kind::CHUNK, random.below(2) as u8, got.id, &[], &[0; 3000])),
                4 => Some(frame(kind::PING, 0, &[0; 8])),
                _ => Some(frame(kind::REPLY, got.id, got.body.get(16..).unwrap_or_default())),
            }
        });
    }
}

/// The part of an honest client of a hostile server. Every connection ends, every call ends, with a type.
pub(crate) fn besieged(text: &str) {
    let (path, time, _) = arguments(text);
    let uri = format!("shm:{}", path.display());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (since, mut tally) = (Instant::now(), Tally::default());
    let mut start = None;
    while since.elapsed() < time {
        runtime.block_on(one_connection(&uri, &mut tally));
        if start.is_none() && since.elapsed() > time / 4 {
            start = Some((at_rest(), resident()));
        }
    }
    let (fds, memory) = start.expect("it took some time");
    let (fds_now, memory_now) = (at_rest(), resident());
    tally.add(format!("resident {} KiB -> {} KiB, runs", memory >> 10, memory_now >> 10));
    tally.say();
    assert!(fds_now <= fds, "{fds} descriptors have become {fds_now}");
    assert!(memory_now < memory + (24 << 20), "{memory} bytes have become {memory_now}");
    // Mappings of rings that are gone.
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert_eq!(maps.lines().filter(|line| line.contains("memfd:trunkline")).count(), 0);
}

async fn one_connection(uri: &str, tally: &mut Tally) {
    let limits = Limits::default()
        .hello_timeout(Duration::from_millis(300))
        .deadline_default(Duration::from_millis(300))
        .write_stall(Duration::from_millis(300));
    let connected = timeout(GUARD, Connection::builder().limits(limits).connect(uri)).await;
    let connection = match connected.expect("connecting ends") {
        Ok(connection) => connection,
        Err(error) => return tally.add(format!("not connected ({})", class(&format!("{error:?}")))),
    };
    tally.add("connected");
    let client: TargetClient = connection.client();
    let block = vec![3; 100_000];
    for n in 0..200 {
        let sent = Point { a: n, b: 1, c: 2.0, d: (3, 4, 5, true) };
        let calls =
            async { tokio::join!(client.echo(sent), client.upload(&block), client.reply(50_000), client.echo(sent)) };
        let (one, two, three, four) = timeout(GUARD, calls).await.expect("calls end");
        let mut lost = false;
        for ended in [one.err(), two.err(), three.err(), four.err()] {
            let Some(error) = ended else {
                tally.add("answered");
                continue;
            };
            lost |= matches!(
                &error,
                CallError::NotExecuted(Reason::ConnectionLost(_)) | CallError::MaybeExecuted(Reason::ConnectionLost(_))
            );
            tally.add(class(&format!("{error:?}")));
        }
        if lost {
            break;
        }
    }
    connection.close();
    let ended = timeout(GUARD, connection.closed()).await.expect("the connection ends");
    if let ConnectionError::Protocol(error) = &ended {
        tally.add(format!("found out: {}", class(&format!("{error:?}"))));
    }
}

/// An error's name, without its numbers.
fn class(error: &str) -> String {
    let names: String = error.chars().map(|c| if c.is_alphabetic() || c == '(' { c } else { ' ' }).collect();
    names.split_whitespace().next().unwrap_or_default().trim_end_matches('(').to_owned()
}

/// This process's descriptors, once they stay as many.
fn at_rest() -> usize {
    let count = || fs::read_dir("/proc/self/fd").unwrap().count();
    let since = Instant::now();
    let mut least = count();
    while since.elapsed() < Duration::from_secs(2) {
        thread::sleep(Duration::from_millis(20));
        least = least.min(count());
    }
    least
}

fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Starts this program in another part; what it said, once it has ended well.
fn run(role: &str, dir: &Path, argument: &str) -> String {
    let stderr = dir.join(format!("stderr of {role}"));
    let mut command = again(role, dir, argument, None);
    let command = command.stdout(Stdio::piped()).stderr(File::create(&stderr).unwrap());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let (said, stderr) = (String::from_utf8_lossy(&output.stdout).into_owned(), fs::read_to_string(stderr).unwrap());
    assert!(output.status.success() && !stderr.contains("panicked"), "{role}: {}: {stderr}{said}", output.status);
    said.lines().filter_map(|line| line.strip_prefix("tally ")).map(|line| format!("{role}: {line}")).collect()
}

fn seed() -> u64 {
    crate::fuzz::first_seed().max(1)
}

#[test]
fn clients_that_rewrite_what_is_being_read() {
    let limits = "write_stall=300,hello_timeout=300";
    let mut arena = Arena::new(limits);
    let argument = format!("{} {} {}", arena.ring().display(), seconds(), seed());
    let terms = Terms { budget: 64 << 20, counter: Some(|gauges| gauges.protocol_errors) };
    arena.attack_as("shm", &terms, |arena| {
        thread::scope(|scope| {
            let other = scope.spawn(|| run("hostile ring client", arena.dir(), &format!("{argument}7")));
            eprintln!("{}", run("hostile ring client", arena.dir(), &argument));
            eprintln!("{}", other.join().unwrap());
        });
        let gauges = arena.gauges();
        eprintln!("protocol errors: {}, connections: {}", gauges.protocol_errors, gauges.connections_accepted);
    });
}

#[test]
fn servers_that_rewrite_what_is_being_read() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let path = dir.join("siege.sock");
    let argument = format!("{} {} {}", path.display(), seconds(), seed());
    let mut server = again("hostile ring server", dir, &argument, None);
    let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "listening"));
    let said = std::panic::catch_unwind(|| run("besieged", dir, &argument));
    let _ = server.kill();
    let _ = server.wait();
    eprintln!("{}", said.expect("the honest client fares well"));
}
