//! What a program says about its memory, so that the detectors know what must hold. None of it takes time: a remark
//! belongs to the operation before it. Nothing of it exists on real hosts.

use std::ops::Range;

use super::Host;

impl Host<'_> {
    /// The range is about to be told to others, who may then read it as one object; it must have left the cache. A load
    /// over several lines of it must see one such version.
    pub fn publish(&self, range: Range<u64>) {
        self.remark(&range, "publishes", |machine, range| machine.publish(self.id, range));
    }

    /// What this host has stored in the range outlives its crash, and a loss of power, from here on (because a commit
    /// has returned, say). Until others store there, or the range is [freed](Self::freed) or [erased](Self::erased).
    pub fn promise_durable(&self, range: Range<u64>) {
        self.remark(&range, "promises durable", |machine, range| machine.promise(self.id, range));
        self.persist_point();
    }

    /// A lease or a generation of the range begins, and this host uses the range under it. Say it *after* the operation
    /// that obtained it.
    pub fn lease_begin(&self, range: Range<u64>, id: u64) {
        self.remark(&range, &format!("begins lease {id} of"), |machine, range| {
            machine.lease_begin(self.id, range, id);
        });
    }

    /// A lease or a generation ends, whoever had it: given back, revoked, expired, freed. Say it *before* the operation
    /// by which others learn of it.
    pub fn lease_end(&self, range: Range<u64>, id: u64) {
        self.remark(&range, &format!("ends lease {id} of"), |machine, range| machine.lease_end(self.id, range, id));
    }

    /// From here on this host's loads and stores in the range happen under a lease or generation that has begun before.
    pub fn using(&self, range: Range<u64>, id: u64) {
        self.remark(&range, &format!("uses, under lease {id},"), |machine, range| {
            machine.declare_use(self.id, range, id);
        });
    }

    /// This host no longer relies on a lease or a generation in the range.
    pub fn not_using(&self, range: Range<u64>) {
        self.remark(&range, "stops using", |machine, range| machine.undeclare_use(self.id, range));
    }

    /// The range has been handed out to this host. Say it *after* the operation that took it.
    pub fn allocated(&self, range: Range<u64>) {
        self.remark(&range, "has allocated", |machine, range| machine.allocated(self.id, range));
    }

    /// The range is given back by its holder. Say it *before* the operation that makes it available.
    pub fn freed(&self, range: Range<u64>) {
        self.remark(&range, "frees", |machine, range| machine.freed(self.id, range));
    }

    /// A recovery makes the range available because whoever had it has crashed. It may not have come as far as to be
    /// [allocated](Self::allocated): a crash between the two is what recoveries are for. Say it *before* the operation
    /// that makes the range available.
    pub fn reclaimed(&self, range: Range<u64>) {
        self.remark(&range, "reclaims", |machine, range| machine.reclaimed(self.id, range));
    }

    /// What has been stored in the range, and this host has there now, must be gone after [`Self::erased`].
    pub fn secret(&self, range: Range<u64>) {
        self.remark(&range, "declares secret", |machine, range| machine.secret(self.id, range));
    }

    /// The range has been erased: its [secrets](Self::secret) are neither in the pool nor in a dirty line of any host,
    /// and do not come back.
    pub fn erased(&self, range: Range<u64>) {
        self.remark(&range, "declares erased", |machine, range| machine.erased(self.id, range));
    }

    /// The range will not be used any more, because lines of it are poisoned.
    pub fn quarantined(&self, range: Range<u64>) {
        self.remark(&range, "quarantines", |machine, range| machine.quarantined(range));
    }

    /// Poison in the range is over: the device has been told to clear it, and has filled the lines with zeroes.
    pub fn poison_cleared(&self, range: Range<u64>) {
        self.remark(&range, "clears poison of", |machine, range| machine.clear_poison(range));
    }

    fn remark(&self, range: &Range<u64>, words: &str, act: impl FnOnce(&mut super::Machine, &Range<u64>)) {
        #[expect(clippy::cast_possible_truncation, reason = "pools are in memory")]
        let range = self.range(range.start, range.end.saturating_sub(range.start) as usize);
        self.local(|machine| {
            // Nobody hears of it before a later store, and a store fence has put that one behind its flushes.
            machine.finish_due(self.id, u32::MAX);
            machine.log.event(machine.steps, self.id, || format!("{words} {}", machine.labels.place(&range)));
            act(machine, &range);
        });
    }

    /// Lets a crash come right here.
    pub(in super::super) fn persist_point(&self) {
        self.operation(|machine| machine.may_die(self.id), |_| ());
    }
}
