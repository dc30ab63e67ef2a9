//! The transports, and the server at the end of each.

use std::error::Error;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::{env, process};

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use trunkline::transport::PeerIdentity;

use crate::service::{self, TourClient};

/// A transport on the tour.
pub struct Stop {
    pub transport: &'static str,
    /// The URI to serve at, for a tour with this directory.
    uri: fn(&Path) -> String,
    place: Place,
}

/// Where the server is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a process of its own.
    Process,
    /// In a process that the client starts by connecting to it.
    Child,
    /// In this one, on threads of its own: the transport does not lead out.
    Thread,
}

/// Every transport there is.
pub const STOPS: &[Stop] = &[
    Stop { transport: "tcp", uri: |_| "tcp://127.0.0.1:0".to_owned(), place: Place::Process },
    Stop {
        transport: "unix",
        uri: |directory| format!("unix:{}/tour.sock", directory.display()),
        place: Place::Process,
    },
    Stop {
        transport: "shm",
        uri: |directory| format!("shm:{}/tour-shm.sock", directory.display()),
        place: Place::Process,
    },
    Stop { transport: "pipe", uri: |_| "inherited:".to_owned(), place: Place::Child },
    Stop { transport: "mem", uri: |_| "mem:tour".to_owned(), place: Place::Thread },
];

/// A server that runs, or will. Dropping it ends it.
pub struct Served {
    /// Where it can be reached.
    endpoint: String,
    server: Running,
}

enum Running {
    Process(Child),
    /// It ends with its connection.
    Child,
    /// What is dropped to end it, and its thread.
    Thread(Option<oneshot::Sender<()>>, Option<JoinHandle<()>>),
}

impl Stop {
    /// Starts the server and waits until it can be reached.
    pub fn serve(&self, directory: &Path) -> Result<Served, Box<dyn Error>> {
        let uri = (self.uri)(directory);
        match self.place {
            Place::Process => serve_in_process(&uri),
            Place::Child => Ok(Served { endpoint: uri, server: Running::Child }),
            Place::Thread => serve_in_thread(&uri),
        }
    }
}

fn serve_in_process(uri: &str) -> Result<Served, Box<dyn Error>> {
    let mut server = server_process(uri)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut endpoint = String::new();
    if let Some(stdout) = server.stdout.take() {
        BufReader::new(stdout).read_line(&mut endpoint)?;
    }
    let served = Served { endpoint: endpoint.trim_end().to_owned(), server: Running::Process(server) };
    if served.endpoint.is_empty() { Err("its server process did not start".into()) } else { Ok(served) }
}

/// This program once more, as a server at `uri`.
fn server_process(uri: &str) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--serve", uri]);
    Ok(command)
}

fn serve_in_thread(uri: &str) -> Result<Served, Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let (server, endpoint) = runtime.block_on(service::bind(uri))?;
    let (end, ended) = oneshot::channel::<()>();
    let thread = thread::spawn(move || {
        runtime.block_on(server.run_until(ended));
    });
    Ok(Served { endpoint, server: Running::Thread(Some(end), Some(thread)) })
}

impl Served {
    /// A client of it.
    pub async fn connect(&self) -> Result<TourClient, Box<dyn Error>> {
        Ok(match self.server {
            Running::Child => TourClient::spawn(server_process(&self.endpoint)?).await?,
            Running::Process(_) | Running::Thread(..) => TourClient::connect(&self.endpoint).await?,
        })
    }

    /// Who answers, in words, if it is the server that was started.
    pub fn meet(&self, pid: u32, vouched: &PeerIdentity) -> Result<String, Box<dyn Error>> {
        let started = match &self.server {
            Running::Process(server) => Some(server.id()),
            Running::Child => vouched.pid(),
            Running::Thread(..) => Some(process::id()),
        };
        let peer = match vouched {
            PeerIdentity::Tcp { addr } => format!("process {pid} at {addr}"),
            PeerIdentity::Unix { uid, .. } => format!("process {pid} of user {uid}"),
            PeerIdentity::Child { .. } => format!("child process {pid}"),
            _ => "this process".to_owned(),
        };
        if started == Some(pid) && vouched.pid().is_none_or(|vouched| vouched == pid) {
            Ok(peer)
        } else {
            Err(format!("{peer} is not the server that was started").into())
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        match &mut self.server {
            Running::Process(server) => {
                // The end of its stdin is the end of the server.
                drop(server.stdin.take());
                let _ = server.wait();
            }
            Running::Child => {}
            Running::Thread(end, thread) => {
                drop(end.take());
                let _ = thread.take().map(JoinHandle::join);
            }
        }
    }
}
