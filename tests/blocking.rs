//! Handlers that block have the threads of the blocking pool, and streams that they return have not.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Builder;
use trunkline::{CallError, Connection, Server, Stream};

/// Takes its time.
#[trunkline::service]
pub trait Files {
    /// The names in a directory, and from then on those that are added.
    #[rpc(blocking)]
    async fn watch(&self, directory: &str) -> Result<impl Stream<Item = String>, String>;
    /// What a file says.
    #[rpc(blocking)]
    async fn read(&self, name: &str) -> String;
}

struct Disk;

impl Files for Disk {
    async fn watch(&self, directory: &str) -> Result<impl Stream<Item = String>, String> {
        let name = read(directory);
        if directory.is_empty() { Err(name) } else { Ok(Names(Some(name))) }
    }

    async fn read(&self, name: &str) -> String {
        read(name)
    }
}

/// Blocks.
fn read(name: &str) -> String {
    std::thread::sleep(Duration::from_millis(1));
    format!("{name}: nothing")
}

/// One that is there; others never come.
struct Names(Option<String>);

impl Stream for Names {
    type Item = String;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<String>> {
        self.0.take().map_or(Poll::Pending, |name| Poll::Ready(Some(name)))
    }
}

#[test]
fn streams_of_handlers_that_block_leave_the_threads_to_others() {
    const THREADS: usize = 2;
    let runtime = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(THREADS).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let server = Server::builder().service(FilesServer::new(Disk));
        let server = server.bind("mem:blocking").await.expect("the endpoint is free");
        let handle = server.handle();
        tokio::spawn(server.run());
        let connection = Connection::builder().connect("mem:blocking").await.expect("a server");
        let files: FilesClient = connection.client();
        let mut watched = Vec::new();
        for at in 0..3 * THREADS {
            let directory = format!("d{at}");
            let mut names = files.watch(&directory).await.expect("a stream");
            assert_eq!(names.next().await, Some(Ok(format!("{directory}: nothing"))));
            watched.push(names);
            assert_eq!(files.read("f").await, Ok("f: nothing".to_owned()));
        }
        let failed = files.watch("").await.err();
        assert_eq!(failed, Some(CallError::App(": nothing".to_owned())));
        // Who is dropped goes, wherever it runs.
        drop(watched);
        while !handle.connections().iter().all(trunkline::ConnectionStats::is_at_rest) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}
