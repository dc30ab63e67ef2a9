//! A recorded conversation with bytes flipped, inserted and cut out. Debug assertions are on.

use super::*;
use crate::call_id::CallId;
use crate::priority::Priority;
use crate::trace::TraceContext;

const ROUNDS: u64 = 1500;

/// Limits low enough for a mutated number to reach them.
fn low() -> Limits {
    Limits::default().message_len(16 << 10).memory_in(32 << 10).in_flight_per_connection(12)
}

const REQUESTS: [usize; 10] = [0, 5, 96, 97, 1500, CHUNK, CHUNK + 1, 2 * CHUNK + 2000, 64, 1];

/// What the client says and what the server says.
fn record() -> (Vec<u8>, Vec<u8>) {
    let mut pair = Pair::apart(low(), low(), false);
    let mut said = (Vec::new(), Vec::new());
    let mut exchange = |pair: &mut Pair| {
        loop {
            let (client, server) = (pair.client.output(), pair.server.output());
            client.iter().for_each(|frame| pair.server.receive(frame).unwrap());
            server.iter().for_each(|frame| pair.client.receive(frame).unwrap());
            said.0.extend(client.concat());
            said.1.extend(server.concat());
            if client.is_empty() && server.is_empty() {
                return;
            }
        }
    };
    exchange(&mut pair);
    script(&mut pair.client);
    exchange(&mut pair);
    pair.server.echo_all();
    pair.server.place(bytes(300, 0));
    pair.server.protocol.drain(pair.server.now);
    exchange(&mut pair);
    pair.client.echo_all();
    pair.client.protocol.close(CloseReason::Normal);
    pair.server.protocol.close(CloseReason::Normal);
    exchange_last(&mut pair, &mut said);
    said
}

fn exchange_last(pair: &mut Pair, said: &mut (Vec<u8>, Vec<u8>)) {
    said.0.extend(pair.client.output().concat());
    said.1.extend(pair.server.output().concat());
}

/// The client's part: the same calls each time, one of them abandoned.
fn script(client: &mut Node) -> Vec<u64> {
    let mut metadata = Metadata::new();
    metadata.insert("tenant", "blue").unwrap();
    metadata.insert("filling", "x".repeat(100)).unwrap();
    let extended = |at: usize| {
        let trace = TraceContext::new(1, 2, 3);
        let extras = Sent::with_call(&metadata, trace, Some(CallId::from_u128(at as u128)), Priority::High, true);
        (at % 3 == 0).then(|| extras.into())
    };
    let calls = REQUESTS.iter().enumerate();
    let made = calls.map(|(at, len)| {
        let call = NewCall { extras: extended(at), ..new_call() };
        placed(client.begin(call, bytes(*len, 0), None))
    });
    let ids: Vec<u64> = made.collect();
    client.abandon(ids[3]);
    ids
}

fn mutate(bytes: &mut Vec<u8>, random: &mut impl FnMut(u64) -> u64) {
    for _ in 0..=random(3) {
        let at = random(bytes.len() as u64) as usize;
        match random(6) {
            0..=2 => bytes[at] ^= 1 << random(8),
            3 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random(5) as usize],
            4 => bytes.insert(at, random(256) as u8),
            _ => drop(bytes.drain(at..(at + 1 + random(40) as usize).min(bytes.len()))),
        }
    }
}

/// Feeds a node and looks after each frame whether it keeps to its limits.
fn feed(node: &mut Node, mut stream: &[u8], random: &mut impl FnMut(u64) -> u64) {
    let max = node.protocol.config.frame_len_max();
    let (mut promised, mut frames) = (0, 0);
    while let Ok(Some(record)) = first_record(stream, max) {
        stream = &stream[record.len()..];
        frames += 1;
        let handled = node.receive(record);
        let stats = node.stats();
        promised = promised.max(stats.memory_in);
        assert!(stats.memory_in <= 2 * (32 << 10) && stats.handlers_in_flight <= 12, "{stats:?}");
        if random(4) == 0 {
            node.echo_all();
            node.output();
        }
        if let Err(error) = handled {
            node.end(error, u64::MAX - 1);
            break;
        }
        if random(10) == 0 {
            node.now += 20 * MS;
            node.timeout();
            let _ = node.protocol.handle_timeout(node.now, &mut node.effects);
            node.sort_effects();
        }
    }
    assert!(frames <= 200);
    node.end(ConnectionError::PeerGone, u64::MAX - 1);
}

fn assert_let_go(node: &mut Node) {
    for request in std::mem::take(&mut node.requests) {
        node.finish(request.id, b"");
    }
    assert!(node.stats().is_at_rest(), "{:?}", node.stats());
    assert_eq!((node.share.calls(), node.share.bytes()), (0, 0));
}

#[test]
fn mutated_conversations_neither_panic_nor_take_more_than_they_may() {
    let (client_said, server_said) = record();
    let hello_len = first_record(&server_said, usize::MAX).unwrap().unwrap().len();
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    for round in 0..ROUNDS {
        let mut pair = Pair::apart(low(), low(), false);
        // Half of the rounds leave the handshake alone, or few would get past it.
        let keep = if round % 2 == 0 { hello_len } else { 0 };
        let mut said = client_said.clone();
        let mut tail = said.split_off(keep.min(said.len()));
        mutate(&mut tail, &mut random);
        said.extend(tail);
        feed(&mut pair.server, &said, &mut random);
        assert_let_go(&mut pair.server);

        pair.client.output();
        pair.client.receive(&server_said[..hello_len]).unwrap();
        let ids = script(&mut pair.client);
        let mut said = server_said[hello_len..].to_vec();
        mutate(&mut said, &mut random);
        feed(&mut pair.client, &said, &mut random);
        for (at, id) in ids.into_iter().enumerate().filter(|(at, _)| *at != 3) {
            assert!(pair.client.poll(id).is_some(), "call {at} has no outcome");
        }
        assert_let_go(&mut pair.client);
    }
}

#[test]
fn random_frames_of_every_kind_do_not_panic() {
    let mut state = 0xdead_beef_1234_5671_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    for _ in 0..ROUNDS {
        let mut pair = Pair::with(low(), low());
        let ids = script(&mut pair.client);
        pair.client.output();
        for _ in 0..30 {
            let kind = 1 + random(14) as u8;
            let id = random(24);
            let len = [0, 1, 8, 9, 13, 18, 64, 66, 1024, 1100, 2048][random(11) as usize];
            let extensions = match random(4) {
                0 => total(random(4000)),
                1 => total(len as u64 + random(3)),
                _ => vec![],
            };
            let body = match kind {
                2 => call_body(&bytes(len, 0)),
                4 => [&[random(4) as u8, random(14) as u8], &bytes(len, 0)[..]].concat(),
                10 => [&[1 + random(2) as u8], &random(3000).to_le_bytes()[..]].concat(),
                11 | 12 => vec![0xff; 8],
                13 => [&[random(3) as u8, 0, 0, 0, 0], &random(20).to_le_bytes()[..]].concat(),
                _ => bytes(len, 0),
            };
            let record = raw(kind, random(4) as u8, id, &extensions, &body);
            for node in [&mut pair.client, &mut pair.server] {
                if node.error.is_none() {
                    node.error = node.receive(&record).err();
                }
            }
        }
        for node in [&mut pair.client, &mut pair.server] {
            node.output();
            node.end(ConnectionError::PeerGone, u64::MAX - 1);
        }
        for (_, id) in ids.into_iter().enumerate().filter(|(at, _)| *at != 3) {
            assert!(pair.client.poll(id).is_some());
        }
        assert_let_go(&mut pair.client);
        assert_let_go(&mut pair.server);
    }
}
