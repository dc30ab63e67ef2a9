//! The attribute on something else.

trait Kv {}

#[trunkline::service]
struct Store;

#[trunkline::service]
impl Kv for Store {}

#[trunkline::service]
fn serve() {}

fn main() {
    serve();
}
