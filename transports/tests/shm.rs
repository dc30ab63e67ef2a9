//! Shared memory: who gets in, what is set up, and how both sides sleep and wake.

#![cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
#![allow(unsafe_code, reason = "vouches for a peer")]

mod kit;

use std::fs;
use std::task::{Context, Waker};
use std::time::Duration;

use kit::stranger::{STRANGER, as_stranger, path_for_stranger, succeed};
use kit::{End, guard};
use tempfile::{TempDir, tempdir};
use trunkline_core::ConnectError;
use trunkline_core::transport::{
    BatchWriter, Connector, Filled, FrameReceiver, FrameSender, Listener, PeerIdentity, Transport,
};
use trunkline_transports::shm::{ShmConnector, ShmListener, ShmListenerBuilder, ShmTransport};

async fn pair(directory: &TempDir) -> (ShmTransport, ShmTransport) {
    pair_of(ShmListener::builder(directory.path().join("s")), ShmConnector::new(directory.path().join("s")), directory)
        .await
}

async fn pair_of(
    listener: ShmListenerBuilder,
    connector: ShmConnector,
    directory: &TempDir,
) -> (ShmTransport, ShmTransport) {
    let path = directory.path().join("s");
    let mut listener = listener.bind().unwrap();
    assert_eq!(connector.endpoint(), listener.endpoint());
    assert_eq!(connector.endpoint(), format!("shm:{}", path.display()));
    let (a, b) = guard(async { tokio::join!(connector.connect_transport(), listener.accept_transport()) }).await;
    (a.unwrap(), b.unwrap())
}

#[tokio::test]
async fn both_sides_know_each_other_and_what_they_take() {
    let (a, b) = pair(&tempdir().unwrap()).await;
    for transport in [a, b] {
        let properties = transport.properties();
        let PeerIdentity::Unix { pid, .. } = properties.peer else { panic!("no identity") };
        assert_eq!(pid, Some(std::process::id() as i32));
        assert_eq!((properties.name, properties.memory), ("shm", (256 << 10) + 4096));
        assert!(properties.chunk_len > 28_000 && properties.chunk_len < 32_768);
    }
}

#[tokio::test]
async fn each_side_has_the_capacity_it_was_given() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("s");
    for (ours, theirs, rounded) in [(1, 65_537, (64 << 10, 128 << 10)), (usize::MAX, 1 << 20, (64 << 20, 1 << 20))] {
        let mut listener = ShmListener::builder(&path).capacity(theirs).bind().unwrap();
        let connector = ShmConnector::new(&path).capacity(ours);
        let (a, b) = guard(async { tokio::join!(connector.connect_transport(), listener.accept_transport()) }).await;
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.properties().memory - 4096, b.properties().memory - 4096), rounded);
        let (mut a, mut b) = (End::new(a, 8192), End::new(b, 8192));
        for id in 0..100 {
            tokio::join!(a.send(id, 5000), b.expect(id, 5000));
            tokio::join!(b.send(id, 4000), a.expect(id, 4000));
        }
    }
}

#[tokio::test]
async fn blocks_are_as_many_and_as_long_as_they_can_be() {
    let directory = tempdir().unwrap();
    for (count, len, (blocks, room)) in
        [(0, 1 << 20, (0, 0)), (1, 0, (1, 12_000)), (3, 100_000, (3, 100_000)), (usize::MAX, 1 << 20, (48, 1 << 20))]
    {
        let connector = ShmConnector::new(directory.path().join("s")).blocks(count, len);
        let (a, b) = pair_of(ShmListener::builder(directory.path().join("s")), connector, &directory).await;
        let bytes = a.properties().memory - (256 << 10) - 4096;
        assert!(bytes == 0 || (blocks * room..=blocks * (room + (16 << 10))).contains(&bytes), "{bytes} bytes");
        assert_eq!(a.properties().whole_len, 0);
        let whole = b.properties().whole_len;
        assert!((whole == 0) == (blocks == 0) && whole >= room, "{whole} bytes of one");
        if blocks == 0 {
            continue;
        }
        let (mut a, mut b) = (End::new(a, 2 << 20), End::new(b, 2 << 20));
        let longest = whole.min(1 << 20);
        for id in 0..3 * blocks.min(8) as u64 {
            assert!(a.sender.frame_len_now() > whole);
            tokio::join!(a.send(id, longest), b.expect(id, longest));
        }
        assert_eq!((b.sender.frame_len_now(), b.lent), (0, 0), "nobody is trusted who was not vouched for");
    }
}

#[tokio::test]
async fn what_is_read_in_place_stays_there_when_both_ends_are_gone() {
    let directory = tempdir().unwrap();
    let connector = ShmConnector::new(directory.path().join("s")).blocks(3, 100_000);
    let listener = ShmListener::builder(directory.path().join("s"));
    // SAFETY: the peer is this process, and writes to no message that it has sent.
    let listener = unsafe { listener.assume_peer_trusted() };
    let (a, b) = pair_of(listener, connector, &directory).await;
    let (mut a, mut b) = (End::new(a, 200_000), End::new(b, 200_000));
    for id in 0..10 {
        a.send(id, 90_000).await;
        a.send(id, 5_000).await;
        b.expect(id, 90_000).await;
        b.expect(id, 5_000).await;
    }
    assert_eq!(b.lent, 10);
    // With frames before it, it is not the next.
    a.send(1, 64).await;
    a.send(2, 80_000).await;
    assert_eq!(guard(b.fill()).await.unwrap(), Filled::Some);
    assert!(b.receiver.partial().is_none() && b.receiver.lend(16).is_none());
    b.expect(1, 64).await;
    assert!(b.receiver.partial().is_some());
    let lease = b.receiver.lend(16).unwrap();
    assert!(b.receiver.partial().is_none() && b.receiver.lend(16).is_none());
    assert!(a.sender.frame_len_now() > 0, "there are others");
    drop((a, b));
    tokio::task::spawn_blocking(move || assert!(*lease == kit::frame(2, 80_000)[16..])).await.unwrap();
}

/// More announcements than a pipe has room for rings, had nobody drained it.
#[tokio::test]
async fn a_hundred_thousand_sleeps_end() {
    sleeps_end(pair(&tempdir().unwrap()).await).await;
}

#[tokio::test]
async fn a_hundred_thousand_sleeps_of_strangers_end() {
    let directory = tempdir().unwrap();
    let listener = ShmListener::builder(directory.path().join("s")).distrust_own_user();
    let connector = ShmConnector::new(directory.path().join("s"));
    sleeps_end(pair_of(listener, connector, &directory).await).await;
}

async fn strangers() -> (End<ShmTransport>, End<ShmTransport>) {
    let directory = tempdir().unwrap();
    let listener = ShmListener::builder(directory.path().join("s")).distrust_own_user();
    let connector = ShmConnector::new(directory.path().join("s"));
    let (a, b) = pair_of(listener, connector, &directory).await;
    (End::new(a, 8192), End::new(b, 8192))
}

/// Waits for room, as the driver does: by announcing it.
fn waits_for_room(end: &mut End<ShmTransport>) -> bool {
    end.writer.poll_write(&mut Context::from_waker(Waker::noop()), &mut end.batch).is_pending()
}

/// Whichever half hears of the end, the receiving one is told.
#[tokio::test]
async fn the_end_is_not_lost_on_the_half_that_waits_for_room() {
    let (mut a, mut b) = strangers().await;
    b.stuff(5000);
    a.shutdown().await;
    assert!(waits_for_room(&mut b));
    assert_eq!(guard(b.fill()).await.unwrap(), Filled::Closed);
}

async fn what_was_published_is_read((mut a, mut b): (End<ShmTransport>, End<ShmTransport>)) {
    let placed = a.stuff(5000);
    assert!(waits_for_room(&mut a));
    drop(a);
    guard(async {
        for id in 0..placed {
            b.expect(id, 5000).await;
        }
        assert!(b.next().await.is_none());
    })
    .await;
}

/// To tell it that there is room again is in vain, and no reason to throw away what it has said.
#[tokio::test]
async fn what_a_peer_published_before_it_died_waiting_for_room_is_read() {
    let (a, b) = pair(&tempdir().unwrap()).await;
    what_was_published_is_read((End::new(a, 8192), End::new(b, 8192))).await;
    what_was_published_is_read(strangers().await).await;
}

async fn sleeps_end((a, b): (ShmTransport, ShmTransport)) {
    let (mut a, mut b) = (End::new(a, 4096), End::new(b, 4096));
    tokio::time::timeout(Duration::from_secs(60), async {
        for id in 0..100_000 {
            tokio::join!(a.send(id, 64), b.expect(id, 64));
        }
    })
    .await
    .expect("a sleeper was not woken");
}

#[tokio::test]
async fn nothing_is_left_behind_in_any_directory() {
    let before = fs::read_dir("/dev/shm").map(Iterator::count).unwrap_or_default();
    let directory = tempdir().unwrap();
    let (a, b) = pair(&directory).await;
    assert_eq!(fs::read_dir("/dev/shm").map(Iterator::count).unwrap_or_default(), before);
    drop((a, b));
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["s.lock"]);
}

#[tokio::test]
async fn stranger_is_kept_out() {
    let Some(path) = path_for_stranger() else { return };
    let error = ShmConnector::new(path).connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn stranger_connects() {
    let Some(path) = path_for_stranger() else { return };
    let mut end = End::new(ShmConnector::new(path).connect_transport().await.unwrap(), 4096);
    for id in 0..1000 {
        guard(end.expect(id, 16)).await;
        guard(end.send(id, 16)).await;
    }
}

#[tokio::test]
async fn other_users_share_memory_where_they_are_admitted() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = ShmListener::bind(&path).unwrap();
    let Some(child) = as_stranger("stranger_is_kept_out", &path) else { return };
    succeed(child);
    drop(listener);

    let mut listener = ShmListener::builder(&path).allow_uid(STRANGER).bind().unwrap();
    let child = as_stranger("stranger_connects", &path).unwrap();
    let transport = guard(listener.accept_transport()).await.unwrap();
    let PeerIdentity::Unix { uid, pid, .. } = transport.properties().peer else { panic!("no identity") };
    assert_eq!((uid, pid), (STRANGER, Some(child.id() as i32)));
    let mut end = End::new(transport, 4096);
    for id in 0..1000 {
        guard(end.send(id, 16)).await;
        guard(end.expect(id, 16)).await;
    }
    tokio::task::spawn_blocking(|| succeed(child)).await.unwrap();
}
