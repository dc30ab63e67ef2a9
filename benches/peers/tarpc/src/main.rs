//! tarpc over TCP and Unix sockets.

use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use futures::StreamExt;
use peer_shared::{Session, Socket};
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::tokio_util::codec::{Framed, LengthDelimitedCodec};
use tarpc::{client, context, serde_transport, server};
use trunkline_benches::subject::{self, About, Client, Error, Ready, Subject};
use trunkline_benches::{Item, checksum_in_turns};

fn main() -> ExitCode {
    peer_shared::keep_freed_memory();
    subject::main::<Tarpc>()
}

struct Tarpc;

impl Subject for Tarpc {
    const ABOUT: About = About {
        name: "tarpc",
        version: "0.38.0",
        configuration: "serde transport with length-delimited frames and bincode, a task a request as in its guide, room \
                        for 4096 calls in flight, bulk as Bytes, TCP_NODELAY",
        transports: &["unix", "tcp"],
        modes: &["ct", "mt"],
        beside_max: 64 << 20,
        streams: false,
    };
    type Client = Caller;

    async fn serve(transport: &str, dir: &Path, ready: Ready) -> Result<(), Error> {
        peer_shared::listen(transport, dir, ready, Serve).await
    }

    async fn connect(transport: &str, address: &str) -> Result<Caller, Error> {
        peer_shared::connect(transport, address, Call).await
    }
}

#[tarpc::service]
trait Bench {
    async fn echo(item: Item) -> Item;
    async fn upload(bytes: Bytes) -> u64;
}

#[derive(Clone)]
struct Answers;

impl Bench for Answers {
    async fn echo(self, _: context::Context, item: Item) -> Item {
        item
    }

    async fn upload(self, _: context::Context, bytes: Bytes) -> u64 {
        checksum_in_turns(&bytes).await
    }
}

struct Serve;

impl Session for Serve {
    type Output = ();

    async fn begin<S: Socket>(&self, socket: S) {
        let transport = serde_transport::new(frames(socket), Bincode::default());
        let config = server::Config { pending_response_buffer: IN_FLIGHT };
        let requests = BaseChannel::new(config, transport).execute(Answers.serve());
        tokio::spawn(requests.for_each(|request| async {
            tokio::spawn(request);
        }));
    }
}

struct Call;

impl Session for Call {
    type Output = Caller;

    async fn begin<S: Socket>(&self, socket: S) -> Caller {
        let transport = serde_transport::new(frames(socket), Bincode::default());
        let mut config = client::Config::default();
        config.max_in_flight_requests = IN_FLIGHT;
        config.pending_request_buffer = IN_FLIGHT;
        Caller(BenchClient::new(config, transport).spawn())
    }
}

#[derive(Clone)]
struct Caller(BenchClient);

impl Client for Caller {
    async fn echo(&self, item: Item) -> Result<Item, Error> {
        Ok(self.0.echo(context::current(), item).await?)
    }

    async fn upload(&self, bytes: &Bytes) -> Result<u64, Error> {
        Ok(self.0.upload(context::current(), bytes.clone()).await?)
    }
}

fn frames<S: Socket>(socket: S) -> Framed<S, LengthDelimitedCodec> {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_LEN_MAX).new_framed(socket)
}

/// As many calls as a measurement ever has outstanding.
const IN_FLIGHT: usize = 4096;
/// More than any upload; the default of 8 MiB would do for most.
const FRAME_LEN_MAX: usize = 128 << 20;
