//! What goes through the pipes, and what must not.

use std::process::Stdio;

use crate::kit::{self, File, MARK, aside, command, run, until, worker};
use crate::service::WorkerClient;
use trunkline::transport::Spawn;
use trunkline::{Connection, Limits};

#[test]
fn a_child_may_print() {
    run(async {
        let file = File::new();
        let output = std::fs::File::create(file.path()).unwrap();
        let worker = WorkerClient::spawn(command("serve").stdout(output)).await.unwrap();
        for _ in 0..10 {
            worker.print(100).await.unwrap();
            assert_eq!(worker.echo(vec![1, 2, 3]).await.unwrap(), [1, 2, 3]);
        }
        assert_eq!(file.text().matches("line 99\n").count(), 10);
    });
}

#[test]
fn a_child_on_its_standard_streams_may_print() {
    run(async {
        let connection = Connection::builder().spawn(Spawn::from(aside("serve-stdio")).stdio()).await.unwrap();
        let worker: WorkerClient = connection.client();
        for _ in 0..10 {
            worker.print(100).await.unwrap();
            assert_eq!(worker.echo(vec![7; 100_000]).await.unwrap().len(), 100_000);
        }
        assert_eq!(worker.who().await.unwrap().1, "Unknown");
    });
}

#[test]
fn a_child_on_its_standard_streams_ends_with_the_connection() {
    run(async {
        let file = File::new();
        let mut program = aside("serve-stdio");
        program.env(MARK, file.path());
        let connection = Connection::builder().spawn(Spawn::from(program).stdio()).await.unwrap();
        let worker: WorkerClient = connection.client();
        worker.echo(vec![1]).await.unwrap();
        drop(connection);
        until("it has ended well", || file.text() == "ended well\n").await;
    });
}

#[test]
fn one_way_to_start_them_starts_several_each_with_its_own_pipes() {
    run(async {
        let spawn = Spawn::from(&mut command("serve"));
        let mut pids = Vec::new();
        let mut connections = Vec::new();
        for _ in 0..5 {
            let connection = Connection::builder().connect_with(&spawn).await.unwrap();
            pids.push(connection.client::<WorkerClient>().who().await.unwrap().0);
            connections.push(connection);
        }
        let first = connections.remove(0);
        drop(first);
        until("the first is reaped", || kit::is_reaped(pids[0])).await;
        for (connection, pid) in connections.iter().zip(&pids[1..]) {
            assert_eq!(connection.client::<WorkerClient>().who().await.unwrap().0, *pid);
        }
    });
}

#[test]
fn sixty_four_mebibytes_each_way_through_small_pipes() {
    run(async {
        let spawn = Spawn::from(&mut command("serve")).capacity(4096);
        let limits = Limits::default().memory_out(128 << 20);
        let connection = Connection::builder().limits(limits).connect_with(&spawn).await.unwrap();
        let worker: WorkerClient = connection.client();
        let data: Vec<u8> = (0..2 << 20).map(|n: u32| (n % 251) as u8).collect();
        let mut calls = Vec::new();
        for _ in 0..32 {
            let (worker, data) = (worker.clone(), data.clone());
            calls.push(tokio::spawn(async move {
                let back = worker.echo(data.clone()).await.unwrap();
                assert!(back == data);
            }));
        }
        for call in calls {
            call.await.unwrap();
        }
    });
}

#[test]
fn sigpipe_does_not_kill_a_parent() {
    kit::ends_well("sigpipe");
}

/// In a process that SIGPIPE would kill.
pub(crate) fn writes_to_a_dead_child() {
    run(async {
        for _ in 0..5 {
            let worker = worker().await;
            let (pid, _) = worker.who().await.unwrap();
            kit::kill_process(pid);
            until("it has ended", || kit::is_gone(pid)).await;
            // The runtime has had no turn since, so this one is written.
            worker.echo(vec![1; 1000]).await.unwrap_err();
        }
    });
}

#[test]
fn sigpipe_does_not_kill_a_child() {
    run(async {
        let file = File::new();
        let parent = worker().await;
        let (pid, _) = parent.who().await.unwrap();
        let mark = file.path().to_str().unwrap();
        parent.start_a_worker("serve-and-fear-sigpipe", mark, true).await.unwrap();
        // Its only thread is blocked; when it is not any more, it writes its reply, and only then reads.
        kit::kill_process(pid);
        until("it has ended well", || file.text() == "ended well\n").await;
    });
}

#[test]
fn the_childs_other_streams_are_the_commands() {
    run(async {
        let mut piped = command("serve");
        piped.stderr(Stdio::piped());
        let error = WorkerClient::spawn(piped).await.unwrap_err();
        assert!(error.to_string().contains("nobody would read"), "{error}");
    });
}
