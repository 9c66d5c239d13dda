//! A model of what an allocator owes its program: no two blocks overlap, contents stay, alignment is as asked, zeroed
//! memory is zero, and nothing is forgotten.

use std::collections::BTreeMap;
use std::sync::Mutex;
use tiermem_sys::sync::atomic::{AtomicU64, Ordering};

use tiermem::api;

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
}

/// The allocator itself.
pub struct Real;

impl Subject for Real {}

/// A block that the program holds.
pub struct Block {
    at: usize,
    pub size: usize,
    align: usize,
    fill: u8,
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
    Free {
        which: usize,
    },
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
    ledger: Mutex<BTreeMap<usize, usize>>,
    offered: Mutex<Vec<Block>>,
    next_fill: AtomicU64,
    /// Blocks allocated, moves included.
    pub allocations: AtomicU64,
}

pub type Checked<T> = Result<T, String>;

impl Model {
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
            Step::Allocate { size, align, zeroed } => held.push(self.allocate(subject, size, align, zeroed)?),
            Step::Reallocate { which, size } => {
                if let Some(i) = pick(which, held) {
                    self.reallocate(subject, &mut held[i], size)?;
                }
            }
            Step::Free { which } => {
                if let Some(i) = pick(which, held) {
                    self.free(held.swap_remove(i))?;
                }
            }
            Step::HandOver { which } => {
                if let Some(i) = pick(which, held) {
                    self.offered.lock().expect("no panic").push(held.swap_remove(i));
                }
            }
            Step::Receive => held.extend(self.offered.lock().expect("no panic").pop()),
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

    fn allocate(&self, subject: &impl Subject, size: usize, align: usize, zeroed: bool) -> Checked<Block> {
        let at = if zeroed { subject.allocate_zeroed(size, align) } else { subject.allocate(size, align) };
        let block = Block { at: at.addr(), size, align, fill: self.fill() };
        self.enter(&block)?;
        if zeroed && let Some(offset) = samples(size).find(|&offset| byte(&block, offset) != 0) {
            return Err(format!("a zeroed block of {size} bytes is not zero at {offset}"));
        }
        fill(&block);
        Ok(block)
    }

    fn reallocate(&self, subject: &impl Subject, block: &mut Block, size: usize) -> Checked<()> {
        self.check(block)?;
        // Out of the ledger first: when the block moves, another thread may get its memory before we are back.
        self.ledger.lock().expect("no panic").remove(&block.at);
        // SAFETY: the block is ours, and used through the result from here on.
        let at = unsafe { subject.reallocate(pointer(block, 0), block.size, size, block.align) };
        let kept = Block { at: at.addr(), size, ..*block };
        if at.addr() == block.at {
            self.allocations.fetch_sub(1, Ordering::Relaxed);
        }
        self.enter(&kept)?;
        check_fill(&kept, block.size.min(size), "reallocate")?;
        *block = Block { fill: self.fill(), ..kept };
        fill(block);
        Ok(())
    }

    /// Checks a block a last time and frees it.
    pub fn free(&self, block: Block) -> Checked<()> {
        self.check(&block)?;
        self.ledger.lock().expect("no panic").remove(&block.at);
        // SAFETY: the block is ours, and was just forgotten.
        unsafe { api::free(pointer(&block, 0)) };
        Ok(())
    }

    /// What was handed over and nobody took.
    pub fn left_over(&self) -> Vec<Block> {
        std::mem::take(&mut *self.offered.lock().expect("no panic"))
    }

    fn check(&self, block: &Block) -> Checked<()> {
        check_fill(block, block.size, "holding")
    }

    fn fill(&self) -> u8 {
        (self.next_fill.fetch_add(1, Ordering::Relaxed) % 255) as u8 + 1
    }

    fn enter(&self, block: &Block) -> Checked<()> {
        let Block { at, size, align, .. } = *block;
        if at == 0 {
            return Err(format!("no memory for {size} bytes"));
        }
        if !at.is_multiple_of(align.max(16)) {
            return Err(format!("{at:#x} is not aligned to {align} ({size} bytes)"));
        }
        let usable = api::usable_size(pointer(block, 0));
        let end = at + size.max(1);
        let mut ledger = self.ledger.lock().expect("no panic");
        if let Some((start, before_end)) = ledger.range(..end).next_back().filter(|&(_, &other)| other > at) {
            return Err(format!("{at:#x}..{end:#x} overlaps {start:#x}..{before_end:#x}"));
        }
        if usable < size {
            return Err(format!("{usable} usable bytes of {size} asked for"));
        }
        ledger.insert(at, end);
        self.allocations.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn pointer(block: &Block, offset: usize) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(block.at + offset)
}

fn byte(block: &Block, offset: usize) -> u8 {
    // SAFETY: within a block that is held.
    unsafe { pointer(block, offset).read() }
}

fn fill(block: &Block) {
    // SAFETY: within a block that is held.
    unsafe { pointer(block, 0).write_bytes(block.fill, block.size) };
}

fn check_fill(block: &Block, size: usize, when: &str) -> Checked<()> {
    match samples(size).find(|&offset| byte(block, offset) != block.fill) {
        Some(offset) => Err(format!("{when}: byte {offset} of {} was changed", block.size)),
        None => Ok(()),
    }
}

/// Where a block of this size is looked at: its ends, and a byte here and there.
fn samples(size: usize) -> impl Iterator<Item = usize> {
    let ends = (0..size.min(64)).chain(size.saturating_sub(64)..size);
    ends.chain((0..size).step_by(509))
}
