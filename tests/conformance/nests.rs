//! The service whose methods return further ones, to be called before they are there.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::ledger::{Ledger, Mark};

/// What is called was opened by another call, and opens more.
#[trunkline::service]
pub(crate) trait Nest {
    /// One further in, when `gate` has been opened; 0 always is. Marks that it runs.
    async fn open(&self, token: u64, gate: u64) -> NestClient;
    /// The same, or an error.
    async fn try_open(&self, token: u64, gate: u64, error: bool) -> Result<NestClient, String>;
    async fn open_with(&self, token: u64, padding: &[u8]) -> NestClient;
    async fn panic(&self, token: u64) -> NestClient;
    async fn give_back(&self, nest: NestClient) -> NestClient;
    /// One that no peer may call any more by then.
    async fn revoked(&self, token: u64) -> NestClient;
    /// Lets everybody pass who waits there.
    async fn open_gate(&self, gate: u64);
    async fn open_gate_later(&self, gate: u64, millis: u64);
    /// Marks that it runs; how many notes there are in this one, with this.
    async fn note(&self, token: u64) -> u64;
    async fn note_with(&self, token: u64, padding: &[u8]) -> u64;
    #[rpc(oneway)]
    async fn tell(&self, token: u64);
    /// Tokens of the calls by which it was opened.
    async fn way(&self) -> Vec<u64>;
    /// Tokens of the notes in it, in their order.
    async fn notes(&self) -> Vec<u64>;
}

#[derive(Default)]
struct Gates {
    open: Mutex<HashSet<u64>>,
    changed: Notify,
}

impl Gates {
    async fn pass(&self, gate: u64) {
        loop {
            let changed = self.changed.notified();
            if gate == 0 || self.open.lock().unwrap_or_else(PoisonError::into_inner).contains(&gate) {
                return;
            }
            changed.await;
        }
    }

    fn open(&self, gate: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(gate);
        self.changed.notify_waiters();
    }
}

/// Says when it is dropped, unless it is the outermost.
pub(crate) struct Twigs {
    ledger: Ledger,
    gates: Arc<Gates>,
    way: Vec<u64>,
    notes: Mutex<Vec<u64>>,
}

impl Twigs {
    pub(crate) fn new(ledger: Ledger) -> Twigs {
        Twigs { ledger, gates: Arc::default(), way: Vec::new(), notes: Mutex::default() }
    }

    fn inner(&self, token: u64) -> NestClient {
        let way = [&self.way[..], &[token]].concat();
        let (ledger, gates) = (self.ledger.clone(), Arc::clone(&self.gates));
        NestClient::local(NestServer::new(Twigs { ledger, gates, way, notes: Mutex::default() }))
    }
}

impl Drop for Twigs {
    fn drop(&mut self) {
        if let Some(token) = self.way.last() {
            self.ledger.mark(Mark::Dropped, *token);
        }
    }
}

impl Nest for Twigs {
    async fn open(&self, token: u64, gate: u64) -> NestClient {
        let running = self.ledger.run(token);
        self.gates.pass(gate).await;
        running.finish();
        self.inner(token)
    }

    async fn try_open(&self, token: u64, gate: u64, error: bool) -> Result<NestClient, String> {
        let nest = self.open(token, gate).await;
        if error { Err("as it was asked to".to_owned()) } else { Ok(nest) }
    }

    async fn open_with(&self, token: u64, padding: &[u8]) -> NestClient {
        assert!(padding.iter().all(|byte| *byte == 7));
        self.open(token, 0).await
    }

    async fn panic(&self, token: u64) -> NestClient {
        self.ledger.mark(Mark::Started, token);
        panic!("as it was asked to");
    }

    async fn give_back(&self, nest: NestClient) -> NestClient {
        nest
    }

    async fn revoked(&self, token: u64) -> NestClient {
        use trunkline::ServiceClient;
        let nest = self.inner(token);
        nest.revoke();
        nest
    }

    async fn open_gate(&self, gate: u64) {
        self.gates.open(gate);
    }

    async fn open_gate_later(&self, gate: u64, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.gates.open(gate);
    }

    async fn note(&self, token: u64) -> u64 {
        self.ledger.mark(Mark::Started, token);
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(token);
        notes.len() as u64
    }

    async fn note_with(&self, token: u64, padding: &[u8]) -> u64 {
        assert!(padding.iter().all(|byte| *byte == 7));
        self.note(token).await
    }

    async fn tell(&self, token: u64) {
        self.note(token).await;
    }

    async fn way(&self) -> Vec<u64> {
        self.way.clone()
    }

    async fn notes(&self) -> Vec<u64> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
