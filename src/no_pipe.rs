//! What generated code names where there are no pipes: it compiles, and says why it cannot be.

use std::process::Command;

use trunkline_core::{Client, ConnectError};

/// A program that will not be started.
#[derive(Debug)]
pub struct Spawn(String);

impl From<Command> for Spawn {
    fn from(mut command: Command) -> Spawn {
        Spawn::from(&mut command)
    }
}

impl From<&mut Command> for Spawn {
    fn from(command: &mut Command) -> Spawn {
        Spawn(command.get_program().to_string_lossy().into_owned())
    }
}

/// Starts nothing.
pub async fn spawn(Spawn(program): Spawn) -> Result<Client, ConnectError> {
    let why = "this program was built without trunkline's feature `pipe`, or for a system that is not Unix".to_owned();
    Err(ConnectError::Endpoint { endpoint: format!("exec:{program}"), why })
}
