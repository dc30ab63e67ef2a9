//! Every kind of argument, reply and option, in a crate that denies what it can.

#![deny(warnings, missing_docs, unused, nonstandard_style, unreachable_pub, rust_2018_idioms, unsafe_code)]
#![allow(clippy::non_minimal_cfg)]
#![deny(deprecated, elided_lifetimes_in_paths, unused_qualifications)]

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trunkline::Context;

/// Some data.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Config {
    depth: u32,
}

/// Data that borrows.
#[derive(Serialize, Deserialize)]
pub struct Key<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// A type with the name that is most popular for a parameter.
pub type T = u32;

/// The errors of [`Kv`].
#[derive(Serialize, Deserialize, Debug)]
pub enum KvError {
    /// There is nothing.
    NotFound,
}

/// An alias.
pub type Result<T, E = KvError> = core::result::Result<T, E>;

use Context as Ctx;

/// A service.
#[trunkline::service(name = "acme.Kv", mock)]
pub trait Kv {
    /// Borrows text.
    #[rpc(idempotent)]
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;
    /// Borrows bytes.
    async fn put(&self, key: &str, value: &[u8]) -> core::result::Result<(), KvError>;
    /// Takes bytes of every kind.
    async fn bytes(
        &self,
        a: Vec<u8>,
        b: &Vec<u8>,
        c: Option<Vec<u8>>,
        d: Option<&[u8]>,
        e: &Option<Vec<u8>>,
        f: &[u8; 4],
    ) -> Option<Option<Vec<u8>>>;
    /// Borrows anything.
    async fn config(&self, config: &Config, all: &[Config], names: &[&str], pair: (u8, &str)) -> Config;
    /// Borrows what is not behind a reference.
    async fn key(&self, key: Key<'_>, lent: &Key<'_>, text: Cow<'_, str>) -> Cow<'static, str>;
    /// Tells nobody.
    #[rpc(oneway)]
    async fn touch(&self, key: &str);
    /// Tells nobody, and says so.
    #[rpc(oneway, name = "TOUCH2")]
    async fn touch2(&self) -> ();
    /// Asks for the context.
    async fn whoami(&self, cx: &Context) -> u64;
    /// Asks for the context between arguments.
    async fn between(&self, a: u32, #[rpc(context)] cx: &Ctx, b: u32) -> u32;
    /// Has options.
    #[rpc(blocking, no_cancel, timeout = "5s")]
    async fn slow(&self);
    /// Has other options.
    #[rpc(spawn)]
    #[rpc(idempotent)]
    async fn compute(&self) -> u64;
    /// May be called without the last ones.
    async fn list(
        &self,
        prefix: &str,
        #[rpc(default)] limit: Option<u32>,
        #[rpc(default)] config: &Config,
    ) -> Vec<String>;
    /// Has a body.
    async fn answer(&self) -> u32 {
        42
    }
    /// Has a body that changes its argument.
    async fn countdown(&self, mut n: u32, by: u32) -> Result<u32> {
        while n > by {
            n -= by;
        }
        if n == 0 {
            return Err(KvError::NotFound);
        }
        Ok(n)
    }
    /// Has a body with nothing in it.
    async fn nothing(&self) {}
    /// Is not used any more.
    #[deprecated = "use get"]
    async fn old(&self) -> u32;
    /// Is not here.
    #[cfg(any())]
    async fn absent(&self, x: Missing) -> Missing;
    /// Is here in one of two shapes.
    #[cfg(all())]
    async fn either(&self, x: u32) -> u32;
    /// Is here in one of two shapes.
    #[cfg(not(all()))]
    async fn either(&self, x: u64) -> u64;
    /// Is here, by a roundabout way.
    #[cfg_attr(all(), cfg(all()), must_use)]
    #[cfg_attr(any(), cfg(any()))]
    async fn roundabout(&self) -> u32;
    /// Has a name that is a keyword, and arguments that are.
    async fn r#type(&self, r#match: u32, r#fn: &str) -> u32;
    /// Takes a type with a popular name.
    async fn popular(&self, t: T, array: [u8; LEN]) -> T;
    /// Is called what something in the expansion could be called.
    async fn len(&self, args: u32, request: u32, client: u32, service: u32, returned: u32, answer: u32) -> u32;
    /// Takes as much as there can be.
    #[allow(clippy::too_many_arguments)]
    async fn many(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8) -> u8;
    /// Has the name of another after a prefix.
    async fn id_len(&self);
    /// Returns what `std` calls a result.
    async fn io(&self) -> std::result::Result<Vec<u8>, String>;
}

/// A length.
pub const LEN: usize = 3;

struct Store;

impl Kv for Store {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(Some(key.as_bytes().to_vec()))
    }
    async fn put(&self, _key: &str, _value: &[u8]) -> Result<()> {
        Err(KvError::NotFound)
    }
    async fn bytes(
        &self,
        a: Vec<u8>,
        _b: &Vec<u8>,
        _c: Option<Vec<u8>>,
        _d: Option<&[u8]>,
        _e: &Option<Vec<u8>>,
        _f: &[u8; 4],
    ) -> Option<Option<Vec<u8>>> {
        Some(Some(a))
    }
    async fn config(&self, config: &Config, _all: &[Config], _names: &[&str], _pair: (u8, &str)) -> Config {
        config.clone()
    }
    async fn key(&self, key: Key<'_>, _lent: &Key<'_>, _text: Cow<'_, str>) -> Cow<'static, str> {
        Cow::Owned(key.name.into_owned())
    }
    async fn touch(&self, _key: &str) {}
    async fn touch2(&self) {}
    async fn whoami(&self, cx: &Context) -> u64 {
        tokio::task::yield_now().await;
        let _ = cx;
        0
    }
    async fn between(&self, a: u32, _cx: &Ctx, b: u32) -> u32 {
        a + b
    }
    async fn slow(&self) {}
    async fn compute(&self) -> u64 {
        0
    }
    async fn list(&self, prefix: &str, _limit: Option<u32>, _config: &Config) -> Vec<String> {
        tokio::task::yield_now().await;
        vec![prefix.to_owned()]
    }
    async fn old(&self) -> u32 {
        0
    }
    async fn either(&self, x: u32) -> u32 {
        x
    }
    async fn roundabout(&self) -> u32 {
        0
    }
    async fn r#type(&self, r#match: u32, _fn: &str) -> u32 {
        r#match
    }
    async fn popular(&self, t: T, _array: [u8; LEN]) -> T {
        t
    }
    async fn len(&self, args: u32, _: u32, _: u32, _: u32, _: u32, _: u32) -> u32 {
        args
    }
    async fn many(&self, a: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8) -> u8 {
        a
    }
    async fn id_len(&self) {}
    async fn io(&self) -> std::result::Result<Vec<u8>, String> {
        Ok(Vec::new())
    }
}

fn requires<S: trunkline::Service + Clone + std::fmt::Debug>(_: S) {}
fn sendable<S: Send>(value: S) -> S {
    value
}

/// The client's methods have the trait's arguments, without the context.
pub async fn client(kv: &KvClient) {
    let key = String::from("key");
    let _ = sendable(async { kv.get(&key).await }).await;
    let _ = kv.whoami().await;
    let _ = kv.between(1, 2).await;
    let _ = kv.r#type(1, "").await;
    let _ = kv.list("", None, &Config::default()).await;
    let _ = kv.clone();
}

fn main() {
    requires(KvServer::new(Store));
    requires(KvServer::new(Arc::new(Store)));
    let mock = MockKv::new().get(|key| Ok(Some(key.into()))).len(|args, _, _, _, _, answer| args + answer);
    requires(KvServer::new(Arc::new(mock.slow_async(std::future::pending))));
}
