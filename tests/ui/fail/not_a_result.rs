//! A type that only has the name of `Result`.

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Result;

#[trunkline::service]
pub trait Kv {
    async fn get(&self) -> Result;
}

fn main() {}
