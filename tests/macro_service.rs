//! What a service's expansion does: arguments and replies arrive as they were sent, and tools can read the descriptors.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline::{CallError, Context, Service, ServiceClient};

#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
struct Config {
    name: String,
    depth: u32,
}

#[derive(Serialize, Deserialize)]
struct Key<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
enum KvError {
    NotFound { key: String },
}

type Result<T, E = KvError> = std::result::Result<T, E>;

/// A store.
///
/// It keeps nothing.
#[trunkline::service(name = "acme.Kv")]
trait Kv {
    /// Finds.
    #[rpc(idempotent, timeout = "250ms")]
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;
    #[allow(clippy::ptr_arg, reason = "a vector behind a reference is one of the ways to lend bytes")]
    async fn bytes(&self, a: &[u8], b: Vec<u8>, c: Option<&[u8]>, d: &Option<Vec<u8>>, e: &Vec<u8>) -> Vec<u8>;
    async fn config(&self, config: &Config, more: &[Config], names: &[&str], pair: (u8, &str)) -> Config;
    async fn key(&self, key: Key<'_>, lent: &Key<'_>) -> Cow<'static, str>;
    #[rpc(oneway, name = "touch!")]
    async fn touch(&self, times: u32);
    async fn touched(&self) -> u32;
    async fn whoami(&self, before: u32, _cx: &Context, after: u32) -> u32;
    async fn r#type(&self, r#match: u32) -> u32 {
        r#match + 1
    }
    #[rpc(blocking, no_cancel)]
    async fn slow(&self, #[rpc(default)] limit: Option<u32>) -> Option<u32>;
    #[cfg(any())]
    async fn absent(&self);
    #[rpc(spawn)]
    async fn nothing(&self) {}
}

#[derive(Default)]
struct Store {
    touched: AtomicU32,
}

impl Kv for Store {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match key {
            "" => Ok(None),
            "none" => Err(KvError::NotFound { key: key.to_owned() }),
            key => Ok(Some(key.as_bytes().to_vec())),
        }
    }

    async fn bytes(&self, a: &[u8], b: Vec<u8>, c: Option<&[u8]>, d: &Option<Vec<u8>>, e: &Vec<u8>) -> Vec<u8> {
        tokio::task::yield_now().await;
        [a, &b, c.unwrap_or_default(), d.as_deref().unwrap_or_default(), e].concat()
    }

    async fn config(&self, config: &Config, more: &[Config], names: &[&str], pair: (u8, &str)) -> Config {
        let depth = config.depth + more.iter().map(|config| config.depth).sum::<u32>() + u32::from(pair.0);
        Config { name: format!("{}{}{}", config.name, names.concat(), pair.1), depth }
    }

    async fn key(&self, key: Key<'_>, lent: &Key<'_>) -> Cow<'static, str> {
        Cow::Owned(format!("{}{}", key.name, lent.name))
    }

    async fn touch(&self, times: u32) {
        self.touched.fetch_add(times, Ordering::Relaxed);
    }

    async fn touched(&self) -> u32 {
        self.touched.load(Ordering::Relaxed)
    }

    async fn whoami(&self, before: u32, _cx: &Context, after: u32) -> u32 {
        before * 10 + after
    }

    async fn slow(&self, limit: Option<u32>) -> Option<u32> {
        limit
    }
}

/// A client of a server in this process.
async fn client(name: &str, store: Arc<Store>) -> KvClient {
    let endpoint = format!("mem:{name}");
    let server = trunkline::Server::builder().service(KvServer::new(store)).bind(&endpoint).await.unwrap();
    tokio::spawn(server.run_until(std::future::pending::<()>()));
    KvClient::connect(endpoint).await.unwrap()
}

#[tokio::test]
async fn arguments_and_replies_arrive_as_they_were_sent() {
    let kv = client("macro-arguments", Arc::default()).await;

    assert_eq!(kv.get("a").await, Ok(Some(b"a".to_vec())));
    assert_eq!(kv.get("").await, Ok(None));
    assert_eq!(kv.get("none").await, Err(CallError::App(KvError::NotFound { key: "none".to_owned() })));

    let bytes = kv.bytes(b"a", b"b".to_vec(), Some(b"c"), &Some(b"d".to_vec()), &b"e".to_vec()).await;
    assert_eq!(bytes, Ok(b"abcde".to_vec()));
    assert_eq!(kv.bytes(b"", Vec::new(), None, &None, &Vec::new()).await, Ok(Vec::new()));

    let config = Config { name: "n".to_owned(), depth: 1 };
    let returned = kv.config(&config, &[config.clone(), config.clone()], &["a", "b"], (4, "c")).await;
    assert_eq!(returned, Ok(Config { name: "nabc".to_owned(), depth: 7 }));

    let text = kv.key(Key { name: Cow::Borrowed("a") }, &Key { name: Cow::Borrowed("b") }).await;
    assert_eq!(text, Ok(Cow::Borrowed("ab")));

    assert_eq!(kv.whoami(1, 2).await, Ok(12));
    assert_eq!(kv.r#type(1).await, Ok(2));
    assert_eq!(kv.slow(Some(3)).await, Ok(Some(3)));
    assert_eq!(kv.nothing().await, Ok(()));
}

#[tokio::test]
async fn a_oneway_call_reaches_its_handler() {
    let store = Arc::<Store>::default();
    let kv = client("macro-oneway", store.clone()).await;
    assert_eq!(kv.touch(3).await, Ok(()));
    let touched = async {
        while kv.touched().await != Ok(3) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), touched).await.expect("the handler runs");
}

#[tokio::test]
async fn a_call_can_be_spawned_with_what_it_borrows() {
    let kv = client("macro-spawn", Arc::default()).await;
    let task = tokio::spawn(async move {
        let key = String::from("a");
        let text = kv.key(Key { name: Cow::Borrowed(&key) }, &Key { name: Cow::Borrowed(&key) }).await;
        (kv.get(&key).await, text)
    });
    assert_eq!(task.await.unwrap(), (Ok(Some(b"a".to_vec())), Ok(Cow::Borrowed("aa"))));
}

#[test]
fn a_service_describes_itself() {
    let service = <KvClient as ServiceClient>::SERVICE;
    assert!(std::ptr::eq(service, KvServer::new(Store::default()).descriptor()));
    assert_eq!(service.name, "acme.Kv");
    assert_eq!(service.docs, "A store.\n\nIt keeps nothing.");

    let names: Vec<&str> = service.methods.iter().map(|method| method.name).collect();
    let expected = ["get", "bytes", "config", "key", "touch!", "touched", "whoami", "type", "slow", "nothing"];
    assert_eq!(names, expected);
    assert!(service.methods.iter().all(|method| method.service == "acme.Kv"));

    let get = service.methods[0];
    assert_eq!((get.docs, get.returns), ("Finds.", "Result<Option<Vec<u8>>>"));
    assert!(get.options.idempotent && !get.options.oneway);
    assert_eq!(get.options.timeout, Some(Duration::from_millis(250)));
    let arguments = |method: usize| -> Vec<(&str, &str, bool)> {
        let arguments = service.methods[method].arguments.iter();
        arguments.map(|argument| (argument.name, argument.ty, argument.optional)).collect()
    };
    assert_eq!(arguments(0), [("key", "&str", false)]);
    assert_eq!(arguments(6), [("before", "u32", false), ("after", "u32", false)]);
    assert_eq!(arguments(7), [("match", "u32", false)]);
    assert_eq!(arguments(8), [("limit", "Option<u32>", true)]);

    assert!(service.methods[4].options.oneway);
    assert!(service.methods[8].options.blocking && service.methods[8].options.no_cancel);
    assert!(service.methods[9].options.spawn);
}
