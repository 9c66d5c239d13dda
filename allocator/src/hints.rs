//! Placing from code: scopes in which the calling thread allocates from a tier.

use tiermem_tiers::TierId;

use crate::{heap, tiers};

/// The tier of this name, if the process uses one.
pub fn tier(name: &str) -> Option<TierId> {
    tiers::find(name)
}

/// The tier of this number, if there is one.
pub fn tier_numbered(number: u8) -> Option<TierId> {
    (usize::from(number) < tiers::count()).then_some(TierId(number))
}

/// How many tiers the process uses.
pub fn tier_count() -> usize {
    tiers::count()
}

/// Has the calling thread allocate from `tier` until [`pop_hint`]. False if there is no memory for it.
///
/// A hint is a wish: when the tier has no room, allocation goes on along the policy's chain, and that is counted.
#[inline]
pub fn push_hint(tier: TierId) -> bool {
    heap::attach().map(|heap| heap.push_hint(tier.0)).is_some()
}

/// Ends the innermost [`push_hint`]. False if there is none.
#[inline]
pub fn pop_hint() -> bool {
    heap::attach().is_some_and(heap::Heap::pop_hint)
}

/// Runs `body`; what the calling thread allocates meanwhile comes from `tier`.
///
/// ```
/// use tiermem::{scope, tier};
/// let dram = tier("dram").unwrap();
/// let table = scope(dram, || vec![0u64; 1000]);
/// assert_eq!(table.len(), 1000);
/// ```
pub fn scope<R>(tier: TierId, body: impl FnOnce() -> R) -> R {
    struct Pop(bool);
    impl Drop for Pop {
        fn drop(&mut self) {
            if self.0 {
                pop_hint();
            }
        }
    }
    let _pop = Pop(push_hint(tier));
    body()
}
