//! Arguments that cannot be sent, by their very look.

use trunkline::Context;

#[trunkline::service]
pub trait Kv {
    async fn exclusive(&self, key: &mut String);
    async fn pattern(&self, (a, b): (u32, u32));
    async fn unnamed(&self, _: u32);
    async fn mutable(&self, mut key: u32);
    async fn opaque(&self, key: impl Into<String>);
    async fn object(&self, key: &dyn std::fmt::Display, function: fn(u32));
    async fn forever(&self, key: &'static str);
    async fn nested(&self, keys: Option<&String>, pairs: &[(u8, &mut u8)]);
    async fn itself(&self, other: Self, more: &Self);
    async fn two_contexts(&self, a: &Context, #[rpc(context)] b: &Context);
    async fn owned_context(&self, #[rpc(context)] cx: Context);
    async fn default_first(&self, #[rpc(default)] a: u32, b: u32, cx: &Context, c: u32);
    async fn default_context(&self, #[rpc(default)] a: &Context, #[rpc(default, context)] b: u8);
    async fn unknown(&self, #[rpc(oneway)] a: u32, #[rpc(default = 3)] b: u32);
    async fn sometimes(&self, #[cfg(unix)] a: u32);
    async fn many(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8, m: u8);
}

fn main() {}
