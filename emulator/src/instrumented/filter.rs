//! What a thread keeps at hand, so that most of its accesses need no record.
//!
//! An access to the line that was used last in its set of the first level changes nothing but counts and the clock. The
//! checks in front of accesses know such lines and only count them ([`Passed`]); all others become records. Each record
//! stands beside the counts as they were, so that the clock can be put right before it.
//!
//! The rule: a line stands here only if the engine, when it comes to this place in the records, would find it the most
//! recent of its set. So each record's line is noted when the record is written, and between batches the engine
//! [restores](ThreadState::restart) what it knows.

use std::cell::Cell;
use std::mem::offset_of;

use super::recent::{RECENT, Recent};
use crate::cache::LINE;

/// Bytes of accesses stand below this bit, their number above.
const NUMBER: u32 = 18;
/// Of two accesses of one kind; see `check`.
const KINDS: [u32; 2] = [0, 32];
/// Set once so many were counted that a batch must end.
const ENOUGH: u64 = 1 << 31 | 1 << 63;
/// Accesses of one kind in a batch, at most, before [`ENOUGH`] is set.
const MOST: u64 = 1 << (31 - NUMBER);

/// In a range's count: its bytes stand below, lines from here on, and the number of ranges above.
const RANGE_LINES: u32 = 24;
const RANGE_NUMBER: u32 = 44;

/// Accesses of one kind in a batch while other threads run: they see one another's lines at its ends.
const SHORT: u64 = 1024;

/// What was counted without a record.
///
/// ```text
/// counts   | stores | their bytes | loads | their bytes |      lines of ranges are among loads and stores, bytes are not
/// bit       63..50   49..32        31..18  17..0
/// range    | ranges | lines | bytes |                          one word for those that are read, one for the written
/// bit       63..44   43..24  23..0
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Loads and stores.
    pub counts: u64,
    /// Ranges that were read, and written.
    pub ranges: [u64; 2],
}

/// One kind of what was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// Loads, or stores.
    pub accesses: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Ranges.
    pub ranges: u64,
    /// Bytes of these.
    pub range_bytes: u64,
    /// Lines of all that.
    pub lines: u64,
}

/// Lines that were found, before counts stood so.
pub const fn number(counts: u64) -> u64 {
    (counts as u32 >> NUMBER) as u64 + (counts >> (32 + NUMBER))
}

impl Passed {
    /// What came after `start`: what was read, and what was written.
    pub fn since(&self, start: &Self) -> [Kind; 2] {
        std::array::from_fn(|kind| {
            let of = |counts: u64| (counts >> KINDS[kind]) as u32;
            let accesses = of(self.counts).wrapping_sub(of(start.counts));
            let ranges = self.ranges[kind].wrapping_sub(start.ranges[kind]);
            let range_lines = ranges >> RANGE_LINES & ((1 << (RANGE_NUMBER - RANGE_LINES)) - 1);
            Kind {
                lines: u64::from(accesses >> NUMBER),
                // A signal may come between a range's line and the range itself: then the next batch makes up for it.
                accesses: u64::from(accesses >> NUMBER).wrapping_sub(range_lines),
                bytes: u64::from(accesses) & ((1 << NUMBER) - 1),
                ranges: ranges >> RANGE_NUMBER,
                range_bytes: ranges & ((1 << RANGE_LINES) - 1),
            }
        })
    }
}

/// The lines of one kind of access, by the low six bits of their numbers; 0 where nothing is known.
type Lines = [Cell<u64>; RECENT];

/// A thread's own, at a fixed place of its thread-local storage. Signal handlers change it too, and leave the counts as
/// they were.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct ThreadState {
    /// Where the next record goes.
    pub position: Cell<usize>,
    counts: Cell<u64>,
    ranges: [Cell<u64>; 2],
    /// All ones where lines are noted, else 0.
    noted: Cell<u64>,
    /// Not 0 while the thread works in the run time.
    pub quiet: Cell<usize>,
    unused: [u64; 2],
    /// Lines that may be read, and lines that may be written.
    lines: [Lines; 2],
}

/// Its size, and the places that checks know.
pub const STATE_BYTES: usize = 1088;
const _: () = assert!(size_of::<ThreadState>() == STATE_BYTES);
const _: () = assert!(offset_of!(ThreadState, position) == 0 && offset_of!(ThreadState, counts) == 8);
const _: () = assert!(offset_of!(ThreadState, noted) == 32 && offset_of!(ThreadState, lines) == 64);
const _: () = assert!(size_of::<Lines>() == 512 && LINE == 64);
const _: () = assert!(NUMBER == 18);

impl Default for ThreadState {
    fn default() -> Self {
        Self {
            position: Cell::default(),
            counts: Cell::default(),
            ranges: Default::default(),
            noted: Cell::default(),
            quiet: Cell::default(),
            unused: [0; 2],
            lines: std::array::from_fn(|_| std::array::from_fn(|_| Cell::new(0))),
        }
    }
}

/// What the engine knows of the first level at the end of a batch.
#[derive(Debug)]
pub struct Known<'a> {
    /// By index: the line, and whether it may be written; `None` if no line may be left out.
    pub(super) recent: Option<&'a Recent>,
    /// Whether no other thread can take a line.
    pub(super) alone: bool,
}

/// Which threads run, as far as a thread has to know that goes on before the engine has seen its last batch: whether it is alone,
/// and how often that may have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Company(usize);

impl Company {
    /// As one word: alone in bit 0, changes above.
    pub const fn bits(self) -> usize {
        self.0
    }

    /// From such a word.
    pub const fn from_bits(bits: usize) -> Self {
        Self(bits)
    }

    /// A thread has begun or ended, and now one is alone or not.
    pub const fn next(self, alone: bool) -> Self {
        Self(((self.0 | 1) + 1) | alone as usize)
    }

    /// Whether one thread runs only.
    pub const fn is_alone(self) -> bool {
        self.0 & 1 != 0
    }
}

impl ThreadState {
    /// What was counted so far.
    pub fn passed(&self) -> Passed {
        Passed { counts: self.counts.get(), ranges: [self.ranges[0].get(), self.ranges[1].get()] }
    }

    /// Puts the counts back.
    pub fn set_passed(&self, passed: &Passed) {
        self.counts.set(passed.counts);
        self.ranges[0].set(passed.ranges[0]);
        self.ranges[1].set(passed.ranges[1]);
    }

    /// Whether the batch must end because so much was counted.
    #[inline]
    pub fn has_enough(&self) -> bool {
        self.counts.get() & ENOUGH != 0
    }

    /// A signal's handler begins: what was counted so far.
    pub fn suspend(&self) -> Passed {
        let passed = self.passed();
        self.forget();
        self.set_passed(&Passed::default());
        passed
    }

    /// It has ended: what it used may have taken the place of what was known.
    pub fn resume(&self, passed: &Passed) {
        self.forget();
        self.set_passed(passed);
    }

    /// Forgets all lines.
    fn forget(&self) {
        self.lines.iter().flatten().for_each(|line| line.set(0));
    }

    /// From now on every access becomes a record.
    pub fn record_all(&self) {
        self.noted.set(0);
        self.forget();
        self.set_passed(&Passed::default());
    }

    /// Begins a batch for which nothing is known yet.
    pub fn restart_empty(&self) {
        self.noted.set(u64::MAX);
        self.forget();
        self.set_passed(&Passed::default());
    }

    /// Begins a batch of a program that is not measured: all that matters is that it is quick.
    pub fn restart_idle(&self) {
        self.noted.set(u64::MAX);
        self.set_passed(&Passed::default());
    }

    /// Begins a batch.
    pub fn restart(&self, known: &Known<'_>) {
        let Some(recent) = known.recent else { return self.record_all() };
        if !known.alone {
            return self.restart_among_others();
        }
        self.restart_idle();
        for (at, entry) in recent.entries().enumerate() {
            let (line, writable) = entry.unwrap_or((0, false));
            self.lines[0][at].set(line);
            self.lines[1][at].set(if writable { line } else { 0 });
        }
    }

    fn restart_among_others(&self) {
        self.restart_empty();
        // The sooner a batch ends, the sooner threads see one another.
        self.counts.set((MOST - SHORT) << NUMBER | (MOST - SHORT) << (32 + NUMBER));
    }

    /// Begins a batch before the engine has seen the last one, whose company was `before`. What a thread knows it knows from
    /// its own records, so it is as true for the engine then, if nobody else took lines meanwhile.
    pub fn go_on(&self, now: Company, before: Company) {
        if self.noted.get() == 0 {
            return self.set_passed(&Passed::default());
        }
        if !now.is_alone() {
            return self.restart_among_others();
        }
        if now != before {
            self.forget();
        }
        self.set_passed(&Passed::default());
    }

    #[inline]
    fn has(&self, line: u64, store: bool) -> bool {
        self.lines[usize::from(store)][line as usize % RECENT].get() == line
    }

    fn note(&self, line: u64, store: bool) {
        let line = line & self.noted.get();
        let at = line as usize % RECENT;
        self.lines[0][at].set(line);
        self.lines[1][at].set(if store { line } else { 0 });
    }

    /// Counts a range, if it lies in one or two lines that are both here. The caller then asks [`Self::has_enough`].
    #[inline]
    pub fn pass_range(&self, address: u64, len: u64, store: bool) -> bool {
        let first = address / LINE;
        let last = address.wrapping_add(len).wrapping_sub(1) / LINE;
        let lines = last.wrapping_sub(first);
        if lines > 1 || !self.has(first, store) || !self.has(last, store) {
            return false;
        }
        let kind = usize::from(store);
        self.counts.set(self.counts.get() + ((lines + 1) << (KINDS[kind] + NUMBER)));
        let range = &self.ranges[kind];
        range.set(range.get() + (1 << RANGE_NUMBER | (lines + 1) << RANGE_LINES | len));
        true
    }

    /// A range has become a record.
    pub fn note_range(&self, address: u64, len: u64, store: bool) {
        if len == 0 {
            return;
        }
        let (first, last) = (address / LINE, (address + len - 1) / LINE);
        let few = last - first < RECENT as u64;
        for line in first.max(last.saturating_sub(RECENT as u64 - 1))..=last {
            // What is known of a line stays, unless another one came between.
            if !(few && self.has(line, store)) {
                self.note(line, store);
            }
        }
    }

    /// Counts an access, if its line is here. What a check does in assembly.
    #[cfg(test)]
    pub fn needs_record(&self, address: u64, size: u64, store: bool) -> bool {
        if address % LINE + size > LINE || !self.has(address / LINE, store) {
            return true;
        }
        self.counts.set(self.counts.get() + ((1 << NUMBER | size) << KINDS[usize::from(store)]));
        false
    }

    /// An access has become a record. What a check does in assembly.
    #[cfg(test)]
    pub fn note_access(&self, address: u64, size: u64, store: bool) {
        if address % LINE + size > LINE {
            let next = (address / LINE + 1) as usize % RECENT;
            self.lines.iter().for_each(|lines| lines[next].set(0));
        }
        self.note(address / LINE, store);
    }
}
