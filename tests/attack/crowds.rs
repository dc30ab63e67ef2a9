//! x
pub(crate) fn client(_: &str) {}
