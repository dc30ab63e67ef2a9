//! The caller's module has no prelude, and names of its own for what others find there.

#![no_implicit_prelude]
#![allow(dead_code)]

#[allow(non_camel_case_types)]
struct Send;
struct Sync;
struct Option;
struct Ok;
struct Err;
struct Clone;
struct Vec;
mod core {}
mod std {}

#[::trunkline::service(mock)]
pub trait Kv {
    #[rpc(idempotent, timeout = "5s")]
    async fn get(&self, key: &str, value: &[u8], numbers: &[u32]) -> ::core::result::Result<u32, u8>;
    async fn put(&self, #[rpc(default)] value: u32, cx: &::trunkline::Context) -> u32 {
        value
    }
    #[rpc(oneway)]
    async fn touch(&self);
}

fn main() {}
