use std::fmt;

use serde::{Deserialize, Serialize};

/// A key-value store.
#[trunkline::service]
pub trait Kv {
    /// The value stored under `key`.
    async fn get(&self, key: &str) -> Result<String, KvError>;

    /// Stores `value` under `key`.
    async fn put(&self, key: &str, value: &str);
}

/// What can go wrong in the store.
#[derive(Debug, Serialize, Deserialize)]
pub enum KvError {
    NotFound { key: String },
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvError::NotFound { key } => write!(f, "there is nothing under `{key}`"),
        }
    }
}
