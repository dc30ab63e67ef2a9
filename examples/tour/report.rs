//! What was found, for people and for programs.

use std::time::Duration;

use crate::measure::Measured;

/// One stop's outcome.
pub struct Outcome {
    pub transport: &'static str,
    pub peer: String,
    /// What was measured, or why nothing was.
    pub measured: Result<Measured, String>,
}

impl Outcome {
    /// Whether every call had the right answer.
    pub fn ok(&self) -> bool {
        self.measured.as_ref().is_ok_and(|measured| measured.wrong == 0 && measured.calls > 0)
    }

    /// One JSON object. Nothing in it needs escaping: the transport's name is a word, the rest are numbers.
    pub fn json(&self) -> String {
        let (transport, ok) = (self.transport, self.ok());
        let Ok(found) = &self.measured else {
            return format!(
                r#"{{"transport":"{transport}","calls":0,"p50_ns":null,"p99_ns":null,"calls_per_second":null,"upload_bytes_per_second":null,"ok":{ok}}}"#
            );
        };
        format!(
            r#"{{"transport":"{transport}","calls":{},"p50_ns":{},"p99_ns":{},"calls_per_second":{:.0},"upload_bytes_per_second":{:.0},"ok":{ok}}}"#,
            found.calls,
            found.p50.as_nanos(),
            found.p99.as_nanos(),
            found.calls_per_second,
            found.upload_bytes_per_second,
        )
    }

    fn row(&self) -> [String; 8] {
        let verdict = match &self.measured {
            Ok(found) if self.ok() => return self.cells(found, "all right".to_owned()),
            Ok(found) => return self.cells(found, format!("{} WRONG", found.wrong)),
            Err(_) => "FAILED",
        };
        let nothing = String::new;
        [
            self.transport.into(),
            self.peer.clone(),
            nothing(),
            nothing(),
            nothing(),
            nothing(),
            nothing(),
            verdict.into(),
        ]
    }

    fn cells(&self, found: &Measured, verdict: String) -> [String; 8] {
        [
            self.transport.to_owned(),
            self.peer.clone(),
            thousands(found.calls),
            micros(found.p50),
            micros(found.p99),
            format!("{} calls/s", thousands(found.calls_per_second as u64)),
            format!("{:.2} GB/s", found.upload_bytes_per_second / 1e9),
            verdict,
        ]
    }
}

/// The table.
pub fn table(outcomes: &[Outcome]) -> String {
    let header =
        ["transport", "peer", "calls", "p50", "p99", "64 in flight", "1 MiB upload", "answers"].map(String::from);
    let rows: Vec<[String; 8]> = std::iter::once(header).chain(outcomes.iter().map(Outcome::row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut text = String::new();
    for (n, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            // Words to the left, numbers to the right.
            0 | 1 | 7 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
        if n == 0 {
            text += &"-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1));
            text.push('\n');
        }
    }
    text
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_nanos() as f64 / 1e3)
}

/// `1234567` as `1,234,567`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
