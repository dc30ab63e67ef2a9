//! What is refused, and what is said then.

use std::process::Command;

use trunkline::{ConnectError, Connection, serve};

use crate::kit::{self, run, worker};
use crate::service::{Host, WorkerClient, WorkerServer};

#[test]
fn a_uri_starts_a_program_only_where_it_may() {
    run(async {
        let error = WorkerClient::connect("exec:true --flag").await.unwrap_err();
        assert!(error.to_string().contains("allow_exec"), "{error}");
        // Allowed, and started; it is no server.
        let error = Connection::builder().allow_exec().connect("exec:true --flag").await.unwrap_err();
        assert!(matches!(error, ConnectError::Lost(_)), "{error:?}");
        let program = kit::command("serve");
        let mut line = format!("exec:env TRUNKLINE_SPAWN_ROLE=serve {}", program.get_program().to_str().unwrap());
        for argument in program.get_args() {
            line = line + " " + argument.to_str().unwrap();
        }
        let connection = Connection::builder().allow_exec().connect(line).await.unwrap();
        let worker: WorkerClient = connection.client();
        assert_eq!(worker.echo(vec![1]).await.unwrap(), [1]);
    });
}

#[test]
fn a_uri_starts_a_program_for_a_plain_thread_too() {
    let error = Connection::builder().allow_exec().connect_blocking("exec:false").unwrap_err();
    assert!(error.to_string().contains("exit status: 1"), "{error}");
}

#[test]
fn pipes_are_taken_once() {
    run(async {
        let said = worker().await.serve_again(false).await.unwrap();
        assert!(said.contains("has taken its pipes already"), "{said}");
    });
}

#[test]
fn a_grandchild_knows_that_the_pipes_are_not_its_own() {
    run(async {
        let said = worker().await.serve_again(true).await.unwrap();
        assert!(said.contains("are not open here"), "{said}");
    });
}

#[test]
fn a_process_that_was_not_spawned_is_told_so() {
    run(async {
        let output = kit::command("bind").stderr(std::process::Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("was not started by `spawn`"), "{said}");
    });
}

#[test]
fn standard_streams_that_lead_nowhere_are_refused() {
    let output = kit::command("serve-stdio-nowhere").stderr(std::process::Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("standard input is neither a pipe nor a socket"), "{said}");
    assert!(said.contains("Spawn::stdio"), "{said}");
}

/// With `/dev/null` for both.
pub(crate) fn serves_standard_streams() {
    let said = kit::runtime().block_on(serve("stdio:", WorkerServer::new(Host::default()))).unwrap_err();
    eprintln!("{said}");
}

#[test]
fn a_command_is_taken_out_of_what_it_was_built_with() {
    run(async {
        let mut command = Command::new("false");
        command.arg("--flag");
        let error = WorkerClient::spawn(&mut command).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 1"), "{error}");
        assert_eq!(command.get_program(), "false");
        assert_eq!(command.get_args().count(), 0);
    });
}
