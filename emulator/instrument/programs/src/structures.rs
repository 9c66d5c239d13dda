//! Data structures of the standard library, and graphs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use crate::random::Random;

/// Lookups in a tree of a million keys.
pub fn btree(scale: usize) -> u64 {
    const KEYS: usize = 1_000_000;
    let mut random = Random(3);
    let tree: BTreeMap<u64, u64> = (0..KEYS).map(|i| (random.below(1 << 30) as u64, i as u64)).collect();
    let mut sum = 0_u64;
    for _ in 0..scale * 20_000 {
        if let Some((key, value)) = tree.range(random.below(1 << 30) as u64..).next() {
            sum = sum.wrapping_mul(3).wrapping_add(key ^ value);
        }
    }
    sum
}

/// A key-value store with a Zipf-like choice of keys: nine reads for each write.
pub fn hashmap(scale: usize) -> u64 {
    const KEYS: usize = 200_000;
    let mut random = Random(4);
    let mut store: HashMap<u64, Vec<u8>> = HashMap::new();
    for key in 0..KEYS as u64 {
        store.insert(key, vec![key as u8; 64 + key as usize % 192]);
    }
    let mut sum = 0_u64;
    for step in 0..scale * 30_000 {
        // The product of two even choices favours small numbers.
        let key = (random.below(KEYS) * random.below(KEYS) / KEYS) as u64;
        if step % 10 == 0 {
            store.insert(key, vec![step as u8; 64 + step % 192]);
        } else if let Some(value) = store.get(&key) {
            sum += value.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        }
    }
    sum
}

/// Breadth-first search from several vertices of a random graph with 2^18 vertices and 2^21 edges.
pub fn bfs(scale: usize) -> u64 {
    const VERTICES: usize = 1 << 18;
    const DEGREE: usize = 8;
    let mut random = Random(5);
    let edges: Vec<u32> = (0..VERTICES * DEGREE).map(|_| random.below(VERTICES) as u32).collect();
    let mut sum = 0_u64;
    for round in 0..scale.div_ceil(8) {
        let mut level = vec![u32::MAX; VERTICES];
        let mut frontier = vec![round as u32];
        level[round] = 0;
        let mut depth = 0;
        while !frontier.is_empty() {
            depth += 1;
            let mut next = Vec::new();
            for &vertex in &frontier {
                for &to in &edges[vertex as usize * DEGREE..][..DEGREE] {
                    if level[to as usize] == u32::MAX {
                        level[to as usize] = depth;
                        next.push(to);
                    }
                }
            }
            sum = sum.wrapping_mul(31).wrapping_add(next.len() as u64);
            frontier = next;
        }
    }
    sum
}

/// Sorts a million numbers, and strings.
pub fn sort(scale: usize) -> u64 {
    let mut random = Random(6);
    let mut sum = 0_u64;
    for _ in 0..scale.div_ceil(10) {
        let mut numbers: Vec<u64> = (0..400_000).map(|_| random.next()).collect();
        numbers.sort_unstable();
        let mut words: Vec<String> = (0..40_000).map(|_| format!("{:x}", random.next() >> 20)).collect();
        words.sort();
        sum ^= numbers[1000] ^ words[77].len() as u64;
    }
    sum
}

/// Four threads that share a counter and work on parts of an array.
pub fn threads(scale: usize) -> u64 {
    const N: usize = 1 << 20;
    let data: Vec<u64> = (0..N as u64).collect();
    let total = Mutex::new(0_u64);
    std::thread::scope(|scope| {
        for part in data.chunks(N / 4) {
            let total = &total;
            scope.spawn(move || {
                for _ in 0..scale {
                    for piece in part.chunks(4096) {
                        let sum = piece.iter().fold(0_u64, |sum, value| sum.wrapping_mul(3) ^ value);
                        let mut total = total.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        *total = total.wrapping_add(sum);
                    }
                }
            });
        }
    });
    total.into_inner().unwrap_or(0)
}
