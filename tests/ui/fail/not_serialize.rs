//! A type without `Serialize`.

#[derive(serde::Deserialize)]
pub struct Opaque;

#[trunkline::service]
pub trait Kv {
    async fn argument(&self, key: &str, opaque: Opaque);
    async fn lent(&self, opaque: &Opaque);
    async fn inside(&self, opaque: Vec<Opaque>);
    async fn reply(&self) -> Opaque;
    async fn error(&self) -> Result<u32, Opaque>;
    async fn ok(&self) -> Result<Opaque, u32>;
}

fn main() {}
