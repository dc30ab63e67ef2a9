//! What leaves: latches first, then replies and calls, chunks of long messages and items of streams, CLOSE last.

use std::task::Waker;

use super::hello::Hello;
use super::stream::place_credit;
use super::{
    DRAIN_PING, GOAWAY_ANNOUNCED, GOAWAY_FINAL, GoAway, Latches, Phase, Progress, Protocol, WINDOW_ITEMS,
    WINDOW_REPLIES, WINDOW_REQUESTS,
};
use crate::frame::{Head, Kind};
use crate::transport::FrameSender;

impl Protocol {
    /// Nothing goes before HELLO, though a call may begin the moment the peer's is in.
    pub(super) fn say_hello<S: FrameSender>(&mut self, out: &mut S) {
        if self.latches.hello && self.phase == Phase::Open {
            self.transmit_latches(out);
        }
    }

    /// Places what is owed, as far as there is room.
    ///
    /// Answers `false` if something is left that had no room. `wakers` gets those for whom there is room now.
    #[inline]
    pub(crate) fn transmit<S: FrameSender>(&mut self, out: &mut S, wakers: &mut Vec<Waker>) -> bool {
        self.owes_nothing() || self.transmit_all(out, wakers)
    }

    /// Whether there is nothing to place, as is the rule: it is asked after every call and every reply, so without a branch
    /// for each of the reasons that there may be.
    #[inline]
    fn owes_nothing(&self) -> bool {
        let Latches { hello, pong, drain_pong, ping, go_away, close, credit: all_credit } = &self.latches;
        let latched =
            hello | drain_pong | all_credit | pong.is_some() | ping.is_some() | go_away.is_some() | close.is_some();
        let others = self.streams.is_some() | self.objects.is_some() | self.pace.is_on();
        let credit = self.callee.owes_credit() | self.caller.owes_credit();
        self.is_open() & !(latched | others | credit) & self.caller.is_quiet() & self.callee.is_quiet()
    }

    fn transmit_all<S: FrameSender>(&mut self, out: &mut S, wakers: &mut Vec<Waker>) -> bool {
        if let Some(streams) = &mut self.streams {
            wakers.append(&mut streams.woken);
        }
        if let Some(objects) = &mut self.objects {
            objects.settle();
        }
        if self.said_close {
            return true;
        }
        if self.ended().is_some() {
            return self.transmit_close(out);
        }
        self.transmit_latches(out)
            && (self.is_quiet() || self.transmit_messages(out, wakers))
            && self.transmit_close(out)
    }

    /// Whether no message waits for anything, as is the rule.
    fn is_quiet(&self) -> bool {
        self.caller.is_quiet() && self.callee.is_quiet() && self.streams.is_none() && self.pace.due().is_none()
    }

    /// Replies, calls, chunks of longer messages, and items. Where room is short each comes first in turn, and a long frame that
    /// has no room does not keep back the short ones of the others.
    fn transmit_messages<S: FrameSender>(&mut self, out: &mut S, wakers: &mut Vec<Waker>) -> bool {
        let first = self.turn;
        let mut all = true;
        for step in 0..TURNS {
            let before = out.position();
            let placed = match (first + step) % TURNS {
                0 => self.callee.transmit(out),
                1 => self.transmit_calls(out, wakers),
                2 => self.transmit_chunks(out, wakers),
                _ => self.transmit_items(out, wakers),
            };
            all &= placed;
            // Whose turn it is keeps it as long as there is no room at all.
            if step == 0 && (placed || out.position() != before) {
                self.turn = (first + 1) % TURNS;
            }
        }
        // The last item of a call's stream may have made place for another call.
        if all && self.caller.has_waiting() {
            all = self.transmit_calls(out, wakers);
        }
        // Whoever placed the last of it, there may be memory now.
        self.caller.wake_fitting(wakers);
        self.callee.wake_encoders(wakers);
        all
    }

    fn transmit_calls<S: FrameSender>(&mut self, out: &mut S, wakers: &mut Vec<Waker>) -> bool {
        let all = self.caller.transmit(out, wakers);
        if !self.caller.opened.is_empty() {
            self.open_own();
        }
        all
    }

    /// Items of streams, a chunk of each in turn, at the same pace as long messages.
    fn transmit_items<S: FrameSender>(&mut self, out: &mut S, wakers: &mut Vec<Waker>) -> bool {
        if self.streams.is_none() {
            return true;
        }
        let mut placed = Some(true);
        while placed == Some(true) && self.transmit_mark(out) && self.pace.allows() {
            let before = out.position();
            placed = self.streams.as_mut().and_then(|streams| streams.send(wakers, out));
            self.pace.placed(out.position() - before);
        }
        self.settle_streams();
        placed != Some(false) && self.transmit_mark(out)
    }

    fn transmit_latches<S: FrameSender>(&mut self, out: &mut S) -> bool {
        if self.latches.hello {
            let config = &self.config;
            let codecs = if self.phase == Phase::Open { std::slice::from_ref(&self.codec) } else { &config.codecs };
            let hello = Hello::new(&config.limits, config.frame_len_max(), codecs, config.instance);
            if !hello.place(out) {
                return false;
            }
            self.latches.hello = false;
        }
        if self.phase != Phase::Open {
            return true;
        }
        if let Some(number) = self.latches.pong {
            if !Head::new(Kind::Pong, 0).place(&number.to_le_bytes(), out) {
                return false;
            }
            self.latches.pong = None;
        }
        if self.latches.drain_pong {
            if !Head::new(Kind::Pong, 0).place(&DRAIN_PING.to_le_bytes(), out) {
                return false;
            }
            self.latches.drain_pong = false;
        }
        if let Some(go_away) = self.latches.go_away {
            if !go_away.place(out) {
                return false;
            }
            self.latches.go_away = None;
        }
        if let Some(number) = self.latches.ping {
            if !Head::new(Kind::Ping, 0).place(&number.to_le_bytes(), out) {
                return false;
            }
            self.latches.ping = None;
        }
        self.transmit_credit(out)
    }

    fn transmit_credit<S: FrameSender>(&mut self, out: &mut S) -> bool {
        let all = self.latches.credit;
        if let Some(objects) = &mut self.objects {
            if !objects.transmit(all, out) {
                return false;
            }
        }
        if !all && self.streams.is_none() && !self.callee.owes_credit() && !self.caller.owes_credit() {
            return true;
        }
        let windows = [(WINDOW_REQUESTS, self.callee.requests()), (WINDOW_REPLIES, self.caller.replies())];
        let items = self.streams.as_mut().map(|streams| (WINDOW_ITEMS, streams.window()));
        for (name, window) in windows.into_iter().chain(items) {
            if window.pressing() || (all && window.owed() > 0) {
                if !place_credit(name, 0, window.owed(), out) {
                    return false;
                }
                window.grant();
            }
        }
        if let Some(streams) = &mut self.streams {
            if all {
                streams.settle_credit();
            }
            let placed = streams.send_dues(out);
            self.settle_streams();
            if !placed {
                return false;
            }
        }
        self.latches.credit = false;
        true
    }

    /// Chunks of long messages, requests and replies in turn, so that none keeps the others waiting.
    fn transmit_chunks<S: FrameSender>(&mut self, out: &mut S, wakers: &mut Vec<Waker>) -> bool {
        let mut nothing = 0;
        while nothing < 2 && self.transmit_mark(out) && self.pace.allows() {
            let before = out.position();
            let most = self.pace.chunk_len(usize::MAX);
            let progress = match self.requests_next {
                true => self.caller.send_chunk(most, out, wakers),
                false => self.callee.send_chunk(most, out),
            };
            self.pace.placed(out.position() - before);
            match progress {
                // Its turn stays.
                Some(Progress::Blocked) => return false,
                Some(_) => nothing = 0,
                None => nothing += 1,
            }
            self.requests_next = !self.requests_next;
        }
        self.transmit_mark(out)
    }

    /// The PING behind chunks, if one is due. `false` if the sender has no room.
    pub(super) fn transmit_mark<S: FrameSender>(&mut self, out: &mut S) -> bool {
        let Some(number) = self.pace.due() else {
            return true;
        };
        let placed = Head::new(Kind::Ping, 0).place(&number.to_le_bytes(), out);
        if placed {
            self.pace.marked();
        }
        placed
    }

    fn transmit_close<S: FrameSender>(&mut self, out: &mut S) -> bool {
        let Some(reason) = self.latches.close else {
            return true;
        };
        let placed = Head::new(Kind::Close, 0).place(&[reason.to_wire()], out);
        if placed {
            self.latches.close = None;
            self.said_close = true;
            self.callee.silence();
        }
        placed
    }
}

impl GoAway {
    #[must_use]
    fn place<S: FrameSender>(self, out: &mut S) -> bool {
        let mut body = [0; 13];
        body[0] = if self.last.is_some() { GOAWAY_FINAL } else { GOAWAY_ANNOUNCED };
        let millis = self.retry_after.map_or(0, |after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX));
        body[1..5].copy_from_slice(&millis.to_le_bytes());
        body[5..].copy_from_slice(&self.last.unwrap_or(0).to_le_bytes());
        Head::new(Kind::GoAway, 0).place(&body, out)
    }
}

/// Those who place messages: replies, calls, chunks, items.
const TURNS: usize = 4;
