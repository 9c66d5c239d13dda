//! Accesses that were decoded before their turn.

use crate::trace::Access;

/// Accesses that are decoded together.
const AHEAD: usize = 24;

/// Accesses in the order of the trace, filled when it is empty.
#[derive(Default)]
pub struct Ahead {
    accesses: [Access; AHEAD],
    at: usize,
    end: usize,
}

impl Ahead {
    #[inline]
    pub fn first(&self) -> Option<&Access> {
        self.accesses[..self.end].get(self.at)
    }

    #[inline]
    pub const fn room(&self) -> usize {
        AHEAD - self.end
    }

    #[inline]
    pub fn push(&mut self, access: Access) {
        if self.at == self.end {
            (self.at, self.end) = (0, 0);
        }
        self.accesses[self.end] = access;
        self.end += 1;
    }

    #[inline]
    pub const fn pop(&mut self) {
        self.at += 1;
    }
}
