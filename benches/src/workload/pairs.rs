//! Bare allocation calls in fixed orders. Under callgrind the difference between `ops=N` and `ops=2N` is exactly what N
//! pairs cost; `order=…-loop` runs the same loop without the calls, so that its own share can be taken off.

use std::ffi::c_void;
use std::hint::black_box;
use std::ptr::null_mut;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use super::heap::{aligned_alloc, calloc, free, malloc, realloc};
use super::{Parameters, Random};

/// Blocks live at the deepest point of a batch: several spans of each size class, so that the order matters (spans fill
/// up, empty and change lists), and more than any thread cache's list.
const DEEP: usize = 1 << 14;
/// Few enough blocks to stay within one span of each class: the fast paths alone.
const SHALLOW: usize = 1 << 8;
const ALIGN: usize = 64;
/// What a block grows through in the order `realloc`, by about 1.6 each time.
const GROWTH_BYTES: [usize; 8] = [24, 40, 64, 104, 168, 272, 440, 712];

/// What a batch does.
#[derive(Clone, Copy, Debug)]
struct Order {
    name: &'static str,
    /// Blocks that are live at the end of its first half.
    depth: usize,
    /// Sizes: the least, and how many octaves from there.
    sizes: (usize, u32),
    victims: Victims,
    calls: Calls,
}

/// The sequence in which a batch's blocks are freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victims {
    Lifo,
    Fifo,
    Random,
}

/// Which functions are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    Malloc,
    Calloc,
    Aligned,
    /// Each block grows through [`GROWTH_BYTES`]; what is counted is one resize, with its share of malloc and free.
    Realloc,
    /// `malloc` in one thread, `free` in another, never both at a time.
    Remote,
}

const fn order(name: &'static str, depth: usize, sizes: (usize, u32), victims: Victims, calls: Calls) -> Order {
    Order { name, depth, sizes, victims, calls }
}

const SMALL: (usize, u32) = (16, 4);

const ORDERS: [Order; 10] = [
    order("shallow", SHALLOW, SMALL, Victims::Random, Calls::Malloc),
    order("lifo", DEEP, SMALL, Victims::Lifo, Calls::Malloc),
    order("fifo", DEEP, SMALL, Victims::Fifo, Calls::Malloc),
    order("random", DEEP, SMALL, Victims::Random, Calls::Malloc),
    order("medium", 1 << 11, (1 << 10, 5), Victims::Random, Calls::Malloc),
    order("large", 1 << 4, (64 << 10, 4), Victims::Random, Calls::Malloc),
    order("calloc", DEEP, SMALL, Victims::Random, Calls::Calloc),
    order("aligned", DEEP, SMALL, Victims::Random, Calls::Aligned),
    order("realloc", 1 << 10, SMALL, Victims::Random, Calls::Realloc),
    order("remote", DEEP, SMALL, Victims::Random, Calls::Remote),
];

impl Order {
    /// Pairs of a batch.
    fn pairs(&self) -> usize {
        self.depth * if self.calls == Calls::Realloc { GROWTH_BYTES.len() } else { 1 }
    }
}

/// The amounts and the sequence of one batch, and room for its blocks.
struct Batch {
    sizes: Vec<usize>,
    frees: Vec<u16>,
    blocks: Vec<*mut c_void>,
}

// SAFETY: the blocks are plain memory that one thread at a time touches; the C heap may free on any thread.
unsafe impl Send for Batch {}

/// `ops` pairs in batches in the `order` of that name.
pub fn run(parameters: &Parameters) -> Value {
    let wanted = parameters.word("order", "lifo");
    let (name, with_calls) = wanted.strip_suffix("-loop").map_or((wanted, true), |name| (name, false));
    let Some(order) = ORDERS.iter().find(|order| order.name == name) else {
        let names = ORDERS.map(|order| order.name).join(", ");
        panic!("order={wanted}: expected one of {names}, with -loop for the loop alone");
    };
    let batches = parameters.number("ops", 20_000_000).div_ceil(order.pairs());
    let mut random = Random::new(1);
    let (low, octaves) = order.sizes;
    let mut batch = Batch {
        sizes: (0..order.depth).map(|_| random.skewed(low, octaves)).collect(),
        frees: free_order(order.victims, order.depth, &mut random),
        blocks: vec![null_mut(); order.depth],
    };
    match (with_calls, order.calls) {
        (true, Calls::Remote) => remote(&mut batch, batches),
        (true, calls) => (0..batches).for_each(|_| batch.with_calls(calls)),
        (false, Calls::Realloc) => (0..batches).for_each(|_| batch.growth_alone()),
        (false, _) => (0..batches).for_each(|_| batch.alone()),
    }
    json!({ "pairs": batches * order.pairs(), "order": name })
}

fn free_order(victims: Victims, depth: usize, random: &mut Random) -> Vec<u16> {
    let mut indices: Vec<u16> = (0..depth as u16).collect();
    match victims {
        Victims::Lifo => indices.reverse(),
        Victims::Fifo => {}
        Victims::Random => (1..depth).for_each(|index| indices.swap(index, random.below(index + 1))),
    }
    indices
}

/// One thread fills the batch, the other empties it; a barrier after each half hands it over.
fn remote(batch: &mut Batch, batches: usize) {
    let turn = Barrier::new(2);
    let batch = std::sync::Mutex::new(batch);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..batches {
                turn.wait();
                batch.lock().expect("the other thread does not panic").free_all();
                turn.wait();
            }
        });
        for _ in 0..batches {
            // SAFETY: malloc may be called with any size.
            batch.lock().expect("the other thread does not panic").fill(|size| unsafe { malloc(size) });
            turn.wait();
            turn.wait();
        }
    });
}

impl Batch {
    #[inline(never)]
    fn with_calls(&mut self, calls: Calls) {
        match calls {
            // SAFETY: malloc may be called with any size.
            Calls::Malloc | Calls::Remote => self.fill(|size| unsafe { malloc(size) }),
            // SAFETY: calloc may be called with any size.
            Calls::Calloc => self.fill(|size| unsafe { calloc(1, size) }),
            // SAFETY: the alignment is a power of two; where the size is no multiple of it, glibc and all rivals accept it.
            Calls::Aligned => self.fill(|size| unsafe { aligned_alloc(ALIGN, size) }),
            Calls::Realloc => self.grow(),
        }
        self.free_all();
    }

    #[inline(always)]
    fn fill(&mut self, allocate: impl Fn(usize) -> *mut c_void) {
        for (block, size) in self.blocks.iter_mut().zip(&self.sizes) {
            *block = allocate(*size);
        }
    }

    fn grow(&mut self) {
        self.blocks.fill(null_mut());
        for bytes in GROWTH_BYTES {
            for block in &mut self.blocks {
                // SAFETY: null, or the live block that this slot got in the step before.
                *block = unsafe { realloc(*block, bytes) };
            }
        }
    }

    fn free_all(&mut self) {
        for index in &self.frees {
            // SAFETY: `frees` is a permutation, so each block of this batch is freed once.
            unsafe { free(self.blocks[usize::from(*index)]) };
        }
    }

    /// The same loops, with the calls replaced by the least that keeps the loads and stores.
    #[inline(never)]
    fn alone(&mut self) {
        for (block, size) in self.blocks.iter_mut().zip(&self.sizes) {
            *block = black_box(std::ptr::without_provenance_mut(*size));
        }
        self.touch_all();
    }

    #[inline(never)]
    fn growth_alone(&mut self) {
        for bytes in GROWTH_BYTES {
            for block in &mut self.blocks {
                *block = black_box(block.wrapping_byte_add(bytes));
            }
        }
        self.touch_all();
    }

    fn touch_all(&self) {
        for index in &self.frees {
            black_box(self.blocks[usize::from(*index)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_frees_each_block_once() {
        for victims in [Victims::Lifo, Victims::Fifo, Victims::Random] {
            let mut seen = free_order(victims, DEEP, &mut Random::new(3));
            seen.sort_unstable();
            assert!(seen.iter().enumerate().all(|(at, index)| at == usize::from(*index)), "{victims:?}");
        }
    }

    #[test]
    fn every_order_runs_and_counts_whole_batches() {
        for order in &ORDERS {
            for suffix in ["", "-loop"] {
                let arguments = [format!("order={}{suffix}", order.name), "ops=1".into()];
                let report = run(&Parameters::parse(arguments.into_iter()).expect("well-formed"));
                assert_eq!(report["pairs"], order.pairs(), "{}", order.name);
            }
        }
    }
}
