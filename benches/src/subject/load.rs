//! Calls in a closed loop: as many callers as shall be in flight, each calls again when it has its reply.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::{self, JoinHandle};

use super::meter::Meter;
use super::open;
use super::recorder::Tally;
use super::stream;
use super::{Client, Error, LocalClient, Outcome, Spec, Workload};
use crate::{Item, checksum, payload};

/// Measures a client whose futures may be anywhere.
pub(super) async fn run<C: Client>(mut spec: Spec, clients: Vec<C>) -> Result<Outcome, Error> {
    spec.server_pid = spec.server_pid.or(clients.first().and_then(Client::server_pid));
    let clients = shared(clients)?;
    if spec.workload.is_stream() {
        return stream::run(spec, &clients[0]).await;
    }
    let upload = Upload::new(spec.size);
    let call = |lane: usize| {
        let client = &clients[lane % clients.len()];
        move |number| async move {
            match spec.workload {
                Workload::Echo => echoed(number, client.echo(Item::new(number)).await?),
                Workload::Upload => upload.summed(client.upload(&upload.bytes).await?),
                Workload::Down | Workload::Up => Err("a stream is not one of many calls".into()),
            }
        }
    };
    let beside = (spec.beside > 0).then(|| tokio::spawn(uploads(spec.beside, |bytes| clients[0].upload(bytes))));
    let measured = async {
        if spec.is_open() {
            open::run(spec, |number, due| tokio::spawn(open::one(call(number as usize)(number), due))).await
        } else {
            closed(spec, |lane, phase| tokio::spawn(caller(call(lane), spec, lane, phase))).await
        }
    };
    while_uploading(beside, measured).await
}

/// Measures a client whose futures stay on this thread.
pub(super) async fn run_local<C: LocalClient>(mut spec: Spec, clients: Vec<C>) -> Result<Outcome, Error> {
    spec.server_pid = spec.server_pid.or(clients.first().and_then(LocalClient::server_pid));
    let clients = shared(clients)?;
    let upload = Upload::new(spec.size);
    let call = |lane: usize| {
        let client = &clients[lane % clients.len()];
        move |number| async move {
            match spec.workload {
                Workload::Echo => echoed(number, client.echo(Item::new(number)).await?),
                Workload::Upload => upload.summed(client.upload(&upload.bytes).await?),
                Workload::Down | Workload::Up => Err("a stream is not one of many calls".into()),
            }
        }
    };
    let beside = (spec.beside > 0).then(|| task::spawn_local(uploads(spec.beside, |bytes| clients[0].upload(bytes))));
    let measured = async {
        if spec.is_open() {
            open::run(spec, |number, due| task::spawn_local(open::one(call(number as usize)(number), due))).await
        } else {
            closed(spec, |lane, phase| task::spawn_local(caller(call(lane), spec, lane, phase))).await
        }
    };
    while_uploading(beside, measured).await
}

/// Uploads, one after another, until it fails.
async fn uploads<F: Future<Output = Result<u64, Error>>>(
    size: usize,
    upload: impl Fn(&'static Bytes) -> F,
) -> Result<Infallible, Error> {
    let bytes = Upload::new(size);
    loop {
        bytes.summed(upload(&bytes.bytes).await?)?;
    }
}

/// What is measured, if the uploads beside it do not fail.
async fn while_uploading(
    uploads: Option<JoinHandle<Result<Infallible, Error>>>,
    measured: impl Future<Output = Result<Outcome, Error>>,
) -> Result<Outcome, Error> {
    let Some(mut uploads) = uploads else { return measured.await };
    tokio::select! {
        outcome = measured => {
            uploads.abort();
            outcome
        }
        Ok(Err(error)) = &mut uploads => Err(format!("an upload beside the calls: {error}").into()),
    }
}

/// Clients that a call needs no clone of. They live as long as the process, which measures once.
fn shared<C>(clients: Vec<C>) -> Result<&'static [C], Error> {
    if clients.is_empty() { Err("there must be a connection".into()) } else { Ok(Vec::leak(clients)) }
}

/// What an upload carries, and what its reply must be.
struct Upload {
    bytes: Bytes,
    sum: u64,
}

impl Upload {
    fn new(size: usize) -> &'static Upload {
        let bytes = payload(size);
        let sum = checksum(&bytes);
        Box::leak(Box::new(Upload { bytes, sum }))
    }

    fn summed(&self, sum: u64) -> Result<(), Error> {
        if sum == self.sum { Ok(()) } else { Err("the server has seen other bytes".into()) }
    }
}

fn echoed(number: u64, item: Item) -> Result<(), Error> {
    if item == Item::new(number) { Ok(()) } else { Err(format!("a wrong reply to call {number}").into()) }
}

/// What the callers do now: one of the three below. It publishes nothing else, so `Relaxed` is enough.
type Phase = Arc<AtomicU8>;
const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const ENDING: u8 = 2;

async fn closed(
    spec: Spec,
    spawn: impl Fn(usize, Phase) -> JoinHandle<Result<Tally, Error>>,
) -> Result<Outcome, Error> {
    let phase = Phase::default();
    let callers: Vec<_> = (0..spec.in_flight).map(|lane| spawn(lane, phase.clone())).collect();
    let meter = Meter::new(spec.server_pid);
    tokio::time::sleep(spec.warm()).await;
    let first = meter.read();
    phase.store(COUNTING, Ordering::Relaxed);
    tokio::time::sleep(spec.span()).await;
    phase.store(ENDING, Ordering::Relaxed);
    let last = meter.read();

    let mut tally = Tally::new();
    for caller in callers {
        let ended = tokio::time::timeout(PATIENCE, caller).await;
        tally.add(&ended.map_err(|_| "a reply does not come")???);
    }
    let mut outcome = tally.outcome(&spec);
    first.until(&last, &mut outcome);
    Ok(outcome)
}

/// Calls again and again, and looks at the clock between two calls; where callers share a connection with many others, around
/// one call in some. A batch of a floor's takes one look, too: what measures is not to be a sixth of what is measured.
async fn caller<F: Future<Output = Result<(), Error>>>(
    call: impl Fn(u64) -> F,
    spec: Spec,
    lane: usize,
    phase: Phase,
) -> Result<Tally, Error> {
    let mut tally = Tally::new();
    let every = if spec.in_flight < MANY { 1 } else { TIMED_EVERY };
    let mut since = Instant::now();
    // No two callers use the same number.
    for (turn, number) in (0u64..).zip((lane as u64..).step_by(spec.in_flight)) {
        let timed = turn % every == 0;
        if timed && every > 1 {
            since = Instant::now();
        }
        call(number).await?;
        let now = timed.then(Instant::now);
        match phase.load(Ordering::Relaxed) {
            WARMING => {}
            COUNTING => match now {
                Some(now) => tally.record(1, now.duration_since(since)),
                None => tally.calls += 1,
            },
            _ => break,
        }
        since = now.unwrap_or(since);
    }
    Ok(tally)
}

/// From so many calls in flight on, one in so many is timed.
const MANY: usize = 8;
const TIMED_EVERY: u64 = 16;

/// How long the last replies may take.
const PATIENCE: Duration = Duration::from_secs(10);
