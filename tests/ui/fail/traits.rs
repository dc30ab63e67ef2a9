//! Traits that are no services.

#[trunkline::service]
pub trait Generic<T>
where
    T: Send,
{
    async fn get(&self) -> T;
}

#[trunkline::service]
pub trait Sub: Clone + Send + 'static {
    async fn get(&self) -> u32;
}

#[trunkline::service]
pub unsafe trait Dangerous {
    async fn get(&self) -> u32;
}

#[trunkline::service]
pub trait More {
    const LIMIT: u32;
    type Key;
    async fn get(&self) -> u32;
}

#[trunkline::service]
#[async_trait::async_trait]
pub trait Boxed {
    async fn get(&self) -> u32;
}

fn main() {}
