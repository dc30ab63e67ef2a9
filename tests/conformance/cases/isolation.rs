//! One call, one client, one connection never harms another.

use std::future::IntoFuture;
use std::pin::pin;

use tokio::task::JoinSet;
use trunkline::descriptor::MethodId;

use crate::cases::cancel::poll_once;
use crate::cases::payloads::pattern;
use crate::fixture::{Fixture, Setup};
use crate::harness::{soon, until};
use crate::ledger::{Mark, token};
use crate::raw::{call, frame, hello};
use crate::service::SuiteClient;

/// Small calls, all of which go well.
async fn small_calls(suite: &SuiteClient, rounds: usize) {
    for round in 0..rounds {
        let bytes = pattern(round % 100);
        assert_eq!(soon("a small call", suite.echo(&bytes)).await, Ok(bytes));
    }
}

pub(crate) async fn a_handler_that_never_returns_holds_up_nobody(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    // All places but one are taken for good.
    let mut stuck = Vec::new();
    for _ in 0..127 {
        stuck.push(suite.never(call).send().await.expect("it is sent"));
    }
    until("all run", async || served.ledger.executions(call) == 127).await;
    small_calls(&suite, 200).await;
    drop(stuck);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_handler_that_computes_holds_up_nobody(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let computing = suite.compute(call, 2_000).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, call).await;
    small_calls(&suite, 100).await;
    assert_eq!(served.ledger.count(Mark::Finished, call), 0, "the small calls came too late to be beside it");
    assert!(soon("its end", computing).await.expect("a value") > 0);
    served.rests_with(&connection).await;
}

pub(crate) async fn handlers_that_block_hold_up_nobody(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let call = token();
    let mut blocking = JoinSet::new();
    for _ in 0..8 {
        let suite = suite.clone();
        blocking.spawn(async move { suite.block(call, 1_000).await });
    }
    until("all block", async || served.ledger.executions(call) == 8).await;
    small_calls(&suite, 100).await;
    assert_eq!(served.ledger.count(Mark::Finished, call), 0, "the small calls came too late to be beside them");
    while let Some(ended) = soon("its end", blocking.join_next()).await {
        assert_eq!(ended.expect("no panic"), Ok(1_000));
    }
    served.rests_with(&connection).await;
}

/// Limits for messages of 64 MiB, of which callers send some themselves.
const ROOMY: [(&str, u64); 4] =
    [("message_len", 65 << 20), ("memory_out", 80 << 20), ("memory_in", 128 << 20), ("decode_memory", 80 << 20)];

pub(crate) async fn a_large_upload_lets_small_calls_pass(fixture: Fixture) {
    const LEN: usize = 64 << 20;
    let served = fixture.serve_with(Setup::limits(&ROOMY)).await;
    let (connection, suite) = served.suite_with(&ROOMY).await;
    let bytes = vec![1; LEN];
    let call = token();
    let upload = {
        let suite = suite.clone();
        tokio::spawn(async move { suite.count(call, &bytes).await })
    };
    until("the upload is on its way", async || connection.stats().memory_out > 0).await;
    let mut beside = 0;
    while !upload.is_finished() {
        small_calls(&suite, 1).await;
        beside += u32::from(connection.stats().memory_out > 0);
    }
    assert_eq!(soon("the upload", upload).await.expect("no panic"), Ok(LEN as u64));
    assert!(beside > 0, "no small call ended while the upload was being sent");
    served.rests_with(&connection).await;
}

pub(crate) async fn a_large_upload_that_is_not_polled_stands_still_alone(fixture: Fixture) {
    const LEN: usize = 48 << 20;
    let served = fixture.serve_with(Setup::limits(&ROOMY)).await;
    // It does not lie in this side's memory, so that need not have room for it.
    let limits = ROOMY.map(|(limit, size)| if limit == "memory_out" { (limit, 8 << 20) } else { (limit, size) });
    let (connection, suite) = served.suite_with(&limits).await;
    let bytes = pattern(LEN);
    let (call, sent) = (token(), token());
    let mut upload = pin!(suite.count(call, &bytes).into_future());
    let mut dropped = Box::pin(suite.count(call, &bytes).into_future());
    for _ in 0..3 {
        assert!(poll_once(upload.as_mut()).await.is_pending());
        small_calls(&suite, 20).await;
        assert!(connection.stats().memory_out > 0, "all of it was sent though it was not polled");
    }
    let other = pattern(2 << 20);
    let echo = soon("a large call beside", suite.echo(&other)).await.expect("an echo");
    assert!(echo == other, "the bytes have changed");
    // A second one is dropped half sent.
    assert!(poll_once(dropped.as_mut()).await.is_pending());
    drop(dropped);
    assert_eq!(served.ledger.executions(call), 0);
    assert_eq!(soon("the upload", upload).await, Ok(LEN as u64));
    assert_eq!(served.ledger.executions_after_all(call).await, 1);
    // What has been sent borrows nothing.
    let pending = {
        let bytes = bytes.clone();
        soon("the sending", suite.count(sent, &bytes).send()).await.expect("it is sent")
    };
    assert_eq!(soon("its outcome", pending).await, Ok(LEN as u64));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_client_that_reads_nothing_harms_nobody_else(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("write_stall", 700)])).await;
    // It asks for 64 replies of 100 KiB, announces a window that lets them go, and reads none.
    let mut rude = served.endpoint().raw().await;
    rude.send(&hello(1, 1)).await.expect("it is taken");
    let method = MethodId::of("Suite", "reply_of").0;
    for at in 0..64u64 {
        let asked = call(2 * at + 1, method, 60_000, &(100u64 << 10).to_le_bytes());
        soon("the asking", rude.send(&asked)).await.expect("it is taken");
    }
    let (connection, suite) = served.suite().await;
    until("its calls are taken", async || served.accounts().await.requests_accepted >= 32).await;
    small_calls(&suite, 200).await;
    // In the end the server loses patience.
    until("it is thrown out", async || served.accounts().await.connections == 1).await;
    assert_eq!(served.accounts().await.timeouts, 1);
    small_calls(&suite, 50).await;
    served.rests_with(&connection).await;
    drop(rude);
}

pub(crate) async fn a_peer_that_breaks_the_protocol_ends_its_own_connection_only(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let slow = token();
    let mut beside = pin!(suite.delay(slow, 300, 1).into_future());
    assert!(poll_once(beside.as_mut()).await.is_pending());
    let method = MethodId::of("Suite", "never").0;
    let stuck = token().to_le_bytes();
    let offences: [&[u8]; 7] = [
        // An id twice; an id of the other side's; a reply to no call; a second HELLO; an unknown kind; credit nobody
        // needs; a frame that is longer than anything announced.
        &[call(1, method, 60_000, &stuck), call(1, method, 60_000, &stuck)].concat(),
        &call(2, method, 60_000, &stuck),
        &frame(3, 2, b"what?"),
        &hello(1, 1),
        &frame(0x7f, 1, b""),
        &frame(10, 0, &[[2].as_slice(), &u64::MAX.to_le_bytes()].concat()),
        &[&[0xff; 4], frame(2, 1, &[0; 100]).get(4..).expect("the rest")].concat(),
    ];
    for (at, offence) in offences.iter().enumerate() {
        let mut peer = served.endpoint().raw().await;
        peer.send(&hello(1, 1)).await.expect("it is taken");
        let answer = soon("its HELLO", peer.frame()).await.expect("a HELLO");
        assert_eq!(crate::raw::kind(&answer), crate::raw::HELLO);
        peer.send(offence).await.expect("it is taken");
        let frames = soon("the end", peer.frames_to_the_end()).await;
        let close = frames.last().expect("a CLOSE");
        assert_eq!(*close, frame(crate::raw::CLOSE, 0, &[2]), "offence {at}");
        drop(peer);
        until("it is counted", async || served.accounts().await.protocol_errors == at as u64 + 1).await;
    }
    assert_eq!(soon("the call beside", beside).await, Ok(1));
    small_calls(&suite, 20).await;
    until("they are gone", async || served.accounts().await.connections == 1).await;
    served.rests_with(&connection).await;
}
