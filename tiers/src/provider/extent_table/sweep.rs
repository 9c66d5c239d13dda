//! Sweeping: taking away what dead members hold.
//!
//! One sweeper at a time, so that a record that one of them has freed is not cleared by another that judged its former
//! holder. The sweeper's word names its seat; if that member dies, the next sweeper takes the word over.

use std::time::Duration;

use tiermem_sys::sync::atomic::Ordering;

use super::format::{Entry, GROUPS, MEMBERS, Phase, Seat};
use super::member::{Identity, state};
use super::{Erase, ExtentTable, Runs};

/// How hard to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Thoroughness {
    /// Which processes exist.
    Quick,
    /// Also whether they have become another program (exec) or zombies; reads `/proc/PID/maps`.
    Full,
}

/// How often, and how long, to wait for another sweeper: half a second in all, then space counts as short.
const PATIENCE: u32 = 500;
const PAUSE: Duration = Duration::from_millis(1);

impl ExtentTable {
    /// Removes the claims of dead members, erasing what nobody else holds; whether anything was found.
    pub(in crate::provider) fn sweep(&self, thoroughness: Thoroughness, erase: Erase<'_>) -> bool {
        let (Ok(seat), Ok(own)) = (self.ensure_seat(), Identity::own()) else { return false };
        let Some(word) = self.begin_sweep(seat, own) else { return false };
        let dead = self.find_dead(seat, own, thoroughness);
        let found = dead.iter().any(|&mask| mask != 0);
        if found {
            self.clear_entries(&dead, seat, erase);
            self.free_records(&dead);
        }
        // Release: the next sweeper sees what was done. If the word is not ours, it was taken for dead by mistake.
        let _ = self.live().sweeper.compare_exchange(word, 0, Ordering::Release, Ordering::Relaxed);
        found
    }

    /// Whether an image that ran in this very process before exec left claims behind: nobody else can tell it from us.
    pub(in crate::provider) fn has_former_self(&self) -> bool {
        let Ok(own) = Identity::own() else { return false };
        let former = |seat| {
            let record = self.record(seat);
            // Relaxed: a look ahead; the sweep looks again.
            state(record).phase() == Phase::Live && record.pid.load(Ordering::Relaxed) == own.pid
        };
        self.seats().any(|seat| former(seat) && self.is_dead(seat, own, Thoroughness::Quick))
    }

    /// Whether no other member is there, dead ones not counted.
    pub(in crate::provider) fn is_alone(&self) -> bool {
        let Ok(own) = Identity::own() else { return false };
        let free = |seat| state(self.record(seat)).phase() == Phase::Free;
        let mut others = self.seats().filter(|&seat| Some(seat) != self.seat());
        others.all(|seat| free(seat) || self.is_dead(seat, own, Thoroughness::Full))
    }

    /// Becomes the sweeper; `None` if another one is at it for too long.
    fn begin_sweep(&self, seat: Seat, own: Identity) -> Option<u64> {
        let generation = state(self.record(seat)).generation();
        let word = 1 << 63 | u64::from(generation & 0x7fff_ffff) << 32 | u64::from(Seat::pack(Some(seat)));
        let mut others = 0;
        for _ in 0..PATIENCE {
            // Acquire pairs with the Release at the end of a sweep.
            match self.live().sweeper.compare_exchange(others, word, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(word),
                Err(now) => {
                    others = if now != 0 && self.is_sweeper_dead(now, own) { now } else { 0 };
                    if others == 0 && now != 0 {
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        }
        None
    }

    fn is_sweeper_dead(&self, word: u64, own: Identity) -> bool {
        let Some(seat) = Seat::unpack(word as u32).filter(|s| usize::from(s.group) < GROUPS) else { return true };
        if usize::from(seat.index) >= MEMBERS {
            return true;
        }
        let now = state(self.record(seat));
        // Records are freed by sweepers only, and a member leaves only when it does not sweep.
        let same = now.phase() != Phase::Free && u64::from(now.generation() & 0x7fff_ffff) == word >> 32 & 0x7fff_ffff;
        !same || self.is_dead(seat, own, Thoroughness::Full)
    }

    fn seats(&self) -> impl Iterator<Item = Seat> + use<> {
        // Acquire pairs with the update before a group's first record is claimed.
        let groups = (self.live().groups_used.load(Ordering::Acquire) as usize).min(GROUPS);
        (0..groups).flat_map(|group| (0..MEMBERS).map(move |index| Seat { group: group as u16, index: index as u8 }))
    }

    /// Per group, the bits of its dead members.
    fn find_dead(&self, seat: Seat, own: Identity, thoroughness: Thoroughness) -> [u64; GROUPS] {
        let mut dead = [0; GROUPS];
        for other in self.seats().filter(|&other| other != seat) {
            if self.is_dead(other, own, thoroughness) {
                dead[usize::from(other.group)] |= 1 << other.index;
            }
        }
        dead
    }

    fn clear_entries(&self, dead: &[u64; GROUPS], seat: Seat, erase: Erase<'_>) {
        let mut runs = Runs::default();
        // A run that cannot be erased stays ours: lost until this process ends, but safe.
        let finish = |run| {
            let _ = self.erase_run(run, erase);
        };
        for granule in 0..self.granules {
            if self.bury(granule, dead, seat)
                && let Some(run) = runs.add(granule)
            {
                finish(run);
            }
        }
        if let Some(run) = runs.finish() {
            finish(run);
        }
        // Relaxed: a hint.
        self.hint.store(0, Ordering::Relaxed);
    }

    /// Clears the dead from one entry. If nobody is left we become its holder, and `true` says that it must be erased.
    fn bury(&self, granule: u32, dead: &[u64; GROUPS], seat: Seat) -> bool {
        loop {
            let entry = self.load(granule);
            let gone = dead.get(entry.group()).copied().unwrap_or(0) & entry.holders();
            if gone == 0 {
                return false;
            }
            let left = entry.holders() & !gone;
            let next = match left {
                0 => Entry(Entry::of(seat).0 | entry.0 & Entry::POISON),
                _ => Entry(entry.0 & !gone),
            };
            if self.replace(granule, entry, next).is_ok() {
                return left == 0;
            }
        }
    }

    fn free_records(&self, dead: &[u64; GROUPS]) {
        for seat in self.seats().filter(|seat| dead[usize::from(seat.group)] & 1 << seat.index != 0) {
            let record = self.record(seat);
            // Release: entries are clear before the record can be taken.
            record.state.store(state(record).freed().0, Ordering::Release);
        }
    }
}
