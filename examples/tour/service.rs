//! What is served, and the server process around it.

use std::error::Error;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use trunkline::Server;

/// The service of the tour.
#[trunkline::service]
pub trait Tour {
    /// The same message.
    async fn echo(&self, message: Message) -> Message;

    /// How many bytes came, and what they add up to.
    async fn upload(&self, bytes: &[u8]) -> Receipt;

    /// The server's process.
    async fn pid(&self) -> u32;
}

/// 32 bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub id: u64,
    pub text: [u8; 24],
}

impl Message {
    /// A message that differs from all others in every part.
    pub fn number(id: u64) -> Message {
        let word = |n: u64| id.wrapping_add(n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        let mut text = [0; 24];
        for (n, part) in text.chunks_exact_mut(8).enumerate() {
            part.copy_from_slice(&word(n as u64));
        }
        Message { id, text }
    }
}

/// What the server says of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub len: u64,
    pub sum: u64,
}

impl Receipt {
    /// Every 64th word goes into the sum, and where it stood: a cache line each, so that looking costs little beside
    /// carrying.
    pub fn of(bytes: &[u8]) -> Receipt {
        let words = bytes.chunks_exact(8).step_by(64).filter_map(|word| word.first_chunk());
        let sum = words.fold(0_u64, |sum, word| sum.rotate_left(1) ^ u64::from_le_bytes(*word));
        Receipt { len: bytes.len() as u64, sum }
    }
}

struct Guide;

impl Tour for Guide {
    async fn echo(&self, message: Message) -> Message {
        message
    }

    async fn upload(&self, bytes: &[u8]) -> Receipt {
        Receipt::of(bytes)
    }

    async fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// A server at `uri`, and where it can be reached.
pub async fn bind(uri: &str) -> Result<(Server, String), trunkline::BindError> {
    let server = Server::builder().service(TourServer::new(Guide)).bind(uri).await?;
    let endpoint = server.endpoints().concat();
    Ok((server, endpoint))
}

/// The server process: says where it listens, and serves until its stdin ends, as it does when its parent is gone. One
/// that inherited its pipes ends with them.
#[tokio::main]
pub async fn serve(uri: &str) -> Result<(), Box<dyn Error>> {
    let (server, endpoint) = bind(uri).await?;
    if uri == "inherited:" {
        server.run().await;
        return Ok(());
    }
    writeln!(io::stdout(), "{endpoint}")?;
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        let _ = ended.send(());
    });
    server.run_until(end).await;
    Ok(())
}
