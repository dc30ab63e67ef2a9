//! tonic, which is gRPC over HTTP/2, over TCP and Unix sockets.

use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;

use bytes::Bytes;
use proto::bench_client::BenchClient;
use proto::bench_server::{Bench, BenchServer};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use trunkline_benches::subject::{self, About, Client, Error, InOrder, Ready, Sink, Source, Subject, items};
use trunkline_benches::{Item, checksum_in_turns};

#[allow(unreachable_pub, unused_qualifications, reason = "it is generated")]
mod proto {
    tonic::include_proto!("bench");
}

fn main() -> ExitCode {
    peer_shared::keep_freed_memory();
    subject::main::<Tonic>()
}

struct Tonic;

impl Subject for Tonic {
    const ABOUT: About = About {
        name: "tonic",
        version: "0.14.9",
        configuration: "prost messages, an item as four fixed64, bulk as Bytes, HTTP/2 windows of 8 MiB, frames of 1 MiB, \
                        4096 concurrent streams, one Channel, TCP_NODELAY",
        transports: &["unix", "tcp"],
        modes: &["ct", "mt"],
        beside_max: 64 << 20,
        streams: true,
    };
    type Client = Caller;

    async fn serve(transport: &str, dir: &Path, ready: Ready) -> Result<(), Error> {
        match transport {
            "tcp" => {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                ready.at(format_args!("http://{}", listener.local_addr()?));
                server().serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))).await?;
            }
            "unix" => {
                let path = dir.join("peer.sock");
                let listener = UnixListener::bind(&path)?;
                ready.at(format_args!("unix:{}", path.display()));
                server().serve_with_incoming(UnixListenerStream::new(listener)).await?;
            }
            _ => return Err(format!("there is no transport `{transport}`").into()),
        }
        Ok(())
    }

    async fn connect(_: &str, address: &str) -> Result<Caller, Error> {
        let channel = Endpoint::from_shared(address.to_owned())?
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .buffer_size(STREAMS as usize)
            .connect()
            .await?;
        Ok(Caller(BenchClient::new(channel)))
    }
}

fn server() -> Router {
    Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(FRAME_LEN_MAX)
        .max_concurrent_streams(STREAMS)
        .add_service(BenchServer::new(Answers).max_decoding_message_size(MESSAGE_LEN_MAX))
}

struct Answers;

#[tonic::async_trait]
impl Bench for Answers {
    async fn echo(&self, request: Request<proto::Item>) -> Result<Response<proto::Item>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn send(&self, request: Request<proto::Upload>) -> Result<Response<proto::Checksum>, Status> {
        let checksum = checksum_in_turns(&request.into_inner().bytes).await;
        Ok(Response::new(proto::Checksum { checksum }))
    }

    type DownStream = Pin<Box<dyn Stream<Item = Result<proto::Item, Status>> + Send>>;

    async fn down(&self, _: Request<proto::Nothing>) -> Result<Response<Self::DownStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::iter(items().map(|item| Ok(written(item)))))))
    }

    async fn up(&self, request: Request<Streaming<proto::Item>>) -> Result<Response<proto::Count>, Status> {
        let (mut items, mut seen) = (request.into_inner(), InOrder::default());
        while let Some(item) = items.message().await? {
            if seen.take(read(item)).is_err() {
                break;
            }
        }
        Ok(Response::new(proto::Count { items: seen.count() }))
    }
}

#[derive(Clone)]
struct Caller(BenchClient<Channel>);

impl Client for Caller {
    async fn echo(&self, item: Item) -> Result<Item, Error> {
        // A call wants a client of its own; a clone is what its documentation recommends.
        Ok(read(self.0.clone().echo(written(item)).await?.into_inner()))
    }

    async fn upload(&self, bytes: &Bytes) -> Result<u64, Error> {
        let reply = self.0.clone().send(proto::Upload { bytes: bytes.clone() }).await?;
        Ok(reply.into_inner().checksum)
    }

    async fn down(&self, mut sink: Sink) -> Result<(), Error> {
        let mut items = self.0.clone().down(proto::Nothing {}).await?.into_inner();
        while let Some(item) = items.message().await? {
            if !sink.take(read(item))? {
                return Ok(());
            }
        }
        Err("the stream has ended".into())
    }

    async fn up(&self, source: Source) -> Result<u64, Error> {
        let reply = self.0.clone().up(tokio_stream::iter(source.map(written))).await?;
        Ok(reply.into_inner().items)
    }
}

fn written(item: Item) -> proto::Item {
    let [a, b, c] = peer_shared::words(&item);
    proto::Item { id: item.id, a, b, c }
}

fn read(item: proto::Item) -> Item {
    peer_shared::item(item.id, [item.a, item.b, item.c])
}

const WINDOW: u32 = 8 << 20;
const FRAME_LEN_MAX: u32 = 1 << 20;
/// As many calls as a measurement ever has outstanding.
const STREAMS: u32 = 4096;
const MESSAGE_LEN_MAX: usize = 128 << 20;
