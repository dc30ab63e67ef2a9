//! Payloads of every size, unchanged.

use trunkline::{CallError, Reason};

use crate::fixture::{Fixture, Setup};
use crate::harness::soon;
use crate::ledger::token;
use crate::service::Record;

/// Bytes that show where they come from.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// What a block of bytes has before it, in the codec that is the default.
pub(crate) const PREFIX: usize = 8;
/// [`trunkline::Limits::message_len`], as it is by default.
const MESSAGE_LEN: usize = 4 << 20;

pub(crate) async fn echo_of_nothing(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    assert_eq!(soon("an echo", suite.echo(b"")).await, Ok(Vec::new()));
    served.rests_with(&connection).await;
}

pub(crate) async fn echo_of_a_small_one(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    // Around every size at which something else begins: the inline reply, the inline request, the chunk.
    for len in [1, 7, 31, 32, 33, 55, 56, 57, 63, 64, 65, 95, 96, 97, 1015, 1016, 1017, 4096, 131_063, 131_064, 131_065]
    {
        let bytes = pattern(len);
        assert_eq!(soon("an echo", suite.echo(&bytes)).await, Ok(bytes), "{len} bytes");
    }
    let record = Record { a: 1, b: u64::MAX, c: 3, d: 4 };
    for _ in 0..100 {
        assert_eq!(suite.echo_record(record).await, Ok(record));
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn echo_of_one_mebibyte(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let bytes = pattern(1 << 20);
    for _ in 0..3 {
        let echo = soon("an echo", suite.echo(&bytes)).await.expect("an echo");
        assert!(echo == bytes, "the bytes have changed");
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn echo_at_the_limit_and_one_over(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let bytes = pattern(MESSAGE_LEN - PREFIX);
    let echo = soon("an echo", suite.echo(&bytes)).await.expect("an echo");
    assert!(echo == bytes, "the bytes have changed");

    let call = token();
    let over = vec![0; MESSAGE_LEN - PREFIX - size_of::<u64>() + 1];
    let refused = soon("a refusal", suite.count(call, &over)).await;
    let reason = Reason::TooLarge { len: MESSAGE_LEN as u64 + 1, max: MESSAGE_LEN as u64 };
    assert_eq!(refused, Err(CallError::NotExecuted(reason)));
    assert_eq!(served.ledger.executions_after_all(call).await, 0);
    let fits = suite.count(call, &over[1..]).await;
    assert_eq!(fits, Ok(over.len() as u64 - 1));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_reply_at_the_limit_and_one_over(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, suite) = served.suite().await;
    let at_most = (MESSAGE_LEN - PREFIX) as u64;
    let fits = soon("a reply", suite.reply_of(at_most)).await.expect("a reply");
    assert_eq!(fits.len() as u64, at_most);
    let over = soon("a refusal", suite.reply_of(at_most + 1)).await;
    let reason = Reason::TooLarge { len: MESSAGE_LEN as u64 + 1, max: MESSAGE_LEN as u64 };
    assert_eq!(over, Err(CallError::MaybeExecuted(reason)));
    assert_eq!(suite.echo(b"and on").await, Ok(b"and on".to_vec()));
    served.rests_with(&connection).await;
}

pub(crate) async fn echo_of_sixty_four_mebibytes(fixture: Fixture) {
    let raised = [("message_len", (64 << 20) + 8), ("decode_memory", 80 << 20), ("memory_out", 80 << 20)];
    let served = fixture.serve_with(Setup::limits(&raised)).await;
    let (connection, suite) = served.suite_with(&raised).await;
    let bytes = pattern(64 << 20);
    let echo = suite.echo(&bytes).await.expect("an echo");
    assert!(echo == bytes, "the bytes have changed");
    served.rests_with(&connection).await;
}
