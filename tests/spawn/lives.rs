//! How long a child lives, and what is left of it.

use std::process::Command;
use std::time::Duration;

use trunkline::{Connection, Limits};

use crate::kit::{self, File, MARK, command, run, runtime, until, worker};
use crate::service::WorkerClient;

/// For what would otherwise take its time.
const QUICK: Duration = Duration::from_millis(200);

#[test]
fn parent_and_child_know_each_other() {
    run(async {
        let worker = worker().await;
        let (pid, parent) = worker.who().await.unwrap();
        assert_eq!(parent, format!("Parent {{ pid: {} }}", std::process::id()));
        assert_eq!(format!("{:?}", worker.connection().peer()), format!("Child {{ pid: {pid} }}"));
        assert_eq!(worker.connection().transport(), "pipe");
    });
}

#[test]
fn a_child_ends_in_good_order_when_its_parent_closes() {
    run(async {
        let file = File::new();
        // A shell in between tells the exit status.
        let mut shell = Command::new("sh");
        let program = command("serve");
        shell.args(["-c", r#""$0" "$@" >/dev/null; echo $? >> "$TRUNKLINE_SPAWN_MARK""#]);
        shell.arg(program.get_program()).args(program.get_args());
        shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env(MARK, file.path());
        let worker = WorkerClient::spawn(shell).await.unwrap();
        assert_eq!(worker.echo(vec![5]).await.unwrap(), [5]);
        drop(worker);
        until("it has ended well", || file.text() == "ended well\n0\n").await;
    });
}

#[test]
fn a_child_ends_when_its_parent_is_killed() {
    run(async {
        for busy in [false, true] {
            let file = File::new();
            let parent = worker().await;
            let (pid, _) = parent.who().await.unwrap();
            let child =
                parent.start_a_worker("serve", file.path().to_str().unwrap(), busy).await.expect("a worker's worker");
            kit::kill_process(pid);
            until("it has ended well", || file.text() == "ended well\n").await;
            until("it is gone", || kit::is_gone(child)).await;
        }
    });
}

#[test]
fn a_dropped_runtime_leaves_no_child() {
    let runtime = runtime();
    let worker = runtime.block_on(worker());
    let (pid, _) = runtime.block_on(worker.who().into_future()).unwrap();
    drop(runtime);
    run(until_reaped(pid));
    drop(worker);
}

async fn until_reaped(pid: u32) {
    until("it is reaped", || kit::is_reaped(pid)).await;
}

#[test]
fn fifty_children_leave_no_zombies() {
    run(async {
        let mut pids = Vec::new();
        for _ in 0..5 {
            let mut workers = Vec::new();
            for _ in 0..10 {
                workers.push(tokio::spawn(worker()));
            }
            for worker in workers {
                let worker = worker.await.unwrap();
                let (pid, _) = worker.who().await.unwrap();
                pids.push(pid);
                // Some end by themselves, some are killed, some are let go of.
                match pids.len() % 3 {
                    0 => drop(worker.exit(0).await),
                    1 => kit::kill_process(pid),
                    _ => {}
                }
            }
        }
        for pid in pids {
            until_reaped(pid).await;
        }
    });
}

#[test]
fn no_descriptor_stays() {
    kit::ends_well("descriptors");
}

pub(crate) fn descriptors_in_a_process_of_its_own() {
    let open = || std::fs::read_dir("/proc/self/fd").expect("it can be listed").count();
    run(async {
        drop(worker().await);
        let mut before = 0;
        for round in 0..3 {
            for how in 0..4 {
                let pid = match how {
                    0 => {
                        let worker = worker().await;
                        let (pid, _) = worker.who().await.unwrap();
                        worker.exit(0).await.unwrap_err();
                        pid
                    }
                    1 => {
                        let worker = worker().await;
                        worker.who().await.unwrap().0
                    }
                    2 => {
                        let limits = Limits::default().hello_timeout(QUICK).linger(QUICK);
                        let mute = kit::Mute::new();
                        Connection::builder().limits(limits).connect_with(&mute).await.unwrap_err();
                        mute.pid()
                    }
                    _ => {
                        WorkerClient::spawn(Command::new("/nonexistent")).await.unwrap_err();
                        0
                    }
                };
                until_reaped(pid).await;
            }
            if round == 0 {
                before = open();
            }
        }
        until("all descriptors are closed", || open() <= before).await;
    });
}
