//! Which accesses reach memory at all: the caches of a host.

/// Bytes of a cache line, everywhere here.
pub const LINE: u64 = 64;

/// What became of an access to one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It was found in this level, 1 for the first.
    Hit(u8),
    /// No cache had it: it is read from memory (also for a write, which allocates), and the dirty line that made way,
    /// if there was one, is written back.
    Miss {
        /// Address of the line that is written back to memory.
        written_back: Option<u64>,
    },
}
