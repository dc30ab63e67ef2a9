//! A listener for one connection whose two ends a test has made itself.

use std::io;

use trunkline::transport::mem::MemTransport;
use trunkline::transport::{BoxTransport, Listener, async_trait};

/// Accepts one.
pub(crate) struct One(pub(crate) Option<MemTransport>);

#[async_trait]
impl Listener for One {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        match self.0.take() {
            Some(transport) => Ok(Some(BoxTransport::new(transport))),
            None => std::future::pending().await,
        }
    }

    fn endpoint(&self) -> String {
        "one:".to_owned()
    }
}
