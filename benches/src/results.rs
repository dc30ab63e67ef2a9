//! What was measured, and what it says.

use serde::Serialize;
use trunkline_benches::subject::{Outcome, Spec};

use crate::cost::Cost;
use crate::machine::Machine;
use crate::peers::Subject;
use crate::plan::{Cell, What, floor};

/// A median, and between what it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let middle = (*values.get(values.len() / 2)? + *values.get(values.len().checked_sub(1)? / 2)?) / 2.0;
        Some(Spread { median: middle, least: *values.first()?, most: *values.last()? })
    }
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) round: usize,
    pub(crate) spec: Spec,
    pub(crate) outcome: Result<Outcome, String>,
}

/// A cell and its rounds.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) cell: Cell,
    pub(crate) rounds: Vec<Round>,
}

impl Row {
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (usize, &Outcome)> {
        self.rounds.iter().filter_map(|round| Some((round.round, round.outcome.as_ref().ok()?)))
    }

    /// What went wrong first.
    pub(crate) fn error(&self) -> Option<&str> {
        self.rounds.iter().find_map(|round| round.outcome.as_ref().err()).map(String::as_str)
    }

    pub(crate) fn spread(&self, value: impl Fn(&Outcome) -> f64) -> Option<Spread> {
        Spread::of(self.outcomes().map(|(_, outcome)| value(outcome)).collect())
    }
}

/// Everything.
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) rows: Vec<Row>,
    pub(crate) cost: Cost,
}

impl Results {
    pub(crate) fn row(&self, transport: &str, subject: &str, mode: Option<&str>, what: What) -> Option<&Row> {
        self.rows.iter().find(|row| {
            row.cell.transport == transport
                && self.subjects[row.cell.subject].name == subject
                && mode.is_none_or(|mode| row.cell.mode == mode)
                && row.cell.what == what
        })
    }

    /// How many times the floor's a row's value is: the median of what each round says.
    pub(crate) fn ratio(&self, row: &Row, value: impl Fn(&Outcome) -> f64) -> Option<f64> {
        let floor = self.row(row.cell.transport, floor(row.cell.transport), None, row.cell.what)?;
        let ratios = row.outcomes().filter_map(|(round, outcome)| {
            let (_, floor) = floor.outcomes().find(|(other, _)| *other == round)?;
            Some(value(outcome) / value(floor))
        });
        Spread::of(ratios.collect()).map(|ratio| ratio.median)
    }

    /// The main measurements of one subject in one mode on one transport, as a table has them.
    pub(crate) fn places(&self) -> Vec<(&'static str, &Subject, &str)> {
        let mut places: Vec<(&'static str, &Subject, &str)> = Vec::new();
        for transport in crate::plan::TRANSPORTS {
            for row in self.rows.iter().filter(|row| row.cell.transport == transport && row.cell.what.is_main()) {
                let subject = &self.subjects[row.cell.subject];
                let known = |place: &(&str, &Subject, &str)| {
                    (place.0, place.1.name.as_str(), place.2)
                        == (transport, subject.name.as_str(), row.cell.mode.as_str())
                };
                if !places.iter().any(known) {
                    places.push((transport, subject, &row.cell.mode));
                }
            }
        }
        places
    }
}

pub(crate) fn latency(outcome: &Outcome) -> f64 {
    outcome.latency.p50
}

pub(crate) fn rate(outcome: &Outcome) -> f64 {
    outcome.calls as f64 / outcome.seconds
}

pub(crate) fn bandwidth(outcome: &Outcome) -> f64 {
    outcome.bytes as f64 / outcome.seconds
}

/// Of both processes, in microseconds a call.
pub(crate) fn cpu(outcome: &Outcome) -> f64 {
    (outcome.cpu_client_us + outcome.cpu_server_us) / outcome.calls as f64
}

/// Of both processes, a call.
pub(crate) fn switches(outcome: &Outcome) -> f64 {
    (outcome.switches_client + outcome.switches_server) as f64 / outcome.calls as f64
}
