//! remoc's remote trait calls over TCP and Unix sockets.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use peer_shared::{Session, Socket};
use remoc::prelude::*;
use remoc::rch::mpsc;
use remoc::rtc::{CallError, Client as _};
use remoc::{Cfg, Connect, codec};
use trunkline_benches::subject::{self, About, Client, Error, InOrder, Ready, Sink, Source, Subject, items};
use trunkline_benches::{Item, checksum_in_turns};

fn main() -> ExitCode {
    peer_shared::keep_freed_memory();
    subject::main::<Remoc>()
}

struct Remoc;

impl Subject for Remoc {
    const ABOUT: About = About {
        name: "remoc",
        version: "0.20.5",
        configuration: "a remote trait with the codec postbag-slim, calls that are tasks, buffers and chunks large enough \
                        that an upload is one message and starts no thread, bulk as Bytes, TCP_NODELAY",
        transports: &["unix", "tcp"],
        modes: &["ct", "mt"],
        beside_max: 64 << 20,
        streams: true,
    };
    type Client = Caller;

    async fn serve(transport: &str, dir: &Path, ready: Ready) -> Result<(), Error> {
        peer_shared::listen(transport, dir, ready, Serve).await
    }

    async fn connect(transport: &str, address: &str) -> Result<Caller, Error> {
        peer_shared::connect(transport, address, Call).await?
    }
}

#[rtc::remote]
trait Bench {
    async fn echo(&self, item: Item) -> Result<Item, CallError>;
    async fn upload(&self, bytes: Bytes) -> Result<u64, CallError>;
    async fn down(&self) -> Result<Receiver, CallError>;
    async fn up(&self, items: Receiver) -> Result<u64, CallError>;
}

struct Answers;

impl Bench for Answers {
    async fn echo(&self, item: Item) -> Result<Item, CallError> {
        Ok(item)
    }

    async fn upload(&self, bytes: Bytes) -> Result<u64, CallError> {
        Ok(checksum_in_turns(&bytes).await)
    }

    async fn down(&self) -> Result<Receiver, CallError> {
        let (sender, receiver) = channel();
        tokio::spawn(send(items(), sender));
        Ok(receiver)
    }

    async fn up(&self, mut items: Receiver) -> Result<u64, CallError> {
        let mut seen = InOrder::default();
        while let Ok(Some(item)) = items.recv().await {
            if seen.take(item).is_err() {
                break;
            }
        }
        Ok(seen.count())
    }
}

type Codec = codec::PostbagSlim;

struct Serve;

impl Session for Serve {
    type Output = ();

    async fn begin<S: Socket>(&self, socket: S) {
        tokio::spawn(async {
            let (read, write) = socket.halves();
            let (server, mut client) = BenchServerShared::<_, Codec>::new(Arc::new(Answers));
            client.set_max_request_size(MESSAGE_LEN_MAX);
            if let Err(error) = Connect::io(config(), read, write).provide(client).await {
                eprintln!("remoc: {error}");
                return;
            }
            // The end of the connection is the end of the calls.
            let _ = server.serve().await;
        });
    }
}

struct Call;

impl Session for Call {
    type Output = Result<Caller, Error>;

    async fn begin<S: Socket>(&self, socket: S) -> Result<Caller, Error> {
        let (read, write) = socket.halves();
        let mut client: BenchClient<Codec> = Connect::io(config(), read, write).consume().await?;
        client.set_max_request_size(MESSAGE_LEN_MAX);
        Ok(Caller(client))
    }
}

#[derive(Clone)]
struct Caller(BenchClient<Codec>);

impl Client for Caller {
    async fn echo(&self, item: Item) -> Result<Item, Error> {
        Ok(self.0.echo(item).await?)
    }

    async fn upload(&self, bytes: &Bytes) -> Result<u64, Error> {
        Ok(self.0.upload(bytes.clone()).await?)
    }

    async fn down(&self, mut sink: Sink) -> Result<(), Error> {
        let mut items = self.0.down().await?;
        while let Some(item) = items.recv().await? {
            if !sink.take(item)? {
                return Ok(());
            }
        }
        Err("the stream has ended".into())
    }

    async fn up(&self, source: Source) -> Result<u64, Error> {
        let (sender, receiver) = channel();
        tokio::spawn(send(source, sender));
        Ok(self.0.up(receiver).await?)
    }
}

/// What a stream is here: the receiving end of a channel, as an argument or as a result.
type Receiver = mpsc::Receiver<Item, Codec, CHANNEL_ITEMS>;

fn channel() -> (mpsc::Sender<Item, Codec>, Receiver) {
    let (sender, receiver) = mpsc::with_local_buffer(CHANNEL_ITEMS);
    (sender, receiver.set_buffer())
}

async fn send(items: impl Iterator<Item = Item> + Send, sender: mpsc::Sender<Item, Codec>) {
    for item in items {
        // Nobody wants more.
        if sender.send(item).await.is_err() {
            break;
        }
    }
}

fn config() -> Cfg {
    Cfg {
        max_data_size: MESSAGE_LEN_MAX,
        chunk_size: CHUNK_LEN,
        port_receive_buffer: WINDOW,
        port_receive_throttle: 2 * WINDOW,
        ..Cfg::default()
    }
}

/// A message longer than this would go through a thread, at both ends.
const MESSAGE_LEN_MAX: usize = 128 << 20;
const CHUNK_LEN: u32 = 256 << 10;
const WINDOW: u32 = 4 << 20;
/// Items that wait at either end of a channel.
const CHANNEL_ITEMS: usize = 1024;
