//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::plan::Times;
use crate::process::Pin;

/// Measures trunkline beside the raw mechanisms it stands on.
///
/// Every measurement has a server and a client process of its own, default settings, and every reply is checked. Rounds
/// are interleaved; shown are medians with the least and the most.
#[derive(Debug, Parser)]
#[command(name = "trunkline-bench", arg_required_else_help = false)]
pub(crate) struct Options {
    /// Only rows whose names (see --list) have all these words, for example `unix W1`
    pub(crate) words: Vec<String>,

    /// Less than a minute: one short round; good for finding out whether it works, not for figures
    #[arg(long)]
    pub(crate) quick: bool,

    /// How often rows are measured that a target depends on; the others half as often
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: Option<u16>,

    /// Builds the other frameworks in benches/peers and measures them as well
    #[arg(long)]
    pub(crate) peers: bool,

    /// Puts the processes on cores 0 and 1; over pipes the server is always on the client's
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) pin: Pin,

    /// Writes the raw figures of every round
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Writes the table of targets as Markdown; with the other frameworks if --peers is given
    #[arg(long, value_name = "FILE")]
    pub(crate) targets: Option<PathBuf>,

    /// Writes a page with plots and tables
    #[arg(long, value_name = "FILE", default_value = "target/bench/index.html")]
    pub(crate) html: PathBuf,

    /// Writes the plots as SVG
    #[arg(long, value_name = "DIR")]
    pub(crate) svg: Option<PathBuf>,

    /// Shows the rows and measures nothing
    #[arg(long)]
    pub(crate) list: bool,
}

impl Options {
    /// How many rounds the rows have that a target depends on.
    pub(crate) fn main_rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 1 } else { 5 }, usize::from)
    }

    /// How many the others.
    pub(crate) fn other_rounds(&self) -> usize {
        (self.main_rounds() / 2).max(1)
    }

    pub(crate) fn times(&self) -> Times {
        if self.quick { Times { warm_ms: 30, span_ms: 120 } } else { Times { warm_ms: 100, span_ms: 400 } }
    }

    /// Idle connections to hold.
    pub(crate) fn idle(&self) -> usize {
        if self.quick { 1_000 } else { 10_000 }
    }
}
