//! The caches of a host once more, as slow and plain as can be: what [`Hierarchy`](super::Hierarchy) must do.

use super::prefetch::Streams;
use super::set::state::{ALL, DIRTY, OWNED, PREFETCHED, VALID};
use super::{CacheConfig, CacheCounts, LINE, LevelConfig, Lookup, Traffic};

/// Lines and what is known of them, the most recent first, by set.
struct Level {
    ways: usize,
    sets: Vec<Vec<(u64, u64)>>,
}

impl Level {
    fn new(config: &LevelConfig) -> Self {
        let sets = config.size / (u64::from(config.ways) * LINE);
        Self { ways: config.ways as usize, sets: vec![Vec::new(); sets as usize] }
    }

    fn set(&mut self, line: u64) -> &mut Vec<(u64, u64)> {
        let count = self.sets.len() as u64;
        &mut self.sets[(line / LINE % count) as usize]
    }

    fn peek(&mut self, line: u64) -> Option<&mut u64> {
        self.set(line).iter_mut().find(|(there, _)| *there == line).map(|(_, flags)| flags)
    }

    fn touch(&mut self, line: u64) -> Option<&mut u64> {
        let set = self.set(line);
        let at = set.iter().position(|&(there, _)| there == line)?;
        set[..=at].rotate_right(1);
        Some(&mut set[0].1)
    }

    /// The line that made way, if it was dirty.
    fn insert(&mut self, line: u64, flags: u64) -> Option<(u64, u64)> {
        let ways = self.ways;
        let set = self.set(line);
        assert!(set.iter().all(|&(there, _)| there != line), "a line stands in a set once");
        set.insert(0, (line, flags));
        if set.len() > ways { set.pop().filter(|(_, flags)| flags & DIRTY != 0) } else { None }
    }

    fn remove(&mut self, line: u64) -> u64 {
        let set = self.set(line);
        set.iter().position(|&(there, _)| there == line).map_or(0, |at| set.remove(at).1)
    }
}

struct Core {
    levels: Vec<Level>,
    streams: Option<Streams>,
    counts: CacheCounts,
}

impl Core {
    fn new(config: &CacheConfig) -> Self {
        Self {
            levels: config.private.iter().map(Level::new).collect(),
            streams: config.prefetch.map(Streams::new),
            counts: CacheCounts::default(),
        }
    }
}

/// See the module.
pub struct Plain {
    cores: Vec<Core>,
    shared: Option<Level>,
    /// What went to memory since somebody looked.
    pub traffic: Vec<Traffic>,
}

impl Plain {
    pub fn new(config: &CacheConfig, cores: usize) -> Self {
        Self {
            cores: (0..cores).map(|_| Core::new(config)).collect(),
            shared: config.shared.as_ref().map(Level::new),
            traffic: Vec::new(),
        }
    }

    pub fn add_core(&mut self, config: &CacheConfig) {
        self.cores.push(Core::new(config));
    }

    pub fn counts(&self, core: usize) -> CacheCounts {
        self.cores[core].counts
    }

    pub fn access(&mut self, core: usize, address: u64, store: bool) -> Lookup {
        let line = address & !(LINE - 1);
        let levels = self.cores[core].levels.len();
        for at in 0..levels {
            let Some(flags) = self.cores[core].levels[at].touch(line) else { continue };
            let was = *flags;
            *flags &= !PREFETCHED;
            if at == 0 && store {
                *flags |= OWNED | DIRTY;
            }
            if store && was & OWNED == 0 {
                self.take(core, line);
            }
            if at > 0 {
                let own = if store { OWNED | DIRTY } else { was & OWNED };
                self.fill(core, line, own, at);
                self.follow_streams(core, line);
            }
            self.cores[core].counts.hits[at] += 1;
            let level = at as u8 + 1;
            return if was & PREFETCHED == 0 { Lookup::Hit(level) } else { Lookup::Prefetched(level) };
        }
        let others = if store { self.take(core, line) } else { self.share(core, line) };
        let in_shared = self.shared.as_mut().is_some_and(|shared| shared.touch(line).is_some());
        if !in_shared {
            self.fill_shared(core, line, 0);
        }
        let own = if store {
            OWNED | DIRTY
        } else if others == 0 {
            OWNED
        } else {
            0
        };
        self.fill(core, line, own, levels);
        self.follow_streams(core, line);
        let last = if self.shared.is_some() { levels } else { levels - 1 };
        let counts = &mut self.cores[core].counts;
        if in_shared || others != 0 {
            counts.hits[last] += 1;
            return Lookup::Hit(last as u8 + 1);
        }
        counts.misses += 1;
        Lookup::Miss
    }

    pub fn flush(&mut self, line: u64) -> bool {
        let levels = self.cores.iter_mut().flat_map(|core| &mut core.levels).chain(&mut self.shared);
        let all = levels.fold(0, |all, level| all | level.remove(line));
        self.wrote(line, all)
    }

    pub fn clean(&mut self, line: u64) -> bool {
        let levels = self.cores.iter_mut().flat_map(|core| &mut core.levels).chain(&mut self.shared);
        let mut all = 0;
        for flags in levels.filter_map(|level| level.peek(line)) {
            all |= *flags;
            *flags &= !DIRTY;
        }
        self.wrote(line, all)
    }

    pub fn flush_all(&mut self) {
        let levels = self.cores.iter_mut().flat_map(|core| &mut core.levels).chain(&mut self.shared);
        let lines = levels.flat_map(|level| level.sets.iter_mut().flat_map(std::mem::take));
        let dirty: std::collections::BTreeSet<u64> =
            lines.filter(|(_, flags)| flags & DIRTY != 0).map(|(line, _)| line).collect();
        for line in dirty {
            self.wrote(line, DIRTY);
        }
    }

    fn wrote(&mut self, line: u64, flags: u64) -> bool {
        if flags & DIRTY != 0 {
            self.write(0, line);
        }
        flags & DIRTY != 0
    }

    /// The lines of the core's levels in front of level `below`, the furthest first; only the nearest becomes dirty.
    fn fill(&mut self, core: usize, line: u64, flags: u64, below: usize) {
        for at in (0..below).rev() {
            let flags = if at == 0 { flags } else { flags & !DIRTY };
            self.put(core, at, line, VALID | flags);
        }
    }

    /// What makes way and is dirty is put into the next level, or joined to what that has of it.
    fn put(&mut self, core: usize, at: usize, line: u64, flags: u64) {
        let Some(level) = self.cores[core].levels.get_mut(at) else { return self.put_shared(core, line) };
        let Some((victim, was)) = level.insert(line, flags) else { return };
        match self.cores[core].levels.get_mut(at + 1).and_then(|next| next.peek(victim)) {
            Some(copy) => *copy |= was & (DIRTY | OWNED),
            None => self.put(core, at + 1, victim, was),
        }
    }

    /// A dirty line comes to the shared level, or to memory where there is none.
    fn put_shared(&mut self, core: usize, line: u64) {
        match &mut self.shared {
            None => self.write(core, line),
            Some(shared) => match shared.peek(line) {
                Some(copy) => *copy |= DIRTY,
                None => self.fill_shared(core, line, DIRTY),
            },
        }
    }

    fn fill_shared(&mut self, core: usize, line: u64, flags: u64) {
        let victim = self.shared.as_mut().and_then(|shared| shared.insert(line, VALID | flags));
        if let Some((victim, _)) = victim {
            self.write(core, victim);
        }
    }

    fn write(&mut self, core: usize, line: u64) {
        self.cores[core].counts.written_back += 1;
        self.traffic.push(Traffic::WriteBack(line));
    }

    fn take(&mut self, core: usize, line: u64) -> u64 {
        let mut all = 0;
        for other in (0..self.cores.len()).filter(|&other| other != core) {
            let had = self.cores[other].levels.iter_mut().fold(0, |all, level| all | level.remove(line));
            self.cores[core].counts.invalidated += u64::from(had != 0);
            all |= had;
        }
        all & ALL
    }

    fn share(&mut self, core: usize, line: u64) -> u64 {
        let mut all = 0;
        let others = self.cores.iter_mut().enumerate().filter(|&(other, _)| other != core);
        for flags in others.flat_map(|(_, other)| &mut other.levels).filter_map(|level| level.peek(line)) {
            all |= *flags;
            *flags &= !(DIRTY | OWNED);
        }
        if all & DIRTY != 0 {
            self.put_shared(core, line);
        }
        all
    }

    fn follow_streams(&mut self, core: usize, line: u64) {
        let Some(streams) = &mut self.cores[core].streams else { return };
        for ahead in streams.miss(line) {
            let has = |core: &mut Core| core.levels.iter_mut().any(|level| level.peek(ahead).is_some());
            if self.cores.iter_mut().any(has) {
                continue;
            }
            let mut flags = VALID | OWNED;
            if self.shared.as_mut().is_none_or(|shared| shared.touch(ahead).is_none()) {
                flags |= PREFETCHED;
                self.cores[core].counts.prefetched += 1;
                self.traffic.push(Traffic::Prefetch(ahead));
                self.fill_shared(core, ahead, 0);
            }
            let second = 1.min(self.cores[core].levels.len() - 1);
            self.put(core, second, ahead, flags);
        }
    }
}
