//! A server, wherever it runs and however it is reached, and clients of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::{TempDir, tempdir};
use tokio::io::DuplexStream;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use trunkline::codec::CodecId;
use trunkline::transport::{
    BoxTransport, Listener, MemConnector, MemListener, Over, PipeTransport, ShmConnector, ShmListener, TcpConnector,
    TcpListener, UnixConnector, UnixListener, pipe,
};
use trunkline::{BindError, ConnectError, Connection, ConnectionBuilder, DrainReport, Limits, Server, ServerHandle};

use crate::child::Child;
use crate::errand::{ErrandServer, Messenger};
use crate::exchange::{ExchangeServer, Market};
use crate::flow::{FlowServer, Stage};
use crate::harness::{soon, until};
use crate::ledger::Ledger;
use crate::nests::{NestServer, Twigs};
use crate::own_transport::{Handed, Handing, Own, handed};
use crate::raw::{Raw, raw, raw_ring};
use crate::service::{Host, Neighbour, OtherServer, SuiteClient, SuiteServer};
use crate::vault;

/// What carries the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Mem,
    Unix,
    Shm,
    /// The same with blocks beside the rings, read in place on both sides.
    InPlace,
    Tcp,
    /// Pipes between processes that are there already. How a child gets its own is tested in `tests/spawn`.
    Pipe,
    /// Any stream of bytes: a duplex of tokio's in one process, a Unix socket that nobody vouches for across two.
    Over,
    /// A transport of the program's own.
    Own,
}

/// Where the server runs, and on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// With the client, on a runtime of two threads.
    OneProcess,
    /// With the client, on a runtime of one thread.
    OneThread,
    /// In a process of its own on two threads, the client on one.
    TwoProcesses,
    /// In a process of its own on one thread, the client on two.
    TwoProcessesOneThread,
}

impl Placement {
    pub(crate) fn client_threads(self) -> usize {
        match self {
            Placement::OneProcess | Placement::TwoProcessesOneThread => 2,
            Placement::OneThread | Placement::TwoProcesses => 1,
        }
    }

    pub(crate) fn server_threads(self) -> usize {
        match self {
            Placement::OneProcess | Placement::TwoProcesses => 2,
            Placement::OneThread | Placement::TwoProcessesOneThread => 1,
        }
    }

    pub(crate) fn is_one_process(self) -> bool {
        matches!(self, Placement::OneProcess | Placement::OneThread)
    }
}

/// What a server is made with. All of it can be told to another process.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Limits that differ from the default, by name; times in milliseconds.
    pub(crate) limits: Vec<(String, u64)>,
    /// The codecs it allows, by name; none = all.
    pub(crate) codecs: Vec<String>,
    /// How many listeners it has.
    pub(crate) listeners: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Setup { limits: Vec::new(), codecs: Vec::new(), listeners: 1 }
    }
}

impl Setup {
    pub(crate) fn limits(named: &[(&str, u64)]) -> Setup {
        Setup { limits: named.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(), ..Setup::default() }
    }
}

/// The default limits, with some changed by name; times in milliseconds.
pub(crate) fn limits(named: &[(&str, u64)]) -> Limits {
    named.iter().fold(Limits::default(), |limits, (name, value)| {
        let (size, time) = (*value as usize, Duration::from_millis(*value));
        match *name {
            "message_len" => limits.message_len(size),
            "decode_memory" => limits.decode_memory(size),
            "in_flight_per_connection" => limits.in_flight_per_connection(size),
            "in_flight_per_server" => limits.in_flight_per_server(size),
            "calls_waiting" => limits.calls_waiting(size),
            "metadata_len" => limits.metadata_len(size),
            "memory_in" => limits.memory_in(size),
            "stream_window" => limits.stream_window(size),
            "objects" => limits.objects(size),
            "stream_idle" => limits.stream_idle(time),
            "memory_out" => limits.memory_out(size),
            "memory_total" => limits.memory_total(size),
            "connections" => limits.connections(size),
            "hello_timeout" => limits.hello_timeout(time),
            "write_stall" => limits.write_stall(time),
            "ping_interval" => limits.ping_interval(time),
            "ping_timeout" => limits.ping_timeout(time),
            "deadline_default" => limits.deadline_default(time),
            "deadline_max" => limits.deadline_max(time),
            "drain_grace" => limits.drain_grace(time),
            "linger" => limits.linger(time),
            name => panic!("the suite knows no limit `{name}`"),
        }
    })
}

pub(crate) fn codecs(names: &[String]) -> Vec<CodecId> {
    names.iter().map(|name| *CodecId::SUPPORTED.iter().find(|codec| codec.name() == name).expect("a codec")).collect()
}

/// Where a server is to be found.
#[derive(Clone)]
pub(crate) enum Endpoint {
    Uri(String),
    /// The URI of a ring, to be connected to with blocks.
    InPlace(String),
    Duplex(Handing<DuplexStreamTransport>),
    Own(Handing<Own>),
    Pipe(Handing<PipeTransport>),
    /// A Unix socket that takes pipes.
    Pipes(PathBuf),
    /// A Unix socket whose stream is treated as any other.
    Path(PathBuf),
}

pub(crate) type DuplexStreamTransport = Over<DuplexStream>;

fn pipes() -> (PipeTransport, PipeTransport) {
    pipe::pair().expect("there are descriptors left")
}

fn duplex() -> (DuplexStreamTransport, DuplexStreamTransport) {
    let (here, there) = tokio::io::duplex(64 << 10);
    (Over::new(here), Over::new(there))
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Uri(uri) | Endpoint::InPlace(uri) => f.write_str(uri),
            Endpoint::Duplex(_) => f.write_str("a duplex stream"),
            Endpoint::Own(_) => f.write_str("a transport of our own"),
            Endpoint::Pipe(_) => f.write_str("pipes"),
            Endpoint::Pipes(path) => write!(f, "pipes to {}", path.display()),
            Endpoint::Path(path) => write!(f, "a stream to {}", path.display()),
        }
    }
}

impl Endpoint {
    pub(crate) async fn connect(&self, builder: ConnectionBuilder) -> Result<Connection, ConnectError> {
        match self {
            Endpoint::Uri(uri) => builder.connect(uri).await,
            Endpoint::InPlace(uri) => builder.connect_with(&in_place(uri)).await,
            Endpoint::Duplex(handing) => builder.connect_with(handing).await,
            Endpoint::Own(handing) => builder.connect_with(handing).await,
            Endpoint::Pipe(handing) => builder.connect_with(handing).await,
            Endpoint::Pipes(path) => builder.over_transport(connect_pipes(path)).await,
            Endpoint::Path(path) => builder.over(UnixStream::connect(path).await.expect("the socket is there")).await,
        }
    }

    /// A client that owns its connection, made the short way.
    pub(crate) async fn client(&self) -> Result<SuiteClient, ConnectError> {
        match self {
            Endpoint::Uri(uri) => SuiteClient::connect(uri).await,
            Endpoint::InPlace(uri) => SuiteClient::over_transport(in_place(uri).connect_transport().await?).await,
            Endpoint::Duplex(handing) => SuiteClient::over_transport(handing.connect_own()?).await,
            Endpoint::Own(handing) => SuiteClient::over_transport(handing.connect_own()?).await,
            Endpoint::Pipe(handing) => SuiteClient::over_transport(handing.connect_own()?).await,
            Endpoint::Pipes(path) => SuiteClient::over_transport(connect_pipes(path)).await,
            Endpoint::Path(path) => {
                SuiteClient::over(UnixStream::connect(path).await.expect("the socket is there")).await
            }
        }
    }

    /// A peer of the server's that says only what it is told to.
    pub(crate) async fn raw(&self) -> Box<dyn Raw> {
        match self {
            Endpoint::Uri(uri) | Endpoint::InPlace(uri) => match uri.split_once(':').expect("a URI") {
                ("mem", name) => raw(MemConnector::new(name).connect_transport().await.expect("it is there")),
                ("shm", path) => raw_ring(ShmConnector::new(path).connect_transport().await.expect("it is there")),
                ("unix", path) => raw(UnixConnector::new(path).connect_transport().await.expect("it is there")),
                (_, rest) => {
                    let address = rest.trim_start_matches("//");
                    raw(TcpConnector::new(address).connect_transport().await.expect("it is there"))
                }
            },
            Endpoint::Duplex(handing) => raw(handing.connect_own().expect("it is there")),
            Endpoint::Own(handing) => raw(handing.connect_own().expect("it is there")),
            Endpoint::Pipe(handing) => raw(handing.connect_own().expect("it is there")),
            Endpoint::Pipes(path) => raw(connect_pipes(path)),
            Endpoint::Path(path) => raw(Over::new(UnixStream::connect(path).await.expect("it is there"))),
        }
    }
}

fn in_place(uri: &str) -> ShmConnector {
    let connector = ShmConnector::new(uri.trim_start_matches("shm:")).blocks(3, 1 << 20);
    // SAFETY: the server is this very program, in which nobody writes to a message that was sent.
    #[allow(unsafe_code, reason = "vouches for the peer")]
    unsafe {
        connector.assume_peer_trusted()
    }
}

pub(crate) fn listen_in_place(path: &Path) -> Result<ShmListener, BindError> {
    // Few, since a server has to answer for its memory.
    let listener = ShmListener::builder(path).blocks(1, 64 << 10);
    // SAFETY: as above; raw peers have no blocks.
    #[allow(unsafe_code, reason = "vouches for the peers")]
    unsafe { listener.assume_peer_trusted() }.bind()
}

fn connect_pipes(path: &Path) -> PipeTransport {
    crate::pipes::connect(path).expect("the socket is there")
}

/// Accepts peers without shaking hands with them.
pub(crate) enum RawListener {
    Mem(MemListener),
    Unix(UnixListener),
    Shm(ShmListener),
    Tcp(TcpListener),
    Duplex(Handed<DuplexStreamTransport>),
    Own(Handed<Own>),
    Pipe(Handed<PipeTransport>),
}

impl RawListener {
    pub(crate) async fn next(&mut self) -> Box<dyn Raw> {
        match self {
            RawListener::Mem(listener) => raw(listener.accept_transport().await.expect("a client")),
            RawListener::Unix(listener) => raw(listener.accept_transport().await.expect("a client")),
            RawListener::Shm(listener) => raw_ring(listener.accept_transport().await.expect("a client")),
            RawListener::Tcp(listener) => raw(listener.accept_transport().await.expect("a client")),
            RawListener::Duplex(listener) => raw(listener.next().await.expect("a client")),
            RawListener::Own(listener) => raw(listener.next().await.expect("a client")),
            RawListener::Pipe(listener) => raw(listener.next().await.expect("a client")),
        }
    }
}

/// Streams of a Unix socket, of which nothing is known but that they carry bytes.
pub(crate) struct Streams {
    pub(crate) socket: tokio::net::UnixListener,
    pub(crate) path: PathBuf,
}

#[async_trait::async_trait]
impl Listener for Streams {
    async fn accept(&mut self) -> std::io::Result<Option<BoxTransport>> {
        let (stream, _) = self.socket.accept().await?;
        Ok(Some(BoxTransport::new(Over::new(stream))))
    }

    fn endpoint(&self) -> String {
        format!("path:{}", self.path.display())
    }
}

/// One case's transport and placement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixture {
    pub(crate) carrier: Carrier,
    pub(crate) placement: Placement,
}

impl Fixture {
    pub(crate) async fn serve(&self) -> Served {
        self.serve_with(Setup::default()).await
    }

    pub(crate) async fn serve_with(&self, setup: Setup) -> Served {
        let scratch = tempdir().expect("a directory of our own");
        let ledger = Ledger::open(&scratch.path().join("ledger"));
        let (endpoints, site) = if self.placement.is_one_process() {
            self.serve_here(&setup, &scratch, &ledger).await
        } else {
            let child = Child::start(self.carrier, self.placement.server_threads(), &setup, scratch.path());
            let (endpoints, child) = soon("the child's endpoints", child).await;
            (endpoints, Site::There(Mutex::new(child)))
        };
        let endpoints = endpoints.into_iter().map(|endpoint| match endpoint {
            Endpoint::Uri(uri) if self.carrier == Carrier::InPlace => Endpoint::InPlace(uri),
            endpoint => endpoint,
        });
        let endpoints = endpoints.collect();
        Served { endpoints, ledger, site, _scratch: scratch }
    }

    async fn serve_here(&self, setup: &Setup, scratch: &TempDir, ledger: &Ledger) -> (Vec<Endpoint>, Site) {
        let builder = server_builder(setup, ledger);
        let mut server: Option<Server> = None;
        let mut builder = Some(builder);
        let mut endpoints = Vec::new();
        for at in 0..setup.listeners {
            let (listener, handed_over) = self.listener(scratch.path(), at).await.expect("a listener");
            let grown = match (server.take(), builder.take()) {
                (Some(server), _) => server.listen(listener),
                (None, Some(builder)) => builder.listen(listener),
                (None, None) => unreachable!("one of them is there"),
            };
            let uri = grown.endpoints().pop().expect("an endpoint");
            endpoints.push(handed_over.unwrap_or(Endpoint::Uri(uri)));
            server = Some(grown);
        }
        let server = server.expect("a listener at least");
        let handle = server.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move { server.run_until(stopped).await });
        (endpoints, Site::Here { handle, task: Mutex::new(Some(task)), stop: Mutex::new(Some(stop)) })
    }

    /// A listener of the carrier's, and how to get to it where no URI leads there.
    async fn listener(&self, scratch: &Path, at: usize) -> Result<(Box<dyn Listener>, Option<Endpoint>), BindError> {
        Ok(match self.carrier {
            Carrier::Mem => (Box::new(MemListener::bind(name(scratch, at))?), None),
            Carrier::Unix => (Box::new(UnixListener::bind(scratch.join(format!("{at}.sock")))?), None),
            Carrier::Shm => (Box::new(ShmListener::bind(scratch.join(format!("{at}.sock")))?), None),
            Carrier::InPlace => (Box::new(listen_in_place(&scratch.join(format!("{at}.sock")))?), None),
            Carrier::Tcp => (Box::new(TcpListener::bind("127.0.0.1:0").await?), None),
            Carrier::Pipe => {
                let (listener, handing) = handed("pipe", pipes);
                (Box::new(listener), Some(Endpoint::Pipe(handing)))
            }
            Carrier::Over => {
                let (listener, handing) = handed("over", duplex);
                (Box::new(listener), Some(Endpoint::Duplex(handing)))
            }
            Carrier::Own => {
                let (listener, handing) = handed("own", Own::pair);
                (Box::new(listener), Some(Endpoint::Own(handing)))
            }
        })
    }

    /// A place where something other than a server of ours listens.
    pub(crate) async fn raw_listener(&self) -> (RawListener, Endpoint, TempDir) {
        assert!(self.placement.is_one_process(), "a raw peer is in the test's own process");
        let scratch = tempdir().expect("a directory of our own");
        let (listener, endpoint) = match self.carrier {
            Carrier::Mem => {
                let listener = MemListener::bind(name(scratch.path(), 0)).expect("a listener");
                let uri = listener.endpoint();
                (RawListener::Mem(listener), Endpoint::Uri(uri))
            }
            Carrier::Unix => {
                let listener = UnixListener::bind(scratch.path().join("0.sock")).expect("a listener");
                let uri = listener.endpoint();
                (RawListener::Unix(listener), Endpoint::Uri(uri))
            }
            Carrier::Shm => {
                let listener = ShmListener::bind(scratch.path().join("0.sock")).expect("a listener");
                let uri = listener.endpoint();
                (RawListener::Shm(listener), Endpoint::Uri(uri))
            }
            Carrier::InPlace => {
                let listener = listen_in_place(&scratch.path().join("0.sock")).expect("a listener");
                let uri = listener.endpoint();
                (RawListener::Shm(listener), Endpoint::InPlace(uri))
            }
            Carrier::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
                let uri = listener.endpoint();
                (RawListener::Tcp(listener), Endpoint::Uri(uri))
            }
            Carrier::Pipe => {
                let (listener, handing) = handed("pipe", pipes);
                (RawListener::Pipe(listener), Endpoint::Pipe(handing))
            }
            Carrier::Over => {
                let (listener, handing) = handed("over", duplex);
                (RawListener::Duplex(listener), Endpoint::Duplex(handing))
            }
            Carrier::Own => {
                let (listener, handing) = handed("own", Own::pair);
                (RawListener::Own(listener), Endpoint::Own(handing))
            }
        };
        (listener, endpoint, scratch)
    }
}

fn name(scratch: &Path, at: usize) -> String {
    format!("{}-{at}", scratch.file_name().expect("a name").to_string_lossy())
}

pub(crate) fn server_builder(setup: &Setup, ledger: &Ledger) -> trunkline::ServerBuilder {
    let named: Vec<(&str, u64)> = setup.limits.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let builder = Server::builder()
        .service(SuiteServer::new(Host { ledger: ledger.clone() }))
        .service(OtherServer::new(Neighbour))
        .service(FlowServer::new(Stage { ledger: ledger.clone() }))
        .service(ExchangeServer::new(Market::new(ledger.clone())))
        .service(NestServer::new(Twigs::new(ledger.clone())))
        .service(crate::cases::locks::service())
        .service(vault::service(ledger))
        .service(ErrandServer::new(Messenger))
        .limits(limits(&named));
    if setup.codecs.is_empty() { builder } else { builder.codecs(&codecs(&setup.codecs)) }
}

/// A server's accounts, as far as both a handle and another process can tell them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    pub(crate) connections: u64,
    pub(crate) calls_in_flight: u64,
    pub(crate) memory: u64,
    pub(crate) connections_refused: u64,
    pub(crate) protocol_errors: u64,
    pub(crate) timeouts: u64,
    /// On open and on ended connections.
    pub(crate) requests_accepted: u64,
    pub(crate) requests_refused: u64,
    pub(crate) handlers_panicked: u64,
    /// Open connections that are not at rest.
    pub(crate) busy: u64,
}

impl Accounts {
    pub(crate) fn of(handle: &ServerHandle) -> Accounts {
        let stats = handle.stats();
        let connections = handle.connections();
        Accounts {
            connections: stats.connections as u64,
            calls_in_flight: stats.calls_in_flight as u64,
            memory: stats.memory,
            connections_refused: stats.connections_refused,
            protocol_errors: stats.protocol_errors,
            timeouts: stats.timeouts,
            requests_accepted: stats.requests_accepted,
            requests_refused: stats.requests_refused,
            handlers_panicked: stats.handlers_panicked,
            busy: connections.iter().filter(|stats| !stats.is_at_rest()).count() as u64,
        }
    }

    fn is_at_rest(&self) -> bool {
        self.calls_in_flight == 0 && self.memory == 0 && self.busy == 0
    }

    pub(crate) fn to_line(&self) -> String {
        let Accounts { connections, calls_in_flight, memory, connections_refused, protocol_errors, .. } = self;
        let Accounts { timeouts, requests_accepted, requests_refused, handlers_panicked, busy, .. } = self;
        format!(
            "{connections} {calls_in_flight} {memory} {connections_refused} {protocol_errors} {timeouts} \
             {requests_accepted} {requests_refused} {handlers_panicked} {busy}"
        )
    }

    pub(crate) fn from_line(line: &str) -> Accounts {
        let mut numbers = line.split_whitespace().map(|number| number.parse().expect("a number"));
        let mut next = || numbers.next().expect("one more number");
        Accounts {
            connections: next(),
            calls_in_flight: next(),
            memory: next(),
            connections_refused: next(),
            protocol_errors: next(),
            timeouts: next(),
            requests_accepted: next(),
            requests_refused: next(),
            handlers_panicked: next(),
            busy: next(),
        }
    }
}

/// Nothing of a connection that has ended is left but its credit, which nobody can return any more.
pub(crate) fn is_over(connection: &Connection) {
    let stats = connection.stats();
    let calls = stats.calls_in_flight + stats.calls_waiting + stats.handlers_in_flight;
    assert!(calls == 0 && stats.memory_in == 0 && stats.memory_out == 0, "{stats:?}");
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) connections: u64,
    pub(crate) calls_cut: u64,
    pub(crate) elapsed: Duration,
}

impl From<DrainReport> for Report {
    fn from(report: DrainReport) -> Report {
        Report { connections: report.connections as u64, calls_cut: report.calls_cut as u64, elapsed: report.elapsed }
    }
}

/// A server that runs.
pub(crate) struct Served {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) ledger: Ledger,
    site: Site,
    _scratch: TempDir,
}

enum Site {
    Here {
        handle: ServerHandle,
        task: Mutex<Option<JoinHandle<DrainReport>>>,
        /// Its drop stops the server as well.
        stop: Mutex<Option<oneshot::Sender<()>>>,
    },
    There(Mutex<Child>),
}

impl Served {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoints[0]
    }

    /// A connection with default limits.
    pub(crate) async fn connect(&self) -> Connection {
        self.connect_with(Connection::builder()).await
    }

    pub(crate) async fn connect_with(&self, builder: ConnectionBuilder) -> Connection {
        soon("a connection", self.endpoint().connect(builder)).await.expect("a connection")
    }

    /// A connection with limits changed by name, and a client on it.
    pub(crate) async fn suite_with(&self, named: &[(&str, u64)]) -> (Connection, SuiteClient) {
        let connection = self.connect_with(Connection::builder().limits(limits(named))).await;
        let suite = connection.client();
        (connection, suite)
    }

    /// A connection and a client on it.
    pub(crate) async fn suite(&self) -> (Connection, SuiteClient) {
        self.suite_with(&[]).await
    }

    pub(crate) async fn accounts(&self) -> Accounts {
        match &self.site {
            Site::Here { handle, .. } => Accounts::of(handle),
            Site::There(child) => child.lock().await.accounts().await,
        }
    }

    /// Waits until every account of the server's and of `connection` is back to zero.
    pub(crate) async fn rests_with(&self, connection: &Connection) {
        let mut last = String::new();
        let rest = async {
            loop {
                let (here, there) = (connection.stats(), self.accounts().await);
                if here.is_at_rest() && there.is_at_rest() {
                    return;
                }
                last = format!("{here:?}, {there:?}");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(crate::harness::GUARD, rest).await.is_err() {
            panic!("not at rest: {last}");
        }
    }

    /// Waits until the server has this many connections and is at rest.
    pub(crate) async fn rests_at(&self, connections: u64) {
        until(&format!("{connections} connections, at rest"), async || {
            let accounts = self.accounts().await;
            accounts.connections == connections && accounts.is_at_rest()
        })
        .await;
    }

    /// Tells the server to drain.
    pub(crate) async fn begin_shutdown(&self) {
        match &self.site {
            Site::Here { stop, .. } => drop(stop.lock().await.take()),
            Site::There(child) => child.lock().await.begin_shutdown(),
        }
    }

    /// Waits for the drain to end.
    pub(crate) async fn report(&self) -> Report {
        match &self.site {
            Site::Here { task, .. } => {
                let task = task.lock().await.take().expect("the first report");
                soon("the drain's end", task).await.expect("the server ends well").into()
            }
            Site::There(child) => soon("the drain's end", child.lock().await.report()).await,
        }
    }

    /// Drops the server's future, without a drain.
    pub(crate) async fn drop_server(&self) {
        match &self.site {
            Site::Here { task, .. } => task.lock().await.take().expect("it runs").abort(),
            Site::There(_) => panic!("this server is in another process"),
        }
    }

    /// Kills the server's process.
    pub(crate) async fn kill(&self) {
        match &self.site {
            Site::Here { .. } => panic!("this server is in the test's own process"),
            Site::There(child) => child.lock().await.kill(),
        }
    }
}
