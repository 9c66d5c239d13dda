//! The way of an access through caches of the usual shape, where all lines are near.
//!
//! Usual are two private levels and a shared one, of powers of two of sets, without a prefetcher. A line is near where its
//! number is so small that sixteen bits of tag tell it from all others in the levels behind the first, and 24 bits in
//! the first. Where frames are counted from zero, that is all that a program has up to several GiB, and takes half the
//! instructions of the general way ([`Hierarchy::access_any`]), which does the same.

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
    /// [`expect`](Self::expect) of the near line with this number.
    #[inline(always)]
    pub(super) fn expect_near(&self, core: CoreIndex, number: u64) {
        if let ([_, second], Some(shared)) = (&self.cores[core.index()].levels[..], &self.shared) {
            second.expect(second.near_place(number));
            shared.expect(shared.near_place(number));
        }
    }

    /// [`access`](Self::access) of the near line with this number.
    #[inline(always)]
    pub(super) fn access_near(
        &mut self,
        core: CoreIndex,
        number: u64,
        store: bool,
        memory: &mut impl Memory,
    ) -> Lookup {
        let own = &mut self.cores[core.index()];
        let first = &mut own.levels[0];
        let Some(mut held) = first.touch_near(first.near_place(number)) else {
            return self.search_near(core, number, store, memory);
        };
        own.counts.hits[0] += 1;
        if store {
            let was = held.state();
            held.add(state::OWNED | state::DIRTY);
            if was & state::OWNED == 0 {
                self.take_from_others(core, number * LINE);
            }
        }
        Lookup::Hit(1)
    }

    /// The first level does not have it.
    #[inline(never)]
    fn search_near(&mut self, core: CoreIndex, number: u64, store: bool, memory: &mut impl Memory) -> Lookup {
        let is_alone = self.cores.len() == 1;
        let own = &mut self.cores[core.index()];
        let ([first, second], Some(shared)) = (&mut own.levels[..], &mut self.shared) else { return Lookup::Miss };
        let dirty = if store { state::DIRTY } else { 0 };
        let in_first = first.near_place(number);
        let in_second = second.near_place(number);
        if let Some(held) = second.touch_word(in_second) {
            own.counts.hits[1] += 1;
            let was = held.state();
            if store && was & state::OWNED == 0 {
                self.take_from_others(core, number * LINE);
            }
            let flags = state::VALID | was & state::OWNED;
            let owned = if store { state::OWNED } else { 0 };
            let first = &mut self.cores[core.index()].levels[0];
            let victim = first.insert_near(in_first, flags | owned | dirty);
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
        let victim = second.insert_near(in_second, flags);
        if victim.is_some() {
            self.move_on(core, 2, victim, memory);
        }
        let first = &mut self.cores[core.index()].levels[0];
        let victim = first.insert_near(in_first, flags | dirty);
        if victim.is_some() {
            self.move_on(core, 1, victim, memory);
        }
        found
    }
}
