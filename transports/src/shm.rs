//! Rings in shared memory: `shm:/path`.

mod ring;
