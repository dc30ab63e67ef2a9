//! Layers around all services of a builder: their order, what they see, and where they may stand.

use std::sync::{Arc, Mutex};

use trunkline::descriptor::ServiceDescriptor;
use trunkline::layer::{Answer, CallLayer, EndedCall, Layer, Next, OutgoingCall, Refusal, Request};
use trunkline::{CallError, Connection, Context, Execution, Limit, Reason, Server, Service, Stream};

#[trunkline::service]
trait Kv {
    async fn get(&self, key: &str) -> Result<String, String>;
    async fn panic(&self);
    async fn numbers(&self) -> impl Stream<Item = u8>;
    #[rpc(blocking)]
    async fn block(&self) -> u8;
    async fn ask_back(&self, cx: &Context) -> Result<u8, String>;
}

#[trunkline::service]
trait Admin {
    async fn stop(&self) -> u8;
}

struct Store;

impl Kv for Store {
    async fn get(&self, key: &str) -> Result<String, String> {
        if key.is_empty() { Err("no key".to_owned()) } else { Ok(key.to_owned()) }
    }

    async fn panic(&self) {
        panic!("as it was asked to");
    }

    async fn numbers(&self) -> impl Stream<Item = u8> {
        Numbers(0..3)
    }

    async fn block(&self) -> u8 {
        1
    }

    async fn ask_back(&self, cx: &Context) -> Result<u8, String> {
        cx.peer().client::<AdminClient>().stop().await.map_err(|error| error.to_string())
    }
}

impl Admin for Store {
    async fn stop(&self) -> u8 {
        0
    }
}

struct Numbers(std::ops::Range<u8>);

impl Stream for Numbers {
    type Item = u8;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<u8>> {
        std::task::Poll::Ready(self.0.next())
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Notes what goes in and what comes out.
struct Noting(&'static str, Log);

impl Layer for Noting {
    async fn call<S: Service>(&self, request: &Request, next: Next<'_, S>) -> Result<Answer, Refusal> {
        struct Left<'a>(&'a Noting);
        impl Drop for Left<'_> {
            fn drop(&mut self) {
                self.0.1.note(format!("{} left", self.0.0));
            }
        }
        let _left = Left(self);
        let method = request.method();
        self.1.note(format!("{} {}.{} of {} bytes", self.0, method.service, method.name, request.payload().len()));
        let answered = next.run().await;
        self.1.note(match &answered {
            Ok(answer) if answer.is_err() => format!("{} error", self.0),
            Ok(answer) => format!("{} {} bytes", self.0, answer.payload_len()),
            Err(refusal) => format!("{} {:?} {}", self.0, refusal.execution(), refusal.reason()),
        });
        answered
    }
}

/// Lets nobody stop anything, and nobody get `too much`.
struct Strict;

impl Layer for Strict {
    async fn call<S: Service>(&self, request: &Request, next: Next<'_, S>) -> Result<Answer, Refusal> {
        // Layers may wait for something.
        tokio::task::yield_now().await;
        match request.method().name {
            "stop" => Err(Refusal::new(Reason::PermissionDenied)),
            "get" if request.payload().ends_with(b"too much") => {
                Err(Refusal::new(Reason::Overloaded { limit: Limit::Application }))
            }
            _ => next.run().await,
        }
    }
}

fn layered(log: &Log) -> Connection {
    let server = Server::builder()
        .layer(Noting("outer", log.clone()))
        .layer(Strict)
        .layer(Noting("inner", log.clone()))
        .service(KvServer::new(Store))
        .service(AdminServer::new(Store));
    Connection::builder().local(server).unwrap()
}

#[tokio::test]
async fn layers_are_around_every_call_of_every_service_in_order() {
    let log = Log::default();
    let connection = layered(&log);
    let (kv, admin): (KvClient, AdminClient) = (connection.client(), connection.client());
    assert_eq!(kv.get("key").await.as_deref(), Ok("key"));
    let all = ["outer Kv.get of 11 bytes", "inner Kv.get of 11 bytes", "inner 11 bytes", "inner left"];
    assert_eq!(log.take(), [&all[..], &["outer 11 bytes", "outer left"]].concat());
    assert_eq!(kv.get("").await, Err(CallError::App("no key".to_owned())));
    assert_eq!(log.take()[2..4], ["inner error", "inner left"]);
    assert_eq!(admin.stop().await, Err(CallError::NotExecuted(Reason::PermissionDenied)));
    let refused = ["outer Admin.stop of 0 bytes", "outer NotExecuted permission denied", "outer left"];
    assert_eq!(log.take(), refused);
    assert_eq!(kv.block().await, Ok(1));
    assert_eq!(log.take().len(), 6);
}

#[tokio::test]
async fn a_limit_of_the_services_own_may_pass() {
    let error = layered(&Log::default()).client::<KvClient>().get("too much").await.unwrap_err();
    assert_eq!(error.reason(), Some(&Reason::Overloaded { limit: Limit::Application }));
    assert_eq!((error.execution(), error.is_retryable()), (Execution::NotExecuted, true));
    assert_eq!(error.to_string(), "not executed: overloaded: a limit of the service's own is reached");
}

/// Says of every call that it has not been made, when it has.
struct Liar(AdminServer<Store>);

impl Service for Liar {
    fn descriptor(&self) -> &'static ServiceDescriptor {
        self.0.descriptor()
    }

    async fn call(&self, request: &Request) -> Result<Answer, Refusal> {
        self.0.call(request).await?;
        Err(Refusal::new(Reason::PermissionDenied))
    }
}

#[tokio::test]
async fn nobody_around_a_service_can_say_that_it_did_not_run() {
    let server = Server::builder().service(Liar(AdminServer::new(Store)));
    let connection = Connection::builder().local(server).unwrap();
    assert_eq!(
        connection.client::<AdminClient>().stop().await,
        Err(CallError::MaybeExecuted(Reason::PermissionDenied))
    );
}

#[trunkline::service]
trait Doors {
    async fn open(&self) -> AdminClient;
}

/// Hands out what knows how often it is there.
struct House(Arc<()>);

impl Doors for House {
    async fn open(&self) -> AdminClient {
        AdminClient::local(AdminServer::new(House(Arc::clone(&self.0))))
    }
}

impl Admin for House {
    async fn stop(&self) -> u8 {
        1
    }
}

/// Throws replies away; or fails, with one in hand.
struct Closed {
    panics: bool,
}

impl Layer for Closed {
    async fn call<S: Service>(&self, _: &Request, next: Next<'_, S>) -> Result<Answer, Refusal> {
        let _answer = next.run().await?;
        assert!(!self.panics, "as it was told to");
        Err(Refusal::new(Reason::PermissionDenied))
    }
}

#[tokio::test]
async fn what_a_reply_hands_over_goes_with_it_where_a_layer_throws_it_away() {
    for (panics, reason) in [(false, Reason::PermissionDenied), (true, Reason::Panicked)] {
        let house = Arc::new(());
        let doors = DoorsServer::new(House(Arc::clone(&house)));
        let server = Server::builder().layer(Closed { panics }).service(doors);
        let connection = Connection::builder().local(server).unwrap();
        let opened = connection.client::<DoorsClient>().open().await;
        assert_eq!(opened.err(), Some(CallError::MaybeExecuted(reason)));
        // The house itself, and this.
        assert_eq!(Arc::strong_count(&house), 2);
    }
}

#[tokio::test]
async fn a_panic_goes_through_the_layers() {
    let log = Log::default();
    let connection = layered(&log);
    assert_eq!(connection.client::<KvClient>().panic().await, Err(CallError::MaybeExecuted(Reason::Panicked)));
    assert_eq!(log.take()[2..], ["inner left", "outer left"]);
    assert_eq!(connection.client::<KvClient>().get("a").await.as_deref(), Ok("a"));
}

#[tokio::test]
async fn a_layer_lasts_as_long_as_the_streams_of_its_call() {
    let log = Log::default();
    let connection = layered(&log);
    let mut numbers = connection.client::<KvClient>().numbers().await.unwrap();
    let mut sum = 0;
    while let Some(n) = numbers.next().await {
        sum += n.unwrap();
    }
    assert_eq!(sum, 3);
    let lines = log.take();
    assert_eq!(lines[0], "outer Kv.numbers of 0 bytes");
    assert_eq!(lines.last().unwrap(), "outer left");
}

#[tokio::test]
async fn the_services_of_a_connection_have_layers_too() {
    let log = Log::default();
    let server = Server::builder().service(KvServer::new(Store));
    let builder =
        Connection::builder().layer(Noting("home", log.clone())).layer(Strict).service(AdminServer::new(Store));
    let connection = builder.clone().local(server).unwrap();
    let refused = connection.client::<KvClient>().ask_back().await;
    assert_eq!(refused, Err(CallError::App("not executed: permission denied".to_owned())));
    assert_eq!(log.take()[0], "home Admin.stop of 0 bytes");
}

/// Refuses every call.
struct Nothing;

impl CallLayer for Nothing {
    fn begin(&self, call: &mut OutgoingCall<'_>) -> Result<(), Reason> {
        assert_eq!(call.peer().to_string(), "this process");
        Err(Reason::PermissionDenied)
    }

    fn end(&self, _: &EndedCall<'_>) {
        unreachable!("nothing was let pass");
    }
}

#[tokio::test]
async fn the_calls_of_handlers_go_through_the_servers_call_layers() {
    let server = Server::builder().call_layer(Nothing).service(KvServer::new(Store));
    let connection = Connection::builder().service(AdminServer::new(Store)).local(server).unwrap();
    let kv: KvClient = connection.client();
    assert_eq!(kv.get("a").await.as_deref(), Ok("a"));
    assert_eq!(kv.ask_back().await, Err(CallError::App("not executed: permission denied".to_owned())));
}

#[test]
#[should_panic(expected = "call `layer` before `service`")]
fn a_layer_after_a_service_is_a_mistake() {
    let _ = Server::builder().service(KvServer::new(Store)).layer(Strict);
}

#[test]
#[should_panic(expected = "call `layer` before `service`")]
fn a_layer_after_a_service_of_a_connection_is_a_mistake() {
    let _ = Connection::builder().service(KvServer::new(Store)).layer(Strict);
}
