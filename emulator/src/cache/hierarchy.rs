//! The caches of a host together.

use super::level::{Level, Victim, state};
use super::prefetch::Streams;
use super::{CacheConfig, CacheConfigError, CacheCounts, LINE, Lookup, Memory, Traffic};

/// Number of a core, from 0 in the order of [`Hierarchy::add_core`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreIndex(pub u32);

impl CoreIndex {
    const fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
struct Core {
    /// The nearest first; at least one.
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

    /// Takes `line` out of all levels; the states of all its copies joined, zero if there is none.
    fn remove(&mut self, line: u64) -> u64 {
        self.levels.iter_mut().fold(0, |all, level| all | level.remove(line))
    }

    /// Leaves `line` in, clean and not owned; the states that its copies had, joined.
    fn share(&mut self, line: u64) -> u64 {
        let copies = self.levels.iter_mut().filter_map(|level| level.peek(line));
        copies.fold(0, |all, mut copy| {
            let before = copy.state();
            copy.take(state::DIRTY | state::OWNED);
            all | before
        })
    }
}

/// The caches of a host: see the [module](super) for what they do.
///
/// ```
/// use tiermem_emulator::cache::{CacheConfig, CoreIndex, Hierarchy, Lookup, Traffic};
/// let mut caches = Hierarchy::new(&CacheConfig::parse("4K/8@1.5,shared:64K/16@15")?, 1)?;
/// let mut traffic = Vec::new();
/// assert_eq!(caches.access(CoreIndex(0), 0x1040, true, &mut |t| traffic.push(t)), Lookup::Miss);
/// assert_eq!(caches.access(CoreIndex(0), 0x107f, false, &mut |t| traffic.push(t)), Lookup::Hit(1));
/// assert!(caches.flush(0x1040, &mut |t| traffic.push(t)));
/// assert_eq!(traffic, [Traffic::WriteBack(0x1040)]);
/// # Ok::<(), tiermem_emulator::cache::CacheConfigError>(())
/// ```
#[derive(Debug)]
pub struct Hierarchy {
    config: CacheConfig,
    cores: Vec<Core>,
    shared: Option<Level>,
}

impl Hierarchy {
    /// Empty caches of `cores` cores.
    ///
    /// # Errors
    /// Where [`CacheConfig::check`] complains.
    pub fn new(config: &CacheConfig, cores: u32) -> Result<Self, CacheConfigError> {
        config.check()?;
        Ok(Self {
            config: config.clone(),
            cores: (0..cores).map(|_| Core::new(config)).collect(),
            shared: config.shared.as_ref().map(Level::new),
        })
    }

    /// One core more, with empty caches.
    pub fn add_core(&mut self) -> CoreIndex {
        self.cores.push(Core::new(&self.config));
        CoreIndex(u32::try_from(self.cores.len() - 1).unwrap_or(u32::MAX))
    }

    /// What it was made from.
    pub fn config(&self) -> &CacheConfig {
        &self.config
    }

    /// What happened on one core.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn counts(&self, core: CoreIndex) -> CacheCounts {
        self.cores[core.index()].counts
    }

    /// Says that an access to `address` is about to come, so that the host brings near what that will look at. Changes nothing.
    ///
    /// # Panics
    /// If there is no such core.
    #[inline]
    pub fn expect(&self, core: CoreIndex, address: u64) {
        let line = address & !(LINE - 1);
        let own = &self.cores[core.index()];
        if own.levels[0].is_most_recent(line) {
            return;
        }
        own.levels[1..].iter().chain(&self.shared).for_each(|level| level.expect(line));
    }

    /// A load or store that lies in the line of `address`; one that crosses lines is one access to each. Misses go to
    /// memory before the call returns, and `memory` hears what else does.
    ///
    /// # Panics
    /// If there is no such core.
    #[inline]
    pub fn access(&mut self, core: CoreIndex, address: u64, store: bool, memory: &mut impl Memory) -> Lookup {
        let line = address & !(LINE - 1);
        let own = &mut self.cores[core.index()];
        if let Some(mut held) = own.levels[0].most_recent(line)
            && (!store || held.state() & state::OWNED != 0)
        {
            held.add(if store { state::DIRTY } else { 0 });
            own.counts.hits[0] += 1;
            return Lookup::Hit(1);
        }
        self.search(core, line, store, memory)
    }

    fn search(&mut self, core: CoreIndex, line: u64, store: bool, memory: &mut impl Memory) -> Lookup {
        let own = &mut self.cores[core.index()];
        let Some(mut held) = own.levels[0].touch(line) else { return self.search_behind(core, line, store, memory) };
        own.counts.hits[0] += 1;
        let was = held.state();
        held.take(state::PREFETCHED);
        if store {
            held.add(state::OWNED | state::DIRTY);
            if was & state::OWNED == 0 {
                self.take_from_others(core, line);
            }
        }
        if was & state::PREFETCHED == 0 { Lookup::Hit(1) } else { Lookup::Prefetched(1) }
    }

    fn search_behind(&mut self, core: CoreIndex, line: u64, store: bool, memory: &mut impl Memory) -> Lookup {
        let own = &mut self.cores[core.index()];
        let behind = own.levels.iter_mut().enumerate().skip(1);
        let found = { behind }.find_map(|(at, level)| level.touch(line).map(|held| (at, held)));
        let Some((at, mut held)) = found else { return self.miss_own(core, line, store, memory) };
        own.counts.hits[at] += 1;
        let was = held.state();
        held.take(state::PREFETCHED);
        let mut flags = state::VALID | was & state::OWNED;
        if store {
            flags |= state::OWNED | state::DIRTY;
            if was & state::OWNED == 0 {
                self.take_from_others(core, line);
            }
        }
        self.fill(core, line, flags, at, memory);
        self.follow_streams(core, line, memory);
        let level = level_number(at);
        if was & state::PREFETCHED == 0 { Lookup::Hit(level) } else { Lookup::Prefetched(level) }
    }

    /// No level of the core's own has it.
    fn miss_own(&mut self, core: CoreIndex, line: u64, store: bool, memory: &mut impl Memory) -> Lookup {
        let levels = self.config.private.len();
        let others = if store { self.take_from_others(core, line) } else { self.share_with_others(core, line, memory) };
        let in_shared = self.shared.as_mut().is_some_and(|shared| shared.touch(line).is_some());
        let last = if self.shared.is_some() { levels } else { levels - 1 };
        if !in_shared {
            self.fill_shared(core, line, 0, memory);
        }
        let own = match (store, others & state::VALID) {
            (true, _) => state::OWNED | state::DIRTY,
            (false, 0) => state::OWNED,
            (false, _) => 0,
        };
        self.fill(core, line, state::VALID | own, levels, memory);
        self.follow_streams(core, line, memory);
        let counts = &mut self.cores[core.index()].counts;
        if in_shared || others & state::VALID != 0 {
            counts.hits[last] += 1;
            Lookup::Hit(level_number(last))
        } else {
            counts.misses += 1;
            Lookup::Miss
        }
    }

    /// Puts the line into the core's levels in front of level `below`. Only the first becomes dirty.
    fn fill(&mut self, core: CoreIndex, line: u64, flags: u64, below: usize, memory: &mut impl Memory) {
        for at in (0..below).rev() {
            let flags = if at == 0 { flags } else { flags & !state::DIRTY };
            self.put(core, at, line, flags, memory);
        }
    }

    /// Puts a line into one of the core's levels; a dirty one that makes way moves on to the next one.
    #[inline]
    fn put(&mut self, core: CoreIndex, at: usize, line: u64, flags: u64, memory: &mut impl Memory) {
        let victim = self.cores[core.index()].levels[at].insert(line, flags);
        if victim.is_some() {
            self.move_on(core, at + 1, victim, memory);
        }
    }

    /// What made way in front of level `at` goes there.
    fn move_on(&mut self, core: CoreIndex, at: usize, mut victim: Victim, memory: &mut impl Memory) {
        for level in &mut self.cores[core.index()].levels[at..] {
            let Some((line, was)) = victim else { return };
            if let Some(mut copy) = level.peek(line) {
                copy.add(was & (state::DIRTY | state::OWNED));
                return;
            }
            victim = level.insert(line, was);
        }
        if let Some((line, _)) = victim {
            self.write_back_to_shared(core, line, memory);
        }
    }

    fn write_back_to_shared(&mut self, core: CoreIndex, line: u64, memory: &mut impl Memory) {
        match self.shared.as_mut() {
            None => self.write_back(core, line, memory),
            Some(shared) => match shared.peek(line) {
                Some(mut copy) => copy.add(state::DIRTY),
                None => self.fill_shared(core, line, state::DIRTY, memory),
            },
        }
    }

    fn fill_shared(&mut self, core: CoreIndex, line: u64, flags: u64, memory: &mut impl Memory) {
        let Some(shared) = self.shared.as_mut() else { return };
        if let Some((victim, _)) = shared.insert(line, state::VALID | flags) {
            self.write_back(core, victim, memory);
        }
    }

    fn write_back(&mut self, core: CoreIndex, line: u64, memory: &mut impl Memory) {
        self.cores[core.index()].counts.written_back += 1;
        memory.traffic(Traffic::WriteBack(line));
    }

    /// A store: the other cores lose the line. What they had modified moves to the one that stores.
    fn take_from_others(&mut self, core: CoreIndex, line: u64) -> u64 {
        let mut all = 0;
        let mut taken = 0;
        for (_, other) in others(&mut self.cores, core) {
            let had = other.remove(line);
            taken += u64::from(had != 0);
            all |= had;
        }
        self.cores[core.index()].counts.invalidated += taken;
        all
    }

    /// A load: the other cores keep the line, and what one had modified goes to the shared level.
    fn share_with_others(&mut self, core: CoreIndex, line: u64, memory: &mut impl Memory) -> u64 {
        let all = others(&mut self.cores, core).fold(0, |all, (_, other)| all | other.share(line));
        if all & state::DIRTY != 0 {
            self.write_back_to_shared(core, line, memory);
        }
        all
    }

    fn follow_streams(&mut self, core: CoreIndex, line: u64, memory: &mut impl Memory) {
        let Some(streams) = self.cores[core.index()].streams.as_mut() else { return };
        for ahead in streams.miss(line) {
            self.prefetch(core, ahead, memory);
        }
    }

    /// Brings a line into the second level, unless a core has it already.
    fn prefetch(&mut self, core: CoreIndex, line: u64, memory: &mut impl Memory) {
        if self.cores.iter_mut().any(|c| c.levels.iter_mut().any(|level| level.peek(line).is_some())) {
            return;
        }
        let mut flags = state::VALID | state::OWNED;
        if self.shared.as_mut().is_none_or(|shared| shared.touch(line).is_none()) {
            flags |= state::PREFETCHED;
            self.cores[core.index()].counts.prefetched += 1;
            memory.traffic(Traffic::Prefetch(line));
            self.fill_shared(core, line, 0, memory);
        }
        let at = 1.min(self.config.private.len() - 1);
        self.put(core, at, line, flags, memory);
    }

    /// Takes the line of `address` out of all caches, and writes it to memory if it was dirty; says whether it was.
    pub fn flush(&mut self, address: u64, memory: &mut impl Memory) -> bool {
        let line = address & !(LINE - 1);
        let own = self.cores.iter_mut().fold(0, |all, core| all | core.remove(line));
        let shared = self.shared.as_mut().map_or(0, |shared| shared.remove(line));
        self.wrote(line, own | shared, memory)
    }

    /// Writes the line of `address` to memory if it is dirty, and keeps it, clean; says whether it was dirty.
    pub fn clean(&mut self, address: u64, memory: &mut impl Memory) -> bool {
        let line = address & !(LINE - 1);
        let levels = self.cores.iter_mut().flat_map(|core| core.levels.iter_mut()).chain(&mut self.shared);
        let all = levels.filter_map(|level| level.peek(line)).fold(0, |all, mut copy| {
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

fn others(cores: &mut [Core], core: CoreIndex) -> impl Iterator<Item = (usize, &mut Core)> {
    cores.iter_mut().enumerate().filter(move |(i, _)| *i != core.index())
}

/// Levels are few and counted from 1.
fn level_number(index: usize) -> u8 {
    u8::try_from(index + 1).unwrap_or(u8::MAX)
}
