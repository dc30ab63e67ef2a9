//! What is measured.

use trunkline_benches::subject::{Spec, Workload};

use crate::peers::Subject;
use crate::process::Pin;

/// What is asked of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Echo, one at a time: latency.
    W1,
    /// Echo, 64 in flight: rate.
    W2,
    /// Upload of 1 MiB, one at a time: bandwidth.
    W3,
    /// A stream of items from the server.
    W4,
    /// The same to the server.
    W4Up,
    /// W1 with both processes on one core.
    OneCpu,
    /// Echo, so many in flight.
    InFlight(usize),
    /// Upload of so many bytes, one at a time.
    Size(usize),
    /// Echo at so many percent of what the same client reaches on the same connection.
    Load(u32),
    /// Echo, 4,000 a second.
    Seldom,
    /// The same beside uploads of 64 MiB on the same connection.
    Beside,
    /// Echo, 64 in flight, shared by so many connections.
    Connections(usize),
}

impl What {
    pub(crate) fn name(self) -> String {
        match self {
            What::W1 => "W1".to_owned(),
            What::W2 => "W2".to_owned(),
            What::W3 => "W3".to_owned(),
            What::W4 => "W4".to_owned(),
            What::W4Up => "W4-up".to_owned(),
            What::OneCpu => "one-cpu".to_owned(),
            What::Seldom => "seldom".to_owned(),
            What::Beside => "beside-uploads".to_owned(),
            What::InFlight(number) => format!("in-flight-{number}"),
            What::Size(bytes) => format!("upload-{bytes}"),
            What::Load(percent) => format!("load-{percent}"),
            What::Connections(number) => format!("connections-{number}"),
        }
    }

    /// Whether it is one of the three that are measured of everyone, in all modes.
    pub(crate) fn is_main(self) -> bool {
        matches!(self, What::W1 | What::W2 | What::W3)
    }

    /// Whether it is one stream, of which there is a rate and no latency.
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, What::W4 | What::W4Up)
    }

    /// Whether a target depends on it, or a plot only.
    pub(crate) fn has_target(self) -> bool {
        self.is_main() || self.is_stream() || matches!(self, What::OneCpu | What::Seldom | What::Beside)
    }

    pub(crate) fn spec(self, times: Times) -> Spec {
        let spec = Spec {
            workload: Workload::Echo,
            size: 32,
            in_flight: 1,
            connections: 1,
            rate: None,
            load: None,
            beside: 0,
            warm_ms: times.warm_ms,
            span_ms: times.span_ms,
            server_pid: None,
        };
        match self {
            What::W1 | What::OneCpu => spec,
            What::W2 => Spec { in_flight: 64, ..spec },
            What::W3 => What::Size(1 << 20).spec(times),
            What::W4 => Spec { workload: Workload::Down, ..spec },
            What::W4Up => Spec { workload: Workload::Up, ..spec },
            What::InFlight(in_flight) => Spec { in_flight, ..spec },
            What::Size(size) => Spec { workload: Workload::Upload, size, ..spec },
            What::Load(percent) => Spec { load: Some(f64::from(percent) / 100.0), ..spec },
            What::Seldom => Spec { rate: Some(SELDOM), ..spec },
            What::Beside => Spec { rate: Some(SELDOM), beside: BESIDE, ..spec },
            What::Connections(connections) => Spec { in_flight: 64, connections, ..spec },
        }
    }
}

/// How long one measurement takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) warm_ms: u64,
    pub(crate) span_ms: u64,
}

/// One thing to measure, once a round.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// Which of the subjects.
    pub(crate) subject: usize,
    pub(crate) transport: &'static str,
    pub(crate) mode: String,
    pub(crate) what: What,
}

impl Cell {
    /// Where its processes run, if others run there.
    pub(crate) fn pin(&self, others: Pin) -> Pin {
        if self.what == What::OneCpu { Pin::Same } else { others }
    }

    /// The words by which a row is chosen and shown.
    pub(crate) fn name(&self, subjects: &[Subject]) -> String {
        format!("{} {} {} {}", self.transport, subjects[self.subject].name, self.mode, self.what.name())
    }
}

/// The transports that lead to another process.
pub(crate) const TRANSPORTS: [&str; 4] = ["tcp", "unix", "pipe", "shm"];
/// Calls in flight, beside 1 and 64, which are W1 and W2.
pub(crate) const IN_FLIGHT: [usize; 2] = [8, 512];
/// Bytes of uploads, beside 1 MiB, which is W3.
pub(crate) const SIZES: [usize; 3] = [32, 4 << 10, 64 << 10];
/// Percents of the peak.
pub(crate) const LOADS: [u32; 4] = [10, 50, 80, 95];
const CONNECTIONS: usize = 16;
/// Calls a second: what leaves enough of them for a percentile, and the machine at rest in between.
const SELDOM: f64 = 4_000.0;
const BESIDE: usize = 64 << 20;

/// The floor that a transport's ratios are to.
pub(crate) fn floor(transport: &str) -> &'static str {
    if transport == "shm" { "raw-ring" } else { "raw" }
}

/// All cells whose names have all of the words. What is compared is measured one after the other.
pub(crate) fn cells(subjects: &[Subject], words: &[String]) -> Vec<Cell> {
    let mut whats = vec![What::W1, What::W2, What::W3, What::W4, What::W4Up];
    whats.extend(IN_FLIGHT.map(What::InFlight));
    whats.extend(SIZES.map(What::Size));
    whats.extend(LOADS.map(What::Load));
    whats.extend([What::OneCpu, What::Seldom, What::Beside]);
    whats.push(What::Connections(CONNECTIONS));

    let mut cells = Vec::new();
    for what in whats {
        for transport in TRANSPORTS {
            for (subject, about) in subjects.iter().enumerate() {
                if about.transports.iter().any(|name| name == transport) {
                    for mode in &about.modes {
                        cells.push(Cell { subject, transport, mode: mode.clone(), what });
                    }
                }
            }
        }
    }
    cells.retain(|cell| {
        let name = cell.name(subjects);
        is_shown(cell, &subjects[cell.subject]) && words.iter().all(|word| name.contains(word.as_str()))
    });
    cells
}

/// The whole grid would take hours: beside the main ones, what a plot or a table shows.
fn is_shown(cell: &Cell, subject: &Subject) -> bool {
    let name = subject.name.as_str();
    let peer = subject.is_peer();
    // Others have one mode for what is not measured in all of them.
    let first = subject.modes.first() == Some(&cell.mode);
    let trunkline = name == "trunkline" && first;
    match cell.what {
        What::W1 => !["trunkline-roomy", "trunkline-trusting"].contains(&name),
        What::W2 => !["trunkline-roomy", "trunkline-trusting", "trunkline-wait"].contains(&name),
        What::W3 => !["trunkline-roomy", "trunkline-wait"].contains(&name),
        What::Size(size) if name == "trunkline-trusting" => size > 32 << 10,
        What::W4 | What::W4Up => {
            let setting = ["trunkline-roomy", "trunkline-trusting"].contains(&name);
            subject.streams && !setting && (!peer || first)
        }
        What::InFlight(_) | What::Size(_) => trunkline || ["raw", "raw-spin", "raw-ring"].contains(&name),
        What::Load(_) => trunkline || ["raw-spin", "raw-ring"].contains(&name) || peer && first,
        What::OneCpu => {
            let own = trunkline || ["trunkline-wait", "raw", "raw-tokio"].contains(&name);
            ["unix", "pipe"].contains(&cell.transport) && (own || peer && first)
        }
        What::Seldom | What::Beside => subject.beside_max >= BESIDE && first,
        What::Connections(_) => trunkline && cell.transport != "pipe",
    }
}
