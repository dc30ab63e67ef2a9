//! The bytes of calls and replies.

use std::ops::Range;

use trunkline_benches::subject::{Error, Spec, Workload};
use trunkline_benches::{Item, checksum, payload};

/// Around an argument, as trunkline's CALL has it, and around a result, as REPLY has it.
const CALL_HEAD: usize = 32;
const REPLY_HEAD: usize = 16;
/// Before the bytes of an upload stands how many there are.
const BYTES_HEAD: usize = 8;

/// The reply to an echo.
pub(super) const ECHO_LEN: usize = REPLY_HEAD + 32;

const ECHO: u64 = 1;
const UPLOAD: u64 = 2;
/// The rest of the connection is a stream: from the server, or to it.
pub(super) const DOWN: u64 = 3;
pub(super) const UP: u64 = 4;

/// What a client sends together, and what must come back.
pub(super) struct Batch {
    spec: Spec,
    sum: u64,
    next: u64,
    calls: Vec<u8>,
    replies: Vec<u8>,
}

impl Batch {
    pub(super) fn new(spec: &Spec) -> Batch {
        let bytes = payload(spec.size);
        let mut batch = Batch { spec: *spec, sum: checksum(&bytes), next: 0, calls: Vec::new(), replies: Vec::new() };
        if spec.workload == Workload::Upload {
            for _ in 0..spec.in_flight {
                let from = batch.calls.len();
                batch.calls.resize(from + CALL_HEAD + BYTES_HEAD, 0);
                batch.calls.extend_from_slice(&bytes);
                let len = (batch.calls.len() - from) as u64;
                put(&mut batch.calls[from..], 0, len);
                put(&mut batch.calls[from..], 1, UPLOAD);
            }
        }
        batch
    }

    /// How many calls it is.
    pub(super) fn len(&self) -> u64 {
        self.spec.in_flight as u64
    }

    /// The bytes of the next calls.
    pub(super) fn calls(&mut self) -> &[u8] {
        self.next += self.len();
        match self.spec.workload {
            Workload::Echo => {
                self.calls.clear();
                echoes(self.next..self.next + self.len(), &mut self.calls);
            }
            _ => {
                let len = CALL_HEAD + BYTES_HEAD + self.spec.size;
                for (call, number) in self.calls.chunks_exact_mut(len).zip(self.next..) {
                    put(call, 2, number);
                }
            }
        }
        &self.calls
    }

    /// Where the replies to them go: as many bytes as they have.
    pub(super) fn replies(&mut self) -> &mut [u8] {
        let len = self.reply_len() * self.spec.in_flight;
        self.replies.resize(len, 0);
        &mut self.replies
    }

    /// Compares the replies.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (reply, number) in self.replies.chunks_exact(self.reply_len()).zip(self.next..) {
            let right = match self.spec.workload {
                Workload::Echo => is_echoed(reply, number),
                _ => word(reply, 1) == number && word(reply, 2) == self.sum,
            };
            if !right {
                return Err(format!("a wrong reply to call {number}").into());
            }
        }
        Ok(())
    }

    fn reply_len(&self) -> usize {
        match self.spec.workload {
            Workload::Echo => ECHO_LEN,
            _ => REPLY_HEAD + 8,
        }
    }
}

/// Appends the calls of these numbers.
pub(super) fn echoes(numbers: Range<u64>, calls: &mut Vec<u8>) {
    for number in numbers {
        let item = Item::new(number);
        for word in [(CALL_HEAD + 32) as u64, ECHO, number, 0, item.id] {
            calls.extend_from_slice(&word.to_le_bytes());
        }
        calls.extend_from_slice(&item.rest);
    }
}

/// Whether that is the reply to the call of this number.
pub(super) fn is_echoed(reply: &[u8], number: u64) -> bool {
    let item = Item::new(number);
    word(reply, 1) == number && word(reply, 2) == item.id && reply[REPLY_HEAD + 8..] == item.rest
}

/// The call that begins a stream.
pub(super) fn stream_call(kind: u64) -> [u8; CALL_HEAD] {
    let mut call = [0; CALL_HEAD];
    put(&mut call, 0, CALL_HEAD as u64);
    put(&mut call, 1, kind);
    call
}

/// Makes a batch of a stream: a head, then items, each behind its length. How many there are.
pub(super) fn stream_batch(items: impl Iterator<Item = Item>, batch: &mut Vec<u8>) -> u64 {
    batch.clear();
    batch.resize(REPLY_HEAD, 0);
    for item in items.take(BATCH_ITEMS) {
        batch.extend_from_slice(&(ITEM_LEN as u32).to_le_bytes());
        batch.extend_from_slice(&item.id.to_le_bytes());
        batch.extend_from_slice(&item.rest);
    }
    let len = batch.len();
    put(batch, 0, len as u64);
    ((len - REPLY_HEAD) / (4 + ITEM_LEN)) as u64
}

/// A stream as it comes in.
pub(super) struct StreamInbox {
    bytes: Vec<u8>,
    filled: usize,
}

impl StreamInbox {
    pub(super) fn new() -> StreamInbox {
        StreamInbox { bytes: vec![0; 1 << 20], filled: 0 }
    }

    /// Where what comes next goes.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// Hands over the items of all batches that are complete, now that so many more bytes have come. Whether one of them
    /// was empty, which is the last.
    pub(super) fn take(&mut self, came: usize, mut item: impl FnMut(Item) -> Result<(), Error>) -> Result<bool, Error> {
        self.filled += came;
        let (mut rest, mut last) = (&self.bytes[..self.filled], false);
        while rest.len() >= REPLY_HEAD && rest.len() as u64 >= word(rest, 0) {
            let (batch, next) = rest.split_at(word(rest, 0) as usize);
            last |= batch.len() == REPLY_HEAD;
            for record in batch[REPLY_HEAD..].chunks_exact(4 + ITEM_LEN) {
                if record[..4] != (ITEM_LEN as u32).to_le_bytes() {
                    return Err("an item has another length".into());
                }
                let mut rest = [0; 24];
                rest.copy_from_slice(&record[12..]);
                item(Item { id: word(&record[4..], 0), rest })?;
            }
            rest = next;
        }
        let done = self.filled - rest.len();
        self.bytes.copy_within(done..self.filled, 0);
        self.filled -= done;
        Ok(last)
    }
}

const ITEM_LEN: usize = 32;
/// As many as trunkline hands over together.
const BATCH_ITEMS: usize = (32 << 10) / (4 + ITEM_LEN);

/// Calls as they come in.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox { bytes: vec![0; 2 << 20], filled: 0 }
    }

    /// Where what comes next goes.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// The kind of stream that begins, if that is what has come.
    pub(super) fn begins(&self, came: usize) -> Option<u64> {
        let whole = self.filled == 0 && came == CALL_HEAD;
        Some(word(&self.bytes, 1)).filter(|kind| whole && [DOWN, UP].contains(kind))
    }

    /// Appends the replies to all calls that are complete, now that so many more bytes have come.
    pub(super) fn answer(&mut self, came: usize, replies: &mut Vec<u8>) {
        self.filled += came;
        let mut rest = &self.bytes[..self.filled];
        while rest.len() >= CALL_HEAD && rest.len() as u64 >= word(rest, 0) {
            let (call, next) = rest.split_at(word(rest, 0) as usize);
            answer(call, replies);
            rest = next;
        }
        let done = self.filled - rest.len();
        self.bytes.copy_within(done..self.filled, 0);
        self.filled -= done;
    }
}

/// Appends the reply to one call.
pub(super) fn answer(call: &[u8], replies: &mut Vec<u8>) {
    let (kind, number) = (word(call, 1), word(call, 2));
    replies.extend_from_slice(&(kind).to_le_bytes());
    replies.extend_from_slice(&number.to_le_bytes());
    if kind == ECHO {
        replies.extend_from_slice(&call[CALL_HEAD..CALL_HEAD + 32]);
    } else {
        replies.extend_from_slice(&checksum(&call[CALL_HEAD + BYTES_HEAD..]).to_le_bytes());
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
    u64::from_le_bytes(word)
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
}
