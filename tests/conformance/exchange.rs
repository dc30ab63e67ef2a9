//! The service whose methods are given clients, and return them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use trunkline::ServiceClient;

use crate::ledger::{Ledger, Mark};

/// What is handed over, either way. Marks what happens to it.
#[trunkline::service]
pub(crate) trait Bell {
    /// How often it has been rung, this time included; marks that.
    async fn ring(&self) -> u64;
    async fn never(&self);
    async fn panic(&self);
}

/// Clients as parts of a value.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Belfry {
    pub(crate) name: String,
    pub(crate) first: BellClient,
    pub(crate) others: Vec<Option<BellClient>>,
    pub(crate) more: HashMap<u8, BellClient>,
}

/// An error that brings a client along.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Instead(pub(crate) BellClient);

#[trunkline::service]
pub(crate) trait Exchange {
    /// Rings it so often, and returns the last answer.
    async fn ring(&self, bell: BellClient, times: u64) -> Result<u64, String>;
    /// Rings all of them, and counts them.
    async fn ring_all(&self, belfry: Belfry, padding: &[u8]) -> Result<u64, String>;
    async fn keep(&self, name: u64, bell: BellClient);
    async fn ring_kept(&self, name: u64) -> Result<u64, String>;
    async fn let_go(&self, name: u64) -> bool;
    /// Waits until one that is kept can be rung no more, marks that, and says why.
    async fn watch(&self, name: u64) -> String;
    async fn give_back(&self, bell: BellClient) -> BellClient;
    /// A bell of its own.
    async fn bell(&self, token: u64) -> BellClient;
    async fn belfry(&self, token: u64, bells: u64, padding: u64) -> (Vec<BellClient>, Vec<u8>);
    async fn bell_or(&self, token: u64, error: bool) -> Result<BellClient, Instead>;
    /// A bell that it revokes when it is asked to.
    async fn revocable(&self, token: u64) -> BellClient;
    async fn revoke(&self, token: u64);
    async fn never(&self, token: u64, bell: BellClient);
    async fn wrong(&self, bell: BellClient, number: Unreadable);
    /// What it cannot hand over.
    async fn not_its_own(&self, cx: &trunkline::Context) -> BellClient;
}

/// It can be sent, and never received.
#[derive(Serialize, Debug)]
pub(crate) struct Unreadable;

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Unreadable, D::Error> {
        Err(serde::de::Error::custom("as it was asked to"))
    }
}

/// Says when it is dropped.
pub(crate) struct Bronze {
    ledger: Ledger,
    token: u64,
    rung: Mutex<u64>,
}

/// A bell that lives as long as anybody has it.
pub(crate) fn bell(ledger: &Ledger, token: u64) -> BellClient {
    BellClient::local(BellServer::new(Bronze { ledger: ledger.clone(), token, rung: Mutex::default() }))
}

impl Bell for Bronze {
    async fn ring(&self) -> u64 {
        self.ledger.mark(Mark::Started, self.token);
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        *rung += 1;
        *rung
    }

    async fn never(&self) {
        self.ledger.mark(Mark::Started, self.token);
        std::future::pending::<()>().await;
    }

    async fn panic(&self) {
        panic!("as it was asked to");
    }
}

impl Drop for Bronze {
    fn drop(&mut self) {
        self.ledger.mark(Mark::Dropped, self.token);
    }
}

pub(crate) struct Market {
    ledger: Ledger,
    kept: Mutex<HashMap<u64, BellClient>>,
}

impl Market {
    pub(crate) fn new(ledger: Ledger) -> Market {
        Market { ledger, kept: Mutex::default() }
    }

    fn kept(&self, name: u64) -> Option<BellClient> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned()
    }

    fn put(&self, name: u64, bell: BellClient) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name, bell);
    }

    fn take(&self, name: u64) -> Option<BellClient> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&name)
    }
}

async fn ring(bell: &BellClient) -> Result<u64, String> {
    bell.ring().await.map_err(|error| error.to_string())
}

impl Exchange for Market {
    async fn ring(&self, bell: BellClient, times: u64) -> Result<u64, String> {
        let mut last = 0;
        for _ in 0..times {
            last = ring(&bell).await?;
        }
        Ok(last)
    }

    async fn ring_all(&self, belfry: Belfry, padding: &[u8]) -> Result<u64, String> {
        let Belfry { name, first, others, more } = belfry;
        if name != "belfry" || padding.iter().any(|byte| *byte != 7) {
            return Err("something else has come".to_owned());
        }
        let mut rung = 0;
        for bell in std::iter::once(first).chain(others.into_iter().flatten()).chain(more.into_values()) {
            ring(&bell).await?;
            rung += 1;
        }
        Ok(rung)
    }

    async fn keep(&self, name: u64, bell: BellClient) {
        self.put(name, bell);
    }

    async fn ring_kept(&self, name: u64) -> Result<u64, String> {
        ring(&self.kept(name).ok_or("nothing is kept")?).await
    }

    async fn let_go(&self, name: u64) -> bool {
        self.take(name).is_some()
    }

    async fn watch(&self, name: u64) -> String {
        let Some(bell) = self.kept(name) else { return "nothing is kept".to_owned() };
        self.ledger.mark(Mark::Started, name);
        let why = bell.closed().await.to_string();
        self.ledger.mark(Mark::Finished, name);
        why
    }

    async fn give_back(&self, bell: BellClient) -> BellClient {
        bell
    }

    async fn bell(&self, token: u64) -> BellClient {
        bell(&self.ledger, token)
    }

    async fn belfry(&self, token: u64, bells: u64, padding: u64) -> (Vec<BellClient>, Vec<u8>) {
        ((0..bells).map(|_| bell(&self.ledger, token)).collect(), vec![7; padding as usize])
    }

    async fn bell_or(&self, token: u64, error: bool) -> Result<BellClient, Instead> {
        let bell = bell(&self.ledger, token);
        if error { Err(Instead(bell)) } else { Ok(bell) }
    }

    async fn revocable(&self, token: u64) -> BellClient {
        let bell = bell(&self.ledger, token);
        self.put(token, bell.clone());
        bell
    }

    async fn revoke(&self, token: u64) {
        if let Some(bell) = self.take(token) {
            bell.revoke();
        }
    }

    async fn never(&self, token: u64, bell: BellClient) {
        let _running = self.ledger.run(token);
        let _ = bell.never().await;
    }

    async fn wrong(&self, _: BellClient, _: Unreadable) {}

    async fn not_its_own(&self, cx: &trunkline::Context) -> BellClient {
        cx.peer().client()
    }
}
