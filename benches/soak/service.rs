//! What is served, at both ends of a connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Cx, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use trunkline::{Context, Stream, Streaming};

use crate::random::{Random, are, bytes};

/// The text of panics that are meant.
pub(crate) const ON_PURPOSE: &str = "on purpose";

#[trunkline::service]
pub(crate) trait Soak {
    /// The argument is what belongs to `number`, and so is the reply, to the next one.
    async fn exchange(&self, number: u64, argument: &[u8], len: u64) -> Result<Vec<u8>, String>;
    async fn wait(&self, millis: u64) -> u64;
    #[rpc(blocking)]
    async fn block(&self, millis: u64) -> u64;
    async fn panic(&self, later: bool) -> u64;
    #[rpc(oneway)]
    async fn note(&self, number: u64);
    /// Calls back, and is called back from there, so many times.
    async fn bounce(&self, left: u64, cx: &Context) -> Result<u64, String>;
    async fn down(&self, course: Course) -> impl Stream<Item = Vec<u8>>;
    /// Takes up to so many, and says how many there were and whether that was all.
    async fn up(&self, number: u64, most: u64, pieces: Streaming<Vec<u8>>) -> Result<(u64, bool), String>;
    /// A room, after a while; or no room.
    async fn enter(&self, number: u64, pace: Pace) -> Result<RoomClient, String>;
    /// What comes in goes out.
    async fn through(&self, pieces: Streaming<Vec<u8>>) -> impl Stream<Item = Vec<u8>>;
}

/// How a room is opened.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Pace {
    pub(crate) millis: u64,
    pub(crate) fails: bool,
    pub(crate) panics: bool,
}

/// Rooms in rooms, to be called before they are there.
#[trunkline::service]
pub(crate) trait Room {
    async fn enter(&self, number: u64, pace: Pace) -> Result<RoomClient, String>;
    /// The numbers of the rooms on the way here, together.
    async fn sum(&self) -> u64;
    /// As `Soak.exchange`.
    async fn exchange(&self, number: u64, argument: &[u8], len: u64) -> Result<Vec<u8>, String>;
    async fn wait(&self, millis: u64) -> u64;
    #[rpc(oneway)]
    async fn knock(&self);
    async fn down(&self, course: Course) -> impl Stream<Item = Vec<u8>>;
}

struct Inside(u64);

impl Inside {
    async fn enter(before: u64, number: u64, pace: Pace) -> Result<RoomClient, String> {
        if pace.millis > 0 {
            sleep(Duration::from_millis(pace.millis)).await;
        }
        if pace.panics {
            std::panic::panic_any(ON_PURPOSE)
        }
        if pace.fails {
            return Err(format!("no {number}"));
        }
        Ok(RoomClient::local(RoomServer::new(Inside(before.wrapping_add(number)))))
    }
}

impl Room for Inside {
    async fn enter(&self, number: u64, pace: Pace) -> Result<RoomClient, String> {
        Inside::enter(self.0, number, pace).await
    }

    async fn sum(&self) -> u64 {
        self.0
    }

    async fn exchange(&self, number: u64, argument: &[u8], len: u64) -> Result<Vec<u8>, String> {
        Handlers.exchange(number, argument, len).await
    }

    async fn wait(&self, millis: u64) -> u64 {
        Handlers.wait(millis).await
    }

    async fn knock(&self) {}

    async fn down(&self, course: Course) -> impl Stream<Item = Vec<u8>> {
        Pieces::new(course)
    }
}

/// What clients serve.
#[trunkline::service]
pub(crate) trait Home {
    async fn bounce_back(&self, left: u64, cx: &Context) -> Result<u64, String>;
}

pub(crate) struct Handlers;

impl Soak for Handlers {
    async fn exchange(&self, number: u64, argument: &[u8], len: u64) -> Result<Vec<u8>, String> {
        if number % 5 == 0 {
            tokio::task::yield_now().await;
        }
        if are(argument, number) { Ok(bytes(number + 1, len as usize)) } else { Err("wrong bytes".to_owned()) }
    }

    async fn wait(&self, millis: u64) -> u64 {
        sleep(Duration::from_millis(millis)).await;
        millis
    }

    async fn block(&self, millis: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(millis));
        millis
    }

    async fn panic(&self, later: bool) -> u64 {
        if later {
            tokio::task::yield_now().await;
        }
        std::panic::panic_any(ON_PURPOSE)
    }

    async fn note(&self, _: u64) {}

    async fn bounce(&self, left: u64, cx: &Context) -> Result<u64, String> {
        if left == 0 {
            return Ok(0);
        }
        let home: HomeClient = cx.peer().client();
        home.bounce_back(left - 1).await.map(|depth| depth + 1).map_err(|error| error.to_string())
    }

    async fn down(&self, course: Course) -> impl Stream<Item = Vec<u8>> {
        Pieces::new(course)
    }

    async fn up(&self, number: u64, most: u64, mut pieces: Streaming<Vec<u8>>) -> Result<(u64, bool), String> {
        let mut taken = 0;
        while taken < most {
            match pieces.next().await {
                Some(Ok(piece)) if is_piece(&piece, number, taken) => taken += 1,
                Some(Ok(_)) => return Err(format!("piece {taken} is wrong")),
                Some(Err(error)) => return Err(format!("after {taken}: {error}")),
                None => return Ok((taken, true)),
            }
            if taken % 64 == 63 {
                tokio::task::yield_now().await;
            }
        }
        Ok((taken, false))
    }

    async fn through(&self, pieces: Streaming<Vec<u8>>) -> impl Stream<Item = Vec<u8>> {
        Through(pieces)
    }

    async fn enter(&self, number: u64, pace: Pace) -> Result<RoomClient, String> {
        Inside::enter(0, number, pace).await
    }
}

pub(crate) struct AtHome;

impl Home for AtHome {
    async fn bounce_back(&self, left: u64, cx: &Context) -> Result<u64, String> {
        if left == 0 {
            return Ok(0);
        }
        let soak: SoakClient = cx.peer().client();
        soak.bounce(left - 1).await.map(|depth| depth + 1).map_err(|error| error.to_string())
    }
}

/// What a stream does.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Course {
    pub(crate) number: u64,
    /// So many pieces; then it ends,
    pub(crate) count: u64,
    /// or panics.
    pub(crate) panics: bool,
    /// The longest piece.
    pub(crate) len_max: u64,
    /// Once in so many pieces it has none for a while.
    pub(crate) pause: u64,
}

/// The piece of a stream.
fn piece(number: u64, at: u64, len_max: u64) -> Vec<u8> {
    let number = number.wrapping_add(at << 8);
    let len = Random::new(number).size(len_max);
    bytes(number, len as usize)
}

/// Whether it is the one, of whatever length.
pub(crate) fn is_piece(bytes: &[u8], number: u64, at: u64) -> bool {
    are(bytes, number.wrapping_add(at << 8))
}

/// Whether it also is as long as it should be.
pub(crate) fn is_piece_of(bytes: &[u8], course: &Course, at: u64) -> bool {
    bytes == piece(course.number, at, course.len_max)
}

/// Makes them.
pub(crate) struct Pieces {
    course: Course,
    at: u64,
    random: Random,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pieces {
    pub(crate) fn new(course: Course) -> Pieces {
        Pieces { course, at: 0, random: Random::new(course.number ^ course.count), sleep: None }
    }
}

impl Stream for Pieces {
    type Item = Vec<u8>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Vec<u8>>> {
        let this = self.get_mut();
        if let Some(sleep) = &mut this.sleep {
            ready!(sleep.as_mut().poll(cx));
            this.sleep = None;
        } else if this.course.pause > 0 && this.random.one_in(this.course.pause) {
            if this.random.one_in(4) {
                this.sleep = Some(Box::pin(sleep(Duration::from_millis(this.random.below(3)))));
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.at == this.course.count {
            if this.course.panics {
                std::panic::panic_any(ON_PURPOSE);
            }
            return Poll::Ready(None);
        }
        this.at += 1;
        Poll::Ready(Some(piece(this.course.number, this.at - 1, this.course.len_max)))
    }
}

/// Hands on what comes, and ends with it.
struct Through(Streaming<Vec<u8>>);

impl Stream for Through {
    type Item = Vec<u8>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Vec<u8>>> {
        let piece = ready!(Pin::new(&mut self.0).poll_next(cx));
        Poll::Ready(piece.and_then(Result::ok))
    }
}
