//! Sockets and pipes on plain threads.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;
use std::{hint, thread};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use trunkline_benches::subject::{
    self, About, Blocking, Error, InOrder, Ready, Recorder, Spec, Workload, child, enlarge, items,
};

use super::SPIN;
use super::bytes::{Batch, DOWN, ECHO_LEN, Inbox, StreamInbox, UP, echoes, is_echoed, stream_batch, stream_call};

/// Sleeps in the kernel until there is something to read.
pub(crate) struct Sleeping;

/// Asks again for 50 us before it does so.
pub(crate) struct Spinning;

impl Blocking for Sleeping {
    const ABOUT: About = About {
        name: "raw",
        version: "",
        configuration: "blocking reads and writes",
        transports: &["tcp", "unix", "pipe"],
        modes: &["thread"],
        beside_max: 0,
        streams: true,
    };

    fn serve(transport: &str, dir: &Path, ready: Ready) -> Result<(), Error> {
        serve(transport, dir, ready, false)
    }

    fn load(transport: &str, address: &str, spec: &Spec, recorder: &mut Recorder) -> Result<(), Error> {
        load(transport, address, spec, recorder, false)
    }
}

impl Blocking for Spinning {
    const ABOUT: About = About {
        name: "raw-spin",
        version: "",
        configuration: "asks for 50 us before it sleeps",
        transports: &["tcp", "unix", "pipe"],
        modes: &["thread"],
        beside_max: 0,
        streams: true,
    };

    fn serve(transport: &str, dir: &Path, ready: Ready) -> Result<(), Error> {
        serve(transport, dir, ready, true)
    }

    fn load(transport: &str, address: &str, spec: &Spec, recorder: &mut Recorder) -> Result<(), Error> {
        load(transport, address, spec, recorder, true)
    }
}

fn serve(transport: &str, dir: &Path, ready: Ready, spin: bool) -> Result<(), Error> {
    match transport {
        "tcp" => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            ready.at(listener.local_addr()?);
            for stream in listener.incoming() {
                let stream = stream?;
                stream.set_nodelay(true)?;
                let end = End::socket(stream.into(), spin)?;
                thread::spawn(move || answer(end));
            }
        }
        "unix" => {
            let path = dir.join("raw.sock");
            let listener = UnixListener::bind(&path)?;
            ready.at(path.display());
            for stream in listener.incoming() {
                let stream = stream?;
                enlarge(&stream);
                let end = End::socket(stream.into(), spin)?;
                thread::spawn(move || answer(end));
            }
        }
        _ => answer(End::stdio(spin)?)?,
    }
    Ok(())
}

fn answer(mut end: End) -> Result<(), Error> {
    let (mut inbox, mut replies) = (Inbox::new(), Vec::new());
    loop {
        let came = end.read(inbox.space())?;
        if came == 0 {
            return Ok(());
        }
        match inbox.begins(came) {
            Some(DOWN) => return serve_down(end),
            Some(_) => return serve_up(end),
            None => {}
        }
        replies.clear();
        inbox.answer(came, &mut replies);
        end.write_all(&replies)?;
    }
}

fn serve_down(mut end: End) -> Result<(), Error> {
    let (mut items, mut batch) = (items(), Vec::new());
    loop {
        stream_batch(&mut items, &mut batch);
        // The client goes when it has enough.
        if end.write_all(&batch).is_err() {
            return Ok(());
        }
    }
}

fn serve_up(mut end: End) -> Result<(), Error> {
    // What the client reads before it begins.
    end.write_all(&[0; 8])?;
    let (mut inbox, mut seen) = (StreamInbox::new(), InOrder::default());
    loop {
        let came = end.read(inbox.space())?;
        if inbox.take(came, |item| seen.take(item))? {
            return Ok(end.write_all(&seen.count().to_le_bytes())?);
        }
        if came == 0 {
            return Err("the client has gone".into());
        }
    }
}

fn load(transport: &str, address: &str, spec: &Spec, recorder: &mut Recorder, spin: bool) -> Result<(), Error> {
    let mut end = match transport {
        "tcp" => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            End::socket(stream.into(), spin)?
        }
        "unix" => {
            let stream = UnixStream::connect(address)?;
            enlarge(&stream);
            End::socket(stream.into(), spin)?
        }
        _ => {
            let mut server = child(address).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            recorder.server_is(server.id());
            let (Some(input), Some(output)) = (server.stdin.take(), server.stdout.take()) else {
                return Err("the child has no pipes".into());
            };
            widen(&input);
            widen(&output);
            End::new(OwnedFd::from(output), OwnedFd::from(input), spin)?
        }
    };
    if spec.is_open() {
        return paced(&mut end, spec, recorder);
    }
    match spec.workload {
        Workload::Down => return load_down(end, recorder),
        Workload::Up => return load_up(end, recorder),
        _ => {}
    }
    let mut batch = Batch::new(spec);
    let mut since = recorder.begin();
    loop {
        end.write_all(batch.calls())?;
        end.read_exact(batch.replies())?;
        batch.check()?;
        match recorder.completed(since, batch.len()) {
            Some(now) => since = now,
            None => return Ok(()),
        }
    }
}

/// Receives a stream until it is enough.
fn load_down(mut end: End, recorder: &mut Recorder) -> Result<(), Error> {
    end.write_all(&stream_call(DOWN))?;
    let (mut inbox, mut seen) = (StreamInbox::new(), InOrder::default());
    let mut since = recorder.begin();
    loop {
        let before = seen.count();
        let came = end.read(inbox.space())?;
        if came == 0 {
            return Err("the server has gone".into());
        }
        inbox.take(came, |item| seen.take(item))?;
        match recorder.completed(since, seen.count() - before) {
            Some(now) => since = now,
            None => return Ok(()),
        }
    }
}

/// Sends a stream until it is enough; the server must have seen all of it.
fn load_up(mut end: End, recorder: &mut Recorder) -> Result<(), Error> {
    end.write_all(&stream_call(UP))?;
    let mut reply = [0; 8];
    end.read_exact(&mut reply)?;
    let (mut items, mut batch) = (items(), Vec::new());
    let (mut since, mut sent) = (recorder.begin(), 0);
    loop {
        let count = stream_batch(&mut items, &mut batch);
        end.write_all(&batch)?;
        sent += count;
        match recorder.completed(since, count) {
            Some(now) => since = now,
            None => break,
        }
    }
    stream_batch([].into_iter(), &mut batch);
    end.write_all(&batch)?;
    end.read_exact(&mut reply)?;
    let seen = u64::from_le_bytes(reply);
    if seen == sent { Ok(()) } else { Err(format!("{sent} items went, and {seen} have come").into()) }
}

/// Calls that are due at times of their own. What is due by now is written together.
fn paced(end: &mut End, spec: &Spec, recorder: &mut Recorder) -> Result<(), Error> {
    if !end.spin || spec.workload != Workload::Echo {
        return Err("only what never sleeps keeps to a schedule, and only with echoes".into());
    }
    let (mut input, output) = (end.input.try_clone()?, end);
    let (mut calls, mut replies, mut filled, mut next) = (Vec::new(), vec![0; WINDOW * ECHO_LEN], 0, 0);
    let send = |numbers: Range<u64>| {
        calls.clear();
        echoes(numbers, &mut calls);
        Ok(output.write_all(&calls)?)
    };
    let receive = || {
        filled += match input.read(&mut replies[filled..]) {
            Ok(0) => return Err("the server has gone".into()),
            Ok(came) => came,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let whole = filled / ECHO_LEN;
        for reply in replies[..filled].chunks_exact(ECHO_LEN) {
            if !is_echoed(reply, next) {
                return Err(format!("a wrong reply to call {next}").into());
            }
            next += 1;
        }
        replies.copy_within(whole * ECHO_LEN..filled, 0);
        filled %= ECHO_LEN;
        Ok(whole as u64)
    };
    subject::paced(spec, WINDOW, recorder, send, receive)
}

/// Calls outstanding in an open loop: as in W2, and all that a socket takes at once in frames of one call.
const WINDOW: usize = 64;

/// As wide as trunkline's pipes, where the user may have that much: how they come would be no floor for uploads.
pub(super) fn widen(pipe: impl AsFd) {
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(256 << 10));
}

/// One end of a connection.
struct End {
    input: File,
    output: File,
    spin: bool,
}

impl End {
    fn new(input: OwnedFd, output: OwnedFd, spin: bool) -> io::Result<End> {
        if spin {
            for fd in [&input, &output] {
                let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
                fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
            }
        }
        Ok(End { input: input.into(), output: output.into(), spin })
    }

    fn socket(socket: OwnedFd, spin: bool) -> io::Result<End> {
        End::new(socket.try_clone()?, socket, spin)
    }

    fn stdio(spin: bool) -> io::Result<End> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        End::new(input, io::stdout().as_fd().try_clone_to_owned()?, spin)
    }
}

impl Read for End {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let began = self.spin.then(Instant::now);
        loop {
            match self.input.read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ask_again(began, &self.input, PollFlags::POLLIN)?
                }
                ended => return ended,
            }
        }
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let began = self.spin.then(Instant::now);
        loop {
            match self.output.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ask_again(began, &self.output, PollFlags::POLLOUT)?;
                }
                ended => return ended,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns at once, or when the descriptor is ready if that has gone on for long enough.
fn ask_again(began: Option<Instant>, file: &File, until: PollFlags) -> io::Result<()> {
    if began.is_some_and(|began| began.elapsed() < SPIN) {
        hint::spin_loop();
    } else {
        poll(&mut [PollFd::new(file.as_fd(), until)], PollTimeout::NONE)?;
    }
    Ok(())
}
