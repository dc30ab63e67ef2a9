//! What several peers share: the sockets they run over, an item as words, the allocator's settings.

mod memory;
mod sockets;
mod words;

pub use memory::keep_freed_memory;
pub use sockets::{Session, Socket, connect, listen};
pub use words::{item, words};
