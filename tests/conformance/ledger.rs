//! The ledger: which handlers ran, in a file that outlives the process that ran them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::until;

/// What happened to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It was polled.
    Started = 1,
    /// It came to its end.
    Finished = 2,
    /// It was dropped before that.
    Dropped = 3,
}

/// A file of marks. One `write` in append mode for each, so that a kill leaves whole marks only.
#[derive(Clone)]
pub(crate) struct Ledger {
    path: Arc<PathBuf>,
    file: Arc<File>,
}

impl Ledger {
    pub(crate) fn open(path: &Path) -> Ledger {
        let file = OpenOptions::new().create(true).append(true).open(path).expect("the ledger opens");
        Ledger { path: Arc::new(path.to_owned()), file: Arc::new(file) }
    }

    pub(crate) fn mark(&self, mark: Mark, token: u64) {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&(mark as u64).to_le_bytes());
        entry[8..].copy_from_slice(&token.to_le_bytes());
        (&*self.file).write_all(&entry).expect("the ledger takes a mark");
    }

    /// Marks that a handler runs.
    pub(crate) fn run(&self, token: u64) -> Running<'_> {
        self.mark(Mark::Started, token);
        Running { ledger: self, token, finished: false }
    }

    /// How often `mark` was made for `token`.
    pub(crate) fn count(&self, mark: Mark, token: u64) -> usize {
        let bytes = std::fs::read(&*self.path).expect("the ledger can be read");
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&(mark as u64).to_le_bytes());
        entry[8..].copy_from_slice(&token.to_le_bytes());
        bytes.chunks_exact(16).filter(|found| *found == entry).count()
    }

    /// How often the call was executed, whole or in part.
    pub(crate) fn executions(&self, token: u64) -> usize {
        self.count(Mark::Started, token)
    }

    /// Waits for a mark.
    pub(crate) async fn seen(&self, mark: Mark, token: u64) {
        until(&format!("{mark:?} of {token}"), async || self.count(mark, token) > 0).await;
    }

    /// Gives whatever would happen, wrongly, a little time to do so; then says how often the call was executed.
    pub(crate) async fn executions_after_all(&self, token: u64) -> usize {
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.executions(token)
    }
}

/// A handler at work.
pub(crate) struct Running<'a> {
    ledger: &'a Ledger,
    token: u64,
    finished: bool,
}

impl Running<'_> {
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.ledger.mark(if self.finished { Mark::Finished } else { Mark::Dropped }, self.token);
    }
}

/// A number for one call, which no other has.
pub(crate) fn token() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Names the call; ordered with nothing.
    NEXT.fetch_add(1, Ordering::Relaxed)
}
