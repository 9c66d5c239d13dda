//! What comes after a crash, and what must hold at the end.

use tiermem_emulator::coherence::Host;

use super::{ALICE, BLOCKS, BOB, FreeList, HEAD, LOCK, NOBODY, RECOVERY, Step};

impl FreeList {
    /// Puts the list in order after a crash, beside those who live: takes over the lock, finishes what was begun, and
    /// gives back the blocks of the dead. It may crash itself, and be followed by another.
    pub fn recover(self, host: &Host<'_>) {
        let dead = [(ALICE, "alice"), (BOB, "bob")].map(|(id, name)| host.has_crashed(name).then_some(id));
        // A lock in the name of a recovery was left by an earlier one.
        self.lock(host, RECOVERY, |holder| [NOBODY, RECOVERY].contains(&holder) || dead.contains(&Some(holder)));
        for block in 0..BLOCKS {
            let owner = host.load_u64(self.header(block) + 8);
            let orphaned = owner != NOBODY && (dead.contains(&Some(owner)) || !self.does(Step::ReclaimOnlyFromTheDead));
            if orphaned && self.does(Step::ReclaimBlocks) {
                host.reclaimed(self.block(block));
                self.put(host, block);
            }
        }
        host.store_u64(LOCK, NOBODY);
    }

    /// Each block is on the list once, or belongs to somebody who lives.
    pub fn check(self, host: &Host<'_>) {
        let mut listed = [false; BLOCKS as usize];
        let mut head = host.load_u64(HEAD);
        while let Some(block) = head.checked_sub(1) {
            assert!(!std::mem::replace(&mut listed[block as usize], true), "block {block} is on the list twice");
            head = host.load_u64(self.header(block));
        }
        for block in 0..BLOCKS {
            let owned = match host.load_u64(self.header(block) + 8) {
                ALICE => !host.has_crashed("alice"),
                BOB => !host.has_crashed("bob"),
                _ => false,
            };
            assert!(listed[block as usize] != owned, "block {block} is lost, or both free and in use");
        }
    }
}
