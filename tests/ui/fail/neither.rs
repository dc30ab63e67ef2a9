//! A type that cannot travel at all.

pub struct Opaque;

#[trunkline::service]
pub trait Kv {
    async fn argument(&self, opaque: &Opaque);
    async fn error(&self) -> Result<u32, Opaque>;
}

fn main() {}
