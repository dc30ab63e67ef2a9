//! Unix sockets: the file, who may listen on it, and who may connect.

#![cfg(all(unix, feature = "unix"))]

mod kit;

use std::fs;
use std::future::Future;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net as std_net;
use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Waker};

use kit::stranger::{STRANGER, as_stranger, nobody_starts, path_for_stranger, succeed};
use kit::{End, guard};
use tempfile::tempdir;
use trunkline_core::ConnectError;
use trunkline_core::transport::{Connector, Filled, Listener, PeerIdentity, Transport};
use trunkline_transports::BindError;
use trunkline_transports::unix::{UnixConnector, UnixListener};

#[tokio::test]
async fn a_stale_file_is_replaced() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("s");
    drop(std_net::UnixListener::bind(&path).unwrap());
    // A child that another test is just starting has the dead server's socket too, until it is another program.
    let bound = guard(async {
        loop {
            match UnixListener::bind(&path) {
                Err(BindError::InUse { .. }) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
                bound => break bound,
            }
        }
    });
    let mut listener = bound.await.unwrap();
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    let _client = std_net::UnixStream::connect(&path).unwrap();
    guard(listener.accept_transport()).await.unwrap();
}

#[tokio::test]
async fn leftovers_of_a_server_killed_while_it_bound_are_no_hindrance() {
    let directory = tempdir().unwrap();
    drop(std_net::UnixListener::bind(directory.path().join("s~")).unwrap());
    fs::write(directory.path().join("s.lock"), "").unwrap();
    let _listener = UnixListener::bind(directory.path().join("s")).unwrap();
    assert!(!directory.path().join("s~").exists());
}

#[tokio::test]
async fn a_live_socket_is_never_replaced() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("s");
    let _live = std_net::UnixListener::bind(&path).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    assert!(matches!(UnixListener::bind(&path), Err(BindError::InUse { .. })));
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    std_net::UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn a_second_listener_is_told_that_there_is_one() {
    let directory = tempdir().unwrap();
    let _first = UnixListener::bind(directory.path().join("s")).unwrap();
    let error = UnixListener::bind(directory.path().join("s")).unwrap_err();
    assert!(error.to_string().contains("a server already listens there"), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn of_listeners_that_bind_at_once_exactly_one_wins() {
    let directory = tempdir().unwrap();
    let runtime = tokio::runtime::Handle::current();
    // A child would have the lock of the listeners that have just gone.
    let _nobody = nobody_starts();
    for round in 0..100 {
        let path = directory.path().join("s");
        if round % 2 == 0 {
            // The race for a file that a dead server left is the harder one.
            drop(std_net::UnixListener::bind(&path).unwrap());
        }
        let start = Barrier::new(4);
        // All threads are done before any listener goes, so that nobody can win after another has.
        let bound: Vec<_> = std::thread::scope(|scope| {
            let bind = || {
                let _inside = runtime.enter();
                start.wait();
                UnixListener::bind(&path)
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1);
        std_net::UnixStream::connect(&path).unwrap();
    }
}

#[tokio::test]
async fn the_file_is_its_owners_alone_unless_told_otherwise() {
    let directory = tempdir().unwrap();
    let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
    let _own = UnixListener::bind(directory.path().join("own")).unwrap();
    assert_eq!(mode("own"), 0o600);
    assert_eq!(mode("own.lock"), 0o600);
    let _group = UnixListener::builder(directory.path().join("group")).mode(0o660).bind().unwrap();
    assert_eq!(mode("group"), 0o660);
    let _any = UnixListener::builder(directory.path().join("any")).allow_any_user().bind().unwrap();
    assert_eq!(mode("any"), 0o666);
    let _some = UnixListener::builder(directory.path().join("some")).allow_uid(12345).bind().unwrap();
    assert_eq!(mode("some"), 0o666);
}

#[tokio::test]
async fn paths_no_socket_can_have_are_refused_with_the_reason() {
    let directory = tempdir().unwrap();
    for path in [directory.path().join("x".repeat(200)), "".into(), "a\0b".into(), "\0abstract".into(), "/".into()] {
        assert!(matches!(UnixListener::bind(&path), Err(BindError::Endpoint { .. })), "{path:?}");
    }
    let long = directory.path().join("x".repeat(200));
    let error = UnixListener::bind(&long).unwrap_err();
    assert!(error.to_string().contains("bytes here, this one has"), "{error}");
    let error = UnixConnector::new(&long).connect_transport().await.unwrap_err();
    assert!(matches!(error, ConnectError::Endpoint { .. }), "{error}");
}

// The figure is Linux's.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_longest_path_that_is_promised_works() {
    let directory = tempdir().unwrap();
    let room = 106 - directory.path().as_os_str().len() - 1;
    let path = directory.path().join("x".repeat(room));
    let mut listener = UnixListener::bind(&path).unwrap();
    let connector = UnixConnector::new(&path);
    let (a, b) = guard(async { tokio::join!(connector.connect_transport(), listener.accept_transport()) }).await;
    a.unwrap();
    b.unwrap();
    assert!(UnixListener::bind(directory.path().join("x".repeat(room + 1))).is_err());
}

#[tokio::test]
async fn what_is_no_socket_stays() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("s");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(UnixListener::bind(&path), Err(BindError::Endpoint { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");

    // Not even a link to a socket is one.
    fs::remove_file(&path).unwrap();
    drop(std_net::UnixListener::bind(directory.path().join("elsewhere")).unwrap());
    symlink(directory.path().join("elsewhere"), &path).unwrap();
    assert!(matches!(UnixListener::bind(&path), Err(BindError::Endpoint { .. })));
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
}

#[tokio::test]
async fn a_link_in_the_locks_place_is_refused() {
    let directory = tempdir().unwrap();
    symlink(directory.path().join("victim"), directory.path().join("s.lock")).unwrap();
    assert!(matches!(UnixListener::bind(directory.path().join("s")), Err(BindError::Io { .. })));
    assert!(!directory.path().join("victim").exists());
}

#[tokio::test]
async fn directories_that_are_missing_or_open_to_all_are_refused() {
    let directory = tempdir().unwrap();
    let error = UnixListener::bind(directory.path().join("missing/s")).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = UnixListener::bind(directory.path().join("s")).unwrap_err();
    assert!(error.to_string().contains("others could replace the socket"), "{error}");
    UnixListener::builder(directory.path().join("s")).allow_shared_directory().bind().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    UnixListener::bind(directory.path().join("s")).unwrap();
}

#[tokio::test]
async fn a_dropped_listener_takes_its_file_along_but_no_other() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(Listener::endpoint(&listener), format!("unix:{}", path.display()));
    drop(listener);
    assert!(!path.exists());
    assert!(directory.path().join("s.lock").exists());

    let listener = UnixListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = std_net::UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let directory = tempdir().unwrap();
    let mut listener = UnixListener::bind(directory.path().join("s")).unwrap();
    let connector = UnixConnector::new(directory.path().join("s"));
    let (a, b) = guard(async { tokio::join!(connector.connect(), listener.accept()) }).await;
    let me = PeerIdentity::Unix {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        pid: Some(std::process::id() as i32),
    };
    for transport in [a.unwrap(), b.unwrap().unwrap()] {
        assert_eq!(transport.properties().peer, me);
        assert_eq!(transport.properties().name, "unix");
        assert!(!transport.properties().silent_loss);
    }
    assert_eq!(listener.refused(), 0);
}

#[tokio::test]
async fn connecting_in_vain_says_why() {
    let directory = tempdir().unwrap();
    let connector = UnixConnector::new(directory.path().join("s"));
    let error = connector.connect().await.unwrap_err();
    assert!(error.to_string().contains("no such file: is the server running"), "{error}");
    drop(std_net::UnixListener::bind(directory.path().join("s")).unwrap());
    let error = connector.connect().await.unwrap_err();
    assert!(error.to_string().contains("nobody listens on it"), "{error}");
    assert!(error.to_string().contains(&connector.endpoint()), "{error}");
}

#[tokio::test]
async fn a_full_line_is_waited_for() {
    let directory = tempdir().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(directory.path().join("s")).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let connector = UnixConnector::new(directory.path().join("s"));
    let first = connector.connect_transport().await.unwrap();
    let mut second = pin!(connector.connect_transport());
    // Linux holds one connection in a line of no length; where there is more room, there is nothing to see here.
    let mut cx = Context::from_waker(Waker::noop());
    if second.as_mut().poll(&mut cx).is_pending() {
        socket.accept().unwrap();
    }
    guard(second).await.unwrap();
    drop(first);
}

#[tokio::test]
async fn an_accept_that_is_dropped_loses_no_connection() {
    let directory = tempdir().unwrap();
    let mut listener = UnixListener::bind(directory.path().join("s")).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(listener.accept()).poll(&mut cx).is_pending());
    let _client = UnixConnector::new(directory.path().join("s")).connect_transport().await.unwrap();
    assert!(tokio::time::timeout(std::time::Duration::ZERO, std::future::pending::<()>()).await.is_err());
    guard(listener.accept()).await.unwrap();
}

#[test]
fn outside_a_runtime_there_is_an_error_and_no_panic() {
    assert!(matches!(UnixListener::bind("/tmp/never"), Err(BindError::NoRuntime)));
    let connect = UnixConnector::new("/tmp/never");
    let mut connect = pin!(connect.connect_transport());
    let std::task::Poll::Ready(outcome) = connect.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits for a runtime");
    };
    assert!(matches!(outcome, Err(ConnectError::NoRuntime)));
}

#[tokio::test]
async fn stranger_is_kept_out_by_the_file() {
    let Some(path) = path_for_stranger() else { return };
    let error = UnixConnector::new(path).connect().await.unwrap_err();
    let ConnectError::Unreachable { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn stranger_is_dropped() {
    let Some(path) = path_for_stranger() else { return };
    let mut end = End::new(UnixConnector::new(path).connect_transport().await.unwrap(), 4096);
    assert_eq!(guard(end.fill()).await.unwrap(), Filled::Closed);
}

#[tokio::test]
async fn stranger_connects() {
    let Some(path) = path_for_stranger() else { return };
    let mut end = End::new(UnixConnector::new(path).connect_transport().await.unwrap(), 4096);
    guard(end.expect(1, 16)).await;
}

#[tokio::test]
async fn stranger_listens() {
    let Some(path) = path_for_stranger() else { return };
    let _listener = UnixListener::builder(path).allow_any_user().allow_shared_directory().bind().unwrap();
    // libtest has a line of its own open.
    println!("\nready");
    // Until the other side has seen enough.
    let _ = std::io::stdin().read(&mut [0]);
}

#[tokio::test]
async fn strangers_are_kept_out_unless_they_are_admitted() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("s");
    let mut listener = UnixListener::bind(&path).unwrap();
    let Some(child) = as_stranger("stranger_is_kept_out_by_the_file", &path) else { return };
    succeed(child);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let child = as_stranger("stranger_is_dropped", &path).unwrap();
    let waited = tokio::task::spawn_blocking(|| succeed(child));
    guard(async {
        tokio::select! {
            accepted = listener.accept() => panic!("accepted {:?}", accepted.unwrap()),
            waited = waited => waited.unwrap(),
        }
    })
    .await;
    assert_eq!(listener.refused(), 1);
    drop(listener);

    let mut listener = UnixListener::builder(&path).allow_uid(STRANGER).bind().unwrap();
    let child = as_stranger("stranger_connects", &path).unwrap();
    let transport = guard(listener.accept_transport()).await.unwrap();
    let PeerIdentity::Unix { uid, pid, .. } = transport.properties().peer else { panic!("no identity") };
    assert_eq!((uid, pid), (STRANGER, Some(child.id() as i32)));
    End::new(transport, 4096).send(1, 16).await;
    tokio::task::spawn_blocking(|| succeed(child)).await.unwrap();
}

#[tokio::test]
async fn a_strangers_server_is_refused_unless_it_is_trusted() {
    let directory = tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let path = directory.path().join("s");
    let Some(mut child) = as_stranger("stranger_listens", &path) else { return };
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let ready = std::io::BufRead::lines(&mut output).any(|line| line.unwrap() == "ready");
    assert!(ready);

    let error = UnixConnector::new(&path).connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::PeerRefused { .. }), "{error}");
    assert!(error.to_string().contains("uid 65534"), "{error}");
    UnixConnector::new(&path).trust_uid(STRANGER).connect().await.unwrap();
    UnixConnector::new(&path).trust_any_user().connect().await.unwrap();
    drop(child.stdin.take());
    succeed(child);
}
