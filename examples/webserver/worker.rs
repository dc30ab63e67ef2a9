//! The worker: pages are made here, in a process of its own.

use std::error::Error;
use std::io::{self, Read, Write};
use std::process;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use trunkline::Server;

/// What the web server asks of a worker.
#[trunkline::service]
pub trait Pages {
    /// The answer to an HTTP request. It changes nothing, so it may be asked for again.
    #[rpc(idempotent, spawn)]
    async fn page(&self, method: &str, path: &str, body: &[u8]) -> Page;
}

/// An answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub status: u16,
    pub body: Vec<u8>,
}

struct Worker;

impl Pages for Worker {
    async fn page(&self, method: &str, path: &str, body: &[u8]) -> Page {
        match (method, path) {
            ("GET" | "HEAD", "/") => text(200, format!("worker {} answered\n", process::id())),
            ("POST", "/echo") => Page { status: 200, body: body.to_vec() },
            ("GET" | "HEAD", path) => match path.strip_prefix("/prime/").map(str::parse) {
                Some(Ok(n)) => text(200, format!("{n} is {}\n", if is_prime(n).await { "prime" } else { "not prime" })),
                Some(Err(_)) => text(400, "that is no number below 2^64\n".to_owned()),
                None => text(404, NOT_FOUND.to_owned()),
            },
            _ => text(404, NOT_FOUND.to_owned()),
        }
    }
}

fn text(status: u16, body: String) -> Page {
    Page { status, body: body.into_bytes() }
}

/// By trial, which takes seconds for large primes. At each pause others get their turn; and if nobody waits for the
/// answer any more, it goes no further.
async fn is_prime(n: u64) -> bool {
    if n < 2 || n % 2 == 0 {
        return n == 2;
    }
    let mut divisor = 3;
    while divisor <= n / divisor {
        if n % divisor == 0 {
            return false;
        }
        divisor += 2;
        if divisor % DIVISORS_PER_TURN == 1 {
            tokio::task::yield_now().await;
        }
    }
    true
}

/// The process of a worker that its parent talks to over pipes. It ends when the parent does.
#[tokio::main(flavor = "current_thread")]
pub async fn serve_pipes() -> Result<(), Box<dyn Error + Send + Sync>> {
    Ok(trunkline::serve("inherited:", PagesServer::new(Worker)).await?)
}

/// The process of a worker at `uri`: says when it can be reached, and serves until its stdin ends, as it does when its
/// parent is gone.
#[tokio::main(flavor = "current_thread")]
pub async fn serve_at(uri: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let server = Server::builder().service(PagesServer::new(Worker)).bind(uri).await?;
    writeln!(io::stdout(), "{}", server.endpoints().concat())?;
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        let _ = ended.send(());
    });
    server.run_until(end).await;
    Ok(())
}

pub const NOT_FOUND: &str = "there is no such page\n";
const DIVISORS_PER_TURN: u64 = 1 << 15;
