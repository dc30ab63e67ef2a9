//! The crate is found under another path.

mod our {
    pub mod rpc {
        pub use trunkline::*;
    }
}
mod trunkline_is_elsewhere {
    use super::our::rpc as wire;

    #[wire::service(crate = wire)]
    pub trait Relative {
        async fn get(&self, key: &str) -> Option<Vec<u8>>;
    }

    #[wire::service(name = "Absolute", crate = crate::our::rpc)]
    pub(crate) trait Absolute {
        async fn get(&self, keys: &[&str]) -> Result<u32, String>;
    }
}

fn main() {}
