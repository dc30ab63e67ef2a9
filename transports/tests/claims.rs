//! What a header that claims much costs. Alone in its process: others' spare buffers would blur the figures.

mod kit;

use std::io;
use std::task::{Context, Poll};

use trunkline_core::transport::FrameReceiver;
use trunkline_transports::framing::{ByteReader, FrameReader};

/// A peer that announces a frame of 4 MiB, sends the beginning, and stalls.
struct Stalling {
    left: Vec<u8>,
}

const CLAIM: usize = 4 << 20;

impl Stalling {
    fn after(len: usize) -> Stalling {
        let mut left = kit::frame(1, len);
        left[..4].copy_from_slice(&(CLAIM as u32 - 8).to_le_bytes());
        Stalling { left }
    }
}

impl ByteReader for Stalling {
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = into.len().min(self.left.len());
        into[..n].copy_from_slice(&self.left[..n]);
        self.left.drain(..n);
        Ok(n)
    }

    fn poll_read(&mut self, _cx: &mut Context<'_>, _into: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

#[test]
fn a_claim_costs_at_most_twice_what_arrived() {
    for arrived in [16, 4000, 5000, 20_000, 70_000, 1_000_000] {
        let mut reader = FrameReader::new(Stalling::after(arrived), CLAIM);
        while reader.try_fill().unwrap().is_some() {
            assert!(reader.frame().unwrap().is_none());
        }
        let shown = format!("{reader:?}");
        let (_, len) = shown.split_once("buffer_len: ").unwrap();
        let len: usize = len.split(',').next().unwrap().parse().unwrap();
        assert!(len >= arrived && len <= (2 * arrived).max(4096), "{shown} for {arrived}");
    }
}
