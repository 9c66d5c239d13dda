//! The heap profile: which code allocates how much, in which tier, and how much of it is live; estimated from samples.
//!
//! Samples are a Poisson process over the allocated bytes: every byte is as likely as any other to be a sample, whatever
//! came before it, so a block of `s` bytes is sampled with probability `1 − exp(−s / interval)`, independently of all
//! others. Each sample then stands for `1 / (1 − exp(−s / interval))` blocks like it, which makes every sum over samples an
//! unbiased estimate (Horvitz and Thompson, 1952; in heap profiles since gperftools, and so in jemalloc's `prof` and
//! tcmalloc's `GetHeapProfile`). The weight is taken with the interval in force, so the interval may change at any time.
//!
//! Who decides that a block is a sample is not here: that is woven into the allocation paths, which ask for the
//! [`interval`] and the [`distance`] to the next sample. Here a sample's stack is walked, its site entered in the control
//! segment, and its block remembered until it is freed. Nothing here allocates, and nothing waits.

mod buckets;
mod distance;
mod slow_path;
mod switch;
#[cfg(test)]
mod tests;
mod tracked;

use crate::control;
use crate::control::layout::{FRAMES, SITES, Segment, SiteRecord};
use crate::{api, sites};
use tiermem_sys::sync::atomic::Ordering;
use tracked::Tracked;

pub use distance::distance;
pub use slow_path::sample_slow_path;
pub use switch::{
    INTERVAL_DEFAULT, INTERVAL_MAX, INTERVAL_MIN, attach, begin, clamp, interval, obey_wish, restart_in_child,
};

/// Statistics: no order between them is needed.
const PLAIN: Ordering = Ordering::Relaxed;

/// The site of samples whose own could not be entered: the table is full, or there was no stack to walk.
const OVERFLOW: usize = SITES - 1;

/// A block that the sampler chose has been placed: walks the stack, enters the site, and remembers the block.
///
/// `requested` is what the program asked for, bytes; `tier` the tier of the block. The sampler must have counted the block
/// as [`api::usable_size`] bytes: that is what the sample's weight follows from. (A block outside the arena counts as
/// `requested` bytes.)
///
/// True if the block is tracked: then [`forget`] must be called when it is freed. False if nothing is sampled, or if too
/// many blocks are tracked already; such a sample is in the cumulative figures only, and counted as lost.
pub fn record(block: usize, requested: usize, tier: u8) -> bool {
    let counted = api::usable_size(std::ptr::with_exposed_provenance(block)).max(requested).max(1);
    let weigh = |interval| weigh(1, counted as u64, requested as u64, interval);
    enter(block, tier, weigh, true)
}

/// Enters a sample with the weight that `weigh` gives it at an interval; without `track`, in the cumulative figures only.
fn enter(block: usize, tier: u8, weigh: impl FnOnce(u64) -> Tracked, track: bool) -> bool {
    let interval = interval();
    let Some(segment) = control::segment().filter(|_| interval != 0) else { return false };
    let sample = weigh(interval);
    let (index, site) = site(segment);
    let Some(into) = site.tiers.get(usize::from(tier)) else { return false };
    site.samples.fetch_add(1, PLAIN);
    into.allocated_objects_256ths.fetch_add(sample.objects_256ths, PLAIN);
    into.allocated_bytes.fetch_add(sample.bytes, PLAIN);
    let sample = Tracked { site: index as u16, tier, generation: switch::generation(), ..sample };
    if track && tracked::insert(block, sample) {
        return true;
    }
    // What is not tracked cannot be seen being freed: it counts as freed, so that the live figures do not grow for ever.
    into.freed_objects_256ths.fetch_add(sample.objects_256ths, PLAIN);
    into.freed_bytes.fetch_add(sample.bytes, PLAIN);
    if track {
        segment.header.profile_lost.fetch_add(1, PLAIN);
    }
    false
}

/// What the sample of a run of `blocks`, of which `counted` bytes were counted for each, stands for.
fn weigh(blocks: u64, counted: u64, requested: u64, interval: u64) -> Tracked {
    let weight = blocks as f64 / distance::probability(blocks.saturating_mul(counted), interval);
    let whole = |value: f64| (value + 0.5) as u64;
    Tracked { objects_256ths: whole(256.0 * weight), bytes: whole(requested as f64 * weight), ..Tracked::default() }
}

/// The site of the call under way, and its place in the table.
fn site(segment: &Segment) -> (usize, &SiteRecord) {
    let found = sites::once_per_thread(|| {
        let mut frames = [0; FRAMES];
        let count = sites::walk(&mut frames);
        let at = find(&segment.sites, hash(&frames[..count])).filter(|_| count > 0)?;
        for (slot, pc) in segment.sites[at].frames.iter().zip(frames) {
            slot.store(pc as u64, PLAIN);
        }
        Some(at)
    });
    let at = found.unwrap_or_else(|| {
        segment.sites[OVERFLOW].hash.store(u64::MAX, PLAIN);
        OVERFLOW
    });
    (at, &segment.sites[at])
}

/// The place of the entry of this hash, made if there is room near it.
fn find(table: &[SiteRecord; SITES], hash: u64) -> Option<usize> {
    const PROBES: usize = 64;
    (0..PROBES).map(|i| (hash as usize).wrapping_add(i) % OVERFLOW).find(|&at| {
        let claimed = table[at].hash.compare_exchange(0, hash, Ordering::AcqRel, Ordering::Acquire);
        claimed.is_ok() || claimed == Err(hash)
    })
}

/// FNV-1a over the addresses; never 0.
fn hash(frames: &[usize]) -> u64 {
    let bytes = frames.iter().flat_map(|pc| pc.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)) | 1
}

/// A tracked block is freed. Addresses that are not tracked are ignored.
pub fn forget(block: usize) {
    let Some(sample) = tracked::remove(block) else { return };
    // A child of fork knows its parent's blocks, but counts only its own.
    if sample.generation != switch::generation() {
        return;
    }
    let Some(segment) = control::segment() else { return };
    if let Some(into) = segment.sites[usize::from(sample.site) % SITES].tiers.get(usize::from(sample.tier)) {
        into.freed_objects_256ths.fetch_add(sample.objects_256ths, PLAIN);
        into.freed_bytes.fetch_add(sample.bytes, PLAIN);
    }
}

/// Whether this block is tracked. Two to six cache lines are looked at, no lock is taken.
pub fn is_tracked(block: usize) -> bool {
    tracked::contains(block)
}
