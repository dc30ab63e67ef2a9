//! A type that only has the name of the context.

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Context;

#[trunkline::service]
pub trait Kv {
    async fn get(&self, cx: &Context);
}

fn main() {}
