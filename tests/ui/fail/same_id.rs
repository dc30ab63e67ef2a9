//! Two methods with one wire name, each under a condition.

#[trunkline::service]
pub trait Kv {
    #[cfg(all())]
    async fn get(&self);
    #[cfg(not(any()))]
    #[rpc(name = "get")]
    async fn fetch(&self);
}

fn main() {}
