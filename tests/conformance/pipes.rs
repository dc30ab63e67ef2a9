//! Pipes to a process that is there already: two descriptors handed over by a Unix socket, which has no other part.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use tokio::io::Interest;
use trunkline::transport::{BoxTransport, Listener, PipeTransport, async_trait};

/// Makes the pipes, and hands the far ends to whoever listens at `path`.
pub(crate) fn connect(path: &Path) -> io::Result<PipeTransport> {
    let (read, far_write) = nix::unistd::pipe()?;
    let (far_read, write) = nix::unistd::pipe()?;
    let socket = UnixStream::connect(path)?;
    let far = [far_read.as_raw_fd(), far_write.as_raw_fd()];
    let none: Option<&UnixAddr> = None;
    let rights = [ControlMessage::ScmRights(&far)];
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(b"p")], &rights, MsgFlags::empty(), none)?;
    PipeTransport::builder(read, write).build()
}

/// Takes the ends that connectors hand over.
pub(crate) struct Pipes {
    pub(crate) socket: tokio::net::UnixListener,
    pub(crate) path: PathBuf,
}

#[async_trait]
impl Listener for Pipes {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        let (stream, _) = self.socket.accept().await?;
        let [read, write] = stream.async_io(Interest::READABLE, || receive(stream.as_raw_fd())).await?;
        Ok(Some(BoxTransport::new(PipeTransport::builder(read, write).build()?)))
    }

    fn endpoint(&self) -> String {
        format!("pipes:{}", self.path.display())
    }
}

fn receive(socket: i32) -> io::Result<[OwnedFd; 2]> {
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 2]);
    let message = recvmsg::<UnixAddr>(socket, &mut bytes, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            let descriptors: [i32; 2] = descriptors.try_into().expect("two are sent");
            // SAFETY: the kernel has just put these two into this process's table, for whoever receives the message.
            return Ok(descriptors.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }));
        }
    }
    Err(io::ErrorKind::ConnectionAborted.into())
}
