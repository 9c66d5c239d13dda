//! A key-value store: a large set of live values of which a few are replaced often and most seldom.

use serde_json::{Value, json};

use super::{Block, Parameters, Random};

/// `live` values, replaced `ops` times by one thread; sizes as in a cache of small records.
pub fn run(parameters: &Parameters) -> Value {
    let live = parameters.number("live", 100_000);
    let ops = parameters.number("ops", 12_000_000);
    let mut random = Random::new(1);
    let mut table: Vec<Block> = (0..live).map(|_| Block::new(random.skewed(16, 4))).collect();
    for _ in 0..ops {
        // Half of the replacements fall on an eighth of the keys.
        let hot = random.bits() & 1 == 0;
        let slot = random.below(if hot { live.div_ceil(8) } else { live });
        table[slot] = Block::new(random.skewed(16, 4));
    }
    json!({ "live": live, "replacements": ops })
}
