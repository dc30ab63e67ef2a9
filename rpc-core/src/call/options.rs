//! What a call may carry beside its arguments. Most carry nothing, and pay nothing.

use std::sync::Arc;

use super::Call;
use super::pipelined::Patience;
use crate::call_id::CallId;
use crate::context::{Handed, Scope};
use crate::error::Reason;
use crate::metadata::{Metadata, MetadataError, MetadataName};
use crate::priority::Priority;
use crate::protocol::extras::{Extras, Sent};
use crate::telemetry::CallSpan;
use crate::trace::TraceContext;

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) metadata: Metadata,
    /// What was wrong with it, first.
    invalid: Option<MetadataError>,
    trace: Option<TraceContext>,
    call_id: Option<CallId>,
    priority: Option<Priority>,
    wants_metadata: bool,
    /// Until when it waits for what it is made on to be placed.
    pub(super) patience: Patience,
}

impl Options {
    /// What is to be sent beside the arguments.
    fn encode(&self, trace: Option<TraceContext>, priority: Priority, metadata_max: usize) -> Result<Sent, Reason> {
        if let Some(error) = &self.invalid {
            return Err(Reason::Metadata(error.clone()));
        }
        let len = self.metadata.encoded_len();
        if len > metadata_max {
            return Err(Reason::Metadata(MetadataError::TooLong { len, max: metadata_max }));
        }
        Ok(Sent::with_call(&self.metadata, trace, self.call_id, priority, self.wants_metadata))
    }
}

impl<A, R> Call<'_, A, R> {
    fn options(&mut self) -> &mut Options {
        self.options.get_or_insert_default()
    }

    /// Sends a value with the call, beside its arguments; instead of the one that was given under that name before.
    ///
    /// The handler finds it in [`Context::metadata`](crate::Context::metadata). A name that is none, and more than
    /// [`Limits::metadata_len`](crate::Limits::metadata_len), make the call fail before it is sent, with
    /// [`Reason::Metadata`]; and where the other side accepts less than was sent, the handler does not run, with the same
    /// reason.
    ///
    /// ```no_run
    /// # use trunkline_core::{Call, MetadataKey};
    /// # fn example(call: Call<'_, (), ()>) {
    /// const TOKEN: MetadataKey = MetadataKey::secret("token"); // shown in no log
    ///
    /// let call = call.metadata("tenant", "blue").metadata(TOKEN, "s3cr3t");
    /// # }
    /// ```
    pub fn metadata<N: MetadataName>(mut self, name: N, value: impl AsRef<N::Value>) -> Self {
        let options = self.options();
        let inserted = options.metadata.insert(name, value);
        if options.invalid.is_none() {
            options.invalid = inserted.err();
        }
        self
    }

    /// Says which trace the call belongs to. Without it, calls made in a handler belong to that of the handler's call.
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.options().trace = Some(trace);
        self
    }

    /// Gives the call an id, by which its handler can tell that it has done this before: see [`CallId`].
    pub fn call_id(mut self, id: CallId) -> Self {
        self.options().call_id = Some(id);
        self
    }

    /// Says how urgent the call is beside others of its connection: see [`Priority`]. Without it, calls made in a handler are
    /// of low priority if the handler's call is.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options().priority = Some(priority);
        self
    }

    /// The metadata of the reply is asked for.
    pub(super) fn want_metadata(&mut self) {
        self.options().wants_metadata = true;
    }

    /// What is to be sent beside the arguments; mostly nothing. `scope` is what a handler hands down, `span` the call's own.
    #[inline]
    pub(super) fn extras(&self, scope: Option<Scope>, span: &mut CallSpan) -> Result<Extras, Reason> {
        let handed = scope.map_or(Handed::NOTHING, |scope| scope.handed());
        let options = self.options.as_deref();
        let trace = options.and_then(|options| options.trace).or(handed.trace);
        let priority = options.and_then(|options| options.priority).unwrap_or(handed.priority);
        let trace = span.begin(self.client.connection(), self.method, trace);
        if options.is_none() && trace.is_none() && priority == Priority::Normal {
            return Ok(None);
        }
        let metadata_max = self.client.connection().link().limits().metadata_len;
        let encoded = match options {
            Some(options) => options.encode(trace, priority, metadata_max),
            None => Options::default().encode(trace, priority, metadata_max),
        };
        encoded.map(|sent| Some(Arc::new(sent)))
    }
}
