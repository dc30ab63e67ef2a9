//! How a socket file comes into its place, and goes.
//!
//! The lock on `<path>.lock` is what decides between two servers; all that follows happens under it:
//!
//! 1. whatever is at `path` is probed: somebody answers → give up; nobody → it is stale and goes;
//! 2. the socket is bound to `<path>~`, gets its mode, and listens;
//! 3. it is renamed to `path`. Who connects finds either the old state or a server that listens.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Address, own_uid};
use crate::BindError;

/// A socket file that is ours, and the lock that says so.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// Absolute, so that a change of directory does not make us unlink something else.
    path: PathBuf,
    /// Device and inode: what tells our file from one that somebody put in its place.
    identity: (u64, u64),
    _lock: Flock<File>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Other servers leave the path alone while we hold the lock, so nothing comes between looking and unlinking.
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A non-blocking socket that listens on `path`.
pub(super) fn bind(path: &Address, mode: u32, shared_directory: bool) -> Result<(SocketFile, Socket), BindError> {
    let temporary = with_suffix(path, "~");
    check_path(path, &temporary)?;
    check_directory(path, shared_directory)?;
    let lock = lock(path)?;
    clear(path, path)?;
    clear(&temporary, path)?;
    let placed = listen(&temporary, mode).and_then(|socket| {
        let found = fs::symlink_metadata(&temporary)?;
        let absolute = std::path::absolute(&**path)?;
        fs::rename(&temporary, &**path)?;
        Ok((SocketFile { path: absolute, identity: (found.dev(), found.ino()), _lock: lock }, socket))
    });
    placed.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        failed(path, "creating the socket", source)
    })
}

fn check_path(path: &Address, temporary: &Path) -> Result<(), BindError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(unfit(path, "a path of at least one byte, none of them zero, is needed".into()));
    }
    if path.file_name().is_none() {
        return Err(unfit(path, "that is a directory".into()));
    }
    if SockAddr::unix(temporary).is_err() {
        let why = format!("the path of a socket may have {PATH_LEN_MAX} bytes here, this one has {}", bytes.len());
        return Err(unfit(path, why));
    }
    Ok(())
}

/// Refuses directories in which somebody else could put another socket in our place.
fn check_directory(path: &Address, shared: bool) -> Result<(), BindError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let found = match fs::metadata(directory) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(unfit(path, format!("the directory {} does not exist", directory.display())));
        }
        Err(error) => return Err(failed(path, "looking at the directory", error)),
    };
    if shared {
        return Ok(());
    }
    let own = [own_uid(), 0].contains(&found.uid());
    let sticky = found.mode() & 0o1000 != 0;
    // Where every user has a group of their own, directories are usually writable for the group.
    let own_group = found.gid() == nix::unistd::getegid().as_raw();
    let others_write = found.mode() & if own_group { 0o002 } else { 0o022 } != 0;
    if own && (sticky || !others_write) {
        return Ok(());
    }
    let why = format!(
        "others could replace the socket, since {} belongs to uid {} and has mode {:o}: use a directory of your own, \
         or say `allow_shared_directory`",
        directory.display(),
        found.uid(),
        found.mode() & 0o7777
    );
    Err(unfit(path, why))
}

fn lock(path: &Address) -> Result<Flock<File>, BindError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(with_suffix(path, ".lock"))
        .map_err(|source| failed(path, "opening the lock file", source))?;
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err(unfit(path, "the lock file beside it is not a plain file".into()));
    }
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match io::Error::from(errno) {
        error if error.kind() == io::ErrorKind::WouldBlock => BindError::InUse { endpoint: path.to_string() },
        error => failed(path, "locking the lock file", error),
    })
}

/// Removes a socket at `at` on which nobody listens. `path` is what errors speak of.
fn clear(at: &Path, path: &Address) -> Result<(), BindError> {
    match fs::symlink_metadata(at) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(unfit(path, format!("{} is in the way and is no socket", at.display())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(path, "looking at what is there", error)),
    }
    let removed = match probe(at) {
        // A full line of connections waits for somebody, too.
        Ok(()) => return Err(BindError::InUse { endpoint: path.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(BindError::InUse { endpoint: path.to_string() });
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(at),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(path, "finding out whether somebody listens there", error))
        }
        _ => Ok(()),
    }
}

fn probe(at: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(at)?)
}

fn listen(at: &Path, mode: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(at)?)?;
    // Nobody can connect before `listen`, whatever mode the umask made of it until here.
    fs::set_permissions(at, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn unfit(path: &Address, why: String) -> BindError {
    BindError::Endpoint { endpoint: path.to_string(), why }
}

fn failed(path: &Address, what: &'static str, source: io::Error) -> BindError {
    BindError::Io { endpoint: path.to_string(), what, source }
}

/// Connections that wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 1024;
/// A socket address's room for a path, less the final zero and the `~` of the temporary name.
const PATH_LEN_MAX: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 106 } else { 102 };
