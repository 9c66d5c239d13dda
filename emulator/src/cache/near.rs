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
        let own = &mut self.cores[core.index()];
        let [first, second, ..] = &mut own.levels.all;
        let dirty = if store { state::DIRTY } else { 0 };
        let (in_first, in_second) = (first.near_place(number), second.near_place(number));
        if let Some(held) = second.touch_word(in_second) {
            own.counts.hits[1] += 1;
            let mut owned = held.state() & state::OWNED;
            if store && owned == 0 {
                owned = state::OWNED;
                self.take_near(core, number);
            }
            let (Some(shared), own) = (&mut self.shared, &mut self.cores[core.index()]) else { return Lookup::Miss };
            own.put_near(shared, in_first, state::VALID | owned | dirty, memory);
            return Lookup::Hit(2);
        }
        let others = match (is_alone, store) {
            (true, _) => 0,
            (_, true) => self.take_near(core, number),
            (_, false) => self.share_near(core, number, memory),
        };
        let (Some(shared), own) = (&mut self.shared, &mut self.cores[core.index()]) else { return Lookup::Miss };
        let in_shared = shared.near_place(number);
        let is_in_shared = shared.touch_word(in_shared).is_some();
        if !is_in_shared && let Some((victim, _)) = shared.insert_near(in_shared, state::VALID) {
            own.write_back_near(victim, memory);
        }
        let owned = if store || others == 0 { state::OWNED } else { 0 };
        // What the second level drops leaves first.
        if let Some((victim, _)) = own.levels.all[1].insert_near(in_second, state::VALID | owned) {
            own.to_shared_near(shared, victim / LINE, memory);
        }
        own.put_near(shared, in_first, state::VALID | owned | dirty, memory);
        if is_in_shared || others != 0 {
            own.counts.hits[2] += 1;
            Lookup::Hit(3)
        } else {
            own.counts.misses += 1;
            Lookup::Miss
        }
    }

    /// [`take_from_others`](Self::take_from_others) of a near line.
    #[inline(never)]
    fn take_near(&mut self, core: CoreIndex, number: u64) -> u64 {
        let (mut all, mut taken) = (0, 0);
        let [first, second, ..] = &self.cores[core.index()].levels.all;
        let (in_first, in_second) = (first.near_place(number), second.near_place(number));
        for (_, other) in self.cores.iter_mut().enumerate().filter(|(at, _)| *at != core.index()) {
            let [first, second, ..] = &mut other.levels.all;
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
        for (_, other) in self.cores.iter_mut().enumerate().filter(|(at, _)| *at != core.index()) {
            let [first, second, ..] = &mut other.levels.all;
            for mut copy in first.peek_near(in_first).into_iter().chain(second.peek_word(in_second)) {
                all |= copy.state();
                copy.take(state::DIRTY | state::OWNED);
            }
        }
        if all & state::DIRTY != 0
            && let Some(shared) = &mut self.shared
        {
            self.cores[core.index()].to_shared_near(shared, number, memory);
        }
        all
    }
}

impl Core {
    /// Puts a near line into the first level; a dirty one that makes way moves to the second one.
    #[inline(always)]
    fn put_near(&mut self, shared: &mut Level, in_first: Place, flags: u64, memory: &mut impl Memory) {
        if let Some((victim, was)) = self.levels.all[0].insert_near(in_first, flags) {
            self.to_second_near(shared, victim / LINE, was, memory);
        }
    }

    /// A dirty near line, which the first level let go of.
    #[inline(never)]
    fn to_second_near(&mut self, shared: &mut Level, number: u64, was: u64, memory: &mut impl Memory) {
        let second = &mut self.levels.all[1];
        let place = second.near_place(number);
        if let Some(mut copy) = second.peek_word(place) {
            copy.add(was & (state::DIRTY | state::OWNED));
        } else if let Some((victim, _)) = second.insert_near(place, was) {
            self.to_shared_near(shared, victim / LINE, memory);
        }
    }

    /// A dirty near line, which no level of the core's own has any longer, or which another core shares.
    #[inline]
    fn to_shared_near(&mut self, shared: &mut Level, number: u64, memory: &mut impl Memory) {
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
