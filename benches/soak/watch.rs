//! Who waits for what, and since when.

use std::collections::HashMap;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use trunkline::ServerHandle;

/// Nothing that is done here takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// What is being done.
pub(crate) struct Watch {
    seed: u64,
    next: AtomicU64,
    ops: Mutex<HashMap<u64, (Instant, String)>>,
    server: Mutex<Option<ServerHandle>>,
}

/// Something that is being done. It has ended when this is dropped.
pub(crate) struct Op {
    watch: Arc<Watch>,
    number: u64,
}

impl Watch {
    /// Looks every second whether anything hangs.
    pub(crate) fn start(seed: u64) -> Arc<Watch> {
        let watch = Arc::new(Watch { seed, next: AtomicU64::new(0), ops: Mutex::default(), server: Mutex::default() });
        let watching = Arc::clone(&watch);
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_secs(1));
                watching.look();
            }
        });
        watch
    }

    /// Whose accounts are printed when something is wrong.
    pub(crate) fn look_at(&self, server: ServerHandle) {
        *self.server.lock().expect("nobody panics with it") = Some(server);
    }

    pub(crate) fn begin(self: &Arc<Self>, what: impl FnOnce() -> String) -> Op {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.ops.lock().expect("nobody panics with it").insert(number, (Instant::now(), what()));
        Op { watch: Arc::clone(self), number }
    }

    /// How many things were begun.
    pub(crate) fn count(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Says so, and ends the process.
    pub(crate) fn wrong(&self, what: impl AsRef<str>) -> ! {
        eprintln!("WRONG, with seed {}: {}", self.seed, what.as_ref());
        self.tell(Duration::ZERO);
        process::exit(1)
    }

    fn look(&self) {
        let hangs =
            self.ops.lock().expect("nobody panics with it").values().any(|(since, _)| since.elapsed() > PATIENCE);
        if hangs {
            self.tell(PATIENCE);
            self.wrong("what is named above hangs");
        }
    }

    /// What has been going on for longer than that.
    fn tell(&self, longer: Duration) {
        for (since, what) in self.ops.lock().expect("nobody panics with it").values() {
            if since.elapsed() >= longer {
                eprintln!("  for {:?}: {what}", since.elapsed());
            }
        }
        if let Some(server) = &*self.server.lock().expect("nobody panics with it") {
            eprintln!("  {:?}", server.stats());
            for connection in server.connections() {
                eprintln!("  {connection:?}");
            }
        }
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        self.watch.ops.lock().expect("nobody panics with it").remove(&self.number);
    }
}
