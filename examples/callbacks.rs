//! A server that calls its clients: each has handed it a client of an object of its own. One of them is killed.
//!
//! `cargo run --example callbacks`. The program serves, and starts itself three times more as a reader. The server hears of
//! it when one is killed, and goes on telling the others. Those get an object of the server's in turn, and end by dropping it.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use trunkline::{Server, ServiceClient};

/// What a reader serves.
#[trunkline::service]
trait Reader {
    /// Returns how many lines it has heard.
    async fn hear(&self, line: &str) -> u32;
}

/// What the server gives in return. Whoever drops it hears no more.
#[trunkline::service]
trait Subscription {
    async fn missed(&self) -> u32;
}

#[trunkline::service]
trait News {
    async fn subscribe(&self, name: &str, reader: ReaderClient) -> SubscriptionClient;
}

#[derive(Default)]
struct Desk {
    readers: Mutex<BTreeMap<String, ReaderClient>>,
    changed: Notify,
}

struct Subscribed {
    desk: Arc<Desk>,
    name: String,
}

impl News for Arc<Desk> {
    async fn subscribe(&self, name: &str, reader: ReaderClient) -> SubscriptionClient {
        self.readers().insert(name.to_owned(), reader);
        self.changed.notify_waiters();
        let subscribed = Subscribed { desk: Arc::clone(self), name: name.to_owned() };
        SubscriptionClient::local(SubscriptionServer::new(subscribed))
    }
}

impl Subscription for Subscribed {
    async fn missed(&self) -> u32 {
        0
    }
}

/// The reader has dropped its client, or is dead.
impl Drop for Subscribed {
    fn drop(&mut self) {
        self.desk.readers().remove(&self.name);
        self.desk.changed.notify_waiters();
    }
}

impl Desk {
    fn readers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, ReaderClient>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait_for(&self, readers: usize) {
        loop {
            let changed = self.changed.notified();
            if self.readers().len() == readers {
                return;
            }
            changed.await;
        }
    }

    /// Tells all readers, and says how many have heard it.
    async fn tell(&self, line: &str) -> usize {
        let readers = self.readers().clone();
        let mut heard = 0;
        for reader in readers.values() {
            heard += usize::from(reader.hear(line).await.is_ok());
        }
        heard
    }
}

const NAMES: [&str; 3] = ["Ada", "Grace", "Barbara"];
const LINES: u32 = 200;

struct Counts(mpsc::UnboundedSender<u32>, Mutex<u32>);

impl Reader for Counts {
    async fn hear(&self, line: &str) -> u32 {
        let mut heard = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(line, format!("line {heard}"));
        *heard += 1;
        let _ = self.0.send(*heard);
        *heard
    }
}

async fn read(endpoint: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let news = NewsClient::connect(endpoint).await?;
    let (sender, mut counts) = mpsc::unbounded_channel();
    let reader = ReaderClient::local(ReaderServer::new(Counts(sender, Mutex::default())));
    let subscription = news.subscribe(name, reader.clone()).await?;
    while counts.recv().await != Some(LINES) {}
    assert_eq!(subscription.missed().await?, 0);
    drop(subscription);
    reader.released().await;
    println!("{name} heard all {LINES} lines and was let go of");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    if let [_, endpoint, name] = &arguments[..] {
        return read(endpoint, name).await;
    }

    let desk = Arc::new(Desk::default());
    // A server does not listen where others might put something in its place.
    let directory = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()?;
    let server = Server::builder().service(NewsServer::new(Arc::clone(&desk)));
    let server = server.bind(format!("unix:{}/news.sock", directory.path().display())).await?;
    let (endpoint, handle) = (server.endpoints().remove(0), server.handle());
    let serving = tokio::spawn(server.run());

    let start = |name: &'static str| Ok((name, Command::new(env::current_exe()?).args([&endpoint, name]).spawn()?));
    let mut readers = NAMES.into_iter().map(start).collect::<std::io::Result<Vec<(&str, Child)>>>()?;
    desk.wait_for(3).await;
    for line in 0..LINES / 2 {
        assert_eq!(desk.tell(&format!("line {line}")).await, 3);
    }

    let (name, mut victim) = readers.remove(1);
    let grace = desk.readers()[name].clone();
    victim.kill()?;
    println!("{name} was killed: {}", tokio::time::timeout(Duration::from_secs(10), grace.closed()).await?);
    victim.wait()?;
    desk.wait_for(2).await;
    for line in LINES / 2..LINES {
        assert_eq!(desk.tell(&format!("line {line}")).await, 2);
    }

    desk.wait_for(0).await;
    for (name, mut reader) in readers {
        assert!(reader.wait()?.success(), "{name} did not hear everything");
    }
    handle.shutdown();
    serving.await?;
    println!("nobody is left");
    Ok(())
}
