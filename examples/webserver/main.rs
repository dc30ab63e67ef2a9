//! A small web server whose requests are answered by worker processes.
//!
//! ```console
//! $ cargo run --release --example webserver
//! $ curl localhost:8080/                  # which worker answered
//! $ curl localhost:8080/prime/1000003     # whether a number is prime, found out in a worker
//! $ curl localhost:8080/echo -d hello     # the same again
//! ```
//!
//! Kill a worker with `kill -9`: another takes its place at once, and no request is lost. That is the point of errors
//! that say whether a call may have run. `--check 60` shows it: the server runs under load, a worker is killed each
//! second, and every single answer is looked at. `--over shm` talks to the workers through shared memory, not pipes.

#![allow(unreachable_pub, reason = "its files are modules of one program")]

mod check;
mod http;
mod pool;
mod process;
mod worker;

use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use pool::Pool;
use process::{Directory, Over};

const HELP: &str = "\
A small web server whose requests are answered by worker processes.

Usage: cargo run --release --example webserver -- [OPTIONS]

Options:
  --port PORT       listen at this port of 127.0.0.1; 0 takes a free one (8080)
  --workers COUNT   start this many worker processes (3)
  --over pipe|shm   talk to them over pipes or through shared memory (pipe)
  --check SECONDS   on a free port: put load on the server, kill a worker each second, look at every answer
  --help            print this

Ctrl-C ends it: requests that are there are answered first. The exit status is 0 if all went well, 1 if not, 2 if the
options make no sense.
";

struct Options {
    port: u16,
    workers: usize,
    shm: bool,
    check: Option<Duration>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        // How it starts its own workers.
        ["--worker"] => worker::serve_pipes(),
        ["--worker", uri] => worker::serve_at(uri),
        ["--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => match Options::parse(&arguments) {
            Ok(options) => run(options),
            Err(why) => {
                eprintln!("webserver: {why}; `--help` lists the options");
                return ExitCode::from(2);
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("webserver: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let mut options = Options { port: 8080, workers: 3, shm: false, check: None };
        for option in arguments.chunks(2) {
            let unfit = || format!("`{}` makes no sense", option.join(" "));
            match *option {
                ["--port", port] => options.port = port.parse().map_err(|_| unfit())?,
                ["--workers", count] => {
                    options.workers = count.parse().ok().filter(|count| (1..=64).contains(count)).ok_or_else(unfit)?;
                }
                ["--over", "pipe"] => options.shm = false,
                ["--over", "shm"] => options.shm = true,
                ["--check", seconds] => {
                    options.check = Some(Duration::from_secs(seconds.parse().map_err(|_| unfit())?));
                }
                _ => return Err(unfit()),
            }
        }
        Ok(options)
    }
}

#[tokio::main]
async fn run(options: Options) -> Result<(), Box<dyn Error + Send + Sync>> {
    let over = if options.shm { Over::Shm(Directory::new()?) } else { Over::Pipe };
    let pool = Pool::start(over, options.workers).await?;
    if let Some(time) = options.check {
        return check::check(pool, time).await;
    }
    let mut ends = Ends::new()?;
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    println!("http://{}, with workers {:?}", listener.local_addr()?, pool.workers().pids());
    http::serve(listener, pool.workers(), ends.next()).await;
    let workers = pool.workers();
    println!("workers replaced: {}, requests sent to one more: {}", workers.replaced(), workers.repeated());
    pool.stop().await;
    Ok(())
}

/// The signals that end it.
struct Ends(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

impl Ends {
    fn new() -> io::Result<Ends> {
        Ok(Ends(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}
