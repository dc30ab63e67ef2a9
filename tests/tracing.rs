//! Spans on both sides of a call, in two processes that have nothing in common but the wire.
#![cfg(feature = "tracing")]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{Debug, Write as _};
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use trunkline::{CallError, Connection, Context, MetadataKey, Reason, TraceContext};

const TOKEN: MetadataKey = MetadataKey::secret("token");

#[trunkline::service]
trait Remote {
    async fn quick(&self, word: &str) -> String;
    async fn fail(&self) -> Result<u32, String>;
    async fn panic(&self);
    async fn never(&self);
    /// Calls `quick` of its caller.
    async fn back(&self, cx: &Context) -> Option<String>;
}

struct Spoken;

impl Remote for Spoken {
    async fn quick(&self, word: &str) -> String {
        word.to_owned()
    }

    async fn fail(&self) -> Result<u32, String> {
        Err("a private matter".to_owned())
    }

    async fn panic(&self) {
        panic!("as it was asked to");
    }

    async fn never(&self) {
        std::future::pending().await
    }

    async fn back(&self, cx: &Context) -> Option<String> {
        tokio::task::yield_now().await;
        cx.peer().client::<RemoteClient>().quick("there").await.ok()
    }
}

/// A span that has been closed.
#[derive(Clone, Debug, Default, PartialEq)]
struct Closed(BTreeMap<String, String>);

impl Closed {
    fn get(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }

    fn trace_id(&self) -> &str {
        assert_eq!(self.get("trace_id").len(), 32, "{self:?}");
        self.get("trace_id")
    }

    fn to_line(&self) -> String {
        self.0.iter().fold(String::from("span"), |mut line, (name, value)| {
            let _ = write!(line, "\x1f{name}\x1e{value}");
            line
        })
    }

    fn from_line(line: &str) -> Closed {
        let fields = line.split('\x1f').skip(1).filter_map(|field| field.split_once('\x1e'));
        Closed(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl Visit for Closed {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

/// Hands on every span of the library's that has been closed.
struct Collector {
    next: AtomicU64,
    /// With how many hold it.
    open: Mutex<HashMap<u64, (usize, Closed)>>,
    closed: Mutex<mpsc::Sender<Closed>>,
}

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Collector {
    fn start() -> mpsc::Receiver<Closed> {
        let (sender, closed) = mpsc::channel();
        let collector = Collector { next: AtomicU64::new(1), open: Mutex::default(), closed: Mutex::new(sender) };
        tracing::subscriber::set_global_default(collector).expect("the first");
        closed
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, (usize, Closed)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "trunkline" || metadata.target() == "test"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut span = Closed::default();
        attributes.record(&mut span);
        span.0.insert("name".to_owned(), attributes.metadata().name().to_owned());
        let mut open = self.open();
        let above = ENTERED.with_borrow(|entered| entered.last().copied()).filter(|_| attributes.is_contextual());
        if let Some((_, above)) = above.and_then(|above| open.get(&above)) {
            let above = format!("{} {}", above.get("name"), above.get("span_id"));
            span.0.insert("inside".to_owned(), above);
        }
        open.insert(id, (1, span));
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        if let Some((_, span)) = self.open().get_mut(&id.into_u64()) {
            values.record(span);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(id.into_u64()));
    }

    fn exit(&self, _: &Id) {
        ENTERED.with_borrow_mut(Vec::pop);
    }

    fn clone_span(&self, id: &Id) -> Id {
        if let Some((held, _)) = self.open().get_mut(&id.into_u64()) {
            *held += 1;
        }
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut open = self.open();
        let Some((held, _)) = open.get_mut(&id.into_u64()) else {
            return false;
        };
        *held -= 1;
        if *held > 0 {
            return false;
        }
        let closed = open.remove(&id.into_u64()).map(|(_, span)| span);
        drop(open);
        let sender = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.into_iter().for_each(|span| drop(sender.send(span)));
        true
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// What the second process runs: not a test, unless it is told where to serve. It says which spans it has seen.
#[test]
fn server_process() {
    let Ok(uri) = std::env::var("TRUNKLINE_TRACING_SERVE") else {
        return;
    };
    let closed = Collector::start();
    std::thread::spawn(move || closed.into_iter().for_each(|span| println!("\n{}", span.to_line())));
    run(async {
        let server =
            trunkline::Server::builder().service(RemoteServer::new(Spoken)).bind(uri).await.expect("it is free");
        println!("\nserving");
        server.run().await;
    });
}

struct Server {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start(uri: &str) -> Server {
        let mut process = Command::new(std::env::current_exe().expect("this test has a path"))
            .args(["--exact", "server_process", "--nocapture"])
            .env("TRUNKLINE_TRACING_SERVE", uri)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test can be run");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let mut server = Server { process, lines };
        server.line("serving");
        server
    }

    fn line(&mut self, begin: &str) -> String {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        lines.find(|line| line.starts_with(begin)).expect("the server says it")
    }

    fn next(&mut self) -> Closed {
        Closed::from_line(&self.line("span"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A call and its handler.
#[track_caller]
fn check(call: &Closed, handle: &Closed, method: &str, outcome: &str) {
    for (span, name, kind) in [(call, "call", "client"), (handle, "handle", "server")] {
        assert_eq!((span.get("name"), span.get("otel.kind")), (name, kind));
        assert_eq!((span.get("rpc.service"), span.get("rpc.method")), ("Remote", method));
        assert_eq!(span.get("otel.name"), format!("Remote.{method}"));
        assert_eq!((span.get("rpc.system"), span.get("network.transport")), ("trunkline", "unix"));
        assert!(span.get("peer").starts_with("pid "), "{span:?}");
        assert_eq!(span.get("outcome"), outcome, "{span:?}");
        assert_eq!(span.get("span_id").len(), 16);
    }
    assert_eq!(handle.trace_id(), call.trace_id());
    assert_eq!(handle.get("parent_id"), call.get("span_id"));
    assert_ne!(handle.get("span_id"), call.get("span_id"));
}

/// One test: a process has one subscriber.
#[test]
fn spans_are_joined_across_processes() {
    let directory = tempfile::tempdir().expect("a directory of our own");
    let uri = format!("unix:{}/s", directory.path().display());
    let closed = Collector::start();
    let mut server = Server::start(&uri);
    let here = || closed.recv_timeout(Duration::from_secs(20)).expect("a span");
    run(async {
        let builder = Connection::builder().service(RemoteServer::new(Spoken));
        let connection = builder.connect(&uri).await.expect("the server is there");
        let client: RemoteClient = connection.client();

        // A call begins a trace; nothing private is shown.
        let said = client.quick("whisper").metadata(TOKEN, "hush").await;
        assert_eq!(said.as_deref(), Ok("whisper"));
        let (call, handle) = (here(), server.next());
        check(&call, &handle, "quick", "ok");
        assert_eq!((call.get("parent_id"), call.get("inside"), handle.get("inside")), ("", "", ""));
        let first = call.trace_id().to_owned();
        assert!([&call, &handle].iter().all(|span| !format!("{span:?}").contains("hush")));
        assert!([&call, &handle].iter().all(|span| !format!("{span:?}").contains("whisper")));

        // Outcomes.
        assert_eq!(client.fail().await, Err(CallError::App("a private matter".to_owned())));
        let (call, handle) = (here(), server.next());
        check(&call, &handle, "fail", "error");
        assert_ne!(call.trace_id(), first);
        assert!(client.panic().await.is_err());
        check(&here(), &server.next(), "panic", "maybe executed: the handler panicked");
        let mut never = Box::pin(client.never().into_future());
        tokio::select! {
            biased;
            _ = &mut never => unreachable!("it never ends"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        drop(never);
        let (call, handle) = (here(), server.next());
        assert_eq!((call.get("outcome"), handle.get("outcome")), ("cancelled", "maybe executed: cancelled"));
        let late = client.quick("").timeout(Duration::ZERO).await;
        assert_eq!(late, Err(CallError::NotExecuted(Reason::DeadlineExceeded)));

        // A trace of the program's own goes through both directions, and sent calls are no different.
        let trace = TraceContext::root();
        let span = tracing::info_span!(target: "test", "mine", span_id = "7");
        let back = tracing::Instrument::instrument(trace.scope(client.back().send()), span);
        let back = back.await.expect("it is sent").await;
        assert_eq!(back, Ok(Some("there".to_owned())));
        // In the order in which they end: the handler here, the call there, its handler there, the call here.
        let (inner_handle, inner_call) = (next_but(&here, "mine"), server.next());
        check(&inner_call, &inner_handle, "quick", "ok");
        let (outer_handle, outer_call) = (server.next(), next_but(&here, "mine"));
        check(&outer_call, &outer_handle, "back", "ok");
        assert_eq!(outer_call.trace_id(), format!("{:032x}", trace.trace_id()));
        assert_eq!(outer_call.get("parent_id"), format!("{:016x}", trace.parent_id()));
        assert_eq!(outer_call.get("inside"), "mine 7");
        assert_eq!(inner_call.trace_id(), outer_call.trace_id());
        assert_eq!(inner_call.get("parent_id"), outer_handle.get("span_id"));
        assert_eq!(inner_call.get("inside"), format!("handle {}", outer_handle.get("span_id")));
    });
}

/// The next span but those of the test's own.
fn next_but(next: &impl Fn() -> Closed, name: &str) -> Closed {
    loop {
        let span = next();
        if span.get("name") != name {
            return span;
        }
    }
}
