//! Everything at once, for as long as one likes: calls, streams, call cycles, cancels, deadlines and broken connections, at
//! random, over every transport. Every payload is compared; at the end nothing may be left.
//!
//! ```text
//! cargo run --release -p trunkline-benches --bin trunkline-soak -- --minutes 10
//! ```
//!
//! The time is shared out among the transports. Each has a server, and rounds: in a round connections come, live for a while
//! with several callers each, and end, some of them in the middle of it all, by a close, by the end of the runtime that
//! drives them, or as a process that is killed. After each round
//!
//! - all accounts of the server and of the connections that ended well are zero, and nobody has broken the protocol;
//! - there are as many tasks and descriptors as before the first;
//! - no more of the heap is held than there was at most after the rounds to warm up, give or take [`HEAP_SLACK`], and
//!   [`THREAD_HEAP`] for each thread;
//! - the resident memory is at most [`GROWTH`] times what it was then, and [`SLACK`] more.
//!
//! What waits for longer than [`watch::PATIENCE`] hangs, and is named. The exit code is 1 for anything wrong, and the seed is
//! printed: it decides what is done, but not when the kernel lets it happen.

mod calls;
mod life;
mod random;
mod rooms;
mod service;
mod site;
mod watch;

use std::process::{self, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};

use clap::Parser;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use trunkline::ServerHandle;
use trunkline_benches::allocations;

use crate::life::Course;
use crate::random::Random;
use crate::site::{Carrier, Site};
use crate::watch::Watch;

#[derive(Debug, Parser)]
#[command(name = "trunkline-soak")]
struct Options {
    /// For how long, all transports together
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,

    /// Decides what is done; a new one each time if it is not given
    #[arg(long)]
    seed: Option<u64>,

    /// Only these: tcp, unix, pipe, shm, in-place, mem
    #[arg(value_name = "TRANSPORT")]
    transports: Vec<String>,
}

fn main() -> ExitCode {
    allocations::count();
    quiet_panics();
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [word, transport, uri, seed] = &arguments[..] {
        if word == "child" {
            return child(transport, uri, seed.parse().unwrap_or(1));
        }
    }
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since.as_nanos() as u64 ^ u64::from(process::id()) << 32
    });
    println!("seed {seed}");
    let carriers: Vec<Carrier> =
        Carrier::ALL.into_iter().filter(|carrier| chosen(&options.transports, carrier.name())).collect();
    if carriers.is_empty() {
        eprintln!("there is no transport of that name; there are {}", Carrier::ALL.map(Carrier::name).join(", "));
        return ExitCode::from(2);
    }
    let span = Duration::from_secs_f64(options.minutes.max(0.0) * 60.0) / carriers.len() as u32;
    let watch = Watch::start(seed);
    for carrier in carriers {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(soak(carrier, Random::new(seed ^ carrier as u64), span, &watch));
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
    println!("nothing was wrong, with seed {seed}");
    ExitCode::SUCCESS
}

fn chosen(words: &[String], name: &str) -> bool {
    words.is_empty() || words.iter().any(|word| word == name)
}

/// One transport.
async fn soak(carrier: Carrier, mut random: Random, span: Duration, watch: &Arc<Watch>) {
    let rounds = (span.as_secs_f64() / ROUND.as_secs_f64()).clamp(4.0, 1e6) as u32;
    let site = Arc::new(Site::open(carrier, &mut random).await);
    let (handle, served) = (site.handle(), site.run());
    watch.look_at(handle.clone());
    settle(&handle, None, watch).await;
    let mut before = None;
    let (mut warm, mut warm_heap) = (0, 0);
    for round in 0..rounds {
        let ops = watch.count();
        let until = Instant::now() + span / (rounds + 1);
        live(&site, &mut random, until, watch).await;
        let level = settle(&handle, before, watch).await;
        // What the first one has begun may stay: threads that block, what a process has once.
        before.get_or_insert(level);
        let (resident, heap, threads) = (resident(), allocations::held(), entries("/proc/self/task"));
        let ops = watch.count() - ops;
        println!(
            "{}: round {} of {rounds}: {ops} calls, {} KiB resident, {heap} bytes of the heap held, {threads} threads",
            carrier.name(),
            round + 1,
            resident >> 10
        );
        if round < rounds.div_ceil(3) {
            (warm, warm_heap) = (warm.max(resident), warm_heap.max(heap));
            continue;
        }
        if heap > warm_heap + HEAP_SLACK + THREAD_HEAP * threads as i64 {
            let now = format!("{heap} bytes of the heap are held with {threads} threads");
            watch.wrong(format!("{now}, and were {warm_heap} in the first third"));
        }
        if resident as f64 > warm as f64 * GROWTH + SLACK as f64 {
            watch.wrong(format!("{resident} bytes are resident, and were {warm} in the first third"));
        }
    }

    // The server goes while all of that goes on.
    let course = Course::new(watch);
    let lives = crowd(&site, &mut random, Instant::now() + span / (rounds + 1), &course, false);
    tokio::time::sleep((span / (rounds + 1) / 2).min(Duration::from_secs(1))).await;
    course.cut();
    handle.shutdown();
    let op = watch.begin(|| format!("{}: the server drains", carrier.name()));
    served.await.expect("the server does not panic");
    lives.join_all().await;
    drop(op);
    check(&handle, watch);
}

/// One round.
async fn live(site: &Arc<Site>, random: &mut Random, until: Instant, watch: &Arc<Watch>) {
    let lives = crowd(site, random, until, &Course::new(watch), true);
    let mut seed = random.split();
    while let (Some(uri), true) = (site.uri(), Instant::now() < until) {
        kill_one(site.carrier, uri, &mut seed, watch).await;
    }
    lives.join_all().await;
}

/// Several connections, one after the other each, until then.
fn crowd(site: &Arc<Site>, random: &mut Random, until: Instant, course: &Course, kill: bool) -> JoinSet<()> {
    let mut lives = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (site, mut random, course) = (Arc::clone(site), random.split(), course.clone());
        lives.spawn(async move {
            while Instant::now() < until && !course.is_cut() {
                life::live(&site, &mut random, until, &course, kill).await;
            }
        });
    }
    lives
}

/// Waits until nothing is left of a round. How many tasks and descriptors there are then; no more than `before`.
async fn settle(handle: &ServerHandle, before: Option<(usize, usize)>, watch: &Arc<Watch>) -> (usize, usize) {
    let level = || (Handle::current().metrics().num_alive_tasks(), entries("/proc/self/fd"));
    for wait in 0.. {
        let stats = handle.stats();
        let (tasks, fds) = level();
        let rests = (stats.connections, stats.calls_in_flight, stats.memory) == (0, 0, 0);
        if rests && before.is_none_or(|(old_tasks, old_fds)| tasks <= old_tasks && fds <= old_fds) {
            break;
        }
        if wait > SETTLING.as_millis() / 10 {
            let connections = handle.connections();
            watch.wrong(format!(
                "{tasks} tasks and {fds} descriptors are left, where {before:?} were: {stats:?} {connections:?}"
            ));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    check(handle, watch);
    level()
}

fn check(handle: &ServerHandle, watch: &Arc<Watch>) {
    let stats = handle.stats();
    if (stats.protocol_errors, stats.timeouts, stats.accept_errors) != (0, 0, 0) {
        watch.wrong(format!("a peer is said to have done wrong: {stats:?}"));
    }
}

/// A client in a process of its own, which is killed in the middle.
async fn kill_one(carrier: Carrier, uri: &str, random: &mut Random, watch: &Arc<Watch>) {
    let program = env::current_exe().expect("this program has a path");
    let mut child = Command::new(program)
        .args(["child", carrier.name(), uri, &random.next().to_string()])
        .stdin(Stdio::null())
        .spawn()
        .expect("a child");
    tokio::time::sleep(Duration::from_millis(50 + random.below(400))).await;
    let _ = child.kill();
    let status = child.wait().expect("it has ended");
    if status.code().is_some() {
        watch.wrong(format!("a child has ended by itself: {status}"));
    }
}

/// Is that client.
fn child(transport: &str, uri: &str, seed: u64) -> ExitCode {
    let watch = Watch::start(seed);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let site = Arc::new(Site::elsewhere(transport, uri));
        let until = Instant::now() + Duration::from_secs(60);
        crowd(&site, &mut Random::new(seed), until, &Course::new(&watch), false).join_all().await;
    });
    ExitCode::SUCCESS
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).map(Iterator::count).unwrap_or_default()
}

/// Bytes.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}

/// Handlers and streams that panic do so on purpose.
fn quiet_panics() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&service::ON_PURPOSE) {
            loud(info);
        }
    }));
}

/// At a time.
const CONNECTIONS: usize = 6;
const ROUND: Duration = Duration::from_secs(5);
/// How long what has ended may take to be gone.
const SETTLING: Duration = Duration::from_secs(15);
const GROWTH: f64 = 1.2;
/// Bytes.
const SLACK: usize = 8 << 20;
/// Bytes: tables of the runtime's, which grow when more lives than ever before overlap.
const HEAP_SLACK: i64 = 64 << 10;
/// Bytes: the buffer that a thread keeps to encode in. Whether a thread has ever encoded one of the longest messages there are
/// here, of 200,000 bytes, is chance.
const THREAD_HEAP: i64 = 512 << 10;
