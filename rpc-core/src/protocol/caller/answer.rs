//! What a call is answered.

use super::REPLY_INLINE_MAX;
use crate::body::Received;
use crate::metadata::Metadata;
use crate::protocol::fail::Failure;
use crate::protocol::objects::Claim;
use crate::rare::Rare;
use crate::wire::Half;

/// The answer to a call.
#[derive(Debug)]
pub(crate) enum Answer {
    Small {
        half: Half,
        bytes: [u8; REPLY_INLINE_MAX],
        len: u8,
    },
    Large {
        half: Half,
        bytes: Received,
    },
    Failed(Failure),
    /// With the metadata that its caller asked for, or what it hands over.
    Extended(Rare<Extended>),
}

/// An answer with more than its payload.
#[derive(Debug)]
pub(crate) struct Extended {
    pub(crate) answer: Result<(Half, Received), Failure>,
    pub(crate) metadata: Metadata,
    pub(crate) claim: Option<Claim>,
}

impl Answer {
    /// What a call gets whose caller waits for nothing.
    pub(crate) const EMPTY: Answer = Answer::Small { half: Half::Ok, bytes: [0; REPLY_INLINE_MAX], len: 0 };

    /// Whether it is an error of the framework's.
    pub(crate) fn has_failed(&self) -> bool {
        match self {
            Answer::Small { .. } | Answer::Large { .. } => false,
            Answer::Failed(_) => true,
            Answer::Extended(extended) => extended.as_ref().is_some_and(|extended| extended.answer.is_err()),
        }
    }
}
