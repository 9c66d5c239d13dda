//! What a thread waits for.

use super::table::{RegionIndex, Table};

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
    line: u64,
    done: u64,
    /// The how manieth access it was.
    access: u64,
    region: RegionIndex,
}

/// A thread's clock: picoseconds throughout.
#[derive(Debug)]
pub struct ThreadClock {
    /// Now.
    pub now: u64,
    /// When the value of the last load is there, and from where.
    pub ready: u64,
    pub ready_from: Cause,
    /// Lines on their way, in the order in which they were asked for.
    pending: Vec<Pending>,
    /// Number of the oldest of them; `u64::MAX` if there is none.
    oldest: u64,
    /// When the last of them comes.
    all_done: u64,
    /// Accesses so far.
    accesses: u64,
    /// Waited for the caches.
    pub lost_to_caches: u64,
    /// Waited in all.
    pub lost: u64,
}

impl ThreadClock {
    /// A clock at zero.
    pub fn new(outstanding: usize) -> Self {
        Self {
            now: 0,
            ready: 0,
            ready_from: Cause::Cache,
            pending: Vec::with_capacity(outstanding),
            oldest: u64::MAX,
            all_done: 0,
            accesses: 0,
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
        while self.accesses.saturating_sub(self.oldest) > window {
            self.wait_for_oldest(table);
        }
    }

    #[cold]
    fn wait_for_oldest(&mut self, table: &mut Table) {
        let Pending { done, region, .. } = self.pending.remove(0);
        self.oldest = self.pending.first().map_or(u64::MAX, |next| next.access);
        self.wait(done, Cause::Region(region), table);
    }

    /// Waits until another line can be asked for.
    pub fn make_room(&mut self, outstanding: usize, table: &mut Table) {
        let now = self.now;
        self.pending.retain(|pending| pending.done > now);
        while self.pending.len() >= outstanding {
            let first = self.pending.iter().enumerate().min_by_key(|(at, pending)| (pending.done, *at));
            let Some((at, &Pending { done, region, .. })) = first else { break };
            self.wait(done, Cause::Region(region), table);
            self.pending.remove(at);
        }
        self.oldest = self.pending.first().map_or(u64::MAX, |next| next.access);
    }

    /// A line that was asked for just now comes at `done`.
    pub fn ask(&mut self, line: u64, done: u64, region: RegionIndex) {
        self.pending.push(Pending { line, done, access: self.accesses, region });
        self.all_done = self.all_done.max(done);
        self.oldest = self.oldest.min(self.accesses);
    }

    /// When a line that the caches have taken in comes, if it is still on its way, and from where.
    #[inline]
    pub fn on_its_way(&self, line: u64) -> Option<(u64, Cause)> {
        if self.all_done <= self.now {
            return None;
        }
        let found = self.pending.iter().find(|pending| pending.line == line && pending.done > self.now)?;
        Some((found.done, Cause::Region(found.region)))
    }

    /// Waits for all that is still on its way.
    pub fn drain(&mut self, table: &mut Table) {
        while !self.pending.is_empty() {
            self.wait_for_oldest(table);
        }
        let (ready, from) = (self.ready, self.ready_from);
        self.wait(ready, from, table);
    }
}
