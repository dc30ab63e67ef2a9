//! What a child serves.

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use trunkline::{Connection, Context};

use crate::kit;

#[trunkline::service]
pub(crate) trait Worker {
    async fn echo(&self, data: Vec<u8>) -> Vec<u8>;

    /// The worker's process id, and who it takes the caller for.
    async fn who(&self, cx: &Context) -> (u32, String);

    /// Prints so many lines.
    async fn print(&self, lines: u32);

    /// Ends the process, without a reply.
    async fn exit(&self, code: i32);

    async fn hang(&self);

    /// Blocks the only thread there is, then replies.
    async fn block(&self, ms: u64, len: usize) -> Vec<u8>;

    /// Starts a process that lives long and keeps what it inherits; its id.
    async fn start_a_sleeper(&self) -> u32;

    /// Starts a worker of its own, of that role, and calls it without end; its process id.
    async fn start_a_worker(&self, role: &str, mark: &str, busy: bool) -> u32;

    /// Tries to serve `inherited:`, in this process or in one that it starts; what is said.
    async fn serve_again(&self, elsewhere: bool) -> String;
}

#[derive(Default)]
pub(crate) struct Host {
    /// Connections that live as long as the process.
    kept: Mutex<Vec<Connection>>,
}

impl Worker for Host {
    async fn echo(&self, data: Vec<u8>) -> Vec<u8> {
        data
    }

    async fn who(&self, cx: &Context) -> (u32, String) {
        (std::process::id(), format!("{:?}", cx.peer().identity()))
    }

    async fn print(&self, lines: u32) {
        for line in 0..lines {
            println!("line {line}");
        }
    }

    async fn exit(&self, code: i32) {
        std::process::exit(code);
    }

    async fn hang(&self) {
        std::future::pending().await
    }

    async fn block(&self, ms: u64, len: usize) -> Vec<u8> {
        std::thread::sleep(Duration::from_millis(ms));
        vec![7; len]
    }

    async fn start_a_sleeper(&self) -> u32 {
        let mut sleeper = Command::new("sleep");
        sleeper.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        sleeper.spawn().expect("a process").id()
    }

    async fn start_a_worker(&self, role: &str, mark: &str, busy: bool) -> u32 {
        let connection = Connection::builder().spawn(kit::command(role).env(kit::MARK, mark)).await.expect("a worker");
        let worker: WorkerClient = connection.client();
        let (pid, _) = worker.who().await.expect("it answers");
        if busy {
            let worker: WorkerClient = connection.client();
            tokio::spawn(async move { worker.block(300, 1 << 20).await });
            let worker: WorkerClient = connection.client();
            tokio::spawn(async move { worker.hang().await });
            // So that both are on their way.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.kept.lock().expect("nobody panics").push(connection);
        pid
    }

    async fn serve_again(&self, elsewhere: bool) -> String {
        if elsewhere {
            let output = kit::command("bind").stderr(Stdio::piped()).output().expect("a process");
            return String::from_utf8_lossy(&output.stderr).into_owned();
        }
        kit::bind_error().await
    }
}
