//! Calls on results that are not there yet.

use std::time::Duration;

use trunkline::{CallError, NoResult, Reason};

use crate::calls::{Caller, briefly};
use crate::random::{are, bytes};
use crate::service::{Pace, RoomClient};

impl Caller {
    /// Goes through some rooms, and asks in the last.
    pub(crate) async fn rooms(&mut self) {
        let depth = 1 + self.random.below(5);
        let fails_at = if self.random.one_in(3) { self.random.below(depth) } else { depth };
        let panics = self.random.one_in(2);
        let _op = self.life.watch.begin(|| format!("{depth} rooms, of which {fails_at} are there"));
        let (mut sum, mut steps) = (0_u64, Vec::new());
        let mut room: Option<RoomClient> = None;
        for at in 0..depth {
            let number = self.random.next();
            let pace = Pace {
                millis: self.random.below(20).saturating_sub(17),
                fails: at == fails_at && !panics,
                panics: at == fails_at && panics,
            };
            sum = sum.wrapping_add(number);
            let step = match &room {
                None => self.client.enter(number, pace).pipelined(),
                Some(room) => room.enter(number, pace).pipelined(),
            };
            room = Some(step.clone());
            // Nobody asks what has become of it, or somebody does later.
            if self.random.one_in(2) {
                steps.push((at, step));
            }
            if self.random.one_in(8) {
                tokio::task::yield_now().await;
            }
        }
        if let Some(room) = room {
            self.ask(room, sum, fails_at < depth, panics).await;
        }
        for (at, step) in steps {
            let why = if at == fails_at { None } else { Some(panics) };
            match step.await {
                Ok(room) if at < fails_at => {
                    if self.random.one_in(3) {
                        if let Err(error) = room.wait(0).await {
                            self.failed("a room that is there", &error, false);
                        }
                    }
                }
                Ok(_) => self.wrong("a room that is not there"),
                Err(CallError::App(_)) if at == fails_at && !panics => {}
                Err(CallError::MaybeExecuted(Reason::Panicked)) if at == fails_at && panics => {}
                Err(CallError::NotExecuted(Reason::NoResult(found)))
                    if at > fails_at && why.is_some_and(|panics| is_why(&found, panics)) => {}
                Err(error) => self.failed("enter", &error, false),
            }
        }
    }

    async fn ask(&mut self, room: RoomClient, sum: u64, fails: bool, panics: bool) {
        let asked = match self.random.below(6) {
            0 => {
                let (number, len) = (self.random.next() >> 1, self.random.size(100_000));
                let argument = bytes(number, len as usize);
                room.exchange(number, &argument, len)
                    .await
                    .map(|reply| are(&reply, number + 1))
                    .map_err(|error| error.map_app(|text| self.life.watch.wrong(&text)))
            }
            1 => {
                let time = Duration::from_micros(self.random.below(4_000));
                match room.sum().timeout(time).await {
                    Err(CallError::NotExecuted(Reason::DeadlineExceeded))
                    | Err(CallError::MaybeExecuted(Reason::DeadlineExceeded)) => return,
                    outcome => outcome.map(|found| found == sum),
                }
            }
            2 => {
                let time = self.random.size(2_000);
                let Some(outcome) = briefly(time, room.sum()).await else { return };
                outcome.map(|found| found == sum)
            }
            3 => {
                // Whether anybody is there is not known to who knocks.
                match room.knock().await {
                    Ok(()) => return,
                    Err(error) => Err(error),
                }
            }
            4 => {
                let course = self.course();
                match room.down(course).await {
                    Ok(mut pieces) if !fails => {
                        return self.take("a room\'s pieces", &mut pieces, &course, course.count + 1).await;
                    }
                    outcome => outcome.map(|_| false),
                }
            }
            _ => room.sum().await.map(|found| found == sum),
        };
        match asked {
            Ok(true) if !fails => {}
            Ok(right) => self.wrong(&format!("an answer from a room: {right}, {fails}")),
            Err(CallError::NotExecuted(Reason::NoResult(why))) if fails && is_why(&why, panics) => {}
            Err(error) => self.failed("a room", &error, false),
        }
    }
}

fn is_why(why: &NoResult, panics: bool) -> bool {
    match why {
        NoResult::App => !panics,
        NoResult::Failed(reason) => panics && **reason == Reason::Panicked,
        _ => false,
    }
}
