//! Calls on what another call is going to return: a row of them leaves at once, and costs one round trip.
//!
//! `cargo run --example pipeline`. Between client and server is a long line: what either says is carried to the other when both
//! have no more to say. It counts its journeys. A way down a tree of folders, each of which the one before it returns, is gone
//! twice: with an `.await` at each, and without.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{sleep, timeout};
use trunkline::transport::{BoxTransport, Listener, Over, async_trait};
use trunkline::{CallError, NoResult, Reason, Server};

#[trunkline::service]
trait Folder {
    /// The one of this name that is inside.
    async fn enter(&self, name: &str) -> Result<FolderClient, String>;
    async fn list(&self) -> Vec<String>;
}

/// A folder, and what is inside.
#[derive(Clone, Default)]
struct Tree(BTreeMap<String, Tree>);

impl Tree {
    /// Folders of these names, each inside the one before.
    fn of(names: &[&str]) -> Tree {
        let Some((first, rest)) = names.split_first() else { return Tree::default() };
        Tree(BTreeMap::from([((*first).to_owned(), Tree::of(rest))]))
    }
}

impl Folder for Tree {
    async fn enter(&self, name: &str) -> Result<FolderClient, String> {
        let inner = self.0.get(name).ok_or_else(|| format!("there is no {name}"))?;
        Ok(FolderClient::local(FolderServer::new(inner.clone())))
    }

    async fn list(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// Carries what the client says, then what the server says, and so on. A journey each way is a round trip.
async fn carry(mut client: DuplexStream, mut server: DuplexStream, trips: Arc<AtomicU32>) -> io::Result<()> {
    loop {
        let said = all_of(&mut client).await?;
        trips.fetch_add(u32::from(!said.is_empty()), Ordering::Relaxed);
        server.write_all(&said).await?;
        client.write_all(&all_of(&mut server).await?).await?;
    }
}

/// What has been said when nobody has more to say. The clock stands still as long as anybody has something to do: that is
/// when it moves on.
async fn all_of(stream: &mut DuplexStream) -> io::Result<Vec<u8>> {
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read) = timeout(Duration::from_millis(1), stream.read(&mut buffer)).await {
        match read? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => said.extend_from_slice(&buffer[..len]),
        }
    }
    Ok(said)
}

/// Has one peer.
struct End(Option<DuplexStream>);

#[async_trait]
impl Listener for End {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        Ok(self.0.take().map(|stream| BoxTransport::new(Over::new(stream))))
    }

    fn endpoint(&self) -> String {
        "line:".to_owned()
    }
}

const WAY: [&str; 6] = ["usr", "share", "doc", "trunkline", "examples", "pipeline"];

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let ((here, near), (far, there)) = (duplex(1 << 16), duplex(1 << 16));
    let server = Server::builder().service(FolderServer::new(Tree::of(&WAY))).listen(End(Some(there)));
    tokio::spawn(server.run());
    let trips = Arc::new(AtomicU32::new(0));
    tokio::spawn(carry(near, far, Arc::clone(&trips)));
    let root = FolderClient::over(here).await?;
    // Whatever has still to be said, of what was before, is said by then.
    let since_then = async || {
        sleep(Duration::from_secs(1)).await;
        trips.swap(0, Ordering::Relaxed)
    };

    since_then().await;
    let mut folder = root.clone();
    for name in &WAY[..5] {
        folder = folder.enter(name).await?;
    }
    let found = folder.list().await?;
    let waiting = trips.load(Ordering::Relaxed);
    println!("one after the other: {found:?} after {waiting} round trips");

    since_then().await;
    let mut folder = root.clone();
    for name in &WAY[..5] {
        folder = folder.enter(name).pipelined().clone();
    }
    let pipelined_found = folder.list().await?;
    let pipelined = trips.load(Ordering::Relaxed);
    println!("all at once: {pipelined_found:?} after {pipelined} round trips");

    // A step that fails is said at the end as well, and each step can be asked how it went.
    since_then().await;
    let usr = root.enter("usr").pipelined();
    let music = usr.enter("music").pipelined();
    let lost = music.enter("bach").pipelined().list().await;
    let why = music.await.map(drop);
    println!("a way that is none: {lost:?}; {why:?}");
    let astray = trips.load(Ordering::Relaxed);

    assert_eq!(found, ["pipeline"]);
    assert_eq!((waiting, pipelined, astray), (6, 1, 1));
    assert_eq!(pipelined_found, found);
    assert_eq!(lost, Err(CallError::NotExecuted(Reason::NoResult(NoResult::App))));
    assert_eq!(why, Err(CallError::App("there is no music".to_owned())));
    usr.await?;
    Ok(())
}
