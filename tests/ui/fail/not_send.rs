//! A handler that keeps something to its thread.

use std::rc::Rc;

#[trunkline::service]
pub trait Kv {
    async fn get(&self, key: &str) -> u32;
    async fn default(&self) -> u32 {
        let here = Rc::new(1);
        std::future::ready(()).await;
        *here
    }
}

struct Store;

impl Kv for Store {
    async fn get(&self, _: &str) -> u32 {
        let here = Rc::new(1);
        std::future::ready(()).await;
        *here
    }
}

fn main() {}
