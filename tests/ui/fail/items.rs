//! Items that cannot travel, which only the compiler sees.

use trunkline::{Stream, Streaming};

pub struct Row;

#[trunkline::service]
pub trait Kv {
    async fn import(&self, rows: Streaming<Row>);
    async fn watch(&self) -> impl Stream<Item = Row>;
}

fn main() {}
