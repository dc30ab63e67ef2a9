//! What calls and replies carry in extensions beside their payload: metadata, trace, call id, priority. Most carry nothing.

use std::sync::Arc;

use super::objects::{Brought, Cargo, Claim};
use crate::call_id::CallId;
use crate::error::Reason;
use crate::frame::{Frame, push_extension, tag};
use crate::metadata::{Metadata, MetadataError};
use crate::priority::Priority;
use crate::trace::TraceContext;

/// What a call or a reply carries beside its payload; nothing, mostly.
pub(crate) type Extras = Option<Arc<Sent>>;

/// What is sent beside a payload.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Extensions as they travel.
    pub(crate) extensions: Vec<u8>,
    /// Of a call, and with that of its reply.
    pub(crate) priority: Priority,
    /// Somebody asks for the metadata of the reply.
    pub(crate) wants_metadata: bool,
    /// What the message hands over.
    cargo: Option<Box<Cargo>>,
}

impl Sent {
    /// Beside a call.
    pub(crate) fn with_call(
        metadata: &Metadata,
        trace: Option<TraceContext>,
        call_id: Option<CallId>,
        priority: Priority,
        wants_metadata: bool,
    ) -> Sent {
        let mut extensions = Vec::new();
        push_metadata(metadata, &mut extensions);
        if let Some(trace) = trace {
            push_extension(tag::TRACE, &trace.to_wire(), &mut extensions);
        }
        if let Some(id) = call_id {
            push_extension(tag::CALL_ID, &id.as_u128().to_le_bytes(), &mut extensions);
        }
        if priority != Priority::Normal {
            push_extension(tag::PRIORITY, &[priority.to_wire()], &mut extensions);
        }
        Sent { extensions, priority, wants_metadata, cargo: None }
    }

    /// The same as `extras`, of a message that hands something over.
    pub(crate) fn load(extras: Extras, cargo: Box<Cargo>) -> Extras {
        let mut sent = extras.and_then(Arc::into_inner).unwrap_or_default();
        push_extension(tag::HANDLES, &cargo.list(), &mut sent.extensions);
        sent.cargo = Some(cargo);
        Some(Arc::new(sent))
    }

    /// The first object that a message with these `extras` hands over.
    pub(crate) fn first_object(extras: &Extras) -> Option<u64> {
        extras.as_ref()?.cargo.as_ref()?.first()
    }

    /// The first frame of a message with these `extras` is placed.
    pub(crate) fn placed(extras: &Extras) {
        if let Some(cargo) = extras.as_ref().and_then(|sent| sent.cargo.as_ref()) {
            cargo.placed();
        }
    }

    /// Beside a reply.
    pub(crate) fn with_reply(metadata: &Metadata) -> Extras {
        let mut extensions = Vec::new();
        push_metadata(metadata, &mut extensions);
        (!extensions.is_empty()).then(|| Arc::new(Sent { extensions, ..Sent::default() }))
    }

    /// The extensions of `extras`.
    pub(crate) fn bytes(extras: &Extras) -> &[u8] {
        extras.as_ref().map_or(&[], |sent| &sent.extensions)
    }

    /// How urgent a message with these `extras` is.
    pub(crate) fn priority(extras: &Extras) -> Priority {
        extras.as_ref().map_or(Priority::Normal, |sent| sent.priority)
    }
}

fn push_metadata(metadata: &Metadata, extensions: &mut Vec<u8>) {
    if !metadata.is_empty() {
        push_extension(tag::METADATA, metadata.as_bytes(), extensions);
    }
}

/// What came beside a call.
#[derive(Debug, Default)]
pub(crate) struct CallExtras {
    pub(crate) metadata: Metadata,
    pub(crate) trace: Option<TraceContext>,
    /// What calls made by the handler say: the same, or the handler's own span.
    pub(crate) handed_down: Option<TraceContext>,
    pub(crate) call_id: Option<CallId>,
    pub(crate) priority: Priority,
    /// The object that is called, and those that came along.
    pub(crate) brought: Option<Box<Brought>>,
}

impl CallExtras {
    /// Reads those extensions of a CALL; `None` if it has none.
    ///
    /// A trace or a priority that makes no sense is ignored, as W3C would have it: the call does not depend on them. Of
    /// metadata and of a call's id handlers may make everything depend.
    pub(crate) fn of(
        frame: &Frame<'_>,
        metadata_max: usize,
        brought: &mut Option<Box<Brought>>,
    ) -> Result<Option<Box<CallExtras>>, Reason> {
        if let Some(refused) = brought.as_ref().and_then(|brought| brought.refused.clone()) {
            return Err(refused);
        }
        let mut found = Found { any: brought.is_some(), ..Found::default() };
        let mut extras = CallExtras { brought: brought.take(), ..CallExtras::default() };
        for (tag, value) in frame.extensions().flatten() {
            match tag {
                tag::METADATA => {
                    found.once(0, tag)?;
                    extras.metadata = metadata(value, metadata_max)?;
                }
                tag::CALL_ID => {
                    found.once(1, tag)?;
                    let id = value.try_into().map_err(|_| Reason::MalformedExtension(tag))?;
                    extras.call_id = Some(CallId::from_u128(u128::from_le_bytes(id)));
                }
                // The first counts.
                tag::TRACE if extras.trace.is_none() => extras.trace = TraceContext::from_wire(value),
                tag::PRIORITY if found.once(2, tag).is_ok() => {
                    if let [byte] = value {
                        extras.priority = Priority::from_wire(*byte);
                    }
                }
                _ => continue,
            }
            found.any = true;
        }
        extras.handed_down = extras.trace;
        Ok(found.any.then(|| Box::new(extras)))
    }

    /// Bytes that are held for it as long as its handler runs.
    pub(crate) fn held(extras: Option<&CallExtras>) -> u64 {
        extras.map_or(0, |extras| extras.metadata.encoded_len() as u64)
    }
}

/// What is kept of what came beside a reply.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Its caller asks for that.
    pub(crate) wants_metadata: bool,
    pub(crate) metadata: Metadata,
    /// What it hands over.
    pub(crate) claim: Option<Claim>,
}

/// Reads the metadata of a reply.
pub(crate) fn metadata_of_reply(frame: &Frame<'_>, max: usize) -> Result<Metadata, Reason> {
    let mut found = Found::default();
    let mut read = Metadata::new();
    for (tag, value) in frame.extensions().flatten() {
        if tag == tag::METADATA {
            found.once(0, tag)?;
            read = metadata(value, max)?;
        }
    }
    Ok(read)
}

fn metadata(value: &[u8], max: usize) -> Result<Metadata, Reason> {
    if value.len() > max {
        return Err(Reason::Metadata(MetadataError::TooLong { len: value.len(), max }));
    }
    Metadata::parse(value).ok_or(Reason::MalformedExtension(tag::METADATA))
}

/// Which extensions have been found.
#[derive(Debug, Default)]
struct Found {
    any: bool,
    which: [bool; 3],
}

impl Found {
    fn once(&mut self, which: usize, tag: u16) -> Result<(), Reason> {
        let again = std::mem::replace(&mut self.which[which], true);
        if again { Err(Reason::MalformedExtension(tag)) } else { Ok(()) }
    }
}
