//! Which trace a call belongs to, as W3C's Trace Context has it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::num::{NonZeroU64, NonZeroU128};
use std::pin::pin;
use std::str::FromStr;

use crate::context::{Handed, Scope};
use crate::random;

/// Which trace a call belongs to, and which span made it: W3C's [`traceparent`](https://www.w3.org/TR/trace-context/).
///
/// A handler's calls inherit that of its own. [`Call::trace`](crate::Call::trace) gives one to a call that begins a trace, or
/// that belongs to a span which something else keeps, such as OpenTelemetry: `Display` and `FromStr` are the text form that
/// those understand.
///
/// ```
/// # use trunkline_core::TraceContext;
/// let trace: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse()?;
/// assert_eq!(trace.parent_id(), 0xb7ad6b7169203331);
/// assert!(trace.is_sampled());
/// assert_eq!(trace.to_string(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// assert_eq!(trace.child().trace_id(), trace.trace_id());
/// # Ok::<(), trunkline_core::TraceParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: NonZeroU128,
    parent_id: NonZeroU64,
    flags: u8,
}

impl TraceContext {
    /// The flag that says that the trace is recorded.
    pub const SAMPLED: u8 = 0x01;
    /// Bytes on the wire.
    pub(crate) const WIRE_LEN: usize = 25;

    /// The beginning of a trace, sampled, with random ids.
    pub fn root() -> TraceContext {
        let trace_id = NonZeroU128::new(random::bits128()).unwrap_or(NonZeroU128::MIN);
        TraceContext { trace_id, parent_id: span_id(), flags: TraceContext::SAMPLED }
    }

    /// The same trace, from another span, with a random id.
    #[must_use]
    pub fn child(self) -> TraceContext {
        TraceContext { parent_id: span_id(), ..self }
    }

    /// From ids that somebody else keeps; `None` if one of them is 0.
    pub const fn new(trace_id: u128, parent_id: u64, flags: u8) -> Option<TraceContext> {
        match (NonZeroU128::new(trace_id), NonZeroU64::new(parent_id)) {
            (Some(trace_id), Some(parent_id)) => Some(TraceContext { trace_id, parent_id, flags }),
            _ => None,
        }
    }

    /// The id of the whole trace, never 0.
    pub const fn trace_id(self) -> u128 {
        self.trace_id.get()
    }

    /// The id of the span that made the call, never 0.
    pub const fn parent_id(self) -> u64 {
        self.parent_id.get()
    }

    /// W3C's trace flags.
    pub const fn flags(self) -> u8 {
        self.flags
    }

    /// Whether the trace is recorded.
    pub const fn is_sampled(self) -> bool {
        self.flags & TraceContext::SAMPLED != 0
    }

    /// A future whose calls belong to this trace, from this span: for several calls that nothing else puts into one.
    ///
    /// In a handler the calls inherit the rest as they would without.
    ///
    /// ```no_run
    /// # use trunkline_core::{Call, TraceContext};
    /// # async fn both(first: Call<'_, (), ()>, second: Call<'_, (), ()>) {
    /// TraceContext::root().scope(async { /* first.await, second.await */ }).await;
    /// # }
    /// ```
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> + use<F> {
        // For a task that is spawned with it. In a handler that polls it, what holds then is more exact.
        let made_in =
            Scope::current().map_or((Scope::NONE, Handed::NOTHING), |scope| (scope.stamped(), scope.handed()));
        async move {
            let mut future = pin!(future);
            poll_fn(|cx| {
                let (scope, handed) = Scope::current().map_or(made_in, |scope| (scope, scope.handed()));
                let handed = Handed { trace: Some(self), ..handed };
                Scope { hands_down: true, ..scope }.enter(|| handed, || future.as_mut().poll(cx))
            })
            .await
        }
    }

    /// In the order of the text form.
    pub(crate) fn to_wire(self) -> [u8; TraceContext::WIRE_LEN] {
        let mut wire = [0; TraceContext::WIRE_LEN];
        wire[..16].copy_from_slice(&self.trace_id().to_be_bytes());
        wire[16..24].copy_from_slice(&self.parent_id().to_be_bytes());
        wire[24] = self.flags;
        wire
    }

    /// `None` for what is no trace, which W3C has ignored.
    pub(crate) fn from_wire(wire: &[u8]) -> Option<TraceContext> {
        let (trace_id, rest) = wire.split_first_chunk()?;
        let (parent_id, &[flags]) = rest.split_first_chunk()? else {
            return None;
        };
        TraceContext::new(u128::from_be_bytes(*trace_id), u64::from_be_bytes(*parent_id), flags)
    }
}

fn span_id() -> NonZeroU64 {
    NonZeroU64::new(random::bits64()).unwrap_or(NonZeroU64::MIN)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

impl FromStr for TraceContext {
    type Err = TraceParseError;

    /// Parses a `traceparent` of version 00, or what version 00 knows of a later one.
    fn from_str(text: &str) -> Result<TraceContext, TraceParseError> {
        parse(text.as_bytes()).ok_or(TraceParseError(()))
    }
}

/// Text that is no `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no W3C traceparent: `00-` 32 hex digits `-` 16 `-` 2, lower case, neither id zero")]
pub struct TraceParseError(());

fn parse(text: &[u8]) -> Option<TraceContext> {
    let (known, later) = text.split_at_checked(55)?;
    let [v0, v1, b'-', rest @ ..] = known else {
        return None;
    };
    let version = hex(&[*v0, *v1])?;
    // Version 00 ends here; a later one may go on behind a dash, and ff is none.
    if version == 0xff || (version == 0 && !later.is_empty()) || later.first().is_some_and(|byte| *byte != b'-') {
        return None;
    }
    if rest[32] != b'-' || rest[49] != b'-' {
        return None;
    }
    let (trace_id, parent_id, flags) = (hex(&rest[..32])?, hex(&rest[33..49])?, hex(&rest[50..])?);
    TraceContext::new(trace_id, parent_id as u64, flags as u8)
}

fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn text_and_wire_say_the_same() {
        let trace: TraceContext = TEXT.parse().unwrap();
        assert_eq!(trace.trace_id(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((trace.parent_id(), trace.flags()), (0xb7ad_6b71_6920_3331, 1));
        assert_eq!(trace.to_string(), TEXT);
        let wire = trace.to_wire();
        assert_eq!(wire[..4], [0x0a, 0xf7, 0x65, 0x19]);
        assert_eq!(TraceContext::from_wire(&wire), Some(trace));
        for len in 0..wire.len() {
            assert_eq!(TraceContext::from_wire(&wire[..len]), None);
        }
        assert_eq!(TraceContext::from_wire(&[1; 26]), None);
        assert_eq!(TraceContext::from_wire(&[0; 25]), None);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let known: TraceContext = TEXT.parse().unwrap();
        let later = TEXT.replacen("00", "cc", 1);
        assert_eq!(later.parse(), Ok(known));
        assert_eq!(format!("{later}-what-the-future-will-be").parse(), Ok(known));
        assert_eq!(format!("{later}.what").parse::<TraceContext>(), Err(TraceParseError(())));
        assert_eq!(format!("{TEXT}-more").parse::<TraceContext>(), Err(TraceParseError(())));
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for (at, with) in [(0, "ff"), (0, "0g"), (2, "_"), (5, "F"), (35, "0"), (52, "+"), (53, "-1"), (40, "é")] {
            let mut text = TEXT.to_owned();
            text.replace_range(at..at + with.len(), with);
            assert!(text.parse::<TraceContext>().is_err(), "{text}");
        }
        for text in ["", "00", &TEXT[..54], "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert!(text.parse::<TraceContext>().is_err(), "{text}");
        }
        assert!("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".parse::<TraceContext>().is_err());
    }

    #[test]
    fn a_child_is_another_span_of_its_trace() {
        let root = TraceContext::root();
        let child = root.child();
        assert_eq!((child.trace_id(), child.flags()), (root.trace_id(), root.flags()));
        assert_ne!(child.parent_id(), root.parent_id());
        assert_ne!(TraceContext::root().trace_id(), root.trace_id());
    }
}
