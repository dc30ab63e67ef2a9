//! Streams, both ways.

use std::future::{IntoFuture, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use trunkline::{CallError, Connection, Reason, Stream, StreamError, Streaming};

use crate::cases::cancel::poll_once;
use crate::fixture::{Fixture, Served, Setup, limits};
use crate::flow::{FlowClient, From, all};
use crate::harness::{on_plain_thread, soon, until};
use crate::ledger::{Mark, token};
use crate::service::{SuiteClient, SuiteError};

async fn flow(served: &Served) -> (Connection, FlowClient) {
    flow_with(served, &[]).await
}

async fn flow_with(served: &Served, named: &[(&str, u64)]) -> (Connection, FlowClient) {
    let connection = served.connect_with(Connection::builder().limits(limits(named))).await;
    let flow = connection.client();
    (connection, flow)
}

/// All items, which have to come to their end.
async fn collect<T>(mut stream: Streaming<T>) -> Vec<T> {
    let mut items = Vec::new();
    while let Some(item) = soon("an item", stream.next()).await {
        items.push(item.unwrap_or_else(|error| panic!("after {} items: {error}", items.len())));
    }
    items
}

pub(crate) async fn items_come_in_order_and_whole(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    for to in [0, 1, 2, 1000, 200_000] {
        let items = collect(soon("a stream", flow.count_to(to)).await.expect("a stream")).await;
        assert_eq!(items.len() as u64, to);
        assert!(items.into_iter().eq(0..to));
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn a_stream_may_borrow_its_arguments_and_fail_before_it_begins(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let items = collect(soon("a stream", flow.repeat("word", 3)).await.expect("a stream")).await;
    assert_eq!(items, ["word", "word", "word"]);
    let refused = soon("an answer", flow.repeat("", 3)).await.err();
    assert_eq!(refused, Some(CallError::App(SuiteError::Small { code: 7 })));
    served.rests_with(&connection).await;
}

pub(crate) async fn items_of_every_length(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    for (len, times) in [(0, 1000), (1, 1000), (1000, 500), (40_000, 50), (200_000, 20), ((256 << 10) - 12, 10)] {
        let items = collect(soon("a stream", flow.blocks(len, times)).await.expect("a stream")).await;
        assert_eq!(items.len() as u64, times);
        for (at, item) in items.into_iter().enumerate() {
            assert_eq!(item, vec![at as u8; len as usize]);
        }
    }
    // One that is longer than the window could never go.
    let mut stream = soon("a stream", flow.blocks((256 << 10) - 11, 1)).await.expect("a stream");
    let end = soon("its end", stream.next()).await;
    let too_long = Reason::TooLarge { len: (256 << 10) - 3, max: (256 << 10) - 4 };
    assert_eq!(end, Some(Err(StreamError::Ended(too_long))));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_stream_is_an_argument(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    for to in [0, 1, 100_000] {
        assert_eq!(soon("a sum", flow.sum(all(0..to))).await, Ok((0..to).sum()));
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn streams_go_both_ways_at_once(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let (say, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let said = From(move |cx: &mut Cx<'_>| heard.poll_recv(cx));
    let mut shouted = soon("a stream", flow.shout(said)).await.expect("a stream");
    // Each waits for the other.
    for word in ["one", "two", "three"] {
        say.send(word.to_owned()).expect("it is heard");
        assert_eq!(soon("an echo", shouted.next()).await, Some(Ok(word.to_uppercase())));
    }
    drop(say);
    assert_eq!(soon("the end", shouted.next()).await, None);
    assert_eq!(shouted.next().await, None);
    drop(shouted);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_call_has_several_streams(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let zipped = soon("a stream", flow.zip(all(0..50_000), 10, all((0..50_000).map(|n| n % 10)))).await;
    let items = collect(zipped.expect("a stream")).await;
    assert!(items.into_iter().eq((0..50_000).map(|n| n * 10 + n % 10)));
    served.rests_with(&connection).await;
}

pub(crate) async fn many_streams_at_once(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let tasks: Vec<_> = (0..100)
        .map(|at| {
            let flow = flow.clone();
            tokio::spawn(async move {
                match at % 3 {
                    0 => assert_eq!(collect(flow.count_to(2000).await.expect("a stream")).await.len(), 2000),
                    1 => assert_eq!(flow.sum(all(0..2000)).await, Ok((0..2000).sum())),
                    _ => {
                        let said = all((0..200).map(|n| format!("w{n}")));
                        assert_eq!(collect(flow.shout(said).await.expect("a stream")).await.len(), 200);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        soon("a task", task).await.expect("no panic");
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn a_reader_that_stops_is_heard(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let call = token();
    let mut stream = soon("a stream", flow.for_ever(call)).await.expect("a stream");
    for at in 1..=1000 {
        assert_eq!(soon("an item", stream.next()).await, Some(Ok(at)));
    }
    drop(stream);
    served.ledger.seen(Mark::Dropped, call).await;
    // One that is silent hears of it as well.
    let call = token();
    let stream = soon("a stream", flow.silent(call)).await.expect("a stream");
    served.ledger.seen(Mark::Started, call).await;
    drop(stream);
    served.ledger.seen(Mark::Dropped, call).await;
    served.rests_with(&connection).await;
}

/// Numbers without end, which know whether they are still there.
fn endless() -> (Arc<AtomicU64>, impl Stream<Item = u64> + Send + 'static) {
    struct Gone(Arc<AtomicU64>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.store(u64::MAX, Ordering::SeqCst);
        }
    }
    let made = Arc::new(AtomicU64::new(0));
    let gone = Gone(Arc::clone(&made));
    let numbers = From(move |_: &mut Cx<'_>| Poll::Ready(Some(gone.0.fetch_add(1, Ordering::SeqCst))));
    (made, numbers)
}

pub(crate) async fn a_handler_that_stops_is_heard(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let (made, numbers) = endless();
    assert_eq!(soon("a sum", flow.first(numbers, 1000)).await, Ok((0..1000).sum()));
    until("its end", async || made.load(Ordering::SeqCst) == u64::MAX).await;
    let (made, numbers) = endless();
    assert_eq!(soon("an answer", flow.ignore(numbers)).await, Ok(7));
    until("its end", async || made.load(Ordering::SeqCst) == u64::MAX).await;
    served.rests_with(&connection).await;
}

pub(crate) async fn streams_are_cancelled_with_their_call(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let call = token();
    let (made, numbers) = endless();
    {
        let mut held = pin!(flow.hold(call, numbers).into_future());
        until("it runs", async || {
            assert!(poll_once(held.as_mut()).await.is_pending());
            served.ledger.count(Mark::Started, call) > 0
        })
        .await;
    }
    until("its end", async || made.load(Ordering::SeqCst) == u64::MAX).await;
    served.ledger.seen(Mark::Dropped, call).await;
    // And with its deadline.
    let call = token();
    let (made, numbers) = endless();
    let late = soon("an answer", flow.hold(call, numbers).timeout(Duration::from_millis(50))).await;
    assert!(matches!(late, Err(CallError::MaybeExecuted(Reason::DeadlineExceeded))), "{late:?}");
    until("its end", async || made.load(Ordering::SeqCst) == u64::MAX).await;
    served.ledger.seen(Mark::Dropped, call).await;
    served.rests_with(&connection).await;
}

/// A stream that never has anything, and the only hold on it.
fn waits() -> (Arc<()>, impl Stream<Item = u64> + Send + 'static) {
    let held = Arc::new(());
    let holds = Arc::clone(&held);
    let waits = From(move |_: &mut Cx<'_>| {
        let _ = &holds;
        Poll::Pending
    });
    (held, waits)
}

pub(crate) async fn a_source_that_waits_hears_that_nobody_wants_it(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow_with(&served, &[("linger", 200)]).await;
    let dropped = async |held: &Arc<()>, what: &str| {
        until(what, async || Arc::strong_count(held) == 1).await;
    };
    // The receiver is dropped.
    let (held, numbers) = waits();
    assert_eq!(soon("an answer", flow.ignore(numbers)).await, Ok(7));
    dropped(&held, "its end after STOP").await;
    // The call is.
    let (held, numbers) = waits();
    let call = token();
    let pending = flow.hold(call, numbers).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, call).await;
    drop(pending);
    dropped(&held, "its end after the call's").await;
    // Its time is over.
    let (held, numbers) = waits();
    let late = soon("an answer", flow.hold(token(), numbers).timeout(Duration::from_millis(50))).await;
    assert!(matches!(late, Err(CallError::MaybeExecuted(Reason::DeadlineExceeded))), "{late:?}");
    dropped(&held, "its end after the deadline").await;
    served.rests_with(&connection).await;
    // The connection is lost.
    let (held, numbers) = waits();
    let call = token();
    let pending = flow.hold(call, numbers).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, call).await;
    connection.close();
    dropped(&held, "its end after the connection's").await;
    drop(pending);
}

pub(crate) async fn a_slow_reader_slows_its_sender_and_nobody_else(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let call = token();
    let (made, numbers) = endless();
    let mut slow = soon("a stream", flow.for_ever(token())).await.expect("a stream");
    let held = flow.hold(call, numbers).send().await.expect("it is sent");
    served.ledger.seen(Mark::Started, call).await;
    for _ in 0..50 {
        assert_eq!(soon("a sum", flow.sum(all(0..100))).await, Ok(4950));
        assert_eq!(collect(soon("a stream", flow.count_to(100)).await.expect("a stream")).await.len(), 100);
    }
    // What was made fits the window and the buffers before it.
    assert!(made.load(Ordering::SeqCst) < 100_000);
    assert!(connection.stats().memory_in <= 256 << 10, "{:?}", connection.stats());
    assert_eq!(soon("an item", slow.next()).await, Some(Ok(1)));
    drop((slow, held));
    served.rests_with(&connection).await;
}

/// The number that a block begins with.
fn number(block: Option<Result<Vec<u8>, StreamError>>) -> Option<u64> {
    let block = block?.expect("a block");
    Some(u64::from_le_bytes(*block.first_chunk().expect("a number")))
}

pub(crate) async fn what_a_slow_reader_misses_is_what_the_method_says(fixture: Fixture) {
    const BLOCKS: u64 = 3000;
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    for latest in [false, true] {
        let call = token();
        let stream = if latest {
            soon("a stream", flow.latest(call, BLOCKS)).await.expect("a stream")
        } else {
            soon("a stream", flow.newest(call, BLOCKS)).await.expect("a stream")
        };
        let mut stream = stream;
        let first = number(soon("a block", stream.next()).await).expect("a block");
        assert_eq!(first, stream.missed());
        // Whether anybody reads or not.
        served.ledger.seen(Mark::Finished, call).await;
        let (mut came, mut last) = (1, first);
        while let Some(number) = number(soon("a block", stream.next()).await) {
            assert_eq!(number, came + stream.missed());
            (came, last) = (came + 1, number);
        }
        assert_eq!((last, came + stream.missed()), (BLOCKS - 1, BLOCKS));
        assert!(came < if latest { 100 } else { BLOCKS }, "{came} blocks came");
    }
    served.rests_with(&connection).await;
    let call = token();
    let mut stream = soon("a stream", flow.blocked(call, BLOCKS)).await.expect("a stream");
    for at in 0..BLOCKS {
        assert_eq!(number(soon("a block", stream.next()).await), Some(at));
        assert!(at > 0 || served.ledger.count(Mark::Finished, call) == 0);
    }
    assert_eq!((number(soon("the end", stream.next()).await), stream.missed()), (None, 0));
    served.rests_with(&connection).await;
}

pub(crate) async fn whoever_keeps_up_misses_nothing(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    // As many as there is room for at once.
    let mut stream = soon("a stream", flow.newest(token(), 200)).await.expect("a stream");
    for at in 0..200 {
        assert_eq!(number(soon("a block", stream.next()).await), Some(at));
    }
    assert_eq!((number(soon("the end", stream.next()).await), stream.missed()), (None, 0));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_reader_that_takes_nothing_is_given_up(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("stream_idle", 100)])).await;
    let idle = |limit| StreamError::Ended(Reason::StreamIdle { after: Duration::from_millis(limit) });
    let (connection, flow) = flow_with(&served, &[("stream_idle", 150)]).await;
    let quiet = token();
    let mut silent = soon("a stream", flow.silent(quiet)).await.expect("a stream");
    let call = token();
    let mut stream = soon("a stream", flow.for_ever(call)).await.expect("a stream");
    served.ledger.seen(Mark::Dropped, call).await;
    // What was sent is there.
    let mut last = 0;
    let end = loop {
        match soon("an item", stream.next()).await {
            Some(Ok(at)) => last = at,
            end => break end,
        }
    };
    assert_eq!(end, Some(Err(idle(100))));
    assert!(last > 1000, "{last} items");
    // What the caller gives, as well; its handler goes on.
    let (made, numbers) = endless();
    let call = token();
    let held = flow.hold(call, numbers).send().await.expect("it is sent");
    until("its end", async || made.load(Ordering::SeqCst) == u64::MAX).await;
    assert_eq!(served.ledger.count(Mark::Dropped, call), 0);
    // One that is quiet is none.
    assert_eq!(served.ledger.count(Mark::Dropped, quiet), 0);
    assert!(poll_once(pin!(silent.next())).await.is_pending());
    drop((stream, held));
    connection.close();
}

pub(crate) async fn streams_outlive_the_deadline_of_their_call(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let (say, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let said = From(move |cx: &mut Cx<'_>| heard.poll_recv(cx));
    let call = flow.shout(said).timeout(Duration::from_millis(60));
    let mut shouted = soon("a stream", call).await.expect("a stream");
    tokio::time::sleep(Duration::from_millis(150)).await;
    say.send("late".to_owned()).expect("it is heard");
    assert_eq!(soon("an echo", shouted.next()).await, Some(Ok("LATE".to_owned())));
    drop(shouted);
    served.rests_with(&connection).await;
}

pub(crate) async fn an_end_that_is_none_is_told(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let mut stream = soon("a stream", flow.panic_after(3)).await.expect("a stream");
    for at in 1..=3 {
        assert_eq!(soon("an item", stream.next()).await, Some(Ok(at)));
    }
    assert_eq!(soon("the end", stream.next()).await, Some(Err(StreamError::Ended(Reason::Panicked))));
    assert_eq!(stream.next().await, None);
    let mut stream = soon("a stream", flow.mute_after(0)).await.expect("a stream");
    assert_eq!(soon("the end", stream.next()).await, Some(Err(StreamError::Ended(Reason::UnencodableReply))));
    // The same of what the caller gives.
    let mut at = 0;
    let panics = From(move |_: &mut Cx<'_>| {
        at += 1;
        assert!(at < 10, "a stream that panics");
        Poll::Ready(Some(at))
    });
    let told = soon("an answer", flow.sum(panics)).await;
    assert_eq!(told, Err(CallError::App("a stream ended early: the handler panicked".to_owned())));
    served.rests_with(&connection).await;
}

pub(crate) async fn a_stream_keeps_its_connection_and_hears_of_its_end(fixture: Fixture) {
    let served = fixture.serve().await;
    let call = token();
    let mut stream = {
        let (_connection, flow) = flow(&served).await;
        let owner = soon("a stream", flow.silent(token())).await.expect("a stream");
        drop(owner);
        let connection = flow.connection();
        let stream = soon("a stream", flow.for_ever(call)).await.expect("a stream");
        connection.close();
        soon("the end", connection.closed()).await;
        stream
    };
    let lost = loop {
        match soon("an item or the end", stream.next()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("it was not complete"),
        }
    };
    assert!(matches!(lost, StreamError::Ended(Reason::ConnectionLost(_))), "{lost:?}");
    served.ledger.seen(Mark::Dropped, call).await;
    drop(stream);
    served.rests_at(0).await;
}

pub(crate) async fn a_drain_tells_streams_and_waits_for_them(fixture: Fixture) {
    let served = fixture.serve().await;
    let (_connection, flow) = flow(&served).await;
    let mut stream = soon("a stream", flow.until_draining(token())).await.expect("a stream");
    assert_eq!(soon("an item", stream.next()).await, Some(Ok(0)));
    served.begin_shutdown().await;
    assert_eq!(soon("an item", stream.next()).await, Some(Ok(99)));
    assert_eq!(soon("the end", stream.next()).await, None);
    assert_eq!(served.report().await.calls_cut, 0);
}

pub(crate) async fn streams_count_in_flight(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("in_flight_per_connection", 2)])).await;
    let (connection, flow) = flow(&served).await;
    let stream = soon("a stream", flow.silent(token())).await.expect("a stream");
    let other = soon("a stream", flow.silent(token())).await.expect("a stream");
    let waiting = tokio::spawn({
        let flow = flow.clone();
        async move { flow.sum(all(0..10)).await }
    });
    until("it waits", async || connection.stats().calls_waiting == 1).await;
    assert_eq!(connection.stats().calls_in_flight, 2);
    drop(stream);
    assert_eq!(soon("its turn", waiting).await.expect("no panic"), Ok(45));
    drop(other);
    served.rests_with(&connection).await;
}

pub(crate) async fn a_small_window_only_slows(fixture: Fixture) {
    let served = fixture.serve_with(Setup::limits(&[("stream_window", 1024)])).await;
    let (connection, flow) = flow_with(&served, &[("stream_window", 1024)]).await;
    assert_eq!(soon("a sum", flow.sum(all(0..3000))).await, Ok((0..3000).sum()));
    assert_eq!(collect(soon("a stream", flow.count_to(3000)).await.expect("a stream")).await.len(), 3000);
    for len in [900, 1012] {
        let items = collect(soon("a stream", flow.blocks(len, 10)).await.expect("a stream")).await;
        assert_eq!(items.len(), 10);
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn a_full_stream_leaves_others_their_turn(fixture: Fixture) {
    const LEN: usize = 100;
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let suite: SuiteClient = connection.client();
    // With short calls beside it, turns are shorter.
    for (short_calls, turn_max) in [(false, 80 << 10), (true, 24 << 10)] {
        let mut blocks = soon("a stream", flow.blocks(LEN as u64, 10_000)).await.expect("a stream");
        until("the window is full", async || connection.stats().memory_in >= 256 << 10).await;
        if short_calls {
            assert_eq!(soon("a small call", suite.echo(b"beside")).await, Ok(b"beside".to_vec()));
        }
        let mut items = 0;
        let turn = poll_fn(|cx| {
            while let Poll::Ready(item) = Pin::new(&mut blocks).poll_next(cx) {
                assert_eq!(item.expect("there are more").expect("an item").len(), LEN);
                items += 1;
            }
            Poll::Ready(items)
        });
        let items = turn.await;
        assert!((1..=turn_max / LEN).contains(&items), "{items} items in one turn");
        drop(blocks);
    }
    served.rests_with(&connection).await;
}

pub(crate) async fn a_plain_thread_may_take_items(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, flow) = flow(&served).await;
    let sum = on_plain_thread(move || {
        let mut stream = flow.count_to(20_000).wait().expect("a stream");
        let mut sum = 0;
        while let Some(item) = stream.wait_next() {
            sum += item.expect("an item");
        }
        sum + flow.sum(all(0..100)).wait().expect("a sum")
    })
    .await;
    assert_eq!(sum, (0..20_000).sum::<u64>() + 4950);
    served.rests_with(&connection).await;
}
