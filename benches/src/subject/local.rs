//! Subjects whose futures stay on their thread.

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use tokio::task::LocalSet;

use super::command::{self, Command};
use super::{About, Error, Ready, load, runtime};
use crate::Item;

/// As [`Client`](super::Client), on one thread.
pub trait LocalClient: Clone + 'static {
    /// Sends an item there and back.
    fn echo(&self, item: Item) -> impl Future<Output = Result<Item, Error>>;

    /// Sends bytes there; the reply is their [`checksum`](crate::checksum).
    fn upload(&self, bytes: &Bytes) -> impl Future<Output = Result<u64, Error>>;

    /// The server's process, if the client started it.
    fn server_pid(&self) -> Option<u32> {
        None
    }
}

/// As [`Subject`](super::Subject), on one thread, in a `LocalSet`. The mode is `ct`.
pub trait LocalSubject {
    /// What it says about itself.
    const ABOUT: About;
    /// Its client.
    type Client: LocalClient;

    /// Listens, calls [`Ready::at`], and serves; the process ends it.
    fn serve(transport: &str, dir: &Path, ready: Ready) -> impl Future<Output = Result<(), Error>>;

    /// Connects to a server.
    fn connect(transport: &str, address: &str) -> impl Future<Output = Result<Self::Client, Error>>;
}

/// The whole program of a [`LocalSubject`].
pub fn main_local<S: LocalSubject>() -> ExitCode {
    command::run(&S::ABOUT, |command| match command {
        Command::Serve { transport, mode, dir, ready } => {
            let runtime = runtime(&mode)?;
            LocalSet::new().block_on(&runtime, S::serve(&transport, &dir, ready))?;
            Ok(None)
        }
        Command::Load { transport, mode, address, spec } => {
            let runtime = runtime(&mode)?;
            let outcome = LocalSet::new().block_on(&runtime, async {
                let mut clients = Vec::new();
                for _ in 0..spec.connections {
                    clients.push(S::connect(&transport, &address).await?);
                }
                load::run_local(spec, clients).await
            })?;
            Ok(Some(outcome))
        }
    })
}
