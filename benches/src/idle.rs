//! Many connections that do nothing.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::runtime::Builder;
use trunkline::{Limits, Server};
use trunkline_benches::subject::Error;

use crate::process::end;
use crate::subjects::trunkline::{BenchClient, service};

/// What they cost the server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Idle {
    pub(crate) transport: &'static str,
    pub(crate) connections: usize,
    /// Resident, without any connection.
    pub(crate) bytes_before: u64,
    /// Resident, with all of them.
    pub(crate) bytes_after: u64,
    /// CPU time, in a second in which nothing happens.
    pub(crate) cpu_us_a_second: f64,
}

/// The transports that it is measured on.
pub(crate) const TRANSPORTS: [&str; 2] = ["tcp", "unix"];

/// Measures it. As many connections as descriptors allow.
pub(crate) fn measure(transport: &'static str, connections: usize, dir: &Path) -> Result<Idle, Error> {
    let allowed = raise_descriptors()?;
    let connections = connections.min(allowed.saturating_sub(SPARE));
    let (mut server, address) = start(&["serve", transport, &dir.display().to_string()])?;
    let before = resident(server.id())?;
    let (mut client, line) = start(&["connect", &address, &connections.to_string()])?;
    if line != "connected" {
        return Err(format!("{connections} connections: {line}").into());
    }
    // What connecting has left to do is done by then.
    sleep(SETTLING);
    let (cpu, began) = (cpu(server.id())?, Instant::now());
    sleep(WATCHED);
    let used = self::cpu(server.id())?.saturating_sub(cpu);
    let idle = Idle {
        transport,
        connections,
        bytes_before: before,
        bytes_after: resident(server.id())?,
        cpu_us_a_second: used.as_secs_f64() * 1e6 / began.elapsed().as_secs_f64(),
    };
    for child in [&mut client, &mut server] {
        drop(child.stdin.take());
        end(child);
    }
    Ok(idle)
}

fn start(arguments: &[&str]) -> Result<(std::process::Child, String), Error> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("idle").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("a child without stdout")?).read_line(&mut line)?;
    Ok((child, line.trim().to_owned()))
}

/// One of the two processes.
pub(crate) fn main(arguments: &[&str]) -> ExitCode {
    let ended = raise_descriptors().and_then(|_| match *arguments {
        ["serve", transport, dir] => serve(transport, dir),
        ["connect", address, connections] => connect(address, connections.parse()?),
        _ => Err("usage: idle serve TRANSPORT DIR | idle connect ADDRESS NUMBER".into()),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(transport: &str, dir: &str) -> Result<(), Error> {
    let uri = match transport {
        "tcp" => "tcp://127.0.0.1:0".to_owned(),
        _ => format!("{transport}:{dir}/idle.sock"),
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // The only limit that is in the way.
        let mut limits = Limits::default();
        limits.connections = 20_000;
        let server = Server::builder().service(service()).limits(limits).bind(uri).await?;
        println!("{}", server.endpoints()[0]);
        server.run_until(stdin_ends()).await;
        Ok(())
    })
}

fn connect(address: &str, connections: usize) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(BenchClient::connect(address).await?);
        }
        println!("connected");
        stdin_ends().await;
        Ok(())
    })
}

async fn stdin_ends() {
    let _ = tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await;
}

/// As many as the hard limit allows.
fn raise_descriptors() -> Result<usize, Error> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard)?)
}

fn resident(pid: u32) -> Result<u64, Error> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the kernel names no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn cpu(pid: u32) -> Result<Duration, Error> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed()))?;
    Ok(clock_gettime(clock)?.into())
}

/// Descriptors that are no connections.
const SPARE: usize = 100;
const SETTLING: Duration = Duration::from_millis(500);
const WATCHED: Duration = Duration::from_secs(1);
