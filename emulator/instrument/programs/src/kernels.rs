//! Loops over arrays.

use std::hint::black_box;

use crate::random::Random;

/// A chain of pointers through 64 MiB, in random order.
pub fn chase(scale: usize) -> u64 {
    const LINES: usize = 1 << 20;
    #[repr(align(64))]
    struct Node(*const Node);
    let mut order: Vec<usize> = (0..LINES).collect();
    let mut random = Random(1);
    for i in (1..LINES).rev() {
        order.swap(i, random.below(i + 1));
    }
    let mut nodes: Vec<Node> = (0..LINES).map(|_| Node(std::ptr::null())).collect();
    let base = nodes.as_ptr();
    for i in 0..LINES {
        nodes[order[i]].0 = base.wrapping_add(order[(i + 1) % LINES]);
    }
    let mut at: *const Node = &raw const nodes[order[0]];
    for _ in 0..scale * 100_000 {
        // SAFETY: every node leads to a node.
        at = unsafe { (*at).0 };
    }
    // SAFETY: both in the same vector.
    unsafe { at.offset_from(base) as u64 }
}

/// `a = b + q c` over three arrays of 16 MiB.
pub fn triad(scale: usize) -> u64 {
    const N: usize = 2 << 20;
    let (mut a, b, c) = (vec![0.0_f64; N], vec![1.0; N], vec![2.0; N]);
    for round in 0..scale.div_ceil(4) {
        let q = black_box(round as f64);
        for ((a, b), c) in a.iter_mut().zip(&b).zip(&c) {
            *a = b + q * c;
        }
        black_box(&mut a);
    }
    a[N / 2].to_bits()
}

/// Random updates of a table of 64 MiB, as in the HPC Challenge.
pub fn gups(scale: usize) -> u64 {
    const N: usize = 8 << 20;
    let mut table: Vec<u64> = (0..N as u64).collect();
    let mut random = Random(2);
    for _ in 0..scale * 200_000 {
        let value = random.next();
        table[value as usize % N] ^= value;
    }
    table.iter().fold(0, |all, value| all.rotate_left(1) ^ value)
}

/// Product of matrices of 192 × 192, which the caches hold.
pub fn matmul(scale: usize) -> u64 {
    const N: usize = 192;
    let a: Vec<f64> = (0..N * N).map(|i| (i % 7) as f64).collect();
    let b: Vec<f64> = (0..N * N).map(|i| (i % 5) as f64).collect();
    let mut c = vec![0.0; N * N];
    for _ in 0..scale.div_ceil(2) {
        for i in 0..N {
            for k in 0..N {
                let factor = black_box(a[i * N + k]);
                for j in 0..N {
                    c[i * N + j] += factor * b[k * N + j];
                }
            }
        }
    }
    c[N + 1].to_bits()
}
