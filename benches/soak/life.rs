//! One connection, from its beginning to one of its ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::task::JoinSet;
use trunkline::{Connection, Latency};

use crate::calls;
use crate::random::Random;
use crate::service::{AtHome, HomeServer, SoakClient};
use crate::site::{Site, limits};
use crate::watch::Watch;

/// What callers have to know: whom to tell, and what may happen to their calls.
#[derive(Clone)]
pub(crate) struct Course {
    pub(crate) watch: Arc<Watch>,
    /// The connection may end at any moment.
    cut: Arc<AtomicBool>,
    /// All of them are.
    all_cut: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
}

impl Course {
    pub(crate) fn new(watch: &Arc<Watch>) -> Course {
        let flag = Arc::<AtomicBool>::default;
        Course { watch: Arc::clone(watch), cut: flag(), all_cut: flag(), done: flag() }
    }

    /// Of one connection.
    fn one(&self) -> Course {
        Course { cut: Arc::default(), done: Arc::default(), ..self.clone() }
    }

    pub(crate) fn cut(&self) {
        self.all_cut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) || self.all_cut.load(Ordering::SeqCst)
    }

    /// Whether callers shall stop.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst) || self.is_cut()
    }
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All calls first.
    Well,
    /// This side closes it.
    Closed,
    /// Its last owner goes.
    Dropped,
    /// So does the runtime that drives it.
    Killed,
}

/// Lives once.
pub(crate) async fn live(site: &Arc<Site>, random: &mut Random, until: Instant, course: &Course, kill: bool) {
    let end = match random.below(8) {
        0..=3 => End::Well,
        4 | 5 => End::Closed,
        6 if kill => End::Killed,
        _ => End::Dropped,
    };
    let time = Duration::from_millis(random.below(300)).min(until.saturating_duration_since(Instant::now()));
    let course = course.one();
    let life = go(Arc::clone(site), random.split(), time, course.clone(), end);
    if end != End::Killed {
        return life.await;
    }
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let task = runtime.spawn(life);
    tokio::time::sleep(time).await;
    course.cut.store(true, Ordering::SeqCst);
    task.abort();
    // Waits for threads, and so not here.
    runtime.shutdown_background();
}

async fn go(site: Arc<Site>, mut random: Random, time: Duration, course: Course, end: End) {
    let watch = &course.watch;
    let latency = [Latency::default(), Latency::PowerSave][random.below(2) as usize];
    let builder = Connection::builder().latency(latency).limits(limits(&mut random)).service(HomeServer::new(AtHome));
    let op = watch.begin(|| "connecting".to_owned());
    let connection = match site.connect(builder).await {
        Ok(connection) => connection,
        Err(_) if course.is_cut() => return,
        Err(error) => watch.wrong(format!("there is no connection: {error}")),
    };
    drop(op);
    let mut callers = JoinSet::new();
    for _ in 0..=random.below(12) {
        callers.spawn(calls::call(connection.client::<SoakClient>(), random.split(), course.clone()));
    }
    if end == End::Killed {
        return std::future::pending().await;
    }
    tokio::time::sleep(time).await;
    match end {
        End::Well => course.done.store(true, Ordering::SeqCst),
        End::Closed => {
            course.cut.store(true, Ordering::SeqCst);
            connection.close();
        }
        End::Dropped | End::Killed => {
            course.cut.store(true, Ordering::SeqCst);
            drop(connection);
            callers.join_all().await;
            return;
        }
    }
    callers.join_all().await;
    let rests = Instant::now() + RESTING;
    while !connection.stats().is_at_rest() {
        if Instant::now() > rests {
            watch.wrong(format!("{end:?}, and it does not rest: {:?}", connection.stats()));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How long accounts may take to be zero.
const RESTING: Duration = Duration::from_secs(15);
