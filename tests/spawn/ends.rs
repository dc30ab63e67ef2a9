//! How a child ends, and what is said about it.

use std::future::poll_fn;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use trunkline::transport::{BatchWriter, FrameReceiver, FrameSender, Inherited, Transport};
use trunkline::{CallError, ConnectError, Connection, ConnectionError, HandshakeError, Limits, Reason};

use crate::kit::{self, Doomed, Mute, command, run, spawn, until, worker};
use crate::service::WorkerClient;

fn ended(error: &CallError) -> ExitStatus {
    match error.reason() {
        Some(Reason::ConnectionLost(ConnectionError::ChildEnded(status))) => *status,
        _ => panic!("something else: {error:?}"),
    }
}

#[test]
fn the_exit_status_is_in_the_error_of_calls_in_flight_and_later() {
    run(async {
        let worker = worker().await;
        let hanging = worker.hang().send().await.unwrap();
        let error = worker.exit(7).await.unwrap_err();
        assert_eq!(ended(&error).code(), Some(7));
        assert!(matches!(error, CallError::MaybeExecuted(_)));
        assert_eq!(ended(&hanging.await.unwrap_err()).code(), Some(7));
        let late = worker.echo(vec![1]).await.unwrap_err();
        assert!(matches!(late, CallError::NotExecuted(_)));
        assert_eq!(ended(&late).code(), Some(7));
        assert!(late.to_string().contains("exit status: 7"), "{late}");
    });
}

#[test]
fn the_signal_is_in_the_error() {
    run(async {
        let worker = worker().await;
        let (pid, _) = worker.who().await.unwrap();
        let hanging = worker.hang().send().await.unwrap();
        kit::kill_process(pid);
        let error = hanging.await.unwrap_err();
        assert_eq!(ended(&error).signal(), Some(9));
        until("it is reaped", || kit::is_reaped(pid)).await;
    });
}

#[test]
fn a_child_that_ends_while_a_grandchild_holds_what_it_inherited_is_noticed() {
    run(async {
        for killed in [false, true] {
            let worker = worker().await;
            let (pid, _) = worker.who().await.unwrap();
            let sleeper = Doomed(worker.start_a_sleeper().await.unwrap());
            let hanging = worker.hang().send().await.unwrap();
            if killed {
                kit::kill_process(pid);
            } else {
                worker.exit(0).await.unwrap_err();
            }
            ended(&hanging.await.unwrap_err());
            assert!(!kit::is_gone(sleeper.0));
        }
    });
}

#[test]
fn a_child_is_noticed_although_the_pipes_are_still_held() {
    run(async {
        // The shell holds the pipes and starts somebody who has them, too, and outlives it.
        let file = kit::File::new();
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"sleep 1000 & echo $! > "$0"; exit 3"#]).arg(file.path());
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let error = WorkerClient::spawn(shell).await.unwrap_err();
        match error {
            ConnectError::Lost(ConnectionError::ChildEnded(status)) => assert_eq!(status.code(), Some(3)),
            error => panic!("something else: {error}"),
        }
        let sleeper = Doomed(file.pid());
        assert!(!kit::is_gone(sleeper.0));
    });
}

#[test]
fn a_program_that_ends_at_once_is_named_in_the_handshake() {
    run(async {
        for (program, code) in [("true", 0), ("false", 1)] {
            match WorkerClient::spawn(Command::new(program)).await.unwrap_err() {
                ConnectError::Lost(ConnectionError::ChildEnded(status)) => assert_eq!(status.code(), Some(code)),
                error => panic!("something else: {error}"),
            }
        }
    });
}

#[test]
fn a_program_that_does_not_exist_or_cannot_be_run_is_named() {
    run(async {
        for program in ["/nonexistent/worker", "/etc/passwd"] {
            let error = WorkerClient::spawn(Command::new(program)).await.unwrap_err();
            assert!(matches!(error, ConnectError::Spawn { .. }), "{error:?}");
            assert!(error.to_string().contains(program), "{error}");
        }
    });
}

#[test]
fn a_program_that_does_not_speak_is_ended_and_reaped() {
    run(async {
        let mute = Mute::new();
        let limits = Limits::default().hello_timeout(Duration::from_millis(100)).linger(Duration::from_millis(100));
        let error = Connection::builder().limits(limits).connect_with(&mute).await.unwrap_err();
        assert!(matches!(error, ConnectError::Handshake(HandshakeError::Timeout(_))), "{error:?}");
        until("it is reaped", || kit::is_reaped(mute.pid())).await;
        assert!(kit::is_gone(mute.pid()));
    });
}

#[test]
fn an_attempt_that_is_given_up_leaves_no_process() {
    run(async {
        let mute = Arc::new(Mute::new());
        let theirs = Arc::clone(&mute);
        let limits = Limits::default().linger(Duration::from_millis(100));
        let attempt = tokio::spawn(async move { Connection::builder().limits(limits).connect_with(&*theirs).await });
        until("it has started", || mute.pid() != 0).await;
        attempt.abort();
        until("it is reaped", || kit::is_reaped(mute.pid())).await;
        assert!(kit::is_gone(mute.pid()));
    });
}

#[test]
fn a_child_that_ignores_its_end_is_killed() {
    run(async {
        // It speaks, and then blocks for longer than it is given.
        let limits = Limits::default().linger(Duration::from_millis(100));
        let connection = Connection::builder().limits(limits).spawn(spawn(command("serve"))).await.unwrap();
        let worker: WorkerClient = connection.client();
        let (pid, _) = worker.who().await.unwrap();
        let blocked = worker.block(1_000_000, 1).send().await.unwrap();
        drop((blocked, connection));
        until("it is reaped", || kit::is_reaped(pid)).await;
        assert!(kit::is_gone(pid));
    });
}

#[test]
fn a_program_that_ignores_sigchld_hears_of_the_end_without_the_status() {
    kit::ends_well("ignores-sigchld");
}

/// In a process whose children are reaped by the kernel.
pub(crate) fn without_a_status() {
    run(async {
        let worker = worker().await;
        let error = worker.exit(7).await.unwrap_err();
        let lost = Some(&Reason::ConnectionLost(ConnectionError::PeerGone));
        assert_eq!(error.reason(), lost, "{error:?}");
    });
}

#[test]
fn a_child_that_closes_what_it_writes_to_and_lives_on_is_a_peer_that_is_gone() {
    run(async {
        let error = Connection::builder().spawn(spawn(command("closes-its-output"))).await.unwrap_err();
        assert!(matches!(error, ConnectError::Lost(ConnectionError::PeerGone)), "{error:?}");
    });
}

#[test]
fn a_child_that_closes_what_it_reads_from_and_lives_on_is_a_peer_that_is_gone() {
    run(async {
        let transport = spawn(command("closes-its-input")).connect_transport().await.unwrap();
        let (mut sender, mut writer, mut receiver) = transport.split(1 << 20);
        let mut batch = Default::default();
        let error = loop {
            sender.reserve(4096).expect("all has been written").fill(0);
            sender.commit(1 << 32 | 4088);
            assert!(sender.take_batch(&mut batch));
            let written = tokio::select! {
                written = poll_fn(|cx| writer.poll_write(cx, &mut batch)) => written,
                _ = poll_fn(|cx| receiver.poll_fill(cx)) => panic!("it says nothing"),
            };
            if let Err(error) = written {
                break error;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(ConnectionError::from(error), ConnectionError::PeerGone);
    });
}

/// Takes the pipes, closes one of them, and lives on.
pub(crate) fn half_closed(input: bool) {
    kit::runtime().block_on(async {
        let mut listener = Inherited::bind().expect("the pipes are there");
        let transport = listener.accept_transport().await.expect("they can be had").expect("the first");
        let (_sender, mut writer, receiver) = transport.split(1 << 20);
        if input {
            drop(receiver);
        } else {
            poll_fn(|cx| writer.poll_shutdown(cx)).await.expect("it can be closed");
        }
        std::future::pending::<()>().await;
    });
}
