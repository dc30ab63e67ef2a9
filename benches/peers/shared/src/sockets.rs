//! Listening and connecting, alike for all frameworks that leave it to their user.

use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, tcp, unix};
use trunkline_benches::subject::{Error, Ready, enlarge};

/// A connected socket, whole or as halves that share no lock.
pub trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {
    /// The half that reads.
    type Read: AsyncRead + Send + Sync + Unpin + 'static;
    /// The half that writes.
    type Write: AsyncWrite + Send + Sync + Unpin + 'static;

    /// Takes the socket apart.
    fn halves(self) -> (Self::Read, Self::Write);
}

impl Socket for TcpStream {
    type Read = tcp::OwnedReadHalf;
    type Write = tcp::OwnedWriteHalf;

    fn halves(self) -> (Self::Read, Self::Write) {
        self.into_split()
    }
}

impl Socket for UnixStream {
    type Read = unix::OwnedReadHalf;
    type Write = unix::OwnedWriteHalf;

    fn halves(self) -> (Self::Read, Self::Write) {
        self.into_split()
    }
}

/// What is done with a connected socket, of either kind.
pub trait Session {
    /// What becomes of it.
    type Output;

    /// Begins to speak. A server spawns what goes on.
    fn begin<S: Socket>(&self, socket: S) -> impl Future<Output = Self::Output>;
}

/// Serves every connection.
pub async fn listen(
    transport: &str,
    dir: &Path,
    ready: Ready,
    session: impl Session<Output = ()>,
) -> Result<(), Error> {
    match transport {
        "tcp" => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready.at(listener.local_addr()?);
            loop {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                session.begin(socket).await;
            }
        }
        "unix" => {
            let path = dir.join("peer.sock");
            let listener = UnixListener::bind(&path)?;
            ready.at(path.display());
            loop {
                let (socket, _) = listener.accept().await?;
                enlarge(&socket);
                session.begin(socket).await;
            }
        }
        _ => Err(unknown(transport)),
    }
}

/// Connects to where [`listen`] listens.
pub async fn connect<S: Session>(transport: &str, address: &str, session: S) -> Result<S::Output, Error> {
    match transport {
        "tcp" => {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(session.begin(socket).await)
        }
        "unix" => {
            let socket = UnixStream::connect(address).await?;
            enlarge(&socket);
            Ok(session.begin(socket).await)
        }
        _ => Err(unknown(transport)),
    }
}

fn unknown(transport: &str) -> Error {
    format!("there is no transport `{transport}`").into()
}
