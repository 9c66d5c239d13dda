//! Atomic operations.

use super::{Host, Poisoned};
use crate::cache::LINE;
use crate::coherence::machine::{Machine, PoisonHit};

impl Host<'_> {
    /// Puts `new` at `offset` if `current` is there, atomically. A full fence on x86.
    ///
    /// # Errors
    /// What was there instead.
    ///
    /// # Panics
    /// If `offset` is not a multiple of 8, or the line is poisoned; as all atomic operations here.
    pub fn compare_exchange(&self, offset: u64, current: u64, new: u64) -> Result<u64, u64> {
        let old = self.atomic(offset, "compare-exchange", |old| (old == current).then_some(new));
        if old == current { Ok(old) } else { Err(old) }
    }

    /// Adds to the eight bytes at `offset`, atomically; returns what was there.
    ///
    /// # Panics
    /// As [`Self::compare_exchange`].
    pub fn fetch_add(&self, offset: u64, summand: u64) -> u64 {
        self.atomic(offset, "fetch-add", |old| Some(old.wrapping_add(summand)))
    }

    /// Puts `new` at `offset`, atomically; returns what was there.
    ///
    /// # Panics
    /// As [`Self::compare_exchange`].
    pub fn swap(&self, offset: u64, new: u64) -> u64 {
        self.atomic(offset, "swap", |_| Some(new))
    }

    fn atomic(&self, offset: u64, word: &str, change: impl FnOnce(u64) -> Option<u64>) -> u64 {
        assert!(offset.is_multiple_of(8), "atomic operations are on multiples of 8, not on {offset:#x}");
        let range = self.range(offset, 8);
        let result = self.operation(
            |_| true,
            |machine| {
                machine.check_use(self.id, &range);
                machine.check_known_poison(self.id, &range, "changes");
                machine.before_atomic(self.id);
                let Some((line, span)) = Machine::spans(offset, 8).next() else { return Ok(0) };
                machine.touch(self.id, line, true);
                machine.loaded.clear();
                let mut bytes = [0; 8];
                machine.view(self.id, line, span.clone(), &mut bytes).map_err(|PoisonHit| line)?;
                let old = u64::from_le_bytes(bytes);
                self.loaded(machine, offset, true);
                let new = change(old);
                if let Some(new) = new {
                    let write = self.write(machine, line, &span, &new.to_le_bytes());
                    if machine.lines[line].coherent {
                        machine.store_now(self.id, line, write);
                    } else {
                        machine.private_store(self.id, line, write).map_err(|PoisonHit| line)?;
                    }
                }
                machine.log.event(machine.steps, self.id, || match new {
                    Some(new) => format!("{word} {}: {old} -> {new}", machine.labels.place(&range)),
                    None => format!("{word} {}: not done, {old} is there", machine.labels.place(&range)),
                });
                Ok(old)
            },
        );
        result.unwrap_or_else(|line: usize| panic!("{}", Poisoned { offset: line as u64 * LINE }))
    }
}
