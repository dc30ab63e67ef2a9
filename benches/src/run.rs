//! Measures all cells, round by round.

use std::fs::Permissions;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use trunkline_benches::subject::Error;

use crate::codec;
use crate::cost::{self, Cost, Counter};
use crate::idle;
use crate::machine::Machine;
use crate::options::Options;
use crate::peers::Subject;
use crate::plan::Cell;
use crate::process::measure;
use crate::results::{Results, Round, Row};

/// Measures, and says on stderr what, and how much is left.
pub(crate) fn run(options: &Options, subjects: Vec<Subject>, cells: Vec<Cell>) -> Result<Results, Error> {
    let directory = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()?;
    let times = options.times();
    let rows = cells.into_iter().map(|cell| Row { cell, rounds: Vec::new() }).collect();
    let mut results = Results { machine: Machine::here(), subjects, rows, cost: Cost::default() };
    let counted: Vec<Cell> = results
        .rows
        .iter()
        .map(|row| row.cell.clone())
        .filter(|cell| cost::is_counted(&results.subjects[cell.subject], cell))
        .collect();
    let allocating: Vec<Cell> = results
        .rows
        .iter()
        .map(|row| row.cell.clone())
        .filter(|cell| cost::is_allocating(&results.subjects[cell.subject], cell))
        .collect();
    // A choice of rows is a choice against everything else.
    let all = options.words.is_empty();
    let idle: Vec<_> = cost::idle_transports().filter(|_| all).collect();

    let rounds_of = |cell: &Cell| if cell.what.has_target() { options.main_rounds() } else { options.other_rounds() };
    let rounds = results.rows.iter().map(|row| rounds_of(&row.cell)).sum::<usize>();
    let steps = rounds + counted.len() + allocating.len() + idle.len() + usize::from(all);
    let mut progress = Progress::new(steps);
    for round in 0..options.main_rounds() {
        for at in 0..results.rows.len() {
            let cell = results.rows[at].cell.clone();
            if round >= rounds_of(&cell) {
                continue;
            }
            let subject = &results.subjects[cell.subject];
            progress.step(&format!(
                "round {} of {}: {}",
                round + 1,
                options.main_rounds(),
                cell.name(&results.subjects)
            ));
            let (spec, pin) = (cell.what.spec(times), cell.pin(options.pin));
            let outcome = measure(subject, cell.transport, &cell.mode, &spec, directory.path(), pin);
            let outcome = outcome.map_err(|error| error.to_string());
            results.rows[at].rounds.push(Round { round, spec, outcome });
        }
    }

    let counter = Counter::find(directory.path());
    results.cost.counter = counter.map(Counter::name);
    for cell in counted {
        let name = cell.name(&results.subjects);
        progress.step(&format!("system calls: {name}"));
        match counter.map(|counter| counter.count(&results.subjects[cell.subject], &cell, times, directory.path())) {
            Some(Ok(counted)) => results.cost.calls.push(counted),
            Some(Err(error)) => results.cost.missing.push(format!("system calls: {name}: {error}")),
            None => {}
        }
    }
    for cell in allocating {
        let name = cell.name(&results.subjects);
        progress.step(&format!("allocations: {name}"));
        match cost::allocations(&results.subjects[cell.subject], &cell, times, directory.path()) {
            Ok(counted) => results.cost.allocations.push(counted),
            Err(error) => results.cost.missing.push(format!("allocations: {name}: {error}")),
        }
    }
    if all {
        progress.step("codec");
        results.cost.codec = Some(codec::measure());
    }
    for transport in idle {
        progress.step(&format!("{} idle connections: {transport}", options.idle()));
        match idle::measure(transport, options.idle(), directory.path()) {
            Ok(idle) => results.cost.idle.push(idle),
            Err(error) => results.cost.missing.push(format!("idle connections: {transport}: {error}")),
        }
    }
    progress.end();
    Ok(results)
}

/// What is measured now, and for how much longer.
struct Progress {
    began: Instant,
    done: usize,
    steps: usize,
    terminal: bool,
    said: Option<Instant>,
}

impl Progress {
    fn new(steps: usize) -> Progress {
        Progress { began: Instant::now(), done: 0, steps, terminal: std::io::stderr().is_terminal(), said: None }
    }

    fn step(&mut self, what: &str) {
        let left = match self.done {
            0 => "…".to_owned(),
            done => {
                let left = self.began.elapsed().mul_f64((self.steps - done) as f64 / done as f64).as_secs();
                format!("{}:{:02} left", left / 60, left % 60)
            }
        };
        self.done += 1;
        let line = format!("[{}/{}, {left}] {what}", self.done, self.steps);
        if self.terminal {
            eprint!("\r\x1b[K{line}");
            let _ = std::io::stderr().flush();
        } else if self.said.is_none_or(|said| said.elapsed() > SELDOM) {
            // A log needs no line for every measurement.
            eprintln!("{line}");
            self.said = Some(Instant::now());
        }
    }

    fn end(&self) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{} measurements in {:.0} s", self.done, self.began.elapsed().as_secs_f64());
    }
}

const SELDOM: Duration = Duration::from_secs(5);
