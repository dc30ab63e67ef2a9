//! A peer on rings in shared memory, by hand: its own set-up, its own ring, and a hold of every word it owns.

#![allow(unsafe_code, reason = "writes memory that another process reads")]

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::{ftruncate, pipe2};

use crate::evil::GUARD;
use crate::wire::Got;

pub(crate) const PARK: usize = 0x080;
pub(crate) const WANT_SPACE: usize = 0x100;
pub(crate) const HEAD: usize = 0x180;
pub(crate) const DATA: usize = 0x1000;
pub(crate) const CAPACITY: usize = 64 << 10;
pub(crate) const PAD: u8 = 0x7f;
/// What a segment has to be sealed with.
pub(crate) const SEALS: SealFlag = SealFlag::F_SEAL_FUTURE_WRITE
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);

/// The message of a set-up.
pub(crate) fn message(version: u16, status: u16, capacity: u64) -> Vec<u8> {
    let mut message = b"TRNKSHM\0".to_vec();
    message.extend(version.to_le_bytes());
    message.extend(status.to_le_bytes());
    message.extend([0; 4]);
    message.extend(capacity.to_le_bytes());
    message.resize(64, 0);
    message
}

/// Sends bytes, and descriptors with them.
pub(crate) fn send(socket: &UnixStream, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let control = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &control[..0] } else { &control };
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// A memory file like an honest peer's, but for its seals.
pub(crate) fn memory_file(len: usize, flags: MFdFlags) -> OwnedFd {
    let file = memfd_create(c"evil", flags | MFdFlags::MFD_CLOEXEC).unwrap();
    ftruncate(&file, len as i64).unwrap();
    file
}

pub(crate) fn seal(file: &OwnedFd, seals: SealFlag) {
    fcntl(file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
}

/// A segment as it has to be.
pub(crate) fn segment(capacity: usize) -> (OwnedFd, MmapRaw) {
    let len = DATA + capacity;
    let file = memory_file(len, MFdFlags::MFD_ALLOW_SEALING);
    fallocate(&file, FallocateFlags::empty(), 0, len as i64).unwrap();
    let map = MmapOptions::new().len(len).populate().map_raw(&file).unwrap();
    seal(&file, SEALS);
    (file, map)
}

/// Memory, by words. What this process maps for writing it may write from any thread.
#[derive(Clone)]
pub(crate) struct Words(Arc<MmapRaw>);

impl Words {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at % 8 == 0 && at + 8 <= self.0.len());
        // SAFETY: aligned, since mappings are, and inside the mapping, which lives as long as the borrow. Nothing in this
        // process accesses it but through atomics of this size; where it is mapped read-only it is only loaded from.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().add(at).cast()) }
    }

    pub(crate) fn store(&self, at: usize, value: u64) {
        self.word(at).store(value, Ordering::Relaxed);
    }

    fn load(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Relaxed)
    }
}

/// One end of a pair of rings. It never sleeps on a doorbell: it looks again and again.
pub(crate) struct Ring {
    pub(crate) socket: Option<UnixStream>,
    pub(crate) own: Words,
    peer: Words,
    own_capacity: usize,
    peer_capacity: usize,
    /// The writing end of its pipe; the socket once more, where that is the doorbell.
    pub(crate) bell: Option<OwnedFd>,
    /// The reading end of the peer's pipe.
    pub(crate) sound: Option<OwnedFd>,
    pub(crate) published: u64,
    pub(crate) consumed: u64,
    /// Whether it rings, and says how far it has read.
    pub(crate) rings: bool,
    pub(crate) releases: bool,
}

impl Ring {
    /// Sets rings up with the server at `path`, as it should be done.
    pub(crate) fn connect(path: &Path) -> io::Result<Ring> {
        Ring::connect_as(path, false)
    }

    /// The same; a `stranger` sends no pipe, so that both ring by the socket.
    pub(crate) fn connect_as(path: &Path, stranger: bool) -> io::Result<Ring> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(GUARD))?;
        let (map, bell) = offer(&socket, stranger)?;
        let theirs = receive(&socket)?;
        Ok(Ring::join(socket, map, bell, theirs))
    }

    /// The same from the server's side.
    pub(crate) fn accept_as(listener: &UnixListener, stranger: bool) -> io::Result<Ring> {
        let (socket, _) = listener.accept()?;
        socket.set_read_timeout(Some(GUARD))?;
        let theirs = receive(&socket)?;
        let (map, bell) = offer(&socket, stranger)?;
        Ok(Ring::join(socket, map, bell, theirs))
    }

    fn join(socket: UnixStream, own: MmapRaw, bell: Option<OwnedFd>, theirs: (MmapRaw, Option<OwnedFd>)) -> Ring {
        socket.set_nonblocking(true).unwrap();
        let (peer, sound) = theirs;
        let bell = bell.filter(|_| sound.is_some()).or_else(|| Some(socket.try_clone().ok()?.into()));
        let peer_capacity = peer.len() - DATA;
        Ring {
            socket: Some(socket),
            own: Words(Arc::new(own)),
            peer: Words(Arc::new(peer)),
            own_capacity: CAPACITY,
            peer_capacity,
            bell,
            sound,
            published: 0,
            consumed: 0,
            rings: true,
            releases: true,
        }
    }

    pub(crate) fn ring(&self) {
        if let Some(bell) = &self.bell {
            let _ = nix::unistd::write(bell, &[0]);
        }
    }

    /// Where in the segment a position of this side's ring is.
    pub(crate) fn place(&self, position: u64) -> usize {
        DATA + (position as usize & (self.own_capacity - 1))
    }

    /// Places a frame in the ring; `false` if there is no room for it, or never will be.
    pub(crate) fn publish(&mut self, frame: &[u8]) -> bool {
        if frame.is_empty() || frame.len() > self.own_capacity / 2 {
            return false;
        }
        let capacity = self.own_capacity as u64;
        let span = (frame.len() as u64).next_multiple_of(64);
        let left = capacity - (self.published & (capacity - 1));
        let pad = if span > left { left } else { 0 };
        let end = self.published + pad + span;
        // What the peer says of how far it has come.
        if end + 64 > self.peer.load(HEAD) + capacity {
            return false;
        }
        fence(Ordering::Acquire);
        let start = self.published + pad;
        let place = self.place(start);
        let mut words = frame.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let first = words.next().unwrap();
        words.enumerate().for_each(|(n, word)| self.own.store(place + 8 + 8 * n, word));
        self.own.store(self.place(end), 0);
        if pad > 0 {
            self.own.store(place, first);
            self.own.word(self.place(self.published)).store((pad - 8) | (u64::from(PAD) << 32), Ordering::Release);
        } else {
            self.own.word(place).store(first, Ordering::Release);
        }
        self.published = end;
        if self.rings {
            self.ring();
        }
        true
    }

    /// The next frame of the peer's, if there is one.
    pub(crate) fn next(&mut self) -> Option<Got> {
        loop {
            let capacity = self.peer_capacity as u64;
            let offset = self.consumed & (capacity - 1);
            let place = DATA + offset as usize;
            let first = self.peer.load(place);
            if first == 0 {
                return None;
            }
            fence(Ordering::Acquire);
            let len = (first as u32) as usize + 8;
            let mut bytes: Vec<u8> = Vec::with_capacity(len + 8);
            if (first >> 32) as u8 != PAD {
                // What it writes is its own affair; this side does not fall over it.
                let words = (place..self.peer.len()).step_by(8).take(len.div_ceil(8)).map(|at| self.peer.load(at));
                bytes.extend(words.flat_map(u64::to_le_bytes));
                bytes.truncate(len);
            }
            self.consumed += (len as u64).next_multiple_of(64);
            if self.releases {
                self.own.word(HEAD).store(self.consumed, Ordering::Release);
                fence(Ordering::SeqCst);
                if self.peer.load(WANT_SPACE) % 2 == 1 && self.rings {
                    self.ring();
                }
            }
            if let Some(got) = Got::take(&mut bytes) {
                return Some(got);
            }
        }
    }

    /// The next frame, waited for; `None` if the peer hangs up or `until` has come.
    pub(crate) fn wait(&mut self, until: Instant) -> Option<Got> {
        loop {
            if let Some(got) = self.next() {
                return Some(got);
            }
            if Instant::now() > until || self.is_over() {
                return self.next();
            }
            thread::sleep(Duration::from_micros(20));
        }
    }

    /// Whether the peer has hung up.
    pub(crate) fn is_over(&self) -> bool {
        let Some(mut socket) = self.socket.as_ref() else {
            return false;
        };
        match socket.read(&mut [0; 64]) {
            Ok(n) => n == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Says something where nothing more is to be said.
    pub(crate) fn write_on_socket(&self) {
        if let Some(mut socket) = self.socket.as_ref() {
            let _ = socket.write(&[7; 64]);
        }
    }

    pub(crate) fn resize_pipes(&self, bytes: i32) {
        for fd in [&self.bell, &self.sound].into_iter().flatten() {
            let _ = fcntl(fd.as_fd(), FcntlArg::F_SETPIPE_SZ(bytes));
        }
    }

    pub(crate) fn fill_bell(&self, len: usize) {
        if let Some(bell) = &self.bell {
            let _ = nix::unistd::write(bell, &vec![0; len]);
        }
    }
}

/// Sends this side's half.
fn offer(socket: &UnixStream, stranger: bool) -> io::Result<(MmapRaw, Option<OwnedFd>)> {
    let (file, map) = segment(CAPACITY);
    if stranger {
        send(socket, &message(1, 0, CAPACITY as u64), &[file.as_raw_fd()])?;
        return Ok((map, None));
    }
    let (sound, bell) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    send(socket, &message(1, 0, CAPACITY as u64), &[file.as_raw_fd(), sound.as_raw_fd()])?;
    Ok((map, Some(bell)))
}

/// Takes the other side's half.
fn receive(socket: &UnixStream) -> io::Result<(MmapRaw, Option<OwnedFd>)> {
    let (message, fds) = receive_message(socket)?;
    let mut fds = fds.into_iter();
    let (Some(segment), sound, 64) = (fds.next(), fds.next(), message.len()) else {
        return Err(io::Error::other(format!("no offer: {message:?}")));
    };
    let capacity = u64::from_le_bytes(message[16..24].try_into().unwrap()) as usize;
    Ok((MmapOptions::new().len(DATA + capacity).map_raw_read_only(&segment)?, sound))
}

/// One message, and what came with it. Without bytes: the end.
pub(crate) fn receive_message(socket: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = [0; 64];
    let mut control = nix::cmsg_space!([RawFd; 2]);
    let mut slices = [io::IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let mut fds = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            use std::os::fd::FromRawFd;
            // SAFETY: the kernel has just made these descriptors for this message; nobody else knows them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let len = received.bytes;
    Ok((bytes[..len].to_vec(), fds))
}
