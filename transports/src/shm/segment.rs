//! The memory behind a ring: a file without a name, written by the side that made it and by nobody else.
//!
//! It is sealed, so that this is the kernel's word and not good manners: `FUTURE_WRITE` means that nobody can write it any
//! more but through the mapping that existed before, which is its maker's; `SHRINK` and `GROW`, that no page of it can go
//! away under a reader, which would be a SIGBUS; `SEAL`, that the seals stay as they are.

#![allow(unsafe_code)] // A mapping's address becomes memory that the ring reads and writes.

use std::any::Any;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::{Whence, ftruncate, lseek};

use super::memory::{OwnMemory, PeerMemory};
use super::ring::Shape;
use super::setup::SetupError;

/// What a peer's segment must have.
const SEALS: SealFlag = SealFlag::F_SEAL_FUTURE_WRITE
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);
/// A peer's segment up to this length is faulted in at once, so that the first calls do not pay for it page by page.
const POPULATED_MAX: usize = 4096 + (2 << 20);
/// `MFD_NOEXEC_SEAL`: where an administrator forbids memory files that could be executed, one without it is refused.
const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(8);

/// Makes a segment: what to give to the peer, and the memory.
pub(super) fn create(shape: Shape) -> Result<(OwnedFd, OwnMemory), SetupError> {
    let len = shape.len();
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = match memfd_create(c"trunkline", flags | NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(Errno::EINVAL) => memfd_create(c"trunkline", flags),
        made => made,
    };
    let file = file.map_err(failed("making a memory file"))?;
    ftruncate(&file, len as i64).map_err(failed("sizing the memory file"))?;
    // Takes the pages now: no memory is an error here, not a SIGBUS when they are written.
    fallocate(&file, FallocateFlags::empty(), 0, len as i64).map_err(failed("reserving the ring's memory"))?;
    let mapping = MmapOptions::new().len(len).map_raw(&file).map_err(SetupError::io("mapping the ring"))?;
    // The peer sees the pages only once they have been written.
    mapping.advise(Advice::PopulateWrite).map_err(SetupError::io("making the ring's memory"))?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS)).map_err(failed("sealing the ring's memory"))?;
    let (start, mapping) = keep(mapping)?;
    // SAFETY: `start` begins a mapping of `len` bytes, which lives as long as `mapping`. Nobody else in this process has
    // its address; other processes have the file, which they cannot write since it is sealed.
    Ok((file, unsafe { OwnMemory::new(start, len, mapping) }))
}

/// Maps a peer's segment, if it is what it has to be.
pub(super) fn open(file: &OwnedFd, shape: Shape, stranger: bool) -> Result<PeerMemory, SetupError> {
    let len = shape.len();
    // Fails for whatever is no memory file.
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map_err(|_| SetupError::Segment("is no memory file"))?;
    if !SealFlag::from_bits_retain(seals).contains(SEALS) {
        return Err(SetupError::Segment("is not sealed"));
    }
    let found = fstat(file).map_err(failed("looking at the peer's segment"))?;
    let system = fstatfs(file).map_err(failed("looking at the peer's segment"))?;
    if system.filesystem_type() != TMPFS_MAGIC {
        return Err(SetupError::Segment("is not made of plain pages"));
    }
    if found.st_size != len as i64 {
        return Err(SetupError::Segment("has another size than announced"));
    }
    // A file with holes would have its pages made, at this side's cost, when this side reads them. How many blocks it has
    // says nothing of where they are: they may lie beyond its end. To look for one takes a lock that a stranger may hold as
    // long as it likes; its memory counts as this side's instead.
    if !stranger && lseek(file, 0, Whence::SeekHole) != Ok(len as i64) {
        return Err(SetupError::Segment("has no memory behind it"));
    }
    let mut options = MmapOptions::new();
    options.len(len);
    if len <= POPULATED_MAX {
        options.populate();
    }
    let mapping = options.map_raw_read_only(file).map_err(SetupError::io("mapping the peer's ring"))?;
    let (start, mapping) = keep(mapping)?;
    // SAFETY: `start` begins a mapping of `len` bytes, which lives as long as `mapping`, and which cannot become shorter
    // since the file is sealed. It is only ever read, as memory that changes at any time.
    Ok(unsafe { PeerMemory::new(start, len, mapping) })
}

/// Where a mapping begins, and what keeps it.
fn keep(mapping: MmapRaw) -> Result<(NonNull<u8>, Arc<dyn Any + Send + Sync>), SetupError> {
    // A child that is forked, and not executed, must not write this side's ring.
    mapping.advise(Advice::DontFork).map_err(SetupError::io("keeping the ring from children"))?;
    let start = NonNull::new(mapping.as_mut_ptr()).ok_or(SetupError::Segment("is mapped nowhere"))?;
    Ok((start, Arc::new(mapping)))
}

fn failed(what: &'static str) -> impl Fn(Errno) -> SetupError {
    move |errno| SetupError::io(what)(io::Error::from(errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::memory::{Own, Peer};
    use crate::shm::ring::DATA;
    use std::fs::File;
    use std::sync::atomic::Ordering;

    const CAPACITY: usize = 64 << 10;

    fn memory_file(flags: MFdFlags, len: i64) -> OwnedFd {
        let file = memfd_create(c"test", flags | MFdFlags::MFD_CLOEXEC).unwrap();
        ftruncate(&file, len).unwrap();
        file
    }

    fn refused(file: OwnedFd, why: &str) {
        match open(&file, CAPACITY.into(), false) {
            Err(SetupError::Segment(said)) => assert_eq!(said, why),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("taken, though it {why}"),
        }
    }

    #[test]
    fn what_one_side_writes_the_other_sees() {
        let (file, own) = create(CAPACITY.into()).unwrap();
        let peer = open(&file, CAPACITY.into(), false).unwrap();
        for at in [0x80, DATA, DATA + CAPACITY - 8] {
            own.store(at, at as u64, Ordering::Relaxed);
            assert_eq!(peer.load(at), at as u64);
        }
    }

    #[test]
    fn nobody_can_write_a_segment_but_its_maker() {
        let (file, own) = create(CAPACITY.into()).unwrap();
        assert!(MmapOptions::new().len(Shape::from(CAPACITY).len()).map_raw(&file).is_err());
        let reopened = std::path::PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
        let reopened = File::options().read(true).write(true).open(reopened).unwrap();
        assert!(MmapOptions::new().len(Shape::from(CAPACITY).len()).map_raw(&reopened).is_err());
        assert!(reopened.set_len(0).is_err());
        assert!(reopened.set_len(1 << 30).is_err());
        assert!(io::Write::write(&mut &reopened, b"x").is_err());
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        assert!(fallocate(&reopened, hole, 0, 4096).is_err());
        own.store(DATA, 1, Ordering::Relaxed);
    }

    #[test]
    fn a_segment_that_is_not_what_it_has_to_be_is_refused() {
        let whole = Shape::from(CAPACITY).len() as i64;
        let sealable = MFdFlags::MFD_ALLOW_SEALING;
        let seal = |file: &OwnedFd, seals| {
            fcntl(file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        };

        refused(memory_file(MFdFlags::empty(), whole), "is not sealed");
        refused(memory_file(sealable, whole), "is not sealed");
        for left_out in
            [SealFlag::F_SEAL_FUTURE_WRITE, SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_SEAL]
        {
            let file = memory_file(sealable, whole);
            fallocate(&file, FallocateFlags::empty(), 0, whole).unwrap();
            seal(&file, SEALS.difference(left_out));
            refused(file, "is not sealed");
        }

        let sparse = memory_file(sealable, whole);
        seal(&sparse, SEALS);
        refused(sparse, "has no memory behind it");

        // As many blocks as it should have, but beyond its end.
        let hollow = memory_file(sealable, whole);
        fallocate(&hollow, FallocateFlags::FALLOC_FL_KEEP_SIZE, whole, whole).unwrap();
        seal(&hollow, SEALS);
        refused(hollow, "has no memory behind it");

        // Whole but for one page.
        let pierced = memory_file(sealable, whole);
        for page in (0..whole as usize).step_by(4096).filter(|page| *page != 8192) {
            nix::sys::uio::pwrite(&pierced, &[1], page as i64).unwrap();
        }
        seal(&pierced, SEALS);
        refused(pierced, "has no memory behind it");

        for other in [0, 4096, whole - 4096, whole + 4096] {
            let file = memory_file(sealable, other);
            let _ = fallocate(&file, FallocateFlags::empty(), 0, other.max(1));
            ftruncate(&file, other).unwrap();
            seal(&file, SEALS);
            refused(file, "has another size than announced");
        }

        refused(File::open("/dev/zero").unwrap().into(), "is no memory file");
        refused(File::open("/proc/self/maps").unwrap().into(), "is no memory file");
        refused(nix::unistd::pipe().unwrap().0, "is no memory file");
        refused(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into(), "is no memory file");
    }

    #[test]
    fn huge_pages_are_refused() {
        let Ok(file) = memfd_create(c"huge", MFdFlags::MFD_HUGETLB | MFdFlags::MFD_ALLOW_SEALING) else {
            return; // A kernel without them.
        };
        ftruncate(&file, 2 << 20).unwrap();
        if fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS)).is_ok() {
            refused(file, "is not made of plain pages");
        }
    }
}
