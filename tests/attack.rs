//! Attacks: peers that break the protocol in every way, beside honest ones that must not notice.
//!
//! The server is a real process: this binary once more (`another_process`). Attackers write bytes by hand, over Unix
//! sockets, TCP, rings in shared memory, and a bridge into the server's process for `mem:`. After each attack [`arena::Arena`] checks that the
//! process is the same, its memory flat, its accounts and descriptors back, and every honest call answered.

#![cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
#![cfg(all(feature = "tcp", feature = "unix", feature = "mem", feature = "shm"))]

#[path = "attack/arena.rs"]
mod arena;
#[path = "attack/crowds.rs"]
mod crowds;
#[path = "attack/evil.rs"]
mod evil;
#[path = "attack/floods.rs"]
mod floods;
#[path = "attack/frames.rs"]
mod frames;
#[path = "attack/fuzz.rs"]
mod fuzz;
#[path = "attack/hostile_server.rs"]
mod hostile_server;
#[path = "attack/known.rs"]
mod known;
#[path = "attack/objects.rs"]
mod objects;
#[path = "attack/payloads.rs"]
mod payloads;
#[path = "attack/results.rs"]
mod results;
#[path = "attack/ring.rs"]
mod ring;
#[path = "attack/ring_live.rs"]
mod ring_live;
#[path = "attack/ring_setup.rs"]
mod ring_setup;
#[path = "attack/target.rs"]
mod target;
#[path = "attack/wire.rs"]
mod wire;

use std::path::Path;

/// Not a test: what this binary does when a test starts it again.
#[test]
fn another_process() {
    let (Ok(role), Ok(dir)) = (std::env::var(arena::ROLE), std::env::var(arena::DIR)) else {
        return;
    };
    let argument = std::env::var(arena::ARGUMENT).unwrap_or_default();
    match role.as_str() {
        "server" => target::serve(Path::new(&dir), &argument),
        "client" => crowds::client(&argument),
        "hostile ring client" => ring_live::hostile_client(&argument),
        "hostile ring server" => ring_live::hostile_server(&argument),
        "besieged" => ring_live::besieged(&argument),
        _ => panic!("no such role: {role}"),
    }
}
