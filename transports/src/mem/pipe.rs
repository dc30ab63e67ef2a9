//! One direction between two parties of one process: a bounded queue of bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::framing::{ByteReader, ByteWriter};

/// The two ends of a new pipe.
pub(super) fn pipe() -> (MemReader, MemWriter) {
    let pipe = Arc::new(Pipe::default());
    (MemReader(Arc::clone(&pipe)), MemWriter(pipe))
}

/// The lock protects the bytes and who waits for them. No waker is cloned, woken or dropped under it.
#[derive(Debug, Default)]
struct Pipe(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// At most [`CAPACITY`].
    bytes: VecDeque<u8>,
    /// No more bytes will be written.
    finished: bool,
    /// No more bytes will be read.
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic runs under the lock, and the state is whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `step`; if it would block, leaves `cx`'s waker in `slot`; wakes whom `step` says.
    fn run(
        &self,
        cx: Option<&Context<'_>>,
        slot: fn(&mut State) -> &mut Option<Waker>,
        step: impl FnOnce(&mut State) -> io::Result<(usize, Option<Waker>)>,
    ) -> io::Result<usize> {
        let mut waiting = cx.map(|cx| cx.waker().clone());
        let mut state = self.lock();
        let outcome = step(&mut state);
        if outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) && waiting.is_some() {
            // The waker from before goes out of scope after the lock.
            std::mem::swap(slot(&mut state), &mut waiting);
        }
        drop(state);
        let (n, wake) = outcome?;
        wake.inspect(Waker::wake_by_ref);
        Ok(n)
    }

    fn read(&self, cx: Option<&Context<'_>>, into: &mut [u8]) -> io::Result<usize> {
        self.run(cx, |state| &mut state.reader, |state| state.read(into))
    }

    fn write(&self, cx: Option<&Context<'_>>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.run(cx, |state| &mut state.writer, |state| state.write(slices))
    }

    fn close(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let wakers = (state.reader.take(), state.writer.take());
        // What nobody will read is not kept for as long as the other end lives.
        let unread = if state.abandoned { std::mem::take(&mut state.bytes) } else { VecDeque::new() };
        drop(state);
        drop(unread);
        [wakers.0, wakers.1].into_iter().flatten().for_each(Waker::wake);
    }
}

impl State {
    fn read(&mut self, into: &mut [u8]) -> io::Result<(usize, Option<Waker>)> {
        if self.bytes.is_empty() {
            return if self.finished { Ok((0, None)) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let n = self.bytes.len().min(into.len());
        let (front, back) = self.bytes.as_slices();
        let cut = front.len().min(n);
        into[..cut].copy_from_slice(&front[..cut]);
        into[cut..n].copy_from_slice(&back[..n - cut]);
        self.bytes.drain(..n);
        Ok((n, self.writer.take()))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<(usize, Option<Waker>)> {
        if self.abandoned || self.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let before = self.bytes.len();
        for slice in slices {
            let n = slice.len().min(CAPACITY.saturating_sub(self.bytes.len()));
            self.bytes.extend(&slice[..n]);
        }
        match self.bytes.len() - before {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok((n, self.reader.take())),
        }
    }
}

fn polled(outcome: io::Result<usize>) -> Poll<io::Result<usize>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        outcome => Poll::Ready(outcome),
    }
}

/// The end where bytes come out.
#[derive(Debug)]
pub struct MemReader(Arc<Pipe>);

impl ByteReader for MemReader {
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(None, into)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        polled(self.0.read(Some(cx), into))
    }
}

impl Drop for MemReader {
    fn drop(&mut self) {
        self.0.close(|state| state.abandoned = true);
    }
}

/// The end where bytes go in.
#[derive(Debug)]
pub struct MemWriter(Arc<Pipe>);

impl ByteWriter for MemWriter {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(None, &[IoSlice::new(bytes)])
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        polled(self.0.write(Some(cx), &[IoSlice::new(bytes)]))
    }

    const VECTORED: bool = true;

    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write(None, slices)
    }

    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        polled(self.0.write(Some(cx), slices))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.close(|state| state.finished = true);
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemWriter {
    fn drop(&mut self) {
        self.0.close(|state| state.finished = true);
    }
}

/// Bytes that one direction holds before its writer waits.
const CAPACITY: usize = 256 * 1024;
