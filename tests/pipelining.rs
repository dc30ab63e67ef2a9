//! Pipelining beside everything else that a call may have: `local`, layers on either side, metadata, handlers that do it, and
//! clients that are kept.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trunkline::__private::Fallible;
use trunkline::layer::{Answer, CallLayer, CallOutcome, EndedCall, Layer, Next, OutgoingCall, Refusal, Request};
use trunkline::{
    CallError, Connection, Context, Limits, NoResult, Opened, Pipelined, Reason, Server, Service, ServiceClient,
};

#[trunkline::service]
trait Shop {
    async fn shelf(&self, name: &str, cx: &Context) -> Result<ShelfClient, String>;
    /// Opens one at its caller's, and takes something from it.
    async fn order(&self, name: &str, cx: &Context) -> Result<String, String>;
}

#[trunkline::service]
trait Shelf {
    async fn take(&self, cx: &Context) -> String;
    async fn drawer(&self, name: &str) -> ShelfClient;
    async fn mend(&self, with: ShelfClient) -> ShelfClient;
}

struct Corner;

struct Wood(String);

impl Shop for Corner {
    async fn shelf(&self, name: &str, cx: &Context) -> Result<ShelfClient, String> {
        // Whatever waits for it is to wait for a while.
        tokio::task::yield_now().await;
        if cx.metadata().get("sold-out").is_some() {
            std::future::pending::<()>().await;
        }
        match cx.metadata().get("closed") {
            None => Ok(shelf(name)),
            Some(why) => Err(why.to_owned()),
        }
    }

    async fn order(&self, name: &str, cx: &Context) -> Result<String, String> {
        let theirs: ShopClient = cx.peer().client();
        let shelf = theirs.shelf(name).pipelined();
        shelf.drawer("top").pipelined().take().await.map_err(|error| error.to_string())
    }
}

fn shelf(name: &str) -> ShelfClient {
    ShelfClient::local(ShelfServer::new(Wood(name.to_owned())))
}

impl Shelf for Wood {
    async fn take(&self, cx: &Context) -> String {
        format!("{}{}", self.0, cx.metadata().get("more").unwrap_or_default())
    }

    async fn drawer(&self, name: &str) -> ShelfClient {
        shelf(&format!("{}/{name}", self.0))
    }

    async fn mend(&self, with: ShelfClient) -> ShelfClient {
        with
    }
}

#[tokio::test]
async fn it_holds_within_a_process() {
    let shop = ShopClient::local(ShopServer::new(Corner));
    let shelf = shop.shelf("tea").pipelined();
    let drawer = shelf.drawer("top").pipelined();
    assert_eq!(drawer.take().metadata("more", "!").await, Ok("tea/top!".to_owned()));
    let drawer = drawer.await.expect("it is there");
    assert_eq!(drawer.take().await, Ok("tea/top".to_owned()));
    let closed = shop.shelf("tea").metadata("closed", "on sundays").pipelined();
    assert_eq!(closed.take().await, Err(CallError::NotExecuted(Reason::NoResult(NoResult::App))));
    assert_eq!(closed.await.map(drop), Err(CallError::App("on sundays".to_owned())));
    // Of a client that is itself an object of this process.
    drop((shop, shelf));
    assert_eq!(drawer.drawer("left").pipelined().take().await, Ok("tea/top/left".to_owned()));
}

#[test]
fn a_plain_thread_needs_no_runtime() {
    let shop = ShopClient::local(ShopServer::new(Corner));
    let (shelf, outcome) = Pipelined::split(shop.shelf("tea").pipelined());
    assert_eq!(shelf.drawer("top").pipelined().take().wait(), Ok("tea/top".to_owned()));
    assert_eq!(outcome.wait().expect("it is there").take().wait(), Ok("tea".to_owned()));
}

/// Clients are kept in whatever a program has, and go to other threads.
struct Kept {
    shelf: ShelfClient,
    opened: Opened<Fallible<Result<ShelfClient, String>>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_kept_and_sent() {
    let shop = ShopClient::local(ShopServer::new(Corner));
    let (shelf, opened) = Pipelined::split(shop.shelf("tea").pipelined());
    let kept = Kept { shelf, opened };
    let task = tokio::spawn(async move {
        let Kept { shelf, opened } = kept;
        let itself = opened.await.expect("it is there");
        (shelf.take().await, itself.take().await)
    });
    assert_eq!(task.await.expect("no panic"), (Ok("tea".to_owned()), Ok("tea".to_owned())));
}

#[tokio::test]
async fn what_a_call_that_is_not_made_would_have_handed_over_is_let_go_of() {
    let shop = ShopClient::local(ShopServer::new(Corner));
    let closed = shop.shelf("tea").metadata("closed", "on sundays").pipelined();
    let no_result = Err(CallError::NotExecuted(Reason::NoResult(NoResult::App)));
    assert_eq!(closed.take().await, no_result);
    // Nothing else happens on the connection.
    let board = shelf("board");
    let mended = closed.mend(board.clone()).pipelined();
    assert_eq!(shop.connection().stats().objects_exported, 0);
    board.released().await;
    assert_eq!(mended.await.map(drop), no_result.map(drop));
}

/// Throws away what handlers have returned, and hears what callers do.
#[derive(Clone, Default)]
struct Watch {
    thrown: Arc<AtomicU32>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Layer for Watch {
    async fn call<S: Service>(&self, request: &Request, next: Next<'_, S>) -> Result<Answer, Refusal> {
        match request.context().metadata().get("layer") {
            Some("before") => return Err(Refusal::new(Reason::PermissionDenied)),
            Some("after") => {
                next.run().await?;
                self.thrown.fetch_add(1, Ordering::Relaxed);
                return Err(Refusal::new(Reason::PermissionDenied));
            }
            _ => {}
        }
        next.run().await
    }
}

impl CallLayer for Watch {
    fn begin(&self, call: &mut OutgoingCall<'_>) -> Result<(), Reason> {
        if call.metadata().get("layer") == Some("here") { Err(Reason::PermissionDenied) } else { Ok(()) }
    }

    fn end(&self, call: &EndedCall<'_>) {
        let outcome = match call.outcome() {
            CallOutcome::Ok => "ok",
            CallOutcome::NotExecuted(Reason::NoResult(_)) => "no result",
            CallOutcome::NotExecuted(_) => "not executed",
            CallOutcome::MaybeExecuted(_) => "maybe executed",
            CallOutcome::Dropped => "dropped",
            _ => "other",
        };
        self.heard.lock().expect("nobody panics with it").push(format!("{} {outcome}", call.method().name));
    }
}

#[tokio::test]
async fn layers_see_it_on_either_side() {
    let watch = Watch::default();
    let server = Server::builder().layer(watch.clone()).service(ShopServer::new(Corner));
    let connection = Connection::builder().call_layer(watch.clone()).local(server).expect("they agree");
    let shop: ShopClient = connection.client();
    let denied = || NoResult::Failed(Box::new(Reason::PermissionDenied));
    for (layer, outcome) in [
        ("before", CallError::NotExecuted(Reason::PermissionDenied)),
        ("after", CallError::MaybeExecuted(Reason::PermissionDenied)),
        ("here", CallError::NotExecuted(Reason::PermissionDenied)),
    ] {
        let shelf = shop.shelf("tea").metadata("layer", layer).pipelined();
        let taken = shelf.take().await;
        assert_eq!(taken, Err(CallError::NotExecuted(Reason::NoResult(denied()))), "{layer}");
        assert_eq!(shelf.await.map(drop), Err(outcome), "{layer}");
    }
    assert_eq!(watch.thrown.load(Ordering::Relaxed), 1);
    assert_eq!(shop.shelf("tea").pipelined().take().await, Ok("tea".to_owned()));
    drop(shop.shelf("tea").pipelined());
    let heard = std::mem::take(&mut *watch.heard.lock().expect("nobody panics with it"));
    let expected = [
        ["shelf not executed", "take no result"].as_slice(),
        &["shelf maybe executed", "take no result"],
        // The layer itself has refused the call, and hears no more of it; and the other is not made.
        &["take no result"],
        &["shelf ok", "take ok", "shelf dropped"],
    ]
    .concat();
    assert_eq!(heard, expected);
}

/// Fails whenever it is told of an end.
struct Clumsy;

impl CallLayer for Clumsy {
    fn end(&self, call: &EndedCall<'_>) {
        panic!("told of {}", call.method().name);
    }
}

#[tokio::test]
async fn a_layer_that_panics_leaves_nobody_waiting() {
    let server = Server::builder().service(ShopServer::new(Corner));
    let connection = Connection::builder().call_layer(Clumsy).local(server).expect("they agree");
    let shop: ShopClient = connection.client();
    let shelf = shop.shelf("tea").pipelined();
    let (drawer, opened) = Pipelined::split(shelf.drawer("top").pipelined());
    let both = async { (shelf.await.is_ok(), opened.await.is_ok()) };
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), both).await, Ok((true, true)));
    // Nor does it matter that it panics again where all of it is dropped.
    let inner = drawer.drawer("left").pipelined().drawer("back").pipelined();
    drop((drawer, inner));
}

/// Longer than any stack is deep.
const LEVELS: usize = 100_000;

#[tokio::test]
async fn a_row_may_be_longer_than_the_stack_is_deep() {
    let limits = Limits::default().in_flight_per_connection(1);
    let server = Server::builder().limits(limits).service(ShopServer::new(Corner));
    let connection = Connection::builder().local(server).expect("they agree");
    let shop: ShopClient = connection.client();
    let row = || {
        let first = shop.shelf("tea").timeout(Duration::from_millis(1)).pipelined();
        let mut last = (*first).clone();
        for _ in 0..LEVELS {
            last = (*last.drawer("top").pipelined()).clone();
        }
        (first, last)
    };
    let _waits = shop.shelf("tea").metadata("sold-out", "for ever").send().await.expect("it has the only place");
    // All of it fails with the first; or is dropped while it waits.
    let (first, last) = row();
    drop(row());
    assert_eq!(first.await.map(drop), Err(CallError::NotExecuted(Reason::DeadlineExceeded)));
    let why = NoResult::Failed(Box::new(Reason::DeadlineExceeded));
    assert_eq!(last.take().await, Err(CallError::NotExecuted(Reason::NoResult(why))));
}

#[tokio::test]
async fn handlers_do_it_too() {
    let server = Server::builder().service(ShopServer::new(Corner));
    let connection = Connection::builder().service(ShopServer::new(Corner)).local(server).expect("they agree");
    let shop: ShopClient = connection.client();
    assert_eq!(shop.order("tea").await, Ok("tea/top".to_owned()));
}
