//! What callers do, and what may come of it.

use std::fmt::Debug;
use std::future::{Future, IntoFuture};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use trunkline::{CallError, NoResult, Reason, StreamError, Streaming};

use crate::life::Course as Life;
use crate::random::{Random, are, bytes};
use crate::service::{Course, Pieces, SoakClient, is_piece_of};

/// Calls until it is done.
pub(crate) async fn call(client: SoakClient, random: Random, life: Life) {
    let mut caller = Caller { client, random, life };
    while !caller.life.is_done() {
        caller.once().await;
        // One that fails at once must not keep a thread.
        tokio::task::yield_now().await;
    }
}

pub(crate) struct Caller {
    pub(crate) client: SoakClient,
    pub(crate) random: Random,
    pub(crate) life: Life,
}

impl Caller {
    async fn once(&mut self) {
        match self.random.below(23) {
            0..=5 => self.exchange().await,
            6 | 7 => self.cancel().await,
            8 => self.deadline().await,
            9 => self.block().await,
            10 => self.panic().await,
            11 => self.note().await,
            12 | 13 => self.bounce().await,
            14 | 15 => self.down().await,
            16 | 17 => self.up().await,
            18 => self.through().await,
            19..=21 => self.rooms().await,
            _ => self.forget().await,
        }
    }

    async fn exchange(&mut self) {
        let (number, len) = (self.random.next() >> 1, self.random.size(200_000));
        let reply_len = self.random.size(200_000);
        let argument = bytes(number, len as usize);
        let _op = self.life.watch.begin(|| format!("exchange of {len} and {reply_len} bytes"));
        match self.client.exchange(number, &argument, reply_len).await {
            Ok(reply) if reply.len() as u64 == reply_len && are(&reply, number + 1) => {}
            Ok(_) => self.wrong("a wrong reply"),
            Err(error) => self.failed("exchange", &error, false),
        }
    }

    /// Loses interest, sooner or later.
    async fn cancel(&mut self) {
        let (number, len, reply_len) = (self.random.next() >> 1, self.random.size(100_000), self.random.size(100_000));
        let argument = bytes(number, len as usize);
        let time = self.random.size(2_000);
        let _op = self.life.watch.begin(|| format!("call that is cancelled after {time} us"));
        let calls = self.random.one_in(2);
        let client = self.client.clone();
        let outcome = if calls {
            briefly(time, client.exchange(number, &argument, reply_len))
                .await
                .map(|reply| reply.map(drop).map_err(drop))
        } else {
            briefly(time, client.wait(time / 500)).await.map(|reply| reply.map(drop).map_err(drop))
        };
        if outcome == Some(Err(())) && !self.life.is_cut() {
            self.wrong("a call that was to be cancelled has failed");
        }
    }

    async fn deadline(&mut self) {
        let (millis, time) = (self.random.below(6), Duration::from_micros(self.random.below(6_000)));
        let _op = self.life.watch.begin(|| format!("{millis} ms, with {time:?} to its deadline"));
        match self.client.wait(millis).timeout(time).await {
            Ok(waited) if waited == millis => {}
            Ok(_) => self.wrong("a wrong reply"),
            Err(error) => self.failed("deadline", &error, true),
        }
    }

    async fn block(&mut self) {
        let millis = self.random.below(3);
        let _op = self.life.watch.begin(|| "blocking".to_owned());
        match self.client.block(millis).await {
            Ok(waited) if waited == millis => {}
            Ok(_) => self.wrong("a wrong reply"),
            Err(error) => self.failed("block", &error, false),
        }
    }

    async fn panic(&mut self) {
        let later = self.random.one_in(2);
        let _op = self.life.watch.begin(|| "panic".to_owned());
        match self.client.panic(later).await {
            Err(CallError::MaybeExecuted(Reason::Panicked)) => {}
            Ok(_) => self.wrong("a handler has not panicked"),
            Err(error) => self.failed("panic", &error, false),
        }
    }

    async fn note(&mut self) {
        let _op = self.life.watch.begin(|| "oneway".to_owned());
        for _ in 0..self.random.size(30) {
            if let Err(error) = self.client.note(1).await {
                self.failed("note", &error, false);
            }
        }
    }

    /// A call cycle. One that meets a limit is told so at once.
    async fn bounce(&mut self) {
        let times = self.random.below(6);
        let _op = self.life.watch.begin(|| format!("bouncing {times} times"));
        let outcome = if self.random.one_in(3) {
            let time = self.random.size(1_000);
            let Some(outcome) = briefly(time, self.client.bounce(times)).await else { return };
            outcome
        } else {
            self.client.bounce(times).await
        };
        match outcome {
            Ok(depth) if depth == times => {}
            Ok(_) => self.wrong("a wrong reply"),
            Err(CallError::App(text)) if text.contains("the limit") || self.life.is_cut() => {}
            Err(error) => self.failed("bounce", &error, false),
        }
    }

    /// A stream from the server.
    async fn down(&mut self) {
        let course = self.course();
        let most = self.most(course.count);
        let op = self.life.watch.begin(|| format!("{most} pieces of the server's {course:?}"));
        let mut pieces = match self.client.down(course).await {
            Ok(pieces) => pieces,
            Err(error) => return self.failed("down", &error, false),
        };
        self.take("down", &mut pieces, &course, most).await;
        drop(op);
    }

    /// One to it.
    async fn up(&mut self) {
        let course = self.course();
        let most = self.most(course.count);
        let _op = self.life.watch.begin(|| format!("{most} pieces of the client's {course:?}"));
        let call = self.client.up(course.number, most, Pieces::new(course));
        let outcome = if self.random.one_in(6) {
            let time = self.random.size(3_000);
            let Some(outcome) = briefly(time, call).await else { return };
            outcome
        } else {
            call.await
        };
        let (expected, whole) = (most.min(course.count), most > course.count);
        match outcome {
            Ok(outcome) if outcome == (expected, whole) && !(whole && course.panics) => {}
            Ok(outcome) => self.wrong(&format!("{outcome:?} of {most} pieces of {course:?}")),
            Err(CallError::App(text)) if self.life.is_cut() && text.starts_with("after") => {}
            Err(CallError::App(text)) if course.panics && whole && text == panicked(course.count) => {}
            Err(error) => self.failed("up", &error, false),
        }
    }

    /// One there and back.
    async fn through(&mut self) {
        let course = Course { panics: false, ..self.course() };
        let most = self.most(course.count);
        let op = self.life.watch.begin(|| format!("{most} pieces back of {course:?}"));
        let mut pieces = match self.client.through(Pieces::new(course)).await {
            Ok(pieces) => pieces,
            Err(error) => return self.failed("through", &error, false),
        };
        self.take("through", &mut pieces, &course, most).await;
        drop(op);
    }

    /// Streams that nobody reads, for a while.
    async fn forget(&mut self) {
        let course = self.course();
        let _op = self.life.watch.begin(|| format!("{course:?}, to be left unread"));
        let time = self.random.size(2_000);
        let client = self.client.clone();
        match self.random.below(3) {
            0 => drop(briefly(time, client.down(course)).await),
            1 => drop(briefly(time, client.through(Pieces::new(course))).await),
            _ => {
                let pieces = client.down(course).await;
                sleep(Duration::from_millis(self.random.below(6))).await;
                match pieces {
                    Ok(pieces) => drop(pieces),
                    Err(error) => self.failed("down", &error, false),
                }
            }
        }
    }

    /// Takes up to so many pieces, and sees how the stream ends if it takes all.
    pub(crate) async fn take(&mut self, what: &str, pieces: &mut Streaming<Vec<u8>>, course: &Course, most: u64) {
        let mut taken = 0;
        while taken < most {
            match pieces.next().await {
                Some(Ok(piece)) if is_piece_of(&piece, course, taken) => taken += 1,
                Some(Ok(_)) => self.wrong(&format!("{what}: piece {taken} of {course:?} is wrong")),
                Some(Err(StreamError::Ended(Reason::Panicked))) if course.panics && taken == course.count => return,
                None if !course.panics && taken == course.count => return,
                // Where a stream is handed on, its loss is an end.
                None | Some(Err(_)) if self.life.is_cut() => return,
                end => self.wrong(&format!("{what}: {:?} after {taken} pieces of {course:?}", end.map(|_| "an error"))),
            }
            if self.random.one_in(200) {
                sleep(Duration::from_millis(self.random.below(3))).await;
            }
        }
    }

    pub(crate) fn course(&mut self) -> Course {
        Course {
            number: self.random.next(),
            count: self.random.size(3_000),
            panics: self.random.one_in(5),
            // With its heads within the smallest window.
            len_max: self.random.size(8_000),
            pause: [0, 20, 200][self.random.below(3) as usize],
        }
    }

    /// How much of it is taken: more than there is, or less.
    fn most(&mut self, count: u64) -> u64 {
        if self.random.one_in(2) { count + 1 } else { self.random.below(count + 1) }
    }

    pub(crate) fn failed<E: Debug>(&self, what: &str, error: &CallError<E>, has_deadline: bool) {
        let reason = match error {
            CallError::NotExecuted(reason) | CallError::MaybeExecuted(reason) => Some(reason),
            CallError::App(_) => None,
        };
        // What its result did not come for is what counts.
        let reason = match reason {
            Some(Reason::NoResult(NoResult::Failed(reason))) => Some(&**reason),
            reason => reason,
        };
        match reason {
            Some(Reason::ConnectionLost(_) | Reason::ShuttingDown { .. } | Reason::Cancelled) if self.life.is_cut() => {
            }
            Some(Reason::DeadlineExceeded) if has_deadline => {}
            _ => self.wrong(&format!("{what}: {error:?}")),
        }
    }

    pub(crate) fn wrong(&self, what: &str) -> ! {
        self.life.watch.wrong(what)
    }
}

/// What `up` says of a source that panics.
fn panicked(count: u64) -> String {
    format!("after {count}: {}", StreamError::Ended(Reason::Panicked))
}

/// A call that is dropped after so many microseconds; none: after it was polled once.
pub(crate) async fn briefly<C: IntoFuture>(micros: u64, call: C) -> Option<C::Output> {
    let call = call.into_future();
    if micros > 0 {
        return timeout(Duration::from_micros(micros), call).await.ok();
    }
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match call.as_mut().poll(cx) {
            std::task::Poll::Ready(outcome) => Some(outcome),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
