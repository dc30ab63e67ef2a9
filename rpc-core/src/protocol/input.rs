//! What arrives: each frame goes to the half it belongs to.

use std::task::Waker;
use std::time::Duration;

use super::hello::{FEATURE_RESULTS, Hello};
use super::message::{CHUNK_LEN_MIN, Opening, Piece};
use super::{
    Class, DRAIN_PING, Drain, Effects, Failure, GOAWAY_FINAL, Phase, Protocol, Side, WINDOW_ITEMS, WINDOW_MORE,
    WINDOW_REPLIES, WINDOW_REQUESTS, fail, halves,
};
use crate::error::{CloseReason, ConnectionError, HandshakeError, ProtocolError, Reason};
use crate::frame::{Frame, FrameError, HEAD_LEN_MAX, Kind, tag};
use crate::landing::{Filling, Landed, Landing, Lease, Partial};
use crate::wire::Half;

impl Protocol {
    /// Takes a whole frame in. Its error is in a box: whether there is one is asked for every frame.
    pub(crate) fn handle(&mut self, record: &[u8], effects: &mut Effects) -> Result<(), Box<ConnectionError>> {
        self.handle_piece(record, &mut None, effects)
    }

    /// The place for a long frame of which the beginning has come, if its payload can be put where it belongs. Then it is
    /// the next frame, to be taken in by [`handle_landed`](Protocol::handle_landed). Nothing is accounted for, and no rule
    /// looked after, before that.
    pub(crate) fn offer(&mut self, partial: &Partial<'_>) -> Option<Landing> {
        if self.phase != Phase::Open {
            return None;
        }
        let frame = Frame::parse(partial.bytes).ok()??;
        let head_len = frame.head_len().filter(|len| *len <= HEAD_LEN_MAX.min(partial.bytes.len()))?;
        // Short ones are kept elsewhere.
        let len = Some(partial.len - head_len).filter(|len| *len >= CHUNK_LEN_MIN)?;
        let bytes = match frame.kind {
            Kind::Chunk if self.config.side.owns(frame.id) => self.caller.lend(frame.id, len)?,
            Kind::Chunk => self.callee.lend(frame.id, len)?,
            _ => {
                let total = Opening::of(&frame, len as u64).ok()?.total;
                let message_max = self.config.limits.message_len;
                Filling::tentative(len, usize::try_from(total).ok().filter(|total| *total <= message_max)?)
            }
        };
        Some(Landing::new(partial, head_len, bytes))
    }

    /// Bytes before the payload of a frame of which the beginning has come, if that payload is a whole message: it may
    /// stay where it is. Then it is the next frame, to be taken in by [`handle_lent`](Protocol::handle_lent).
    pub(crate) fn whole(&self, partial: &Partial<'_>) -> Option<usize> {
        if self.phase != Phase::Open {
            return None;
        }
        let frame = Frame::parse(partial.bytes).ok()??;
        let whole = matches!(frame.kind, Kind::Call | Kind::Reply) && !frame.more();
        let len = frame.head_len().filter(|len| whole && *len <= HEAD_LEN_MAX.min(partial.bytes.len()))?;
        // Short ones are kept elsewhere.
        (partial.len - len >= CHUNK_LEN_MIN).then_some(len)
    }

    /// Takes in a frame without its payload, which is lent.
    pub(crate) fn handle_lent(
        &mut self,
        head: &[u8],
        payload: Lease,
        effects: &mut Effects,
    ) -> Result<(), Box<ConnectionError>> {
        self.handle_piece(head, &mut Some(Landed::Lent(payload)), effects)
    }

    /// Takes in a frame whose payload has landed.
    pub(crate) fn handle_landed(
        &mut self,
        landing: Landing,
        effects: &mut Effects,
    ) -> Result<(), Box<ConnectionError>> {
        let (head, head_len, landed) = landing.into_parts();
        self.handle_piece(&head[..head_len], &mut Some(landed), effects)
    }

    fn handle_piece(
        &mut self,
        record: &[u8],
        landed: &mut Option<Landed>,
        effects: &mut Effects,
    ) -> Result<(), Box<ConnectionError>> {
        self.heard = true;
        self.frames_in += 1;
        match self.handle_frame(record, landed, effects) {
            Ok(None) => Ok(()),
            Ok(Some(closed)) => Err(Box::new(ConnectionError::ClosedByPeer(closed))),
            Err(error) => Err(Box::new(ConnectionError::Protocol(error))),
        }
    }

    /// `record` is without its payload where that has `landed`.
    fn handle_frame(
        &mut self,
        record: &[u8],
        landed: &mut Option<Landed>,
        effects: &mut Effects,
    ) -> Result<Option<CloseReason>, ProtocolError> {
        if self.phase == Phase::AwaitHello {
            return self.handle_first(record);
        }
        let Some(frame) = Frame::parse(record)? else {
            return Ok(None);
        };
        let mine = self.config.side.owns(frame.id);
        if !matches!(frame.kind, Kind::Call | Kind::Reply | Kind::Fail) {
            refuse_critical(&frame)?;
        }
        let with_objects = frame.is_extended() && frame.has_objects();
        if with_objects {
            self.take_objects(&frame, effects)?;
        }
        match frame.kind {
            Kind::Call => {
                let len = landed.as_ref().map_or(record.len(), Landed::len);
                self.callee.handle_call(&frame, landed, &mut effects.events)?;
                if with_objects {
                    // Where it was not taken.
                    self.callee.brought = None;
                    self.settle_call(frame.id, &mut effects.events);
                }
                if self.callee.opened.is_empty() {
                    self.note_short(len);
                } else {
                    self.open_peers_streams();
                }
            }
            Kind::Reply => {
                let payload = Piece::new(frame.body, landed);
                self.caller.handle_reply(&frame, Half::Ok, payload, &mut effects.wakers)?;
                self.note_reply(frame.id);
            }
            Kind::Fail => {
                match fail::parse_head(frame.body)? {
                    (Class::App, _, detail) => {
                        self.caller.handle_reply(&frame, Half::Err, Piece::Here(detail), &mut effects.wakers)?;
                    }
                    (class, code, detail) => {
                        self.caller.handle_failure(&frame, class, code, detail, &mut effects.wakers)?;
                    }
                }
                self.note_failure(frame.id, &mut effects.wakers);
            }
            Kind::Chunk if mine => {
                self.caller.handle_chunk(&frame, landed, &mut effects.wakers)?;
                self.note_reply(frame.id);
            }
            Kind::Chunk => {
                // What was whole before is started before.
                self.take_ready(&mut effects.events);
                self.callee.handle_chunk(&frame, landed, &mut effects.events)?;
                self.park_last(&mut effects.events);
            }
            Kind::Cancel => {
                self.callee.handle_cancel(frame.id, &mut effects.events)?;
                self.break_promises();
                self.cancel_streams(frame.id, &mut effects.wakers);
            }
            Kind::Credit => self.handle_credit(&frame, &mut effects.wakers)?,
            Kind::Ping => {
                // Any byte answers a probe; a mark is larger than all probes, and the latest answers those before. The PING
                // behind a GOAWAY wants its own number.
                let number = u64::from_le_bytes(fixed(frame.body, "PING")?);
                match number {
                    DRAIN_PING => self.latches.drain_pong = true,
                    _ => self.latches.pong = self.latches.pong.max(Some(number)),
                }
            }
            Kind::Pong => self.handle_pong(u64::from_le_bytes(fixed(frame.body, "PONG")?)),
            Kind::GoAway => self.handle_go_away(frame.body, &mut effects.wakers)?,
            Kind::Close => {
                let [code] = fixed(frame.body, "CLOSE")?;
                return Ok(Some(CloseReason::from_wire(code)));
            }
            Kind::Hello => return Err(ProtocolError::Unexpected("second HELLO")),
            Kind::Item => {
                self.handle_stream(&frame, &mut effects.wakers, |streams, wakers| streams.handle_items(&frame, wakers))?
            }
            Kind::End => {
                let status = Failure::of_stream(frame.body)?;
                self.handle_stream(&frame, &mut effects.wakers, |streams, wakers| {
                    streams.handle_end(frame.id, status, wakers);
                    Ok(())
                })?;
            }
            Kind::Stop => self.handle_stream(&frame, &mut effects.wakers, |streams, wakers| {
                streams.handle_stop(frame.id, wakers);
                Ok(())
            })?,
            Kind::Release => self.objects().handle_release(frame.body)?,
            Kind::Gone => self.changed |= self.objects().handle_gone(frame.id)?,
        }
        Ok(None)
    }

    /// The first frame must be HELLO, or a CLOSE that says why there is none.
    fn handle_first(&mut self, record: &[u8]) -> Result<Option<CloseReason>, ProtocolError> {
        let frame = match Frame::parse(record) {
            Ok(Some(frame)) if frame.id == 0 => frame,
            _ => return Err(HandshakeError::NotTrunkline.into()),
        };
        match frame.kind {
            Kind::Hello => {}
            Kind::Close => {
                let [code] = fixed(frame.body, "CLOSE")?;
                return Ok(Some(CloseReason::from_wire(code)));
            }
            _ => return Err(HandshakeError::NotTrunkline.into()),
        }
        // Whatever is wrong with theirs, ours goes out, so that their error can name both versions.
        self.latches.hello |= self.config.side == Side::Server;
        let theirs = Hello::parse(frame.body)?;
        self.codec = theirs.pick_codec(&self.config.codecs)?;
        (self.caller, self.callee, self.stream_config, self.object_config) = halves(&self.config, &theirs);
        self.results_known = theirs.features_offered & FEATURE_RESULTS != 0;
        self.phase = Phase::Open;
        self.hello_deadline = None;
        self.changed = true;
        Ok(None)
    }

    fn handle_credit(&mut self, frame: &Frame<'_>, wakers: &mut Vec<Waker>) -> Result<(), ProtocolError> {
        let [window, bytes @ ..] = fixed::<9>(frame.body, "CREDIT")?;
        let bytes = u64::from_le_bytes(bytes);
        match (frame.id, window) {
            (0, WINDOW_REQUESTS) => self.caller.handle_credit(bytes),
            (0, WINDOW_REPLIES) => self.callee.handle_credit(bytes),
            (0, WINDOW_ITEMS) => self.handle_item_credit(bytes),
            (id, WINDOW_ITEMS) => {
                self.handle_stream(frame, wakers, |streams, wakers| streams.handle_credit(id, bytes, wakers))
            }
            (1.., WINDOW_MORE) => {
                self.handle_stream(frame, wakers, |streams, _| streams.handle_growth(frame.id, bytes))
            }
            _ => Err(ProtocolError::Unexpected("CREDIT for a window that does not exist")),
        }
    }

    fn handle_pong(&mut self, number: u64) {
        if number == DRAIN_PING && matches!(self.drain, Drain::Announced { .. }) {
            self.conclude_drain();
        }
        self.pace.answered(number);
        if let Some(streams) = &mut self.streams {
            streams.handle_pong(number);
        }
    }

    fn handle_go_away(&mut self, body: &[u8], wakers: &mut Vec<Waker>) -> Result<(), ProtocolError> {
        let [phase, r0, r1, r2, r3, last @ ..] = fixed::<13>(body, "GOAWAY")?;
        let millis = u32::from_le_bytes([r0, r1, r2, r3]);
        let retry_after = (millis > 0).then(|| Duration::from_millis(u64::from(millis)));
        let last = (phase == GOAWAY_FINAL).then_some(u64::from_le_bytes(last));
        self.peer_draining = true;
        self.caller.handle_go_away(last, Reason::ShuttingDown { retry_after }, wakers);
        self.look_after_streams(wakers);
        self.changed = true;
        Ok(())
    }
}

/// A body of exactly `N` bytes.
fn fixed<const N: usize>(body: &[u8], what: &'static str) -> Result<[u8; N], ProtocolError> {
    body.try_into().map_err(|_| ProtocolError::Frame(FrameError::Truncated { what }))
}

/// For frames that know no critical extension at all.
fn refuse_critical(frame: &Frame<'_>) -> Result<(), FrameError> {
    for extension in frame.extensions() {
        let (tag, _) = extension?;
        if tag & tag::CRITICAL != 0 {
            return Err(FrameError::UnknownExtension(tag));
        }
    }
    Ok(())
}
