//! A transport of one's own: batches of frames travel through a pair of channels.
//!
//! `cargo run --example custom_transport` serves a trait over it and calls it. Everything else, from deadlines to
//! drain, is the library's, as on every transport.

use std::io;
use std::task::{Context, Poll, Waker, ready};

use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use trunkline::Server;
use trunkline::transport::{
    BatchBuffer, BatchWriter, BoxTransport, Bytes, Filled, FrameError, FrameReceiver, Listener, PeerIdentity,
    Properties, Transport, Written, first_record,
};

/// One end: where batches go, and where they come from.
struct Channel(mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>);

fn pair() -> (Channel, Channel) {
    let ((here, from_here), (there, from_there)) = (mpsc::channel(4), mpsc::channel(4));
    (Channel(here, from_there), Channel(there, from_here))
}

impl Transport for Channel {
    /// Frames are placed one behind the other in a buffer, which is swapped out as a batch: the usual sender.
    type Sender = BatchBuffer;
    type Writer = Outgoing;
    type Receiver = Incoming;

    fn properties(&self) -> Properties {
        Properties::new("channel", PeerIdentity::SameProcess)
    }

    fn split(self, frame_len_max: usize) -> (BatchBuffer, Outgoing, Incoming) {
        let outgoing = Outgoing { channel: PollSender::new(self.0), written: 0 };
        let incoming = Incoming { channel: self.1, batch: Vec::new(), consumed: 0, frame_len_max };
        (BatchBuffer::default(), outgoing, incoming)
    }
}

struct Outgoing {
    channel: PollSender<Vec<u8>>,
    written: u64,
}

impl BatchWriter for Outgoing {
    type Batch = Bytes;

    fn try_write(&mut self, batch: &mut Bytes) -> io::Result<Written> {
        match self.poll_write(&mut Context::from_waker(Waker::noop()), batch) {
            Poll::Ready(written) => written.map(|()| Written::All),
            Poll::Pending => Ok(Written::Blocked),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, batch: &mut Bytes) -> Poll<io::Result<()>> {
        let len = batch.as_slice().len();
        if len > 0 {
            // The peer is gone when its receiver is.
            ready!(self.channel.poll_reserve(cx)).map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.channel.send_item(batch.as_slice().to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.written += len as u64;
            batch.advance(len);
        }
        Poll::Ready(Ok(()))
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.channel.close();
        Poll::Ready(Ok(()))
    }
}

struct Incoming {
    channel: mpsc::Receiver<Vec<u8>>,
    /// Whole frames, of which the first `consumed` bytes are done with.
    batch: Vec<u8>,
    consumed: usize,
    frame_len_max: usize,
}

impl Incoming {
    fn filled(&mut self, batch: Option<Vec<u8>>) -> Filled {
        let Some(batch) = batch else { return Filled::Closed };
        (self.batch, self.consumed) = (batch, 0);
        Filled::Some
    }
}

impl FrameReceiver for Incoming {
    fn try_fill(&mut self) -> io::Result<Option<Filled>> {
        match self.channel.try_recv() {
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            received => Ok(Some(self.filled(received.ok()))),
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        let received = ready!(self.channel.poll_recv(cx));
        Poll::Ready(Ok(self.filled(received)))
    }

    fn frame(&self) -> Result<Option<&[u8]>, FrameError> {
        first_record(&self.batch[self.consumed..], self.frame_len_max)
    }

    fn consume(&mut self) {
        self.consumed += self.frame().ok().flatten().map_or(0, <[u8]>::len);
    }
}

/// Where the server's connections come from.
struct Arriving(mpsc::Receiver<Channel>);

#[trunkline::transport::async_trait]
impl Listener for Arriving {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        Ok(self.0.recv().await.map(BoxTransport::new))
    }

    fn endpoint(&self) -> String {
        "channel:".to_owned()
    }
}

#[trunkline::service]
trait Adder {
    async fn sum(&self, numbers: &[u64]) -> u64;
}

struct Plain;

impl Adder for Plain {
    async fn sum(&self, numbers: &[u64]) -> u64 {
        numbers.iter().sum()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (connect, arriving) = mpsc::channel(1);
    let server = Server::builder().service(AdderServer::new(Plain)).listen(Arriving(arriving));
    let handle = server.handle();
    let served = tokio::spawn(server.run());

    let (ours, theirs) = pair();
    connect.send(theirs).await?;
    let adder = AdderClient::over_transport(ours).await?;
    let numbers: Vec<u64> = (1..=100_000).collect();
    for count in [0, 1, 100, 100_000] {
        let sum = adder.sum(&numbers[..count]).await?;
        assert_eq!(sum, (count * (count + 1) / 2) as u64);
        println!("over `{}`: the sum of 1 to {count} is {sum}", adder.connection().transport());
    }
    handle.shutdown();
    println!("{:?}", served.await?);
    Ok(())
}
