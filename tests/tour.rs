//! The tour works, over every transport, and says so in the form it promises. Numbers are for people to look at.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The example beside this test's own program: `cargo test` has built it.
fn tour() -> PathBuf {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples/tour");
    assert!(path.exists(), "{} is missing: `cargo build --example tour` makes it", path.display());
    path
}

fn run(arguments: &[&str]) -> Output {
    Command::new(tour()).args(arguments).output().unwrap()
}

/// The fields of a flat JSON object whose strings have neither commas nor colons in them.
fn fields(line: &str) -> Vec<(&str, &str)> {
    let inside = line.strip_prefix('{').and_then(|line| line.strip_suffix('}')).expect(line);
    let fields = inside.split(',').map(|field| field.split_once(':').expect(line));
    fields.map(|(name, value)| (name.trim_matches('"'), value)).collect()
}

#[test]
fn every_transport_answers_rightly() {
    let output = run(&["--json", "--quick"]);
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");

    let mut transports = Vec::new();
    for line in said.lines() {
        let fields = fields(line);
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        let expected = ["transport", "calls", "p50_ns", "p99_ns", "calls_per_second", "upload_bytes_per_second", "ok"];
        assert_eq!(names, expected);
        let numbers: Vec<u64> = fields[1..6].iter().map(|(_, value)| value.parse().expect(line)).collect();
        assert!(numbers.iter().all(|number| *number > 0), "{line}");
        assert!(numbers[1] <= numbers[2], "the 50th percentile is above the 99th: {line}");
        assert_eq!(fields[6], ("ok", "true"), "{line}");
        transports.push(fields[0].1.trim_matches('"').to_owned());
    }
    assert_eq!(transports, ["tcp", "unix", "shm", "pipe", "mem"]);
}

#[test]
fn people_get_a_table() {
    let output = run(&["--quick"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let rows: Vec<&str> = said.lines().collect();
    assert_eq!(rows.len(), 7, "{said}");
    assert!(rows[0].starts_with("transport") && rows[0].contains("p99"), "{said}");
    assert!(rows[2].starts_with("tcp") && rows[2].ends_with("all right"), "{said}");
    assert!(rows[6].starts_with("mem") && rows[6].contains("this process"), "{said}");
}

#[test]
fn options_that_make_no_sense_are_an_error() {
    let output = run(&["--josn"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no option `--josn`"));
    assert!(run(&["--help"]).status.success());
}

#[test]
fn a_server_ends_with_its_parent() {
    let mut command = Command::new(tour());
    command.args(["--serve", "tcp://127.0.0.1:0"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = command.spawn().unwrap();
    // What a parent that dies does to it.
    drop(server.stdin.take());
    let output = server.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("tcp://127.0.0.1:"));
}
