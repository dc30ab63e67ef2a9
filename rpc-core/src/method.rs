//! What a service says about itself: its name, its methods, their options. Written by the macro, read by tools.

use std::time::Duration;

/// The wire's name of a method: FNV-1a, 64 bits, of `Service.method`.
///
/// Names only, so that a changed signature does not look like a missing method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MethodId(pub u64);

impl MethodId {
    /// The id of `service.method`.
    ///
    /// The algorithm is FNV-1a as its authors publish it (offset basis 0xcbf29ce484222325, prime 0x100000001b3).
    pub const fn of(service: &str, method: &str) -> MethodId {
        let hash = fnv1a(0xcbf2_9ce4_8422_2325, service.as_bytes());
        let hash = fnv1a(hash, b".");
        MethodId(fnv1a(hash, method.as_bytes()))
    }
}

const fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash ^= bytes[i] as u64;
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

/// A service as its trait describes it.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServiceDescriptor {
    /// Its name on the wire.
    pub name: &'static str,
    /// The trait's own documentation.
    pub docs: &'static str,
    /// Its methods, in the order of the trait.
    pub methods: &'static [&'static MethodDescriptor],
}

/// A method as its trait describes it.
#[derive(Debug)]
#[non_exhaustive]
pub struct MethodDescriptor {
    /// The name of its service on the wire.
    pub service: &'static str,
    /// Its name on the wire.
    pub name: &'static str,
    /// The hash of both names.
    pub id: MethodId,
    /// The method's own documentation.
    pub docs: &'static str,
    /// Its arguments on the wire, in order.
    pub arguments: &'static [ArgumentDescriptor],
    /// What it returns, as it is written in the trait.
    pub returns: &'static str,
    /// The structure of its arguments and reply; 0 = not known.
    pub fingerprint: u32,
    /// The options its trait gives it.
    pub options: MethodOptions,
}

/// An argument as its trait describes it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ArgumentDescriptor {
    /// Its name.
    pub name: &'static str,
    /// Its type, as it is written in the trait.
    pub ty: &'static str,
    /// Whether a caller may leave it out.
    pub optional: bool,
}

/// The options of `#[rpc(..)]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodOptions {
    /// No reply is awaited.
    pub oneway: bool,
    /// Running it twice does what running it once does. Descriptive: nothing is repeated by itself yet.
    pub idempotent: bool,
    /// It blocks its thread, and runs on the blocking pool.
    pub blocking: bool,
    /// It computes, and runs in a task of its own from the start.
    pub spawn: bool,
    /// It runs to its end even when nobody waits any more.
    pub no_cancel: bool,
    /// The deadline of calls that set none; the connection's default without it.
    pub timeout: Option<Duration>,
    /// What becomes of the items of the stream that it returns while their reader has no room for them.
    pub slow: Slow,
}

/// What becomes of a returned stream's items while their reader takes none and there is no room for more.
///
/// A source that goes on is asked for items whether anybody reads or not, and others have their turn in between. One that always
/// has some must pace itself, or it keeps a thread busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Slow {
    /// The source waits. The default.
    #[default]
    Block,
    /// The source goes on. As many items are kept as fit [`Limits::stream_window`](crate::Limits::stream_window) of both sides,
    /// or one, those that are newest.
    DropOldest,
    /// The source goes on. Only its newest item is kept, and one goes when the reader has taken the one before and waits.
    Latest,
}

impl ServiceDescriptor {
    /// Describes a service.
    pub const fn new(
        name: &'static str,
        docs: &'static str,
        methods: &'static [&'static MethodDescriptor],
    ) -> ServiceDescriptor {
        ServiceDescriptor { name, docs, methods }
    }
}

impl MethodDescriptor {
    /// Describes a method.
    pub const fn new(
        service: &'static str,
        name: &'static str,
        docs: &'static str,
        arguments: &'static [ArgumentDescriptor],
        returns: &'static str,
        options: MethodOptions,
    ) -> MethodDescriptor {
        MethodDescriptor {
            service,
            name,
            id: MethodId::of(service, name),
            docs,
            arguments,
            returns,
            fingerprint: 0,
            options,
        }
    }
}

impl ArgumentDescriptor {
    /// Describes an argument.
    pub const fn new(name: &'static str, ty: &'static str, optional: bool) -> ArgumentDescriptor {
        ArgumentDescriptor { name, ty, optional }
    }
}

impl MethodOptions {
    /// No option at all.
    pub const NONE: MethodOptions = MethodOptions {
        oneway: false,
        idempotent: false,
        blocking: false,
        spawn: false,
        no_cancel: false,
        timeout: None,
        slow: Slow::Block,
    };

    /// Sets [`oneway`](MethodOptions::oneway).
    pub const fn oneway(mut self) -> MethodOptions {
        self.oneway = true;
        self
    }

    /// Sets [`idempotent`](MethodOptions::idempotent).
    pub const fn idempotent(mut self) -> MethodOptions {
        self.idempotent = true;
        self
    }

    /// Sets [`blocking`](MethodOptions::blocking).
    pub const fn blocking(mut self) -> MethodOptions {
        self.blocking = true;
        self
    }

    /// Sets [`spawn`](MethodOptions::spawn).
    pub const fn spawn(mut self) -> MethodOptions {
        self.spawn = true;
        self
    }

    /// Sets [`no_cancel`](MethodOptions::no_cancel).
    pub const fn no_cancel(mut self) -> MethodOptions {
        self.no_cancel = true;
        self
    }

    /// Sets [`slow`](MethodOptions::slow).
    pub const fn slow(mut self, slow: Slow) -> MethodOptions {
        self.slow = slow;
        self
    }

    /// Sets [`timeout`](MethodOptions::timeout), in nanoseconds.
    pub const fn timeout_nanos(mut self, nanos: u64) -> MethodOptions {
        self.timeout = Some(Duration::from_nanos(nanos));
        self
    }
}

/// Fails to compile (in a `const`) if two methods of one service have the same id.
#[doc(hidden)]
pub const fn assert_distinct(methods: &[&MethodDescriptor]) {
    let mut i = 0;
    while i < methods.len() {
        let mut j = i + 1;
        while j < methods.len() {
            assert!(
                methods[i].id.0 != methods[j].id.0,
                "two methods of this service have the same id on the wire: give one another name with #[rpc(name = \"..\")]"
            );
            j += 1;
        }
        i += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_fnv_1a_of_both_names() {
        // The published test vectors of FNV-1a for "" and "a".
        assert_eq!(fnv1a(0xcbf2_9ce4_8422_2325, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(0xcbf2_9ce4_8422_2325, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(MethodId::of("K", "g").0, fnv1a(0xcbf2_9ce4_8422_2325, b"K.g"));
        assert_ne!(MethodId::of("Kv", "get"), MethodId::of("Kv", "put"));
    }
}
