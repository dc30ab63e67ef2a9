//! iceoryx2's requests and responses through shared memory; both ends poll.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hint;
use std::ops::Range;
use std::path::Path;
use std::process::{self, ExitCode};

use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::request_response::PortFactory;
use trunkline_benches::subject::{self, About, Blocking, Error, Ready, Recorder, Spec, Workload};
use trunkline_benches::{Item, checksum, payload};

fn main() -> ExitCode {
    set_log_level(LogLevel::Error);
    subject::main_blocking::<Iceoryx2>()
}

struct Iceoryx2;

impl Blocking for Iceoryx2 {
    const ABOUT: About = About {
        name: "iceoryx2",
        version: "0.10.0",
        configuration: "requests and responses, both ends poll without sleeping, as its own benchmark does; bulk written \
                        into a loaned request and read there",
        transports: &["shm"],
        modes: &["thread"],
        beside_max: 0,
        streams: false,
    };

    fn serve(_: &str, _: &Path, ready: Ready) -> Result<(), Error> {
        // Also removes what a server has left that was ended without warning, as this one will be.
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let address = process::id().to_string();
        let echo = services::echo(&node, &address)?.server_builder().create()?;
        let upload = services::upload(&node, &address)?.server_builder().create()?;
        ready.at(address);
        loop {
            busy(|| match echo.receive()? {
                Some(request) => request.send_copy(*request.payload()).map(|()| true).map_err(Error::from),
                None => Ok(false),
            })?;
            busy(|| match upload.receive()? {
                Some(request) => request.send_copy(checksum(request.payload())).map(|()| true).map_err(Error::from),
                None => Ok(false),
            })?;
        }
    }

    fn load(_: &str, address: &str, spec: &Spec, recorder: &mut Recorder) -> Result<(), Error> {
        if spec.connections != 1 {
            return Err("there is one connection".into());
        }
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        match spec.workload {
            Workload::Echo => {
                let client = services::echo(&node, address)?.client_builder().create()?;
                let send = |id| {
                    let item = Item::new(id);
                    let [a, b, c] = peer_shared::words(&item);
                    Ok((client.send_copy([id, a, b, c])?, item))
                };
                calls(spec, recorder, send, |(pending, item)| match pending.receive()? {
                    Some(reply) => {
                        let [id, words @ ..] = *reply.payload();
                        right(peer_shared::item(id, words) == *item)
                    }
                    None => Ok(false),
                })
            }
            Workload::Upload => {
                let client =
                    services::upload(&node, address)?.client_builder().initial_max_slice_len(spec.size).create()?;
                let bytes = payload(spec.size);
                let sum = checksum(&bytes);
                let send = |_| Ok(client.loan_slice_uninit(bytes.len())?.write_from_slice(&bytes).send()?);
                calls(spec, recorder, send, |pending| match pending.receive()? {
                    Some(reply) => right(*reply == sum),
                    None => Ok(false),
                })
            }
            Workload::Down | Workload::Up => Err("it is measured with requests only".into()),
        }
    }
}

/// Both sides open the services by the same options; whoever comes first creates them.
mod services {
    use super::*;

    pub(super) fn echo(
        node: &Node<ipc::Service>,
        address: &str,
    ) -> Result<PortFactory<ipc::Service, Words, (), Words, ()>, Error> {
        let service = node.service_builder(&format!("peer-{address}/echo").as_str().try_into()?);
        Ok(service
            .request_response::<Words, Words>()
            .max_active_requests_per_client(ECHOES_MAX)
            .max_response_buffer_size(1)
            .max_clients(1)
            .max_servers(1)
            .open_or_create()?)
    }

    pub(super) fn upload(
        node: &Node<ipc::Service>,
        address: &str,
    ) -> Result<PortFactory<ipc::Service, [u8], (), u64, ()>, Error> {
        let service = node.service_builder(&format!("peer-{address}/upload").as_str().try_into()?);
        Ok(service
            .request_response::<[u8], u64>()
            .max_active_requests_per_client(UPLOADS_MAX)
            .max_response_buffer_size(1)
            .max_clients(1)
            .max_servers(1)
            .open_or_create()?)
    }
}

/// Answers until nothing has come for a while: where one service is used, the other costs its calls nothing.
fn busy(mut answer: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    let mut left = POLLS;
    while left > 0 {
        if answer()? {
            left = POLLS;
        } else {
            left -= 1;
            hint::spin_loop();
        }
    }
    Ok(())
}

/// Makes the calls. One server answers in order, so only the oldest call is asked about.
fn calls<P>(
    spec: &Spec,
    recorder: &mut Recorder,
    mut send: impl FnMut(u64) -> Result<P, Error>,
    replied: impl Fn(&P) -> Result<bool, Error>,
) -> Result<(), Error> {
    if spec.is_open() {
        let window = RefCell::new(VecDeque::with_capacity(ECHOES_MAX));
        let send = |numbers: Range<u64>| {
            for id in numbers {
                window.borrow_mut().push_back(send(id)?);
            }
            Ok(())
        };
        let receive = || {
            let mut window = window.borrow_mut();
            let mut replies = 0;
            while let Some(call) = window.front() {
                if !replied(call)? {
                    break;
                }
                window.pop_front();
                replies += 1;
            }
            Ok(replies)
        };
        return subject::paced(spec, ECHOES_MAX, recorder, send, receive);
    }
    let in_flight = spec.in_flight;
    let mut now = recorder.begin();
    let mut window = VecDeque::with_capacity(in_flight);
    for id in 0.. {
        window.push_back((send(id)?, now));
        if window.len() < in_flight {
            continue;
        }
        if let Some((call, since)) = window.front() {
            while !replied(call)? {
                hint::spin_loop();
            }
            match recorder.completed(*since, 1) {
                Some(then) => now = then,
                None => return Ok(()),
            }
        }
        window.pop_front();
    }
    Ok(())
}

fn right(equal: bool) -> Result<bool, Error> {
    if equal { Ok(true) } else { Err("a wrong reply".into()) }
}

/// An item as four words, which is what can lie in shared memory without a type of its own.
type Words = [u64; 4];
/// Calls in flight. A client's memory is laid out for so many.
const ECHOES_MAX: usize = 256;
const UPLOADS_MAX: usize = 16;
/// How often one service is asked in vain before the other is: some microseconds.
const POLLS: u32 = 100;
