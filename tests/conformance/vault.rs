//! A service that knows who is at the other end of each connection.

use trunkline::layer::{Answer, Layer, Layered, Next, Refusal, Request};
use trunkline::{Context, Reason, Service};

use crate::ledger::{Ledger, Mark};
use crate::service::Liar;

#[trunkline::service]
pub(crate) trait Vault {
    /// Keeps the caller's name with the connection, and returns the one before.
    async fn log_in(&self, token: u64, name: &str, cx: &Context) -> Option<String>;
    async fn log_out(&self, cx: &Context) -> bool;
    async fn who(&self, cx: &Context) -> Option<String>;
    /// For those who have logged in.
    async fn open(&self, token: u64) -> u64;
    /// Likewise, with an argument that cannot be decoded.
    async fn force(&self, token: u64, liar: Liar) -> u64;
    /// Runs, and is refused afterwards.
    async fn regret(&self, token: u64) -> u64;
    /// Never returns. The guard notes when it is let go.
    async fn stay(&self, token: u64);
}

/// The vault, and its guard.
pub(crate) fn service(ledger: &Ledger) -> impl Service {
    let guard = Guard { ledger: ledger.clone() };
    Layered::new(guard, VaultServer::new(Safe { ledger: ledger.clone() }))
}

/// The servers' side of [`Vault`].
struct Safe {
    ledger: Ledger,
}

struct Guard {
    ledger: Ledger,
}

/// Marked by the guard when somebody no longer stays.
pub(crate) const STAYED: u64 = u64::MAX;

impl Layer for Guard {
    async fn call<S: Service>(&self, request: &Request, next: Next<'_, S>) -> Result<Answer, Refusal> {
        // The suite's other services are elsewhere.
        assert_eq!(request.method().service, "Vault");
        let known = request.context().connection().get::<Session>().is_some();
        match request.method().name {
            "open" | "force" if !known => Err(Refusal::new(Reason::PermissionDenied)),
            "regret" => {
                let answer = next.run().await?;
                assert!(answer.payload_len() > 0 && !answer.is_err());
                Err(Refusal::new(Reason::PermissionDenied))
            }
            "stay" => {
                let _running = self.ledger.run(STAYED);
                next.run().await
            }
            _ => next.run().await,
        }
    }
}

/// Who is there. Marks its end.
struct Session {
    ledger: Ledger,
    token: u64,
    name: String,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ledger.mark(Mark::Dropped, self.token);
    }
}

impl Vault for Safe {
    async fn log_in(&self, token: u64, name: &str, cx: &Context) -> Option<String> {
        let before = cx.connection().get::<Session>();
        cx.connection().insert(Session { ledger: self.ledger.clone(), token, name: name.to_owned() });
        before.map(|session| session.name.clone())
    }

    async fn log_out(&self, cx: &Context) -> bool {
        cx.connection().remove::<Session>().is_some()
    }

    async fn who(&self, cx: &Context) -> Option<String> {
        cx.connection().get::<Session>().map(|session| session.name.clone())
    }

    async fn open(&self, token: u64) -> u64 {
        self.ledger.run(token).finish();
        token
    }

    async fn force(&self, token: u64, _liar: Liar) -> u64 {
        self.ledger.run(token).finish();
        token
    }

    async fn regret(&self, token: u64) -> u64 {
        self.ledger.run(token).finish();
        token
    }

    async fn stay(&self, token: u64) {
        let _running = self.ledger.run(token);
        std::future::pending::<()>().await;
    }
}
