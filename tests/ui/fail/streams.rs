//! Streams where there can be none, and of what cannot travel.

use trunkline::{Stream, Streaming};

#[trunkline::service]
pub trait Kv {
    async fn given_as_it_is_returned(&self, rows: impl Stream<Item = u32>);
    async fn given_inside(&self, rows: Option<Streaming<u32>>);
    async fn given_of_what(&self, rows: Streaming);
    async fn given_borrowed(&self, rows: Streaming<&str>);
    async fn given_or_not(&self, #[rpc(default)] rows: Streaming<u32>);
    #[rpc(oneway)]
    async fn given_and_forgotten(&self, rows: Streaming<u32>);
    async fn returned_as_it_is_given(&self) -> Streaming<u32>;
    async fn returned_boxed(&self) -> std::pin::Pin<Box<dyn Stream<Item = u32> + Send>>;
    async fn returned_inside(&self) -> (u32, impl Stream<Item = u32>);
    async fn returned_borrowed(&self) -> impl Stream<Item = &str>;
    #[rpc(slow = "latest")]
    async fn slow_without_a_stream(&self, rows: Streaming<u32>) -> u32;
    #[rpc(slow = "newest")]
    async fn slow_as_nobody_knows_it(&self) -> impl Stream<Item = u32>;
    #[rpc(slow)]
    async fn slow_without_a_word(&self) -> impl Stream<Item = u32>;
    async fn returned_in_streams(&self) -> impl Stream<Item = Streaming<u32>>;
}

fn main() {}
