//! Where a request goes: asks the placement engine for the order of tiers, tries them in turn, and tells what became
//! of it.

use tiermem_placement::{Plan, Request, TIERS_MAX, TierIndex, TierLoad};
use tiermem_sys::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::control::{self, EventKind};
use crate::geometry::{EXTENT_SIZE, UNIT_SIZE};
use crate::heap::{Demand, Heap};
use crate::pool::Refusal;
use crate::size_class::SizeClass;
use crate::{arena, harden, large, profile, sites, tiers};

const _: () = assert!(TIERS_MAX == tiers::TIERS_MAX);

/// The plan in force; null before the process is configured. A replaced plan is not freed: readers take no lock, and
/// policies change rarely.
static PLAN: AtomicPtr<Plan> = AtomicPtr::new(std::ptr::null_mut());

/// Bit per size class: some request in it is under a rule, so the fast path must not serve it.
static RULED: AtomicU64 = AtomicU64::new(0);

/// Puts a plan in force. Rules about sizes apply to size classes that no thread has used yet, and from a class's next
/// span on to others.
pub fn set_plan(plan: &'static Plan) {
    let mut ruled = 0;
    for class in SizeClass::all() {
        // Hardened blocks hold a little more than was asked for.
        let room = harden::room();
        let covered = plan
            .size_rule_overlaps(class.request_min().saturating_sub(room) as u64, (class.block_size() - room) as u64);
        if covered || plan.has_site_rules() {
            ruled |= 1 << class.index();
        }
    }
    RULED.store(ruled, Ordering::Relaxed);
    // Release pairs with the Acquire in `plan`.
    PLAN.store(std::ptr::from_ref(plan).cast_mut(), Ordering::Release);
}

/// The plan in force, if the process is configured.
pub fn plan() -> Option<&'static Plan> {
    // Acquire pairs with the Release in `set_plan`.
    // SAFETY: null or a plan that lives for ever.
    unsafe { PLAN.load(Ordering::Acquire).as_ref() }
}

/// Whether each request of this class must be looked at.
pub fn is_ruled(class: SizeClass) -> bool {
    // Relaxed: a thread that sees the old value only follows the rule from its next span on.
    RULED.load(Ordering::Relaxed) >> class.index() & 1 == 1
}

/// Serves a demand of `size` bytes from the first tier that can. Null if none can.
pub fn allocate(heap: &'static Heap, demand: Demand, size: usize) -> *mut u8 {
    let Some(plan) = plan() else { return allocate_on_dram(heap, demand, size) };
    let mut request = request(heap, plan, size);
    // First what the best tier already holds: memory that was freed there is used before another tier grows.
    let loads = loads();
    let best = plan.choose(&request, &loads).preferred();
    if let Some(tier) = best
        && let Ok(block) = serve(heap, tier.0, demand, false)
    {
        settle(heap, plan, demand, &request, tier);
        return block;
    }
    request.grow = match demand {
        Demand::Class(_) => EXTENT_SIZE as u64,
        Demand::Large(size, ..) => large::growth(size) as u64,
    };
    let block = grow(heap, plan, demand, &request, &loads);
    if !block.is_null() {
        return block;
    }
    // Over every limit and watermark for a whole extent, but a tier may still hold a fitting piece.
    let small = Request { grow: 0, ..request };
    for tier in plan.choose(&small, &loads).iter() {
        if let Ok(block) = serve(heap, tier.0, demand, false) {
            return block;
        }
    }
    last_resort(heap, plan, demand, &request)
}

/// What the plan is asked about a block of `size` bytes, if no tier has to grow for it.
fn request(heap: &Heap, plan: &Plan, size: usize) -> Request {
    let mut request = Request::new(size as u64, 0);
    request.hint = heap.hint().map(TierIndex);
    request.site = plan.has_site_rules().then(|| sites::rule_for(size as u64)).flatten();
    request
}

/// Whether a block of `tier` that grows to `size` bytes, by `more`, would be placed there again: then it may grow where it
/// is.
pub fn may_stay(heap: &Heap, tier: u8, size: usize, more: usize) -> bool {
    let Some(plan) = plan() else { return true };
    let request = Request { grow: more as u64, ..request(heap, plan, size) };
    plan.choose(&request, &loads()).preferred() == Some(TierIndex(tier))
}

/// Before the process is configured, or where nothing was asked for: DRAM is all there is.
fn allocate_on_dram(heap: &'static Heap, demand: Demand, size: usize) -> *mut u8 {
    const DRAM: u8 = 0;
    let block = serve(heap, DRAM, demand, true).unwrap_or_else(|refusal| {
        report_refusal(DRAM, refusal, size);
        heap.rouse();
        serve(heap, DRAM, demand, false).unwrap_or_else(|_| out_of_memory(size))
    });
    if let Demand::Class(class) = demand
        && !block.is_null()
    {
        heap.follow_strategy(class, DRAM);
    }
    block
}

/// Before the program gets a null pointer: takes in what idle heaps hold, makes use of the last free blocks of this one,
/// and asks every tier once more, also those that have refused lately.
#[cold]
fn last_resort(heap: &'static Heap, plan: &Plan, demand: Demand, request: &Request) -> *mut u8 {
    crate::heap::collect_idle();
    heap.rouse();
    let mut loads = loads();
    loads.iter_mut().for_each(|load| load.available = true);
    for tier in plan.choose(&Request { grow: 0, ..*request }, &loads).iter() {
        if let Ok(block) = serve(heap, tier.0, demand, false) {
            return block;
        }
    }
    let block = grow(heap, plan, demand, request, &loads);
    if block.is_null() { out_of_memory(request.size as usize) } else { block }
}

/// Tries the tiers in the plan's order, with new extents. Null if none can serve.
fn grow(heap: &'static Heap, plan: &Plan, demand: Demand, request: &Request, loads: &[TierLoad; TIERS_MAX]) -> *mut u8 {
    let choice = plan.choose(request, loads);
    let size = request.size as usize;
    let wanted = choice.spilled_from().or(choice.preferred());
    for tier in choice.iter() {
        match serve(heap, tier.0, demand, true) {
            Ok(block) => {
                if let Some(wanted) = wanted.filter(|&wanted| wanted != tier) {
                    tiers::slot(wanted.0).fallbacks.fetch_add(1, Ordering::Relaxed);
                    control::event(EventKind::Spilled, Some(wanted.0), size as u64);
                }
                settle(heap, plan, demand, request, tier);
                return block;
            }
            Err(refusal) => report_refusal(tier.0, refusal, size),
        }
    }
    std::ptr::null_mut()
}

/// Makes the fast path go on with what the strategy chose for this class. Other classes stay where they are: what they
/// have left on another tier is used up first.
fn settle(heap: &'static Heap, plan: &Plan, demand: Demand, request: &Request, tier: TierIndex) {
    if let Demand::Class(class) = demand
        && request.hint.is_none()
        && request.site.is_none()
        && plan.size_rule(request.size).is_none()
    {
        heap.follow_strategy(class, tier.0);
    }
}

fn serve(heap: &'static Heap, tier: u8, demand: Demand, may_grow: bool) -> Result<*mut u8, Refusal> {
    match demand {
        Demand::Class(class) => {
            let tier_heap = heap.tier(tier).ok_or(Refusal::AddressSpace)?;
            tier_heap.allocate(heap, class, may_grow).map(<*mut _>::cast)
        }
        Demand::Large(size, align, fit) => {
            let block = large::allocate(tier, size, align, may_grow, fit)?;
            if profile::interval() != 0
                && let Some(record) = arena::record_of(block.addr())
                && heap.tier(tier).is_some_and(|tier_heap| tier_heap.samples_large(size.next_multiple_of(UNIT_SIZE)))
            {
                record.mark_sampled();
            }
            Ok(block)
        }
    }
}

fn loads() -> [TierLoad; TIERS_MAX] {
    let mut loads = [TierLoad::default(); TIERS_MAX];
    for (load, slot) in loads.iter_mut().zip(tiers::all()) {
        // Relaxed: the limit itself is checked again under the pool's lock.
        load.committed = slot.pool.counters.committed.load(Ordering::Relaxed);
        load.capacity = slot.pool.counters.capacity.load(Ordering::Relaxed);
        load.available = !slot.pool.counters.is_unavailable();
    }
    loads
}

fn report_refusal(tier: u8, refusal: Refusal, size: usize) {
    let kind = match refusal {
        Refusal::NeedsGrowth | Refusal::Limit => return,
        Refusal::AddressSpace => EventKind::Full,
        Refusal::Tier(error) if matches!(error.kind(), tiermem_tiers::ErrorKind::Full { .. }) => EventKind::Full,
        Refusal::Tier(_) => EventKind::Failed,
    };
    control::event(kind, Some(tier), size as u64);
}

#[cold]
fn out_of_memory(size: usize) -> *mut u8 {
    control::event(EventKind::OutOfMemory, None, size as u64);
    std::ptr::null_mut()
}
