//! Writing caches back on demand.

use super::set::state;
use super::{Hierarchy, LINE, Memory, Traffic};

impl Hierarchy {
    /// Takes the line of `address` out of all caches, and writes it to memory if it was dirty; says whether it was.
    pub fn flush(&mut self, address: u64, memory: &mut impl Memory) -> bool {
        let line = address & !(LINE - 1);
        let own = self.cores.iter_mut().fold(0, |all, core| all | core.remove(line));
        let shared = self.shared.as_mut().map_or(0, |shared| shared.remove(shared.place(line)));
        self.wrote(line, own | shared, memory)
    }

    /// Writes the line of `address` to memory if it is dirty, and keeps it, clean; says whether it was dirty.
    pub fn clean(&mut self, address: u64, memory: &mut impl Memory) -> bool {
        let line = address & !(LINE - 1);
        let levels = self.cores.iter_mut().flat_map(|core| core.levels.iter_mut()).chain(&mut self.shared);
        let all = levels.filter_map(|level| level.peek(level.place(line))).fold(0, |all, mut copy| {
            let before = copy.state();
            copy.take(state::DIRTY);
            all | before
        });
        self.wrote(line, all, memory)
    }

    /// Empties all caches, and writes to memory what was dirty, by rising address.
    pub fn flush_all(&mut self, memory: &mut impl Memory) {
        let levels = self.cores.iter_mut().flat_map(|core| core.levels.iter_mut()).chain(&mut self.shared);
        let mut dirty = Vec::new();
        for level in levels {
            dirty.extend(level.dirty());
            level.clear();
        }
        dirty.sort_unstable();
        dirty.dedup();
        for line in dirty {
            self.wrote(line, state::DIRTY, memory);
        }
    }

    fn wrote(&mut self, line: u64, flags: u64, memory: &mut impl Memory) -> bool {
        let dirty = flags & state::DIRTY != 0;
        if dirty {
            if let Some(core) = self.cores.first_mut() {
                core.counts.written_back += 1;
            }
            memory.traffic(Traffic::WriteBack(line));
        }
        dirty
    }
}
