//! What the two processes have used so far.

use std::fs;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::Outcome;

/// Reads what two processes have used.
pub(super) struct Meter {
    server: Option<u32>,
}

/// All that was used until some moment.
pub(super) struct Reading {
    at: Instant,
    cpu_client: Duration,
    cpu_server: Duration,
    switches_client: u64,
    switches_server: u64,
}

impl Meter {
    pub(super) fn new(server: Option<u32>) -> Meter {
        Meter { server }
    }

    pub(super) fn read(&self) -> Reading {
        let client = std::process::id();
        Reading {
            cpu_client: cpu(client),
            cpu_server: self.server.map(cpu).unwrap_or_default(),
            switches_client: switches(client),
            switches_server: self.server.map(switches).unwrap_or_default(),
            // The last: what comes before does not belong to the span that begins here.
            at: Instant::now(),
        }
    }
}

impl Reading {
    /// Writes down what was used since.
    pub(super) fn until(&self, end: &Reading, outcome: &mut Outcome) {
        outcome.seconds = end.at.duration_since(self.at).as_secs_f64();
        outcome.cpu_client_us = end.cpu_client.saturating_sub(self.cpu_client).as_secs_f64() * 1e6;
        outcome.cpu_server_us = end.cpu_server.saturating_sub(self.cpu_server).as_secs_f64() * 1e6;
        outcome.switches_client = end.switches_client.saturating_sub(self.switches_client);
        outcome.switches_server = end.switches_server.saturating_sub(self.switches_server);
    }
}

/// CPU time of all threads of a process, to the nanosecond; `/proc` counts in hundredths of a second.
fn cpu(pid: u32) -> Duration {
    let pid = Pid::from_raw(pid as i32);
    let clock = ClockId::pid_cpu_clock_id(pid).and_then(clock_gettime);
    clock.map(Duration::from).unwrap_or_default()
}

/// Of all threads that are alive.
fn switches(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
        .map(|status| {
            let counts = status.lines().filter(|line| line.contains("ctxt_switches:"));
            counts.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum::<u64>()
        })
        .sum()
}
