//! Frames out of a stream of bytes.

use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use trunkline_core::frame::{FrameError, first_record};
use trunkline_core::transport::{Filled, FrameReceiver};

use super::{ByteReader, spare};

/// Finds the frames in what a byte stream brings.
///
/// There is one buffer. It doubles when a read has filled it, up to 256 KiB or the longest frame, whichever is more; a
/// header that claims much and is followed by little therefore costs little. When everything has been consumed and the
/// driver is about to sleep, the buffer is given away and the first, small one is taken up again.
pub struct FrameReader<R> {
    source: R,
    /// Wholly initialised; empty until the first read. What was received and not yet consumed is `start..end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The small buffer, while `buffer` is a larger one; else empty.
    small: Vec<u8>,
    /// Whether the last read left no room: probably there is more.
    filled_up: bool,
    frame_len_max: usize,
}

impl<R: ByteReader> FrameReader<R> {
    /// Reads frames of at most `frame_len_max` bytes, header included, from `source`.
    pub fn new(source: R, frame_len_max: usize) -> FrameReader<R> {
        FrameReader {
            source,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            small: Vec::new(),
            filled_up: false,
            frame_len_max,
        }
    }

    /// Makes room for a read; `false` if there is none because a frame (or what cannot be one) waits to be looked at.
    fn make_room(&mut self) -> bool {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() < LEN_BUSY && self.filled_up || self.buffer.is_empty() {
            self.grow();
        } else if self.end == self.buffer.len() {
            // With a whole frame in front there is no hurry, and moving what lies behind it could go on for ever.
            if !matches!(self.frame(), Ok(None)) {
                return false;
            }
            if self.start > 0 {
                self.compact();
            } else {
                self.grow();
            }
        }
        true
    }

    /// Moves to a larger buffer: one that lies spare, or one of twice the length.
    fn grow(&mut self) {
        let len = (self.buffer.len() * 2).clamp(LEN_MIN, self.frame_len_max.max(LEN_BUSY));
        let spare = if self.buffer.is_empty() { None } else { spare::take(self.buffer.len()) };
        let larger = spare.unwrap_or_else(|| vec![0; len]);
        let smaller = std::mem::replace(&mut self.buffer, larger);
        let live = &smaller[self.start..self.end];
        self.buffer[..live.len()].copy_from_slice(live);
        (self.start, self.end) = (0, live.len());
        self.filled_up = false;
        if smaller.len() == LEN_MIN {
            self.small = smaller;
        }
    }

    fn compact(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }

    fn received(&mut self, n: usize) -> Filled {
        self.end += n;
        self.filled_up = self.end == self.buffer.len();
        if n == 0 { Filled::Closed } else { Filled::Some }
    }
}

impl<R: ByteReader> FrameReceiver for FrameReader<R> {
    fn try_fill(&mut self) -> io::Result<Option<Filled>> {
        if !self.make_room() {
            return Ok(Some(Filled::Some));
        }
        match self.source.try_read(&mut self.buffer[self.end..]) {
            Ok(n) => Ok(Some(self.received(n))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        if !self.make_room() {
            return Poll::Ready(Ok(Filled::Some));
        }
        let n = ready!(self.source.poll_read(cx, &mut self.buffer[self.end..]))?;
        Poll::Ready(Ok(self.received(n)))
    }

    fn frame(&self) -> Result<Option<&[u8]>, FrameError> {
        first_record(&self.buffer[self.start..self.end], self.frame_len_max)
    }

    fn consume(&mut self) {
        if let Ok(Some(frame)) = self.frame() {
            self.start += frame.len();
        }
    }

    fn idle(&mut self) {
        if self.start != self.end {
            return;
        }
        (self.start, self.end) = (0, 0);
        self.filled_up = false;
        if self.buffer.len() > LEN_MIN {
            let large = std::mem::replace(&mut self.buffer, std::mem::take(&mut self.small));
            spare::give(large);
        }
    }
}

impl<R> fmt::Debug for FrameReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader")
            .field("received", &(self.end - self.start))
            .field("buffer_len", &self.buffer.len())
            .finish_non_exhaustive()
    }
}

/// The buffer at first, and of a connection at rest.
const LEN_MIN: usize = 4 * 1024;
/// How far the buffer grows for the sake of fewer reads.
const LEN_BUSY: usize = spare::LEN_MAX;
