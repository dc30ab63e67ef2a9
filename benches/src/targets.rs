//! The targets: what a call should cost, beside what it does, its floor, and the best of the other frameworks. Markdown.
//!
//! A target was set as a figure on the machine of the design. Machines differ, so what is compared is how many times the
//! floor it is: the target by the floor of that machine, what was measured by the floor of the same run. Where there is no
//! floor, the figure itself is compared.

use std::fmt::Write;

use trunkline_benches::subject::Outcome;

use crate::cost::Cost;
use crate::plan::What;
use crate::results::{Results, Spread, bandwidth, cpu, latency, rate};
use crate::table::Table;

/// The table. Rows of which nothing was measured are left out.
pub(crate) fn table(results: &Results) -> Table {
    Table {
        title: "Targets, as ratios to a floor of the same run. Floors: what asks again before it sleeps for latency, what \
                sleeps for the rest",
        columns: vec!["", "", "trunkline", "floor", "best other", "× floor", "× best other", "target, × floor", "met"],
        rows: TARGETS.iter().filter_map(|target| target.line(results)).map(Vec::from).collect(),
    }
}

/// The table as Markdown, with the machine below.
pub(crate) fn markdown(results: &Results) -> String {
    let table = table(results);
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&table.columns);
    text.push_str(&line(&vec!["---"; table.columns.len()]));
    for mut row in table.rows {
        row[2] = format!("**{}**", row[2]);
        text.push_str(&line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    let machine = &results.machine;
    let _ = writeln!(text, "\n{}, {} cores, Linux {}.", machine.processor, machine.cores, machine.kernel);
    text
}

/// One line.
struct Target {
    /// In the design's table. Nothing for what that has below it.
    row: &'static str,
    name: &'static str,
    unit: Unit,
    better: Better,
    ours: Figure,
    floor: Option<Figure>,
    /// In the unit, as the design has it, or as many times the floor.
    target: f64,
    /// The floor on the machine that the target was set on.
    design_floor: Option<f64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Better {
    Less,
    More,
}
use Better::{Less, More};

/// Where a figure is from.
#[derive(Clone, Copy)]
enum Figure {
    /// A subject's median over all rounds.
    Row(&'static str, &'static str, What, fn(&Outcome) -> f64),
    /// How many times the one is the other.
    Ratio(&'static str, &'static str, [What; 2], fn(&Outcome) -> f64),
    /// System calls of a call, or allocations.
    Calls(&'static str, &'static str, What),
    Allocations(&'static str, &'static str, What),
    /// One of a kind.
    Cost(fn(&Cost) -> Option<f64>),
}
use Figure::{Allocations, Calls, Ratio, Row};

/// What a figure is written in.
#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    /// What it is divided by.
    by: f64,
}

const MICROS: Unit = Unit { name: "us", by: 1e3 };
/// CPU time is in microseconds already.
const CPU_MICROS: Unit = Unit { name: "us", by: 1.0 };
const NANOS: Unit = Unit { name: "ns", by: 1.0 };
const MILLIONS: Unit = Unit { name: "M/s", by: 1e6 };
const GIBIBYTES: Unit = Unit { name: "GiB/s", by: (1u64 << 30) as f64 };
const KIBIBYTES: Unit = Unit { name: "KiB", by: 1024.0 };
const TIMES: Unit = Unit { name: "times", by: 1.0 };
const NUMBER: Unit = Unit { name: "", by: 1.0 };
/// Microseconds of CPU time in a second.
const PERCENT: Unit = Unit { name: "%", by: 1e4 };

impl Target {
    fn line(&self, results: &Results) -> Option<[String; 9]> {
        let ours = self.ours.of(results, None)?;
        let floor = self.floor.and_then(|floor| floor.of(results, None));
        let best = self.best_peer(results);
        let times = |other: Option<f64>| other.filter(|other| *other > 0.0).map(|other| ours / other);
        let wanted = self.design_floor.map(|floor| self.target / floor);
        let met = match (wanted, times(floor)) {
            (Some(wanted), Some(is)) => Some(self.is_met(is, wanted)),
            // No floor in this run, or one that is nothing.
            (Some(_), None) => None,
            (None, _) => Some(self.is_met(ours / self.unit.by, self.target)),
        };
        let figure = |value: f64| digits(value / self.unit.by);
        let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, digits);
        let target = match wanted {
            Some(wanted) => format!("{}{}", self.sign(), digits(wanted)),
            None if self.target == NOTHING => "0".to_owned(),
            None => format!("{}{} {}", self.sign(), digits(self.target), self.unit.name).trim_end().to_owned(),
        };
        let unit = if self.unit.name.is_empty() { String::new() } else { format!(", {}", self.unit.name) };
        Some([
            self.row.to_owned(),
            format!("{}{unit}", self.name),
            figure(ours),
            floor.map_or_else(String::new, figure),
            best.as_ref().map_or_else(String::new, |(name, value)| format!("{name} {}", figure(*value))),
            ratio(times(floor)),
            ratio(times(best.map(|(_, value)| value))),
            target,
            met.map_or("", |met| if met { "yes" } else { "no" }).to_owned(),
        ])
    }

    fn is_met(&self, is: f64, wanted: f64) -> bool {
        match self.better {
            Less => is <= wanted,
            More => is >= wanted,
        }
    }

    fn sign(&self) -> &'static str {
        match self.better {
            Less => "≤ ",
            More => "≥ ",
        }
    }

    /// The best of the others, in any of its modes, at the same.
    fn best_peer(&self, results: &Results) -> Option<(String, f64)> {
        let peers = results.subjects.iter().filter(|subject| subject.is_peer());
        let figures = peers.flat_map(|subject| {
            subject.modes.iter().filter_map(|mode| {
                let value = self.ours.of(results, Some((&subject.name, mode)))?;
                Some((subject.name.clone(), value))
            })
        });
        figures.reduce(|best, other| if self.is_met(best.1, other.1) { best } else { other })
    }
}

impl Figure {
    /// Of whom it names, or of another one.
    fn of(self, results: &Results, other: Option<(&str, &str)>) -> Option<f64> {
        let median = |transport, own, what, value: &dyn Fn(&Outcome) -> f64| {
            let (subject, mode) = other.map_or((own, None), |(subject, mode)| (subject, Some(mode)));
            let spread: Spread = results.row(transport, subject, mode, what)?.spread(value)?;
            Some(spread.median)
        };
        // trunkline is measured in two modes; the first is one thread.
        let counted = |own: &'static str| {
            let own_mode = || results.subjects.iter().find(|subject| subject.name == own)?.modes.first();
            other.map_or_else(|| Some((own, own_mode()?.as_str())), Some)
        };
        match self {
            Row(transport, own, what, value) => median(transport, own, what, &value),
            Ratio(transport, own, [what, to], value) => {
                Some(median(transport, own, what, &value)? / median(transport, own, to, &value)?)
            }
            Calls(transport, own, what) => {
                let (subject, mode) = counted(own)?;
                results.cost.calls(transport, subject, mode, what)
            }
            Allocations(transport, own, what) => {
                let (subject, mode) = counted(own)?;
                results.cost.allocations(transport, subject, mode, what)
            }
            Figure::Cost(value) => {
                if other.is_some() {
                    None
                } else {
                    value(&results.cost)
                }
            }
        }
    }
}

/// Three of them, if there are not more in front of the point.
fn digits(value: f64) -> String {
    let after = match value.abs() {
        0.0..0.0005 => 0,
        ..0.1 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.after$}")
}

fn p99(outcome: &Outcome) -> f64 {
    outcome.latency.p99
}

fn p999(outcome: &Outcome) -> f64 {
    outcome.latency.p999
}

fn idle_bytes(cost: &Cost, transport: &str) -> Option<f64> {
    let idle = cost.idle.iter().find(|idle| idle.transport == transport)?;
    Some(idle.bytes_after.saturating_sub(idle.bytes_before) as f64 / idle.connections as f64)
}

fn idle_cpu(cost: &Cost) -> Option<f64> {
    cost.idle.iter().map(|idle| idle.cpu_us_a_second).max_by(f64::total_cmp)
}

const OWN: &str = "trunkline";
const ASLEEP: &str = "trunkline-asleep";
const WAIT: &str = "trunkline-wait";
const ROOMY: &str = "trunkline-roomy";
const TRUSTING: &str = "trunkline-trusting";

/// A line with a target that is relative to a floor.
const fn target(
    row: &'static str,
    name: &'static str,
    unit: Unit,
    better: Better,
    [ours, floor]: [Figure; 2],
    [target, design_floor]: [f64; 2],
) -> Target {
    Target { row, name, unit, better, ours, floor: Some(floor), target, design_floor: Some(design_floor) }
}

/// A line with a target that is so many a second, whatever the floor's rate.
const fn at_least(row: &'static str, name: &'static str, [ours, floor]: [Figure; 2], millions: f64) -> Target {
    let floor = Some(floor);
    Target { row, name, unit: MILLIONS, better: More, ours, floor, target: millions, design_floor: None }
}

/// A line with a target that is a figure by itself.
const fn absolute(
    row: &'static str,
    name: &'static str,
    unit: Unit,
    ours: Figure,
    floor: Option<Figure>,
    target: f64,
) -> Target {
    Target { row, name, unit, better: Less, ours, floor, target, design_floor: None }
}

/// The design's table. Floors are those that it compares with: what asks again
/// before it sleeps for latency, what sleeps for the rest, since it has no other.
const TARGETS: &[Target] = &[
    target("1", "`shm:` W1", MICROS, Less, pair("shm", OWN, "raw-ring", What::W1, latency), [0.25, 0.11]),
    target(
        "1",
        "`shm:` W1, `.wait()`, p99.9; floor: p50",
        MICROS,
        Less,
        [Row("shm", WAIT, What::W1, p999), Row("shm", "raw-ring", What::W1, latency)],
        [0.5, 0.11],
    ),
    target("2", "`unix:` W1", MICROS, Less, pair("unix", OWN, "raw-spin", What::W1, latency), [4.0, 3.3]),
    target("2", "`unix:` W1, CPU", CPU_MICROS, Less, pair("unix", OWN, "raw-spin", What::W1, cpu), [9.0, 6.7]),
    target("3", "`tcp:` W1", MICROS, Less, pair("tcp", OWN, "raw-spin", What::W1, latency), [7.5, 7.1]),
    target("4", "`unix:` W1, one CPU", MICROS, Less, pair("unix", OWN, "raw", What::OneCpu, latency), [9.0, 7.9]),
    target(
        "4",
        "`unix:` W1, one CPU, `.wait()`",
        MICROS,
        Less,
        pair("unix", WAIT, "raw", What::OneCpu, latency),
        [8.0, 7.9],
    ),
    target("5", "pipes W1, one CPU", MICROS, Less, pair("pipe", OWN, "raw", What::OneCpu, latency), [6.0, 4.3]),
    target("6", "`unix:` W2", MILLIONS, More, pair("unix", OWN, "raw", What::W2, rate), [2.5, 1.77]),
    target("6", "`unix:` W2, asleep", MILLIONS, More, pair("unix", ASLEEP, "raw", What::W2, rate), [1.4, 1.77]),
    target("6", "`unix:` W2, CPU", CPU_MICROS, Less, pair("unix", OWN, "raw", What::W2, cpu), [0.8, 0.45]),
    target("7", "`tcp:` W2", MILLIONS, More, pair("tcp", OWN, "raw", What::W2, rate), [2.2, 1.1]),
    target("8", "`shm:` W2", MILLIONS, More, pair("shm", OWN, "raw-ring", What::W2, rate), [8.0, 113.0]),
    target("9", "`unix:` W3", GIBIBYTES, More, pair("unix", OWN, "raw", What::W3, bandwidth), [11.0, 9.8]),
    target("9", "`unix:` W3, asleep", GIBIBYTES, More, pair("unix", ASLEEP, "raw", What::W3, bandwidth), [8.0, 9.8]),
    target("10", "`tcp:` W3", GIBIBYTES, More, pair("tcp", OWN, "raw", What::W3, bandwidth), [6.5, 4.0]),
    target("11", "`shm:` W3", GIBIBYTES, More, pair("shm", OWN, "raw-ring", What::W3, bandwidth), [40.0, 49.0]),
    target(
        "11",
        "`shm:` W3, asleep",
        GIBIBYTES,
        More,
        pair("shm", ASLEEP, "raw-ring", What::W3, bandwidth),
        [8.0, 49.0],
    ),
    target(
        "11",
        "`shm:` W3, read in place",
        GIBIBYTES,
        More,
        pair("shm", TRUSTING, "raw-ring", What::W3, bandwidth),
        [40.0, 49.0],
    ),
    at_least("12", "`unix:` W4", pair("unix", OWN, "raw", What::W4, rate), 20.0),
    at_least("12", "`unix:` W4, to the server", pair("unix", OWN, "raw", What::W4Up, rate), 20.0),
    at_least("12", "`shm:` W4", pair("shm", OWN, "raw-ring", What::W4, rate), 40.0),
    at_least("12", "`shm:` W4, to the server", pair("shm", OWN, "raw-ring", What::W4Up, rate), 40.0),
    absolute(
        "13",
        "`unix:` W1, allocations",
        NUMBER,
        Allocations("unix", OWN, What::W1),
        Some(Allocations("unix", "raw", What::W1)),
        NOTHING,
    ),
    absolute(
        "13",
        "`shm:` W1, allocations",
        NUMBER,
        Allocations("shm", OWN, What::W1),
        Some(Allocations("shm", "raw-ring", What::W1)),
        NOTHING,
    ),
    target(
        "14",
        "`unix:` W1, asleep, system calls",
        NUMBER,
        Less,
        [Calls("unix", ASLEEP, What::W1), Calls("unix", "raw-tokio", What::W1)],
        [6.2, 6.0],
    ),
    absolute("14", "`shm:` W1, system calls", NUMBER, Calls("shm", OWN, What::W1), None, NOTHING),
    absolute("15", "an idle connection, `unix:`", KIBIBYTES, Figure::Cost(|cost| idle_bytes(cost, "unix")), None, 8.0),
    absolute("15", "an idle connection, `tcp:`", KIBIBYTES, Figure::Cost(|cost| idle_bytes(cost, "tcp")), None, 8.0),
    absolute("15", "CPU of all idle connections", PERCENT, Figure::Cost(idle_cpu), None, 0.1),
    target(
        "16",
        "encoding an item; floor: bincode",
        NANOS,
        Less,
        [Figure::Cost(|cost| Some(cost.codec?.encode)), Figure::Cost(|cost| Some(cost.codec?.bare_encode))],
        [12.0, 10.0],
    ),
    target(
        "16",
        "decoding an item; floor: bincode",
        NANOS,
        Less,
        [Figure::Cost(|cost| Some(cost.codec?.decode)), Figure::Cost(|cost| Some(cost.codec?.bare_decode))],
        [30.0, 27.0],
    ),
    beside("`unix:` p99 beside 64 MiB uploads / alone", "unix"),
    beside("`tcp:` p99 beside 64 MiB uploads / alone", "tcp"),
    beside("`shm:` p99 beside 64 MiB uploads / alone", "shm"),
];

const fn pair(
    transport: &'static str,
    ours: &'static str,
    floor: &'static str,
    what: What,
    value: fn(&Outcome) -> f64,
) -> [Figure; 2] {
    [Row(transport, ours, what, value), Row(transport, floor, what, value)]
}

const fn beside(name: &'static str, transport: &'static str) -> Target {
    absolute("", name, TIMES, Ratio(transport, ROOMY, [What::Beside, What::Seldom], p99), None, 3.0)
}

/// None at all: less than what starting leaves in the count of a run.
const NOTHING: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let cases = [(0.0, "0"), (0.048, "0.048"), (0.25, "0.25"), (3.307, "3.31"), (18.44, "18.4"), (519.2, "519")];
        for (value, text) in cases {
            assert_eq!(digits(value), text);
        }
    }

    #[test]
    fn every_row_of_the_design_is_there() {
        for row in 1..=16 {
            assert!(TARGETS.iter().any(|target| target.row == row.to_string()), "row {row}");
        }
    }
}
