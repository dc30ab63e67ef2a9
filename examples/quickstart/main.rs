//! The README's server and client, each in a process of its own.
//!
//! `cargo run --example quickstart`, or with another transport: `cargo run --example quickstart unix:/tmp/kv.sock`.
//! `kv.rs`, `server.rs` and `client.rs` are the README's code, word for word; a test keeps them so.

#![allow(unreachable_pub, clippy::duplicate_mod, reason = "two crates in one: each has `kv.rs`, at its root")]

use std::env;
use std::error::Error;
use std::io::{self, BufRead};
use std::process::{Command, Stdio};

mod server {
    include!("server.rs");

    pub(super) fn run() -> Result<(), Box<dyn Error>> {
        main()
    }
}

mod client {
    include!("client.rs");

    pub(super) fn run() -> Result<(), Box<dyn Error>> {
        main()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match env::var(ROLE).as_deref() {
        Ok("server") => return server::run(),
        Ok("client") => return client::run(),
        _ => {}
    }
    let uri = env::args().nth(1).unwrap_or("tcp://127.0.0.1:0".to_owned());
    let mut server = start("server", &uri)?.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(stdout) = server.stdout.take() {
        io::BufReader::new(stdout).read_line(&mut line)?;
    }
    print!("server {}: {line}", server.id());
    // Nothing after `serving at`: the server has said on stderr why it could not listen.
    let client = line.trim_end().strip_prefix("serving at ").map(|uri| start("client", uri)?.status());
    // As Ctrl-C would: the server drains, and removes its socket file.
    Command::new("kill").arg("-INT").arg(server.id().to_string()).status()?;
    server.wait()?;
    match client.transpose()? {
        Some(status) if status.success() => Ok(()),
        _ => Err("it did not work".into()),
    }
}

/// This program again, as one of the two.
fn start(role: &str, uri: &str) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.env(ROLE, role).arg(uri);
    Ok(command)
}

const ROLE: &str = "QUICKSTART_ROLE";
