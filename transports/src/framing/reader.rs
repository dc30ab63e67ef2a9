//! Frames out of a stream of bytes.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::task::{Context, Poll, ready};

use trunkline_core::frame::{FrameError, first_record};
use trunkline_core::transport::{Filled, FrameReceiver, Landing, Partial};

use super::{ByteReader, spare};

/// Finds the frames in what a byte stream brings.
///
/// There is one buffer. It doubles when a read has filled it, up to 256 KiB or the longest frame, whichever is more; a
/// header that claims much and is followed by little therefore costs little. When the connection has
/// been at rest for 100 ms and everything has been consumed, the buffer is given away and the first, small one is taken
/// up again.
///
/// The payload of a long frame goes past it, into the place that it is given. After such a one only little is read into
/// the buffer at first, since the next may be as long.
pub struct FrameReader<R> {
    source: R,
    /// Wholly initialised; empty until the first read. What was received and not yet consumed is `start..end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Up to where the buffer is read into.
    reach: usize,
    /// The small buffer, while `buffer` is a larger one; else empty.
    small: Vec<u8>,
    /// Whether the last read left no room: probably there is more.
    filled_up: bool,
    /// The frame before what is in the buffer.
    landing: Option<Landing>,
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
            reach: 0,
            small: Vec::new(),
            filled_up: false,
            landing: None,
            frame_len_max,
        }
    }

    /// Makes room for a read; `false` if there is none because a frame (or what cannot be one) waits to be looked at.
    fn make_room(&mut self) -> bool {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.filled_up && self.reach < self.buffer.len() {
            self.reach = self.buffer.len().min(2 * self.reach);
            self.filled_up = false;
        } else if self.buffer.len() < LEN_BUSY && self.filled_up || self.buffer.is_empty() {
            self.grow();
        } else if self.end == self.reach {
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
        self.reach = self.buffer.len();
        self.filled_up = false;
        if smaller.len() == LEN_MIN {
            self.small = smaller;
        }
    }

    fn compact(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// Where the next bytes go, and what lies behind that; `None` if there is something to look at first.
    fn places(&mut self) -> Option<(&mut R, &mut [u8], &mut [u8])> {
        if self.landing.is_none() {
            return self.make_room().then(|| (&mut self.source, &mut self.buffer[self.end..self.reach], &mut [][..]));
        }
        let landing = self.landing.as_mut().filter(|landing| landing.missing() > 0)?;
        let missing = landing.missing();
        let space = landing.space();
        let behind = if space.len() == missing { self.reach } else { 0 };
        Some((&mut self.source, space, &mut self.buffer[..behind]))
    }

    fn received(&mut self, n: usize) -> Filled {
        let mut landed = 0;
        if let Some(landing) = &mut self.landing {
            landed = n.min(landing.missing());
            landing.advance(landed);
        }
        self.end += n - landed;
        self.filled_up = self.end == self.reach;
        if n == 0 { Filled::Closed } else { Filled::Some }
    }
}

impl<R: ByteReader> FrameReceiver for FrameReader<R> {
    fn try_fill(&mut self) -> io::Result<Option<Filled>> {
        let Some((source, into, behind)) = self.places() else {
            return Ok(Some(Filled::Some));
        };
        let read = if behind.is_empty() {
            source.try_read(into)
        } else {
            source.try_read_vectored(&mut [IoSliceMut::new(into), IoSliceMut::new(behind)])
        };
        match read {
            Ok(n) => Ok(Some(self.received(n))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        let Some((source, into, behind)) = self.places() else {
            return Poll::Ready(Ok(Filled::Some));
        };
        let n = ready!(if behind.is_empty() {
            source.poll_read(cx, into)
        } else {
            source.poll_read_vectored(cx, &mut [IoSliceMut::new(into), IoSliceMut::new(behind)])
        })?;
        Poll::Ready(Ok(self.received(n)))
    }

    const DETACHES: bool = R::DETACHES;

    fn detach(&mut self) {
        self.source.detach();
    }

    fn frame(&self) -> Result<Option<&[u8]>, FrameError> {
        if self.landing.is_some() {
            return Ok(None);
        }
        first_record(&self.buffer[self.start..self.end], self.frame_len_max)
    }

    fn consume(&mut self) {
        if let Ok(Some(frame)) = self.frame() {
            self.start += frame.len();
        }
    }

    fn partial(&self) -> Option<Partial<'_>> {
        let nothing_lands = self.landing.is_none();
        nothing_lands.then(|| Partial::of(&self.buffer[self.start..self.end], self.frame_len_max))?
    }

    fn land(&mut self, place: Landing) {
        (self.start, self.end) = (0, 0);
        self.reach = self.reach.min(LEN_MIN);
        self.filled_up = false;
        self.landing = Some(place);
    }

    fn landed(&mut self) -> Option<Landing> {
        self.landing.take_if(|landing| landing.missing() == 0)
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
            self.reach = self.buffer.len();
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
const LEN_MIN: usize = 1024;
/// How far the buffer grows for the sake of fewer reads.
const LEN_BUSY: usize = spare::LEN_MAX;

#[cfg(test)]
mod tests {
    use trunkline_core::transport::LANDING_LEN_MIN;

    use super::*;

    /// Gives out `bytes` in pieces that end at the given places, then blocks.
    struct Script {
        bytes: Vec<u8>,
        at: usize,
        cuts: Vec<usize>,
    }

    impl Script {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let cut = self.cuts.iter().copied().find(|&cut| cut > self.at).unwrap_or(self.bytes.len());
            let n = into.len().min(cut - self.at);
            if n == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            into[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
            self.at += n;
            Ok(n)
        }
    }

    impl ByteReader for Script {
        fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            assert!(!into.is_empty());
            self.read(into)
        }

        fn poll_read(&mut self, _cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(self.try_read(into))
        }

        fn try_read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            let mut all = vec![0; into.iter().map(|place| place.len()).sum()];
            let n = self.try_read(&mut all)?;
            let mut rest = &all[..n];
            for place in into {
                let (here, behind) = rest.split_at(rest.len().min(place.len()));
                place[..here.len()].copy_from_slice(here);
                rest = behind;
            }
            Ok(n)
        }
    }

    fn frame(fill: u8, len: usize) -> Vec<u8> {
        let word = (len as u64 - 8) | 1 << 32;
        let mut frame = word.to_le_bytes().to_vec();
        frame.resize(len, fill);
        frame
    }

    fn reader(bytes: Vec<u8>, cuts: Vec<usize>, frame_len_max: usize) -> FrameReader<Script> {
        FrameReader::new(Script { bytes, at: 0, cuts }, frame_len_max)
    }

    /// Everything there is, frame by frame; `after` comes after each fill.
    fn drain(reader: &mut FrameReader<Script>, mut after: impl FnMut(&mut FrameReader<Script>)) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while reader.try_fill().unwrap().is_some() {
            frames.extend(reader.landed().map(Landing::into_frame));
            while let Some(frame) = reader.frame().unwrap() {
                frames.push(frame.to_vec());
                reader.consume();
            }
            after(reader);
        }
        frames
    }

    /// Gives the next frame a place, if it is a long one.
    fn land(reader: &mut FrameReader<Script>) {
        if let Some(place) = reader.partial().map(|partial| Landing::alone(&partial)) {
            reader.land(place);
        }
    }

    #[test]
    fn every_split_gives_the_same_frames() {
        let frames: Vec<_> = (0..20).map(|n| frame(n, 16 + usize::from(n) * 5)).collect();
        let bytes = frames.concat();
        for cut in 0..=bytes.len() {
            assert_eq!(drain(&mut reader(bytes.clone(), vec![cut], 4096), |_| {}), frames, "cut at {cut}");
        }
        let single = (0..bytes.len()).collect();
        assert_eq!(drain(&mut reader(bytes, single, 4096), FrameReader::idle), frames);
    }

    #[test]
    fn random_splits_of_large_and_small_give_the_same_frames() {
        let mut seed = 1_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        for round in 0..30 {
            let len_max = [16, 300, 10_000, 300_000][round % 4];
            let frames: Vec<_> = (0..60).map(|n| frame(n, 16 + random(len_max))).collect();
            let bytes = frames.concat();
            let mut cuts: Vec<_> = (0..40).map(|_| random(bytes.len())).collect();
            cuts.sort_unstable();
            let got = drain(&mut reader(bytes.clone(), cuts.clone(), 16 + len_max), FrameReader::idle);
            assert!(got == frames, "round {round}");
            // Some land, some do not.
            let mut turn = 0;
            let got = drain(&mut reader(bytes, cuts, 16 + len_max), |reader| {
                turn += 1;
                if turn % 3 != 0 {
                    land(reader);
                }
                if turn % 5 == 0 {
                    reader.idle();
                }
            });
            assert!(got == frames, "round {round}");
        }
    }

    #[test]
    fn a_long_frame_lands_wherever_it_is_cut() {
        let lens = [100, LANDING_LEN_MIN + 16, 40, 20_000, LANDING_LEN_MIN + 16, 5000, 16];
        let frames: Vec<_> = (0..).zip(lens).map(|(n, len)| frame(n, len)).collect();
        let bytes = frames.concat();
        let mut landings = 0;
        for cut in 0..=bytes.len() {
            let got = drain(&mut reader(bytes.clone(), vec![cut], 30_000), |reader| {
                land(reader);
                landings += usize::from(reader.landing.is_some());
            });
            assert!(got == frames, "cut at {cut}");
        }
        assert!(landings > bytes.len(), "{landings}");
        // Every few bytes, with rests between them.
        let cuts = (0..bytes.len()).step_by(7).collect();
        let got = drain(&mut reader(bytes, cuts, 30_000), |reader| {
            land(reader);
            reader.idle();
        });
        assert!(got == frames);
    }

    #[test]
    fn a_long_frame_goes_past_the_buffer() {
        let mut reader = reader(frame(7, 200_000).repeat(10), Vec::new(), 200_000);
        assert_eq!(drain(&mut reader, land).len(), 10);
        assert_eq!(reader.buffer.len(), LEN_MIN);
    }

    #[test]
    fn what_has_landed_comes_before_all_else() {
        let bytes = [frame(1, 20_000), frame(2, 40)].concat();
        let mut reader = reader(bytes, Vec::new(), 20_000);
        reader.try_fill().unwrap();
        land(&mut reader);
        assert!(reader.partial().is_none() && reader.landed().is_none());
        while reader.landing.as_ref().unwrap().missing() > 0 {
            assert_eq!(reader.try_fill().unwrap(), Some(Filled::Some));
        }
        // Nothing is read before somebody has looked.
        assert_eq!(reader.try_fill().unwrap(), Some(Filled::Some));
        assert_eq!(reader.frame(), Ok(None));
        assert_eq!(reader.landed().unwrap().into_frame(), frame(1, 20_000));
        reader.try_fill().unwrap();
        assert_eq!(reader.frame(), Ok(Some(&frame(2, 40)[..])));
    }

    #[test]
    fn an_idle_reader_is_small_again() {
        let mut reader = reader(frame(7, 200_000), Vec::new(), 200_000);
        assert_eq!(drain(&mut reader, |_| {}).len(), 1);
        assert!(reader.buffer.len() >= 200_000);
        reader.idle();
        assert!(reader.buffer.len() <= LEN_MIN);
    }

    #[test]
    fn a_reader_with_half_a_frame_keeps_it() {
        let mut reader = reader(frame(7, 10_000)[..9_000].to_vec(), Vec::new(), 10_000);
        assert!(drain(&mut reader, FrameReader::idle).is_empty());
        assert_eq!(reader.end - reader.start, 9_000);
    }

    #[test]
    fn frames_nobody_looks_at_bound_the_buffer() {
        let mut reader = reader(frame(1, 1000).repeat(1000), Vec::new(), 1000);
        for _ in 0..10_000 {
            assert_eq!(reader.try_fill().unwrap(), Some(Filled::Some));
        }
        assert_eq!(reader.buffer.len(), LEN_BUSY);
        assert_eq!(drain(&mut reader, |_| {}).len(), 1000);
    }

    #[test]
    fn what_cannot_be_a_frame_is_told_and_stays() {
        let mut reader = reader(vec![0xff; 100], Vec::new(), 1000);
        reader.try_fill().unwrap();
        assert!(matches!(reader.frame(), Err(FrameError::TooLong { .. })));
        reader.consume();
        assert!(reader.frame().is_err());
    }
}
