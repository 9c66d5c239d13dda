//! What the record of a unit stands for.

/// What a unit's [`Span`] record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not in use (all-zero metadata): an address in such a unit was never handed out, or has been given back.
    Unused = 0,
    /// Part of a span that starts `units_back` units earlier.
    Interior = 1,
    /// A span from which its bin allocates now.
    Current = 2,
    /// A span with free blocks, waiting in its bin's queue.
    Queued = 3,
    /// A span without (enough) free blocks, in no list. Frees wake it.
    Asleep = 4,
    /// One large block.
    Large = 5,
    /// A span with blocks of several sizes, in its tier heap's queue of mosaics.
    Mosaic = 6,
    /// No unit's record: a list of blocks that were cut out of mosaics, current for its class.
    Tray = 7,
}

impl State {
    pub const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Interior,
            2 => Self::Current,
            3 => Self::Queued,
            4 => Self::Asleep,
            5 => Self::Large,
            6 => Self::Mosaic,
            7 => Self::Tray,
            _ => Self::Unused,
        }
    }
}
