//! A chat room in a process of its own: everybody hears what anybody says.
//!
//! `cargo run --example chat`. The program starts itself once more, as the room, and three people come into it over one
//! connection. Each of them is one call with a stream in either direction.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, Receiver, Sender};
use trunkline::{Stream, Streaming, serve};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Line {
    by: String,
    text: String,
}

#[trunkline::service]
trait Chat {
    /// Comes in: what is `said` is heard by all, and what comes back is what they say. Whoever has nothing more to say leaves.
    async fn join(&self, name: &str, said: Streaming<String>) -> impl Stream<Item = Line>;
}

#[derive(Default)]
struct Room {
    /// By name. Whoever does not listen misses what is said after this many lines.
    members: Arc<Mutex<HashMap<String, Sender<Line>>>>,
}

const UNHEARD_MAX: usize = 8192;

impl Chat for Room {
    async fn join(&self, name: &str, said: Streaming<String>) -> impl Stream<Item = Line> {
        let (sender, heard) = mpsc::channel(UNHEARD_MAX);
        let members = Arc::clone(&self.members);
        members.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), sender);
        Seat { name: name.to_owned(), said: Some(said), heard, members }
    }
}

/// Somebody in the room. Polled by their connection: as long as they do not listen, they cannot speak either.
struct Seat {
    name: String,
    said: Option<Streaming<String>>,
    heard: Receiver<Line>,
    members: Arc<Mutex<HashMap<String, Sender<Line>>>>,
}

impl Stream for Seat {
    type Item = Line;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Line>> {
        while let Some(said) = &mut self.said {
            match Pin::new(said).poll_next(cx) {
                Poll::Ready(Some(Ok(text))) => self.tell(text),
                Poll::Ready(_) => self.leave(),
                Poll::Pending => break,
            }
        }
        self.heard.poll_recv(cx)
    }
}

impl Seat {
    fn tell(&self, text: String) {
        let line = Line { by: self.name.clone(), text };
        for member in self.members.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let _ = member.try_send(line.clone());
        }
    }

    fn leave(&mut self) {
        self.said = None;
        self.members.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What somebody says, as it comes to their mind.
struct Said(Receiver<String>);

impl Stream for Said {
    type Item = String;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<String>> {
        self.0.poll_recv(cx)
    }
}

const NAMES: [&str; 3] = ["Ada", "Grace", "Barbara"];
const LINES: usize = 1000;

/// Hears everybody out: how many lines, each of them in its turn.
async fn listen(mut heard: Streaming<Line>, say: Sender<String>) -> Result<usize, String> {
    let mut next: HashMap<String, usize> = HashMap::new();
    let mut lines = 0;
    while lines < NAMES.len() * LINES {
        let Some(line) = heard.next().await else { return Err(format!("the room closed after {lines} lines")) };
        let Line { by, text } = line.map_err(|error| error.to_string())?;
        let turn = next.entry(by.clone()).or_default();
        if text != format!("line {turn}") {
            return Err(format!("{by} said `{text}` in the place of line {turn}"));
        }
        *turn += 1;
        lines += 1;
    }
    // Nothing more to say: the room lets go.
    drop(say);
    match heard.next().await {
        None => Ok(lines),
        Some(more) => Err(format!("there is more: {more:?}")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("room") {
        return Ok(serve("inherited:", ChatServer::new(Room::default())).await?);
    }

    let chat = ChatClient::spawn(Command::new(env::current_exe()?).arg("room")).await?;
    let mut people = Vec::new();
    for name in NAMES {
        let (say, said) = mpsc::channel(16);
        people.push((name, say, chat.join(name, Said(said)).await?));
    }
    // All are there before anybody speaks.
    let mut tasks = Vec::new();
    for (name, say, heard) in people {
        let listening = tokio::spawn(listen(heard, say.clone()));
        let speaking = tokio::spawn(async move {
            for turn in 0..LINES {
                say.send(format!("line {turn}")).await?;
            }
            Ok::<_, mpsc::error::SendError<String>>(())
        });
        tasks.push((name, speaking, listening));
    }
    for (name, speaking, listening) in tasks {
        speaking.await??;
        println!("{name} heard {} lines", listening.await??);
    }
    Ok(())
}
