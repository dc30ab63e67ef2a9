//! What the suite's servers serve, and what its clients serve back.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use trunkline::{Context, allow_wait};

use crate::ledger::{Ledger, Mark};

/// A value of exactly 32 bytes on the wire.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) c: u64,
    pub(crate) d: u64,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) enum SuiteError {
    Small { code: u32 },
    Long(String),
}

/// Its drop panics on the side that received it.
#[derive(Debug)]
pub(crate) struct Bomb {
    armed: bool,
}

impl Bomb {
    pub(crate) fn new() -> Bomb {
        Bomb { armed: false }
    }
}

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bomb, D::Error> {
        u8::deserialize(deserializer).map(|_| Bomb { armed: true })
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.armed && !std::thread::panicking() {
            panic!("an argument that panics when it is dropped");
        }
    }
}

/// Cannot be encoded.
#[derive(Deserialize, Debug, PartialEq)]
pub(crate) struct Mute;

impl Serialize for Mute {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it will not be told"))
    }
}

/// Encodes as something that cannot be decoded.
#[derive(Debug, PartialEq)]
pub(crate) struct Liar;

impl Serialize for Liar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(7)
    }
}

impl<'de> Deserialize<'de> for Liar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Liar, D::Error> {
        bool::deserialize(deserializer).map(|_| Liar)
    }
}

/// What every case calls.
#[trunkline::service]
pub(crate) trait Suite {
    async fn echo(&self, bytes: &[u8]) -> Vec<u8>;
    async fn echo_record(&self, record: Record) -> Record;
    /// Marks that it runs, waits, and returns `value`.
    async fn delay(&self, token: u64, millis: u64, value: u64) -> u64;
    /// Marks that it runs, and returns how many bytes it was given.
    async fn count(&self, token: u64, bytes: &[u8]) -> u64;
    /// Like `count`, but keeps the bytes for a while.
    async fn hold(&self, token: u64, millis: u64, bytes: &[u8]) -> u64;
    async fn fail(&self, token: u64, error: SuiteError) -> Result<u64, SuiteError>;
    async fn panic(&self, token: u64) -> u64;
    async fn panic_later(&self, token: u64) -> u64;
    async fn drop_bomb(&self, token: u64, bomb: Bomb) -> u64;
    async fn never(&self, token: u64);
    #[rpc(no_cancel)]
    async fn regardless(&self, token: u64, millis: u64);
    #[rpc(spawn)]
    async fn compute(&self, token: u64, millis: u64) -> u64;
    #[rpc(blocking)]
    async fn block(&self, token: u64, millis: u64) -> u64;
    /// Blocks until its context says that nobody waits for it.
    #[rpc(blocking)]
    async fn block_until_cancelled(&self, token: u64, cx: &Context);
    #[rpc(timeout = "150ms")]
    async fn hurried(&self, token: u64);
    #[rpc(oneway)]
    async fn note(&self, token: u64);
    #[rpc(oneway)]
    async fn note_and_panic(&self, token: u64);
    async fn whoami(&self, cx: &Context) -> String;
    /// In milliseconds.
    async fn time_left(&self, cx: &Context) -> u64;
    async fn reply_of(&self, len: u64) -> Vec<u8>;
    async fn mute(&self, token: u64) -> Mute;
    async fn tell_mute(&self, mute: Mute) -> u64;
    async fn liar(&self, token: u64) -> Liar;
    async fn tell_liar(&self, token: u64, liar: Liar) -> u64;
    async fn strings(&self, token: u64, strings: Vec<String>) -> u64;
    /// Asks the caller's own service for twice `n`.
    async fn ask_back(&self, n: u64, cx: &Context) -> Result<u64, String>;
    /// The time that a call back inherits, in milliseconds.
    async fn time_left_back(&self, cx: &Context) -> Result<u64, String>;
    /// Calls back twice at a time and tells how the second call went.
    async fn ask_back_twice(&self, token: u64, cx: &Context) -> String;
    /// Calls back and waits for it on its thread.
    #[rpc(blocking)]
    async fn ask_back_blocking(&self, n: u64, cx: &Context) -> Result<u64, String>;
    /// Calls back and would wait for it on a thread of the runtime.
    async fn ask_back_wrongly(&self, n: u64, cx: &Context) -> Result<u64, String>;
}

/// A second service on the same connection.
#[trunkline::service]
pub(crate) trait Other {
    async fn name(&self) -> String;
}

/// What clients serve back.
#[trunkline::service]
pub(crate) trait Home {
    async fn twice(&self, n: u64) -> u64;
    async fn time_left(&self, cx: &Context) -> u64;
    async fn never(&self, token: u64);
}

/// A service that nobody serves.
#[trunkline::service]
pub(crate) trait Nowhere {
    async fn anything(&self) -> u64;
}

/// The suite's service as a later version has it.
#[trunkline::service(name = "Suite")]
pub(crate) trait SuiteOfTomorrow {
    async fn not_yet(&self) -> u64;
}

/// The servers' side of [`Suite`].
pub(crate) struct Host {
    pub(crate) ledger: Ledger,
}

impl Suite for Host {
    async fn echo(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    async fn echo_record(&self, record: Record) -> Record {
        record
    }

    async fn delay(&self, token: u64, millis: u64, value: u64) -> u64 {
        let running = self.ledger.run(token);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        running.finish();
        value
    }

    async fn count(&self, token: u64, bytes: &[u8]) -> u64 {
        self.ledger.run(token).finish();
        bytes.len() as u64
    }

    async fn hold(&self, token: u64, millis: u64, bytes: &[u8]) -> u64 {
        let running = self.ledger.run(token);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        running.finish();
        bytes.len() as u64
    }

    async fn fail(&self, token: u64, error: SuiteError) -> Result<u64, SuiteError> {
        self.ledger.run(token).finish();
        Err(error)
    }

    async fn panic(&self, token: u64) -> u64 {
        let _running = self.ledger.run(token);
        panic!("as it was asked to");
    }

    async fn panic_later(&self, token: u64) -> u64 {
        let _running = self.ledger.run(token);
        tokio::time::sleep(Duration::from_millis(5)).await;
        panic!("as it was asked to, a little later");
    }

    async fn drop_bomb(&self, token: u64, _bomb: Bomb) -> u64 {
        self.ledger.run(token).finish();
        token
    }

    async fn never(&self, token: u64) {
        let _running = self.ledger.run(token);
        std::future::pending::<()>().await;
    }

    async fn regardless(&self, token: u64, millis: u64) {
        let running = self.ledger.run(token);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        running.finish();
    }

    async fn compute(&self, token: u64, millis: u64) -> u64 {
        let running = self.ledger.run(token);
        let until = std::time::Instant::now() + Duration::from_millis(millis);
        let mut rounds = 0;
        while std::time::Instant::now() < until {
            rounds += 1;
        }
        running.finish();
        rounds
    }

    async fn block(&self, token: u64, millis: u64) -> u64 {
        let running = self.ledger.run(token);
        std::thread::sleep(Duration::from_millis(millis));
        running.finish();
        millis
    }

    async fn block_until_cancelled(&self, token: u64, cx: &Context) {
        let running = self.ledger.run(token);
        while !cx.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A caller whose processor is busy sees its own clock late, and is to see that before the reply.
        std::thread::sleep(Duration::from_millis(100));
        running.finish();
    }

    async fn hurried(&self, token: u64) {
        let _running = self.ledger.run(token);
        std::future::pending::<()>().await;
    }

    async fn note(&self, token: u64) {
        self.ledger.run(token).finish();
    }

    async fn note_and_panic(&self, token: u64) {
        self.ledger.run(token).finish();
        panic!("and nobody hears it");
    }

    async fn whoami(&self, cx: &Context) -> String {
        cx.peer().identity().to_string()
    }

    async fn time_left(&self, cx: &Context) -> u64 {
        cx.time_left().as_millis() as u64
    }

    async fn reply_of(&self, len: u64) -> Vec<u8> {
        vec![0x5a; len as usize]
    }

    async fn mute(&self, token: u64) -> Mute {
        self.ledger.run(token).finish();
        Mute
    }

    async fn tell_mute(&self, _mute: Mute) -> u64 {
        0
    }

    async fn liar(&self, token: u64) -> Liar {
        self.ledger.run(token).finish();
        Liar
    }

    async fn tell_liar(&self, token: u64, _liar: Liar) -> u64 {
        self.ledger.run(token).finish();
        0
    }

    async fn strings(&self, token: u64, strings: Vec<String>) -> u64 {
        self.ledger.run(token).finish();
        strings.len() as u64
    }

    async fn ask_back(&self, n: u64, cx: &Context) -> Result<u64, String> {
        let home: HomeClient = cx.peer().client();
        home.twice(n).await.map_err(|error| error.to_string())
    }

    async fn time_left_back(&self, cx: &Context) -> Result<u64, String> {
        let home: HomeClient = cx.peer().client();
        home.time_left().await.map_err(|error| error.to_string())
    }

    async fn ask_back_twice(&self, token: u64, cx: &Context) -> String {
        let home: HomeClient = cx.peer().client();
        let first = match home.never(token).send().await {
            Ok(first) => first,
            Err(error) => return format!("the first: {error}"),
        };
        let second = home.twice(1).await;
        drop(first);
        format!("{second:?}")
    }

    async fn ask_back_blocking(&self, n: u64, cx: &Context) -> Result<u64, String> {
        let home: HomeClient = cx.peer().client();
        let first = home.twice(n).wait().map_err(|error| error.to_string())?;
        allow_wait(|| home.twice(first).wait()).map_err(|error| error.to_string())
    }

    async fn ask_back_wrongly(&self, n: u64, cx: &Context) -> Result<u64, String> {
        let home: HomeClient = cx.peer().client();
        home.twice(n).wait().map_err(|error| error.to_string())
    }
}

/// The servers' side of [`Other`].
pub(crate) struct Neighbour;

impl Other for Neighbour {
    async fn name(&self) -> String {
        "neighbour".to_owned()
    }
}

/// The clients' side of [`Home`].
pub(crate) struct Hearth {
    pub(crate) ledger: Ledger,
}

impl Home for Hearth {
    async fn twice(&self, n: u64) -> u64 {
        2 * n
    }

    async fn time_left(&self, cx: &Context) -> u64 {
        cx.time_left().as_millis() as u64
    }

    async fn never(&self, token: u64) {
        self.ledger.mark(Mark::Started, token);
        std::future::pending::<()>().await;
    }
}
