//! The other process: this very program, started again as a server, or as a client that is to be killed.
//!
//! A server's child is told what to do by environment variables and then by lines on its stdin; it answers in lines on
//! its stdout. It ends with its stdin, so that none outlives a test that fails.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use tokio::sync::mpsc;
use trunkline::Server;
use trunkline::transport::Listener;

use crate::fixture::{Accounts, Carrier, Endpoint, Report, Setup, Streams, listen_in_place, server_builder};
use crate::harness::{runtime, soon};
use crate::ledger::Ledger;
use crate::pipes::Pipes;
use crate::raw;

const ROLE: &str = "TRUNKLINE_CONFORMANCE_ROLE";
/// Lines of the child's begin with this: the test harness writes to stdout as well.
const MARK: &str = "@trunkline ";

/// Another process.
pub(crate) struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Child {
    fn spawn(role: &str) -> Child {
        let program = std::env::current_exe().expect("the path of this program");
        let mut process = Command::new(program)
            .args(["--exact", "the_other_process", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a second process");
        let (sender, lines) = mpsc::unbounded_channel();
        let stdout = BufReader::new(process.stdout.take().expect("its stdout"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The harness may have left something at the front of the first line.
                if let Some((_, line)) = line.split_once(MARK) {
                    let _ = sender.send(line.to_owned());
                }
            }
        });
        let stderr = BufReader::new(process.stderr.take().expect("its stderr"));
        std::thread::spawn(move || {
            // Through `eprintln`, so that it is shown with the test it belongs to.
            stderr.lines().map_while(Result::ok).for_each(|line| eprintln!("child: {line}"));
        });
        let stdin = process.stdin.take();
        Child { process, stdin, lines }
    }

    /// Starts a server and waits until it listens.
    pub(crate) async fn start(
        carrier: Carrier,
        threads: usize,
        setup: &Setup,
        scratch: &Path,
    ) -> (Vec<Endpoint>, Child) {
        let mut role = format!("server\n{carrier:?}\n{threads}\n{}\n{}\n", scratch.display(), setup.listeners);
        let _ = writeln!(role, "{}", setup.codecs.join(" "));
        for (name, value) in &setup.limits {
            let _ = writeln!(role, "{name} {value}");
        }
        let mut child = Child::spawn(&role);
        let endpoints = child.line().await;
        (endpoints.split_whitespace().map(endpoint).collect(), child)
    }

    /// Starts a client that says `what` to the server at `endpoint`, then nothing more, and waits until it has.
    pub(crate) async fn raw_client(endpoint: &Endpoint, what: &str) -> Child {
        let place = match endpoint {
            Endpoint::Uri(uri) | Endpoint::InPlace(uri) => uri.clone(),
            Endpoint::Path(path) => format!("path:{}", path.display()),
            Endpoint::Pipes(path) => format!("pipes:{}", path.display()),
            Endpoint::Duplex(_) | Endpoint::Own(_) | Endpoint::Pipe(_) => panic!("another process cannot get there"),
        };
        let mut child = Child::spawn(&format!("client\n{place}\n{what}"));
        assert_eq!(soon("the raw client", child.line()).await, "said");
        child
    }

    async fn line(&mut self) -> String {
        self.lines.recv().await.expect("the child lives")
    }

    fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("the child has not been killed");
        writeln!(stdin, "{line}").expect("the child lives");
    }

    pub(crate) async fn accounts(&mut self) -> Accounts {
        self.tell("accounts");
        Accounts::from_line(&soon("the child's accounts", self.line()).await)
    }

    pub(crate) fn begin_shutdown(&mut self) {
        self.tell("shutdown");
    }

    pub(crate) async fn report(&mut self) -> Report {
        let line = self.line().await;
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().expect("a number"));
        let mut next = || numbers.next().expect("one more number");
        Report { connections: next(), calls_cut: next(), elapsed: Duration::from_millis(next()) }
    }

    /// SIGKILL, and the wait for the end.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.stdin = None;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What this program does when it is the other process; nothing if it is not.
pub(crate) fn main() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let mut lines = role.lines();
    match lines.next() {
        Some("server") => serve(&mut lines),
        Some("client") => speak(&mut lines),
        role => panic!("an unknown role: {role:?}"),
    }
}

/// A place that another process names.
fn endpoint(place: &str) -> Endpoint {
    match place.split_once(':') {
        Some(("path", path)) => Endpoint::Path(PathBuf::from(path)),
        Some(("pipes", path)) => Endpoint::Pipes(PathBuf::from(path)),
        _ => Endpoint::Uri(place.to_owned()),
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{MARK}{line}").and_then(|()| stdout.flush()).expect("the parent listens");
}

/// The lines of stdin; this process ends with them.
fn orders() -> mpsc::UnboundedReceiver<String> {
    let (sender, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
        std::process::exit(0);
    });
    orders
}

fn serve<'a>(role: &mut impl Iterator<Item = &'a str>) {
    let mut next = || role.next().expect("one more line");
    let carrier = next();
    let threads = next().parse().expect("a number of threads");
    let scratch = PathBuf::from(next());
    let listeners = next().parse().expect("a number of listeners");
    let codecs = next().split_whitespace().map(str::to_owned).collect();
    let limits = role.filter_map(|line| line.split_once(' '));
    let limits = limits.map(|(name, value)| (name.to_owned(), value.parse().expect("a limit"))).collect();
    let setup = Setup { limits, codecs, listeners };
    let mut orders = orders();
    runtime(threads).block_on(async {
        let server = bind(carrier, &setup, &scratch).await;
        let handle = server.handle();
        say(&server.endpoints().join(" "));
        let mut task = tokio::spawn(server.run());
        loop {
            tokio::select! {
                order = orders.recv() => match order.as_deref() {
                    Some("accounts") => say(&Accounts::of(&handle).to_line()),
                    Some("shutdown") => handle.shutdown(),
                    order => panic!("an unknown order: {order:?}"),
                },
                report = &mut task => {
                    let Report { connections, calls_cut, elapsed } = report.expect("the server ends well").into();
                    say(&format!("{connections} {calls_cut} {}", elapsed.as_millis()));
                    break;
                }
            }
        }
        // Whatever of it is left on the wire goes out; the parent ends this process.
        while orders.recv().await.is_some() {}
    });
}

async fn bind(carrier: &str, setup: &Setup, scratch: &Path) -> Server {
    let ledger = Ledger::open(&scratch.join("ledger"));
    let mut builder = Some(server_builder(setup, &ledger));
    let mut server: Option<Server> = None;
    for at in 0..setup.listeners {
        let path = scratch.join(format!("{at}.sock"));
        let uri = match carrier {
            "Unix" => format!("unix:{}", path.display()),
            "Shm" => format!("shm:{}", path.display()),
            "Tcp" => "tcp://127.0.0.1:0".to_owned(),
            "Over" | "Pipe" | "InPlace" => {
                let socket = || tokio::net::UnixListener::bind(&path).expect("a socket");
                let listener: Box<dyn Listener> = match carrier {
                    "Over" => Box::new(Streams { socket: socket(), path }),
                    "Pipe" => Box::new(Pipes { socket: socket(), path }),
                    _ => Box::new(listen_in_place(&path).expect("a listener")),
                };
                server = Some(match (server.take(), builder.take()) {
                    (Some(server), _) => server.listen(listener),
                    (None, builder) => builder.expect("the first listener").listen(listener),
                });
                continue;
            }
            carrier => panic!("{carrier} does not reach another process"),
        };
        server = Some(match (server.take(), builder.take()) {
            (Some(server), _) => server.bind(uri).await.expect("a listener"),
            (None, builder) => builder.expect("the first listener").bind(uri).await.expect("a listener"),
        });
    }
    server.expect("a listener at least")
}

/// A client that says something improper and waits to be killed.
fn speak<'a>(role: &mut impl Iterator<Item = &'a str>) {
    let place = role.next().expect("a place").to_owned();
    let what = role.next().expect("what to say").to_owned();
    let mut orders = orders();
    runtime(1).block_on(async {
        let mut peer = endpoint(&place).raw().await;
        for part in what.split(' ') {
            let bytes = words(part);
            let sent = if part.starts_with("half-") { peer.send_part(&bytes).await } else { peer.send(&bytes).await };
            sent.expect("it is taken");
        }
        say("said");
        while orders.recv().await.is_some() {}
    });
}

/// The bytes that a word of the test's stands for.
fn words(word: &str) -> Vec<u8> {
    let hello = raw::hello(1, 1);
    match word {
        "hello" => hello,
        "half-a-hello" => hello[..hello.len() / 2].to_vec(),
        // It promises 100,000 bytes and sends twenty.
        "half-a-call" => {
            let mut call = raw::call(1, 1, 1000, &[0; 20]);
            call[..4].copy_from_slice(&100_000u32.to_le_bytes());
            call
        }
        word => panic!("an unknown word: {word}"),
    }
}
