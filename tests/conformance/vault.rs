//! A service that knows who is at the other end of each connection.

use trunkline::Context;

use crate::ledger::{Ledger, Mark};

#[trunkline::service]
pub(crate) trait Vault {
    /// Keeps the caller's name with the connection, and returns the one before.
    async fn log_in(&self, token: u64, name: &str, cx: &Context) -> Option<String>;
    async fn log_out(&self, cx: &Context) -> bool;
    async fn who(&self, cx: &Context) -> Option<String>;
}

/// The servers' side of [`Vault`].
pub(crate) struct Safe {
    pub(crate) ledger: Ledger,
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
}
