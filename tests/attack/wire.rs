//! Frames by hand, so that they can be wrong in every way. Written from the format's description, not with the library.

/// Kinds of frames.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const CALL: u8 = 2;
    pub(crate) const REPLY: u8 = 3;
    pub(crate) const FAIL: u8 = 4;
    pub(crate) const CHUNK: u8 = 5;
    pub(crate) const CANCEL: u8 = 6;
    pub(crate) const CREDIT: u8 = 10;
    pub(crate) const PING: u8 = 11;
    pub(crate) const PONG: u8 = 12;
    pub(crate) const GOAWAY: u8 = 13;
    pub(crate) const CLOSE: u8 = 14;
}

pub(crate) const MORE: u8 = 1;
/// CLOSE: the receiver broke the protocol.
pub(crate) const CLOSE_PROTOCOL: u8 = 2;
/// CLOSE: the receiver took no bytes for too long.
pub(crate) const CLOSE_TIMEOUT: u8 = 3;
/// CLOSE: there are too many connections.
pub(crate) const CLOSE_TOO_MANY: u8 = 4;
/// A timeout of 20 s, in the wire's units.
const TIMEOUT: u32 = 200_000;

/// A frame whose parts may contradict each other.
pub(crate) fn raw(len: u32, kind: u8, flags: u8, ext: u16, id: u64, rest: &[u8]) -> Vec<u8> {
    let mut out = len.to_le_bytes().to_vec();
    out.extend([kind, flags]);
    out.extend(ext.to_le_bytes());
    out.extend(id.to_le_bytes());
    out.extend(rest);
    out
}

/// A frame whose lengths are right.
pub(crate) fn frame_with(kind: u8, flags: u8, id: u64, extensions: &[u8], body: &[u8]) -> Vec<u8> {
    let rest = [extensions, body].concat();
    raw(8 + rest.len() as u32, kind, flags, extensions.len() as u16, id, &rest)
}

pub(crate) fn frame(kind: u8, id: u64, body: &[u8]) -> Vec<u8> {
    frame_with(kind, 0, id, &[], body)
}

/// `tag[2] len[2] value`, of extensions and of HELLO's fields.
pub(crate) fn field(tag: u16, value: &[u8]) -> Vec<u8> {
    [&tag.to_le_bytes()[..], &(value.len() as u16).to_le_bytes(), value].concat()
}

pub(crate) fn total(total: u64) -> Vec<u8> {
    field(0x8001, &total.to_le_bytes())
}

/// The wire's name of a method: FNV-1a of `Target.name`.
pub(crate) fn method(name: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in b"Target.".iter().chain(name.as_bytes()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

/// What a CALL's body has before the payload.
pub(crate) fn call_head(method: u64, timeout: u32) -> Vec<u8> {
    [&method.to_le_bytes()[..], &[0; 4], &timeout.to_le_bytes()].concat()
}

pub(crate) fn call_body(name: &str, payload: &[u8]) -> Vec<u8> {
    [&call_head(method(name), TIMEOUT), payload].concat()
}

pub(crate) fn call(id: u64, name: &str, payload: &[u8]) -> Vec<u8> {
    frame(kind::CALL, id, &call_body(name, payload))
}

/// The first frame of a CALL in chunks.
pub(crate) fn call_begun(id: u64, name: &str, len: u64, payload: &[u8]) -> Vec<u8> {
    frame_with(kind::CALL, MORE, id, &total(len), &call_body(name, payload))
}

pub(crate) fn credit(window: u8, bytes: u64) -> Vec<u8> {
    frame(kind::CREDIT, 0, &[&[window][..], &bytes.to_le_bytes()].concat())
}

/// A HELLO to be, field by field.
#[derive(Clone)]
pub(crate) struct Hello {
    pub(crate) magic: Vec<u8>,
    pub(crate) fields: Vec<(u16, Vec<u8>)>,
}

pub(crate) const MESSAGE_LEN: u16 = 3;
pub(crate) const FRAME_LEN: u16 = 4;
pub(crate) const IN_FLIGHT: u16 = 5;
pub(crate) const REQUEST_WINDOW: u16 = 6;
pub(crate) const REPLY_WINDOW: u16 = 7;
pub(crate) const CODECS: u16 = 8;

impl Hello {
    /// One that every server accepts.
    pub(crate) fn honest() -> Hello {
        let u64s = |n: u64| n.to_le_bytes().to_vec();
        let fields = vec![
            (1, u64s(0)),
            (2, u64s(0)),
            (MESSAGE_LEN, u64s(4 << 20)),
            (FRAME_LEN, u64s(256 * 1024)),
            (IN_FLIGHT, 128_u32.to_le_bytes().to_vec()),
            (REQUEST_WINDOW, u64s(8 << 20)),
            (REPLY_WINDOW, u64s(8 << 20)),
            // bincode, as code 1, is what every build has.
            (CODECS, vec![1]),
            (9, vec![7; 16]),
        ];
        Hello { magic: b"TRNK\x01\x00".to_vec(), fields }
    }

    pub(crate) fn with(mut self, tag: u16, value: &[u8]) -> Hello {
        self.fields.retain(|(known, _)| *known != tag);
        self.fields.push((tag, value.to_vec()));
        self
    }

    pub(crate) fn with_u64(self, tag: u16, value: u64) -> Hello {
        self.with(tag, &value.to_le_bytes())
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let fields = self.fields.iter().flat_map(|(tag, value)| field(*tag, value));
        self.magic.iter().copied().chain(fields).collect()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        frame(kind::HELLO, 0, &self.body())
    }
}

/// A frame that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) id: u64,
    pub(crate) extensions: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Got {
    /// Takes a whole frame from the front of `bytes`.
    pub(crate) fn take(bytes: &mut Vec<u8>) -> Option<Got> {
        let head: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
        let len = 8 + u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let ext = usize::from(u16::from_le_bytes([head[6], head[7]]));
        if bytes.len() < len {
            return None;
        }
        let rest: Vec<u8> = bytes.drain(..len).skip(16).collect();
        let id = head[8..].iter().rev().fold(0, |id, byte| id << 8 | u64::from(*byte));
        let (extensions, body) = rest.split_at(ext);
        Some(Got { kind: head[4], flags: head[5], id, extensions: extensions.to_vec(), body: body.to_vec() })
    }

    pub(crate) fn is_close(&self, reason: u8) -> bool {
        self.kind == kind::CLOSE && self.body == [reason]
    }
}

/// A repeatable source of numbers: splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Numbers at which length arithmetic breaks.
const EDGES: [u64; 12] = [0, 1, 7, 8, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 36, u64::MAX / 2, u64::MAX];

/// Changes `bytes` in one to four places.
pub(crate) fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(40)).min(bytes.len());
        match random.below(8) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.next() as u8,
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => {
                let len = random.below(64);
                let noise = random.bytes(len);
                bytes.splice(at..at, noise);
            }
            6 => {
                let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)];
                for (to, from) in bytes[at..].iter_mut().zip(&edge[..width]) {
                    *to = *from;
                }
            }
            _ => bytes.truncate(at),
        }
    }
}
