//! The workers that are alive, and what happens when one is not any more.
//!
//! | who | does |
//! |---|---|
//! | a request | chooses the worker with the fewest requests; if that one is lost, takes it off the list and chooses again |
//! | a keeper, one for each place | starts a worker, puts it on the list, waits for its end; then begins again |
//!
//! Requests never start workers. However many lose the same one, it is replaced once.

use std::error::Error;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use trunkline::{CallError, Reason};

use crate::process::{Over, Process};
use crate::worker::{Page, PagesClient};

/// The keepers of the workers.
pub struct Pool {
    workers: Arc<Workers>,
    keepers: JoinSet<()>,
    stop: CancellationToken,
}

impl Pool {
    /// Starts `count` workers.
    ///
    /// # Errors
    ///
    /// If one cannot be started: then the next one will not do better.
    pub async fn start(over: Over, count: usize) -> Result<Pool, Box<dyn Error + Send + Sync>> {
        let workers = Arc::new(Workers::new(over));
        let mut starting = JoinSet::new();
        for _ in 0..count {
            let workers = Arc::clone(&workers);
            starting.spawn(async move { Process::start(&workers.over).await });
        }
        let (mut keepers, stop) = (JoinSet::new(), CancellationToken::new());
        while let Some(started) = starting.join_next().await {
            let process = started??;
            // Before its keeper runs, so that all are there when this returns.
            let worker = workers.add(&process);
            keepers.spawn(Arc::clone(&workers).keep(process, worker, stop.clone()));
        }
        Ok(Pool { workers, keepers, stop })
    }

    /// For those who have requests.
    pub fn workers(&self) -> &Arc<Workers> {
        &self.workers
    }

    /// Ends all workers in good order. None is replaced any more.
    pub async fn stop(self) {
        self.stop.cancel();
        self.keepers.join_all().await;
    }
}

/// The workers that are alive.
pub struct Workers {
    over: Over,
    /// Protects who is on the list, and the choice: who chooses is counted before the next one looks.
    alive: Mutex<Vec<Arc<Worker>>>,
    /// Wakes those who wait for a worker.
    arrival: Notify,
    /// Counts choices.
    turns: AtomicU64,
    replaced: AtomicU64,
    repeated: AtomicU64,
}

struct Worker {
    pid: u32,
    pages: PagesClient,
    requests: AtomicUsize,
    /// When it was last chosen: among equals, the one that has waited longest is next.
    turn: AtomicU64,
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// No worker could be had in time.
    NoWorker,
    /// The worker was not done in time.
    TooSlow,
    /// Something else: a panic in the worker, say, or one lost worker after the other.
    Failed(CallError),
}

impl Workers {
    fn new(over: Over) -> Workers {
        Workers {
            over,
            alive: Mutex::default(),
            arrival: Notify::new(),
            turns: AtomicU64::new(1),
            replaced: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
        }
    }

    /// Has a request answered. If the worker is lost, another one is asked: where the handler never started that is safe
    /// anyway, and where it may have, these requests allow it.
    pub async fn page(&self, method: &str, path: &str, body: &[u8]) -> Result<Page, Unanswered> {
        let deadline = Instant::now() + TIME_MAX;
        let mut lost = 0;
        loop {
            let visit = timeout_at(deadline.into(), self.least_busy()).await.map_err(|_| Unanswered::NoWorker)?;
            let error = match visit.worker.pages.page(method, path, body).deadline(deadline).await {
                Ok(page) => return Ok(page),
                Err(error) => error,
            };
            match error.reason() {
                Some(Reason::ConnectionLost(_) | Reason::ShuttingDown { .. }) if lost < LOST_MAX => {
                    lost += 1;
                    self.remove(&visit.worker);
                    self.repeated.fetch_add(1, Ordering::Relaxed);
                }
                Some(Reason::Overloaded { .. }) => sleep(BREATH).await,
                Some(Reason::DeadlineExceeded) => {
                    let begun = matches!(error, CallError::MaybeExecuted(_));
                    return Err(if begun { Unanswered::TooSlow } else { Unanswered::NoWorker });
                }
                _ => return Err(Unanswered::Failed(error)),
            }
        }
    }

    /// Who is alive.
    pub fn pids(&self) -> Vec<u32> {
        self.alive().iter().map(|worker| worker.pid).collect()
    }

    /// How many workers had to be replaced.
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }

    /// How many times a request went to one more worker.
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    async fn least_busy(&self) -> Visit {
        loop {
            // Before the look at the list: an arrival in between is not missed.
            let arrival = self.arrival.notified();
            if let Some(visit) = self.choose() {
                return visit;
            }
            arrival.await;
        }
    }

    fn choose(&self) -> Option<Visit> {
        let alive = self.alive();
        let load =
            |worker: &&Arc<Worker>| (worker.requests.load(Ordering::Relaxed), worker.turn.load(Ordering::Relaxed));
        let worker = Arc::clone(alive.iter().min_by_key(load)?);
        worker.requests.fetch_add(1, Ordering::Relaxed);
        worker.turn.store(self.turns.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(Visit { worker })
    }

    fn add(&self, process: &Process) -> Arc<Worker> {
        let (pid, pages) = (process.pid, process.connection.client());
        let worker = Arc::new(Worker { pid, pages, requests: AtomicUsize::new(0), turn: AtomicU64::new(0) });
        self.alive().push(Arc::clone(&worker));
        self.arrival.notify_waiters();
        worker
    }

    /// Takes a worker off the list, if it is still there.
    fn remove(&self, worker: &Arc<Worker>) {
        self.alive().retain(|other| !Arc::ptr_eq(other, worker));
    }

    /// Keeps one place filled, until it is told to stop.
    async fn keep(self: Arc<Self>, mut process: Process, mut worker: Arc<Worker>, stop: CancellationToken) {
        let mut pause = Duration::ZERO;
        loop {
            let began = Instant::now();
            let why = tokio::select! {
                why = process.connection.closed() => why,
                () = stop.cancelled() => {
                    self.remove(&worker);
                    return process.end().await;
                }
            };
            self.remove(&worker);
            let gone = process.pid;
            // What is left of it is killed, if anything, and waited for.
            drop(process);
            if began.elapsed() >= SETTLED {
                pause = Duration::ZERO;
            }
            process = tokio::select! {
                process = self.replacement(&mut pause) => process,
                () = stop.cancelled() => return,
            };
            worker = self.add(&process);
            self.replaced.fetch_add(1, Ordering::Relaxed);
            eprintln!("worker {gone} is gone ({why}), worker {} takes its place", process.pid);
        }
    }

    /// A worker, sooner or later: at once if the last one had lived for a while, and with longer and longer pauses if they
    /// end as soon as they are started.
    async fn replacement(&self, pause: &mut Duration) -> Process {
        loop {
            sleep(*pause).await;
            *pause = (*pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            match Process::start(&self.over).await {
                Ok(process) => return process,
                Err(error) => eprintln!("a worker could not be started: {error}"),
            }
        }
    }

    fn alive(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request at a worker; counted, until it is dropped.
struct Visit {
    worker: Arc<Worker>,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.worker.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a request may take, with all its attempts.
const TIME_MAX: Duration = Duration::from_secs(20);
/// How many workers may be lost over one request: it may be its fault.
const LOST_MAX: u32 = 5;
/// Before a worker that has too many requests is asked again.
const BREATH: Duration = Duration::from_millis(10);
/// A worker that has lived this long did not end because it was started.
const SETTLED: Duration = Duration::from_secs(1);
/// The pause before a worker is started that takes the place of one that ended at once.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);
