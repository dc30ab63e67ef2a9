//! Options that do not exist, or not like this.

#[trunkline::service(nam = "kv", name = kv, crate = "trunkline")]
#[rpc(name = "kv")]
pub trait Kv {
    #[rpc(retry)]
    async fn unknown(&self);
    #[rpc(oneway, idempotent, oneway)]
    async fn twice(&self);
    #[rpc(timeout = "5s")]
    #[rpc(timeout = "6s")]
    async fn twice_apart(&self);
    #[rpc(blocking, spawn)]
    async fn exclusive(&self);
    #[rpc(timeout = "soon")]
    async fn soon(&self);
    #[rpc(timeout = 5)]
    async fn no_unit(&self);
    #[rpc(timeout)]
    async fn no_value(&self);
    #[rpc(idempotent = true)]
    async fn value(&self);
    #[rpc(name = "")]
    async fn nameless(&self);
    #[rpc(name = "Kv.get")]
    async fn dotted(&self);
    #[rpc(default)]
    async fn misplaced(&self);
    #[rpc]
    async fn empty(&self);
    #[rpc(idempotent; spawn)]
    async fn punctuation(&self);
    #[rpc(name = "same")]
    async fn first(&self);
    async fn same(&self);
}

fn main() {}
