//! A server in a process of its own, an honest client on each of its transports, and the accounts.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::evil::{Door, GUARD};
use crate::target::{Gauges, Point, TargetClient, checksum};

/// Names the part that a re-executed test binary plays, and its directory.
pub(crate) const ROLE: &str = "TRUNKLINE_ATTACK_ROLE";
pub(crate) const DIR: &str = "TRUNKLINE_ATTACK_DIR";
pub(crate) const ARGUMENT: &str = "TRUNKLINE_ATTACK_ARGUMENT";

/// Connections at rest: an honest client on each transport, and the one that asks.
pub(crate) const EVERYBODY: usize = 5;
/// What a server's high-water mark may grow by beyond the attack's budget.
const SLACK: u64 = 16 << 20;
/// When the attacker is gone, everything is back within this time.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// This test binary once more, in another role.
pub(crate) fn again(role: &str, dir: &Path, argument: &str, wrapper: Option<&str>) -> Command {
    let binary = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        None => Command::new(binary),
        Some(script) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{script}; exec \"$0\" \"$@\"")]).arg(binary);
            shell
        }
    };
    command.args(["--exact", "another_process", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(DIR, dir).env(ARGUMENT, argument).stdin(Stdio::piped());
    command
}

pub(crate) struct Arena {
    server: Child,
    /// The server ends when this is closed.
    _stdin: ChildStdin,
    dir: TempDir,
    pub(crate) tcp: String,
    honest: Option<Honest>,
    runtime: Runtime,
    control: TargetClient,
    start: Baseline,
}

#[derive(Debug)]
struct Baseline {
    gauges: Gauges,
    fds: usize,
    resident: u64,
}

/// What an attack may and must leave behind.
#[derive(Default)]
pub(crate) struct Terms {
    /// Bytes the server may take for it, beyond what any server takes.
    pub(crate) budget: u64,
    /// A counter that the attack must have moved.
    pub(crate) counter: Option<fn(&Gauges) -> u64>,
}

impl Arena {
    pub(crate) fn new(limits: &str) -> Arena {
        Arena::with(limits, None)
    }

    /// `wrapper` is what a shell does before it becomes the server.
    pub(crate) fn with(limits: &str, wrapper: Option<&str>) -> Arena {
        let dir = tempfile::tempdir().unwrap();
        let mut command = again("server", dir.path(), limits, wrapper);
        let stderr = File::create(dir.path().join("stderr")).unwrap();
        let mut server = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let _stdin = server.stdin.take().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
        let tcp = lines.find_map(|line| line.strip_prefix("endpoint tcp://").map(str::to_owned)).expect("an endpoint");
        std::thread::spawn(move || lines.for_each(|line| eprintln!("server: {line}")));

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let unix = format!("unix:{}", dir.path().join("rpc.sock").display());
        let honest = Some(Honest::start(vec![
            unix.clone(),
            format!("tcp://{tcp}"),
            format!("shm:{}", dir.path().join("ring.sock").display()),
        ]));
        let control = runtime.block_on(TargetClient::connect(unix)).unwrap();
        let start = Baseline { gauges: Gauges::default(), fds: 0, resident: 0 };
        let mut arena = Arena { server, _stdin, dir, tcp, honest, runtime, control, start };
        arena.wait("everybody is there", |gauges, _| gauges.connections == EVERYBODY && gauges.mem_answered > 20);
        arena.start = arena.baseline();
        arena
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn unix(&self) -> Door {
        Door::Unix(self.dir().join("rpc.sock"))
    }

    pub(crate) fn tcp(&self) -> Door {
        Door::Tcp(self.tcp.clone())
    }

    /// Where rings are set up. No door: what comes in is no stream of bytes.
    pub(crate) fn ring(&self) -> PathBuf {
        self.dir().join("ring.sock")
    }

    pub(crate) fn doors(&self) -> [Door; 3] {
        [self.unix(), self.tcp(), Door::Mem(self.dir().join("mem.sock"))]
    }

    pub(crate) fn gauges(&self) -> Gauges {
        let asked = self.runtime.block_on(async { timeout(GUARD, self.control.gauges()).await });
        asked.expect("the server answers").expect("the server says how it is")
    }

    pub(crate) fn fds(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.server.id())).expect("the server is alive").count()
    }

    fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.id())).expect("the server is alive");
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a line about memory");
        line.trim_start_matches(':').trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    fn baseline(&self) -> Baseline {
        // 5 makes the high-water mark begin anew.
        fs::write(format!("/proc/{}/clear_refs", self.server.id()), "5").expect("the high-water mark can be reset");
        Baseline { gauges: self.gauges(), fds: self.fds(), resident: self.memory("VmRSS") }
    }

    /// Waits for the server to be in a state.
    pub(crate) fn wait(&self, what: &str, state: impl Fn(&Gauges, usize) -> bool) {
        let since = Instant::now();
        loop {
            let (gauges, fds) = (self.gauges(), self.fds());
            if state(&gauges, fds) {
                return;
            }
            assert!(since.elapsed() < BACK_WITHIN, "not within {BACK_WITHIN:?}: {what}: {gauges:?}, {fds} descriptors");
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Runs an attack through every door, and holds the server to what it promises.
    pub(crate) fn attack(&mut self, terms: &Terms, attack: impl Fn(&Arena, &Door)) {
        for door in self.doors() {
            self.attack_one(terms, &door, &attack);
        }
    }

    pub(crate) fn attack_one(&mut self, terms: &Terms, door: &Door, attack: impl Fn(&Arena, &Door)) {
        self.attack_as(door.name(), terms, |arena| attack(arena, door));
    }

    /// The same for an attack that comes in another way.
    pub(crate) fn attack_as(&mut self, name: &str, terms: &Terms, attack: impl FnOnce(&Arena)) {
        let before = self.baseline();
        let answered = self.honest_answered();
        attack(self);
        self.check(terms, name, &before, answered);
    }

    fn honest_answered(&self) -> u64 {
        self.honest.as_ref().map_or(0, |honest| honest.answered.load(Relaxed))
    }

    fn check(&mut self, terms: &Terms, name: &str, before: &Baseline, answered: u64) {
        // The same process: its handle has not been waited for, and it has not ended.
        assert_eq!(self.server.try_wait().unwrap(), None, "{name}: the server has ended");
        let (start, fds) = (self.start.gauges, self.start.fds);
        self.wait(&format!("{name}: at rest again"), |gauges, now| {
            gauges.connections == start.connections
                && gauges.calls_in_flight == 1
                && (gauges.memory, gauges.memory_out, gauges.running) == (0, 0, 0)
                && now <= fds
        });
        self.wait(&format!("{name}: the honest clients go on"), |gauges, _| {
            gauges.mem_answered > before.gauges.mem_answered + 3 && self.honest_answered() > answered + 9
        });
        let after = self.gauges();
        assert_eq!(after.mem_failed, 0, "{name}: an honest call over mem failed");
        if let Some(honest) = &self.honest {
            honest.check();
        }
        if let Some(counter) = terms.counter {
            let (before, after) = (counter(&before.gauges), counter(&after));
            assert!(after > before, "{name}: the counter has not moved from {before}");
        }
        let grown = self.memory("VmHWM").saturating_sub(before.resident);
        assert!(grown <= terms.budget + SLACK, "{name}: {grown} bytes more, {} were granted", terms.budget);
        let stderr = fs::read_to_string(self.dir().join("stderr")).unwrap();
        assert!(!stderr.contains("panicked"), "{name}: {stderr}");
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let honest = self.honest.take().map(Honest::stop);
        let _ = self.server.kill();
        let _ = self.server.wait();
        if std::thread::panicking() {
            eprintln!("stderr: {}", fs::read_to_string(self.dir().join("stderr")).unwrap_or_default());
        } else if let Some(failure) = honest.flatten() {
            panic!("an honest call failed: {failure}");
        }
    }
}

/// Calls at a steady rate over every endpoint it is given, each of which must be answered rightly.
struct Honest {
    answered: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<String>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Honest {
    fn start(endpoints: Vec<String>) -> Honest {
        let answered = Arc::<AtomicU64>::default();
        let failure = Arc::<Mutex<Option<String>>>::default();
        let stop = Arc::<AtomicBool>::default();
        let (counter, slot, end) = (answered.clone(), failure.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let failed = runtime.block_on(honest_calls(&endpoints, &counter, &end)).err();
            *slot.lock().unwrap() = failed;
        });
        Honest { answered, failure, stop, thread }
    }

    fn check(&self) {
        if let Some(failure) = &*self.failure.lock().unwrap() {
            panic!("an honest call failed: {failure}");
        }
    }

    fn stop(self) -> Option<String> {
        self.stop.store(true, Relaxed);
        let _ = self.thread.join();
        self.failure.lock().unwrap().clone()
    }
}

async fn honest_calls(endpoints: &[String], answered: &AtomicU64, stop: &AtomicBool) -> Result<(), String> {
    let mut clients = Vec::new();
    for endpoint in endpoints {
        clients.push((endpoint, TargetClient::connect(endpoint).await.map_err(|error| error.to_string())?));
    }
    let block: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let mut round = 0;
    while !stop.load(Relaxed) {
        round += 1;
        for (endpoint, client) in &clients {
            let point = Point { a: round, b: -7, c: 1.5, d: (1, 2, 3, false) };
            let echoed = timeout(GUARD, client.echo(point)).await.map_err(|_| format!("{endpoint}: no answer"))?;
            if echoed != Ok(point) {
                return Err(format!("{endpoint}: {echoed:?}"));
            }
            // More than a chunk, now and then.
            if round % 32 == 0 {
                let sum = timeout(GUARD, client.upload(&block)).await.map_err(|_| format!("{endpoint}: no answer"))?;
                if sum != Ok(checksum(&block)) {
                    return Err(format!("{endpoint}: {sum:?}"));
                }
            }
            answered.fetch_add(1, Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    Ok(())
}
