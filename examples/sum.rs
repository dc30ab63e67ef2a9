//! The sum of 1 … 10,000, added up by ten child processes at the same time.
//!
//! `cargo run --example sum`. The program starts itself ten times more, each time as a worker, and talks to each worker
//! over a pair of pipes: nobody needs an address. A worker ends by itself when its parent does.

use std::env;
use std::error::Error;
use std::process::Command;

use trunkline::serve;

#[trunkline::service]
trait Adder {
    /// The sum of the numbers from `first` to `last`.
    async fn sum(&self, first: u64, last: u64) -> u64;
}

struct Worker;

impl Adder for Worker {
    async fn sum(&self, first: u64, last: u64) -> u64 {
        (first..=last).sum()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("worker") {
        return Ok(serve("inherited:", AdderServer::new(Worker)).await?);
    }

    let mut workers = Vec::new();
    for _ in 0..10 {
        workers.push(AdderClient::spawn(Command::new(env::current_exe()?).arg("worker")).await?);
    }

    // Every call is on its way before the first result is waited for: the workers add at the same time.
    let mut calls = Vec::new();
    for (first, worker) in (1..).step_by(1000).zip(&workers) {
        calls.push((first, worker, worker.sum(first, first + 999).send().await?));
    }

    let mut total = 0;
    for (first, worker, call) in calls {
        let part = call.await?;
        println!("{}: {first} + … + {} = {part}", worker.connection().peer(), first + 999);
        total += part;
    }
    println!("all of them: {total}");
    if total == 50_005_000 { Ok(()) } else { Err("that is wrong".into()) }
}
