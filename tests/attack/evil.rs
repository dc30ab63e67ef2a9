//! The attacker: a socket, and no manners.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::wire::{Got, Hello, kind};

/// Against hanging; nothing that works takes as long.
pub(crate) const GUARD: Duration = Duration::from_secs(8);

/// How to reach a server byte by byte.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    Unix(PathBuf),
    Tcp(String),
    /// A Unix socket in the server's process whose bytes are passed on to its `mem:` endpoint.
    Mem(PathBuf),
}

impl Door {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Door::Unix(_) => "unix",
            Door::Tcp(_) => "tcp",
            Door::Mem(_) => "mem",
        }
    }

    pub(crate) fn try_connect(&self) -> io::Result<Evil> {
        let stream = match self {
            Door::Unix(path) | Door::Mem(path) => Stream::Unix(UnixStream::connect(path)?),
            Door::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
        };
        Evil::new(stream)
    }

    pub(crate) fn connect(&self) -> Evil {
        self.try_connect().unwrap_or_else(|error| panic!("{}: {error}", self.name()))
    }

    /// Shakes hands honestly.
    pub(crate) fn greet(&self) -> Evil {
        self.greet_with(&Hello::honest())
    }

    pub(crate) fn greet_with(&self, hello: &Hello) -> Evil {
        let mut evil = self.connect();
        evil.send(&hello.bytes());
        let hello = evil.expect(kind::HELLO);
        assert!(hello.body.starts_with(b"TRNK"), "{hello:?}");
        evil
    }
}

#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn sock(&self) -> SockRef<'_> {
        match self {
            Stream::Unix(stream) => SockRef::from(stream),
            Stream::Tcp(stream) => SockRef::from(stream),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Evil {
    stream: Stream,
    /// Bytes read that are no whole frame yet.
    rest: Vec<u8>,
}

impl Evil {
    pub(crate) fn new(stream: Stream) -> io::Result<Evil> {
        let sock = stream.sock();
        sock.set_read_timeout(Some(GUARD))?;
        sock.set_write_timeout(Some(GUARD))?;
        Ok(Evil { stream, rest: Vec::new() })
    }

    /// Writes; that the peer has hung up already is what many attacks are for.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tcp(stream) => stream.write_all(bytes),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.try_send(bytes) {
            assert!(
                matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
                "writing {} bytes: {error}",
                bytes.len()
            );
        }
    }

    pub(crate) fn set_write_timeout(&self, timeout: Duration) {
        self.stream.sock().set_write_timeout(Some(timeout)).unwrap();
    }

    pub(crate) fn finish_sending(&self) {
        // Fails if the peer is gone, which is just as well.
        let _ = self.stream.sock().shutdown(Shutdown::Write);
    }

    /// Closes so that the peer gets a reset.
    pub(crate) fn reset(self) {
        self.stream.sock().set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Another handle to the same socket.
    pub(crate) fn split(&self) -> Evil {
        let stream = match &self.stream {
            Stream::Unix(stream) => Stream::Unix(stream.try_clone().unwrap()),
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone().unwrap()),
        };
        Evil { stream, rest: Vec::new() }
    }

    /// Reads once; `false` at the end.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let read = match &mut self.stream {
            Stream::Unix(stream) => stream.read(&mut buffer),
            Stream::Tcp(stream) => stream.read(&mut buffer),
        };
        match read {
            Ok(n) => {
                self.rest.extend(&buffer[..n]);
                n > 0
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came for {GUARD:?}: {error}"),
        }
    }

    /// The next frame; `None` if the peer has hung up.
    pub(crate) fn frame(&mut self) -> Option<Got> {
        loop {
            if let Some(got) = Got::take(&mut self.rest) {
                return Some(got);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// The next frame of this kind; those before it are skipped.
    #[track_caller]
    pub(crate) fn expect(&mut self, kind: u8) -> Got {
        let mut before = Vec::new();
        while let Some(got) = self.frame() {
            if got.kind == kind {
                return got;
            }
            before.push(got);
        }
        panic!("the peer hung up before a frame of kind {kind}, after {before:?}");
    }

    /// Reads until the peer hangs up, or sends a frame of this kind.
    pub(crate) fn until_end_or(&mut self, kind: u8) -> bool {
        std::iter::from_fn(|| self.frame()).any(|got| got.kind == kind)
    }

    /// Reads until the peer hangs up.
    #[track_caller]
    pub(crate) fn until_end(&mut self) -> Vec<Got> {
        let since = Instant::now();
        let mut all = Vec::new();
        while let Some(got) = self.frame() {
            assert!(since.elapsed() < 2 * GUARD, "it goes on and on");
            all.push(got);
        }
        all
    }

    /// The peer has hung up, and its last word was CLOSE with this reason.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, reason: u8) {
        let all = self.until_end();
        assert!(all.last().is_some_and(|last| last.is_close(reason)), "not closed with {reason}: {all:?}");
    }
}
