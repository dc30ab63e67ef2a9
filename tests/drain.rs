//! A server that is stopped while somebody connects.

use std::future::pending;
use std::io;
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Builder;
use trunkline::transport::{BoxTransport, Listener, Over};
use trunkline::{Server, ServerHandle, Service};

/// Knows the time.
#[trunkline::service]
pub trait Clock {
    /// Says it.
    async fn now(&self) -> u8;
}

struct Stopped;

impl Clock for Stopped {
    async fn now(&self) -> u8 {
        12
    }
}

/// Accepts one peer, and the server is stopped before it can look at it.
struct Late {
    server: Arc<OnceLock<ServerHandle>>,
    peer: Option<DuplexStream>,
}

#[async_trait::async_trait]
impl Listener for Late {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        let Some(peer) = self.peer.take() else { return pending().await };
        self.server.get().expect("it runs").shutdown();
        Ok(Some(BoxTransport::new(Over::new(peer))))
    }

    fn endpoint(&self) -> String {
        "late".to_owned()
    }
}

const HELLO: u8 = 1;
const CALL: u8 = 2;
const REPLY: u8 = 3;

fn frame(kind: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let head = (8 + body.len() as u64) | u64::from(kind) << 32;
    [&head.to_le_bytes()[..], &id.to_le_bytes(), body].concat()
}

fn hello() -> Vec<u8> {
    let window = (8u64 << 20).to_le_bytes();
    let fields: [(u8, &[u8]); 6] =
        [(3, &window), (4, &[0, 0, 4, 0, 0, 0, 0, 0]), (5, &[128, 0, 0, 0]), (6, &window), (7, &window), (8, &[1])];
    let mut body = b"TRNK\x01\0".to_vec();
    for (tag, value) in fields {
        body.extend_from_slice(&[tag, 0, value.len() as u8, 0]);
        body.extend_from_slice(value);
    }
    frame(HELLO, 0, &body)
}

/// The next frame's kind and body, if one comes.
async fn next(server: &mut DuplexStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 16];
    server.read_exact(&mut head).await.ok()?;
    let len = u32::from_le_bytes(*head.first_chunk()?) as usize - 8;
    let mut body = vec![0; len];
    server.read_exact(&mut body).await.ok()?;
    Some((head[4], body))
}

#[test]
fn calls_of_who_connects_while_a_server_is_stopped_are_not_cut() {
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
        let (mut here, there) = duplex(4096);
        let clock = ClockServer::new(Stopped);
        let method = clock.descriptor().methods[0].id.0;
        let call = [&method.to_le_bytes()[..], &[0; 4], &300_000u32.to_le_bytes()].concat();
        // All of it is there when the server looks.
        here.write_all(&[hello(), frame(CALL, 1, &call)].concat()).await.expect("there is room");
        let handle = Arc::new(OnceLock::new());
        let late = Late { server: Arc::clone(&handle), peer: Some(there) };
        let server = Server::builder().service(clock).listen(late);
        assert!(handle.set(server.handle()).is_ok());
        let serving = tokio::spawn(server.run());
        let mut kinds = Vec::new();
        let reply = loop {
            match next(&mut here).await {
                Some((REPLY, body)) => break body,
                Some((kind, _)) => kinds.push(kind),
                None => panic!("it was cut after frames of the kinds {kinds:?}"),
            }
        };
        assert_eq!((kinds[0], reply), (HELLO, vec![12]));
        drop(here);
        let report = serving.await.expect("it ends well");
        assert_eq!((report.connections, report.calls_cut), (1, 0));
    });
}
