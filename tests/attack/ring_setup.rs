//! Set-ups of shared memory that go wrong, on purpose: descriptors of every kind, messages of every kind, and none.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, OFlag, SealFlag, fallocate};
use nix::sys::memfd::MFdFlags;
use nix::unistd::pipe2;
use tokio::time::timeout;
use trunkline::{ConnectError, Connection};

use crate::arena::{Arena, Terms};
use crate::evil::{Door, GUARD};
use crate::frames::still_lives;
use crate::ring::{CAPACITY, DATA, Ring, SEALS, memory_file, message, receive_message, seal, segment, send};
use crate::target::{Point, TargetClient};
use crate::wire::{Hello, Random, call, kind};

const POINT: Point = Point { a: 5, b: 4, c: 3.0, d: (2, 1, 0, true) };
/// What a refusal says of itself.
const VERSION: u16 = 1;
const FAULT: u16 = 2;

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap()
}

fn socket() -> OwnedFd {
    UnixStream::pair().unwrap().0.into()
}

fn event() -> OwnedFd {
    nix::sys::eventfd::EventFd::new().unwrap().into()
}

/// A file in the directory of the arena.
fn plain_file(dir: &Path) -> OwnedFd {
    let path = dir.join("plain");
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).unwrap();
    file.set_len((DATA + CAPACITY) as u64).unwrap();
    file.into()
}

/// As large as it says, with as many blocks as that takes, and a hole where the data should be.
fn hollow() -> OwnedFd {
    let len = DATA + CAPACITY;
    let file = memory_file(len, MFdFlags::MFD_ALLOW_SEALING);
    fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, len as i64, len as i64).unwrap();
    seal(&file, SEALS);
    file
}

/// Whatever a peer might send for a segment.
fn segments(dir: &Path) -> Vec<(String, OwnedFd)> {
    let whole = DATA + CAPACITY;
    let sealable = MFdFlags::MFD_ALLOW_SEALING;
    let mut all: Vec<(String, OwnedFd)> = Vec::new();
    let mut add = |what: &str, file: OwnedFd| all.push((what.to_owned(), file));
    add("not to be sealed", memory_file(whole, MFdFlags::empty()));
    add("not sealed", memory_file(whole, sealable));
    for left_out in
        [SealFlag::F_SEAL_FUTURE_WRITE, SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_SEAL]
    {
        let file = memory_file(whole, sealable);
        fallocate(&file, FallocateFlags::empty(), 0, whole as i64).unwrap();
        seal(&file, SEALS.difference(left_out));
        add(&format!("without {left_out:?}"), file);
    }
    for len in [0, 1, DATA, whole - 4096, whole - 1, whole + 1, whole + 4096, 1 << 30] {
        let file = memory_file(len, sealable);
        fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, whole as i64).unwrap();
        seal(&file, SEALS);
        add(&format!("{len} bytes"), file);
    }
    let sparse = memory_file(whole, sealable);
    seal(&sparse, SEALS);
    add("sparse", sparse);
    add("hollow", hollow());
    if let Ok(huge) = nix::sys::memfd::memfd_create(c"huge", MFdFlags::MFD_HUGETLB | sealable) {
        nix::unistd::ftruncate(&huge, 2 << 20).unwrap();
        if nix::fcntl::fcntl(&huge, nix::fcntl::FcntlArg::F_ADD_SEALS(SEALS)).is_ok() {
            add("huge pages", huge);
        }
    }
    for (what, file) in others(dir) {
        add(what, file);
    }
    all
}

/// Descriptors that are neither memory nor the reading end of a pipe.
fn others(dir: &Path) -> Vec<(&'static str, OwnedFd)> {
    let open = |path: &str| OwnedFd::from(File::open(path).unwrap());
    vec![
        ("a plain file", plain_file(dir)),
        ("a directory", open("/")),
        ("a socket", socket()),
        ("an eventfd", event()),
        ("/dev/zero", open("/dev/zero")),
        ("/dev/null", open("/dev/null")),
        ("/proc/self/maps", open("/proc/self/maps")),
        ("/proc/kmsg's like", open("/proc/self/mountinfo")),
        ("an epoll", nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC).unwrap().0),
        ("the writing end of a pipe", pipe().1),
    ]
}

fn raw(fds: &[OwnedFd]) -> Vec<RawFd> {
    fds.iter().map(AsRawFd::as_raw_fd).collect()
}

/// Says `bytes` and sends `fds`; the server gives this reason (0: it just hangs up), and hangs up.
#[track_caller]
fn turned_away(path: &Path, what: &str, bytes: &[u8], fds: &[OwnedFd], reason: u16) {
    let socket = UnixStream::connect(path).unwrap();
    send(&socket, bytes, &raw(fds)).unwrap_or_else(|error| panic!("{what}: {error}"));
    is_turned_away(&socket, what, reason);
}

#[track_caller]
fn is_turned_away(socket: &UnixStream, what: &str, reason: u16) {
    socket.set_read_timeout(Some(GUARD)).unwrap();
    let answer = receive_message(socket);
    let (answer, fds) = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(fds.is_empty(), "{what}: it sent something");
    if reason != 0 {
        assert_eq!(answer, message(1, reason, 0), "{what}");
        // Bytes that nobody read make it a reset.
        assert!(matches!((&*socket).read(&mut [0; 64]), Ok(0) | Err(_)), "{what}: it goes on");
    } else {
        assert_eq!(answer, b"", "{what}");
    }
}

/// A whole offer whose parts may be exchanged.
fn offer() -> [OwnedFd; 2] {
    [segment(CAPACITY).0, pipe().0]
}

fn good() -> Vec<u8> {
    message(1, 0, CAPACITY as u64)
}

#[test]
fn segments_and_doorbells_that_are_something_else() {
    let mut arena = Arena::new("");
    let path = arena.ring();
    arena.attack_as("shm", &Terms { budget: 8 << 20, counter: None }, |arena| {
        for _ in 0..3 {
            for (what, file) in segments(arena.dir()) {
                turned_away(&path, &format!("as segment: {what}"), &good(), &[file, pipe().0], FAULT);
            }
            for (what, file) in others(arena.dir()) {
                turned_away(&path, &format!("as doorbell: {what}"), &good(), &[segment(CAPACITY).0, file], FAULT);
            }
            let fifo = arena.dir().join("fifo");
            let _ = std::fs::remove_file(&fifo);
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
            let fifo = File::options().read(true).write(true).open(&fifo).unwrap();
            turned_away(&path, "a FIFO for both", &good(), &[segment(CAPACITY).0, fifo.into()], FAULT);
            let [file, sound] = offer();
            turned_away(&path, "exchanged", &good(), &[sound, file], FAULT);
            let [file, _] = offer();
            let again = file.try_clone().unwrap();
            turned_away(&path, "two segments", &good(), &[file, again], FAULT);
        }
    });
}

#[test]
fn too_few_descriptors_and_too_many() {
    let mut arena = Arena::new("");
    let path = arena.ring();
    arena.attack_as("shm", &Terms::default(), |_| {
        for _ in 0..5 {
            turned_away(&path, "none", &good(), &[], FAULT);
            for count in [3, 4, 100, 253] {
                let mut fds: Vec<OwnedFd> = offer().into_iter().take(count).collect();
                fds.resize_with(count, socket);
                turned_away(&path, &format!("{count} descriptors"), &good(), &fds, FAULT);
            }
            // One with each half of the message, and one too many with the last byte.
            let fds = offer();
            let socket = UnixStream::connect(&path).unwrap();
            for (part, fd) in good().chunks(32).zip(&fds) {
                send(&socket, part, &[fd.as_raw_fd()]).unwrap();
            }
            drop(receive_message(&socket).unwrap().1);
            let socket = UnixStream::connect(&path).unwrap();
            send(&socket, &good()[..63], &raw(&fds)).unwrap();
            send(&socket, &good()[63..], &raw(&fds[..1])).unwrap();
            is_turned_away(&socket, "one more with the last byte", FAULT);
            // 253 with every byte.
            let many: Vec<OwnedFd> = (0..253).map(|_| fds[0].try_clone().unwrap()).collect();
            let socket = UnixStream::connect(&path).unwrap();
            for byte in good().chunks(1) {
                if send(&socket, byte, &raw(&many)).is_err() {
                    break;
                }
            }
        }
    });
}

#[test]
fn messages_that_say_something_else() {
    let mut arena = Arena::new("");
    let path = arena.ring();
    arena.attack_as("shm", &Terms::default(), |_| {
        let fds = offer();
        let mut wrong_magic = good();
        wrong_magic[7] = 1;
        turned_away(&path, "another magic", &wrong_magic, &fds, FAULT);
        turned_away(&path, "HTTP", b"GET / HTTP/1.1\r\n\r\n", &[], FAULT);
        turned_away(&path, "HELLO", &Hello::honest().bytes(), &[], FAULT);
        for version in [0, 2, u16::MAX] {
            turned_away(&path, "another version", &message(version, 0, CAPACITY as u64), &fds, VERSION);
        }
        for status in [1, 2, 3, 4, u16::MAX] {
            turned_away(&path, "a status", &message(1, status, CAPACITY as u64), &fds, FAULT);
        }
        let capacities = [0, 1, 63, 4096, 32 << 10, 65_535, 65_537, 96 << 10, 128 << 20, 1 << 32, 1 << 63, u64::MAX];
        for capacity in capacities.into_iter().chain([128 << 10, 64 << 20]) {
            turned_away(&path, &format!("{capacity} bytes"), &message(1, 0, capacity), &fds, FAULT);
        }
        // Blocks that the segment does not have, too many, too few, too small, too large, of no whole pages.
        let page = 4096_u64;
        let lens = [0, page, 5 * page - 1, 5 * page, 5 * page + 8, 65 << 20, 1 << 63, u64::MAX];
        for (len, count) in lens.into_iter().flat_map(|len| [0, 1, 49, 1 << 32, u64::MAX].map(|count| (len, count))) {
            if (len, count) != (0, 0) {
                let mut bytes = good();
                bytes[24..32].copy_from_slice(&len.to_le_bytes());
                bytes[32..40].copy_from_slice(&count.to_le_bytes());
                turned_away(&path, &format!("{count} blocks of {len} bytes"), &bytes, &fds, FAULT);
            }
        }
        for seed in 0..300 {
            let mut random = Random(seed);
            let mut bytes = good();
            crate::wire::mutate(&mut bytes, &mut random);
            let socket = UnixStream::connect(&path).unwrap();
            let count = random.below(3);
            if !bytes.is_empty() && send(&socket, &bytes, &raw(&fds[..count])).is_ok() {
                let _ = socket.shutdown(std::net::Shutdown::Write);
                socket.set_read_timeout(Some(GUARD)).unwrap();
                drop(receive_message(&socket));
            }
        }
    });
}

/// A whole set-up, byte by byte, is as good as any; what comes behind it is not.
#[test]
fn a_set_up_in_pieces_and_a_message_too_many() {
    let mut arena = Arena::new("");
    let path = arena.ring();
    arena.attack_as("shm", &Terms { budget: 4 << 20, counter: Some(|gauges| gauges.protocol_errors) }, |_| {
        let fds = offer();
        let socket = UnixStream::connect(&path).unwrap();
        for (at, byte) in good().chunks(1).enumerate() {
            send(&socket, byte, &if at == 40 { raw(&fds) } else { Vec::new() }).unwrap();
            thread::sleep(Duration::from_micros(500));
        }
        let (answer, answered) = receive_message(&socket).unwrap();
        assert_eq!((answer, answered.len()), (message(1, 0, 256 << 10), 2));
        // Twice the message, at once.
        let socket = UnixStream::connect(&path).unwrap();
        send(&socket, &[good(), good()].concat(), &raw(&fds)).unwrap();
        assert_eq!(receive_message(&socket).unwrap().0.len(), 64);
        socket.set_read_timeout(Some(GUARD)).unwrap();
        assert!(matches!((&socket).read(&mut [0; 64]), Ok(0) | Err(_)), "it goes on");
        // And one on rings that work; with descriptors, where the system lets them pass.
        let mut ring = greet(&path);
        let socket = ring.socket.as_ref().unwrap();
        if send(socket, &[0], &raw(&fds)).is_err() {
            send(socket, &[0], &[]).unwrap();
        }
        let since = Instant::now();
        while !ring.is_over() {
            assert!(since.elapsed() < GUARD, "it goes on");
            while ring.next().is_some() {}
            thread::sleep(Duration::from_millis(1));
        }
    });
}

fn greet(path: &Path) -> Ring {
    let mut ring = Ring::connect(path).unwrap();
    assert!(ring.publish(&Hello::honest().bytes()));
    assert_eq!(ring.wait(Instant::now() + GUARD).expect("HELLO").kind, kind::HELLO);
    ring
}

/// By hand, and rightly: the attacks are known to reach what they attack.
#[test]
fn rings_by_hand_work() {
    let arena = Arena::new("");
    let mut ring = greet(&arena.ring());
    for n in 0..5000 {
        assert!(ring.publish(&call(2 * n + 1, "echo", &crate::frames::point(n))));
        let replied = loop {
            let got = ring.wait(Instant::now() + GUARD).expect("a reply");
            if got.kind == kind::REPLY {
                break got.id;
            }
        };
        assert_eq!(replied, 2 * n + 1);
    }
}

#[test]
fn leaving_at_every_moment() {
    let mut arena = Arena::new("");
    let path = arena.ring();
    arena.attack_as("shm", &Terms { budget: 16 << 20, counter: None }, |_| {
        let fds = offer();
        for round in 0..20 {
            for len in 0..=64 {
                let socket = UnixStream::connect(&path).unwrap();
                if len > 0 {
                    send(&socket, &good()[..len], &raw(&fds)).unwrap();
                }
                if round % 2 == 0 {
                    let _ = socket.shutdown(std::net::Shutdown::Write);
                }
                thread::sleep(Duration::from_micros(37 * (round % 4)));
            }
            drop(Ring::connect(&path));
            drop(Ring::connect_as(&path, true));
            let mut ring = Ring::connect(&path).unwrap();
            ring.publish(&Hello::honest().bytes());
            drop(ring);
            let mut ring = greet(&path);
            ring.publish(&call(1, "reply", &700_000_u32.to_le_bytes()));
            drop(ring);
        }
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Somebody honest gets in and is served; how long it took.
fn honest(uri: &str) -> Duration {
    let since = Instant::now();
    runtime().block_on(async {
        let client = timeout(GUARD, TargetClient::connect(uri)).await.expect("it is let in").expect("it is let in");
        assert_eq!(timeout(GUARD, client.echo(POINT)).await.expect("an answer"), Ok(POINT));
    });
    since.elapsed()
}

#[test]
fn peers_that_set_nothing_up_keep_nobody_out() {
    let mut arena = Arena::new("");
    let path = arena.ring();
    let uri = format!("shm:{}", path.display());
    arena.attack_as("shm", &Terms { budget: 4 << 20, counter: None }, |arena| {
        let fds = offer();
        for words in [0, 8, 63] {
            let mut silent = Vec::new();
            for count in [63, 1, 1, 70, 300] {
                silent.extend((0..count).map(|_| {
                    let socket = UnixStream::connect(&path).unwrap();
                    if words > 0 {
                        send(&socket, &good()[..words], &raw(&fds)).unwrap();
                    }
                    socket
                }));
                let took = honest(&uri);
                eprintln!("{} silent after {words} bytes: {took:?}", silent.len());
                assert!(took < Duration::from_secs(3), "{took:?} behind {} who are silent", silent.len());
                assert!(arena.fds() < 400, "{} descriptors", arena.fds());
            }
        }
    });
}

/// More at a time than there are set-ups at a time; none of them does anything wrong.
#[test]
fn a_crowd_of_honest_peers_gets_in_whole() {
    for limits in ["", crate::target::ONE_THREAD] {
        let mut arena = Arena::new(limits);
        let uri = format!("shm:{}", arena.ring().display());
        arena.attack_as("shm", &Terms { budget: 256 << 20, counter: None }, |_| {
            // From many threads: each of them connects and goes on to say who it is.
            let failed: Vec<String> = thread::scope(|scope| {
                let come = |_| scope.spawn(|| runtime().block_on(come_in_crowds(&uri, 30)));
                let crowd: Vec<_> = (0..10).map(come).collect();
                crowd.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            assert!(failed.is_empty(), "{} of 300: {:?}", failed.len(), failed.first());
        });
    }
}

async fn come_in_crowds(uri: &str, count: usize) -> Vec<String> {
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..count {
        let uri = uri.to_owned();
        crowd.spawn(async move {
            let client = TargetClient::connect(uri).await.map_err(|error| error.to_string())?;
            client.echo(POINT).await.map_err(|error| error.to_string())
        });
    }
    let mut failed = Vec::new();
    while let Some(ended) = timeout(3 * GUARD, crowd.join_next()).await.expect("it ends") {
        failed.extend(ended.unwrap().err());
    }
    failed
}

/// A descriptor comes and the next finds no place: the one that came must not be lost.
#[test]
fn descriptors_that_find_no_place_are_not_lost() {
    let mut arena = Arena::with("hello_timeout=60000", Some("ulimit -n 64"));
    let path = arena.ring();
    let unix = arena.unix();
    arena.attack_as("shm", &Terms::default(), |arena| {
        let (start, fds) = (arena.fds(), offer());
        // So many that there is place for one more, or for none, of those that are about to come.
        for free in [0, 1, 2, 3, 4, 5, 6, 7, 8] {
            for _ in 0..3 {
                let socket = UnixStream::connect(&path).unwrap();
                while arena.fds() < start + 1 {
                    thread::sleep(Duration::from_millis(1));
                }
                let crowd: Vec<_> = (0..64 - arena.fds() - free).map(|_| unix.connect()).collect();
                let since = Instant::now();
                while arena.fds() < 64 - free && since.elapsed() < Duration::from_secs(1) {
                    thread::sleep(Duration::from_millis(1));
                }
                send(&socket, &good(), &raw(&fds)).unwrap();
                thread::sleep(Duration::from_millis(3));
                drop((socket, crowd));
                let since = Instant::now();
                while arena.fds() > start {
                    let left = arena.fds() - start;
                    assert!(since.elapsed() < GUARD, "{left} descriptors lost with {free} free");
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
    });
    still_lives(&mut unix.greet(), 1);
}

fn failure(uri: &str) -> String {
    let connected = runtime().block_on(async { timeout(2 * GUARD, Connection::builder().connect(uri)).await });
    match connected.expect("connecting ends") {
        Ok(_) => panic!("{uri}: connected"),
        Err(error @ (ConnectError::Unreachable { .. } | ConnectError::Handshake(_) | ConnectError::Timeout { .. })) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            text
        }
        Err(error) => panic!("{uri}: {error:?}"),
    }
}

/// The client of one scheme at the other's endpoint: both errors say what is wrong.
#[test]
fn unix_clients_at_rings_and_the_reverse() {
    let mut arena = Arena::new("");
    arena.attack_as("shm", &Terms::default(), |arena| {
        let Door::Unix(unix) = arena.unix() else { unreachable!() };
        let shm_to_unix = failure(&format!("shm:{}", unix.display()));
        assert!(shm_to_unix.contains("is it a `unix:` endpoint?"), "{shm_to_unix}");
        let unix_to_shm = format!("unix:{}", arena.ring().display());
        let connected = runtime().block_on(async { timeout(GUARD, Connection::builder().connect(unix_to_shm)).await });
        let error = connected.expect("connecting ends").expect_err("it is no stream");
        assert!(error.to_string().contains("does not speak trunkline's protocol"), "{error}");
    });
}

/// What a server does with a client's offer.
type Script = Box<dyn Fn(&UnixStream) + Send + Sync>;

#[test]
fn servers_that_set_up_wrongly() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let say = |bytes: Vec<u8>, fds: Vec<OwnedFd>| -> Script {
        Box::new(move |socket| {
            let _ = send(socket, &bytes, &raw(&fds));
        })
    };
    let with = |fds| say(good(), fds);
    let mut scripts: Vec<(String, Script, &str)> = Vec::new();
    for (what, file) in segments(dir) {
        scripts.push((format!("as segment: {what}"), with(vec![file, pipe().0]), "the peer's segment"));
    }
    for (what, file) in others(dir) {
        scripts.push((format!("as doorbell: {what}"), with(vec![segment(CAPACITY).0, file]), "the peer's doorbell"));
    }
    let mut add = |what: &str, script, expected| scripts.push((what.to_owned(), script, expected));
    add("nothing", say(Vec::new(), Vec::new()), "left");
    add("no descriptors", with(Vec::new()), "0 descriptors");
    add("253", with((0..253).map(|_| socket()).collect()), "253 descriptors");
    add("HTTP", say(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Vec::new()), "is it a `unix:` endpoint?");
    add("another version", say(message(2, 0, 0), Vec::new()), "version 1 of shared memory here, 2 there");
    add("refused: version", say(message(1, 1, 0), Vec::new()), "it has another version");
    add("refused: fault", say(message(1, 2, 0), Vec::new()), "finds fault");
    add("refused: memory", say(message(1, 3, 0), Vec::new()), "lacks memory or descriptors");
    add("refused for a reason of its own", say(message(1, 700, 0), Vec::new()), "reason 700");
    add("2^63", say(message(1, 0, 1 << 63), offer().into()), "no power of two");
    add("nothing in it", say(message(1, 0, 0), offer().into()), "no power of two");
    add("half", say(good()[..40].to_vec(), offer().into()), "left");
    add("silence", Box::new(|_| thread::sleep(Duration::from_millis(5500))), "within 5s");

    let path = dir.join("server.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let uri = format!("shm:{}", path.display());
    for (what, script, expected) in scripts {
        let said = thread::scope(|scope| {
            scope.spawn(|| {
                let (socket, _) = listener.accept().unwrap();
                let _ = receive_message(&socket);
                script(&socket);
            });
            failure(&uri)
        });
        assert!(said.contains(expected), "{what}: {said}");
    }
}

/// Somebody else's socket, written to by hand, in the middle of a client's set-up.
#[test]
fn a_server_that_repeats_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let uri = format!("shm:{}", path.display());
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = receive_message(&socket);
            send(&socket, &[good(), good()].concat(), &raw(&offer())).unwrap();
            let _ = socket.write(&[0; 64]);
            thread::sleep(Duration::from_millis(200));
        });
        let ended = runtime().block_on(async { timeout(GUARD, Connection::builder().connect(&uri)).await });
        let error = ended.expect("it ends").expect_err("it is no good connection").to_string();
        assert!(error.contains("more than it should") || error.contains("socket of a ring"), "{error}");
    });
}

/// A socket whose last holder waits as long as this when it closes it, since its peer does not read.
const LINGERS: Duration = Duration::from_secs(4);

fn lingering() -> (OwnedFd, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[0; 65_536]).is_ok() {}
    socket2::SockRef::from(&socket).set_linger(Some(LINGERS)).unwrap();
    (socket.into(), peer)
}

/// Whether a socket can be told to take no descriptors: from Linux 6.16 on.
fn can_refuse_descriptors() -> bool {
    let system = nix::sys::utsname::uname().unwrap();
    let release = system.release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(16))
}

/// Whoever closes a descriptor last may have to wait for it, also who was sent it and wants none.
#[test]
fn descriptors_that_take_long_to_close_hold_nobody_up() {
    for limits in ["", crate::target::ONE_THREAD] {
        let mut arena = Arena::new(limits);
        let (ring, Door::Unix(unix)) = (arena.ring(), arena.unix()) else { unreachable!() };
        let mut late = Vec::new();
        arena.attack_as("shm", &Terms { budget: 16 << 20, counter: None }, |_| {
            let uris = [format!("shm:{}", ring.display()), format!("unix:{}", unix.display())];
            type Attack<'a> = (&'a str, &'a Path, Vec<u8>, bool);
            let attacks: [Attack<'_>; 8] = [
                ("as segment", &ring, good(), true),
                ("with half a message", &ring, good()[..40].to_vec(), true),
                ("with noise", &ring, vec![1], true),
                ("behind the set-up", &ring, vec![3], false),
                ("on rings that work", &ring, vec![4], false),
                ("to a stream", &unix, vec![1], true),
                ("with HELLO", &unix, Hello::honest().bytes(), true),
                ("with half a HELLO", &unix, Hello::honest().bytes()[..20].to_vec(), true),
            ];
            for (what, path, bytes, alone) in attacks {
                if !can_refuse_descriptors() && (path == unix || bytes == [4]) {
                    continue;
                }
                let many: Vec<_> = (0..3)
                    .map(|_| {
                        let (fd, peer) = lingering();
                        let socket = UnixStream::connect(path).unwrap();
                        let rings = (!alone && bytes == [4]).then(|| greet(path));
                        if !alone && rings.is_none() {
                            send(&socket, &good(), &raw(&offer())).unwrap();
                        }
                        let to = rings.as_ref().and_then(|rings| rings.socket.as_ref()).unwrap_or(&socket);
                        if send(to, &bytes, &[fd.as_raw_fd()]).is_err() {
                            // The system does not let it pass: it is this side that would wait.
                            socket2::SockRef::from(&fd).set_linger(None).unwrap();
                        }
                        drop((fd, socket));
                        peer
                    })
                    .collect();
                for uri in &uris {
                    let took = honest(uri);
                    if took > Duration::from_millis(1000) {
                        late.push(format!("{what}: {took:?} for {uri}"));
                    }
                }
                drop(many);
                thread::sleep(Duration::from_millis(50));
            }
        });
        assert!(late.is_empty(), "{late:#?}");
    }
}
