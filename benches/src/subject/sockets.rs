//! What is set for sockets.

use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

/// Gives a Unix socket the buffers that trunkline's have, so that an upload is not what a small buffer makes of it. The
/// system may give less. TCP finds its own size.
pub fn enlarge(socket: &impl AsFd) {
    let _ = setsockopt(socket, sockopt::SndBuf, &BUFFER_LEN);
    let _ = setsockopt(socket, sockopt::RcvBuf, &BUFFER_LEN);
}

const BUFFER_LEN: usize = 2 << 20;
