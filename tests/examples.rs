//! The examples that start processes of their own do what they say, as programs.

#![cfg(target_os = "linux")]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// An example beside this test's own program: `cargo test` has built it.
fn example(name: &str) -> Command {
    let mut path: PathBuf = env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    assert!(path.exists(), "{} is missing: `cargo build --example {name}` makes it", path.display());
    Command::new(path)
}

/// Runs it to its end, which must come before the guard's.
fn run(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    receiver
        .recv_timeout(GUARD)
        .unwrap_or_else(|_| {
            let _ = signal(pid, Signal::SIGKILL);
            panic!("{command:?} did not end within {GUARD:?}");
        })
        .unwrap()
}

fn signal(pid: u32, signal: Signal) -> nix::Result<()> {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal)
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < GUARD, "{what}: not within {GUARD:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn ten_processes_add_up() {
    let output = run(&mut example("sum"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), 11, "{said}");
    assert!(said.ends_with("all of them: 50005000\n"), "{said}");
}

#[test]
fn permissions_are_checked() {
    let output = run(&mut example("auth"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("readers read, writers write, strangers do neither\n"), "{said}");
}

#[test]
fn a_row_of_calls_costs_one_round_trip() {
    let output = run(&mut example("pipeline"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("all at once: [\"pipeline\"] after 1 round trips\n"), "{said}");
}

#[test]
fn three_people_hear_each_other() {
    let output = run(&mut example("chat"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().filter(|line| line.ends_with(" heard 3000 lines")).count(), 3, "{said}");
}

#[test]
fn a_server_goes_on_calling_when_one_of_its_clients_is_killed() {
    let output = run(&mut example("callbacks"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Grace was killed: the connection has ended: the peer is gone\n"), "{said}");
    assert_eq!(
        said.lines().filter(|line| line.ends_with(" heard all 200 lines and was let go of")).count(),
        2,
        "{said}"
    );
    assert!(said.ends_with("nobody is left\n"), "{said}");
}

#[test]
fn no_request_is_lost_while_workers_are_killed() {
    for over in ["pipe", "shm"] {
        let output = run(example("webserver").args(["--over", over, "--check", "5"]));
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "over {over}: {said}{complained}");
        assert!(said.contains(" 0 of them wrong or missing"), "over {over}: {said}");
        assert!(!said.contains("\n0 workers killed"), "over {over}: {said}");
    }
}

/// A running web server. Dropping it ends it: in good order if it can, so that it leaves nothing behind.
struct Server {
    process: Child,
    address: String,
    workers: Vec<u32>,
}

impl Server {
    fn start(over: &str) -> Server {
        let mut command = example("webserver");
        command.args(["--port", "0", "--over", over, "--workers", "2"]);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        // `http://127.0.0.1:1234, with workers [1, 2]`
        let (address, workers) = line.trim_end().split_once(", with workers ").expect(&line);
        let workers = workers.trim_matches(['[', ']']).split(", ").map(|pid| pid.parse().expect(&line)).collect();
        Server { process, address: address.strip_prefix("http://").expect(&line).to_owned(), workers }
    }

    /// The answer to a request, with its head.
    fn answer(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        write!(stream, "{request}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn page(&self, path: &str) -> String {
        self.answer(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = signal(self.process.id(), Signal::SIGINT);
        let began = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if began.elapsed() > GUARD {
                let _ = self.process.kill();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn the_web_server_answers() {
    let server = Server::start("pipe");
    for (path, status, body) in [
        ("/prime/1000003", "200 OK", "1000003 is prime\n"),
        ("/prime/1000001", "200 OK", "1000001 is not prime\n"),
        ("/prime/2", "200 OK", "2 is prime\n"),
        ("/prime/1", "200 OK", "1 is not prime\n"),
        ("/prime/x", "400 Bad Request", "that is no number below 2^64\n"),
        ("/nothing", "404 Not Found", "there is no such page\n"),
    ] {
        let answer = server.page(path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{path}: {answer}");
    }
    let answer =
        server.answer("POST /echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    let answer =
        server.answer("POST /echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 2000000\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn a_server_whose_workers_are_all_killed_goes_on() {
    for over in ["pipe", "shm"] {
        let server = Server::start(over);
        for worker in &server.workers {
            signal(*worker, Signal::SIGKILL).unwrap();
        }
        let answer = server.page("/");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "over {over}: {answer}");
        for worker in &server.workers {
            assert!(!answer.contains(&format!("worker {worker} ")), "over {over}: {answer}");
            until("a dead worker is waited for", || state(*worker).is_none());
        }
    }
}

#[test]
fn an_interrupt_lets_requests_end_and_then_the_workers() {
    for over in ["pipe", "shm"] {
        let mut server = Server::start(over);
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        // From here on the request is there, and half of it is still to come.
        assert_eq!(line, "HTTP/1.1 100 Continue\r\n");

        signal(server.process.id(), Signal::SIGINT).unwrap();
        until("it takes no more connections", || TcpStream::connect(&server.address).is_err());
        assert!(server.process.try_wait().unwrap().is_none(), "over {over}: it did not wait for the request");
        stream.write_all(b"hello").unwrap();
        let mut answer = String::new();
        reader.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "over {over}: {answer}");

        until("it ends", || state(server.process.id()).is_none_or(|state| state == 'Z'));
        assert!(server.process.wait().unwrap().success(), "over {over}");
        for worker in &server.workers {
            until("its workers end", || state(*worker).is_none_or(|state| state == 'Z'));
        }
    }
}

#[test]
fn options_that_make_no_sense_are_an_error() {
    for options in [&["--over", "air"][..], &["--prot", "80"], &["--port"], &["--workers", "0"]] {
        let output = run(example("webserver").args(options));
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("makes no sense"), "{options:?}");
    }
    assert!(run(example("webserver").arg("--help")).status.success());
}

/// A process's state: `Z` if it has ended and nobody has waited for it, `None` if it is gone.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Far longer than anything here takes.
const GUARD: Duration = Duration::from_secs(120);
