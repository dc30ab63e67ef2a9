//! Every limit, in one struct, with safe defaults. None can be switched off.

use std::fmt;
use std::time::Duration;

use crate::metadata::METADATA_LEN_MAX;

/// What a connection and a server may use.
///
/// Lengths are in bytes. Setters take the value by its name; values out of range are brought into it, and the range
/// stands at the setter.
///
/// ```
/// # use trunkline_core::Limits;
/// let limits = Limits::default().in_flight_per_connection(256).message_len(16 << 20);
/// assert_eq!(limits.message_len, 16 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest payload of one message that this side accepts. Default 4 MiB.
    pub message_len: usize,
    /// Memory that decoding one message may allocate. Default 64 MiB.
    pub decode_memory: usize,
    /// How deep values may nest. Default 64.
    pub decode_depth: u16,
    /// Calls in flight in one direction of a connection. Default 128.
    pub in_flight_per_connection: usize,
    /// Calls in flight on all connections of a server. Default 4,096.
    pub in_flight_per_server: usize,
    /// Calls of this side that wait because a limit is reached. Default 1,024.
    pub calls_waiting: usize,
    /// Payload bytes that a connection holds of what it received: for requests, and again for replies. Default 8 MiB.
    pub memory_in: usize,
    /// Payload bytes that a connection holds of what it will send: of requests, of replies, and of the items of streams, so many
    /// each. Where streams have so much to send, one of which some waits already is not asked for more, and the others make
    /// about 1 KiB at a time. Default 8 MiB.
    pub memory_out: usize,
    /// The longest metadata that this side sends with a call or a reply, or accepts. Default 2 KiB.
    pub metadata_len: usize,
    /// Bytes of a stream's items that its receiver has not taken, at first, and so the longest item. Default 256 KiB. Those that
    /// the receivers of all streams of a connection have not looked at are at most [`memory_in`](Limits::memory_in) together, and
    /// 16 KiB a stream.
    pub stream_window: usize,
    /// The same for a stream whose sender has to wait for room though its receiver takes what comes: where the way is long, so
    /// many bytes may be on it. It grows up to here by itself, at most to [`memory_in`](Limits::memory_in). What all streams of a
    /// connection grow by counts in [`memory_total`](Limits::memory_total), `memory_in` at most, since no more of it can be there.
    /// Default 8 MiB, which is 50 ms at 1.3 Gbit/s.
    pub stream_window_max: usize,
    /// Objects that a connection's peer has of this side's, and again that this side has of the peer's: a client that travels is
    /// one each time. Default 1,024.
    pub objects: usize,
    /// Handlers that a call may have come through: calls that handlers make inherit their count, so that a circle of calls over
    /// several connections ends. Default 16.
    pub hops: u8,
    /// Bytes that all connections of a server hold: payloads, what decoding them takes, and the rings of `shm:` connections.
    /// Default 512 MiB.
    pub memory_total: usize,
    /// Connections of a server. Default 1,024.
    pub connections: usize,
    /// Requests taken from one connection before others get their turn. Default 32.
    pub requests_per_wake: usize,
    /// How long a peer may take to say HELLO. Default 5 s.
    pub hello_timeout: Duration,
    /// How long a peer may take no bytes while there are some for it. Default 30 s.
    pub write_stall: Duration,
    /// After how much silence a PING is sent. Default 30 s.
    pub ping_interval: Duration,
    /// How long a PING may stay without an answer. Default 10 s.
    pub ping_timeout: Duration,
    /// How long the receiver of a stream may take nothing while there are items for which it has no room. Then the stream ends
    /// with [`Reason::StreamIdle`](crate::Reason::StreamIdle). One without items may be quiet for ever. Default 5 min.
    pub stream_idle: Duration,
    /// The deadline of calls that set none. Default 30 s.
    pub deadline_default: Duration,
    /// The longest deadline a call may have. Default 24 h.
    pub deadline_max: Duration,
    /// How long accepted calls may go on when a server drains. Default 30 s.
    pub drain_grace: Duration,
    /// How long a closing connection waits for the peer to take the last bytes. Default 2 s.
    pub linger: Duration,
}

/// The most payload bytes a limit can stand for: what the wire's credit can count without care.
const BYTES_MAX: usize = 1 << 40;
const IN_FLIGHT_MAX: usize = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_len: 4 << 20,
            decode_memory: 64 << 20,
            decode_depth: 64,
            in_flight_per_connection: 128,
            in_flight_per_server: 4096,
            calls_waiting: 1024,
            memory_in: 8 << 20,
            memory_out: 8 << 20,
            metadata_len: 2 << 10,
            stream_window: 256 << 10,
            stream_window_max: 8 << 20,
            objects: 1024,
            hops: 16,
            memory_total: 512 << 20,
            connections: 1024,
            requests_per_wake: 32,
            hello_timeout: Duration::from_secs(5),
            write_stall: Duration::from_secs(30),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
            stream_idle: Duration::from_secs(300),
            deadline_default: Duration::from_secs(30),
            deadline_max: Duration::from_secs(24 * 3600),
            drain_grace: Duration::from_secs(30),
            linger: Duration::from_secs(2),
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $ty:ty, $low:expr, $high:expr;)*) => {
        impl Limits {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(mut self, value: $ty) -> Self {
                    self.$name = value.clamp($low, $high);
                    self
                }
            )*
        }
    };
}

setters! {
    /// Sets the longest message, 64 bytes to 1 TiB.
    message_len: usize, 64, BYTES_MAX;
    /// Sets the memory that decoding one message may allocate, 1 KiB to 1 TiB.
    decode_memory: usize, 1024, BYTES_MAX;
    /// Sets how deep values may nest, 4 to 128. Deeper could overflow the stack.
    decode_depth: u16, 4, 128;
    /// Sets the calls in flight in one direction of a connection, 1 to 1,048,576.
    in_flight_per_connection: usize, 1, IN_FLIGHT_MAX;
    /// Sets the calls in flight on all connections of a server, 1 to 1,048,576.
    in_flight_per_server: usize, 1, IN_FLIGHT_MAX;
    /// Sets how many calls of this side may wait, 0 (a call that would wait fails) to 1,048,576.
    calls_waiting: usize, 0, IN_FLIGHT_MAX;
    /// Sets the payload bytes held of what was received, 64 bytes to 1 TiB. Never less than one message.
    memory_in: usize, 64, BYTES_MAX;
    /// Sets the payload bytes held of what will be sent, 64 bytes to 1 TiB.
    memory_out: usize, 64, BYTES_MAX;
    /// Sets the longest metadata of a call or a reply, 0 (none at all) to 2,816 bytes.
    metadata_len: usize, 0, METADATA_LEN_MAX;
    /// Sets the bytes of a stream's items that its receiver has not taken yet, 1 KiB to 1 GiB.
    stream_window: usize, 1024, 1 << 30;
    /// Sets up to where the window of a stream grows, 1 KiB to 1 GiB. Never less than what it begins with.
    stream_window_max: usize, 1024, 1 << 30;
    /// Sets the objects that a connection hands over and takes, 1 to 1,048,576.
    objects: usize, 1, IN_FLIGHT_MAX;
    /// Sets how many handlers a call may have come through, 1 to 255.
    hops: u8, 1, u8::MAX;
    /// Sets the payload bytes that all connections of a server hold, 64 bytes to 1 TiB.
    memory_total: usize, 64, BYTES_MAX;
    /// Sets the connections of a server, 1 to 1,048,576.
    connections: usize, 1, IN_FLIGHT_MAX;
    /// Sets the requests taken from one connection at a time, 1 to 4,096.
    requests_per_wake: usize, 1, 4096;
    /// Sets how long a peer may take to say HELLO, 1 ms to 1 h.
    hello_timeout: Duration, Duration::from_millis(1), Duration::from_secs(3600);
    /// Sets how long a peer may take no bytes, 10 ms to 1 h.
    write_stall: Duration, Duration::from_millis(10), Duration::from_secs(3600);
    /// Sets the silence before a PING, 10 ms to 1 h.
    ping_interval: Duration, Duration::from_millis(10), Duration::from_secs(3600);
    /// Sets the wait for a PONG, 10 ms to 1 h.
    ping_timeout: Duration, Duration::from_millis(10), Duration::from_secs(3600);
    /// Sets how long the receiver of a stream may take nothing of what waits for it, 10 ms to 24 h.
    stream_idle: Duration, Duration::from_millis(10), Duration::from_secs(24 * 3600);
    /// Sets the deadline of calls that set none, 1 ms to 24 h.
    deadline_default: Duration, Duration::from_millis(1), Duration::from_secs(24 * 3600);
    /// Sets the longest deadline, 1 ms to 24 h.
    deadline_max: Duration, Duration::from_millis(1), Duration::from_secs(24 * 3600);
    /// Sets how long accepted calls may go on when a server drains, 0 to 1 h.
    drain_grace: Duration, Duration::ZERO, Duration::from_secs(3600);
    /// Sets how long a closing connection waits for the peer, 0 to 1 min.
    linger: Duration, Duration::ZERO, Duration::from_secs(60);
}

impl Limits {
    /// A window for one direction's payload bytes: what may be held, but always room for one message.
    pub(crate) fn window(&self) -> u64 {
        self.memory_in.max(self.message_len) as u64
    }

    /// Up to where the window of a stream grows.
    pub(crate) fn stream_window_ceiling(&self) -> u64 {
        self.stream_window_max.min(self.memory_in).max(self.stream_window) as u64
    }

    /// A window for the items of all streams of one direction.
    pub(crate) fn item_window(&self) -> u64 {
        self.memory_in.max(self.stream_window) as u64
    }
}

/// A limit's name, as errors and counters give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::in_flight_per_connection`].
    InFlightPerConnection,
    /// [`Limits::in_flight_per_server`].
    InFlightPerServer,
    /// [`Limits::calls_waiting`].
    CallsWaiting,
    /// [`Limits::memory_in`].
    MemoryIn,
    /// [`Limits::memory_out`].
    MemoryOut,
    /// [`Limits::memory_total`].
    MemoryTotal,
    /// Sixteen streams a call.
    StreamsPerCall,
    /// [`Limits::objects`].
    Objects,
    /// 128 objects in a message.
    ObjectsPerMessage,
    /// [`Limits::hops`].
    Hops,
    /// One of the service's own, that a [layer](crate::layer::Layer) keeps.
    Application,
    /// One that a peer of a later version names.
    Unknown(u8),
}

impl Limit {
    pub(crate) fn to_wire(self) -> u8 {
        match self {
            Limit::InFlightPerConnection => 1,
            Limit::InFlightPerServer => 2,
            Limit::CallsWaiting => 3,
            Limit::MemoryIn => 4,
            Limit::MemoryOut => 5,
            Limit::MemoryTotal => 6,
            Limit::StreamsPerCall => 7,
            Limit::Objects => 8,
            Limit::ObjectsPerMessage => 9,
            Limit::Hops => 10,
            Limit::Application => 32,
            Limit::Unknown(code) => code,
        }
    }

    pub(crate) fn from_wire(code: u8) -> Limit {
        match code {
            1 => Limit::InFlightPerConnection,
            2 => Limit::InFlightPerServer,
            3 => Limit::CallsWaiting,
            4 => Limit::MemoryIn,
            5 => Limit::MemoryOut,
            6 => Limit::MemoryTotal,
            7 => Limit::StreamsPerCall,
            8 => Limit::Objects,
            9 => Limit::ObjectsPerMessage,
            10 => Limit::Hops,
            32 => Limit::Application,
            code => Limit::Unknown(code),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::InFlightPerConnection => "the limit `in_flight_per_connection`",
            Limit::InFlightPerServer => "the limit `in_flight_per_server`",
            Limit::CallsWaiting => "the limit `calls_waiting`",
            Limit::MemoryIn => "the limit `memory_in`",
            Limit::MemoryOut => "the limit `memory_out`",
            Limit::MemoryTotal => "the limit `memory_total`",
            Limit::StreamsPerCall => "the limit of 16 streams a call",
            Limit::Objects => "the limit `objects`",
            Limit::ObjectsPerMessage => "the limit of 128 objects a message",
            Limit::Hops => "the limit `hops`",
            Limit::Application => "a limit of the service's own",
            Limit::Unknown(code) => return write!(f, "limit {code}"),
        })
    }
}
