//! Sockets and pipes on a tokio runtime, in one task.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task;
use trunkline_benches::subject::{About, Blocking, Error, Ready, Recorder, Spec, child, enlarge};

use super::SPIN;
use super::blocking::widen;
use super::bytes::{Batch, Inbox};

/// Sleeps as the runtime does.
pub(crate) struct RuntimeSleeping;

/// Lets the runtime look again for 50 us before it sleeps.
pub(crate) struct RuntimeSpinning;

impl Blocking for RuntimeSleeping {
    const ABOUT: About = About {
        name: "raw-tokio",
        version: "",
        configuration: "one task, reads and writes",
        transports: &["tcp", "unix", "pipe"],
        modes: &["ct"],
        beside_max: 0,
        streams: false,
    };

    fn serve(transport: &str, dir: &Path, ready: Ready) -> Result<(), Error> {
        runtime()?.block_on(serve(transport, dir, ready, false))
    }

    fn load(transport: &str, address: &str, spec: &Spec, recorder: &mut Recorder) -> Result<(), Error> {
        runtime()?.block_on(load(transport, address, *spec, recorder, false))
    }
}

impl Blocking for RuntimeSpinning {
    const ABOUT: About = About {
        name: "raw-tokio-spin",
        version: "",
        configuration: "one task, yields for 50 us before it sleeps",
        transports: &["tcp", "unix", "pipe"],
        modes: &["ct"],
        beside_max: 0,
        streams: false,
    };

    fn serve(transport: &str, dir: &Path, ready: Ready) -> Result<(), Error> {
        runtime()?.block_on(serve(transport, dir, ready, true))
    }

    fn load(transport: &str, address: &str, spec: &Spec, recorder: &mut Recorder) -> Result<(), Error> {
        runtime()?.block_on(load(transport, address, *spec, recorder, true))
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

type Input = Box<dyn AsyncRead + Send + Unpin>;
type Output = Box<dyn AsyncWrite + Send + Unpin>;

async fn serve(transport: &str, dir: &Path, ready: Ready, spin: bool) -> Result<(), Error> {
    match transport {
        "tcp" => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready.at(listener.local_addr()?);
            loop {
                let (input, output) = tcp(listener.accept().await?.0)?;
                task::spawn(answer(input, output, spin));
            }
        }
        "unix" => {
            let path = dir.join("raw.sock");
            let listener = UnixListener::bind(&path)?;
            ready.at(path.display());
            loop {
                let stream = listener.accept().await?.0;
                enlarge(&stream);
                let (input, output) = stream.into_split();
                task::spawn(answer(Box::new(input), Box::new(output), spin));
            }
        }
        _ => {
            use std::os::fd::AsFd;
            let input = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
            let output = pipe::Sender::from_owned_fd(io::stdout().as_fd().try_clone_to_owned()?)?;
            // In a task of its own like the others: what `block_on` polls is polled more often.
            Ok(task::spawn(answer(Box::new(input), Box::new(output), spin)).await??)
        }
    }
}

fn tcp(stream: TcpStream) -> io::Result<(Input, Output)> {
    stream.set_nodelay(true)?;
    let (input, output) = stream.into_split();
    Ok((Box::new(input), Box::new(output)))
}

async fn answer(mut input: Input, mut output: Output, spin: bool) -> io::Result<()> {
    let (mut inbox, mut replies) = (Inbox::new(), Vec::new());
    loop {
        let came = read(&mut input, inbox.space(), spin).await?;
        if came == 0 {
            return Ok(());
        }
        replies.clear();
        inbox.answer(came, &mut replies);
        output.write_all(&replies).await?;
    }
}

async fn load(transport: &str, address: &str, spec: Spec, recorder: &mut Recorder, spin: bool) -> Result<(), Error> {
    let (input, output): (Input, Output) = match transport {
        "tcp" => tcp(TcpStream::connect(address).await?)?,
        "unix" => {
            let stream = UnixStream::connect(address).await?;
            enlarge(&stream);
            let (input, output) = stream.into_split();
            (Box::new(input), Box::new(output))
        }
        _ => {
            let mut server = child(address).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            recorder.server_is(server.id());
            let (Some(input), Some(output)) = (server.stdin.take(), server.stdout.take()) else {
                return Err("the child has no pipes".into());
            };
            widen(&input);
            widen(&output);
            let receiver = pipe::Receiver::from_owned_fd(output.into())?;
            (Box::new(receiver), Box::new(pipe::Sender::from_owned_fd(input.into())?))
        }
    };
    let own = std::mem::replace(recorder, Recorder::new(spec));
    *recorder = task::spawn(call(input, output, spec, own, spin)).await??;
    Ok(())
}

async fn call(
    mut input: Input,
    mut output: Output,
    spec: Spec,
    mut recorder: Recorder,
    spin: bool,
) -> Result<Recorder, Error> {
    if spec.workload.is_stream() {
        return Err("it has no streams".into());
    }
    let mut batch = Batch::new(&spec);
    let mut since = recorder.begin();
    loop {
        output.write_all(batch.calls()).await?;
        let mut replies = batch.replies();
        while !replies.is_empty() {
            let came = read(&mut input, replies, spin).await?;
            if came == 0 {
                return Err("the server has gone".into());
            }
            replies = &mut replies[came..];
        }
        batch.check()?;
        match recorder.completed(since, batch.len()) {
            Some(now) => since = now,
            None => return Ok(recorder),
        }
    }
}

async fn read(input: &mut Input, bytes: &mut [u8], spin: bool) -> io::Result<usize> {
    if spin {
        let began = Instant::now();
        while began.elapsed() < SPIN {
            // A read that is dropped before it is ready has taken nothing.
            tokio::select! {
                biased;
                came = input.read(bytes) => return came,
                () = task::yield_now() => {}
            }
        }
    }
    input.read(bytes).await
}
