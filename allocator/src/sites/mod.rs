//! Allocation sites: the call stack at an allocation, and the rules that name sites. Walking the stack costs about a
//! microsecond, so it happens only on the slow path.

mod resolve;

use tiermem_placement::{SiteRules, TierIndex};
use tiermem_sys::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use tiermem_sys::unwind;

use crate::control;
pub use crate::control::layout::FRAMES;
use crate::heap::tls;
use resolve::Resolved;
pub use resolve::parse_mapping;

/// Frames of the allocator itself that are looked through before the program's.
const OWN_FRAMES_MAX: usize = 12;

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
pub fn walk(frames: &mut [usize; FRAMES]) -> usize {
    let mut all = [0; FRAMES + OWN_FRAMES_MAX];
    let count = unwind::walk(&mut all);
    let (start, end) = (OWN_START.load(Ordering::Relaxed) as usize, OWN_END.load(Ordering::Relaxed) as usize);
    let first = all[..count].iter().position(|pc| !(start..end).contains(pc)).unwrap_or(0);
    let kept = (count - first).min(FRAMES);
    frames[..kept].copy_from_slice(&all[first..first + kept]);
    kept
}

/// The program's return addresses from `caller` on, innermost first; that one alone, where the unwinder does not find it.
pub fn walk_from(caller: usize, frames: &mut [usize]) -> usize {
    match (unwind::walk_from(caller, OWN_FRAMES_MAX, frames), frames.first_mut()) {
        (0, Some(first)) => {
            *first = caller;
            1
        }
        (count, _) => count,
    }
}

/// Runs `body` unless this thread is in it already: the unwinder or the resolver may allocate.
pub fn once_per_thread<R>(body: impl FnOnce() -> Option<R>) -> Option<R> {
    let heap = tls::attached()?;
    if heap.in_site_code.replace(true) {
        return None;
    }
    let result = body();
    heap.in_site_code.set(false);
    result
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
    let Some(segment) = control::segment() else { return };
    // Relaxed: a setting.
    if segment.header.profile_since_ms.load(Ordering::Relaxed) == 0 {
        return;
    }
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
