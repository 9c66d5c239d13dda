//! The way of an access through caches of the usual shape, where all lines are near.
//!
//! Usual are two private levels and a shared one, of powers of two of sets, without a prefetcher. A line is near where its
//! number is so small that sixteen bits of tag tell it from all others in the levels behind the first, and 24 bits in
//! the first. Where frames are counted from zero, that is all that a program has up to several GiB, and takes half the
//! instructions of the general way (`in_first_any` and `search` of [`Hierarchy`]), which does the same.

use super::level::Level;
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
                self.take_from_others(core, number * LINE);
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
        let Some(shared) = &mut self.shared else { return Lookup::Miss };
        let dirty = if store { state::DIRTY } else { 0 };
        let (in_first, in_second) = (first.near_place(number), second.near_place(number));
        if let Some(held) = second.touch_word(in_second) {
            own.counts.hits[1] += 1;
            let owned = held.state() & state::OWNED;
            if store && owned == 0 {
                self.found_behind(core, number * LINE, (1, 0), store, memory);
                return Lookup::Hit(2);
            }
            let victim = first.insert_near(in_first, state::VALID | owned | dirty);
            if victim.is_some() {
                self.move_on(core, 1, victim, memory);
            }
            return Lookup::Hit(2);
        }
        if !is_alone {
            return self.miss_own(core, number * LINE, store, memory);
        }
        let in_shared = shared.near_place(number);
        let found = if shared.touch_word(in_shared).is_some() {
            own.counts.hits[2] += 1;
            Lookup::Hit(3)
        } else {
            own.counts.misses += 1;
            if let Some((victim, _)) = shared.insert_near(in_shared, state::VALID) {
                own.counts.written_back += 1;
                memory.traffic(Traffic::WriteBack(victim));
            }
            Lookup::Miss
        };
        let flags = state::VALID | state::OWNED;
        let passed_on = second.insert_near(in_second, flags);
        // What the second level drops leaves first.
        if passed_on.is_some() {
            self.move_on(core, 2, passed_on, memory);
        }
        let first = &mut self.cores[core.index()].levels.all[0];
        let victim = first.insert_near(in_first, flags | dirty);
        if victim.is_some() {
            self.move_on(core, 1, victim, memory);
        }
        found
    }
}
