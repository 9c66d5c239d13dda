//! What a thread waits for.

use super::table::{RegionIndex, Table};
use crate::cache::LINE;

/// Who is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A level of the caches.
    Cache,
    /// Memory.
    Region(RegionIndex),
}

/// A line on its way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    done: u64,
    line: u64,
    /// The how manieth access it was.
    access: u64,
    /// The how manieth line that was asked for.
    number: u64,
    region: RegionIndex,
}

/// Counts of lines on their way, by the low bits of a line's number.
const SLOTS: usize = 256;

/// So many that have come are kept before the others move up.
const COME_MAX: usize = 64;

const fn slot(line: u64) -> usize {
    (line / LINE) as usize % SLOTS
}

/// A thread's clock: picoseconds throughout.
#[derive(Debug)]
pub struct ThreadClock {
    /// Now.
    pub now: u64,
    /// When the value of the last load is there, and from where.
    pub ready: u64,
    pub ready_from: Cause,
    /// Lines on their way, behind some that have come: the first to come first, and of those that come together the one
    /// that was asked for first.
    pending: Vec<Pending>,
    /// How many of them have come.
    come: usize,
    /// How many lines on their way have each slot, so that most lines are known to be none of them.
    by_slot: [u16; SLOTS],
    /// None of them belongs to an access before this one; `u64::MAX` if there is none.
    oldest: u64,
    /// When the last of them comes.
    all_done: u64,
    /// Accesses so far.
    accesses: u64,
    /// Lines asked for so far.
    asked: u64,
    /// Waited for the caches.
    pub lost_to_caches: u64,
    /// Waited in all.
    pub lost: u64,
}

impl ThreadClock {
    /// A clock at zero.
    pub fn new() -> Self {
        Self {
            now: 0,
            ready: 0,
            ready_from: Cause::Cache,
            pending: Vec::with_capacity(COME_MAX + 16),
            come: 0,
            by_slot: [0; SLOTS],
            oldest: u64::MAX,
            all_done: 0,
            accesses: 0,
            asked: 0,
            lost_to_caches: 0,
            lost: 0,
        }
    }

    /// Waits until `until` for somebody.
    #[inline]
    pub fn wait(&mut self, until: u64, cause: Cause, table: &mut Table) {
        let lost = until.saturating_sub(self.now);
        if lost == 0 {
            return;
        }
        self.now = until;
        self.lost += lost;
        match cause {
            Cause::Cache => self.lost_to_caches += lost,
            Cause::Region(region) => table.of(region).lost_ps += lost,
        }
    }

    /// Counts an access, and waits where it would run too far ahead of one that is not done.
    #[inline]
    pub fn begin(&mut self, window: u64, table: &mut Table) {
        self.accesses += 1;
        if self.accesses.saturating_sub(self.oldest) > window {
            self.wait_for_window(window, table);
        }
    }

    #[cold]
    fn wait_for_window(&mut self, window: u64, table: &mut Table) {
        while let Some(at) = self.first_asked() {
            self.oldest = self.pending[at].access;
            if self.accesses - self.oldest <= window {
                return;
            }
            self.wait_for(at, table);
        }
        self.oldest = u64::MAX;
    }

    /// Of the lines on their way, the one that was asked for first.
    fn first_asked(&self) -> Option<usize> {
        (self.come..self.pending.len()).min_by_key(|&at| self.pending[at].number)
    }

    fn wait_for(&mut self, at: usize, table: &mut Table) {
        let Pending { done, line, region, .. } = self.pending.remove(at);
        self.by_slot[slot(line)] -= 1;
        self.wait(done, Cause::Region(region), table);
    }

    /// Waits until another line can be asked for.
    #[inline]
    pub fn make_room(&mut self, outstanding: usize, table: &mut Table) {
        while let Some(&Pending { done, line, region, .. }) = self.pending.get(self.come) {
            if done > self.now {
                if self.pending.len() - self.come < outstanding {
                    break;
                }
                self.wait(done, Cause::Region(region), table);
            }
            self.by_slot[slot(line)] -= 1;
            self.come += 1;
        }
    }

    /// A line that was asked for just now comes at `done`.
    #[inline]
    pub fn ask(&mut self, line: u64, done: u64, region: RegionIndex) {
        if self.come == self.pending.len() || self.come >= COME_MAX {
            self.pending.drain(..self.come);
            self.come = 0;
        }
        self.asked += 1;
        let comes_before = self.pending.last().is_some_and(|last| last.done > done);
        self.pending.push(Pending { done, line, access: self.accesses, number: self.asked, region });
        // Lines come nearly in the order in which they were asked for.
        if comes_before {
            self.move_up();
        }
        self.by_slot[slot(line)] += 1;
        self.all_done = self.all_done.max(done);
        self.oldest = self.oldest.min(self.accesses);
    }

    /// Puts the line that was asked for last where it belongs.
    #[inline(never)]
    fn move_up(&mut self) {
        let on_their_way = &mut self.pending[self.come..];
        let Some((new, others)) = on_their_way.split_last() else { return };
        let at = others.partition_point(|other| other.done <= new.done);
        on_their_way[at..].rotate_right(1);
    }

    /// When a line that the caches have taken in comes, if it is still on its way, and from where.
    #[inline]
    pub fn on_its_way(&self, line: u64) -> Option<(u64, Cause)> {
        if self.all_done <= self.now || self.by_slot[slot(line)] == 0 {
            return None;
        }
        let same = self.pending[self.come..].iter().filter(|pending| pending.line == line && pending.done > self.now);
        // Where the caches lost it meanwhile it was asked for again.
        let found = same.min_by_key(|pending| pending.number)?;
        Some((found.done, Cause::Region(found.region)))
    }

    /// Waits for all that is still on its way.
    pub fn drain(&mut self, table: &mut Table) {
        while let Some(at) = self.first_asked() {
            self.wait_for(at, table);
        }
        self.oldest = u64::MAX;
        let (ready, from) = (self.ready, self.ready_from);
        self.wait(ready, from, table);
    }
}

#[cfg(test)]
mod tests;
