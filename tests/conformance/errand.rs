//! A service that says what came beside its calls. Clients serve it back.

use serde::{Deserialize, Serialize};
use trunkline::{Context, MetadataError, MetadataKey, Stream};

use crate::service::SuiteError;

pub(crate) const DIGEST: MetadataKey<[u8]> = MetadataKey::new("digest");
pub(crate) const TOKEN: MetadataKey = MetadataKey::secret("token");

/// What a handler was told beside its arguments.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    /// As `Debug` shows it.
    pub(crate) metadata: String,
    pub(crate) token: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) call_id: u128,
    pub(crate) priority: String,
    /// In milliseconds.
    pub(crate) time_left: u64,
}

impl Beside {
    fn of(cx: &Context) -> Beside {
        Beside {
            metadata: format!("{:?}", cx.metadata()),
            token: cx.metadata().get(TOKEN).map(str::to_owned),
            trace: cx.trace().map(|trace| trace.to_string()),
            call_id: cx.call_id().as_u128(),
            priority: format!("{:?}", cx.priority()),
            time_left: cx.time_left().as_millis() as u64,
        }
    }
}

/// From where a handler makes its call.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Itself,
    Task,
    TaskInScope,
    ThreadInScope,
}

#[trunkline::service]
pub(crate) trait Errand {
    /// Its reply has the digest of the call, twice, and `tenant` with a dash behind it.
    async fn tell(&self, block: &[u8], cx: &Context) -> (u64, Beside);
    /// The same, later.
    async fn tell_later(&self, cx: &Context) -> Beside;
    /// Its error has the tenant.
    async fn refuse(&self, cx: &Context) -> Result<u64, SuiteError>;
    /// Its reply has the tenant; and it counts to what `set_reply_metadata` says once that is out: 3 if that it is too late.
    async fn count(&self, cx: &Context) -> impl Stream<Item = u64>;
    /// What `set_reply_metadata` says to `len` bytes.
    async fn set(&self, len: u64, cx: &Context) -> Option<(u64, u64)>;
    /// Calls `tell_later` of its caller.
    async fn ask(&self, way: Way, cx: &Context) -> Result<Beside, String>;
}

pub(crate) struct Messenger;

/// Lets a metadata entry come back.
fn give_back(cx: &Context) -> Result<(), MetadataError> {
    if let Some(tenant) = cx.metadata().get("tenant") {
        cx.set_reply_metadata("tenant", format!("{tenant}-"))?;
    }
    if let Some(digest) = cx.metadata().get(DIGEST) {
        cx.set_reply_metadata(DIGEST, [digest, digest].concat())?;
    }
    Ok(())
}

impl Errand for Messenger {
    async fn tell(&self, block: &[u8], cx: &Context) -> (u64, Beside) {
        give_back(cx).expect("it is short");
        (block.len() as u64, Beside::of(cx))
    }

    async fn tell_later(&self, cx: &Context) -> Beside {
        tokio::task::yield_now().await;
        give_back(cx).expect("it is short");
        Beside::of(cx)
    }

    async fn refuse(&self, cx: &Context) -> Result<u64, SuiteError> {
        give_back(cx).expect("it is short");
        Err(SuiteError::Small { code: 3 })
    }

    async fn count(&self, cx: &Context) -> impl Stream<Item = u64> {
        give_back(cx).expect("it is short");
        Numbers { cx, next: 0 }
    }

    async fn set(&self, len: u64, cx: &Context) -> Option<(u64, u64)> {
        match cx.set_reply_metadata("a", "x".repeat(len as usize)) {
            Err(MetadataError::TooLong { len, max }) => Some((len as u64, max as u64)),
            outcome => outcome.map(|()| None).expect("no other error"),
        }
    }

    async fn ask(&self, way: Way, cx: &Context) -> Result<Beside, String> {
        let home: ErrandClient = cx.peer().client();
        let asked = async move { home.tell_later().await };
        let told = match way {
            Way::Itself => asked.await,
            Way::Task => tokio::spawn(asked).await.expect("it does not panic"),
            Way::TaskInScope => tokio::spawn(cx.scope(asked)).await.expect("it does not panic"),
            Way::ThreadInScope => {
                let (inherited, home) = (cx.inherit(), cx.peer().client::<ErrandClient>());
                let wait = move || inherited.run(|| trunkline::allow_wait(|| home.tell_later().wait()));
                tokio::task::spawn_blocking(wait).await.expect("it does not panic")
            }
        };
        told.map_err(|error| error.to_string())
    }
}

struct Numbers<'a> {
    cx: &'a Context,
    next: u64,
}

impl Stream for Numbers<'_> {
    type Item = u64;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<u64>> {
        let to = match self.cx.set_reply_metadata("late", "") {
            Err(MetadataError::TooLate) => 3,
            _ => 0,
        };
        self.next += 1;
        std::task::Poll::Ready((self.next <= to).then_some(self.next))
    }
}
