//! All kernels on one tier, with what theory expects.

use tiermem_topology::{MemoryFigures, Topology};

use super::closed_form;
use super::kernel::{self, Outcome, Setting, Zipf};
use super::probe::expected;
use crate::model::System;

/// Threads of the stream that is to fill the bandwidth.
const STREAMS: u32 = 16;

/// A kernel on a tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Which kernel, and what an operation is.
    pub kernel: &'static str,
    /// What it took.
    pub outcome: Outcome,
    /// Nanoseconds an operation by its closed form; `None` where there is none.
    pub closed_form_ns: Option<f64>,
}

/// How large the kernels' data are; they must outgrow the caches by far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Lines of the chase.
    pub chase_lines: usize,
    /// Bytes that are streamed, by all threads together.
    pub stream_bytes: u64,
    /// Bytes that are updated at random.
    pub update_bytes: u64,
    /// Keys of the B-tree.
    pub btree_keys: u64,
    /// Keys of the key-value store.
    pub store_keys: usize,
    /// Vertices of the graph, each with eight edges.
    pub vertices: usize,
    /// Operations that are measured; streams and searches go through all of theirs.
    pub operations: u64,
}

impl Default for Sizes {
    /// For the default caches, of 34 MiB: some 128 MiB to 600 MiB each.
    fn default() -> Self {
        Self {
            chase_lines: 1 << 21,
            stream_bytes: 256 << 20,
            update_bytes: 1 << 30,
            btree_keys: 1 << 25,
            store_keys: 1 << 22,
            vertices: 1 << 21,
            operations: 200_000,
        }
    }
}

/// Runs every kernel with its data in the setting's tier. `None` if the topology or the caches cannot be modelled.
///
/// # Panics
/// If the host has no way to the tier, or the tier is no memory that the CPU addresses.
pub fn predict(topology: &Topology, setting: &Setting, sizes: Sizes) -> Option<Vec<Prediction>> {
    let system = System::new(topology).ok()?;
    let tier = expected(topology, &system, setting.host, setting.tier).ok()?;
    let form = |of: &dyn Fn(&MemoryFigures) -> f64| tier.alone().map(of);
    let Setting { caches, core, .. } = setting;
    #[expect(clippy::cast_precision_loss, reason = "a handful of lines")]
    let in_flight = core.lines_in_flight as f64;
    let line = |threads: u32| form(&|memory| closed_form::closed_loop_ns(memory, f64::from(threads), in_flight, 0.0));
    let stream = |threads| kernel::stream(topology, setting, threads, sizes.stream_bytes);
    let prediction = |kernel, outcome, closed_form_ns| Prediction { kernel, outcome, closed_form_ns };
    Some(vec![
        prediction(
            "pointer chase, a step",
            kernel::chase(topology, setting, sizes.chase_lines, sizes.operations)?,
            form(&closed_form::chase_ns),
        ),
        prediction("stream of 1 thread, a line", stream(1)?, line(1)),
        prediction("stream of 16 threads, a line", stream(STREAMS)?, line(STREAMS)),
        prediction(
            "random updates, an update",
            kernel::updates(topology, setting, sizes.update_bytes, sizes.operations)?,
            form(&|memory| closed_form::update_ns(memory, caches, *core, sizes.update_bytes)),
        ),
        prediction(
            "B-tree, a lookup",
            kernel::btree(topology, setting, sizes.btree_keys, sizes.operations)?,
            form(&|memory| closed_form::btree_lookup_ns(memory, caches, sizes.btree_keys)),
        ),
        prediction(
            "key-value store with Zipf keys, a get",
            kernel::zipf_store(topology, setting, sizes.store_keys, 0.99, sizes.operations)?,
            form(&|memory| closed_form::zipf_get_ns(memory, caches, &Zipf::new(sizes.store_keys, 0.99))),
        ),
        prediction("breadth-first search, an edge", kernel::bfs(topology, setting, sizes.vertices, 8)?, None),
    ])
}
