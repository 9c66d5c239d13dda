//! Requests that each name the tier they want: what switching a hint costs.

use serde_json::{Value, json};

use super::heap::free;
use super::live::allocate;
use super::preloaded::Hints;
use super::process::cpu_ns;
use super::{Parameters, Random};

const BYTES_MIN: usize = 16;
const OCTAVES: u32 = 4;
/// Sizes, used over and over.
const SIZES: usize = 1 << 12;

/// `ops` requests, each of which allocates `per_request` blocks and frees as many old ones, of `live` in all. With
/// `hints=1` each request runs under a hint, for the first and the second tier in turn; with `hints=0` there is none.
pub fn run(parameters: &Parameters) -> Value {
    let (requests, per_request) = (parameters.number("ops", 1_000_000), parameters.number("per_request", 16).max(1));
    let live = parameters.number("live", 10_000).max(per_request);
    let hints = (parameters.number("hints", 0) != 0).then(Hints::find);
    let mut random = Random::new(1);
    let sizes: Vec<usize> = (0..SIZES).map(|_| random.skewed(BYTES_MIN, OCTAVES)).collect();
    let mut ring: Vec<_> = (0..live).map(|at| allocate(sizes[at % SIZES])).collect();
    let (mut slot, mut size) = (0, 0);
    let before = cpu_ns();
    for request in 0..requests {
        if let Some(hints) = &hints {
            hints.push(request & 1);
        }
        for _ in 0..per_request {
            // SAFETY: the slot holds a live block, which nobody uses after this.
            unsafe { free(ring[slot]) };
            ring[slot] = allocate(sizes[size]);
            slot = if slot + 1 == live { 0 } else { slot + 1 };
            size = (size + 1) % SIZES;
        }
        if let Some(hints) = &hints {
            hints.pop();
        }
    }
    let per_request_ns = (cpu_ns() - before) as f64 / requests.max(1) as f64;
    let on_second_tier = hints.as_ref().map(|hints| ring.iter().filter(|block| hints.tier_of(**block) == 1).count());
    for block in ring {
        // SAFETY: each slot holds a live block of its own.
        unsafe { free(block) };
    }
    json!({ "requests": requests, "cpu_ns_per_request": per_request_ns, "on_second_tier": on_second_tier, "live": live })
}
