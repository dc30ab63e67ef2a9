//! trunkline's transports beside each other, and beside the raw mechanism they stand on.
//!
//! ```text
//! cargo run --release -p trunkline-benches -- [--quick] [--rounds N]
//! ```
//!
//! Two processes, default settings, nothing pinned. Every reply is checked before it is counted. Rounds are interleaved:
//! each measures every row once; what is printed is the median over the rounds, with the least and the most. The floor of
//! a socket is a blocking ping-pong of as many bytes as a call's frames have, with no framework at all.

mod floor;
mod service;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use service::{BenchClient, Item, serve};

/// What one measurement says.
#[derive(Clone, Copy)]
enum Unit {
    /// Nanoseconds a round trip, the median of one round.
    Latency,
    /// Calls a second.
    Rate,
    /// Bytes a second.
    Bandwidth,
}

struct Row {
    name: String,
    unit: Unit,
    rounds: Vec<f64>,
}

fn main() -> ExitCode {
    let mut rounds = 5;
    let mut span = Duration::from_millis(1000);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--serve", Some(uri)) => return child(|| serve(&uri)),
            ("--floor", Some(uri)) => return child(|| floor::serve(&uri)),
            ("--quick", next) => {
                (rounds, span) = (2, Duration::from_millis(300));
                if next.is_some() {
                    return usage();
                }
            }
            ("--rounds", Some(number)) => match number.parse() {
                Ok(number) if number > 0 => rounds = number,
                _ => return usage(),
            },
            _ => return usage(),
        }
    }
    match run(rounds, span) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trunkline-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: trunkline-bench [--quick] [--rounds N]");
    ExitCode::from(2)
}

/// A server process: says where it serves, and ends with whoever started it.
fn child(serve: impl FnOnce()) -> ExitCode {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    serve();
    ExitCode::SUCCESS
}

struct Server {
    child: Child,
    endpoint: String,
}

impl Server {
    fn start(mode: &str, uri: &str) -> std::io::Result<Server> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([mode, uri])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut endpoint = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut endpoint)?;
        Ok(Server { child, endpoint: endpoint.trim().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn run(rounds: usize, span: Duration) -> Outcome<()> {
    let dir = std::env::temp_dir().join(format!("trunkline-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let socket = |name: &str| format!("unix:{}", dir.join(name).display());
    let places = [
        ("unix", Server::start("--floor", &socket("floor"))?, Server::start("--serve", &socket("rpc"))?),
        ("tcp", Server::start("--floor", "tcp://127.0.0.1:0")?, Server::start("--serve", "tcp://127.0.0.1:0")?),
    ];
    let mut rows: Vec<Row> = Vec::new();
    let mut note = |name: String, unit: Unit, value: f64| match rows.iter_mut().find(|row| row.name == name) {
        Some(row) => row.rounds.push(value),
        None => rows.push(Row { name, unit, rounds: vec![value] }),
    };
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (name, floor, rpc) in &places {
            note(format!("{name}  W1 raw ping-pong"), Unit::Latency, floor::ping_pong(&floor.endpoint, span)?);
            note(format!("{name}  W1 echo"), Unit::Latency, block_on(sequential(&rpc.endpoint, span))?);
            note(format!("{name}  W2 echo, 64 in flight"), Unit::Rate, block_on(concurrent(&rpc.endpoint, span))?);
            note(format!("{name}  W3 raw upload of 1 MiB"), Unit::Bandwidth, floor::upload(&floor.endpoint, span)?);
            note(format!("{name}  W3 upload of 1 MiB"), Unit::Bandwidth, block_on(uploads(&rpc.endpoint, span))?);
        }
    }
    drop(places);
    let _ = std::fs::remove_dir_all(&dir);
    print(&mut rows)?;
    Ok(())
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

async fn sequential(endpoint: &str, span: Duration) -> Outcome<f64> {
    let client = BenchClient::connect(endpoint).await?;
    let mut times = Vec::new();
    let began = Instant::now();
    for id in 0.. {
        let call = Instant::now();
        let reply = client.echo(Item::new(id)).await?;
        times.push(call.elapsed().as_nanos() as f64);
        assert_eq!(reply, Item::new(id), "a wrong reply");
        if began.elapsed() > span {
            break;
        }
    }
    Ok(median(&mut times))
}

async fn concurrent(endpoint: &str, span: Duration) -> Outcome<f64> {
    let client = BenchClient::connect(endpoint).await?;
    let began = Instant::now();
    let tasks: Vec<_> = (0..64)
        .map(|lane| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut calls = 0;
                while began.elapsed() < span {
                    let item = Item::new(lane + 64 * calls);
                    assert_eq!(client.echo(item).await.expect("the server answers"), item, "a wrong reply");
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += task.await?;
    }
    Ok(calls as f64 / began.elapsed().as_secs_f64())
}

async fn uploads(endpoint: &str, span: Duration) -> Outcome<f64> {
    let client = BenchClient::connect(endpoint).await?;
    let bytes = floor::block();
    let began = Instant::now();
    let mut uploaded = 0;
    while began.elapsed() < span {
        assert_eq!(client.upload(&bytes).await?, service::digest(&bytes), "a wrong reply");
        uploaded += bytes.len();
    }
    Ok(uploaded as f64 / began.elapsed().as_secs_f64())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(rows: &mut [Row]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<32} {:>14} {:>12} {:>12}", "", "median", "least", "most")?;
    for row in rows {
        let middle = median(&mut row.rounds);
        let (least, most) = (row.rounds[0], row.rounds[row.rounds.len() - 1]);
        let show = |value: f64| match row.unit {
            Unit::Latency => format!("{:.1} us", value / 1e3),
            Unit::Rate => format!("{:.0} k/s", value / 1e3),
            Unit::Bandwidth => format!("{:.2} GB/s", value / 1e9),
        };
        writeln!(out, "{:<32} {:>14} {:>12} {:>12}", row.name, show(middle), show(least), show(most))?;
    }
    Ok(())
}
