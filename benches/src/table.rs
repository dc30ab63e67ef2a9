//! The figures as a table: text for the terminal, and for the page.

use std::fmt::Write;

use trunkline_benches::subject::Outcome;

use crate::plan::What;
use crate::results::{Results, Row, Spread, bandwidth, cpu, latency, rate, switches};
use crate::targets;

/// Names of columns, and rows of cells. The first three columns are names.
pub(crate) struct Table {
    pub(crate) title: &'static str,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Reads one figure out of an outcome.
type Value = fn(&Outcome) -> f64;
/// Writes it down.
type Show = fn(f64) -> String;

/// All tables that have rows.
pub(crate) fn tables(results: &Results) -> Vec<Table> {
    let mut tables = vec![
        targets::table(results),
        main(results),
        costs(results),
        streams(results),
        others(results),
        idle(results),
        codec(results),
    ];
    tables.retain(|table| !table.rows.is_empty());
    tables
}

fn main(results: &Results) -> Table {
    let rows = results.places().into_iter().map(|(transport, subject, mode)| {
        let row = |what| results.row(transport, &subject.name, Some(mode), what);
        let mut cells = vec![transport.to_owned(), subject.name.clone(), mode.to_owned()];
        for (what, value, show) in [
            (What::W1, latency as Value, micros as Show),
            (What::W2, rate, thousands),
            (What::W3, bandwidth, gigabytes),
        ] {
            match row(what) {
                Some(row) => {
                    cells.push(spread(row, value, show));
                    cells.push(results.ratio(row, value).map_or_else(String::new, |ratio| format!("{ratio:.2}")));
                }
                None => cells.extend([String::new(), String::new()]),
            }
        }
        cells
    });
    Table {
        title: "W1: echo, one at a time. W2: 64 in flight. W3: upload of 1 MiB. Median [least-most]; × is to the floor",
        columns: vec!["", "", "", "W1 p50, us", "×", "W2, k calls/s", "×", "W3, GB/s", "×"],
        rows: rows.collect(),
    }
}

fn costs(results: &Results) -> Table {
    let rows = results.places().into_iter().map(|(transport, subject, mode)| {
        let mut cells = vec![transport.to_owned(), subject.name.clone(), mode.to_owned()];
        for what in [What::W1, What::W2] {
            let row = results.row(transport, &subject.name, Some(mode), what);
            for value in [cpu, switches] {
                let spread = row.and_then(|row| row.spread(value));
                cells.push(spread.map_or_else(String::new, |spread| format!("{:.3}", spread.median)));
            }
            let counted = results.cost.calls(transport, &subject.name, mode, what);
            cells.push(counted.map_or_else(String::new, |counted| format!("{counted:.2}")));
        }
        let allocations = results.cost.allocations(transport, &subject.name, mode, What::W1);
        cells.push(allocations.map_or_else(String::new, |counted| format!("{:.2}", counted.abs())));
        cells
    });
    Table {
        title: match results.cost.counter {
            Some(_) => "What a call costs both processes together",
            None => "What a call costs both processes together; system calls: neither perf nor strace works here",
        },
        columns: vec![
            "",
            "",
            "",
            "W1 CPU, us",
            "switches",
            "syscalls",
            "W2 CPU, us",
            "switches",
            "syscalls",
            "W1 allocations",
        ],
        rows: rows.collect(),
    }
}

fn streams(results: &Results) -> Table {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in results.rows.iter().filter(|row| row.cell.what.is_stream()) {
        let (cell, subject) = (&row.cell, &results.subjects[row.cell.subject].name);
        let place = [cell.transport, subject, &cell.mode];
        if rows.iter().any(|known| known[..3] == place) {
            continue;
        }
        let mut cells: Vec<String> = place.map(str::to_owned).to_vec();
        for what in [What::W4, What::W4Up] {
            let Some(row) = results.row(cell.transport, subject, Some(&cell.mode), what) else {
                cells.extend([const { String::new() }; 4]);
                continue;
            };
            cells.push(spread(row, rate, millions));
            cells.push(results.ratio(row, rate).map_or_else(String::new, |ratio| format!("{ratio:.2}")));
            let cpu = row.spread(cpu);
            cells.push(cpu.map_or_else(String::new, |cpu| format!("{:.1}", cpu.median * 1e3)));
            let allocations = results.cost.allocations(cell.transport, subject, &cell.mode, what);
            cells.push(allocations.map_or_else(String::new, |counted| format!("{:.3}", counted.abs())));
        }
        rows.push(cells);
    }
    Table {
        title: "W4: a stream of 32-byte items from the server; W4-up: to the server. CPU and allocations of both processes, an item",
        columns: vec![
            "",
            "",
            "",
            "W4, M items/s",
            "×",
            "CPU, ns",
            "allocations",
            "W4-up, M items/s",
            "×",
            "CPU, ns",
            "allocations",
        ],
        rows,
    }
}

fn others(results: &Results) -> Table {
    let has_latency = |row: &&Row| !row.cell.what.is_main() && !row.cell.what.is_stream();
    let rows = results.rows.iter().filter(has_latency).map(|row| {
        let subject = &results.subjects[row.cell.subject].name;
        let (value, show): (Value, Show) = match row.cell.what {
            What::Size(_) => (bandwidth, megabytes),
            _ => (rate, thousands),
        };
        vec![
            row.cell.transport.to_owned(),
            subject.clone(),
            row.cell.mode.clone(),
            row.cell.what.name(),
            spread(row, value, show),
            spread(row, latency, micros),
            spread(row, |outcome| outcome.latency.p99, micros),
        ]
    });
    Table {
        title: "More in flight, other sizes, given loads. Rate in k calls/s, of uploads in MB/s",
        columns: vec!["", "", "", "", "rate", "p50, us", "p99, us"],
        rows: rows.collect(),
    }
}

fn codec(results: &Results) -> Table {
    let rows = results.cost.codec.iter().flat_map(|codec| {
        let row = |name: &str, [encode, decode]: [f64; 2]| {
            vec![String::new(), name.to_owned(), String::new(), format!("{encode:.1}"), format!("{decode:.1}")]
        };
        [
            row("trunkline", [codec.encode, codec.decode]),
            row("bincode, no limits", [codec.bare_encode, codec.bare_decode]),
        ]
    });
    Table {
        title: "The message of a call: 32 bytes, a number and an array",
        columns: vec!["", "", "", "encode, ns", "decode, ns"],
        rows: rows.collect(),
    }
}

fn idle(results: &Results) -> Table {
    let rows = results.cost.idle.iter().map(|idle| {
        let grown = idle.bytes_after.saturating_sub(idle.bytes_before) as f64;
        vec![
            idle.transport.to_owned(),
            "trunkline".to_owned(),
            idle.connections.to_string(),
            format!("{:.1}", idle.bytes_after as f64 / 1e6),
            format!("{:.0}", grown / idle.connections as f64),
            format!("{:.0}", idle.cpu_us_a_second),
        ]
    });
    Table {
        title: "A server with idle connections",
        columns: vec!["", "", "connections", "resident, MB", "bytes a connection", "CPU, us/s"],
        rows: rows.collect(),
    }
}

fn spread(row: &Row, value: impl Fn(&Outcome) -> f64, show: Show) -> String {
    match row.spread(value) {
        Some(Spread { median, least, most }) => {
            let range = if least < most { format!(" [{}-{}]", show(least), show(most)) } else { String::new() };
            show(median) + &range
        }
        None => row.error().map_or_else(String::new, |_| "failed".to_owned()),
    }
}

fn micros(nanos: f64) -> String {
    if nanos < 10_000.0 { format!("{:.2}", nanos / 1e3) } else { format!("{:.1}", nanos / 1e3) }
}

fn thousands(rate: f64) -> String {
    format!("{:.0}", rate / 1e3)
}

fn millions(rate: f64) -> String {
    format!("{:.2}", rate / 1e6)
}

fn gigabytes(bytes: f64) -> String {
    format!("{:.2}", bytes / 1e9)
}

fn megabytes(bytes: f64) -> String {
    if bytes < 1e7 { format!("{:.2}", bytes / 1e6) } else { format!("{:.0}", bytes / 1e6) }
}

impl Table {
    /// In columns as wide as they must be.
    pub(crate) fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.columns[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = format!("{}\n", self.title);
        let head = self.columns.iter().map(|column| (*column).to_owned()).collect();
        for row in [&head].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Names begin at the left, figures end at the right.
                let _ = if at < 3 { write!(line, "{cell:<width$}  ") } else { write!(line, "{cell:>width$}  ") };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
