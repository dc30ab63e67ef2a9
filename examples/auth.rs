//! Who may call what, said once for all services, and checked before a request's arguments are decoded.
//!
//! `cargo run --example auth`. Both sides are in this process; over an endpoint nothing would be different.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use trunkline::layer::{Answer, CallLayer, Layer, Next, OutgoingCall, Refusal, Request};
use trunkline::{CallError, Connection, MetadataKey, Reason, Server, Service};

#[trunkline::service]
trait Ledger {
    #[rpc(idempotent)]
    async fn balance(&self) -> i64;
    async fn add(&self, amount: i64);
}

#[derive(Clone, Default)]
struct Book(Arc<Mutex<i64>>);

impl Ledger for Book {
    async fn balance(&self) -> i64 {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn add(&self, amount: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += amount;
    }
}

/// Never shown in a log.
const TOKEN: MetadataKey = MetadataKey::secret("token");

/// Readers may call what changes nothing, writers everything, others nothing.
struct Permissions;

impl Layer for Permissions {
    async fn call<S: Service>(&self, request: &Request, next: Next<'_, S>) -> Result<Answer, Refusal> {
        match request.context().metadata().get(TOKEN) {
            Some("writer's") => next.run().await,
            Some("reader's") if request.method().options.idempotent => next.run().await,
            _ => Err(Refusal::new(Reason::PermissionDenied)),
        }
    }
}

/// How often each method was called, and how long all of that took.
#[derive(Clone, Default)]
struct Meter(Arc<Mutex<HashMap<&'static str, (u32, Duration)>>>);

impl Layer for Meter {
    async fn call<S: Service>(&self, request: &Request, next: Next<'_, S>) -> Result<Answer, Refusal> {
        let began = Instant::now();
        let answered = next.run().await;
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (n, time) = calls.entry(request.method().name).or_default();
        (*n, *time) = (*n + 1, *time + began.elapsed());
        answered
    }
}

/// The other side's: every call brings the token along.
struct Token(&'static str);

impl CallLayer for Token {
    fn begin(&self, call: &mut OutgoingCall<'_>) -> Result<(), Reason> {
        Ok(call.set_metadata(TOKEN, self.0)?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (book, meter) = (Book::default(), Meter::default());
    // The meter is around the permissions: it counts what they refuse as well.
    let connect = |token| {
        let server = Server::builder().layer(meter.clone()).layer(Permissions);
        Connection::builder().call_layer(Token(token)).local(server.service(LedgerServer::new(book.clone())))
    };
    let (reader, writer, stranger) = (connect("reader's")?, connect("writer's")?, connect("guessed")?);
    let [read, write, guess] = [&reader, &writer, &stranger].map(|connection| connection.client::<LedgerClient>());

    write.add(3).await?;
    write.add(4).await?;
    assert_eq!(read.balance().await?, 7);
    assert_eq!(read.add(1).await, Err(CallError::NotExecuted(Reason::PermissionDenied)));
    assert_eq!(guess.balance().await, Err(CallError::NotExecuted(Reason::PermissionDenied)));
    assert_eq!(write.balance().await?, 7);

    let calls = meter.0.lock().unwrap_or_else(PoisonError::into_inner);
    for (method, (n, time)) in calls.iter() {
        println!("{method}: {n} calls, {time:?}");
    }
    assert_eq!((calls["add"].0, calls["balance"].0), (3, 3));
    println!("readers read, writers write, strangers do neither");
    Ok(())
}
