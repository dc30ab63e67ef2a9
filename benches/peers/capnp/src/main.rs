//! capnp-rpc, which is Cap'n Proto's RPC, over TCP and Unix sockets.

use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use bench_capnp::bench;
use bytes::Bytes;
use capnp::message::ReaderOptions;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use futures::io::{BufReader, BufWriter};
use peer_shared::{Session, Socket};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};
use trunkline_benches::subject::{self, About, Error, LocalClient, LocalSubject, Ready};
use trunkline_benches::{Item, checksum_in_turns};

#[rustfmt::skip]
#[allow(clippy::all, dead_code, unreachable_pub, unused_qualifications, reason = "it is generated")]
mod bench_capnp;

fn main() -> ExitCode {
    peer_shared::keep_freed_memory();
    subject::main_local::<Capnp>()
}

struct Capnp;

impl LocalSubject for Capnp {
    const ABOUT: About = About {
        name: "capnp-rpc",
        version: "0.27.3",
        configuration: "a two-party network in a LocalSet, buffers of 64 KiB both ways, an item as four words, bulk read \
                        where it was received, TCP_NODELAY",
        transports: &["unix", "tcp"],
        modes: &["ct"],
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

struct Answers;

impl bench::Server for Answers {
    async fn echo(
        self: Rc<Self>,
        params: bench::EchoParams,
        mut results: bench::EchoResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_item(params.get()?.get_item()?)
    }

    async fn upload(
        self: Rc<Self>,
        params: bench::UploadParams,
        mut results: bench::UploadResults,
    ) -> Result<(), capnp::Error> {
        let checksum = checksum_in_turns(params.get()?.get_bytes()?).await;
        results.get().set_checksum(checksum);
        Ok(())
    }
}

struct Serve;

impl Session for Serve {
    type Output = ();

    async fn begin<S: Socket>(&self, socket: S) {
        let bootstrap: bench::Client = capnp_rpc::new_client(Answers);
        tokio::task::spawn_local(RpcSystem::new(Box::new(network(socket, Side::Server)), Some(bootstrap.client)));
    }
}

struct Call;

impl Session for Call {
    type Output = Caller;

    async fn begin<S: Socket>(&self, socket: S) -> Caller {
        let mut system = RpcSystem::new(Box::new(network(socket, Side::Client)), None);
        let client = system.bootstrap(Side::Server);
        tokio::task::spawn_local(system);
        Caller(client)
    }
}

#[derive(Clone)]
struct Caller(bench::Client);

impl LocalClient for Caller {
    async fn echo(&self, item: Item) -> Result<Item, Error> {
        let mut request = self.0.echo_request();
        let mut argument = request.get().init_item();
        let [a, b, c] = peer_shared::words(&item);
        argument.set_id(item.id);
        argument.set_a(a);
        argument.set_b(b);
        argument.set_c(c);
        let reply = request.send().promise.await?;
        let item = reply.get()?.get_item()?;
        Ok(peer_shared::item(item.get_id(), [item.get_a(), item.get_b(), item.get_c()]))
    }

    async fn upload(&self, bytes: &Bytes) -> Result<u64, Error> {
        let mut request = self.0.upload_request();
        request.get().set_bytes(bytes);
        Ok(request.send().promise.await?.get()?.get_checksum())
    }
}

fn network<S: Socket>(socket: S, side: Side) -> twoparty::VatNetwork<impl futures::AsyncRead + Unpin> {
    let (read, write) = socket.halves();
    twoparty::VatNetwork::new(
        BufReader::with_capacity(BUFFER_LEN, read.compat()),
        BufWriter::with_capacity(BUFFER_LEN, write.compat_write()),
        side,
        // Both ends trust each other: no limit on what a message may hold.
        ReaderOptions { traversal_limit_in_words: None, ..ReaderOptions::new() },
    )
}

const BUFFER_LEN: usize = 64 << 10;
