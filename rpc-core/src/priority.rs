//! Who goes first where not all can.

/// How urgent a call is beside the others of its connection.
///
/// It matters where calls wait for a place, and where long messages, or replies that the peer has no room for, share the
/// way: of those the more urgent goes first, in both directions. None is starved: of eight turns at least one goes to the
/// least urgent, and one more to those that are not most urgent. A call that is sent already is not overtaken on its way,
/// and handlers run as they would.
///
/// Calls that a handler makes inherit [`Low`](Priority::Low), so that what is done in the background stays there, but not
/// [`High`](Priority::High): a peer could otherwise push its own before those of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Lets others go first.
    Low,
    /// As most calls are.
    #[default]
    Normal,
    /// Goes first.
    High,
}

impl Priority {
    pub(crate) fn to_wire(self) -> u8 {
        match self {
            Priority::Low => 0,
            Priority::Normal => 1,
            Priority::High => 2,
        }
    }

    /// What nobody here knows is normal.
    pub(crate) fn from_wire(byte: u8) -> Priority {
        match byte {
            0 => Priority::Low,
            2 => Priority::High,
            _ => Priority::Normal,
        }
    }

    /// That of the calls that the handler of such a call makes.
    pub(crate) fn inherited(self) -> Priority {
        self.min(Priority::Normal)
    }
}
