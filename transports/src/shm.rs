//! Rings in shared memory: `shm:/path`.

#[allow(dead_code, reason = "its user, the transport, is not here yet")]
mod copy;
#[allow(dead_code, reason = "its user, the transport, is not here yet")]
mod memory;
#[allow(dead_code, unused_imports, reason = "its user, the transport, is not here yet")]
mod ring;
