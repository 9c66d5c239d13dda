//! Many small blocks in random order: the walk misses every cache and, with ordinary OS pages, the translation
//! look-aside buffers as well. What huge pages are worth is seen here. The second walk does independent updates, as in
//! the RandomAccess (GUPS) benchmark of the HPC Challenge.

use serde_json::{Value, json};

use super::heap::{free, malloc};
use super::process::{cpu_ns, huge_page_bytes, resident_bytes};
use super::{Parameters, Random};

/// Blocks of 32 to 511 bytes, skewed to the small end; 120 on average.
const BYTES_MIN: usize = 32;
const OCTAVES: u32 = 4;
const BYTES_MEAN: usize = 120;
/// Walks that go on side by side when accesses are independent; about what a core keeps in flight.
const LANES: usize = 8;

/// The first words of each block.
struct Node {
    next: *mut Node,
    visits: u64,
}

/// `live` MiB of blocks; `ops` accesses of each kind.
pub fn run(parameters: &Parameters) -> Value {
    let live_bytes = parameters.number("live", 1536) << 20;
    let ops = parameters.number("ops", 8_000_000);
    let mut random = Random::new(1);
    let mut bytes = 0;
    let mut nodes = Vec::with_capacity(live_bytes / BYTES_MEAN * 5 / 4);
    while bytes < live_bytes {
        let size = random.skewed(BYTES_MIN, OCTAVES);
        bytes += size;
        nodes.push(allocate(size));
    }
    link(&mut nodes, &mut random);
    let footprint = resident_bytes().saturating_sub(nodes.len() * size_of::<*mut Node>());

    let before = cpu_ns();
    walk(&mut [nodes[0]], ops);
    let dependent_ns = (cpu_ns() - before) as f64 / ops.max(1) as f64;
    let mut lanes: [*mut Node; LANES] = std::array::from_fn(|lane| nodes[lane * nodes.len() / LANES]);
    let before = cpu_ns();
    walk(&mut lanes, ops / LANES);
    let independent_ns = (cpu_ns() - before) as f64 / (ops / LANES * LANES).max(1) as f64;

    let huge = huge_page_bytes();
    let count = nodes.len();
    for node in nodes {
        // SAFETY: each is a live block of its own, and the walks are over.
        unsafe { free(node.cast()) };
    }
    json!({
        "blocks": count, "cpu_ns_per_dependent_access": dependent_ns, "cpu_ns_per_independent_access": independent_ns,
        "huge_page_mib": huge as f64 / 1048576.0, "footprint_over_live": footprint as f64 / bytes as f64,
    })
}

fn allocate(bytes: usize) -> *mut Node {
    // SAFETY: malloc may be called with any size.
    let node: *mut Node = unsafe { malloc(bytes) }.cast();
    assert!(!node.is_null(), "the heap is out of memory");
    // SAFETY: the block has at least 32 bytes and is aligned for words.
    unsafe { node.write(Node { next: node, visits: 0 }) };
    // The whole block, so that all of it is resident, as with a program that uses what it asks for.
    // SAFETY: the last byte is inside the block.
    unsafe { node.cast::<u8>().add(bytes - 1).write(1) };
    node
}

/// Shuffles the nodes and makes one ring of them.
fn link(nodes: &mut [*mut Node], random: &mut Random) {
    for at in (1..nodes.len()).rev() {
        nodes.swap(at, random.below(at + 1));
    }
    for at in 0..nodes.len() {
        let next = nodes[(at + 1) % nodes.len()];
        // SAFETY: every node is a live block that only this thread uses.
        unsafe { (*nodes[at]).next = next };
    }
}

/// Takes `steps` steps in each lane and counts the visits.
fn walk(lanes: &mut [*mut Node], steps: usize) {
    for _ in 0..steps {
        for lane in &mut *lanes {
            // SAFETY: every node is a live block that only this thread uses, and its `next` is another.
            let node = unsafe { &mut **lane };
            node.visits += 1;
            *lane = node.next;
        }
    }
    std::hint::black_box(lanes);
}
