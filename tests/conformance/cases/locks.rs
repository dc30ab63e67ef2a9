//! Nobody's code runs under a connection's lock: whatever a user brings along may itself use the connection.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use trunkline::{Connection, Service};

use crate::cases::cancel::poll_once;
use crate::fixture::Fixture;
use crate::harness::{GUARD, soon, until};
use crate::ledger::{Mark, token};
use crate::service::SuiteClient;

/// What everybody here does with the connection: looks at it, makes a call, polls it once, and drops it.
fn meddle(suite: &SuiteClient, connection: &Connection) {
    let _ = connection.stats();
    let mut call = pin!(suite.echo(b"from within").into_future());
    let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

/// Where values that know nothing of a connection find one.
static CONNECTIONS: Mutex<Vec<(u64, SuiteClient, Connection)>> = Mutex::new(Vec::new());

fn meddle_as(owner: u64) {
    let found = {
        let connections = CONNECTIONS.lock().expect("nobody panics with it");
        let found = connections.iter().find(|(known, _, _)| *known == owner);
        found.map(|(_, suite, connection)| (suite.clone(), connection.clone()))
    };
    if let Some((suite, connection)) = found {
        meddle(&suite, &connection);
    }
}

/// Makes a call whenever it is encoded or dropped, on the side that has the connection.
#[derive(Debug)]
pub(crate) struct Meddler {
    owner: u64,
}

impl Serialize for Meddler {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        meddle_as(self.owner);
        serializer.serialize_u64(self.owner)
    }
}

impl<'de> Deserialize<'de> for Meddler {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Meddler, D::Error> {
        u64::deserialize(deserializer).map(|owner| Meddler { owner })
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        meddle_as(self.owner);
    }
}

/// Borrowed by the clients' side, so that the drop is a reply's.
#[trunkline::service]
pub(crate) trait Meddling {
    async fn take(&self, meddler: Meddler) -> Meddler;
    async fn lend(&self, meddler: &Meddler) -> u64;
}

struct Meddled;

impl Meddling for Meddled {
    async fn take(&self, meddler: Meddler) -> Meddler {
        meddler
    }

    async fn lend(&self, meddler: &Meddler) -> u64 {
        meddler.owner
    }
}

/// The service that other processes do not have: it is served back to this one.
pub(crate) fn service() -> impl Service {
    MeddlingServer::new(Meddled)
}

/// A connection that meddlers of this number find.
fn lend_connection(connection: &Connection) -> u64 {
    let owner = token();
    let suite = connection.client();
    CONNECTIONS.lock().expect("nobody panics with it").push((owner, suite, connection.clone()));
    owner
}

fn forget_connection(owner: u64) {
    let mut connections = CONNECTIONS.lock().expect("nobody panics with it");
    let at = connections.iter().position(|(known, _, _)| *known == owner).expect("it was lent");
    let entry = connections.swap_remove(at);
    drop(connections);
    drop(entry);
}

pub(crate) async fn a_serialize_that_calls(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let owner = lend_connection(&connection);
    let meddling: MeddlingClient = connection.client();
    let meddler = Meddler { owner };
    for _ in 0..50 {
        assert_eq!(soon("a call", meddling.lend(&meddler)).await, Ok(owner));
        let returned = soon("a call", meddling.take(Meddler { owner })).await.expect("a meddler");
        assert_eq!(returned.owner, owner);
    }
    drop(meddler);
    assert_eq!(soon("a call", suite.echo(b"and on")).await, Ok(b"and on".to_vec()));
    forget_connection(owner);
    served.rests_with(&connection).await;
}

/// A waker that makes calls when it is woken, and when it is dropped.
struct Restless {
    suite: SuiteClient,
    connection: Connection,
    woken: AtomicUsize,
    then: Waker,
}

impl Wake for Restless {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A count, read when everything is over.
        self.woken.fetch_add(1, Ordering::Relaxed);
        meddle(&self.suite, &self.connection);
        self.then.wake_by_ref();
    }
}

impl Drop for Restless {
    fn drop(&mut self) {
        meddle(&self.suite, &self.connection);
    }
}

/// Polls `future` with a new restless waker each time, so that the ones before are dropped, too.
async fn restlessly<F: Future>(suite: &SuiteClient, connection: &Connection, future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        for _ in 0..2 {
            let restless = Arc::new(Restless {
                suite: suite.clone(),
                connection: connection.clone(),
                woken: AtomicUsize::new(0),
                then: cx.waker().clone(),
            });
            let waker = Waker::from(restless);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

pub(crate) async fn a_waker_that_calls(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite_with(&[("linger", 100)]).await;
    for at in 0..30 {
        let delay = restlessly(&suite, &connection, suite.delay(token(), at % 2, at).into_future());
        assert_eq!(soon("a call", delay).await, Ok(at));
    }
    // At the deadline, when it is abandoned, and when the connection ends.
    let overdue = suite.never(token()).timeout(Duration::from_millis(50)).into_future();
    soon("its end", restlessly(&suite, &connection, overdue)).await.expect_err("it is overdue");
    {
        let call = token();
        let mut abandoned = pin!(restlessly(&suite, &connection, suite.never(call).into_future()));
        assert!(poll_once(abandoned.as_mut()).await.is_pending());
        served.ledger.seen(Mark::Started, call).await;
    }
    let stuck = suite.never(token()).timeout(GUARD).into_future();
    let close = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        served.begin_shutdown().await;
    };
    let draining = restlessly(&suite, &connection, async {
        until("the peer drains", async || connection.is_peer_draining()).await;
        connection.close();
        connection.closed().await
    });
    let (outcome, (), end) = tokio::join!(soon("its end", restlessly(&suite, &connection, stuck)), close, draining);
    outcome.expect_err("the connection is closed");
    let _ = end;
}

pub(crate) async fn drops_that_call(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let owner = lend_connection(&connection);
    let meddling: MeddlingClient = connection.client();
    // Dropped before they are polled, on their way, after their outcome; with an argument whose drop calls.
    for round in 0..60 {
        let mut call = pin!(meddling.take(Meddler { owner }).into_future());
        let over = round % 3 > 0 && poll_once(call.as_mut()).await.is_ready();
        if round % 3 > 1 && !over {
            drop(soon("its outcome", call).await);
        }
    }
    // A future whose drop calls, because what it holds does.
    let task = tokio::spawn({
        let (suite, meddler) = (suite.clone(), Meddler { owner });
        async move {
            let _meddler = meddler;
            let _ = suite.never(token()).await;
        }
    });
    tokio::task::yield_now().await;
    task.abort();
    let _ = soon("the abort", task).await;
    assert_eq!(soon("a call", suite.echo(b"and on")).await, Ok(b"and on".to_vec()));
    forget_connection(owner);
    served.rests_with(&connection).await;
}
