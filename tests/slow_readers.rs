//! A reader that takes nothing costs the sender no more than the sender's own limits say, whatever the reader's are.

use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Builder;
use trunkline::{Connection, Limits, Server, Stream, Streaming};

/// Makes more than anybody takes.
#[trunkline::service]
pub trait Source {
    /// Blocks that begin with their number.
    #[rpc(slow = "drop_oldest")]
    async fn blocks(&self) -> impl Stream<Item = Vec<u8>>;
    /// The same, of which nobody misses any.
    async fn all_blocks(&self) -> impl Stream<Item = Vec<u8>>;
}

const BLOCKS: u64 = 8192;
const BLOCK_LEN: usize = 4096;

/// Says when all of them were made.
struct Mine(Sender<()>);

impl Source for Mine {
    async fn blocks(&self) -> impl Stream<Item = Vec<u8>> {
        Blocks { next: 0, done: self.0.clone() }
    }

    async fn all_blocks(&self) -> impl Stream<Item = Vec<u8>> {
        Blocks { next: 0, done: self.0.clone() }
    }
}

struct Blocks {
    next: u64,
    done: Sender<()>,
}

impl Stream for Blocks {
    type Item = Vec<u8>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        if self.next == BLOCKS {
            let _ = self.done.send(());
            return Poll::Ready(None);
        }
        let mut block = vec![0; BLOCK_LEN];
        block[..8].copy_from_slice(&self.next.to_le_bytes());
        self.next += 1;
        Poll::Ready(Some(block))
    }
}

#[test]
fn a_window_that_a_reader_announces_is_not_kept_for_it() {
    let (done, all_made) = channel();
    let serving = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let reading = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = Server::builder().service(SourceServer::new(Mine(done)));
    let server = serving.block_on(server.bind("mem:slow-readers")).expect("the endpoint is free");
    serving.spawn(server.run());
    let (mut blocks, _connection) = reading.block_on(async {
        // Room for all of them, many times.
        let limits = Limits::default().stream_window(1 << 30);
        let connection = Connection::builder().limits(limits).connect("mem:slow-readers").await.expect("a server");
        let client: SourceClient = connection.client();
        (client.blocks().await.expect("a stream"), connection)
    });
    // Nothing runs on this side, so nothing is read.
    all_made.recv_timeout(Duration::from_secs(60)).expect("the source does not wait");
    reading.block_on(async {
        let (mut came, mut last) = (0, 0);
        while let Some(block) = blocks.next().await {
            last = u64::from_le_bytes(*block.expect("a block").first_chunk().expect("a number"));
            assert_eq!(last, came + blocks.missed());
            came += 1;
        }
        assert_eq!((last, came + blocks.missed()), (BLOCKS - 1, BLOCKS));
        // What is kept is 256 KiB, and there are buffers on the way.
        assert!(came < BLOCKS / 8, "{came} of {BLOCKS} blocks were kept");
    });
}

/// The number of the block that comes next, if there is one.
async fn next(blocks: &mut Streaming<Vec<u8>>) -> Option<u64> {
    let block = blocks.next().await?.expect("a block");
    Some(u64::from_le_bytes(*block.first_chunk().expect("a number")))
}

#[test]
fn what_all_streams_have_to_send_is_no_more_than_memory_out_and_a_little_for_each() {
    const STREAMS: usize = 100;
    const MEMORY_OUT: usize = 256 << 10;
    // A little, and the item that it ends in; and what each of the server's threads may be at.
    const MOST: usize = MEMORY_OUT + STREAMS * (1024 + 4 + BLOCK_LEN + 12) + 2 * (40 << 10);
    let (done, all_made) = channel();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let limits = Limits::default().memory_out(MEMORY_OUT);
        let server = Server::builder().limits(limits).service(SourceServer::new(Mine(done)));
        let server = server.bind("mem:unread").await.expect("the endpoint is free");
        let handle = server.handle();
        let serving = tokio::spawn(server.run());
        // Room for a block or two of each.
        let limits = Limits::default().stream_window(2 * BLOCK_LEN);
        let connection = Connection::builder().limits(limits).connect("mem:unread").await.expect("a server");
        let client: SourceClient = connection.client();
        let mut unread = Vec::new();
        for at in 0..STREAMS {
            // Those that miss some count as well, and do not wait.
            let blocks = if at % 2 == 0 { client.all_blocks().await } else { client.blocks().await };
            unread.push(blocks.expect("a stream"));
        }
        let waits = || handle.connections().iter().map(|stats| stats.memory_out as usize).max().unwrap_or_default();
        while waits() < MEMORY_OUT {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut misses = 0;
        while misses < STREAMS / 2 {
            misses += usize::from(all_made.try_recv().is_ok());
            let waits = waits();
            assert!(waits <= MOST, "{waits} bytes wait to be sent");
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        // Who reads gets all of it meanwhile.
        let mut blocks = client.all_blocks().await.expect("a stream");
        for at in 0..BLOCKS {
            assert_eq!(next(&mut blocks).await, Some(at));
        }
        assert_eq!(next(&mut blocks).await, None);
        assert!(waits() <= MOST, "{} bytes wait to be sent", waits());
        assert!(waits() > MEMORY_OUT / 2, "{} bytes wait to be sent", waits());
        // And so do those that wait, when they read.
        for at in 0..BLOCKS / 8 {
            assert_eq!(next(&mut unread[0]).await, Some(at));
        }
        drop(unread);
        while !handle.connections().iter().all(trunkline::ConnectionStats::is_at_rest) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(handle.stats().memory, 0);
        serving.abort();
    });
}
