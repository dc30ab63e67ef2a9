//! What every transport owes, asked of each of them.

#![cfg(all(unix, feature = "unix", feature = "tcp", feature = "mem", feature = "pipe"))]

mod kit;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use kit::{End, guard};
use tempfile::tempdir;
use tokio::io::{BufStream, DuplexStream, duplex};
use trunkline_core::ConnectionError;
use trunkline_core::frame::{FrameError, HEADER_LEN};
use trunkline_core::transport::{BatchWriter, Filled, FrameReceiver, FrameSender, Transport};
use trunkline_transports::mem::{self, MemConnector, MemListener, MemTransport};
use trunkline_transports::over::Over;
use trunkline_transports::pipe::{self, PipeTransport};
#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
use trunkline_transports::shm::{ShmConnector, ShmListener, ShmTransport};
use trunkline_transports::socket::SocketTransport;
use trunkline_transports::tcp::{TcpConnector, TcpListener};
use trunkline_transports::unix::{UnixConnector, UnixListener};

async fn frames_arrive_as_they_were_placed<A: Transport, B: Transport>(mut a: End<A>, mut b: End<B>) {
    for (id, len) in [(1, HEADER_LEN), (2, HEADER_LEN + 1), (3, 100), (4, 4096), (5, 5000)] {
        assert!(a.place(id, len));
    }
    let (sent, ()) = tokio::join!(a.flush(), async {
        for (id, len) in [(1, HEADER_LEN), (2, HEADER_LEN + 1), (3, 100), (4, 4096), (5, 5000)] {
            b.expect(id, len).await;
        }
    });
    sent.unwrap();
    assert_eq!(a.writer.written(), a.sender.position());
}

async fn both_directions_take_turns<A: Transport, B: Transport>(mut a: End<A>, mut b: End<B>) {
    for id in 0..200 {
        tokio::join!(a.send(id, 64), b.expect(id, 64));
        tokio::join!(b.send(id, 80), a.expect(id, 80));
    }
}

async fn the_longest_frame_arrives<A: Transport, B: Transport>(mut a: End<A>, mut b: End<B>) {
    let len = b.frame_len_max;
    for id in 0..3 {
        tokio::join!(a.send(id, len), b.expect(id, len));
    }
}

async fn thousands_arrive_in_order<A: Transport, B: Transport>(mut a: End<A>, mut b: End<B>) {
    let len_max = b.frame_len_max;
    let len = |id: u64| HEADER_LEN + (id as usize * 37) % (len_max / 500);
    let send = async {
        for id in 0..3000 {
            while !a.place(id, len(id)) {
                a.flush().await.unwrap();
            }
            if id % 50 == 0 {
                a.flush().await.unwrap();
            }
        }
        a.flush().await.unwrap();
        a.shutdown().await;
    };
    let receive = async {
        for id in 0..3000 {
            b.expect(id, len(id)).await;
        }
        assert!(b.next().await.is_none());
    };
    tokio::join!(send, receive);
}

async fn a_full_mechanism_blocks_and_goes_on<A: Transport, B: Transport>(mut a: End<A>, mut b: End<B>) {
    let len = 3000;
    let placed = a.stuff(len);
    assert!(a.writer.written() <= a.sender.position());
    let receive = async {
        for id in 0..placed {
            b.expect(id, len).await;
        }
    };
    let (flushed, ()) = tokio::join!(a.flush(), receive);
    flushed.unwrap();
    assert_eq!(a.writer.written(), a.sender.position());
    // Some mechanisms take more room than a frame has bytes.
    assert!(a.sender.position() >= placed * len as u64);
}

async fn a_frame_that_claims_4_gib_is_an_error<A: Transport, B: Transport>(mut a: End<A>, mut b: End<B>) {
    assert!(a.place_claiming(1, HEADER_LEN, u32::MAX));
    let error = async {
        loop {
            match b.receiver.frame() {
                Ok(frame) => assert!(frame.is_none()),
                Err(error) => return error,
            }
            assert_eq!(b.fill().await.unwrap(), Filled::Some);
        }
    };
    let send = async {
        a.flush().await.unwrap();
        std::future::pending().await
    };
    // The receiver may be done before the sender is.
    let error = tokio::select! { error = error => error, never = send => never };
    assert_eq!(error, FrameError::TooLong { len: u64::from(u32::MAX) + 8, max: b.frame_len_max as u64 });
}

async fn an_end_in_mid_frame_is_no_frame<A: Transport, B: Transport>(mut a: End<A>, b: End<B>) {
    assert!(a.place(1, 40));
    assert!(a.place_claiming(2, 60, 1000));
    only_the_first_arrives(a, b).await;
}

async fn an_end_in_mid_landing_is_no_frame<A: Transport, B: Transport>(mut a: End<A>, b: End<B>) {
    let claim = b.frame_len_max - 8;
    assert!(a.place(1, 40));
    assert!(a.place_claiming(2, 5000, claim as u32));
    only_the_first_arrives(a, b).await;
}

/// `a` ends behind a frame of 40 bytes and the beginning of another.
async fn only_the_first_arrives<A: Transport, B: Transport>(mut a: End<A>, mut b: End<B>) {
    let send = async {
        a.flush().await.unwrap();
        a.shutdown().await;
    };
    let receive = async {
        b.expect(1, 40).await;
        assert!(b.next().await.is_none());
    };
    tokio::join!(send, receive);
}

async fn long_and_short_ones_arrive_in_order<A: Transport, B: Transport>(mut a: End<A>, mut b: End<B>) {
    let long = b.frame_len_max;
    let lens: Vec<usize> = (0..60).map(|n| if n % 3 == 0 { 40 } else { long - (n * n * 37) % (long / 2) }).collect();
    let send = async {
        for (id, len) in (0..).zip(&lens) {
            a.send(id, *len).await;
        }
    };
    let receive = async {
        for (id, len) in (0..).zip(&lens) {
            b.expect(id, *len).await;
        }
    };
    tokio::join!(send, receive);
}

async fn the_other_direction_outlives_a_shutdown<A: Transport, B: Transport>(mut a: End<A>, mut b: End<B>) {
    let finish = async {
        a.send(1, 40).await;
        a.shutdown().await;
        a.expect(2, 5000).await;
    };
    let answer = async {
        b.expect(1, 40).await;
        assert!(b.next().await.is_none());
        b.send(2, 5000).await;
    };
    tokio::join!(finish, answer);
}

async fn a_vanished_peer_is_noticed_both_ways<A: Transport, B: Transport>(mut a: End<A>, b: End<B>) {
    drop(b);
    // Either is an honest end: nothing more comes, or the connection was reset.
    match a.fill().await {
        Ok(filled) => assert_eq!(filled, Filled::Closed),
        Err(error) => assert_eq!(ConnectionError::from(error), ConnectionError::PeerGone),
    }
    let error = loop {
        // Where frames lie in memory, that they are placed says nothing yet.
        a.place(1, 4096);
        if let Err(error) = a.flush().await {
            break error;
        }
    };
    assert_eq!(ConnectionError::from(error), ConnectionError::PeerGone);
}

async fn a_try_steals_no_wake_up<A: Transport, B: Transport>(mut a: End<A>, mut b: End<B>) {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    assert!(b.receiver.poll_fill(&mut cx).is_pending());
    assert_eq!(b.receiver.try_fill().unwrap(), None);
    assert!(a.place(1, HEADER_LEN));
    assert!(a.sender.take_batch(&mut a.batch));
    a.writer.try_write(&mut a.batch).unwrap();
    while count.0.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(b.receiver.poll_fill(&mut cx), Poll::Ready(Ok(Filled::Some))));
}

async fn a_try_asks_the_mechanism_itself<A: Transport, B: Transport>(mut a: End<A>, mut b: End<B>) {
    assert_eq!(b.receiver.try_fill().unwrap(), None);
    // Nobody waits for `b` here, so nothing but asking finds the frame.
    assert!(a.place(1, HEADER_LEN));
    while b.receiver.frame().unwrap().is_none_or(|frame| frame != kit::frame(1, HEADER_LEN)) {
        a.sender.take_batch(&mut a.batch);
        a.writer.try_write(&mut a.batch).unwrap();
        b.receiver.try_fill().unwrap();
        tokio::task::yield_now().await;
    }
    b.receiver.consume();
    assert_eq!(b.receiver.frame().unwrap(), None);
}

macro_rules! suite {
    ($transport:ident: $make:expr, $frame_len_max:expr; $($case:ident)*) => {
        mod $transport {
            use super::*;

            $(
                #[tokio::test]
                async fn $case() {
                    guard(async {
                        let Some((a, b)) = $make.await else {
                            return eprintln!("skipped: not to be had on this machine");
                        };
                        let (a, b) = (End::new(a, $frame_len_max), End::new(b, $frame_len_max));
                        super::$case(a, b).await;
                    })
                    .await;
                }
            )*
        }
    };
}

macro_rules! suites {
    // What every transport owes.
    (frames { $($transport:ident: $make:expr, $frame_len_max:expr;)* }) => {
        $(suites! { $transport: $make, $frame_len_max; })*
    };
    // A byte stream may bring any part of a frame besides.
    (bytes { $($transport:ident: $make:expr, $frame_len_max:expr;)* }) => {
        $(suites! {
            $transport: $make, $frame_len_max;
            a_frame_that_claims_4_gib_is_an_error an_end_in_mid_frame_is_no_frame
            an_end_in_mid_landing_is_no_frame
        })*
    };
    ($transport:ident: $make:expr, $frame_len_max:expr; $($more:ident)*) => {
        suite! {
            $transport: $make, $frame_len_max;
            frames_arrive_as_they_were_placed
            both_directions_take_turns
            the_longest_frame_arrives
            thousands_arrive_in_order
            long_and_short_ones_arrive_in_order
            a_full_mechanism_blocks_and_goes_on
            the_other_direction_outlives_a_shutdown
            a_vanished_peer_is_noticed_both_ways
            a_try_steals_no_wake_up
            a_try_asks_the_mechanism_itself
            $($more)*
        }
    };
}

#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
suites! {
    frames {
        shm: shm_pair(256 << 10), 32_000;
        shm_that_is_small: shm_pair(64 << 10), 8192;
        shm_that_is_large: shm_pair(2 << 20), 160_000;
        shm_of_strangers: shm_of_strangers(true, true), 32_000;
        shm_with_a_server_that_trusts_nobody: shm_of_strangers(false, true), 32_000;
        shm_with_a_client_that_trusts_nobody: shm_of_strangers(true, false), 32_000;
    }
}

suites! {
    bytes {
        unix: unix_pair(), 160_000;
        tcp: tcp_pair("127.0.0.1:0"), 160_000;
        tcp_over_ipv6: tcp_pair("[::1]:0"), 160_000;
        mem_by_name: mem_pair(), 160_000;
        mem_pair: async { Some(mem::pair()) }, 160_000;
        pipes: async { Some(pipe::pair().unwrap()) }, 160_000;
        pipes_of_one_page: small_pipes(), 160_000;
        one_socket_as_both_pipes: one_socket(), 160_000;
        over_a_stream: over_pair(4096), 160_000;
        over_single_bytes: over_pair(1), 6_000;
        over_a_stream_that_buffers: buffered_pair(100), 160_000;
    }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
async fn shm_pair(capacity: usize) -> Option<(ShmTransport, ShmTransport)> {
    let directory = tempdir().unwrap();
    let mut listener = ShmListener::builder(directory.path().join("s")).capacity(capacity).bind().unwrap();
    let connector = ShmConnector::new(directory.path().join("s")).capacity(capacity);
    let (a, b) = tokio::join!(connector.connect_transport(), listener.accept_transport());
    Some((a.unwrap(), b.unwrap()))
}

#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", feature = "shm"))]
async fn shm_of_strangers(
    client_trusts_nobody: bool,
    server_trusts_nobody: bool,
) -> Option<(ShmTransport, ShmTransport)> {
    let directory = tempdir().unwrap();
    let (listener, connector) =
        (ShmListener::builder(directory.path().join("s")), ShmConnector::new(directory.path().join("s")));
    let listener = if server_trusts_nobody { listener.distrust_own_user() } else { listener };
    let connector = if client_trusts_nobody { connector.distrust_own_user() } else { connector };
    let mut listener = listener.bind().unwrap();
    let (a, b) = tokio::join!(connector.connect_transport(), listener.accept_transport());
    Some((a.unwrap(), b.unwrap()))
}

async fn unix_pair() -> Option<(SocketTransport, SocketTransport)> {
    let directory = tempdir().unwrap();
    let mut listener = UnixListener::bind(directory.path().join("s")).unwrap();
    let connector = UnixConnector::new(directory.path().join("s"));
    let (a, b) = tokio::join!(connector.connect_transport(), listener.accept_transport());
    Some((a.unwrap(), b.unwrap()))
}

async fn tcp_pair(addr: &str) -> Option<(SocketTransport, SocketTransport)> {
    let mut listener = match TcpListener::bind(addr).await {
        Ok(listener) => listener,
        Err(_) if addr.starts_with('[') => return None,
        Err(error) => panic!("{error}"),
    };
    let connector = TcpConnector::new(listener.local_addr().to_string());
    let (a, b) = tokio::join!(connector.connect_transport(), listener.accept_transport());
    Some((a.unwrap(), b.unwrap()))
}

async fn mem_pair() -> Option<(MemTransport, MemTransport)> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("frames-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut listener = MemListener::bind(&name).unwrap();
    let connector = MemConnector::new(&name);
    let (a, b) = tokio::join!(connector.connect_transport(), listener.accept_transport());
    Some((a.unwrap(), b.unwrap()))
}

async fn small_pipes() -> Option<(PipeTransport, PipeTransport)> {
    let ((a_read, b_write), (b_read, a_write)) = (nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap());
    let make = |read, write| PipeTransport::builder(read, write).capacity(4096).build().unwrap();
    Some((make(a_read, a_write), make(b_read, b_write)))
}

async fn one_socket() -> Option<(PipeTransport, PipeTransport)> {
    let make = |socket: UnixStream| PipeTransport::builder(socket.try_clone().unwrap(), socket).build().unwrap();
    let (a, b) = UnixStream::pair().unwrap();
    Some((make(a), make(b)))
}

async fn over_pair(len: usize) -> Option<(Over<DuplexStream>, Over<DuplexStream>)> {
    let (a, b) = duplex(len);
    Some((Over::new(a), Over::new(b)))
}

async fn buffered_pair(len: usize) -> Option<(Over<BufStream<DuplexStream>>, Over<BufStream<DuplexStream>>)> {
    let (a, b) = duplex(len);
    Some((Over::new(BufStream::new(a)), Over::new(BufStream::new(b))))
}
