//! The caches of a host together.

use super::ahead::Outlook;
use super::config::LEVELS_MAX;
use super::level::{Level, Levels, Place, Victim};
use super::prefetch::Streams;
use super::set::state;
use super::{CacheConfig, CacheConfigError, CacheCounts, LINE, Lookup, Memory, Traffic, near};

/// Number of a core, from 0 in the order of [`Hierarchy::add_core`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreIndex(pub u32);

impl CoreIndex {
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) levels: Levels,
    streams: Option<Streams>,
    pub(super) counts: CacheCounts,
}

impl Core {
    fn new(config: &CacheConfig) -> Self {
        Self {
            levels: Levels::new(&config.private),
            streams: config.prefetch.map(Streams::new),
            counts: CacheCounts::default(),
        }
    }

    /// Takes `line` out of all levels; the states of all its copies joined, zero if there is none.
    pub(super) fn remove(&mut self, line: u64) -> u64 {
        self.levels.iter_mut().fold(0, |all, level| all | level.remove(level.place(line)))
    }

    /// Leaves `line` in, clean and not owned; the states that its copies had, joined.
    fn share(&mut self, line: u64) -> u64 {
        let copies = self.levels.iter_mut().filter_map(|level| level.peek(level.place(line)));
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
    pub(super) cores: Vec<Core>,
    pub(super) shared: Option<Level>,
    /// Lines with lower numbers take the [way of the near](super::near), 0 once others were here.
    near_lines: u64,
}

impl Hierarchy {
    /// Empty caches of `cores` cores.
    ///
    /// # Errors
    /// Where [`CacheConfig::check`] complains.
    pub fn new(config: &CacheConfig, cores: u32) -> Result<Self, CacheConfigError> {
        config.check()?;
        let shared = config.shared.as_ref().map(Level::new);
        Ok(Self {
            near_lines: near::lines(&Levels::new(&config.private), shared.as_ref(), config.prefetch.is_some()),
            config: config.clone(),
            cores: (0..cores).map(|_| Core::new(config)).collect(),
            shared,
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
        self.outlook(core).expect(address);
    }

    /// What [`expect`](Self::expect) needs to know of the core's caches.
    pub(crate) fn outlook(&self, core: CoreIndex) -> Outlook<'_> {
        let [_, second, third, _] = &self.cores[core.index()].levels.all;
        Outlook { second: second.sets(), last: self.shared.as_ref().unwrap_or(third).sets() }
    }

    /// A load or store that lies in the line of `address`; one that crosses lines is one access to each. Misses go to
    /// memory before the call returns, and `memory` hears what else does.
    ///
    /// # Panics
    /// If there is no such core.
    #[inline]
    pub fn access(&mut self, core: CoreIndex, address: u64, store: bool, memory: &mut impl Memory) -> Lookup {
        self.in_first(core, address, store).unwrap_or_else(|| self.behind_first(core, address, store, memory))
    }

    /// The first half of an [`access`](Self::access): what is found in the first level.
    #[inline(always)]
    pub(crate) fn in_first(&mut self, core: CoreIndex, address: u64, store: bool) -> Option<Lookup> {
        let number = address / LINE;
        if number < self.near_lines {
            return self.in_first_near(core, number, store);
        }
        self.in_first_any(core, number * LINE, store)
    }

    /// The second half, where the first one found nothing.
    #[inline(always)]
    pub(crate) fn behind_first(
        &mut self,
        core: CoreIndex,
        address: u64,
        store: bool,
        memory: &mut impl Memory,
    ) -> Lookup {
        let number = address / LINE;
        if number < self.near_lines {
            return self.search_near(core, number, store, memory);
        }
        self.near_lines = 0;
        self.search(core, number * LINE, store, memory)
    }

    fn in_first_any(&mut self, core: CoreIndex, line: u64, store: bool) -> Option<Lookup> {
        let own = &mut self.cores[core.index()];
        let first = &mut own.levels.all[0];
        let mut held = first.touch(first.place(line))?;
        own.counts.hits[0] += 1;
        let was = held.state();
        held.take(state::PREFETCHED);
        if store {
            held.add(state::OWNED | state::DIRTY);
            if was & state::OWNED == 0 {
                self.take_from_others(core, line);
            }
        }
        Some(if was & state::PREFETCHED == 0 { Lookup::Hit(1) } else { Lookup::Prefetched(1) })
    }

    /// The first level does not have it.
    fn search(&mut self, core: CoreIndex, line: u64, store: bool, memory: &mut impl Memory) -> Lookup {
        let own = &mut self.cores[core.index()];
        for (level, at) in own.levels[1..].iter_mut().zip(1..LEVELS_MAX) {
            let Some(mut held) = level.touch(level.place(line)) else { continue };
            own.counts.hits[at] += 1;
            let was = held.state();
            held.take(state::PREFETCHED);
            self.found_behind(core, line, (at, was), store, memory);
            self.follow_streams(core, line, memory);
            let level = level_number(at);
            return if was & state::PREFETCHED == 0 { Lookup::Hit(level) } else { Lookup::Prefetched(level) };
        }
        self.miss_own(core, line, store, memory)
    }

    /// A level of the core's own behind the first has it, in this state.
    #[inline(never)]
    fn found_behind(
        &mut self,
        core: CoreIndex,
        line: u64,
        (at, was): (usize, u64),
        store: bool,
        memory: &mut impl Memory,
    ) {
        let mut flags = state::VALID | was & state::OWNED;
        if store {
            flags |= state::OWNED | state::DIRTY;
            if was & state::OWNED == 0 {
                self.take_from_others(core, line);
            }
        }
        self.fill(core, line, flags, at, memory);
    }

    /// No level of the core's own has it.
    fn miss_own(&mut self, core: CoreIndex, line: u64, store: bool, memory: &mut impl Memory) -> Lookup {
        let levels = self.cores[core.index()].levels.len();
        let others = if store { self.take_from_others(core, line) } else { self.share_with_others(core, line, memory) };
        let mut in_shared = false;
        let mut last = levels - 1;
        if let Some(shared) = &mut self.shared {
            last = levels;
            let place = shared.place(line);
            in_shared = shared.touch(place).is_some();
            if !in_shared {
                self.fill_shared(core, place, 0, memory);
            }
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
            counts.hits[last % LEVELS_MAX] += 1;
            Lookup::Hit(level_number(last))
        } else {
            counts.misses += 1;
            Lookup::Miss
        }
    }

    /// Puts the line into the core's levels in front of level `below`. Only the first becomes dirty.
    #[inline]
    fn fill(&mut self, core: CoreIndex, line: u64, flags: u64, below: usize, memory: &mut impl Memory) {
        for at in (0..below).rev() {
            self.put(core, at, line, if at == 0 { flags } else { flags & !state::DIRTY }, memory);
        }
    }

    /// Puts a line into one of the core's levels; a dirty one that makes way moves on to the next one.
    #[inline]
    fn put(&mut self, core: CoreIndex, at: usize, line: u64, flags: u64, memory: &mut impl Memory) {
        let level = &mut self.cores[core.index()].levels[at];
        let victim = level.insert(level.place(line), flags);
        if victim.is_some() {
            self.move_on(core, at + 1, victim, memory);
        }
    }

    /// What made way in front of level `at` goes there.
    #[inline(never)]
    fn move_on(&mut self, core: CoreIndex, at: usize, mut victim: Victim, memory: &mut impl Memory) {
        for level in &mut self.cores[core.index()].levels[at..] {
            let Some((line, was)) = victim else { return };
            let place = level.place(line);
            if let Some(mut copy) = level.peek(place) {
                copy.add(was & (state::DIRTY | state::OWNED));
                return;
            }
            victim = level.insert(place, was);
        }
        if let Some((line, _)) = victim {
            self.write_back_to_shared(core, line, memory);
        }
    }

    fn write_back_to_shared(&mut self, core: CoreIndex, line: u64, memory: &mut impl Memory) {
        let Some(shared) = self.shared.as_mut() else { return self.write_back(core, line, memory) };
        let place = shared.place(line);
        match shared.peek(place) {
            Some(mut copy) => copy.add(state::DIRTY),
            None => self.fill_shared(core, place, state::DIRTY, memory),
        }
    }

    #[inline]
    fn fill_shared(&mut self, core: CoreIndex, place: Place, flags: u64, memory: &mut impl Memory) {
        let Some(shared) = self.shared.as_mut() else { return };
        if let Some((victim, _)) = shared.insert(place, state::VALID | flags) {
            self.write_back(core, victim, memory);
        }
    }

    fn write_back(&mut self, core: CoreIndex, line: u64, memory: &mut impl Memory) {
        self.cores[core.index()].counts.written_back += 1;
        memory.traffic(Traffic::WriteBack(line));
    }

    /// A store: the other cores lose the line. What they had modified moves to the one that stores.
    #[inline]
    fn take_from_others(&mut self, core: CoreIndex, line: u64) -> u64 {
        if self.cores.len() == 1 {
            return 0;
        }
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
    #[inline]
    fn share_with_others(&mut self, core: CoreIndex, line: u64, memory: &mut impl Memory) -> u64 {
        if self.cores.len() == 1 {
            return 0;
        }
        let all = others(&mut self.cores, core).fold(0, |all, (_, other)| all | other.share(line));
        if all & state::DIRTY != 0 {
            self.write_back_to_shared(core, line, memory);
        }
        all
    }

    #[inline]
    fn follow_streams(&mut self, core: CoreIndex, line: u64, memory: &mut impl Memory) {
        if let Some(streams) = self.cores[core.index()].streams.as_mut() {
            let ahead = streams.miss(line);
            self.prefetch_all(core, ahead, memory);
        }
    }

    #[inline(never)]
    fn prefetch_all(&mut self, core: CoreIndex, lines: impl Iterator<Item = u64>, memory: &mut impl Memory) {
        for line in lines {
            self.prefetch(core, line, memory);
        }
    }

    /// Brings a line into the second level, unless a core has it already.
    fn prefetch(&mut self, core: CoreIndex, line: u64, memory: &mut impl Memory) {
        let has = |level: &mut Level| level.peek(level.place(line)).is_some();
        if self.cores.iter_mut().any(|core| core.levels.iter_mut().any(has)) {
            return;
        }
        let mut flags = state::VALID | state::OWNED;
        let shared = self.shared.as_mut().map(|shared| (shared.place(line), shared));
        let (place, in_shared) =
            shared.map_or_else(Default::default, |(place, level)| (place, level.touch(place).is_some()));
        if !in_shared {
            flags |= state::PREFETCHED;
            self.cores[core.index()].counts.prefetched += 1;
            memory.traffic(Traffic::Prefetch(line));
            self.fill_shared(core, place, 0, memory);
        }
        let at = 1.min(self.config.private.len() - 1);
        self.put(core, at, line, flags, memory);
    }
}

fn others(cores: &mut [Core], core: CoreIndex) -> impl Iterator<Item = (usize, &mut Core)> {
    cores.iter_mut().enumerate().filter(move |(i, _)| *i != core.index())
}

/// Levels are few and counted from 1.
fn level_number(index: usize) -> u8 {
    u8::try_from(index + 1).unwrap_or(u8::MAX)
}
