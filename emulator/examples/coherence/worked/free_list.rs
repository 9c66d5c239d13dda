//! A free list of blocks that several hosts share, and that outlives crashes of hosts and a loss of power.
//!
//! ```text
//!  0        64       128      192            384
//!  | lock   | record | head   | 3 headers    | 3 blocks |
//!  |coherent|<------------- not coherent ------------->|
//! ```
//!
//! Whoever has the lock may change the list. Each change is written as a record first, then carried out, then the record
//! is cleared (a redo log); what has to come before is written back and fenced before the next step. The lock of a host
//! that crashed is taken over by a recovery, which gives back its blocks as well. A coherent word dies with the cache
//! that holds it, though: a crash may open the lock by itself. So whoever gets the lock finishes what the record says.

mod recovery;

use std::ops::Range;

use tiermem_emulator::coherence::{Detector, FindingKind, Host, Scenario};

use super::{LINE, Steps};

/// A step of the protocol that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Takes the lock by compare-and-exchange, not by a load and a store.
    LockAtomically,
    /// Drops old copies of the list once it has the lock.
    Refresh,
    /// Writes a block back before it is given back: its lines must not be written back when others have them.
    CleanBlock,
    /// Writes down what is going to change before it changes it.
    Record,
    /// Writes the record back before the mark that makes it valid.
    CleanRecord,
    /// Writes the changed list back before the record is cleared.
    CleanList,
    /// Clears the record when all is done.
    ClearRecord,
    /// Finishes what a record says that somebody has left.
    FinishRecord,
    /// A recovery gives back the blocks of those who crashed.
    ReclaimBlocks,
    /// A recovery leaves the blocks of those who live alone.
    ReclaimOnlyFromTheDead,
}

impl Steps for Step {
    const ALL: &'static [Self] = &[
        Self::LockAtomically,
        Self::Refresh,
        Self::CleanBlock,
        Self::Record,
        Self::CleanRecord,
        Self::CleanList,
        Self::ClearRecord,
        Self::FinishRecord,
        Self::ReclaimBlocks,
        Self::ReclaimOnlyFromTheDead,
    ];

    fn expected(self) -> &'static [FindingKind] {
        use Detector::{DoubleAllocation, LostAtCrash, PublishBeforeFlush, StaleRead, WriteBackOverNewer};
        use FindingKind::{Detected, Panic};
        match self {
            // Two who change the list at once break it in many ways.
            Self::LockAtomically => {
                &[Detected(DoubleAllocation), Detected(WriteBackOverNewer), Detected(StaleRead), Panic]
            }
            Self::Refresh => &[Detected(StaleRead)],
            Self::CleanBlock => &[Detected(WriteBackOverNewer)],
            Self::CleanList => &[Detected(PublishBeforeFlush), Detected(LostAtCrash)],
            Self::Record | Self::FinishRecord => &[Detected(LostAtCrash), Panic],
            Self::CleanRecord | Self::ClearRecord => &[Detected(LostAtCrash)],
            Self::ReclaimBlocks => &[Panic],
            Self::ReclaimOnlyFromTheDead => &[Detected(DoubleAllocation)],
        }
    }

    fn scenario(left_out: Option<Self>, scenario: &mut Scenario) {
        let list = FreeList { left_out };
        list.lay_out(scenario);
        scenario.host_that_may_crash("alice", move |host| {
            let first = list.allocate(host, ALICE).expect("there are enough blocks");
            let second = list.allocate(host, ALICE).expect("there are enough blocks");
            host.store_u64(list.block(second).start, ALICE);
            list.free(host, ALICE, first);
        });
        scenario.host("bob", move |host| {
            let block = list.allocate(host, BOB).expect("there are enough blocks");
            let place = list.block(block).start;
            host.store_u64(place, BOB);
            assert_eq!(host.load_u64(place), BOB, "somebody else has written to it");
            list.free(host, BOB, block);
        });
        scenario.power_may_fail();
        scenario.recovery(move |host| list.recover(host));
        scenario.finally(move |host| list.check(host));
    }
}

const LOCK: u64 = 0;
const RECORD: u64 = LINE;
/// Offset of the mark that makes a record valid: a line may be torn between it and the record.
const VALID: u64 = RECORD + 32;
const HEAD: u64 = 2 * LINE;
const FIRST_HEADER: u64 = 3 * LINE;
const BLOCKS: u64 = 3;
/// Record, head and headers.
const LIST: Range<u64> = RECORD..FIRST_HEADER + BLOCKS * LINE;

/// Who has the lock, or a block.
const NOBODY: u64 = 0;
const ALICE: u64 = 1;
const BOB: u64 = 2;
const RECOVERY: u64 = 3;

/// A change of the list, whole in one line.
#[derive(Clone, Copy, Debug)]
struct Change {
    block: u64,
    owner: u64,
    /// The block that comes after it from now on, and the first one; plus one.
    next: u64,
    head: u64,
}

/// The free list. All that it knows is in the pool.
#[derive(Clone, Copy, Debug)]
pub struct FreeList {
    left_out: Option<Step>,
}

impl FreeList {
    fn does(self, step: Step) -> bool {
        self.left_out != Some(step)
    }

    /// All blocks are free.
    fn lay_out(self, scenario: &mut Scenario) {
        scenario.pool(self.block(BLOCKS).start).coherent(LOCK..RECORD).initial_u64(HEAD, 1);
        for block in 0..BLOCKS {
            let header = self.header(block);
            scenario.initial_u64(header, if block + 1 < BLOCKS { block + 2 } else { 0 });
            scenario.label(header..header + LINE, format_args!("header {block}"));
            scenario.label(header..header + 8, format_args!("next {block}"));
            scenario.label(header + 8..header + 16, format_args!("owner {block}"));
            scenario.label(self.block(block), format_args!("block {block}"));
        }
        let rest = [
            (LOCK..LOCK + 8, "lock"),
            (RECORD..VALID, "record"),
            (VALID..VALID + 8, "valid"),
            (HEAD..HEAD + 8, "head"),
            (LIST, "list"),
        ];
        for (range, name) in rest {
            scenario.label(range, name);
        }
    }

    /// Eight bytes each: the next free block, plus one; the owner.
    fn header(self, block: u64) -> u64 {
        FIRST_HEADER + block * LINE
    }

    /// The memory that is handed out.
    pub fn block(self, block: u64) -> Range<u64> {
        let start = LIST.end + block * LINE;
        start..start + LINE
    }

    /// Takes a block for `me`: it is `me`'s when this returns, whatever crashes. Nothing, if none is left.
    pub fn allocate(self, host: &Host<'_>, me: u64) -> Option<u64> {
        self.lock(host, me, |holder| holder == NOBODY);
        let head = host.load_u64(HEAD);
        let block = head.checked_sub(1);
        if let Some(block) = block {
            let next = host.load_u64(self.header(block));
            self.commit(host, Change { block, owner: me, next: 0, head: next });
            host.allocated(self.block(block));
            host.promise_durable(self.header(block)..self.header(block) + 16);
        }
        host.store_u64(LOCK, NOBODY);
        block
    }

    /// Gives a block of `me` back.
    pub fn free(self, host: &Host<'_>, me: u64, block: u64) {
        if self.does(Step::CleanBlock) {
            host.flush(self.block(block));
            host.fence();
        }
        self.lock(host, me, |holder| holder == NOBODY);
        host.freed(self.block(block));
        self.put(host, block);
        host.store_u64(LOCK, NOBODY);
    }

    fn put(self, host: &Host<'_>, block: u64) {
        let head = host.load_u64(HEAD);
        self.commit(host, Change { block, owner: NOBODY, next: head, head: block + 1 });
    }

    /// Gets the lock from a holder that is `takeable`, and the list as it is now.
    fn lock(self, host: &Host<'_>, me: u64, takeable: impl Fn(u64) -> bool) {
        loop {
            let holder = host.load_u64(LOCK);
            if !takeable(holder) {
                host.pause();
            } else if !self.does(Step::LockAtomically) {
                host.store_u64(LOCK, me);
                break;
            } else if host.compare_exchange(LOCK, holder, me).is_ok() {
                break;
            }
        }
        if self.does(Step::Refresh) {
            host.flush(LIST);
            host.fence();
        }
        if self.does(Step::FinishRecord) && host.load_u64(VALID) == 1 {
            let [block, owner, next, head] = [0, 8, 16, 24].map(|at| host.load_u64(RECORD + at));
            self.carry_out(host, Change { block, owner, next, head });
        }
    }

    /// Changes the list so that a crash leaves all of the change or nothing.
    fn commit(self, host: &Host<'_>, change: Change) {
        if self.does(Step::Record) {
            let Change { block, owner, next, head } = change;
            let words = [block, owner, next, head].map(u64::to_le_bytes);
            host.store(RECORD, words.as_flattened());
            if self.does(Step::CleanRecord) {
                write_back(host, RECORD..VALID);
            }
            host.store_u64(VALID, 1);
            write_back(host, RECORD..HEAD);
        }
        self.carry_out(host, change);
    }

    fn carry_out(self, host: &Host<'_>, change: Change) {
        let header = self.header(change.block);
        host.store_u64(header, change.next);
        host.store_u64(header + 8, change.owner);
        host.store_u64(HEAD, change.head);
        if self.does(Step::CleanList) {
            host.clean(header..header + LINE);
            write_back(host, HEAD..HEAD + LINE);
        }
        if self.does(Step::ClearRecord) {
            host.store_u64(VALID, 0);
            write_back(host, RECORD..HEAD);
        }
    }
}

fn write_back(host: &Host<'_>, range: Range<u64>) {
    host.clean(range);
    host.fence();
}
