//! A peer without a protocol: bytes out, frames in, over any transport.

use std::future::poll_fn;
use std::io;

use trunkline::transport::{BatchWriter, Filled, FrameReceiver, FrameSender, Transport};

/// One end of a transport, of whatever type.
#[async_trait::async_trait]
pub(crate) trait Raw: Send {
    /// Sends bytes, at least 8, whatever they are.
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Sends bytes of a frame whose rest never comes.
    async fn send_part(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The next frame; `None` at the end.
    async fn frame(&mut self) -> Option<Vec<u8>>;

    /// Reads frames until the peer closes, and hands them back.
    async fn frames_to_the_end(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            frames.push(frame);
        }
        frames
    }
}

pub(crate) fn raw<T: Transport>(transport: T) -> Box<dyn Raw> {
    let (sender, writer, receiver) = transport.split(1 << 20);
    Box::new(End::<T> { sender, writer, receiver, is_ring: false })
}

/// The same over a ring, where a frame is there or is not.
pub(crate) fn raw_ring<T: Transport>(transport: T) -> Box<dyn Raw> {
    let (sender, writer, receiver) = transport.split(1 << 20);
    Box::new(End::<T> { sender, writer, receiver, is_ring: true })
}

struct End<T: Transport> {
    sender: T::Sender,
    writer: T::Writer,
    receiver: T::Receiver,
    is_ring: bool,
}

#[async_trait::async_trait]
impl<T: Transport> Raw for End<T> {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (word, rest) = bytes.split_first_chunk::<8>().expect("at least 8 bytes");
        let room = self.sender.reserve(bytes.len()).expect("nothing else is placed");
        room.copy_from_slice(rest);
        self.sender.commit(u64::from_le_bytes(*word));
        let mut batch = Default::default();
        self.sender.take_batch(&mut batch);
        poll_fn(|cx| self.writer.poll_write(cx, &mut batch)).await
    }

    async fn send_part(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_ring {
            return self.send(bytes).await;
        }
        let room = self.sender.reserve(bytes.len()).expect("nothing else is placed");
        room.copy_from_slice(&bytes[8..]);
        Ok(())
    }

    async fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.receiver.frame().expect("an honest peer's frames") {
                let frame = frame.to_vec();
                self.receiver.consume();
                return Some(frame);
            }
            match poll_fn(|cx| self.receiver.poll_fill(cx)).await {
                Ok(Filled::Some) => {}
                Ok(Filled::Closed) | Err(_) => return None,
            }
        }
    }
}

pub(crate) const HELLO: u8 = 1;
pub(crate) const CALL: u8 = 2;
pub(crate) const CLOSE: u8 = 14;

/// A frame without extensions.
pub(crate) fn frame(kind: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(16 + body.len());
    frame.extend_from_slice(&(8 + body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&[kind, 0, 0, 0]);
    frame.extend_from_slice(&id.to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

/// The kind of a frame.
pub(crate) fn kind(frame: &[u8]) -> u8 {
    frame[4]
}

/// An honest HELLO, of this major version and with this codec.
pub(crate) fn hello(major: u8, codec: u8) -> Vec<u8> {
    let mut body = b"TRNK".to_vec();
    body.extend_from_slice(&[major, 0]);
    let mut put = |tag: u16, value: &[u8]| {
        body.extend_from_slice(&tag.to_le_bytes());
        body.extend_from_slice(&(value.len() as u16).to_le_bytes());
        body.extend_from_slice(value);
    };
    let window = 8u64 << 20;
    put(3, &(4u64 << 20).to_le_bytes());
    put(4, &(256u64 << 10).to_le_bytes());
    put(5, &128u32.to_le_bytes());
    put(6, &window.to_le_bytes());
    put(7, &window.to_le_bytes());
    put(8, &[codec]);
    put(9, &7u128.to_le_bytes());
    frame(HELLO, 0, &body)
}

/// A CALL with encoded arguments.
pub(crate) fn call(id: u64, method: u64, timeout_ms: u32, payload: &[u8]) -> Vec<u8> {
    let mut body = method.to_le_bytes().to_vec();
    body.extend_from_slice(&0u32.to_le_bytes());
    body.extend_from_slice(&(timeout_ms * 10).to_le_bytes());
    body.extend_from_slice(payload);
    frame(CALL, id, &body)
}

/// What is no handshake.
pub(crate) const GARBAGE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: something else entirely\r\n\r\n";
