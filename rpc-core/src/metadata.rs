//! Metadata: names and values that travel beside a call's arguments, and beside its reply.

use std::fmt;
use std::marker::PhantomData;
use std::str::from_utf8;

/// The most bytes of metadata that any limit allows: beside it the other extensions fit into a frame's; those of a call that
/// hands nothing over also into the shortest frame that a peer may announce as its longest.
pub(crate) const METADATA_LEN_MAX: usize = 2816;
/// The most entries: so that looking for one, or for one that is there twice, is no work to speak of.
const ENTRIES_MAX: usize = 64;
const NAME_LEN_MAX: usize = 64;
/// Bytes before a name: flags, the name's length, the value's.
const ENTRY_HEAD_LEN: usize = 4;
const BINARY: u8 = 0x01;
const SECRET: u8 = 0x02;

/// The name of an entry of metadata, with the type of its value: text (`str`) or bytes (`[u8]`).
///
/// Names have 1 to 64 of `a-z`, `0-9`, `-`, `_` and `.`; any other is an error when the program is compiled.
///
/// ```
/// use trunkline_core::MetadataKey;
///
/// const TENANT: MetadataKey = MetadataKey::new("tenant");
/// const SIGNATURE: MetadataKey<[u8]> = MetadataKey::new("signature");
/// /// Its values are shown in no log: not by the caller, and not by the callee.
/// const TOKEN: MetadataKey = MetadataKey::secret("token");
/// # assert_eq!((TENANT.name(), SIGNATURE.name(), TOKEN.is_secret()), ("tenant", "signature", true));
/// ```
///
/// ```compile_fail
/// # use trunkline_core::MetadataKey;
/// const BAD: MetadataKey = MetadataKey::new("Bad Name");
/// ```
pub struct MetadataKey<V: ?Sized = str> {
    name: &'static str,
    secret: bool,
    value: PhantomData<fn(&V)>,
}

impl<V: MetadataValue + ?Sized> MetadataKey<V> {
    /// A name of values that may be seen.
    ///
    /// # Panics
    ///
    /// If it is no [name](MetadataKey); in a `const`, that is a compile error.
    pub const fn new(name: &'static str) -> MetadataKey<V> {
        assert!(is_name(name.as_bytes()), "a name of metadata has 1 to 64 of a-z, 0-9, `-`, `_` and `.`");
        MetadataKey { name, secret: false, value: PhantomData }
    }

    /// A name of values that are shown as `[redacted]` wherever metadata is shown, also by the receiver.
    ///
    /// # Panics
    ///
    /// As [`new`](MetadataKey::new).
    pub const fn secret(name: &'static str) -> MetadataKey<V> {
        MetadataKey { secret: true, ..MetadataKey::new(name) }
    }

    /// The name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether its values are secrets.
    pub const fn is_secret(&self) -> bool {
        self.secret
    }
}

impl<V: ?Sized> Clone for MetadataKey<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V: ?Sized> Copy for MetadataKey<V> {}

impl<V: ?Sized> fmt::Debug for MetadataKey<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MetadataKey").field(&self.name).finish()
    }
}

/// What an entry can be found by: a [`MetadataKey`], or a name as a string, whose value is text.
pub trait MetadataName: sealed::Name {
    /// The type of the value.
    type Value: MetadataValue + ?Sized;
}

impl<V: MetadataValue + ?Sized> MetadataName for MetadataKey<V> {
    type Value = V;
}

impl MetadataName for &str {
    type Value = str;
}

/// The type of a value: `str` or `[u8]`.
pub trait MetadataValue: sealed::Value {}

impl MetadataValue for str {}
impl MetadataValue for [u8] {}

mod sealed {
    use std::str::from_utf8;

    use super::MetadataKey;

    pub trait Name {
        fn name(&self) -> &str;
        fn is_secret(&self) -> bool;
    }

    impl<V: super::MetadataValue + ?Sized> Name for MetadataKey<V> {
        fn name(&self) -> &str {
            self.name
        }

        fn is_secret(&self) -> bool {
            self.secret
        }
    }

    impl Name for &str {
        fn name(&self) -> &str {
            self
        }

        fn is_secret(&self) -> bool {
            false
        }
    }

    pub trait Value {
        const BINARY: bool;
        fn as_bytes(&self) -> &[u8];
        fn from_bytes(bytes: &[u8]) -> Option<&Self>;
    }

    impl Value for str {
        const BINARY: bool = false;

        fn as_bytes(&self) -> &[u8] {
            self.as_bytes()
        }

        fn from_bytes(bytes: &[u8]) -> Option<&str> {
            from_utf8(bytes).ok()
        }
    }

    impl Value for [u8] {
        const BINARY: bool = true;

        fn as_bytes(&self) -> &[u8] {
            self
        }

        fn from_bytes(bytes: &[u8]) -> Option<&[u8]> {
            Some(bytes)
        }
    }
}

/// Names and values that travel beside a call's arguments, or beside its reply. A name is there once.
///
/// Handlers read a call's by [`Context::metadata`](crate::Context::metadata), callers a reply's by
/// [`Call::with_metadata`](crate::Call::with_metadata). It is not passed on to the calls that a handler makes: what one peer
/// says in confidence is not told to the next.
///
/// `Debug` shows all of it, but for values of [secret](MetadataKey::secret) names.
///
/// ```
/// # use trunkline_core::{Metadata, MetadataKey};
/// const TOKEN: MetadataKey = MetadataKey::secret("token");
///
/// let mut metadata = Metadata::new();
/// metadata.insert("tenant", "blue")?;
/// metadata.insert(TOKEN, "s3cr3t")?;
/// assert_eq!(metadata.get("tenant"), Some("blue"));
/// assert_eq!(metadata.get(TOKEN), Some("s3cr3t"));
/// assert_eq!(format!("{metadata:?}"), r#"{"tenant": "blue", "token": [redacted]}"#);
/// # Ok::<(), trunkline_core::MetadataError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// As it travels: `flags[1] name_len[1] value_len[2] name[..] value[..]`, again and again. Always well formed.
    bytes: Vec<u8>,
}

impl Metadata {
    /// Without any entry; allocates nothing.
    pub const fn new() -> Metadata {
        Metadata { bytes: Vec::new() }
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that it takes on the wire, which [`Limits::metadata_len`](crate::Limits::metadata_len) counts: 4 for each entry,
    /// its name and its value.
    pub fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    /// The value under a name, if it is there and of that type.
    pub fn get<N: MetadataName>(&self, name: N) -> Option<&N::Value> {
        let entry = self.iter().find(|entry| entry.name == name.name())?;
        if entry.is_binary() != <N::Value as sealed::Value>::BINARY {
            return None;
        }
        <N::Value as sealed::Value>::from_bytes(entry.value)
    }

    /// Sets the value under a name, instead of the one that may have been there.
    ///
    /// # Errors
    ///
    /// If the name is not one, or there would be more than any limit allows: 64 entries, 2,816 bytes. Then nothing changes.
    pub fn insert<N: MetadataName>(&mut self, name: N, value: impl AsRef<N::Value>) -> Result<(), MetadataError> {
        self.insert_within(METADATA_LEN_MAX, name, value.as_ref())
    }

    /// The same, where no more than `max` bytes are allowed.
    pub(crate) fn insert_within<N: MetadataName>(
        &mut self,
        max: usize,
        name: N,
        value: &N::Value,
    ) -> Result<(), MetadataError> {
        let max = max.min(METADATA_LEN_MAX);
        let value = sealed::Value::as_bytes(value);
        let binary = if <N::Value as sealed::Value>::BINARY { BINARY } else { 0 };
        let secret = if name.is_secret() { SECRET } else { 0 };
        let name = name.name();
        if !is_name(name.as_bytes()) {
            return Err(MetadataError::Name(name.to_owned()));
        }
        let before = self.find(name);
        let freed = before.clone().map_or(0, |range| range.len());
        let len = self.bytes.len() - freed + ENTRY_HEAD_LEN + name.len() + value.len();
        if len > max {
            return Err(MetadataError::TooLong { len, max });
        }
        match before {
            Some(range) => drop(self.bytes.drain(range)),
            None if self.iter().count() >= ENTRIES_MAX => return Err(MetadataError::TooMany { max: ENTRIES_MAX }),
            None => {}
        }
        let [low, high] = (value.len() as u16).to_le_bytes();
        self.bytes.extend_from_slice(&[binary | secret, name.len() as u8, low, high]);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    /// Takes an entry out; whether it was there.
    pub fn remove<N: MetadataName>(&mut self, name: N) -> bool {
        let found = self.find(name.name());
        found.map(|range| self.bytes.drain(range)).is_some()
    }

    /// All entries, in the order in which they were set.
    pub fn iter(&self) -> MetadataIter<'_> {
        MetadataIter { rest: &self.bytes }
    }

    /// Where the entry of a name lies.
    fn find(&self, name: &str) -> Option<std::ops::Range<usize>> {
        let mut start = 0;
        for entry in self {
            let end = start + entry.len();
            if entry.name == name {
                return Some(start..end);
            }
            start = end;
        }
        None
    }

    /// As it travels.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a peer sent, if it is well formed.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Metadata> {
        let mut names: [&str; ENTRIES_MAX] = [""; ENTRIES_MAX];
        let mut rest = bytes;
        let mut count = 0;
        while !rest.is_empty() {
            let (entry, behind) = MetadataEntry::split(rest)?;
            let text = entry.is_binary() || from_utf8(entry.value).is_ok();
            if !text || !is_name(entry.name.as_bytes()) || names[..count].contains(&entry.name) {
                return None;
            }
            *names.get_mut(count)? = entry.name;
            count += 1;
            rest = behind;
        }
        Some(Metadata { bytes: bytes.to_vec() })
    }
}

impl<'a> IntoIterator for &'a Metadata {
    type Item = MetadataEntry<'a>;
    type IntoIter = MetadataIter<'a>;

    fn into_iter(self) -> MetadataIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|entry| (entry.name, Shown(entry)))).finish()
    }
}

/// An iterator over the entries of [`Metadata`].
#[derive(Clone)]
pub struct MetadataIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for MetadataIter<'a> {
    type Item = MetadataEntry<'a>;

    fn next(&mut self) -> Option<MetadataEntry<'a>> {
        let (entry, rest) = MetadataEntry::split(self.rest)?;
        self.rest = rest;
        Some(entry)
    }
}

impl fmt::Debug for MetadataIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// An entry of [`Metadata`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MetadataEntry<'a> {
    flags: u8,
    name: &'a str,
    value: &'a [u8],
}

impl<'a> MetadataEntry<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Its value, where that is text.
    pub fn text(&self) -> Option<&'a str> {
        if self.is_binary() { None } else { from_utf8(self.value).ok() }
    }

    /// The bytes of its value.
    pub fn bytes(&self) -> &'a [u8] {
        self.value
    }

    /// Whether its value is bytes, and no text.
    pub fn is_binary(&self) -> bool {
        self.flags & BINARY != 0
    }

    /// Whether its value must not be shown.
    pub fn is_secret(&self) -> bool {
        self.flags & SECRET != 0
    }

    fn len(&self) -> usize {
        ENTRY_HEAD_LEN + self.name.len() + self.value.len()
    }

    /// The first entry, and what is behind it.
    fn split(bytes: &'a [u8]) -> Option<(MetadataEntry<'a>, &'a [u8])> {
        let (&[flags, name_len, low, high], rest) = bytes.split_first_chunk::<ENTRY_HEAD_LEN>()?;
        let (name, rest) = rest.split_at_checked(usize::from(name_len))?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        Some((MetadataEntry { flags, name: from_utf8(name).ok()?, value }, rest))
    }
}

impl fmt::Debug for MetadataEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.name, Shown(*self))
    }
}

/// A value as it may be shown.
struct Shown<'a>(MetadataEntry<'a>);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.text() {
            _ if self.0.is_secret() => f.write_str("[redacted]"),
            Some(text) => text.fmt(f),
            None => self.0.value.fmt(f),
        }
    }
}

/// Metadata that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// No name of an entry.
    #[error("`{0}` is no name: those have 1 to 64 of a-z, 0-9, `-`, `_` and `.`")]
    Name(String),
    /// More bytes than the limit `metadata_len` allows: this side's, or the receiver's.
    #[error("{len} bytes of metadata, where {max} are allowed")]
    TooLong {
        /// Its encoded length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// More entries than there may be.
    #[error("more than {max} entries of metadata")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// The reply has been sent, as that of a call with streams is before its items.
    #[error("metadata for a reply that is under way already")]
    TooLate,
}

const fn is_name(name: &[u8]) -> bool {
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return false;
    }
    let mut at = 0;
    while at < name.len() {
        if !matches!(name[at], b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.') {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: MetadataKey<[u8]> = MetadataKey::new("digest");
    const TOKEN: MetadataKey = MetadataKey::secret("token");

    #[test]
    fn values_are_found_by_their_name_and_type() {
        let mut metadata = Metadata::new();
        metadata.insert("tenant", "blue").unwrap();
        metadata.insert(DIGEST, [1, 2, 255]).unwrap();
        metadata.insert("tenant", String::from("green")).unwrap();
        assert_eq!(metadata.get("tenant"), Some("green"));
        assert_eq!(metadata.get(DIGEST), Some(&[1, 2, 255][..]));
        // Of the other type, or not there.
        assert_eq!(metadata.get("digest"), None);
        assert_eq!(metadata.get(MetadataKey::<[u8]>::new("tenant")), None);
        assert_eq!(metadata.get("tenan"), None);
        assert_eq!(metadata.encoded_len(), (4 + 6 + 5) + (4 + 6 + 3));
        let names: Vec<_> = metadata.iter().map(|entry| entry.name()).collect();
        assert_eq!(names, ["digest", "tenant"]);
        assert!(metadata.remove(DIGEST) && !metadata.remove(DIGEST));
        assert_eq!(metadata.iter().count(), 1);
        assert_eq!(Metadata::parse(metadata.as_bytes()), Some(metadata));
    }

    #[test]
    fn secrets_are_not_shown_on_either_side() {
        let mut metadata = Metadata::new();
        metadata.insert(TOKEN, "hush").unwrap();
        metadata.insert(MetadataKey::<[u8]>::secret("key"), b"hush").unwrap();
        let there = Metadata::parse(metadata.as_bytes()).unwrap();
        for metadata in [&metadata, &there] {
            assert_eq!(format!("{metadata:?}"), r#"{"token": [redacted], "key": [redacted]}"#);
            assert_eq!(format!("{:?}", metadata.iter()), "[token: [redacted], key: [redacted]]");
            let shown: Vec<_> = metadata.iter().map(|entry| format!("{entry:?}")).collect();
            assert!(shown.iter().all(|entry| !entry.contains("hush") && !entry.contains("104")), "{shown:?}");
        }
    }

    #[test]
    fn what_is_too_much_changes_nothing() {
        let mut metadata = Metadata::new();
        metadata.insert("a", "a".repeat(METADATA_LEN_MAX - 5)).unwrap();
        let full = metadata.clone();
        assert_eq!(
            metadata.insert("b", ""),
            Err(MetadataError::TooLong { len: METADATA_LEN_MAX + 5, max: METADATA_LEN_MAX })
        );
        assert_eq!(
            metadata.insert("a", "a".repeat(70_000)),
            Err(MetadataError::TooLong { len: 70_005, max: METADATA_LEN_MAX })
        );
        assert_eq!(metadata, full);
        metadata.insert("a", "b".repeat(METADATA_LEN_MAX - 5)).unwrap();
        let mut metadata = Metadata::new();
        for number in 0..ENTRIES_MAX {
            metadata.insert(format!("n{number}").as_str(), "").unwrap();
        }
        assert_eq!(metadata.insert("one-more", ""), Err(MetadataError::TooMany { max: ENTRIES_MAX }));
        metadata.insert("n7", "again").unwrap();
        assert!(Metadata::parse(metadata.as_bytes()).is_some());
        for name in ["", "Upper", "sp ace", "ümlaut", &"long".repeat(17)] {
            assert_eq!(metadata.insert(name, ""), Err(MetadataError::Name(name.to_owned())));
        }
    }

    #[test]
    fn what_is_malformed_is_not_taken() {
        let entry = |flags: u8, name: &[u8], value: &[u8]| {
            [&[flags, name.len() as u8, value.len() as u8, 0], name, value].concat()
        };
        let good = entry(0, b"a", b"x");
        assert!(Metadata::parse(&good).is_some());
        // Flags of a later version are kept.
        assert!(Metadata::parse(&entry(0xf4, b"a", b"x")).is_some());
        assert!(Metadata::parse(&entry(BINARY, b"a", b"\xff")).is_some());
        for cut in 1..good.len() {
            assert_eq!(Metadata::parse(&good[..cut]), None, "{cut}");
        }
        for bad in [
            entry(0, b"a", b"\xff"),
            entry(0, b"", b"x"),
            entry(0, b"A", b"x"),
            entry(0, b"\xff", b"x"),
            entry(0, &[b'a'; 65], b"x"),
            [good.clone(), entry(BINARY, b"a", b"y")].concat(),
            (0..65u8).flat_map(|n| entry(0, &[b'a' + n % 26, b'a' + n / 26], b"")).collect(),
        ] {
            assert_eq!(Metadata::parse(&bad), None, "{bad:?}");
        }
    }
}
