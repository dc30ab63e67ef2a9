//! The calls, each answer checked.

use std::error::Error;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::service::{Message, Receipt, TourClient};

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Extent {
    /// How long each of the three measurements takes at most.
    pub time: Duration,
    /// How many calls each makes at most.
    pub calls: u64,
}

/// What was measured.
pub struct Measured {
    pub calls: u64,
    pub wrong: u64,
    pub p50: Duration,
    pub p99: Duration,
    pub calls_per_second: f64,
    pub upload_bytes_per_second: f64,
}

/// Calls in flight in the second measurement.
const IN_FLIGHT: u64 = 64;
/// Bytes of an upload.
const UPLOAD_LEN: usize = 1 << 20;
/// Numbers of messages that no two callers share.
const NUMBERS: u64 = 1 << 40;

/// Makes all the calls of the tour.
///
/// # Errors
///
/// If a call fails. A wrong answer is none: it is counted.
pub async fn measure(tour: &TourClient, extent: Extent) -> Result<Measured, Box<dyn Error>> {
    let (mut calls, mut wrong) = (0, 0);
    let mut count = |right: bool| {
        calls += 1;
        wrong += u64::from(!right);
    };

    let mut trips = Vec::new();
    let mut pace = Pace::begin(extent);
    while pace.goes_on() {
        let message = Message::number(pace.calls);
        let sent = Instant::now();
        let answer = tour.echo(message).await?;
        trips.push(sent.elapsed());
        count(answer == message);
    }
    trips.sort_unstable();

    let mut pace = Pace::begin(extent);
    let mut callers = JoinSet::new();
    for caller in 1..=IN_FLIGHT {
        let tour = tour.clone();
        let share = Extent { calls: extent.calls.div_ceil(IN_FLIGHT), ..extent };
        callers.spawn(async move { call_one_after_another(&tour, caller * NUMBERS, Pace::begin(share)).await });
    }
    while let Some(answers) = callers.join_next().await {
        let (right, all) = answers??;
        pace.calls += all;
        (0..all).for_each(|n| count(n < right));
    }
    let calls_per_second = pace.per_second();

    let bytes: Vec<u8> = (0..UPLOAD_LEN / 8).flat_map(|n| (n as u64).wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let receipt = Receipt::of(&bytes);
    let mut pace = Pace::begin(extent);
    while pace.goes_on() {
        count(tour.upload(&bytes).await? == receipt);
    }
    let upload_bytes_per_second = pace.per_second() * UPLOAD_LEN as f64;

    let (p50, p99) = (percentile(&trips, 50), percentile(&trips, 99));
    Ok(Measured { calls, wrong, p50, p99, calls_per_second, upload_bytes_per_second })
}

/// How many answers were right, of how many.
async fn call_one_after_another(
    tour: &TourClient,
    first: u64,
    mut pace: Pace,
) -> Result<(u64, u64), trunkline::CallError> {
    let mut right = 0;
    while pace.goes_on() {
        let message = Message::number(first + pace.calls);
        right += u64::from(tour.echo(message).await? == message);
    }
    Ok((right, pace.calls))
}

/// Says when it is enough.
struct Pace {
    extent: Extent,
    began: Instant,
    calls: u64,
}

impl Pace {
    fn begin(extent: Extent) -> Pace {
        Pace { extent, began: Instant::now(), calls: 0 }
    }

    /// Whether there is time for one more call, which it counts.
    fn goes_on(&mut self) -> bool {
        let more = self.calls < self.extent.calls && self.began.elapsed() < self.extent.time;
        self.calls += u64::from(more);
        more
    }

    fn per_second(&self) -> f64 {
        self.calls as f64 / self.began.elapsed().as_secs_f64()
    }
}

/// Of sorted values; the nearest rank.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
