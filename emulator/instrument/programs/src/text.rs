//! Text and documents.

use std::collections::HashMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::random::Random;

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    lines: Vec<Line>,
    paid: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    item: String,
    count: u32,
    price: f64,
}

/// Writes and reads orders as JSON, with `serde_json`.
pub fn json(scale: usize) -> u64 {
    let mut random = Random(7);
    let line = |random: &mut Random| Line {
        item: format!("item {:x}", random.below(100_000)),
        count: random.below(100) as u32,
        price: random.below(100_000) as f64 / 100.0,
    };
    let orders: Vec<Order> = (0..500)
        .map(|id| Order {
            id,
            customer: format!("customer \"{}\"", random.below(10_000)),
            lines: (0..1 + random.below(8)).map(|_| line(&mut random)).collect(),
            paid: id % 3 == 0,
        })
        .collect();
    let mut sum = 0_u64;
    for _ in 0..scale * 2 {
        let text = serde_json::to_string(&orders).unwrap_or_default();
        let back: Vec<Order> = serde_json::from_str(&text).unwrap_or_default();
        sum = sum.wrapping_mul(31).wrapping_add(text.len() as u64);
        sum = sum.wrapping_add(back.iter().map(|order| order.lines.len() as u64).sum());
    }
    sum
}

/// Counts words of a text.
pub fn words(scale: usize) -> u64 {
    let mut random = Random(8);
    let mut text = String::new();
    for _ in 0..50_000 {
        let word = random.below(5_000) * random.below(5_000) / 5_000;
        let _ = write!(text, "w{word:x} ");
    }
    let mut sum = 0_u64;
    for _ in 0..scale.div_ceil(2) {
        let mut counts: HashMap<&str, u32> = HashMap::new();
        for word in text.split_ascii_whitespace() {
            *counts.entry(word).or_default() += 1;
        }
        sum = sum.wrapping_mul(31).wrapping_add(counts.values().copied().max().unwrap_or(0).into());
    }
    sum
}
