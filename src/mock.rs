//! What generated mocks stand on.

use std::future::{Future, ready};
use std::pin::Pin;

use futures_core::Stream;

/// An answer, when it is there.
pub type Mocked<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// An answer that is a stream.
pub type Items<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// An answer that is there.
pub fn mocked<R: Send + 'static>(answer: R) -> Mocked<R> {
    Box::pin(ready(answer))
}

/// A stream without its type.
pub fn items<S: Stream + Send + 'static>(stream: S) -> Items<S::Item> {
    Box::pin(stream)
}

/// Only reached where a mock is not behind its server, which refuses such calls.
#[track_caller]
pub fn unmocked(mock: &str, method: &str) -> ! {
    panic!("`{mock}` was not told what `{method}` answers: write `.{method}(|..| ..)`")
}
