//! SIGKILL and SIGSTOP at random moments, to either side of rings in shared memory; and what the other side has left of
//! it afterwards: no descriptor, no mapping, no memory, and the right outcome of every call.
//!
//! A survivor is a process of its own, so that its descriptors can be counted. `TRUNKLINE_KILLS` says how many die.

#![cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use trunkline::{CallError, ConnectError, Connection, Limits, Server};

const ROLE: &str = "TRUNKLINE_KILLS_ROLE";
const DIR: &str = "TRUNKLINE_KILLS_DIR";
const COUNT: &str = "TRUNKLINE_KILLS";
/// Against hanging; nothing that works takes as long.
const GUARD: Duration = Duration::from_secs(20);
/// How long a call of a stopped server's may take.
const DEADLINE: Duration = Duration::from_millis(150);
const LENGTHS: [usize; 8] = [0, 8, 100, 300, 3000, 40_000, 300_000, 1_500_000];

fn count() -> u64 {
    std::env::var(COUNT).map_or(40, |count| count.parse().expect("a number"))
}

#[trunkline::service]
trait Doomed {
    /// Leaves its mark, once, and answers with how much it was given.
    async fn mark(&self, token: u64, bytes: &[u8]) -> u64;
    async fn fetch(&self, token: u64, len: u32) -> Vec<u8>;
}

/// A file that survives: 8 bytes for every execution, in one write.
#[derive(Clone)]
struct Ledger(Arc<File>);

impl Ledger {
    fn open(dir: &Path) -> Ledger {
        let file = OpenOptions::new().create(true).append(true).open(dir.join("ledger"));
        Ledger(Arc::new(file.expect("the ledger opens")))
    }

    fn mark(&self, token: u64) {
        (&*self.0).write_all(&token.to_le_bytes()).expect("the ledger takes a mark");
    }

    fn read(dir: &Path) -> HashMap<u64, u64> {
        let bytes = fs::read(dir.join("ledger")).unwrap_or_default();
        let mut all = HashMap::new();
        for token in bytes.chunks_exact(8) {
            *all.entry(u64::from_le_bytes(token.try_into().unwrap())).or_default() += 1;
        }
        all
    }
}

impl Doomed for Ledger {
    async fn mark(&self, token: u64, bytes: &[u8]) -> u64 {
        Ledger::mark(self, token);
        if token % 5 == 0 {
            sleep(Duration::from_millis(token % 3)).await;
        }
        bytes.len() as u64
    }

    async fn fetch(&self, token: u64, len: u32) -> Vec<u8> {
        Ledger::mark(self, token);
        vec![token as u8; len as usize]
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// This program in another part.
struct Other {
    process: Child,
    /// It ends when this is closed.
    stdin: Option<ChildStdin>,
}

impl Other {
    fn start(role: &str, dir: &Path) -> Other {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "another_process", "--nocapture", "--test-threads=1"]).env(ROLE, role).env(DIR, dir);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.ends_with("ready")), "{role} did not begin");
        let stdin = process.stdin.take();
        Other { process, stdin }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.stdin = None;
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Not a test: what this binary does when a test starts it again.
#[test]
fn another_process() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(DIR)) else {
        return;
    };
    let dir = PathBuf::from(dir);
    match role.as_str() {
        "server" => serve(&dir),
        "client" => call(&dir),
        "servers die" => servers_die(&dir),
        "clients die" => clients_die(&dir),
        "peers stop" => peers_stop(&dir),
        role => panic!("no such role: {role}"),
    }
}

fn end_with_stdin() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

fn uri(dir: &Path) -> String {
    format!("shm:{}", dir.join("rpc.sock").display())
}

fn serve(dir: &Path) {
    end_with_stdin();
    runtime().block_on(async {
        let server = Server::builder().service(DoomedServer::new(Ledger::open(dir)));
        let server = server.bind(uri(dir)).await.unwrap();
        println!("\nready");
        server.run().await;
    });
}

fn call(dir: &Path) {
    end_with_stdin();
    runtime().block_on(async {
        let client = DoomedClient::connect(uri(dir)).await.unwrap();
        println!("\nready");
        let load = Load::default();
        // Numbers that no other process has.
        load.next.store(u64::from(std::process::id()) << 32, Ordering::Relaxed);
        load.callers(&client, None).join_all().await;
    });
}

/// Calls of all sizes, and how each ended.
#[derive(Clone, Default)]
struct Load {
    next: Arc<AtomicU64>,
}

type Outcome = (u64, Result<(), CallError>);

impl Load {
    /// Each goes on until a call has failed for good; with a deadline, until `stop` says so.
    fn callers(&self, client: &DoomedClient, stop: Option<Arc<AtomicU64>>) -> JoinSet<Vec<Outcome>> {
        let mut callers = JoinSet::new();
        for n in 0..6 {
            let (client, next, stop) = (client.clone(), self.next.clone(), stop.clone());
            callers.spawn(async move {
                let mut outcomes = Vec::new();
                loop {
                    let token = next.fetch_add(1, Ordering::Relaxed);
                    let len = LENGTHS[((token * 7 + n) % LENGTHS.len() as u64) as usize];
                    let outcome = one(&client, token, len, stop.is_some()).await;
                    let over = match &stop {
                        None => outcome.is_err(),
                        Some(stop) => stop.load(Ordering::Relaxed) == 1,
                    };
                    outcomes.push((token, outcome));
                    if over {
                        return outcomes;
                    }
                }
            });
        }
        callers
    }
}

async fn one(client: &DoomedClient, token: u64, len: usize, deadline: bool) -> Result<(), CallError> {
    let within = if deadline { DEADLINE } else { Duration::from_secs(60) };
    if token % 2 == 0 {
        let bytes = vec![1; len];
        let answer = client.mark(token, &bytes).timeout(within).await?;
        assert_eq!(answer, len as u64);
    } else {
        let bytes = client.fetch(token, len as u32).timeout(within).await?;
        assert!(bytes.len() == len && bytes.iter().all(|byte| *byte == token as u8), "another call's reply");
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Tally {
    done: u64,
    not: u64,
    maybe: u64,
    maybe_executed: u64,
}

impl Tally {
    /// Every outcome is what the ledger says.
    fn settle(&mut self, all: Vec<Outcome>, dir: &Path) {
        let executions = Ledger::read(dir);
        for (token, outcome) in all {
            let executions = executions.get(&token).copied().unwrap_or_default();
            match outcome {
                Ok(()) => {
                    assert_eq!(executions, 1, "call {token} was answered");
                    self.done += 1;
                }
                Err(CallError::NotExecuted(reason)) => {
                    assert_eq!(executions, 0, "call {token} was not executed: {reason:?}");
                    self.not += 1;
                }
                Err(CallError::MaybeExecuted(reason)) => {
                    assert!(executions <= 1, "call {token} was executed {executions} times: {reason:?}");
                    self.maybe += 1;
                    self.maybe_executed += executions;
                }
            }
        }
    }
}

async fn ended_all(mut callers: JoinSet<Vec<Outcome>>) -> Vec<Outcome> {
    let mut all = Vec::new();
    while let Some(outcomes) = timeout(GUARD, callers.join_next()).await.expect("every call ends") {
        all.extend(outcomes.expect("no caller panics"));
    }
    all
}

/// What a process has.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Belongings {
    fds: usize,
    rings: usize,
    resident: u64,
}

impl Belongings {
    fn now() -> Belongings {
        let fds = fs::read_dir("/proc/self/fd").unwrap().count();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let rings = maps.lines().filter(|line| line.contains("memfd:trunkline")).count();
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        let resident = statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096;
        Belongings { fds, rings, resident }
    }

    /// They become what they were.
    async fn are_back(&self, what: &str) {
        let since = Instant::now();
        loop {
            let now = Belongings::now();
            if now.fds <= self.fds && now.rings <= self.rings {
                assert!(now.resident <= self.resident + (32 << 20), "{what}: {self:?} has become {now:?}");
                return;
            }
            assert!(since.elapsed() < GUARD, "{what}: {self:?} has become {now:?}");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

fn shared_names() -> Vec<String> {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A client lives through the deaths of its servers.
fn servers_die(dir: &Path) {
    let (mut tally, mut random, mut unconnected) = (Tally::default(), Random(count()), 0);
    let load = Load::default();
    let mut start = None;
    let since = Instant::now();
    for round in 0..count() {
        let _ = fs::remove_file(dir.join("ledger"));
        let mut server = Other::start("server", dir);
        runtime_of(&mut start, round, async |start: &mut Option<Belongings>| {
            let moment = Duration::from_micros(random.below(30_000));
            let (stopped, early) = (random.below(3) == 0, random.below(8) == 0);
            let connecting = tokio::spawn(Connection::builder().connect(uri(dir)));
            if !early {
                let client: DoomedClient = match timeout(GUARD, connecting).await.expect("connecting ends").unwrap() {
                    Ok(connection) => connection.client(),
                    Err(error) => panic!("{error}"),
                };
                let callers = load.callers(&client, None);
                sleep(moment).await;
                if stopped {
                    server.signal(Signal::SIGSTOP);
                    sleep(moment / 4).await;
                }
                server.kill();
                let died = Instant::now();
                tally.settle(ended_all(callers).await, dir);
                assert!(died.elapsed() < Duration::from_secs(5), "it took {:?}", died.elapsed());
            } else {
                // In the middle of connecting.
                sleep(moment / 12).await;
                server.kill();
                match timeout(GUARD, connecting).await.expect("connecting ends").unwrap() {
                    Ok(_) => {}
                    Err(ConnectError::Unreachable { .. } | ConnectError::Lost(_) | ConnectError::Handshake(_)) => {
                        unconnected += 1;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            if let Some(start) = start {
                start.are_back("after a server's death").await;
            }
        });
    }
    println!("\ntally {} servers in {:?}, {unconnected} while connecting: {tally:?}", count(), since.elapsed());
    assert!(tally.done > 0);
}

/// Runs a round; when some are over, what the process has is what it may keep.
fn runtime_of(start: &mut Option<Belongings>, round: u64, work: impl AsyncFnOnce(&mut Option<Belongings>)) {
    // Built once for the whole process, as a program's is.
    static RUNTIME: std::sync::OnceLock<Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(runtime).block_on(async {
        work(start).await;
        if round == WARM_UP {
            sleep(Duration::from_millis(300)).await;
            *start = Some(Belongings::now());
        }
    });
}

/// After so many rounds the allocator and the runtime have what they want.
const WARM_UP: u64 = 10;

/// A server lives through the deaths of its clients.
fn clients_die(dir: &Path) {
    let runtime = runtime();
    runtime.block_on(async {
        let server = Server::builder().service(DoomedServer::new(Ledger::open(dir)));
        let server = server.limits(Limits::default().write_stall(Duration::from_secs(5)));
        let server = server.bind(uri(dir)).await.unwrap();
        let handle = server.handle();
        tokio::spawn(server.run());
        let honest = DoomedClient::connect(uri(dir)).await.unwrap();
        let (mut random, mut start, mut slowest) = (Random(count()), None, Duration::ZERO);
        let since = Instant::now();
        for round in 0..count() {
            let mut client = Other::start("client", dir);
            sleep(Duration::from_micros(random.below(30_000))).await;
            if random.below(3) == 0 {
                client.signal(Signal::SIGSTOP);
                // It stops nobody else.
                for n in 0..5 {
                    let began = Instant::now();
                    let answer = timeout(GUARD, honest.mark(n * 2, &[0; 5000])).await.expect("an answer");
                    assert_eq!(answer.unwrap(), 5000);
                    slowest = slowest.max(began.elapsed());
                }
            }
            client.kill();
            let died = Instant::now();
            while handle.stats().connections > 1 || handle.stats().calls_in_flight > 0 {
                assert!(died.elapsed() < GUARD, "not at rest: {:?}", handle.stats());
                sleep(Duration::from_micros(500)).await;
            }
            assert_eq!(handle.stats().memory, 0);
            assert_eq!(timeout(GUARD, honest.mark(1, b"next")).await.expect("an answer").unwrap(), 4);
            let next = timeout(GUARD, DoomedClient::connect(uri(dir))).await.expect("connecting ends").unwrap();
            assert_eq!(timeout(GUARD, next.mark(1, b"next")).await.expect("an answer").unwrap(), 4);
            drop(next);
            match &start {
                None if round >= WARM_UP => {
                    sleep(Duration::from_millis(300)).await;
                    start = Some(Belongings::now());
                }
                None => {}
                Some(start) => start.are_back("after a client's death").await,
            }
        }
        let stats = handle.stats();
        let twice = Ledger::read(dir).into_iter().filter(|(token, times)| *token > 1 << 32 && *times > 1).count();
        assert_eq!((twice, stats.protocol_errors), (0, 0));
        let marks = Ledger::read(dir).len();
        println!(
            "\ntally {} clients in {:?}: {marks} calls executed, {} connections, slowest beside a stopped one {slowest:?}",
            count(),
            since.elapsed(),
            stats.connections_accepted
        );
    });
}

/// A server that is stopped, again and again, and one that is not.
fn peers_stop(dir: &Path) {
    let (one, other) = (dir.join("one"), dir.join("other"));
    fs::create_dir_all(&one).unwrap();
    fs::create_dir_all(&other).unwrap();
    let (stopped, awake) = (Other::start("server", &one), Other::start("server", &other));
    let (mut tally, mut beside, mut random) = (Tally::default(), 0, Random(count()));
    let load = Load::default();
    let since = Instant::now();
    runtime().block_on(async {
        let limits = Limits::default().ping_timeout(Duration::from_secs(30)).write_stall(Duration::from_secs(30));
        let connection = Connection::builder().limits(limits).connect(uri(&one)).await.unwrap();
        let client: DoomedClient = connection.client();
        let quick = DoomedClient::connect(uri(&other)).await.unwrap();
        for _ in 0..count().div_ceil(4) {
            let _ = fs::write(one.join("ledger"), b"");
            let _ = fs::write(other.join("ledger"), b"");
            let stop = Arc::<AtomicU64>::default();
            let callers = load.callers(&client, Some(stop.clone()));
            sleep(Duration::from_micros(random.below(5000))).await;
            stopped.signal(Signal::SIGSTOP);
            let of_the_other = load.callers(&quick, None);
            let began = Instant::now();
            let pause = Duration::from_millis(random.below(250));
            sleep(pause / 2).await;
            // Every call ends by its deadline, whatever its peer does.
            let late = Instant::now();
            let ended = timeout(GUARD, one_call(&client, &load)).await.expect("the deadline ends it");
            assert!(late.elapsed() < DEADLINE + Duration::from_secs(1), "{:?} after {:?}", ended, late.elapsed());
            sleep(pause.saturating_sub(began.elapsed())).await;
            stopped.signal(Signal::SIGCONT);
            stop.store(1, Ordering::Relaxed);
            // Let what was sent in vain be executed, or not; then look.
            let outcomes = ended_all(callers).await;
            let since = Instant::now();
            while !connection.stats().is_at_rest() {
                assert!(since.elapsed() < GUARD, "not at rest: {:?}", connection.stats());
                sleep(Duration::from_millis(1)).await;
            }
            tally.settle(outcomes, &one);
            assert_eq!(timeout(GUARD, client.mark(0, b"again")).await.expect("an answer").unwrap(), 5);
            none_has_failed(of_the_other).await;
            beside += 1;
        }
    });
    drop((stopped, awake));
    println!("\ntally {} stops in {:?}: {tally:?}; {beside} rounds beside it", count().div_ceil(4), since.elapsed());
    assert!(tally.done > 0 && tally.maybe + tally.not > 0);
}

async fn one_call(client: &DoomedClient, load: &Load) -> Result<(), CallError> {
    one(client, load.next.fetch_add(1, Ordering::Relaxed), 100, true).await
}

/// Those beside go on for ever: they are ended, and none has failed until then.
async fn none_has_failed(mut callers: JoinSet<Vec<Outcome>>) {
    sleep(Duration::from_millis(5)).await;
    assert!(callers.try_join_next().is_none(), "a call beside a stopped peer failed");
    callers.shutdown().await;
}

/// Has a process survive.
fn survive(role: &str) {
    let dir = tempfile::tempdir().unwrap();
    let names = shared_names();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "another_process", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIR, dir.path());
    let stderr = File::create(dir.path().join("stderr")).unwrap();
    let output = command.stdin(Stdio::null()).stderr(stderr).output().unwrap();
    let stderr = fs::read_to_string(dir.path().join("stderr")).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !stderr.contains("panicked"), "{role}: {}: {stderr}{said}", output.status);
    said.lines().filter_map(|line| line.strip_prefix("tally ")).for_each(|line| eprintln!("{role}: {line}"));
    assert_eq!(shared_names(), names, "names are left behind");
}

#[test]
fn servers_are_killed() {
    survive("servers die");
}

#[test]
fn clients_are_killed() {
    survive("clients die");
}

#[test]
fn servers_are_stopped() {
    survive("peers stop");
}
