//! Spans whose ids are another system's.
#![cfg(all(feature = "tracing", feature = "mem"))]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Span, Subscriber};
use trunkline::telemetry::{Bridge, set_bridge};
use trunkline::{Connection, Context, TraceContext};

/// Enables every span, and numbers them.
struct Numbers(AtomicU64);

impl Subscriber for Numbers {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "trunkline"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Has one trace, and takes the subscriber's numbers for ids.
struct Other {
    /// Handlers' spans, and those of their callers.
    accepted: Mutex<Vec<(u64, TraceContext)>>,
}

const TRACE: u128 = 0xabc;

fn number(span: &Span) -> u64 {
    span.id().expect("it is enabled").into_u64()
}

impl Bridge for Other {
    fn accepted(&self, span: &Span, caller: TraceContext) {
        self.accepted.lock().expect("nothing panics").push((number(span), caller));
    }

    fn ids(&self, span: &Span) -> Option<TraceContext> {
        TraceContext::new(TRACE, number(span), 0)
    }
}

#[trunkline::service]
trait Relay {
    /// The trace of its call, and of one that it makes of its caller's `end`.
    async fn relay(&self, cx: &Context) -> (String, String);
    async fn end(&self, cx: &Context) -> String;
}

struct Station;

impl Relay for Station {
    async fn relay(&self, cx: &Context) -> (String, String) {
        let further = cx.peer().client::<RelayClient>().end().await;
        (self.end(cx).await, further.expect("it is served"))
    }

    async fn end(&self, cx: &Context) -> String {
        cx.trace().expect("a trace").to_string()
    }
}

#[tokio::test]
async fn the_other_systems_ids_travel_and_it_hears_of_callers() {
    static OTHER: Other = Other { accepted: Mutex::new(Vec::new()) };
    tracing::subscriber::set_global_default(Numbers(AtomicU64::new(1))).expect("the first");
    assert!(set_bridge(&OTHER));
    assert!(!set_bridge(&OTHER));
    let server = trunkline::Server::builder().service(RelayServer::new(Station)).bind("mem:bridge").await.unwrap();
    tokio::spawn(server.run());
    let builder = Connection::builder().service(RelayServer::new(Station));
    let connection = builder.connect("mem:bridge").await.unwrap();
    let (first, second) = connection.client::<RelayClient>().relay().await.unwrap();
    // Spans begin in this order: the call, its handler, the handler's call, and the handler of that.
    let of = |span| TraceContext::new(TRACE, span, 0).unwrap();
    assert_eq!((first, second), (of(1).to_string(), of(3).to_string()));
    assert_eq!(*OTHER.accepted.lock().unwrap(), [(2, of(1)), (4, of(3))]);
}
