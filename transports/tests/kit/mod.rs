//! One end of a transport, driven by hand: frames are placed, written, received and compared.

#![allow(dead_code, reason = "every test file uses a part of it")]

#[cfg(unix)]
pub(crate) mod stranger;

use std::future::{Future, poll_fn};
use std::io;
use std::time::Duration;

use trunkline_core::frame::{FIRST_WORD_LEN, HEADER_LEN, Kind};
use trunkline_core::transport::{BatchWriter, Filled, FrameReceiver, FrameSender, Landing, Transport, Written};

/// A transport taken apart, with the batch that is being written.
pub(crate) struct End<T: Transport> {
    pub(crate) sender: T::Sender,
    pub(crate) writer: T::Writer,
    pub(crate) receiver: T::Receiver,
    pub(crate) batch: <T::Sender as FrameSender>::Batch,
    /// The longest frame that this end accepts.
    pub(crate) frame_len_max: usize,
    /// How often it could have given a long frame a place. It does every other time.
    offers: usize,
    /// Frames that stayed where they were.
    pub(crate) lent: usize,
}

impl<T: Transport> End<T> {
    pub(crate) fn new(transport: T, frame_len_max: usize) -> End<T> {
        let (sender, writer, receiver) = transport.split(frame_len_max);
        End { sender, writer, receiver, batch: Default::default(), frame_len_max, offers: 0, lent: 0 }
    }

    /// Places the frame that `id` and `len` determine; `false` if there is no room.
    pub(crate) fn place(&mut self, id: u64, len: usize) -> bool {
        self.place_claiming(id, len, len as u32 - FIRST_WORD_LEN as u32)
    }

    /// The same with any length in the header.
    pub(crate) fn place_claiming(&mut self, id: u64, len: usize, claim: u32) -> bool {
        let frame = frame(id, len);
        let Some(space) = self.sender.reserve(len) else {
            return false;
        };
        space.copy_from_slice(&frame[FIRST_WORD_LEN..]);
        self.sender.commit(u64::from(claim) | (Kind::Call as u64) << 32);
        true
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.writer.poll_write(cx, &mut self.batch)).await?;
        while self.sender.take_batch(&mut self.batch) {
            poll_fn(|cx| self.writer.poll_write(cx, &mut self.batch)).await?;
        }
        Ok(())
    }

    /// Places and tries to write until the mechanism takes no more; how many frames were placed.
    pub(crate) fn stuff(&mut self, len: usize) -> u64 {
        let mut placed = 0;
        loop {
            // Where there is no room, the writer has to be asked for it.
            placed += u64::from(self.place(placed, len));
            assert!(self.sender.take_batch(&mut self.batch));
            if self.writer.try_write(&mut self.batch).unwrap() == Written::Blocked {
                return placed;
            }
        }
    }

    pub(crate) async fn send(&mut self, id: u64, len: usize) {
        while !self.place(id, len) {
            self.flush().await.unwrap();
        }
        self.flush().await.unwrap();
    }

    pub(crate) async fn fill(&mut self) -> io::Result<Filled> {
        poll_fn(|cx| self.receiver.poll_fill(cx)).await
    }

    /// The next frame, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.receiver.frame().unwrap() {
                let frame = frame.to_vec();
                self.receiver.consume();
                return Some(frame);
            }
            if let Some(landing) = self.receiver.landed() {
                return Some(landing.into_frame());
            }
            self.receiver.idle();
            if let Some(frame) = self.lend() {
                return Some(frame);
            }
            self.land();
            if self.fill().await.unwrap() == Filled::Closed {
                return None;
            }
        }
    }

    /// The next frame, if it can stay where it is.
    fn lend(&mut self) -> Option<Vec<u8>> {
        let head = self.receiver.partial()?.bytes.get(..HEADER_LEN)?.to_vec();
        let lease = self.receiver.lend(HEADER_LEN)?;
        self.lent += 1;
        Some([&head, &*lease].concat())
    }

    fn land(&mut self) {
        let Some(partial) = self.receiver.partial() else {
            return;
        };
        self.offers += 1;
        if self.offers % 2 == 1 {
            let place = Landing::alone(&partial);
            self.receiver.land(place);
        }
    }

    pub(crate) async fn expect(&mut self, id: u64, len: usize) {
        let got = self.next().await.expect("a frame, not the end");
        assert!(got == frame(id, len), "frame {id} of {len} bytes arrived as something else");
    }

    pub(crate) async fn shutdown(&mut self) {
        poll_fn(|cx| self.writer.poll_shutdown(cx)).await.unwrap();
    }
}

/// The frame that `id` and `len` determine.
pub(crate) fn frame(id: u64, len: usize) -> Vec<u8> {
    assert!(len >= HEADER_LEN);
    let mut frame = vec![0; len];
    let word = (len - FIRST_WORD_LEN) as u64 | (Kind::Call as u64) << 32;
    frame[..FIRST_WORD_LEN].copy_from_slice(&word.to_le_bytes());
    frame[FIRST_WORD_LEN..HEADER_LEN].copy_from_slice(&id.to_le_bytes());
    for (at, byte) in frame[HEADER_LEN..].iter_mut().enumerate() {
        *byte = (at as u64 * 31 + at as u64 / 251 + id * 7) as u8;
    }
    frame
}

/// Fails instead of hanging.
pub(crate) async fn guard<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("nothing happened for 20 s")
}
