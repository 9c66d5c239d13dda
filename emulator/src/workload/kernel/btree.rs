//! Lookups in a B-tree.

use tiermem_topology::Topology;

use crate::cache::LINE;

use super::{Outcome, Random, Run, Setting, total_cache_lines};

/// Keys of a node, 8 bytes each; one child more.
const KEYS: u64 = 31;

/// A node: a line with its version and count, four lines of keys, four of children. (An odd number of lines also spreads
/// what is popular in every node over all sets of a cache; with eight, the middle keys of all nodes share an eighth.)
const NODE: u64 = 9 * LINE;
const FIRST_KEY: u64 = LINE;
const FIRST_CHILD: u64 = 5 * LINE;

/// Looks up `lookups` random keys of `keys` in a full B-tree of nodes of nine lines (32 children), laid out level by
/// level. In a node the search is binary: each comparison waits for the key, then the child's number is read. An operation
/// is a lookup. `None` if the setting cannot be modelled.
pub fn btree(topology: &Topology, setting: &Setting, keys: u64, lookups: u64) -> Option<Outcome> {
    let levels = levels(keys);
    let nodes: u64 = (0..levels).map(|level| (KEYS + 1).pow(level)).sum();
    let mut run = Run::new(topology, setting)?;
    let base = run.machine.place(setting.tier, nodes * NODE).base;
    let mut random = Random::new(3);
    let warm_up = lookups.max(total_cache_lines(&setting.caches));
    for lookup in 0..warm_up + lookups {
        if lookup == warm_up {
            run.begin();
        }
        look_up(&mut run, base, levels, random.below((KEYS + 1).pow(levels)));
    }
    Some(run.end(lookups))
}

/// Levels of a tree of at least `keys` keys.
pub fn levels(keys: u64) -> u32 {
    let mut levels = 1;
    while (KEYS + 1).pow(levels) < keys {
        levels += 1;
    }
    levels
}

/// Goes down to the leaf whose `place` among all leaves' slots is given.
fn look_up(run: &mut Run, base: u64, levels: u32, place: u64) {
    let mut first_of_level = 0;
    for level in 0..levels {
        let below = (KEYS + 1).pow(levels - level);
        let node = base + (first_of_level + place / below) * NODE;
        search(place % below / (below / (KEYS + 1)), |offset| run.load(node + offset));
        first_of_level += (KEYS + 1).pow(level);
    }
}

/// Tells `load` at which offsets of a node the search for child `slot` reads.
fn search(slot: u64, mut load: impl FnMut(u64)) {
    load(0);
    let (mut low, mut high) = (0, KEYS);
    while low < high {
        let middle = (low + high) / 2;
        load(FIRST_KEY + middle * 8);
        if slot > middle {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    // The child's number, behind the keys.
    load(FIRST_CHILD + slot * 8);
}

/// For the closed form: with which probability a lookup uses each line of the tree, lines of equal probability together;
/// and how many accesses it makes in all.
#[expect(clippy::cast_precision_loss, reason = "counts, for probabilities")]
pub fn line_uses(keys: u64) -> (Vec<(f64, f64)>, f64) {
    let mut used = [0.0; (NODE / LINE) as usize];
    let mut accesses = 0.0;
    for slot in 0..=KEYS {
        let mut seen = [false; (NODE / LINE) as usize];
        search(slot, |offset| {
            accesses += 1.0 / (KEYS + 1) as f64;
            let line = (offset / LINE) as usize;
            used[line] += if seen[line] { 0.0 } else { 1.0 / (KEYS + 1) as f64 };
            seen[line] = true;
        });
    }
    let nodes = (0..levels(keys)).map(|level| (KEYS + 1).pow(level) as f64);
    let lines = nodes.flat_map(|nodes| used.map(|probability| (probability / nodes, nodes)));
    (lines.collect(), accesses * f64::from(levels(keys)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_its_version_five_comparisons_and_a_child() {
        let (lines, accesses) = line_uses(1 << 20);
        assert_eq!(accesses, 4.0 * 7.0);
        // The root's lines come first: its version and its middle key are always looked at.
        assert_eq!((lines[0], lines[2]), ((1.0, 1.0), (1.0, 1.0)));
    }

    #[test]
    fn a_tree_has_as_many_levels_as_its_keys_need() {
        assert_eq!([1, 32, 33, 1024, 1025, 1 << 20].map(levels), [1, 1, 2, 2, 3, 4]);
    }
}
