//! TCP: `tcp://host:port`. The only transport here that leaves the machine, and it is not encrypted.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::Socket;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use trunkline_core::ConnectError;
use trunkline_core::transport::{BoxTransport, Connector, Listener, PeerIdentity, Properties};

use crate::BindError;
use crate::socket::{self, SocketTransport};

/// Accepts TCP connections.
#[derive(Debug)]
pub struct TcpListener {
    socket: tokio::net::TcpListener,
    addr: SocketAddr,
}

impl TcpListener {
    /// Listens on `addr`, a `host:port` that means this machine alone. Port 0 lets the system choose one. Only inside a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BindError::Endpoint`] if `addr` is no `host:port`, or the network could reach it;
    /// [`BindError::InUse`] if somebody listens there; [`BindError::NoRuntime`] outside a runtime.
    pub async fn bind(addr: impl Into<String>) -> Result<TcpListener, BindError> {
        TcpListener::builder(addr).bind().await
    }

    /// Like [`bind`](TcpListener::bind), with a say in what may be listened on.
    pub fn builder(addr: impl Into<String>) -> TcpListenerBuilder {
        TcpListenerBuilder { addr: addr.into(), plaintext_network: false }
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next peer, with the transport's type.
    ///
    /// # Errors
    ///
    /// Those of the system, such as too many open files. The listener goes on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept_transport(&mut self) -> io::Result<SocketTransport> {
        loop {
            match self.socket.accept().await {
                // Nothing waits from here on, so that a connection once accepted cannot be lost.
                Ok((stream, peer)) => return transport(stream, peer),
                // The peer gave up while it stood in line; that must not look like trouble of the listener's.
                Err(error) if gave_up(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[async_trait::async_trait]
impl Listener for TcpListener {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        self.accept_transport().await.map(|transport| Some(BoxTransport::new(transport)))
    }

    fn endpoint(&self) -> String {
        endpoint(&self.addr)
    }
}

/// How a [`TcpListener`] is to listen.
#[derive(Clone, Debug)]
pub struct TcpListenerBuilder {
    addr: String,
    plaintext_network: bool,
}

impl TcpListenerBuilder {
    /// Accepts an address that the network can reach: whoever is on the way can then read and change everything, and
    /// whoever reaches the port can call.
    pub fn allow_plaintext_network(mut self) -> Self {
        self.plaintext_network = true;
        self
    }

    /// Listens. Only inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Those of [`TcpListener::bind`].
    pub async fn bind(self) -> Result<TcpListener, BindError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(BindError::NoRuntime);
        }
        let addrs = resolve(&self.addr).await.map_err(|error| self.explain(error))?;
        if let Some(open) = addrs.iter().find(|addr| !addr.ip().to_canonical().is_loopback()) {
            if !self.plaintext_network {
                return Err(self.unfit(format!(
                    "{open} can be reached from the network, and nothing is encrypted: listen on a loopback address \
                     (127.0.0.1 or [::1]), or say `.allow_plaintext_network()`"
                )));
            }
        }
        let mut outcome = Err(io::ErrorKind::NotFound.into());
        for addr in addrs {
            outcome = listen(addr);
            if outcome.is_ok() {
                break;
            }
        }
        let (socket, addr) = outcome.map_err(|error| self.explain(error))?;
        Ok(TcpListener { socket, addr })
    }

    fn explain(&self, source: io::Error) -> BindError {
        match source.kind() {
            io::ErrorKind::InvalidInput => self.unfit(MALFORMED.into()),
            io::ErrorKind::AddrInUse => BindError::InUse { endpoint: endpoint(&self.addr) },
            _ => BindError::Io { endpoint: endpoint(&self.addr), what: "binding", source },
        }
    }

    fn unfit(&self, why: String) -> BindError {
        BindError::Endpoint { endpoint: endpoint(&self.addr), why }
    }
}

fn listen(addr: SocketAddr) -> io::Result<(tokio::net::TcpListener, SocketAddr)> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server need not wait for the last connections of the one before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let listener = socket.listen(BACKLOG)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// Leads to a TCP server.
#[derive(Clone, Debug)]
pub struct TcpConnector {
    addr: String,
}

impl TcpConnector {
    /// Leads to `addr`, a `host:port`; IPv6 addresses stand in brackets. Names are looked up for each connection.
    pub fn new(addr: impl Into<String>) -> TcpConnector {
        TcpConnector { addr: addr.into() }
    }

    /// Connects once: to the first of the name's addresses that answers, within 10 s for all of them.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Unreachable`] if the name is unknown or no address takes the connection,
    /// [`ConnectError::Timeout`] if nobody answers at all, [`ConnectError::Endpoint`] if it is no `host:port`,
    /// [`ConnectError::NoRuntime`] outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn connect_transport(&self) -> Result<SocketTransport, ConnectError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ConnectError::NoRuntime);
        }
        let until = Instant::now() + CONNECT_TIMEOUT;
        let addrs = match timeout_at(until, resolve(&self.addr)).await {
            Ok(found) => found.map_err(|error| self.explain(error))?,
            Err(_) => return Err(self.timed_out()),
        };
        let mut refusal = None;
        for (at, &addr) in addrs.iter().enumerate() {
            // An address that swallows packets must leave time for those after it.
            let share = (until - Instant::now()) / (addrs.len() - at) as u32;
            match timeout(share, dial(addr)).await {
                Ok(Ok(transport)) => return Ok(transport),
                Ok(Err(error)) => refusal = Some(error),
                Err(_) => {}
            }
        }
        Err(refusal.map_or_else(|| self.timed_out(), |error| self.explain(error)))
    }

    fn explain(&self, source: io::Error) -> ConnectError {
        let endpoint = endpoint(&self.addr);
        match source.kind() {
            io::ErrorKind::InvalidInput => ConnectError::Endpoint { endpoint, why: MALFORMED.into() },
            io::ErrorKind::ConnectionRefused => {
                let why = format!("nobody listens on that port: is the server running? ({source})");
                ConnectError::Unreachable { endpoint, source: io::Error::new(source.kind(), why) }
            }
            _ => ConnectError::Unreachable { endpoint, source },
        }
    }

    fn timed_out(&self) -> ConnectError {
        ConnectError::Timeout { endpoint: endpoint(&self.addr), after: CONNECT_TIMEOUT }
    }
}

#[async_trait::async_trait]
impl Connector for TcpConnector {
    async fn connect(&self) -> Result<BoxTransport, ConnectError> {
        self.connect_transport().await.map(BoxTransport::new)
    }

    fn endpoint(&self) -> String {
        endpoint(&self.addr)
    }
}

/// The addresses of `host:port`, at least one.
async fn resolve(addr: &str) -> io::Result<Vec<SocketAddr>> {
    // The system would look for a host called `:` where an IPv6 address lacks its brackets.
    if addr.rsplit_once(':').is_some_and(|(host, _)| host.contains(':') && !host.starts_with('[')) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let addrs: Vec<_> = lookup_host(addr).await?.collect();
    if addrs.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addrs)
}

async fn dial(addr: SocketAddr) -> io::Result<SocketTransport> {
    let stream = TcpStream::connect(addr).await?;
    // Where nobody listens on a port of this machine, the system may choose that very port for our own end, and the
    // socket is then connected with itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    transport(stream, addr)
}

fn transport(stream: TcpStream, peer: SocketAddr) -> io::Result<SocketTransport> {
    let socket = Socket::from(stream.into_std()?);
    // A peer that is gone already may make these fail; the first read will tell.
    let _ = socket.set_tcp_nodelay(true);
    // Replies that wait for a slow peer wait on this side, where a cancelled one can still be dropped, and not in a
    // queue of megabytes.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_notsent_lowat(NOTSENT_LOWAT);
    socket::transport(socket, Properties::new("tcp", PeerIdentity::Tcp { addr: peer }).silent_loss(true))
}

fn gave_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn endpoint(addr: &impl std::fmt::Display) -> String {
    format!("tcp://{addr}")
}

const MALFORMED: &str = "write `host:port`, an IPv6 address in brackets: `[::1]:4000`";
/// Connections that wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that the system takes beyond those that are on their way.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOTSENT_LOWAT: u32 = 128 * 1024;
