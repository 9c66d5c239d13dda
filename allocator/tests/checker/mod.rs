//! A model of what an allocator owes its program: no two blocks overlap, contents stay, alignment is as asked, zeroed
//! memory is zero, all of the usable size can be used, a refused request changes nothing, and nothing is forgotten.

use std::collections::BTreeMap;
use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicU64, Ordering};

use tiermem::api;

use crate::contents::{check_fill, check_zero, fill};

/// What is checked.
pub trait Subject: Sync {
    fn allocate(&self, size: usize, align: usize) -> *mut u8 {
        api::allocate_aligned(size, align)
    }

    fn allocate_zeroed(&self, size: usize, align: usize) -> *mut u8 {
        api::allocate_zeroed(size, align)
    }

    /// # Safety
    /// As [`api::reallocate`].
    unsafe fn reallocate(&self, at: *mut u8, _old: usize, size: usize, align: usize) -> *mut u8 {
        // SAFETY: passed on to the caller.
        unsafe { api::reallocate(at, size, align) }
    }

    fn usable_size(&self, at: *const u8) -> usize {
        api::usable_size(at)
    }
}

/// The allocator itself.
pub struct Real;

impl Subject for Real {}

/// A block that the program holds.
pub struct Block {
    at: usize,
    /// What the program uses of it: what it asked for, or all that it may.
    size: usize,
    align: usize,
    fill: u8,
}

/// A new size that depends on the old one, where the ways of resizing differ.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    OneMore,
    OneLess,
    AnEighthMore,
    Double,
    ThreeQuarters,
    JustUnderHalf,
    ToTheUnit,
    ToTheExtent,
    PastTheExtent,
}

impl Change {
    /// The size after the change of a block of `size` bytes, within `max`.
    fn of(self, size: usize, max: usize) -> usize {
        const UNIT: usize = 64 << 10;
        const EXTENT: usize = 2 << 20;
        let wanted = match self {
            Self::OneMore => size + 1,
            Self::OneLess => size.saturating_sub(1),
            Self::AnEighthMore => size + size / 8,
            Self::Double => 2 * size,
            Self::ThreeQuarters => size - size / 4,
            Self::JustUnderHalf => (size / 2).saturating_sub(1),
            Self::ToTheUnit => size.next_multiple_of(UNIT),
            Self::ToTheExtent => size.next_multiple_of(EXTENT),
            Self::PastTheExtent => size.next_multiple_of(EXTENT) + 1,
        };
        wanted.min(max)
    }
}

/// One step of a program.
#[derive(Clone, Debug)]
pub enum Step {
    Allocate {
        size: usize,
        align: usize,
        zeroed: bool,
    },
    Reallocate {
        which: usize,
        size: usize,
    },
    /// Changes a block's size by a measure of its own size, to no more than `max`.
    Resize {
        which: usize,
        change: Change,
        max: usize,
    },
    /// Uses all bytes that the allocator says the block has.
    UseAll {
        which: usize,
    },
    Free {
        which: usize,
    },
    /// Has everything that is free given back to the tiers.
    Purge,
    /// Gives a block to whichever thread takes it.
    HandOver {
        which: usize,
    },
    Receive,
    PushHint(u8),
    PopHint,
}

/// What all threads share.
#[derive(Default)]
pub struct Model {
    /// Start to end of every block in use.
    ledger: Lock<BTreeMap<usize, usize>>,
    offered: Lock<Vec<Block>>,
    next_fill: AtomicU64,
    /// Blocks allocated, moves included.
    pub allocations: AtomicU64,
    /// Whether a request may be refused for want of memory.
    may_refuse: bool,
    /// Requests that were.
    pub refused: AtomicU64,
}

pub type Checked<T> = Result<T, String>;

impl Model {
    /// A model of an allocator that may, or may not, refuse requests for want of memory.
    pub fn new(may_refuse: bool) -> Self {
        Self { may_refuse, ..Self::default() }
    }

    /// Runs one thread's steps. Gives back what it holds at the end.
    pub fn run(&self, subject: &impl Subject, steps: &[Step]) -> Checked<Vec<Block>> {
        let mut held = Vec::new();
        let mut depth = 0;
        for step in steps {
            self.step(subject, step, &mut held, &mut depth)?;
        }
        for _ in 0..depth {
            tiermem::pop_hint();
        }
        Ok(held)
    }

    fn step(&self, subject: &impl Subject, step: &Step, held: &mut Vec<Block>, depth: &mut u32) -> Checked<()> {
        let pick = |which: usize, held: &Vec<Block>| (!held.is_empty()).then(|| which % held.len());
        match *step {
            Step::Allocate { size, align, zeroed } => held.extend(self.allocate(subject, size, align, zeroed)?),
            Step::Reallocate { which, .. } | Step::Resize { which, .. } | Step::UseAll { which } => {
                if let Some(i) = pick(which, held) {
                    self.change(subject, step, &mut held[i])?;
                }
            }
            Step::Free { which } => {
                if let Some(i) = pick(which, held) {
                    self.free(held.swap_remove(i))?;
                }
            }
            Step::Purge => _ = tiermem::purge::purge_now(),
            Step::HandOver { which } => {
                if let Some(i) = pick(which, held) {
                    self.offered.lock().push(held.swap_remove(i));
                }
            }
            Step::Receive => held.extend(self.offered.lock().pop()),
            Step::PushHint(number) => {
                let count = tiermem::tier_count();
                let tier = tiermem::tier_numbered(number % count as u8).ok_or("a tier below the count is missing")?;
                *depth += u32::from(tiermem::push_hint(tier));
            }
            Step::PopHint => {
                let popped = tiermem::pop_hint();
                if popped != (*depth > 0) {
                    return Err(format!("pop_hint gave {popped} at depth {depth}"));
                }
                *depth -= u32::from(popped);
            }
        }
        Ok(())
    }

    /// The steps that change a block.
    fn change(&self, subject: &impl Subject, step: &Step, block: &mut Block) -> Checked<()> {
        match *step {
            Step::Resize { change, max, .. } => self.reallocate(subject, block, change.of(block.size, max)),
            Step::UseAll { .. } => self.use_all(subject, block),
            Step::Reallocate { size, .. } => self.reallocate(subject, block, size),
            _ => Ok(()),
        }
    }

    fn allocate(&self, subject: &impl Subject, size: usize, align: usize, zeroed: bool) -> Checked<Option<Block>> {
        let at = if zeroed { subject.allocate_zeroed(size, align) } else { subject.allocate(size, align) };
        if at.is_null() {
            self.refusal(size)?;
            return Ok(None);
        }
        let block = Block { at: at.addr(), size, align, fill: self.fill() };
        self.enter(subject, &block)?;
        if zeroed {
            check_zero(at, size)?;
        }
        fill(at, size, block.fill);
        Ok(Some(block))
    }

    fn reallocate(&self, subject: &impl Subject, block: &mut Block, size: usize) -> Checked<()> {
        self.check(block)?;
        // Out of the ledger first: when the block moves, another thread may get its memory before we are back.
        self.ledger.lock().remove(&block.at);
        // SAFETY: the block is ours, and used through the result from here on.
        let at = unsafe { subject.reallocate(pointer(block), block.size, size, block.align) };
        if at.is_null() {
            self.refusal(size)?;
            // It stays as it is: nobody else may have got it.
            self.enter(subject, block)?;
            self.allocations.fetch_sub(1, Ordering::Relaxed);
            return self.check(block);
        }
        let kept = Block { at: at.addr(), size, ..*block };
        if at.addr() == block.at {
            self.allocations.fetch_sub(1, Ordering::Relaxed);
        }
        self.enter(subject, &kept)?;
        check_fill(at, block.size.min(size), block.fill, "reallocate")?;
        *block = Block { fill: self.fill(), ..kept };
        fill(at, size, block.fill);
        Ok(())
    }

    /// What `usable_size` says is the program's to use, and overlaps nothing.
    fn use_all(&self, subject: &impl Subject, block: &mut Block) -> Checked<()> {
        self.check(block)?;
        self.ledger.lock().remove(&block.at);
        block.size = subject.usable_size(pointer(block));
        self.enter(subject, block)?;
        self.allocations.fetch_sub(1, Ordering::Relaxed);
        fill(pointer(block), block.size, block.fill);
        Ok(())
    }

    fn refusal(&self, size: usize) -> Checked<()> {
        let errno = std::io::Error::last_os_error().raw_os_error();
        self.refused.fetch_add(1, Ordering::Relaxed);
        match errno {
            _ if !self.may_refuse => Err(format!("no memory for {size} bytes")),
            Some(tiermem::errno::ENOMEM) => Ok(()),
            other => Err(format!("{size} bytes were refused with errno {other:?}")),
        }
    }

    /// Checks a block a last time and frees it.
    pub fn free(&self, block: Block) -> Checked<()> {
        self.check(&block)?;
        self.ledger.lock().remove(&block.at);
        // SAFETY: the block is ours, and was just forgotten.
        unsafe { api::free(pointer(&block)) };
        Ok(())
    }

    /// What was handed over and nobody took.
    pub fn left_over(&self) -> Vec<Block> {
        std::mem::take(&mut *self.offered.lock())
    }

    fn check(&self, block: &Block) -> Checked<()> {
        check_fill(pointer(block), block.size, block.fill, "holding")
    }

    fn fill(&self) -> u8 {
        (self.next_fill.fetch_add(1, Ordering::Relaxed) % 255) as u8 + 1
    }

    fn enter(&self, subject: &impl Subject, block: &Block) -> Checked<()> {
        let Block { at, size, align, .. } = *block;
        if !at.is_multiple_of(align.max(16)) {
            return Err(format!("{at:#x} is not aligned to {align} ({size} bytes)"));
        }
        let usable = subject.usable_size(pointer(block));
        let end = at + size.max(1);
        let mut ledger = self.ledger.lock();
        if let Some((start, before_end)) = ledger.range(..end).next_back().filter(|&(_, &other)| other > at) {
            return Err(format!("{at:#x}..{end:#x} overlaps {start:#x}..{before_end:#x}"));
        }
        if usable < size {
            return Err(format!("{usable} usable bytes of {size} asked for"));
        }
        if tiermem::tier_of(pointer(block)).is_none_or(|tier| tier.index() >= tiermem::tier_count()) {
            return Err(format!("{at:#x} lies on no tier"));
        }
        ledger.insert(at, end);
        self.allocations.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn pointer(block: &Block) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(block.at)
}
