//! What a thread waits for.

use super::table::RegionIndex;
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
#[derive(Clone, Copy, Debug, Default)]
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
    /// Lines on their way, in a ring: the first to come first, and of those that come together the one that was asked for
    /// first. Line `n` of them stands at `n` modulo the ring's length, which is a power of two.
    ring: Box<[Pending]>,
    /// The first of them.
    first: usize,
    /// Behind the last of them.
    end: usize,
    /// How many there may be.
    outstanding: usize,
    /// How many accesses may run ahead of one that is not done.
    window: u64,
    /// How many lines on their way have each slot, so that most lines are known to be none of them.
    by_slot: [u16; SLOTS],
    /// Up to this access none of them can be too old; `u64::MAX` if there is none.
    due: u64,
    /// When the last of them comes.
    all_done: u64,
    /// Accesses so far.
    accesses: u64,
    /// Lines asked for so far.
    asked: u64,
    /// Waited for the caches.
    pub lost_to_caches: u64,
    /// Waited for memory, by region.
    lost: Vec<u64>,
}

impl ThreadClock {
    /// A clock at zero, for at most so many lines on their way at once, and accesses ahead of one that is not done.
    pub fn new(outstanding: usize, window: u64) -> Self {
        Self {
            now: 0,
            ready: 0,
            ready_from: Cause::Cache,
            ring: vec![Pending::default(); outstanding.next_power_of_two()].into_boxed_slice(),
            first: 0,
            end: 0,
            outstanding,
            window,
            by_slot: [0; SLOTS],
            due: u64::MAX,
            all_done: 0,
            accesses: 0,
            asked: 0,
            lost_to_caches: 0,
            lost: Vec::new(),
        }
    }

    /// Waits until `until` for somebody.
    #[inline]
    pub fn wait(&mut self, until: u64, cause: Cause) {
        let lost = until.saturating_sub(self.now);
        if lost == 0 {
            return;
        }
        self.now = until;
        match cause {
            Cause::Cache => self.lost_to_caches += lost,
            Cause::Region(region) => self.lose(region as usize, lost),
        }
    }

    #[inline]
    fn lose(&mut self, region: usize, lost: u64) {
        if region >= self.lost.len() {
            self.lost.resize(region + 1, 0);
        }
        self.lost[region] += lost;
    }

    /// What was waited for memory so far: region and picoseconds.
    pub fn lost(&self) -> impl Iterator<Item = (RegionIndex, u64)> {
        (0..).zip(self.lost.iter().copied())
    }

    /// Counts an access, and waits where it would run too far ahead of one that is not done.
    #[inline]
    pub fn begin(&mut self) {
        self.accesses += 1;
        if self.accesses > self.due {
            self.wait_for_window();
        }
    }

    #[cold]
    fn wait_for_window(&mut self) {
        while let Some(at) = self.first_asked() {
            self.due = self.pending(at).access + self.window;
            if self.accesses <= self.due {
                return;
            }
            self.wait_for(at);
        }
        self.due = u64::MAX;
    }

    #[inline]
    fn pending(&mut self, at: usize) -> &mut Pending {
        let mask = self.ring.len() - 1;
        &mut self.ring[at & mask]
    }

    fn all_pending(&self) -> impl DoubleEndedIterator<Item = (usize, &Pending)> {
        (self.first..self.end).map(|at| (at, &self.ring[at & (self.ring.len() - 1)]))
    }

    /// Of the lines on their way, the one that was asked for first.
    fn first_asked(&self) -> Option<usize> {
        self.all_pending().min_by_key(|(_, pending)| pending.number).map(|(at, _)| at)
    }

    fn wait_for(&mut self, at: usize) {
        let Pending { done, line, region, .. } = *self.pending(at);
        // Those before it move up.
        for at in (self.first..at).rev() {
            *self.pending(at + 1) = *self.pending(at);
        }
        self.first += 1;
        self.by_slot[slot(line)] -= 1;
        self.wait(done, Cause::Region(region));
    }

    /// Waits until another line can be asked for.
    #[inline]
    pub fn make_room(&mut self) {
        while self.first != self.end {
            let Pending { done, line, region, .. } = *self.pending(self.first);
            if done > self.now {
                if self.end - self.first < self.outstanding {
                    break;
                }
                self.wait(done, Cause::Region(region));
            }
            self.by_slot[slot(line)] -= 1;
            self.first += 1;
        }
    }

    /// A line that was asked for just now comes at `done`. There must be [room](Self::make_room) for it.
    #[inline]
    pub fn ask(&mut self, line: u64, done: u64, region: RegionIndex) {
        self.asked += 1;
        // Lines come nearly in the order in which they were asked for.
        let mut at = self.end;
        while at != self.first && self.pending(at - 1).done > done {
            *self.pending(at) = *self.pending(at - 1);
            at -= 1;
        }
        *self.pending(at) = Pending { done, line, access: self.accesses, number: self.asked, region };
        self.end += 1;
        self.by_slot[slot(line)] += 1;
        self.all_done = self.all_done.max(done);
        self.due = self.due.min(self.accesses + self.window);
    }

    /// When a line that the caches have taken in comes, if it is still on its way, and from where.
    #[inline]
    pub fn on_its_way(&self, line: u64) -> Option<(u64, Cause)> {
        let candidates = self.by_slot[slot(line)];
        if self.all_done <= self.now || candidates == 0 {
            return None;
        }
        self.find(line, candidates)
    }

    /// As [`on_its_way`](Self::on_its_way); so many lines that were asked for have its slot.
    #[inline(never)]
    fn find(&self, line: u64, candidates: u16) -> Option<(u64, Cause)> {
        let mut same = self.all_pending().map(|(_, pending)| pending).filter(|pending| pending.line == line);
        let found = if candidates == 1 {
            // Most likely it is one of the last.
            same.next_back().filter(|pending| pending.done > self.now)
        } else {
            // Where the caches lost it meanwhile it was asked for again.
            same.filter(|pending| pending.done > self.now).min_by_key(|pending| pending.number)
        }?;
        Some((found.done, Cause::Region(found.region)))
    }

    /// Waits for all that is still on its way.
    pub fn drain(&mut self) {
        while let Some(at) = self.first_asked() {
            self.wait_for(at);
        }
        self.due = u64::MAX;
        let (ready, from) = (self.ready, self.ready_from);
        self.wait(ready, from);
    }
}

#[cfg(test)]
mod tests;
