//! What a method cannot return.

use std::borrow::Cow;

#[trunkline::service]
pub trait Kv {
    async fn borrowed(&self, key: &str) -> &str;
    async fn borrowed_inside(&self) -> Result<Vec<&'static [u8]>, String>;
    async fn borrowed_cow(&self) -> Option<Cow<'_, str>>;
    async fn boxed_stream(&self) -> std::pin::Pin<Box<dyn Stream<Item = u32> + Send>>;
    async fn opaque(&self) -> impl Iterator<Item = u32>;
    async fn object(&self) -> Box<dyn std::error::Error>;
    async fn itself(&self) -> Self;
    async fn inferred(&self) -> Vec<_>;
    #[rpc(oneway)]
    async fn oneway(&self) -> Result<(), String>;
}

fn main() {}
