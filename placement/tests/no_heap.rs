//! What runs inside `malloc` must not call it: choosing and matching use no heap memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tiermem_placement::{EXAMPLE, Frame, Plan, Policy, Request, TIERS_MAX, TierIndex, TierLoad};

thread_local! {
    /// Calls of the allocator on this thread; other tests run on other threads.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes on to `System` unchanged, whose contract is the same; counting touches no memory of theirs.
#[expect(unsafe_code, reason = "an allocator is an unsafe trait")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller keeps the contract of `dealloc`, and `block` came from `System` above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocator calls during `work`.
fn calls(work: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

#[test]
fn a_plan_is_a_small_plain_value() {
    fn plain<T: Copy + Send + Sync + 'static>() {}
    plain::<Plan>();
    assert!(size_of::<Plan>() <= 1536, "{}", size_of::<Plan>());
}

#[test]
fn choosing_and_matching_use_no_heap() {
    let interleave = EXAMPLE.replace("\"fill\" ", "\"interleave\" ");
    for text in [EXAMPLE, &interleave] {
        let policy = Policy::parse(text, "example").unwrap_or_else(|error| panic!("{error}"));
        let (plan, sites) = (policy.compile(), policy.site_rules());
        let mut loads = [TierLoad::default(); TIERS_MAX];
        let used = calls(|| {
            for step in 0..1000u64 {
                let frames = [Frame { symbol: Some("Cache::insert"), module: "/lib/libfoo.so.1" }; 4];
                let site = sites.matches(step << 10, frames).filter(|_| step % 3 == 0);
                let hint = (step % 5 == 0).then_some(TierIndex::DRAM);
                let choice = plan.choose(&Request { size: step << 10, grow: 1 << 16, hint, site }, &loads);
                let mut tiers = choice.iter();
                if let Some(tier) = tiers.next() {
                    loads[tier.index()].committed += 1 << 16;
                }
                std::hint::black_box((choice.reason(), choice.spill_cause(), tiers.count()));
            }
        });
        assert_eq!(used, 0);
    }
}

/// The count is a real one.
#[test]
fn heap_use_is_seen() {
    assert_eq!(calls(|| drop(std::hint::black_box(Box::new(7)))), 2);
    assert!(calls(|| drop(Policy::default())) > 0);
}
