//! What is to be measured, and what was: the JSON between the measuring program and a subject.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What the calls do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// 32 bytes there and back.
    Echo,
    /// Bytes there, a checksum back.
    Upload,
    /// A stream of items from the server: what counts is items.
    Down,
    /// The same to the server.
    Up,
}

impl Workload {
    /// Whether it is one call, whose items count.
    pub fn is_stream(self) -> bool {
        matches!(self, Workload::Down | Workload::Up)
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// What the calls do.
    pub workload: Workload,
    /// Bytes of an upload.
    pub size: usize,
    /// How many callers call again as soon as they have their reply. Without meaning where there is a rate.
    pub in_flight: usize,
    /// How many connections the callers share.
    pub connections: usize,
    /// Calls a second, whether or not replies come.
    pub rate: Option<f64>,
    /// The same as a part of the peak, which the client finds out first: what the same loop reaches on this connection
    /// when every call is due at once. Instead of a rate.
    pub load: Option<f64>,
    /// Bytes of uploads that are made beside what is measured, one after another. 0 is none.
    pub beside: usize,
    /// Milliseconds before anything counts.
    pub warm_ms: u64,
    /// Milliseconds that count.
    pub span_ms: u64,
    /// The server's process, if it is not the client's child.
    pub server_pid: Option<u32>,
}

impl Spec {
    /// How long nothing counts.
    pub fn warm(&self) -> Duration {
        Duration::from_millis(self.warm_ms)
    }

    /// How long what happens counts.
    pub fn span(&self) -> Duration {
        Duration::from_millis(self.span_ms)
    }

    /// Whether calls are due at times of their own, and not when others have ended.
    pub fn is_open(&self) -> bool {
        self.rate.is_some() || self.load.is_some()
    }

    /// Bytes of the argument of one call, or of an item.
    pub fn call_len(&self) -> usize {
        match self.workload {
            Workload::Echo | Workload::Down | Workload::Up => 32,
            Workload::Upload => self.size,
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Calls whose reply was right, or items of a stream.
    pub calls: u64,
    /// How long that took.
    pub seconds: f64,
    /// Bytes of their arguments.
    pub bytes: u64,
    /// From when a call was made, or with a rate was due, to its reply. Nothing for a stream, but in a floor's batches.
    pub latency: Latency,
    /// Calls a second that are 100 % of a load.
    pub peak: Option<f64>,
    /// Allocations of the client's process since it began, if they are counted.
    pub allocations: u64,
    /// CPU time of the client's process.
    pub cpu_client_us: f64,
    /// CPU time of the server's process.
    pub cpu_server_us: f64,
    /// Context switches of the client's process, voluntary and not.
    pub switches_client: u64,
    /// Context switches of the server's process.
    pub switches_server: u64,
}

/// Percentiles and more, in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
}

impl Latency {
    pub(super) fn of(times: &Histogram<u64>) -> Latency {
        let at = |quantile| times.value_at_quantile(quantile) as f64;
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: times.max() as f64,
            mean: times.mean(),
        }
    }
}
