//! The raw mechanism: blocking sockets, no framework.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// A CALL's frame and a REPLY's frame around 32 bytes.
const CALL_LEN: usize = 64;
const REPLY_LEN: usize = 48;
const BLOCK_LEN: usize = 1 << 20;

const PING: u8 = 1;
const BLOCK: u8 = 2;

/// What an upload carries.
pub(crate) fn block() -> Vec<u8> {
    (0..BLOCK_LEN).map(|at| (at % 251) as u8).collect()
}

/// Serves at `uri` until the process ends, and prints where.
pub(crate) fn serve(uri: &str) {
    if let Some(path) = uri.strip_prefix("unix:") {
        let listener = UnixListener::bind(path).expect("the path is free");
        println!("{uri}");
        listener.incoming().for_each(|stream| ended(answer(stream.expect("a connection"))));
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        println!("tcp://{}", listener.local_addr().expect("an address"));
        listener.incoming().for_each(|stream| {
            let stream = stream.expect("a connection");
            stream.set_nodelay(true).expect("a TCP socket");
            ended(answer(stream));
        });
    }
}

/// A client that goes away ends its connection only.
fn ended(_: io::Result<()>) {}

fn answer(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK_LEN];
    loop {
        let mut head = [0; CALL_LEN];
        stream.read_exact(&mut head)?;
        if head[0] == BLOCK {
            stream.read_exact(&mut buffer)?;
        }
        let mut reply = [0; REPLY_LEN];
        reply.copy_from_slice(&head[..REPLY_LEN]);
        stream.write_all(&reply)?;
    }
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

fn connect(endpoint: &str) -> io::Result<Box<dyn Stream>> {
    if let Some(path) = endpoint.strip_prefix("unix:") {
        return Ok(Box::new(UnixStream::connect(path)?));
    }
    let stream = TcpStream::connect(endpoint.trim_start_matches("tcp://"))?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

fn exchange(stream: &mut dyn Stream, kind: u8, number: u8, block: &[u8]) -> io::Result<()> {
    let mut head = [number; CALL_LEN];
    head[0] = kind;
    stream.write_all(&head)?;
    stream.write_all(block)?;
    let mut reply = [0; REPLY_LEN];
    stream.read_exact(&mut reply)?;
    assert_eq!(reply[..], head[..REPLY_LEN], "a wrong reply");
    Ok(())
}

/// The median of a round trip, in nanoseconds.
pub(crate) fn ping_pong(endpoint: &str, span: Duration) -> io::Result<f64> {
    let mut stream = connect(endpoint)?;
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < span {
        let call = Instant::now();
        exchange(&mut *stream, PING, times.len() as u8, &[])?;
        times.push(call.elapsed().as_nanos() as f64);
    }
    Ok(crate::median(&mut times))
}

/// Bytes a second.
pub(crate) fn upload(endpoint: &str, span: Duration) -> io::Result<f64> {
    let mut stream = connect(endpoint)?;
    let block = block();
    let began = Instant::now();
    let mut uploaded = 0;
    while began.elapsed() < span {
        exchange(&mut *stream, BLOCK, 0, &block)?;
        uploaded += block.len();
    }
    Ok(uploaded as f64 / began.elapsed().as_secs_f64())
}
