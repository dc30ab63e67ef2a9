//! What pipes owe beyond what every transport does.

#![cfg(all(unix, feature = "pipe"))]

mod kit;

use std::fs::File;
use std::io;

use kit::{End, guard};
use trunkline_core::transport::{PeerIdentity, Transport};
use trunkline_transports::pipe::{self, PipeTransport};

#[test]
fn outside_a_runtime_there_is_an_error_and_no_panic() {
    assert!(pipe::pair().unwrap_err().to_string().contains("no tokio runtime here"));
}

#[tokio::test]
async fn what_is_no_pipe_or_faces_the_wrong_way_is_refused() {
    let invalid = |built: io::Result<PipeTransport>, hint: &str| {
        let error = built.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(hint), "{error}");
    };
    let (read, write) = nix::unistd::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    invalid(PipeTransport::builder(null, write).build(), "neither a pipe nor a socket");
    let (_read, write) = nix::unistd::pipe().unwrap();
    invalid(PipeTransport::builder(write, read).build(), "in the wrong direction");
}

#[tokio::test]
async fn the_builder_says_who_is_there() {
    let ((read, _write), (_read, write)) = (nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap());
    let transport = PipeTransport::builder(read, write).peer(PeerIdentity::SameProcess).silent_loss(true);
    let properties = transport.build().unwrap().properties();
    assert_eq!((properties.name, properties.silent_loss), ("pipe", true));
    assert_eq!(properties.peer, PeerIdentity::SameProcess);
}

#[tokio::test]
async fn nothing_is_sent_after_a_shutdown() {
    guard(async {
        let (a, _b) = pipe::pair().unwrap();
        let mut a = End::new(a, 1000);
        a.shutdown().await;
        a.shutdown().await;
        assert!(a.place(1, 100));
        assert_eq!(a.flush().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn pipes_are_enlarged_unless_told_otherwise() {
    use nix::fcntl::{FcntlArg, fcntl};
    let capacity = |wanted: Option<usize>| {
        let ((read, far), (_read, write)) = (nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap());
        let builder = PipeTransport::builder(read, write);
        let builder = match wanted {
            Some(wanted) => builder.capacity(wanted),
            None => builder,
        };
        let _transport = builder.build().unwrap();
        fcntl(&far, FcntlArg::F_GETPIPE_SZ).unwrap()
    };
    assert_eq!(capacity(Some(4096)), 4096);
    assert_eq!(capacity(Some(100_000)), 128 * 1024);
    // What is refused is not missed.
    assert_eq!(capacity(Some(usize::MAX)), 64 * 1024);
    assert!(capacity(None) >= 64 * 1024);
}
