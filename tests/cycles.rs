//! Circles of calls: they end, whatever connections they go over.

#![cfg(unix)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use trunkline::{CallError, Context, Limit, Limits, Reason, Server, ServiceClient};

#[trunkline::service]
trait Ring {
    /// Asks the next one, and so on; tells how the last one failed.
    async fn pass(&self, times: u32) -> Result<u32, String>;
    /// Asks who has handed itself over, and so on.
    async fn bounce(&self, back: RingClient, times: u32) -> Result<u32, String>;
    /// The same over the connection that it came by.
    async fn mirror(&self, times: u32, cx: &Context) -> Result<u32, String>;
}

#[derive(Default)]
struct Link {
    next: OnceLock<RingClient>,
    passed: Arc<AtomicU32>,
    /// Why calls were not made here.
    refused: Arc<Mutex<Vec<Reason>>>,
}

impl Link {
    fn note(&self, outcome: Result<u32, CallError<String>>) -> Result<u32, String> {
        if let Err(CallError::NotExecuted(reason)) = &outcome {
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(reason.clone());
        }
        outcome.map_err(|error| error.to_string())
    }
}

impl Ring for Link {
    async fn pass(&self, times: u32) -> Result<u32, String> {
        let passed = self.passed.fetch_add(1, Ordering::SeqCst) + 1;
        match self.next.get() {
            Some(next) if times > 0 => self.note(next.pass(times - 1).await),
            _ => Ok(passed),
        }
    }

    async fn bounce(&self, back: RingClient, times: u32) -> Result<u32, String> {
        let passed = self.passed.fetch_add(1, Ordering::SeqCst) + 1;
        if times == 0 {
            return Ok(passed);
        }
        let next = self.next.get().ok_or("nobody is next")?;
        self.note(back.bounce(next.clone(), times - 1).await)
    }

    async fn mirror(&self, times: u32, cx: &Context) -> Result<u32, String> {
        let passed = self.passed.fetch_add(1, Ordering::SeqCst) + 1;
        if times == 0 { Ok(passed) } else { self.note(cx.peer().client::<RingClient>().mirror(times - 1).await) }
    }
}

/// Three servers, each a client of the next, over sockets; and a client of the first.
async fn circle(limits: Limits) -> (RingClient, Arc<AtomicU32>, Arc<Mutex<Vec<Reason>>>) {
    // They need no names any more once they are connected.
    let directory = tempfile::tempdir().expect("a directory of our own");
    let endpoint = |at: usize| format!("unix:{}/{at}", directory.path().display());
    let passed = Arc::<AtomicU32>::default();
    let refused = Arc::<Mutex<Vec<Reason>>>::default();
    let mut links = Vec::new();
    for at in 0..3 {
        let link = Link { passed: Arc::clone(&passed), refused: Arc::clone(&refused), ..Link::default() };
        let link = Arc::new(link);
        let server = Server::builder().limits(limits.clone()).service(RingServer::new(Arc::clone(&link)));
        let server = server.bind(endpoint(at)).await.expect("a socket");
        tokio::spawn(server.run());
        links.push(link);
    }
    for (at, link) in links.iter().enumerate() {
        let next = RingClient::connect(endpoint((at + 1) % 3)).await.expect("it listens");
        assert!(link.next.set(next).is_ok());
    }
    (RingClient::connect(endpoint(0)).await.expect("it listens"), passed, refused)
}

/// No deadlock: long before any deadline.
async fn soon<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it ends")
}

fn only(refused: &Mutex<Vec<Reason>>) -> Reason {
    let refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(refused.len(), 1, "{refused:?}");
    refused[0].clone()
}

#[tokio::test]
async fn a_circle_over_three_connections_ends_by_its_hops() {
    let (first, passed, refused) = circle(Limits::default().hops(16)).await;
    // Sixteen handlers may be behind a call; the seventeenth may make none.
    assert_eq!(soon(first.pass(16)).await, Ok(17));
    passed.store(0, Ordering::SeqCst);
    let error = soon(first.pass(u32::MAX)).await.expect_err("it goes round for ever").to_string();
    assert!(error.contains("the limit `hops` is reached"), "{error}");
    assert_eq!(passed.load(Ordering::SeqCst), 17);
    assert_eq!(only(&refused), Reason::Overloaded { limit: Limit::Hops });
}

#[tokio::test]
async fn many_circles_at_once_end_as_well() {
    let (first, _, _) = circle(Limits::default().hops(8)).await;
    let mut calls = Vec::new();
    for _ in 0..40 {
        calls.push(first.pass(u32::MAX).send().await.expect("it is sent"));
    }
    for call in calls {
        let error = soon(call).await.expect_err("it goes round for ever").to_string();
        assert!(error.contains("is reached"), "{error}");
    }
    assert!(soon(first.pass(3)).await.is_ok());
}

#[tokio::test]
async fn a_circle_of_objects_ends_by_its_hops() {
    let link = Link::default();
    let (passed, refused) = (Arc::clone(&link.passed), Arc::clone(&link.refused));
    let link = Arc::new(link);
    let here = RingClient::local(RingServer::new(Arc::clone(&link)));
    assert!(link.next.set(here.clone()).is_ok());
    let error = soon(here.bounce(here.clone(), u32::MAX)).await.expect_err("it goes round for ever").to_string();
    assert!(error.contains("the limit `hops` is reached"), "{error}");
    assert_eq!(passed.load(Ordering::SeqCst), 17);
    assert_eq!(only(&refused), Reason::Overloaded { limit: Limit::Hops });
    // What it has got of itself it has let go of.
    soon(here.released()).await;
}

#[tokio::test]
async fn a_circle_over_one_connection_ends_at_its_limit_or_by_its_hops() {
    for (in_flight, limit) in [(4, Limit::InFlightPerConnection), (128, Limit::Hops)] {
        let limits = Limits::default().in_flight_per_connection(in_flight);
        let link = Link::default();
        let refused = Arc::clone(&link.refused);
        let link = Arc::new(link);
        let name = format!("mem:cycles-{in_flight}");
        let server = Server::builder().limits(limits.clone()).service(RingServer::new(Arc::clone(&link)));
        tokio::spawn(server.bind(&name).await.expect("the name is free").run());
        let builder = trunkline::Connection::builder().limits(limits).service(RingServer::new(link));
        let connection = builder.connect(&name).await.expect("it listens");
        let ring: RingClient = connection.client();
        soon(ring.mirror(u32::MAX)).await.expect_err("it goes back and forth for ever");
        assert_eq!(only(&refused), Reason::Overloaded { limit });
    }
}
