//! Time: sweeps over the calls, probes of a silent peer, the bounds of handshake and drain.

use std::time::Instant;

use super::{Drain, Effects, Phase, Protocol, SWEEP};
use crate::error::{ConnectionError, HandshakeError};

impl Protocol {
    /// When `handle_timeout` is to be called next. The clock is read only where something new began.
    pub(crate) fn poll_timeout(&mut self, clock: impl Fn() -> Instant) -> Option<Instant> {
        match self.phase {
            Phase::Ended(_) => return None,
            Phase::AwaitHello => {
                let limit = self.config.limits.hello_timeout;
                return Some(*self.hello_deadline.get_or_insert_with(|| clock() + limit));
            }
            Phase::Open => {}
        }
        if self.wants_sweep() {
            self.sweep_at.get_or_insert_with(|| clock() + SWEEP);
        }
        // Where no sweep is on its way, whoever needs one next has to say so.
        self.soon = self.sweep_at.is_some();
        let watches = self.watches();
        if !watches {
            self.silent_since = None;
            self.pinged_at = None;
        }
        let probe = watches.then(|| match self.pinged_at {
            Some(pinged) => pinged + self.config.limits.ping_timeout,
            None => *self.silent_since.get_or_insert_with(&clock) + self.config.limits.ping_interval,
        });
        let give_up = match self.drain {
            Drain::Announced { give_up } => Some(give_up),
            _ => None,
        };
        [self.sweep_at, self.next_deadline, probe, give_up].into_iter().flatten().min()
    }

    /// Whether a sweep is needed that nobody has been told of. The caller tells the driver.
    pub(crate) fn needs_sweep(&mut self) -> bool {
        self.wants_sweep() && !std::mem::replace(&mut self.soon, true)
    }

    fn wants_sweep(&mut self) -> bool {
        (self.caller.unstamped() && self.caller.busy())
            || self.callee.unstamped()
            || self.callee.requests().owed() > 0
            || self.caller.replies().owed() > 0
            || self.pace.needs_sweep()
            || self.objects.as_ref().is_some_and(|objects| objects.owes())
            || self
                .streams
                .as_mut()
                .is_some_and(|streams| streams.owes() || streams.unstamped() || streams.window().owed() > 0)
    }

    /// Whether the peer's silence would say something.
    fn watches(&self) -> bool {
        self.config.silent_loss || self.caller.busy() || self.streams.as_ref().is_some_and(|streams| streams.len() > 0)
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant, effects: &mut Effects) -> Result<(), ConnectionError> {
        if self.phase == Phase::AwaitHello {
            let limit = self.config.limits.hello_timeout;
            return match self.hello_deadline {
                Some(deadline) if deadline <= now => {
                    Err(ConnectionError::Protocol(HandshakeError::Timeout(limit).into()))
                }
                _ => Ok(()),
            };
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.sweep_at) || due(self.next_deadline) {
            self.sweep_at = None;
            self.soon = false;
            let calls = self.caller.sweep(now, &mut effects.wakers);
            let handlers = self.callee.sweep(now, &mut effects.events);
            self.break_promises();
            self.look_after_streams(&mut effects.wakers);
            let idle = self.sweep_streams(now, &mut effects.wakers);
            self.next_deadline = [calls, handlers, idle].into_iter().flatten().min();
            self.latches.credit = true;
            self.pace.sweep();
        }
        if matches!(self.drain, Drain::Announced { give_up } if give_up <= now) {
            self.conclude_drain();
        }
        self.probe(now)
    }

    fn probe(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if std::mem::take(&mut self.heard) {
            self.silent_since = Some(now);
            self.pinged_at = None;
            return Ok(());
        }
        let limits = &self.config.limits;
        match (self.pinged_at, self.silent_since) {
            (Some(pinged), _) if pinged + limits.ping_timeout <= now => {
                Err(ConnectionError::Silent(limits.ping_interval + limits.ping_timeout))
            }
            (None, Some(since)) if since + limits.ping_interval <= now && self.watches() => {
                self.pinged_at = Some(now);
                self.ping_number += 1;
                self.latches.ping.get_or_insert(self.ping_number);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
