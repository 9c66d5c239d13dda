//! Blocks of a span that lie in its owner's inbox, counted and used by the purger alone.

use super::{PLAIN, Span};

/// Bit of `mail`: all used blocks are in the inbox.
const ALL_MAIL: u32 = 1 << 31;

impl Span {
    /// One more block of the span is in the inbox.
    pub fn expect_mail(&self) {
        self.mail.store(self.mail.load(PLAIN).wrapping_add(1), PLAIN);
    }

    /// Whether all used blocks are in the inbox, or were when this was asked first.
    pub fn is_all_mail(&self) -> bool {
        let mail = self.mail.load(PLAIN);
        if mail & ALL_MAIL != 0 {
            return true;
        }
        let all = mail != 0 && mail as usize == self.used();
        if all {
            self.mail.store(mail | ALL_MAIL, PLAIN);
        }
        all
    }

    /// One of those blocks is done with. True if it was the last one.
    pub fn take_mail(&self) -> bool {
        let mail = self.mail.load(PLAIN).wrapping_sub(1);
        let last = mail == ALL_MAIL;
        self.mail.store(if last { 0 } else { mail }, PLAIN);
        last
    }

    /// The blocks stay in the inbox.
    pub fn keep_mail(&self) {
        self.mail.store(0, PLAIN);
    }

    /// Whether the free that brought `frees_left` to 0 still stands.
    pub fn is_due(&self) -> bool {
        self.frees_left.load(PLAIN) == 0
    }
}
