//! What goes through the pipes, and what must not.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use trunkline::transport::{BoxTransport, Listener, PipeTransport, Spawn, async_trait};
use trunkline::{Connection, Server};

use crate::kit::{self, File, MARK, aside, command, run, until, worker};
use crate::service::{Host, WorkerClient, WorkerServer};

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
        let connection = Connection::builder().connect_with(&spawn).await.unwrap();
        let data: Vec<u8> = (0..2 << 20).map(|n: u32| (n % 251) as u8).collect();
        // No more at once than the replies that a server may owe.
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (worker, data) = (connection.client::<WorkerClient>(), data.clone());
                tokio::spawn(async move {
                    for _ in 0..11 {
                        assert!(worker.echo(data.clone()).await.unwrap() == data);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
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
        let mark = file.path();
        let mark = mark.to_str().unwrap();
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

#[test]
fn children_started_at_the_same_time_get_their_own_pipes_alone() {
    let pipes_of = |pid: u32| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
        let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|to| to.to_string_lossy().starts_with("pipe:")).collect::<HashSet<_>>()
    };
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let runtime = kit::runtime();
                let workers: Vec<_> = (0..5)
                    .map(|_| {
                        runtime.block_on(async {
                            let worker = worker().await;
                            let (pid, _) = worker.who().await.unwrap();
                            (pid, worker)
                        })
                    })
                    .collect();
                (runtime, workers)
            })
        })
        .collect();
    let kept: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let pipes: Vec<_> = kept.iter().flat_map(|(_, workers)| workers).map(|(pid, _)| pipes_of(*pid)).collect();
    // What this program was started with, they have all inherited.
    let common: HashSet<_> = pipes[0].iter().filter(|&pipe| pipes.iter().all(|of| of.contains(pipe))).collect();
    let mut seen = HashSet::new();
    for own in &pipes {
        let own: Vec<_> = own.iter().filter(|pipe| !common.contains(pipe)).collect();
        assert_eq!(own.len(), 2, "{own:?}");
        for pipe in own {
            assert!(seen.insert(pipe), "one pipe in two children");
        }
    }
}

#[test]
fn one_socket_for_all_three_standard_streams_is_served() {
    run(async {
        let (here, there) = UnixStream::pair().unwrap();
        let program = command("serve-inetd");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", r#"exec "$0" "$@" 1>/dev/null"#]).arg(program.get_program()).args(program.get_args());
        shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let stream = |socket: &UnixStream| Stdio::from(OwnedFd::from(socket.try_clone().unwrap()));
        shell.stdin(stream(&there)).stdout(stream(&there)).stderr(stream(&there));
        let mut process = shell.spawn().unwrap();
        drop((shell, there));
        here.set_nonblocking(true).unwrap();
        let worker = WorkerClient::over(tokio::net::UnixStream::from_std(here).unwrap()).await.unwrap();
        for _ in 0..10 {
            worker.print(100).await.unwrap();
            assert_eq!(worker.echo(vec![7; 100_000]).await.unwrap().len(), 100_000);
        }
        drop(worker);
        until("it has ended well", || process.try_wait().unwrap().is_some_and(|status| status.success())).await;
    });
}

/// Brings one connection.
struct Once(Option<PipeTransport>);

#[async_trait]
impl Listener for Once {
    async fn accept(&mut self) -> io::Result<Option<BoxTransport>> {
        Ok(self.0.take().map(BoxTransport::new))
    }

    fn endpoint(&self) -> String {
        "once".to_owned()
    }
}

#[test]
fn a_program_may_call_over_its_standard_streams() {
    run(async {
        let file = File::new();
        let mut program = aside("call-stdio");
        let mut process = program.env(MARK, file.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (read, write) = (process.stdout.take().unwrap(), process.stdin.take().unwrap());
        let transport = PipeTransport::builder(read, write).build().unwrap();
        // Ends when its only connection does.
        Server::builder().service(WorkerServer::new(Host::default())).listen(Once(Some(transport))).run().await;
        until("it has ended", || process.try_wait().unwrap().is_some()).await;
        assert_eq!(file.text(), "ended well\n");
    });
}

pub(crate) fn calls_over_standard_streams() {
    run(async {
        let worker = WorkerClient::connect("stdio:").await.unwrap();
        println!("harmless");
        assert_eq!(worker.echo(vec![1, 2]).await.unwrap(), [1, 2]);
        let again = WorkerClient::connect("stdio:").await.unwrap_err();
        assert!(again.to_string().contains("neither a pipe nor a socket"), "{again}");
    });
}
