//! Methods that cannot be called from another process, for what they are.

#[trunkline::service]
pub trait Kv {
    fn not_async(&self, key: &str) -> u32;
    async fn by_value(self);
    async fn exclusive(&mut self, key: &str);
    async fn shared(self: std::sync::Arc<Self>);
    async fn lifetime<'a>(&'a self, key: &'a str);
    async fn no_receiver(key: &str);
    async fn generic<T: Into<String>>(&self, key: T);
    async fn constant<const N: usize>(&self, key: [u8; N]);
    async fn conditional(&self)
    where
        Self: Sized;
    async unsafe fn dangerous(&self);
    async extern "C" fn foreign(&self);
    async fn connect(&self);
    async fn r#spawn(&self);
}

struct Store;

fn main() {
    let _ = KvServer::new(Store);
}
