//! Only a client can be called before it is there.

#[trunkline::service]
trait Db {
    async fn query(&self) -> u32;
}

#[trunkline::service]
trait Root {
    async fn open(&self) -> Result<DbClient, String>;
    async fn both(&self) -> (DbClient, DbClient);
    async fn count(&self) -> Result<u32, String>;
}

fn example(root: &RootClient) {
    let _ = root.open().pipelined();
    let _ = root.both().pipelined();
    let _ = root.count().pipelined();
}

fn main() {}
