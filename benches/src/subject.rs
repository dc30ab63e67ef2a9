//! A program that is measured: the server or the client of one framework.
//!
//! ```text
//! SUBJECT describe                            one line of JSON: what it is
//! SUBJECT serve TRANSPORT MODE DIR            prints its address as one line, serves until stdin ends
//! SUBJECT load TRANSPORT MODE ADDRESS SPEC    measures once, prints the outcome as one line of JSON
//! ```
//!
//! MODE is the runtime, on both sides: `ct` a current-thread one, `mt` one with two workers, `thread` none.
//!
//! A server that reads a line prints how many allocations it has made, which it counts if [`COUNT_ALLOCATIONS`] is set.
//!
//! Over `pipe` nobody can start the server beforehand: ADDRESS is the DIR, and the client starts the server, as its child,
//! by [`child`].

mod blocking;
mod command;
mod load;
mod local;
mod meter;
mod open;
mod paced;
mod recorder;
mod schedule;
mod sockets;
mod spec;
mod stream;

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

pub use blocking::{Blocking, main_blocking};
pub use command::{COUNT_ALLOCATIONS, Ready, child};
pub use local::{LocalClient, LocalSubject, main_local};
pub use paced::paced;
pub use recorder::Recorder;
pub use sockets::enlarge;
pub use spec::{Latency, Outcome, Spec, Workload};
pub use stream::{Each, InOrder, Sink, Source, items};

use crate::Item;
use command::Command;

/// What can go wrong in a subject.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a subject says about itself.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct About {
    /// The framework.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What was chosen, where there is a choice.
    pub configuration: &'static str,
    /// What it can be measured over, by the names of trunkline's transports.
    pub transports: &'static [&'static str],
    /// The modes it has.
    pub modes: &'static [&'static str],
    /// Bytes of the largest upload that it takes while it takes other calls.
    pub beside_max: usize,
    /// Whether it has streams.
    pub streams: bool,
}

/// A client with one connection, shared by all its clones.
pub trait Client: Clone + Send + Sync + 'static {
    /// Sends an item there and back.
    fn echo(&self, item: Item) -> impl Future<Output = Result<Item, Error>> + Send;

    /// Sends bytes there; the reply is their [`checksum`](crate::checksum).
    fn upload(&self, bytes: &Bytes) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Receives the items from 0 on, as a stream that does not end, until the sink has enough.
    fn down(&self, sink: Sink) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = sink;
        async { Err("it has no streams".into()) }
    }

    /// Sends the source's items as a stream; the reply is how many the server has seen [`InOrder`].
    fn up(&self, source: Source) -> impl Future<Output = Result<u64, Error>> + Send {
        let _ = source;
        async { Err("it has no streams".into()) }
    }

    /// The server's process, if the client started it.
    fn server_pid(&self) -> Option<u32> {
        None
    }
}

/// A framework that runs on tokio.
pub trait Subject {
    /// What it says about itself.
    const ABOUT: About;
    /// Its client.
    type Client: Client;

    /// Listens, calls [`Ready::at`], and serves; the process ends it.
    fn serve(transport: &str, dir: &Path, ready: Ready) -> impl Future<Output = Result<(), Error>>;

    /// Connects to a server.
    fn connect(transport: &str, address: &str) -> impl Future<Output = Result<Self::Client, Error>>;
}

/// The whole program of a [`Subject`].
pub fn main<S: Subject>() -> ExitCode {
    command::run(&S::ABOUT, |command| match command {
        Command::Serve { transport, mode, dir, ready } => {
            runtime(&mode)?.block_on(S::serve(&transport, &dir, ready))?;
            Ok(None)
        }
        Command::Load { transport, mode, address, spec } => {
            let runtime = runtime(&mode)?;
            let outcome = runtime.block_on(async {
                let mut clients = Vec::new();
                for _ in 0..spec.connections {
                    clients.push(S::connect(&transport, &address).await?);
                }
                load::run(spec, clients).await
            })?;
            Ok(Some(outcome))
        }
    })
}

fn runtime(mode: &str) -> Result<Runtime, Error> {
    match mode {
        "ct" => Ok(Builder::new_current_thread().enable_all().build()?),
        "mt" => Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?),
        _ => Err(format!("there is no mode `{mode}`").into()),
    }
}
