//! The measuring itself: a tiny measurement on each transport, with a real second process. No time is asserted.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use tempfile::tempdir;
use trunkline_benches::subject::{Outcome, Spec, Workload};

const PROGRAM: &str = env!("CARGO_BIN_EXE_trunkline-bench");

const SPEC: Spec = Spec {
    workload: Workload::Echo,
    size: 32,
    in_flight: 1,
    connections: 1,
    rate: None,
    load: None,
    beside: 0,
    warm_ms: 5,
    span_ms: 30,
    server_pid: None,
};

#[test]
fn trunkline_is_measured_on_every_transport() {
    for transport in ["tcp", "unix", "pipe", "shm"] {
        for mode in ["ct", "mt"] {
            every_kind_of_load("trunkline", transport, mode);
            measured("trunkline", transport, mode, Spec { rate: Some(2000.0), span_ms: 50, ..SPEC });
            streams("trunkline", transport, mode);
        }
        every_kind_of_load("trunkline-asleep", transport, "ct");
    }
    every_kind_of_load("trunkline-trusting", "shm", "ct");
}

#[test]
fn a_thread_that_waits_is_measured() {
    for transport in ["tcp", "unix", "shm"] {
        measured("trunkline-wait", transport, "thread", SPEC);
    }
}

#[test]
fn a_load_is_a_part_of_the_peak_that_was_found() {
    let cells = [
        ("trunkline", "unix", "ct"),
        ("trunkline", "shm", "mt"),
        ("raw-spin", "tcp", "thread"),
        ("raw-spin", "unix", "thread"),
        ("raw-spin", "pipe", "thread"),
        ("raw-ring", "shm", "thread"),
    ];
    for (subject, transport, mode) in cells {
        // So few that even a machine that is busy with other tests makes them.
        let outcome = measured(subject, transport, mode, Spec { load: Some(0.01), span_ms: 100, ..SPEC });
        let peak = outcome.peak.expect("it was looked for");
        let due = peak * 0.01 * 0.1;
        // They come at random times.
        let spread = 10.0 * due.sqrt() + 10.0;
        assert!((outcome.calls as f64 - due).abs() < spread, "{subject} {transport}: {} of {due}", outcome.calls);
    }
}

#[test]
fn calls_are_measured_beside_an_upload() {
    for transport in ["tcp", "unix", "pipe", "shm"] {
        let spec = Spec { rate: Some(1000.0), beside: 8 << 20, span_ms: 50, ..SPEC };
        measured("trunkline-roomy", transport, "ct", spec);
    }
}

#[test]
fn an_upload_that_is_refused_is_no_measurement_beside_one() {
    // More than a server takes of which nothing is set.
    let spec = Spec { rate: Some(1000.0), beside: 8 << 20, warm_ms: 200, span_ms: 200, ..SPEC };
    let text = said("trunkline", "unix", "ct", spec);
    assert!(text.contains("an upload beside the calls"), "{text}");
}

#[test]
fn floors_are_measured_on_every_transport() {
    for transport in ["tcp", "unix", "pipe"] {
        streams("raw", transport, "thread");
        streams("raw-spin", transport, "thread");
        for (floor, mode) in [("raw", "thread"), ("raw-spin", "thread"), ("raw-tokio", "ct"), ("raw-tokio-spin", "ct")]
        {
            every_kind_of_load(floor, transport, mode);
        }
    }
    every_kind_of_load("raw-ring", "shm", "thread");
    streams("raw-ring", "shm", "thread");
}

#[test]
fn several_connections_are_measured() {
    for transport in ["tcp", "unix", "shm"] {
        measured("trunkline", transport, "ct", Spec { in_flight: 8, connections: 4, ..SPEC });
    }
}

#[test]
fn calls_for_the_guard_are_made_on_every_transport() {
    for transport in ["tcp", "unix", "pipe", "shm", "mem"] {
        for workload in ["echo", "echo-64", "upload", "stream-down", "stream-up"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline-instructions"));
            let output = command.args([transport, workload, "128"]).output().expect("the program starts");
            let text = String::from_utf8_lossy(&output.stdout);
            let count = text.trim().strip_suffix(" allocations").and_then(|count| count.parse::<u64>().ok());
            assert!(output.status.success() && count.is_some(), "{transport} {workload}: {output:?}");
        }
    }
}

#[test]
fn bad_arguments_are_refused_before_anything_is_measured() {
    for arguments in [&["--rounds", "0"][..], &["--pin", "here"], &["--unknown"], &["no-such-row"]] {
        let output = Command::new(PROGRAM).args(arguments).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_page_and_raw_figures_come_out() {
    let dir = tempdir().expect("a directory of our own");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (page, figures, plots) = (file("page.html"), file("figures.json"), file("plots"));
    let targets = file("targets.md");
    let mut command = Command::new(PROGRAM);
    command.args([
        "--quick",
        "--html",
        &page,
        "--json",
        &figures,
        "--svg",
        &plots,
        "--targets",
        &targets,
        "unix",
        "ct",
        "W1",
    ]);
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read_to_string(page).expect("there is a page").contains("<svg"));
    assert!(fs::read_to_string(figures).expect("there are figures").contains("\"p999\""));
    assert!(Path::new(&plots).join("latency.svg").exists());
    let targets = fs::read_to_string(targets).expect("there are targets");
    assert!(targets.contains("| 2 | `unix:` W1, us | **"), "{targets}");
    // It was asked for no row that another one is about.
    assert!(!targets.contains("| 9 |"), "{targets}");
}

fn every_kind_of_load(subject: &str, transport: &str, mode: &str) {
    measured(subject, transport, mode, SPEC);
    measured(subject, transport, mode, Spec { in_flight: 64, ..SPEC });
    measured(subject, transport, mode, Spec { workload: Workload::Upload, size: 100_003, ..SPEC });
}

fn streams(subject: &str, transport: &str, mode: &str) {
    for workload in [Workload::Down, Workload::Up] {
        measured(subject, transport, mode, Spec { workload, ..SPEC });
    }
}

fn measured(subject: &str, transport: &str, mode: &str, spec: Spec) -> Outcome {
    let measure = |span_ms| {
        let text = said(subject, transport, mode, Spec { span_ms, ..spec });
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{subject} {transport} {mode}: {text}"))
    };
    // On a machine that is busy with other tests either side may stand still for all of a short span.
    let mut outcomes = [1, 10, 100].map(|times| spec.span_ms * times).into_iter().map(measure);
    let seen = outcomes.find(|outcome: &Outcome| outcome.calls > 0 && outcome.cpu_server_us > 0.0);
    seen.unwrap_or_else(|| panic!("{subject} {transport} {mode}: no calls, or the server is not seen"))
}

/// What the client prints.
fn said(subject: &str, transport: &str, mode: &str, spec: Spec) -> String {
    let dir = tempdir().expect("a directory of our own");
    let server = (transport != "pipe").then(|| Server::start(subject, transport, mode, dir.path()));
    let address = server.as_ref().map_or(dir.path().display().to_string(), |server| server.address.clone());
    let spec = Spec { server_pid: server.as_ref().map(|server| server.child.id()), ..spec };
    let spec = serde_json::to_string(&spec).expect("a spec is JSON");
    let mut command = Command::new(PROGRAM);
    let output = command.args(["subject", subject, "load", transport, mode, &address, &spec]).output();
    let output = output.expect("the client starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(subject: &str, transport: &str, mode: &str, dir: &Path) -> Server {
        let mut command = Command::new(PROGRAM);
        command.args(["subject", subject, "serve", transport, mode]).arg(dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut address = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut address).expect("the server says where it is");
        Server { child, address: address.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
