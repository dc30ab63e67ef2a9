//! Layers cost no allocation per call, on either side, nor does `local`.
//!
//! A program of its own, since it counts what all of its process allocates.

mod counting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trunkline::layer::{Answer, CallLayer, EndedCall, Layer, Next, OutgoingCall, Refusal, Request};
use trunkline::{Connection, Reason, Server, Service};

const CALLS: u64 = 10_000;
const ALLOWED: u64 = 8;

#[trunkline::service]
trait Counted {
    async fn echo(&self, n: u64) -> u64;
}

struct Echo;

impl Counted for Echo {
    async fn echo(&self, n: u64) -> u64 {
        n
    }
}

/// Counts what goes in and what comes out.
#[derive(Clone, Default)]
struct Gauge {
    begun: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
}

impl Layer for Gauge {
    async fn call<S: Service>(&self, _: &Request, next: Next<'_, S>) -> Result<Answer, Refusal> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let answered = next.run().await;
        self.ended.fetch_add(1, Ordering::Relaxed);
        answered
    }
}

impl CallLayer for Gauge {
    fn begin(&self, _: &mut OutgoingCall<'_>) -> Result<(), Reason> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn end(&self, _: &EndedCall<'_>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn calls_through_layers_allocate_nothing() {
    let gauge = Gauge::default();
    let server = Server::builder().layer(gauge.clone()).layer(gauge.clone()).service(CountedServer::new(Echo));
    let builder = Connection::builder().call_layer(gauge.clone()).call_layer(gauge.clone());
    let connection = builder.local(server).unwrap();
    let client: CountedClient = connection.client();
    let mut before = 0;
    for n in 0..2 * CALLS {
        if n == CALLS {
            before = counting::allocations();
        }
        assert_eq!(client.echo(n).await, Ok(n));
    }
    let allocations = counting::allocations() - before;
    assert!(allocations <= ALLOWED, "{allocations} allocations in {CALLS} calls, where {ALLOWED} are allowed");
    let counted = (gauge.begun.load(Ordering::Relaxed), gauge.ended.load(Ordering::Relaxed));
    assert_eq!(counted, (8 * CALLS, 8 * CALLS));
}
