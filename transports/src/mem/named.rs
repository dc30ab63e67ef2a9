//! Names inside one process, and who listens under them.

use std::collections::HashMap;
use std::io;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use trunkline_core::ConnectError;
use trunkline_core::transport::{BoxTransport, Connector, Listener};

use super::{MemTransport, pair};
use crate::BindError;

/// Who listens under which name.
static REGISTRY: LazyLock<Mutex<HashMap<String, mpsc::Sender<MemTransport>>>> = LazyLock::new(Mutex::default);

fn registry() -> MutexGuard<'static, HashMap<String, mpsc::Sender<MemTransport>>> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts connections from within this process, under a name that is free again when it is dropped.
#[derive(Debug)]
pub struct MemListener {
    name: String,
    arriving: mpsc::Receiver<MemTransport>,
}

impl MemListener {
    /// Listens under `name`.
    ///
    /// # Errors
    ///
    /// [`BindError::InUse`] if somebody in this process does so already.
    pub fn bind(name: impl Into<String>) -> Result<MemListener, BindError> {
        let name = name.into();
        let (sender, arriving) = mpsc::channel(BACKLOG);
        let mut registry = registry();
        if registry.contains_key(&name) {
            return Err(BindError::InUse { endpoint: endpoint(&name) });
        }
        registry.insert(name.clone(), sender);
        Ok(MemListener { name, arriving })
    }

    /// The next connection, with its type.
    ///
    /// # Errors
    ///
    /// None in practice.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection is handed out or stays in line.
    pub async fn accept_transport(&mut self) -> io::Result<MemTransport> {
        // The registry holds a sender for as long as this lives.
        self.arriving.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for MemListener {
    fn drop(&mut self) {
        let sender = registry().remove(&self.name);
        // Not under the lock: it may wake those who wait in line.
        drop(sender);
    }
}

#[async_trait::async_trait]
impl Listener for MemListener {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        self.accept_transport().await.map(|transport| Some(BoxTransport::new(transport)))
    }

    fn endpoint(&self) -> String {
        endpoint(&self.name)
    }
}

/// Leads to the listener of a name.
#[derive(Clone, Debug)]
pub struct MemConnector {
    name: String,
}

impl MemConnector {
    /// Leads to whoever listens under `name` when it connects.
    pub fn new(name: impl Into<String>) -> MemConnector {
        MemConnector { name: name.into() }
    }

    /// Connects once. While more than 128 connections wait to be accepted, waits for up to 10 s.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Unreachable`] if nobody listens under the name, [`ConnectError::Timeout`] if nobody accepts.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn connect_transport(&self) -> Result<MemTransport, ConnectError> {
        let sender = registry().get(&self.name).cloned().ok_or_else(|| self.unreachable())?;
        let (ours, theirs) = pair();
        match sender.try_send(theirs) {
            Ok(()) => Ok(ours),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(self.unreachable()),
            Err(mpsc::error::TrySendError::Full(theirs)) => {
                match tokio::time::timeout(CONNECT_TIMEOUT, sender.send(theirs)).await {
                    Ok(Ok(())) => Ok(ours),
                    Ok(Err(_)) => Err(self.unreachable()),
                    Err(_) => Err(ConnectError::Timeout { endpoint: endpoint(&self.name), after: CONNECT_TIMEOUT }),
                }
            }
        }
    }

    fn unreachable(&self) -> ConnectError {
        let why = "nobody in this process listens under that name; another process cannot be reached this way";
        ConnectError::Unreachable {
            endpoint: endpoint(&self.name),
            source: io::Error::new(io::ErrorKind::NotFound, why),
        }
    }
}

#[async_trait::async_trait]
impl Connector for MemConnector {
    async fn connect(&self) -> Result<BoxTransport, ConnectError> {
        self.connect_transport().await.map(BoxTransport::new)
    }

    fn endpoint(&self) -> String {
        endpoint(&self.name)
    }
}

fn endpoint(name: &str) -> String {
    format!("mem:{name}")
}

/// Connections that wait to be accepted before further ones wait to be made.
const BACKLOG: usize = 128;
/// How long a connector waits in front of a full line.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
