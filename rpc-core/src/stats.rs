//! Accounts, public: what a connection and a server hold, and how often each limit was hit.

/// One connection's accounts, at one moment. At rest every gauge is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Calls of this side that have a slot: in flight, abandoned and not yet ended by the peer, or answered and not yet
    /// fetched. The last do not count against the limit. A gauge.
    pub calls_in_flight: usize,
    /// Calls of this side that wait because a limit is reached. A gauge.
    pub calls_waiting: usize,
    /// Calls of the peer that have a slot here. A gauge.
    pub handlers_in_flight: usize,
    /// Streams, either way, that have not ended or whose end was not taken. A gauge.
    pub streams_open: usize,
    /// Objects of this side's that the peer has. A gauge.
    pub objects_exported: usize,
    /// Objects of the peer's that this side has, or has yet to give back. A gauge.
    pub objects_imported: usize,
    /// Payload bytes held of what was received. A gauge.
    pub memory_in: u64,
    /// Payload bytes of what is to be sent: those held, and those of long calls that callers still have. A gauge.
    pub memory_out: u64,
    /// Payload bytes sent for which the peer has not returned credit. A gauge, zero within 10 ms of rest.
    pub credit_in_use: u64,
    /// Payload bytes received, let go of, and not yet returned as credit. A gauge, zero within 10 ms of rest.
    pub credit_owed: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Calls of the peer that were within the limits.
    pub requests_accepted: u64,
    /// Calls of the peer that no handler was started for: a limit, a deadline that had passed, bad arguments, a method
    /// that is not served.
    pub requests_refused: u64,
    /// Handlers that panicked.
    pub handlers_panicked: u64,
    /// Calls of this side that failed here at a limit.
    pub calls_refused: u64,
    /// Replies that came for calls that were over.
    pub replies_late: u64,
}

impl ConnectionStats {
    /// Whether every gauge is zero.
    pub fn is_at_rest(&self) -> bool {
        self.calls_in_flight == 0
            && self.calls_waiting == 0
            && self.handlers_in_flight == 0
            && self.streams_open == 0
            && self.objects_exported == 0
            && self.objects_imported == 0
            && self.memory_in == 0
            && self.memory_out == 0
            && self.credit_in_use == 0
            && self.credit_owed == 0
    }
}

/// A server's accounts, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Open connections. A gauge.
    pub connections: usize,
    /// Calls in flight on all connections. A gauge.
    pub calls_in_flight: usize,
    /// Payload bytes held on all connections, without rings. A gauge.
    pub memory: u64,
    /// Connections accepted so far.
    pub connections_accepted: u64,
    /// Connections turned away because [`Limits::connections`](crate::Limits::connections) was reached, or because their
    /// ring found no room in [`Limits::memory_total`](crate::Limits::memory_total).
    pub connections_refused: u64,
    /// Times that accepting failed and was tried again a little later.
    pub accept_errors: u64,
    /// Connections that ended because their peer broke the protocol.
    pub protocol_errors: u64,
    /// Connections that ended because their peer was silent, or took no bytes, for too long.
    pub timeouts: u64,
    /// Calls taken, on all connections so far.
    pub requests_accepted: u64,
    /// Calls refused, on all connections so far.
    pub requests_refused: u64,
    /// Handlers that panicked, on all connections so far.
    pub handlers_panicked: u64,
}

impl ServerStats {
    /// Adds what one connection has counted.
    pub(crate) fn add(&mut self, connection: &ConnectionStats) {
        self.requests_accepted += connection.requests_accepted;
        self.requests_refused += connection.requests_refused;
        self.handlers_panicked += connection.handlers_panicked;
    }
}
