//! Forking: every lock is taken before, so that the child finds every structure whole, and memory that the kernel
//! would share between the two processes (mapped files) is made copy-on-write.

use std::cell::UnsafeCell;

use tiermem_sys::thread;
use tiermem_tiers::{Addressable, ForkPlan};

use crate::control::{self, EventKind};
use crate::{arena, heap, meta, purge, startup, tiers};

/// Has the functions below run around every fork.
pub fn register() {
    // Without memory for three pointers the process would not get far; a fork would then be as unsafe as without us.
    let _ = thread::at_fork(prepare, parent, child);
}

/// Bytes made copy-on-write by the fork under way.
struct Converted(UnsafeCell<u64>);
// SAFETY: used only between `prepare` and `parent`/`child`, while this thread holds every lock.
unsafe impl Sync for Converted {}
static CONVERTED: Converted = Converted(UnsafeCell::new(0));

extern "C" fn prepare() {
    // The order in which the allocator takes locks: segment's place, purger, registry, statistics, pools by number,
    // address space, records.
    startup::lock_for_fork();
    purge::lock_for_fork();
    heap::lock_for_fork();
    control::lock_for_fork();
    for slot in tiers::all() {
        slot.pool.lock().acquire();
    }
    arena::SPACE.acquire();
    meta::lock_for_fork();
    let mut converted = 0;
    for slot in tiers::all() {
        // SAFETY: the pools' locks were taken above.
        unsafe {
            slot.pool.for_each_extent_locked(|provider: &dyn Addressable, extent| {
                if provider.fork_plan() == ForkPlan::CopyOnWrite && provider.before_fork(extent).is_ok() {
                    converted += extent.len().0;
                }
            });
        }
    }
    // SAFETY: see `Converted`.
    unsafe { *CONVERTED.0.get() = converted };
}

/// Lets every lock go, in the reverse order.
fn release_all() {
    // SAFETY: `prepare` took it.
    unsafe { meta::unlock_after_fork() };
    // SAFETY: `prepare` took it.
    unsafe { arena::SPACE.release() };
    for slot in tiers::all() {
        // SAFETY: `prepare` took it.
        unsafe { slot.pool.lock().release() };
    }
    // SAFETY: `prepare` took it.
    unsafe { control::unlock_after_fork() };
    // SAFETY: `prepare` took it.
    unsafe { heap::unlock_after_fork() };
    // SAFETY: `prepare` took it.
    unsafe { purge::unlock_after_fork() };
    // SAFETY: `prepare` took it.
    unsafe { startup::unlock_after_fork() };
}

fn tell_providers(child: bool) {
    for provider in tiers::all().iter().filter_map(|slot| slot.pool.backing().provider()) {
        provider.after_fork(child);
    }
}

extern "C" fn parent() {
    tell_providers(false);
    // SAFETY: see `Converted`.
    let converted = unsafe { *CONVERTED.0.get() };
    release_all();
    if converted > 0 {
        control::event(EventKind::Forked, None, converted);
    }
}

extern "C" fn child() {
    tell_providers(true);
    control::restart_in_child();
    release_all();
    purge::restart_in_child();
    startup::expect_child();
}
