//! Allocation sites: sampled for reports, and looked up for site rules. Both walk the stack, which costs about a
//! microsecond, and so happen only on the slow path.

mod resolve;

use tiermem_placement::{SiteRules, TierIndex};
use tiermem_sys::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU64, Ordering};
use tiermem_sys::unwind;

use crate::claim::claim;
use crate::control::layout::{FRAMES, SITES, SiteRecord};
use crate::heap::tls;
use crate::{api, control};
use resolve::Resolved;

/// One sample stands for this many bytes taken from spans, large blocks or new runs of blocks.
pub const INTERVAL_BYTES: i64 = 256 << 10;

/// Frames of the allocator itself that are looked through before the program's.
const OWN_FRAMES_MAX: usize = 12;

static SAMPLING: AtomicBool = AtomicBool::new(false);
static CREDIT: AtomicI64 = AtomicI64::new(INTERVAL_BYTES);

/// The code of this library: its frames are not the program's. Zero where it is linked into the program.
static OWN_START: AtomicU64 = AtomicU64::new(0);
static OWN_END: AtomicU64 = AtomicU64::new(0);

/// The rules in force, never freed; null for none. No lock: a child of fork could find it taken for ever.
static RULES: AtomicPtr<SiteRules> = AtomicPtr::new(std::ptr::null_mut());
static RESOLVED: AtomicPtr<Resolved> = AtomicPtr::new(std::ptr::null_mut());

/// Says which addresses are the allocator's own library.
pub fn set_own_range(start: usize, end: usize) {
    OWN_START.store(start as u64, Ordering::Relaxed);
    OWN_END.store(end as u64, Ordering::Relaxed);
}

/// Starts sampling, if somebody watches.
pub fn begin(watched: bool) {
    SAMPLING.store(watched, Ordering::Relaxed);
}

/// Puts site rules in force. May allocate.
pub fn set_rules(rules: SiteRules) {
    if rules.rules().is_empty() {
        return;
    }
    // Release pairs with the Acquire in `resolve_again`.
    RULES.store(Box::into_raw(Box::new(rules)), Ordering::Release);
    resolve_again();
}

/// Looks the rules' symbols and modules up in what is loaded now. May allocate.
fn resolve_again() {
    // Acquire pairs with the Release in `set_rules`.
    // SAFETY: null or rules that are never freed.
    let resolved = unsafe { RULES.load(Ordering::Acquire).as_ref() }.map(Resolved::new);
    if let Some(resolved) = resolved {
        // Leaked on purpose: other threads may be reading the one before. Happens once per loaded library.
        // Release pairs with the Acquire in `rule_for`.
        RESOLVED.store(Box::into_raw(Box::new(resolved)), Ordering::Release);
    }
}

/// The program's return addresses, innermost first.
fn walk(frames: &mut [usize; FRAMES]) -> usize {
    let mut all = [0; FRAMES + OWN_FRAMES_MAX];
    let count = unwind::walk(&mut all);
    let (start, end) = (OWN_START.load(Ordering::Relaxed) as usize, OWN_END.load(Ordering::Relaxed) as usize);
    let first = all[..count].iter().position(|pc| !(start..end).contains(pc)).unwrap_or(0);
    let kept = (count - first).min(FRAMES);
    frames[..kept].copy_from_slice(&all[first..first + kept]);
    kept
}

/// Runs `body` unless this thread is in it already: the unwinder or the resolver may allocate.
fn once_per_thread<R>(body: impl FnOnce() -> Option<R>) -> Option<R> {
    let heap = tls::attached()?;
    if heap.in_site_code.replace(true) {
        return None;
    }
    let result = body();
    heap.in_site_code.set(false);
    result
}

/// Notes where the program allocates, once per [`INTERVAL_BYTES`]. `bytes` is what this slow path took.
pub fn sample(block: usize, bytes: usize) {
    if !SAMPLING.load(Ordering::Relaxed) {
        return;
    }
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    // Relaxed: a statistic; only one thread sees it fall below zero.
    let before = CREDIT.fetch_sub(bytes, Ordering::Relaxed);
    if before > 0 && before - bytes <= 0 {
        CREDIT.store(INTERVAL_BYTES, Ordering::Relaxed);
        let weight = INTERVAL_BYTES.max(bytes) as u64;
        once_per_thread(|| record(block, weight));
    }
}

fn record(block: usize, weight: u64) -> Option<()> {
    let segment = control::segment()?;
    let tier = api::tier_of(std::ptr::with_exposed_provenance(block))?;
    let mut frames = [0; FRAMES];
    let count = walk(&mut frames);
    let hash = hash(&frames[..count]);
    let entry = find(&segment.sites, hash)?;
    for (slot, pc) in entry.frames.iter().zip(frames) {
        slot.store(pc as u64, Ordering::Relaxed);
    }
    entry.samples.fetch_add(1, Ordering::Relaxed);
    entry.bytes.get(usize::from(tier))?.fetch_add(weight, Ordering::Relaxed);
    Some(())
}

/// The entry of this hash, made if there is room near its place.
fn find(table: &[SiteRecord; SITES], hash: u64) -> Option<&SiteRecord> {
    const PROBES: usize = 64;
    let place = |i| &table[(hash as usize).wrapping_add(i) % SITES];
    claim((0..PROBES).map(|i| &place(i).hash), hash).map(place)
}

/// FNV-1a over the addresses; never 0.
fn hash(frames: &[usize]) -> u64 {
    let bytes = frames.iter().flat_map(|pc| pc.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)) | 1
}

/// The tier that a site rule gives to the allocation of `size` bytes under way.
pub fn rule_for(size: u64) -> Option<TierIndex> {
    once_per_thread(|| {
        let mut frames = [0; FRAMES];
        let count = walk(&mut frames);
        let frames = &frames[..count];
        // Acquire pairs with the Release in `resolve_again`.
        // SAFETY: null or a table that is never freed.
        let resolved = unsafe { RESOLVED.load(Ordering::Acquire).as_ref() }?;
        if let Some(answer) = resolved.tier_for(size, frames) {
            return answer;
        }
        // An address in no known module: a library was loaded since.
        resolve_again();
        // SAFETY: as above.
        let resolved = unsafe { RESOLVED.load(Ordering::Acquire).as_ref() }?;
        resolved.tier_for(size, frames).flatten()
    })
}

/// Writes the list of the program's modules into the segment, for whoever names the sites' addresses. May allocate.
pub fn record_modules() {
    if !SAMPLING.load(Ordering::Relaxed) {
        return;
    }
    let Some(segment) = control::segment() else { return };
    let mut text = String::new();
    for module in resolve::modules() {
        use std::fmt::Write as _;
        let _ = writeln!(text, "{:x} {:x} {:x} {}", module.start, module.end, module.file_offset, module.path);
    }
    let bytes = text.as_bytes();
    let whole = if bytes.len() <= segment.modules.len() {
        bytes.len()
    } else {
        bytes[..segment.modules.len()].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1)
    };
    for (slot, &byte) in segment.modules.iter().zip(&bytes[..whole]) {
        slot.store(byte, Ordering::Relaxed);
    }
    // Release pairs with the reader's Acquire.
    segment.header.modules_len.store(whole as u64, Ordering::Release);
}
