//! The publishing side.

use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::EventKind;
use super::layout::{self, EVENTS, EventRecord, Segment};
use crate::flag::Flag;
use crate::profile;
use crate::size_class::{CLASS_COUNT, SizeClass};
use crate::stats::{self, ClassCount};
use crate::tiers::{self, TIERS_MAX};
use crate::{clock, handshake};

/// Statistics and single words: no order is needed between them beyond the sequence number's fences.
const PLAIN: Ordering = Ordering::Relaxed;

/// Publishing walks all spans; it is done this often at most, and never takes more than a fiftieth of the time.
const INTERVAL_MS: u32 = 50;

/// An event of a kind about a tier that comes again within this time is folded into the one before.
const FOLD_MS: u32 = 1000;

static SEGMENT: AtomicPtr<Segment> = AtomicPtr::new(std::ptr::null_mut());
static NEXT_PUBLISH_MS: AtomicU32 = AtomicU32::new(0);
static OWED: AtomicBool = AtomicBool::new(false);

/// What the publisher needs room for; too large for a stack that may be a signal handler's or a small thread's.
static SCRATCH: Lock<stats::TierCount> =
    Lock::new([ClassCount { allocations: 0, live: 0, live_bytes: 0 }; CLASS_COUNT + 1]);

/// The segment, if the process publishes one.
pub fn segment() -> Option<&'static Segment> {
    // Acquire pairs with the Release in `begin`.
    // SAFETY: null or a segment that stays mapped for ever.
    unsafe { SEGMENT.load(Ordering::Acquire).as_ref() }
}

/// Starts publishing into zeroed memory of a segment's size.
pub fn begin(memory: &'static Segment, pid: u32, parent: u32, command: &[u8], started_unix_s: u64) {
    let header = &memory.header;
    header.version.store(layout::VERSION, PLAIN);
    header.size.store(layout::SIZE as u32, PLAIN);
    header.pid.store(pid, PLAIN);
    header.parent.store(parent, PLAIN);
    header.started_unix_s.store(started_unix_s, PLAIN);
    store_text(&header.command, command);
    header.checksum.store(layout::checksum(pid), PLAIN);
    // Release pairs with the reader's Acquire: who sees the magic sees the header.
    header.magic.store(layout::MAGIC, Ordering::Release);
    SEGMENT.store(std::ptr::from_ref(memory).cast_mut(), Ordering::Release);
    profile::attach(memory);
}

/// Says which policy is in force and what was wrong with the one asked for (both may be empty).
pub fn set_policy(path: &str, complaint: &str) {
    if let Some(segment) = segment() {
        store_text(&segment.header.policy, path.as_bytes());
        store_text(&segment.header.policy_error, complaint.as_bytes());
    }
}

/// Publishes for the last time, before the process ends.
pub fn end() {
    publish();
    if let Some(segment) = segment() {
        segment.header.ended.store(1, Ordering::Release);
    }
}

/// Publishes if that was not done lately, and notes otherwise that it is [owed](is_owed). Cheap: called from the slow path.
#[inline]
pub fn publish_if_due(now_ms: u32) {
    if segment().is_none() {
        return;
    }
    if now_ms >= NEXT_PUBLISH_MS.load(PLAIN) {
        publish();
    } else {
        // The purger says that it sleeps and then looks here; we note this and then look whether it sleeps
        // (`purge::start_if_wanted`).
        handshake::note(&OWED);
    }
}

/// Whether something happened after the last publication. A program that now falls idle would leave old figures behind, so
/// the purger settles it.
pub fn is_owed() -> bool {
    handshake::is_noted(&OWED)
}

/// Writes the current figures.
#[cold]
pub fn publish() {
    let Some(segment) = segment() else { return };
    // Whoever finds another thread publishing leaves it to that one.
    let Some(mut scratch) = SCRATCH.try_lock() else { return };
    profile::obey_wish(segment);
    let started = clock::now_ms();
    NEXT_PUBLISH_MS.store(started + INTERVAL_MS, PLAIN);
    // Before the figures are gathered: what happens meanwhile is owed again.
    OWED.store(false, Ordering::SeqCst);
    flush_events(segment, started, true);
    // One writer: the scratch space is locked.
    segment.header.sequence.write(|| {
        segment.header.uptime_ms.store(u64::from(started), PLAIN);
        let count = tiers::count();
        segment.header.tier_count.store(count as u32, PLAIN);
        for tier in 0..count {
            stats::gather(tier as u8, &mut scratch);
            publish_tier(segment, tier, &scratch);
        }
    });
    let took = clock::now_ms().saturating_sub(started);
    NEXT_PUBLISH_MS.store(started + INTERVAL_MS.max(50 * took), PLAIN);
}

fn publish_tier(segment: &Segment, tier: usize, counts: &stats::TierCount) {
    let slot = tiers::slot(tier as u8);
    let (name, kind) = slot.identity();
    let into = &segment.tiers[tier];
    store_text(&into.name, name.as_str().as_bytes());
    store_text(&into.kind, kind.as_str().as_bytes());
    let mut total = ClassCount::default();
    for (i, (entry, count)) in segment.classes.iter().zip(counts).enumerate() {
        entry.block_size.store(SizeClass::from_index(i).map_or(0, |class| class.block_size() as u64), PLAIN);
        entry.tiers[tier].live.store(count.live, PLAIN);
        entry.tiers[tier].allocations.store(count.allocations, PLAIN);
        entry.tiers[tier].live_bytes.store(count.live_bytes, PLAIN);
        total.live += count.live;
        total.allocations += count.allocations;
        total.live_bytes += count.live_bytes;
    }
    let counters = &slot.pool.counters;
    let limit = counters.limit.load(PLAIN);
    into.limit.store(if limit == u64::MAX { 0 } else { limit }, PLAIN);
    into.live.store(total.live_bytes, PLAIN);
    into.committed.store(counters.committed.load(PLAIN), PLAIN);
    into.committed_max.store(counters.committed_max.load(PLAIN), PLAIN);
    into.allocations.store(total.allocations, PLAIN);
    into.frees.store(total.allocations.saturating_sub(total.live), PLAIN);
    into.returned.store(counters.returned.load(PLAIN), PLAIN);
    into.fallbacks.store(slot.fallbacks.load(PLAIN), PLAIN);
    into.unavailable.store(u64::from(counters.is_unavailable()), PLAIN);
    into.quarantined.store(counters.quarantined.load(PLAIN), PLAIN);
}

fn store_text(into: &[AtomicU8], text: &[u8]) {
    let last = into.len() - 1;
    for (i, slot) in into.iter().enumerate() {
        slot.store(if i < last { text.get(i).copied().unwrap_or(0) } else { 0 }, PLAIN);
    }
}

// ---- events ----

const KINDS: usize = 13;

/// What has happened and is not in the ring yet, by kind and tier (the last column: no tier).
struct Pending {
    count: AtomicU64,
    bytes: AtomicU64,
    /// Entry of the ring that it may be folded into, and until when.
    entry: AtomicU32,
    fold_until_ms: AtomicU32,
}

static PENDING: [[Pending; TIERS_MAX + 1]; KINDS] = [const {
    [const {
        Pending {
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            entry: AtomicU32::new(0),
            fold_until_ms: AtomicU32::new(0),
        }
    }; TIERS_MAX + 1]
}; KINDS];

static ANY_PENDING: Flag = Flag::new();
static RING: Lock<u64> = Lock::new(0);

/// Reports that something happened. Cheap, and waits for nobody: events of the same kind about the same tier are
/// counted, and entered once a second.
pub fn event(kind: EventKind, tier: Option<u8>, bytes: u64) {
    let row = &PENDING[kind as usize % KINDS];
    let pending = &row[tier.map_or(TIERS_MAX, |tier| usize::from(tier) % TIERS_MAX)];
    pending.count.fetch_add(1, PLAIN);
    pending.bytes.fetch_add(bytes, PLAIN);
    ANY_PENDING.raise();
    let now = clock::now_ms();
    if now >= pending.fold_until_ms.load(PLAIN)
        && let Some(segment) = segment()
    {
        flush_events(segment, now, false);
    }
}

/// Enters what is pending. With `fold`, also what would wait for its second to be over.
fn flush_events(segment: &Segment, now: u32, fold: bool) {
    if !ANY_PENDING.is_up() {
        return;
    }
    let Some(mut serial) = RING.try_lock() else { return };
    ANY_PENDING.lower();
    for (kind, row) in PENDING.iter().enumerate() {
        for (tier, pending) in row.iter().enumerate() {
            let folding = now < pending.fold_until_ms.load(PLAIN);
            if folding && !fold {
                ANY_PENDING.raise();
                continue;
            }
            let (count, bytes) = (pending.count.swap(0, PLAIN), pending.bytes.swap(0, PLAIN));
            if count == 0 {
                continue;
            }
            if folding {
                let entry = &segment.events[pending.entry.load(PLAIN) as usize % EVENTS];
                entry.count.fetch_add(count, PLAIN);
                entry.bytes.fetch_add(bytes, PLAIN);
                continue;
            }
            let at = (*serial % EVENTS as u64) as usize;
            *serial += 1;
            pending.entry.store(at as u32, PLAIN);
            pending.fold_until_ms.store(now + FOLD_MS, PLAIN);
            let tier = if tier == TIERS_MAX { u32::MAX } else { tier as u32 };
            enter(&segment.events[at], *serial, kind as u32, tier, now, count, bytes);
            segment.header.events_total.store(*serial, Ordering::Release);
        }
    }
}

fn enter(entry: &EventRecord, serial: u64, kind: u32, tier: u32, now: u32, count: u64, bytes: u64) {
    entry.serial.store(serial, PLAIN);
    entry.kind.store(kind, PLAIN);
    entry.tier.store(tier, PLAIN);
    entry.at_ms.store(u64::from(now), PLAIN);
    entry.bytes.store(bytes, PLAIN);
    entry.count.store(count, PLAIN);
}

// ---- fork ----

/// Takes the locks of this module, to hold them across a fork.
pub fn lock_for_fork() {
    SCRATCH.acquire();
    RING.acquire();
}

/// Lets them go, in the parent or the child.
///
/// # Safety
/// [`lock_for_fork`] came before, in this thread or in the one it was copied from.
pub unsafe fn unlock_after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { RING.release() };
    // SAFETY: passed on to the caller.
    unsafe { SCRATCH.release() };
}

/// In a child: the segment is the parent's. Publishing stops until the child has its own.
pub fn restart_in_child() {
    SEGMENT.store(std::ptr::null_mut(), PLAIN);
    OWED.store(false, PLAIN);
    profile::restart_in_child();
    // SAFETY: called in the child, which has one thread, with the lock taken by `lock_for_fork`.
    unsafe { *RING.as_ptr() = 0 };
    PENDING.iter().flatten().for_each(|pending| pending.fold_until_ms.store(0, PLAIN));
}
