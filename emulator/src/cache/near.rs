//! The way of an access through caches of the usual shape, where all lines are near.
//!
//! Usual are two private levels and a shared one, of powers of two of sets, without a prefetcher. A line is near where its
//! number is so small that sixteen bits of tag tell it from all others in the levels behind the first, and 24 bits in
//! the first. Where frames are counted from zero, that is all that a program has up to several GiB, and takes half the
//! instructions of the general way (`in_first_any` and `search` of [`Hierarchy`]), which does the same.

use super::hierarchy::Core;
use super::level::{Level, Place};
use super::set::{NEAR_BITS, state};
use super::{CoreIndex, Hierarchy, LINE, Lookup, Memory, Traffic};

/// Bits of tags behind the first level.
const WORD_BITS: u32 = 16;

/// How many lines are near; none, if the shape is not the usual one.
pub fn lines(private: &[Level], shared: Option<&Level>, prefetches: bool) -> u64 {
    match (private, shared) {
        ([first, second], Some(shared)) if !prefetches => {
            first.near_lines(NEAR_BITS).min(second.near_lines(WORD_BITS)).min(shared.near_lines(WORD_BITS))
        }
        _ => 0,
    }
}

impl Hierarchy {
    /// [`in_first`](Self::in_first) of the near line with this number.
    #[inline(always)]
    pub(super) fn in_first_near(&mut self, core: CoreIndex, number: u64, store: bool) -> Option<Lookup> {
        let own = &mut self.cores[core.index()];
        let first = &mut own.levels.all[0];
        let mut held = first.touch_near(first.near_place(number))?;
        own.counts.hits[0] += 1;
        if store {
            let was = held.state();
            held.add(state::OWNED | state::DIRTY);
            if was & state::OWNED == 0 {
                self.take_near(core, number);
            }
        }
        Some(Lookup::Hit(1))
    }

    /// [`behind_first`](Self::behind_first) of the near line with this number.
    #[inline(always)]
    pub(super) fn search_near(
        &mut self,
        core: CoreIndex,
        number: u64,
        store: bool,
        memory: &mut impl Memory,
    ) -> Lookup {
        let is_alone = self.cores.len() == 1;
        let (Some(shared), own) = (&mut self.shared, &mut self.cores[core.index()]) else { return Lookup::Miss };
        let [first, second, ..] = &mut own.levels.all;
        let places = (first.near_place(number), second.near_place(number), shared.near_place(number));
        let dirty = if store { state::DIRTY } else { 0 };
        if let Some(held) = second.touch_word(places.1) {
            own.counts.hits[1] += 1;
            let owned = held.state() & state::OWNED;
            let flags = state::VALID | owned | dirty;
            if !store || owned != 0 {
                own.put_near(shared, places.0, flags, memory);
                return Lookup::Hit(2);
            }
            self.take_near(core, number);
            let (Some(shared), own) = (&mut self.shared, &mut self.cores[core.index()]) else { return Lookup::Miss };
            own.put_near(shared, places.0, flags | state::OWNED, memory);
            return Lookup::Hit(2);
        }
        if is_alone {
            return own.bring_near(shared, places, (state::OWNED, dirty), false, memory);
        }
        let others = self.ask_others(core, number, store, memory);
        let (Some(shared), own) = (&mut self.shared, &mut self.cores[core.index()]) else { return Lookup::Miss };
        let owned = if store || others == 0 { state::OWNED } else { 0 };
        own.bring_near(shared, places, (owned, dirty), others != 0, memory)
    }

    /// From now on there are several cores: what the first one has, it brought.
    pub(super) fn count_visits(&mut self) {
        if self.near_lines == 0 {
            return;
        }
        for line in self.cores[0].levels.iter().flat_map(Level::lines) {
            self.visitors.came(CoreIndex(0), line / LINE);
        }
    }

    /// What the other cores had of a near line that the core brings: they lose it to a store and share it with a load.
    #[inline(always)]
    fn ask_others(&mut self, core: CoreIndex, number: u64, store: bool, memory: &mut impl Memory) -> u64 {
        let others = self.visitors.others(core, self.cores.len(), number);
        self.visitors.came(core, number);
        match (others.are_none(), store) {
            (true, _) => 0,
            (_, true) => self.take_near(core, number),
            (_, false) => self.share_near(core, number, memory),
        }
    }

    /// [`take_from_others`](Self::take_from_others) of a near line.
    #[inline(never)]
    fn take_near(&mut self, core: CoreIndex, number: u64) -> u64 {
        let (mut all, mut taken) = (0, 0);
        let [first, second, ..] = &self.cores[core.index()].levels.all;
        let (in_first, in_second) = (first.near_place(number), second.near_place(number));
        for other in self.visitors.others(core, self.cores.len(), number) {
            let [first, second, ..] = &mut self.cores[other].levels.all;
            let had = first.remove_near(in_first) | second.remove_word(in_second);
            taken += u64::from(had != 0);
            all |= had;
        }
        self.cores[core.index()].counts.invalidated += taken;
        all
    }

    /// [`share_with_others`](Self::share_with_others) of a near line.
    #[inline(never)]
    fn share_near(&mut self, core: CoreIndex, number: u64, memory: &mut impl Memory) -> u64 {
        let mut all = 0;
        let [first, second, ..] = &self.cores[core.index()].levels.all;
        let (in_first, in_second) = (first.near_place(number), second.near_place(number));
        for other in self.visitors.others(core, self.cores.len(), number) {
            let [first, second, ..] = &mut self.cores[other].levels.all;
            for mut copy in first.peek_near(in_first).into_iter().chain(second.peek_word(in_second)) {
                all |= copy.state();
                copy.take(state::DIRTY | state::OWNED);
            }
        }
        if all & state::DIRTY != 0
            && let Some(shared) = &mut self.shared
        {
            self.cores[core.index()].pass_to_shared_near(shared, number, memory);
        }
        all
    }
}

impl Core {
    /// Brings a near line, of which the core's own levels have nothing: from the shared level, another core or memory.
    #[inline(always)]
    fn bring_near(
        &mut self,
        shared: &mut Level,
        (in_first, in_second, in_shared): (Place, Place, Place),
        (owned, dirty): (u64, u64),
        others_have_it: bool,
        memory: &mut impl Memory,
    ) -> Lookup {
        let is_in_shared = shared.touch_word(in_shared).is_some();
        if !is_in_shared && let Some((victim, _)) = shared.insert_near(in_shared, state::VALID) {
            self.write_back_near(victim, memory);
        }
        // What the second level drops leaves first.
        if let Some((victim, _)) = self.levels.all[1].insert_near(in_second, state::VALID | owned) {
            self.pass_to_shared_near(shared, victim / LINE, memory);
        }
        self.put_near(shared, in_first, state::VALID | owned | dirty, memory);
        if is_in_shared || others_have_it {
            self.counts.hits[2] += 1;
            Lookup::Hit(3)
        } else {
            self.counts.misses += 1;
            Lookup::Miss
        }
    }

    /// Puts a near line into the first level; a dirty one that makes way moves to the second one.
    #[inline(always)]
    fn put_near(&mut self, shared: &mut Level, in_first: Place, flags: u64, memory: &mut impl Memory) {
        if let Some((victim, was)) = self.levels.all[0].insert_near(in_first, flags) {
            self.pass_to_second_near(shared, victim / LINE, was, memory);
        }
    }

    /// A dirty near line, which the first level let go of.
    #[inline(never)]
    fn pass_to_second_near(&mut self, shared: &mut Level, number: u64, was: u64, memory: &mut impl Memory) {
        let second = &mut self.levels.all[1];
        let place = second.near_place(number);
        if let Some(mut copy) = second.peek_word(place) {
            copy.add(was & (state::DIRTY | state::OWNED));
        } else if let Some((victim, _)) = second.insert_near(place, was) {
            self.pass_to_shared_near(shared, victim / LINE, memory);
        }
    }

    /// A dirty near line, which no level of the core's own has any longer, or which another core shares.
    #[inline]
    fn pass_to_shared_near(&mut self, shared: &mut Level, number: u64, memory: &mut impl Memory) {
        let place = shared.near_place(number);
        if let Some(mut copy) = shared.peek_word(place) {
            copy.add(state::DIRTY);
        } else if let Some((victim, _)) = shared.insert_near(place, state::VALID | state::DIRTY) {
            self.write_back_near(victim, memory);
        }
    }

    #[inline(always)]
    fn write_back_near(&mut self, line: u64, memory: &mut impl Memory) {
        self.counts.written_back += 1;
        memory.traffic(Traffic::WriteBack(line));
    }
}
