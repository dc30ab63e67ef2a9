//! `#[service(mock)]`: methods that are closures, behind a server.

use std::borrow::Cow;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline::{CallError, Context, Reason, Stream, Streaming};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Config {
    depth: u32,
}

#[derive(Serialize, Deserialize)]
struct Key<'a> {
    name: Cow<'a, str>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct KvError;

type Result<T, E = KvError> = std::result::Result<T, E>;

#[trunkline::service(mock)]
trait Kv {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;
    async fn put(&self, config: &Config, keys: &[Key<'_>], bytes: &[u8], #[rpc(default)] n: u32) -> u32;
    #[rpc(oneway)]
    async fn touch(&self, key: Key<'_>);
    async fn whoami(&self, cx: &Context) -> String;
    async fn watch(&self, prefix: &str) -> Result<impl Stream<Item = u32>>;
    async fn chat(&self, said: Streaming<u32>) -> impl Stream<Item = u32>;
    async fn sum(&self, numbers: Streaming<u32>, from: u32) -> u32;
    async fn r#type(&self) -> Cow<'static, str> {
        "a default".into()
    }
    #[cfg(any())]
    async fn absent(&self, what: Nothing);
}

fn local(mock: MockKv) -> KvClient {
    KvClient::local(KvServer::new(mock))
}

/// Items that are all there.
struct Items(std::vec::IntoIter<u32>);

impl Stream for Items {
    type Item = u32;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<u32>> {
        std::task::Poll::Ready(self.0.next())
    }
}

fn stream(items: impl Into<Vec<u32>>) -> Items {
    Items(items.into().into_iter())
}

async fn all(mut stream: Streaming<u32>) -> Vec<u32> {
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        items.push(item.unwrap());
    }
    items
}

#[tokio::test]
async fn closures_answer() {
    let touched = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&touched);
    let kv = local(
        MockKv::new()
            .get(|key| if key.is_empty() { Err(KvError) } else { Ok(Some(key.as_bytes().to_vec())) })
            .put(|config, keys, bytes, n| config.depth + keys[0].name.len() as u32 + bytes.len() as u32 + n)
            .touch(move |key| {
                counted.fetch_add(key.name.len() as u32, Ordering::Relaxed);
            })
            .whoami(|cx| cx.peer().identity().to_string())
            .r#type(|| "mocked".into()),
    );
    assert_eq!(kv.get("a").await, Ok(Some(b"a".to_vec())));
    assert_eq!(kv.get("").await, Err(CallError::App(KvError)));
    let keys = [Key { name: "four".into() }];
    assert_eq!(kv.put(&Config { depth: 1 }, &keys, b"two", 10).await, Ok(18));
    kv.touch(Key { name: "five!".into() }).await.unwrap();
    assert_eq!(kv.whoami().await.as_deref(), Ok("this process"));
    assert_eq!(kv.r#type().await.as_deref(), Ok("mocked"));
    assert_eq!(touched.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn what_was_not_told_is_not_served_and_named() {
    let unknown = |method: &str| Reason::UnknownMethod { service: "Kv".to_owned(), method: method.to_owned() };
    let kv = local(MockKv::new().whoami(|_| String::new()));
    assert_eq!(kv.get("a").await, Err(CallError::NotExecuted(unknown("get"))));
    assert_eq!(kv.r#type().await, Err(CallError::NotExecuted(unknown("type"))));
    assert_eq!(kv.sum(stream([1]), 0).await, Err(CallError::NotExecuted(unknown("sum"))));
    assert_eq!(kv.whoami().await.as_deref(), Ok(""));
    // The same behind an `Arc`, as a test keeps it that looks at the mock afterwards.
    let kv = KvClient::local(KvServer::new(Arc::new(MockKv::new())));
    assert_eq!(kv.whoami().await, Err(CallError::NotExecuted(unknown("whoami"))));
}

#[tokio::test]
#[should_panic(expected = "`MockKv` was not told what `get` answers: write `.get(|..| ..)`")]
async fn what_was_not_told_panics_without_a_server() {
    let _ = Kv::get(&MockKv::new(), "a").await;
}

#[tokio::test]
async fn streams_are_answers_and_arguments() {
    let kv = local(
        MockKv::new()
            .watch(|prefix| if prefix.is_empty() { Err(KvError) } else { Ok(stream([1, 2])) })
            .chat(Doubled)
            .sum_async(|mut numbers, from| async move {
                let mut sum = from;
                while let Some(Ok(n)) = numbers.next().await {
                    sum += n;
                }
                sum
            }),
    );
    assert_eq!(all(kv.watch("a").await.unwrap()).await, [1, 2]);
    assert_eq!(kv.watch("").await.err(), Some(CallError::App(KvError)));
    assert_eq!(all(kv.chat(stream([3, 4])).await.unwrap()).await, [6, 8]);
    assert_eq!(kv.sum(stream([1, 2, 3]), 4).await, Ok(10));
}

struct Doubled(Streaming<u32>);

impl Stream for Doubled {
    type Item = u32;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<u32>> {
        std::pin::Pin::new(&mut self.0).poll_next(cx).map(|item| Some(2 * item?.ok()?))
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_take_time() {
    let kv = local(
        MockKv::new()
            .get_async(|key| {
                let key = key.as_bytes().to_vec();
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Ok(Some(key))
                }
            })
            .watch_async(|_| async { Ok(stream([7])) })
            .whoami_async(|_| pending()),
    );
    assert_eq!(kv.get("late").await, Ok(Some(b"late".to_vec())));
    assert_eq!(all(kv.watch("").await.unwrap()).await, [7]);
    let outcome = kv.whoami().timeout(Duration::from_secs(2)).await;
    assert_eq!(outcome, Err(CallError::MaybeExecuted(Reason::DeadlineExceeded)));
}
