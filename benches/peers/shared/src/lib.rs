//! What several peers share: the sockets they run over, and an item as words.

mod sockets;
mod words;

pub use sockets::{Session, Socket, connect, listen};
pub use words::{item, words};
