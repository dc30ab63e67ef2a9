//! The promise, checked: the server under load, while somebody kills a worker each second. No request may be lost.

use std::collections::HashSet;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, process};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::http;
use crate::pool::{Pool, Workers};
use crate::worker::NOT_FOUND;

/// Serves for `time`, and looks at every answer.
///
/// # Errors
///
/// If one was wrong or did not come, a killed worker was not replaced, or a process is left over.
pub async fn check(pool: Pool, time: Duration) -> Result<(), Box<dyn Error + Send + Sync>> {
    let workers = Arc::clone(pool.workers());
    let count = workers.pids().len();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("http://{address}, with workers {:?}: {CONNECTIONS} connections, for {time:?}", workers.pids());
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn({
        let workers = Arc::clone(&workers);
        async move { http::serve(listener, &workers, stopped).await }
    });

    let enough = CancellationToken::new();
    let killer = tokio::spawn(kill_each_second(Arc::clone(&workers), enough.clone()));
    let facts = Arc::new(Facts::new());
    let mut clients = JoinSet::new();
    for seed in 1..=CONNECTIONS {
        clients.spawn(call_for(time, address, Dice(seed), Arc::clone(&facts)));
    }
    let mut found = Found::default();
    while let Some(part) = clients.join_next().await {
        found.add(part?);
    }
    enough.cancel();
    let killed = killer.await?;
    let mut pids: HashSet<u32> = killed.iter().copied().chain(workers.pids()).collect();
    let replaced = until(|| workers.replaced() >= killed.len() as u64 && workers.pids().len() == count).await;
    pids.extend(workers.pids());

    found.print(&workers, killed.len());
    let _ = stop.send(());
    served.await?;
    pool.stop().await;
    let ended = until(|| pids.iter().all(|pid| !is_there(*pid))).await;
    let strangers = facts.seen().iter().filter(|pid| !pids.contains(pid)).count();

    for (wrong, what) in [
        (!found.wrong.is_empty(), "not every answer was right"),
        (found.times.is_empty(), "there was no answer"),
        (killed.is_empty() && time >= KILL_EVERY * 2, "no worker was killed"),
        (!replaced, "a killed worker was not replaced"),
        // A worker that was replaced for another reason than the killer's is none of those known here.
        (strangers > 0 && workers.replaced() == killed.len() as u64, "somebody else answered"),
        (!ended, "a worker process is left over"),
    ] {
        if wrong {
            return Err(what.into());
        }
    }
    println!("all right: no request was lost, and no process is left");
    Ok(())
}

/// Whom it killed.
async fn kill_each_second(workers: Arc<Workers>, enough: CancellationToken) -> Vec<u32> {
    let (mut dice, mut killed) = (Dice(u64::from(process::id())), Vec::new());
    let mut seconds = interval(KILL_EVERY);
    // The first tick comes at once.
    seconds.tick().await;
    while enough.run_until_cancelled(seconds.tick()).await.is_some() {
        let pids = workers.pids();
        let Some(&pid) = pids.get(dice.below(pids.len().max(1) as u64) as usize) else { continue };
        // One that has just been killed may be on the list for another moment.
        if !killed.contains(&pid) && kill(Pid::from_raw(pid as i32), Signal::SIGKILL).is_ok() {
            killed.push(pid);
        }
    }
    killed
}

/// Sends requests over one connection, one after the other, until the time is up.
async fn call_for(time: Duration, address: SocketAddr, mut dice: Dice, facts: Arc<Facts>) -> Found {
    let mut found = Found::default();
    let began = Instant::now();
    let mut connection = match connect(address).await {
        Ok(connection) => connection,
        Err(error) => {
            found.wrong.push(format!("no connection: {error}"));
            return found;
        }
    };
    while began.elapsed() < time {
        let question = Question::any(&mut dice);
        let sent = Instant::now();
        match ask(&mut connection, &question).await {
            Ok((status, body)) => {
                found.times.push(sent.elapsed());
                if !facts.is_right(&question, status, &body) {
                    found.wrong.push(format!("{}: {status} {:?}", question.path, String::from_utf8_lossy(&body)));
                }
            }
            Err(error) => {
                // The server has no reason to close a connection.
                found.wrong.push(format!("{}: {error}", question.path));
                return found;
            }
        }
    }
    found
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(
    connection: &mut SendRequest<Full<Bytes>>,
    question: &Question,
) -> Result<(StatusCode, Bytes), hyper::Error> {
    connection.ready().await?;
    let mut request = Request::new(Full::new(question.body.clone()));
    *request.method_mut() = if question.body.is_empty() { Method::GET } else { Method::POST };
    *request.uri_mut() = question.path.parse().unwrap_or_default();
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    let response = connection.send_request(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

struct Question {
    path: String,
    body: Bytes,
}

impl Question {
    fn any(dice: &mut Dice) -> Question {
        let (path, body) = match dice.below(10) {
            0..=2 => ("/".to_owned(), Bytes::new()),
            3..=6 => (format!("/prime/{}", dice.below(PRIMES_BELOW as u64)), Bytes::new()),
            7..=8 => {
                let len = 1 + dice.below(16 * 1024);
                ("/echo".to_owned(), (0..len).map(|_| dice.below(256) as u8).collect())
            }
            _ => (format!("/{}", dice.below(1000)), Bytes::new()),
        };
        Question { path, body }
    }
}

/// What the answers should be.
struct Facts {
    /// By a sieve; the workers divide.
    composite: Vec<bool>,
    /// The workers that have answered.
    seen: Mutex<HashSet<u32>>,
}

impl Facts {
    fn new() -> Facts {
        let mut composite = vec![false; PRIMES_BELOW];
        composite[..2].fill(true);
        for n in (2..).take_while(|n| n * n < PRIMES_BELOW) {
            if !composite[n] {
                (n * n..PRIMES_BELOW).step_by(n).for_each(|multiple| composite[multiple] = true);
            }
        }
        Facts { composite, seen: Mutex::default() }
    }

    fn is_right(&self, question: &Question, status: StatusCode, body: &[u8]) -> bool {
        let path = question.path.as_str();
        if path == "/" {
            let text = std::str::from_utf8(body).ok();
            let pid = text.and_then(|text| text.strip_prefix("worker ")?.strip_suffix(" answered\n")?.parse().ok());
            pid.is_some_and(|pid| {
                self.seen().insert(pid);
                status == StatusCode::OK
            })
        } else if path == "/echo" {
            status == StatusCode::OK && body == question.body
        } else if let Some(n) = path.strip_prefix("/prime/") {
            let prime = n.parse().is_ok_and(|n: usize| !self.composite[n]);
            let expected = format!("{n} is {}\n", if prime { "prime" } else { "not prime" });
            status == StatusCode::OK && body == expected.as_bytes()
        } else {
            status == StatusCode::NOT_FOUND && body == NOT_FOUND.as_bytes()
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashSet<u32>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came back.
#[derive(Default)]
struct Found {
    /// How long each answer took.
    times: Vec<Duration>,
    /// What was wrong, or missing.
    wrong: Vec<String>,
}

impl Found {
    fn add(&mut self, other: Found) {
        self.times.extend(other.times);
        self.wrong.extend(other.wrong);
    }

    fn print(&mut self, workers: &Workers, killed: usize) {
        self.times.sort_unstable();
        let at = |percent: f64| {
            let rank = (self.times.len() as f64 * percent / 100.0).ceil() as usize;
            self.times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        println!("{} answers, {} of them wrong or missing", self.times.len(), self.wrong.len());
        println!("{killed} workers killed, {} replaced", workers.replaced());
        println!("{} requests went to one more worker", workers.repeated());
        let (p50, p99, p999, max) = (at(50.0), at(99.0), at(99.9), at(100.0));
        println!("latency: p50 {p50:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}, longest {max:.1?}");
        for wrong in self.wrong.iter().take(10) {
            println!("wrong: {wrong:.200}");
        }
    }
}

/// Whether the process is there, dead or alive.
fn is_there(pid: u32) -> bool {
    fs::exists(Path::new("/proc").join(pid.to_string())).unwrap_or(false)
}

/// Whether it came true within ten seconds.
async fn until(mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > Duration::from_secs(10) {
            return false;
        }
        sleep(Duration::from_millis(10)).await;
    }
    true
}

/// Numbers without a pattern that matters here: splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ (n >> 31)) % end
    }
}

const CONNECTIONS: u64 = 16;
const KILL_EVERY: Duration = Duration::from_secs(1);
const PRIMES_BELOW: usize = 1_000_000;
