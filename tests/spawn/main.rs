//! Programs that are started to be servers: real processes, real ends.
//!
//! The child is this very program, started again with a role.

#![cfg(all(unix, feature = "pipe"))]

mod ends;
mod kit;
mod lives;
mod pipes;
mod refused;
mod service;

/// Not a test: what a second process runs. It does nothing where nobody asked for one.
#[test]
fn the_other_process() {
    kit::play();
}
