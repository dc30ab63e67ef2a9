//! No allocation per call in the steady state, on either side, each side in a process of its own.
//!
//! 10,000 echoes of 32 bytes after as many to warm up, one at a time and 64 at a time: at most 8 allocations in all. 500,000
//! items of a stream each way after as many: at most one for a thousand. By a task; what is in no task reads its replies itself,
//! and allocates now and then.

mod counting;

use std::io::{BufRead, BufReader};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline::{Stream, Streaming};

const CALLS: u64 = 10_000;
const IN_FLIGHT: u64 = 64;
const ITEMS: u64 = 500_000;
/// A batch that had to wait may take one, for the waker of whoever makes them. It has 910 of these items, and at least half as
/// many in a build whose items take a tenth of a microsecond each to make.
const ITEMS_ALLOWED: u64 = ITEMS / 450;
const ALLOWED: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    id: u64,
    rest: [u8; 24],
}

impl Item {
    fn new(id: u64) -> Item {
        Item { id, rest: [0xa5; 24] }
    }
}

#[trunkline::service]
trait Counted {
    async fn echo(&self, item: Item) -> Item;
    /// Yields once, so that it runs in a task of its own.
    async fn echo_later(&self, item: Item) -> Item;
    /// The items from 0 on, without an end.
    async fn items(&self) -> impl Stream<Item = Item>;
    /// Takes items for as long as they come.
    async fn take(&self, items: Streaming<Item>);
    /// How many it has taken.
    async fn taken(&self) -> u64;
    /// How many allocations this process has made.
    async fn allocations(&self) -> u64;
}

#[derive(Default)]
struct Server {
    taken: AtomicU64,
}

/// The items from here on.
struct Items(u64);

impl Stream for Items {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0 += 1;
        Poll::Ready(Some(Item::new(self.0 - 1)))
    }
}

impl Counted for Server {
    async fn echo(&self, item: Item) -> Item {
        item
    }

    async fn echo_later(&self, item: Item) -> Item {
        tokio::task::yield_now().await;
        item
    }

    async fn items(&self) -> impl Stream<Item = Item> {
        Items(0)
    }

    async fn take(&self, mut items: Streaming<Item>) {
        let mut next = 0;
        while let Some(Ok(item)) = items.next().await {
            assert_eq!(item, Item::new(next));
            next += 1;
            self.taken.store(next, Ordering::Relaxed);
        }
    }

    async fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    async fn allocations(&self) -> u64 {
        counting::allocations()
    }
}

/// What a second process runs: not a test, unless it is told where to serve.
#[test]
fn server_process() {
    let Ok(uri) = std::env::var("TRUNKLINE_ALLOCATIONS_SERVE") else {
        return;
    };
    run(async {
        let server = trunkline::Server::builder()
            .service(CountedServer::new(Server::default()))
            .bind(uri)
            .await
            .expect("the endpoint is free");
        println!("serving {}", server.endpoints()[0]);
        server.run().await;
    });
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

struct ServerProcess(Child);

impl ServerProcess {
    fn start(uri: &str) -> (ServerProcess, String) {
        let mut child = Command::new(std::env::current_exe().expect("this test has a path"))
            .args(["--exact", "server_process", "--nocapture"])
            .env("TRUNKLINE_ALLOCATIONS_SERVE", uri)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test can be run");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let endpoint = out
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("serving ").map(|(_, endpoint)| endpoint.to_owned()));
        (ServerProcess(child), endpoint.expect("the server says where it serves"))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn one_at_a_time(client: &CountedClient) {
    for id in 0..CALLS {
        assert_eq!(client.echo(Item::new(id)).await.expect("the server answers"), Item::new(id));
    }
}

/// What both sides allocate while `CALLS` calls pass, 64 at a time.
async fn many_at_a_time(client: &CountedClient) -> (u64, u64) {
    let done = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|id| {
            let (client, done, stop) = (client.clone(), Arc::clone(&done), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.echo(Item::new(id)).await.expect("the server answers"), Item::new(id));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let until = async |calls: u64| {
        while done.load(Ordering::Relaxed) < calls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    until(CALLS).await;
    let before = both(client).await;
    let from = done.load(Ordering::Relaxed);
    until(from + CALLS).await;
    let after = both(client).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no call failed");
    }
    (after.0 - before.0, after.1 - before.1)
}

/// What both sides allocate while `ITEMS` items come from the server, after as many.
async fn items_from(client: &CountedClient) -> (u64, u64) {
    let mut items = client.items().await.expect("a stream");
    let mut next = 0;
    let mut counts = [(0, 0); 2];
    for count in &mut counts {
        let end = next + ITEMS;
        while next < end {
            assert_eq!(items.next().await, Some(Ok(Item::new(next))));
            next += 1;
        }
        *count = both(client).await;
    }
    (counts[1].0 - counts[0].0, counts[1].1 - counts[0].1)
}

/// The same of items that go to the server.
async fn items_to(client: &CountedClient) -> (u64, u64) {
    let other = client.clone();
    let call = tokio::spawn(async move { other.take(Items(0)).await });
    let mut counts = [(0, 0); 2];
    let mut end = 0;
    for count in &mut counts {
        end += ITEMS;
        while client.taken().await.expect("the server answers") < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        *count = both(client).await;
    }
    call.abort();
    (counts[1].0 - counts[0].0, counts[1].1 - counts[0].1)
}

/// The allocations of this process and of the server's.
async fn both(client: &CountedClient) -> (u64, u64) {
    let theirs = client.allocations().await.expect("the server answers");
    (counting::allocations(), theirs)
}

fn check(uri: &str) {
    let (_server, endpoint) = ServerProcess::start(uri);
    run(in_task(endpoint.clone()));
    run(async {
        let client = CountedClient::connect(&endpoint).await.expect("the server is there");
        one_at_a_time(&client).await;
        let before = counting::allocations();
        one_at_a_time(&client).await;
        let count = counting::allocations() - before;
        println!("{endpoint}: {count} by a client that is in no task");
        assert!(
            count <= HANDOVERS_ALLOWED,
            "{count} allocations in {CALLS} calls, where {HANDOVERS_ALLOWED} are allowed"
        );
    });
}

/// Who reads its replies itself takes the socket out of the runtime's poll, and one allocation has it back there when a
/// reply takes long.
const HANDOVERS_ALLOWED: u64 = CALLS / 20;

async fn in_task(endpoint: String) {
    let calls = async move {
        let client = CountedClient::connect(&endpoint).await.expect("the server is there");
        one_at_a_time(&client).await;
        let before = both(&client).await;
        one_at_a_time(&client).await;
        let after = both(&client).await;
        let sequential = (after.0 - before.0, after.1 - before.1);
        let concurrent = many_at_a_time(&client).await;
        println!("{endpoint}: (client, server) {sequential:?} one at a time, {concurrent:?} {IN_FLIGHT} at a time");
        for count in [sequential.0, sequential.1, concurrent.0, concurrent.1] {
            assert!(count <= ALLOWED, "{count} allocations in {CALLS} calls, where {ALLOWED} are allowed");
        }
        let (down, up) = (items_from(&client).await, items_to(&client).await);
        println!("{endpoint}: (client, server) {down:?} items from the server, {up:?} to it");
        for count in [down.0, down.1, up.0, up.1] {
            assert!(count <= ITEMS_ALLOWED, "{count} allocations for {ITEMS} items, where {ITEMS_ALLOWED} are allowed");
        }
        let before = both(&client).await;
        for id in 0..CALLS {
            assert_eq!(client.echo_later(Item::new(id)).await.expect("the server answers"), Item::new(id));
        }
        let after = both(&client).await;
        println!("{endpoint}: (client, server) {:?} spawned", (after.0 - before.0, after.1 - before.1));
        assert!(after.0 - before.0 <= ALLOWED, "the client does not care where the handler runs");
        // A place, its future, its control, its task.
        assert!(after.1 - before.1 <= CALLS * SPAWNED_ALLOWED + ALLOWED, "{} in {CALLS} calls", after.1 - before.1);
    };
    tokio::spawn(calls).await.expect("every count is as it should be");
}

/// What a handler that has to wait may cost the server.
const SPAWNED_ALLOWED: u64 = 4;

/// One test: what two of them allocate at a time could not be told apart.
#[test]
fn calls_allocate_nothing() {
    let directory = tempfile::tempdir().expect("a directory of our own");
    check(&format!("unix:{}/s", directory.path().display()));
    check("tcp://127.0.0.1:0");
}
