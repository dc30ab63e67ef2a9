//! What is done around calls, on either side.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use trunkline::codec::DecodeError;
use trunkline::layer::{CallLayer, CallOutcome, EndedCall, OutgoingCall};
use trunkline::{CallError, Connection, MetadataError, Reason};

use crate::errand::{Beside, ErrandClient};
use crate::fixture::{Fixture, Served};
use crate::harness::{on_plain_thread, soon};
use crate::ledger::{Mark, token};
use crate::service::{Liar, SuiteClient, SuiteError};
use crate::vault::{STAYED, VaultClient};

pub(crate) async fn a_layer_refuses_before_arguments_are_decoded(fixture: Fixture) {
    let served = fixture.serve().await;
    let connection = served.connect().await;
    let vault: VaultClient = connection.client();
    let (first, second) = (token(), token());
    let denied = || Err(CallError::NotExecuted(Reason::PermissionDenied));
    assert_eq!(soon("an answer", vault.open(first)).await, denied());
    assert_eq!(soon("an answer", vault.force(second, Liar)).await, denied());
    assert_eq!(vault.log_in(token(), "ada").await, Ok(None));
    assert_eq!(soon("an answer", vault.open(first)).await, Ok(first));
    let undecodable = Reason::InvalidArguments { argument: 1, why: DecodeError::Malformed };
    assert_eq!(soon("an answer", vault.force(second, Liar)).await, Err(CallError::NotExecuted(undecodable)));
    assert_eq!((served.ledger.executions(first), served.ledger.executions(second)), (1, 0));
    served.rests_with(&connection).await;
}

pub(crate) async fn what_a_layer_refuses_afterwards_may_have_run(fixture: Fixture) {
    let served = fixture.serve().await;
    let connection = served.connect().await;
    let call = token();
    let outcome = soon("an answer", connection.client::<VaultClient>().regret(call)).await;
    assert_eq!(outcome, Err(CallError::MaybeExecuted(Reason::PermissionDenied)));
    assert_eq!(served.ledger.executions(call), 1);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_layer_goes_with_its_call(fixture: Fixture) {
    let served = fixture.serve().await;
    let connection = served.connect().await;
    let vault: VaultClient = connection.client();
    let call = token();
    let pending = vault.stay(call).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, call).await;
    assert_eq!(served.ledger.count(Mark::Dropped, STAYED), 0);
    drop(pending);
    served.ledger.seen(Mark::Dropped, STAYED).await;
    served.ledger.seen(Mark::Dropped, call).await;
    served.rests_with(&connection).await;
}

/// Writes down what it sees.
#[derive(Default)]
struct Clerk {
    lines: Mutex<Vec<String>>,
}

impl Clerk {
    fn note(&self, line: String) {
        self.lines.lock().expect("it can write").push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().expect("it can write"))
    }
}

struct Noting(Arc<Clerk>);

impl CallLayer for Noting {
    fn begin(&self, call: &mut OutgoingCall<'_>) -> Result<(), Reason> {
        self.0.note(format!("{} begins", call.method().name));
        Ok(())
    }

    fn end(&self, call: &EndedCall<'_>) {
        self.0.note(format!("{}: {:?}", call.method().name, call.outcome()));
    }
}

async fn noted(served: &Served) -> (Connection, SuiteClient, Arc<Clerk>) {
    let clerk = Arc::new(Clerk::default());
    let builder = Connection::builder().call_layer(Noting(Arc::clone(&clerk)));
    let connection = served.connect_with(builder).await;
    let suite = connection.client();
    (connection, suite, clerk)
}

pub(crate) async fn a_call_layer_sees_every_call_and_its_end(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite, clerk) = noted(&served).await;
    assert_eq!(suite.count(token(), b"three").await, Ok(5));
    assert_eq!(clerk.take(), ["count begins", "count: Ok"]);
    assert!(suite.fail(token(), SuiteError::Small { code: 7 }).await.is_err());
    assert_eq!(clerk.take(), ["fail begins", "fail: App"]);
    assert!(suite.panic(token()).await.is_err());
    assert_eq!(clerk.take(), ["panic begins", "panic: MaybeExecuted(Panicked)"]);
    assert!(suite.count(token(), b"").timeout(Duration::ZERO).await.is_err());
    assert_eq!(clerk.take(), ["count begins", "count: NotExecuted(DeadlineExceeded)"]);
    assert!(suite.never(token()).timeout(Duration::from_millis(5)).await.is_err());
    let lines = clerk.take();
    // Where the server is slow, the time may be over before the handler has begun.
    assert!(lines.len() == 2 && lines[1].ends_with("Executed(DeadlineExceeded)"), "{lines:?}");
    assert_eq!(suite.note(token()).await, Ok(()));
    assert_eq!(clerk.take(), ["note begins", "note: Ok"]);
    // Long ones, and such as have to wait for room, are looked at once.
    assert_eq!(suite.count(token(), &vec![1; 3 << 20]).await, Ok(3 << 20));
    assert_eq!(clerk.take(), ["count begins", "count: Ok"]);

    let pending = suite.count(token(), b"").send().await.expect("it is sent");
    assert_eq!(clerk.take(), ["count begins"]);
    assert_eq!(pending.await, Ok(0));
    assert_eq!(clerk.take(), ["count: Ok"]);
    let dropped = suite.never(token()).send().await.expect("it is sent");
    drop(dropped);
    assert_eq!(clerk.take(), ["never begins", "never: Dropped"]);
    let polled = tokio::time::timeout(Duration::from_millis(5), suite.never(token())).await;
    assert!(polled.is_err());
    assert_eq!(clerk.take(), ["never begins", "never: Dropped"]);
    drop(suite.count(token(), b"").into_future());
    assert_eq!(clerk.take(), Vec::<String>::new());

    let waiting = suite.clone();
    assert_eq!(on_plain_thread(move || waiting.count(token(), b"two").wait()).await, Ok(3));
    assert_eq!(clerk.take(), ["count begins", "count: Ok"]);
    let waiting = suite.clone();
    let pending = suite.count(token(), b"two").send().await.expect("it is sent");
    assert_eq!(on_plain_thread(move || pending.wait()).await, Ok(3));
    assert_eq!(clerk.take(), ["count begins", "count: Ok"]);
    served.rests_with(&connection).await;
    drop(connection);
    served.rests_at(0).await;
    assert!(waiting.count(token(), b"").await.is_err());
    assert_eq!(clerk.take(), ["count begins", "count: NotExecuted(ConnectionLost(ClosedHere))"]);
}

/// Refuses `echo`, and gives everybody 20 ms.
struct Strict;

impl CallLayer for Strict {
    fn begin(&self, call: &mut OutgoingCall<'_>) -> Result<(), Reason> {
        if call.method().name == "echo" {
            return Err(Reason::PermissionDenied);
        }
        assert!(call.timeout() > Duration::from_secs(1));
        call.set_timeout(Duration::from_millis(20));
        Ok(())
    }

    fn end(&self, call: &EndedCall<'_>) {
        assert_ne!(call.outcome(), CallOutcome::NotExecuted(&Reason::PermissionDenied), "it has not let it pass");
    }
}

/// Every call says for whom it is, unless it does already.
struct Tenant;

impl CallLayer for Tenant {
    fn begin(&self, call: &mut OutgoingCall<'_>) -> Result<(), Reason> {
        match call.metadata().get("tenant") {
            None => call.set_metadata("tenant", "blue")?,
            Some("nobody") => call.set_metadata("no name", "")?,
            Some(_) => {}
        }
        Ok(())
    }
}

pub(crate) async fn a_call_layer_adds_metadata(fixture: Fixture) {
    let served = fixture.serve().await;
    let connection = served.connect_with(Connection::builder().call_layer(Tenant)).await;
    let errand: ErrandClient = connection.client();
    let told = |beside: Result<Beside, CallError>| beside.map(|beside| beside.metadata);
    assert_eq!(told(soon("an answer", errand.tell_later()).await).as_deref(), Ok(r#"{"tenant": "blue"}"#));
    let red = errand.tell_later().metadata("tenant", "red");
    assert_eq!(told(soon("an answer", red).await).as_deref(), Ok(r#"{"tenant": "red"}"#));
    let wrong = errand.tell_later().metadata("tenant", "nobody").await;
    let name = MetadataError::Name("no name".to_owned());
    assert_eq!(told(wrong), Err(CallError::NotExecuted(Reason::Metadata(name))));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_call_layer_refuses_and_hurries(fixture: Fixture) {
    let served = fixture.serve().await;
    let clerk = Arc::new(Clerk::default());
    let builder = Connection::builder().call_layer(Noting(Arc::clone(&clerk))).call_layer(Strict);
    let connection = served.connect_with(builder).await;
    let suite: SuiteClient = connection.client();
    assert_eq!(suite.echo(b"no").await, Err(CallError::NotExecuted(Reason::PermissionDenied)));
    assert_eq!(clerk.take(), ["echo begins", "echo: NotExecuted(PermissionDenied)"]);
    let late =
        |outcome: Result<(), CallError>| outcome.is_err_and(|error| error.reason() == Some(&Reason::DeadlineExceeded));
    assert!(late(soon("an end", suite.never(token())).await));
    let explicit = suite.never(token()).deadline(Instant::now() + Duration::from_secs(30));
    assert!(late(soon("an end", explicit).await));
    served.rests_with(&connection).await;
}
