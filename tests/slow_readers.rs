//! A reader that takes nothing costs the sender no more than the sender's own limits say, whatever the reader's are.

use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Builder;
use trunkline::{Connection, Limits, Server, Stream};

/// Makes more than anybody takes.
#[trunkline::service]
pub trait Source {
    /// Blocks that begin with their number.
    #[rpc(slow = "drop_oldest")]
    async fn blocks(&self) -> impl Stream<Item = Vec<u8>>;
}

const BLOCKS: u64 = 8192;
const BLOCK_LEN: usize = 4096;

/// Says when all of them were made.
struct Mine(Sender<()>);

impl Source for Mine {
    async fn blocks(&self) -> impl Stream<Item = Vec<u8>> {
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
