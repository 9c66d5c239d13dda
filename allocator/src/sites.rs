//! Allocation sites: sampled for the report, and looked up for site rules.

use tiermem_placement::TierIndex;

/// Notes where the program allocates, now and then.
pub fn sample(_block: usize, _size: usize) {}

/// The tier that a site rule gives to the allocation under way.
pub fn rule_for_this_call() -> Option<TierIndex> {
    None
}
