//! Measures trunkline's transports beside the raw mechanisms they stand on, and beside other frameworks.
//!
//! ```text
//! cargo bench -p trunkline-benches -- --help
//! ```

mod codec;
mod cost;
mod idle;
mod json;
mod machine;
mod options;
mod page;
mod peers;
mod plan;
mod plot;
mod process;
mod results;
mod run;
mod subjects;
mod table;
mod targets;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use trunkline_benches::subject::Error;

use crate::options::Options;

fn main() -> ExitCode {
    // Before anything else: the processes that are measured are this program, too.
    let arguments: Vec<String> = env::args_os().skip(1).filter_map(|argument| argument.into_string().ok()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        ["subject", name, ..] => return subjects::main(name),
        ["idle", ref rest @ ..] => return idle::main(rest),
        _ => {}
    }
    match measure(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("trunkline-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(options: &Options) -> Result<ExitCode, Error> {
    let mut subjects = peers::contained()?;
    if options.peers {
        subjects.extend(peers::build()?);
    }
    let cells = plan::cells(&subjects, &options.words);
    if cells.is_empty() {
        return Err(format!("no row has all of these words: {}; see --list", options.words.join(" ")).into());
    }
    if options.list {
        let mut out = io::stdout().lock();
        for cell in cells {
            match writeln!(out, "{}", cell.name(&subjects)) {
                // Whoever reads it has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                written => written?,
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    // A place that cannot be written is known before the measuring, not after.
    for file in options.json.iter().chain(&options.targets).chain([&options.html]) {
        let parent = file.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        fs::File::create(file).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if let Some(dir) = &options.svg {
        fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    }

    let results = run::run(options, subjects, cells)?;
    for table in table::tables(&results) {
        println!("{}", table.text());
    }
    if let Some(file) = &options.json {
        fs::write(file, json::text(&results)?)?;
    }
    if let Some(file) = &options.targets {
        fs::write(file, targets::markdown(&results))?;
    }
    let plots = plot::plots(&results)?;
    if let Some(dir) = &options.svg {
        for plot in &plots {
            fs::write(dir.join(format!("{}.svg", plot.name)), &plot.svg)?;
        }
    }
    fs::write(&options.html, page::text(&results, &plots))?;
    println!("{}", options.html.display());

    let mut code = ExitCode::SUCCESS;
    for row in &results.rows {
        if let Some(error) = row.error() {
            eprintln!("{}: {error}", row.cell.name(&results.subjects));
            code = ExitCode::FAILURE;
        }
    }
    results.cost.missing.iter().for_each(|missing| eprintln!("{missing}"));
    Ok(code)
}
