//! Forking: every lock is taken before, so that the child finds every structure whole, and memory that the kernel
//! would share between the two processes (mapped files) is made copy-on-write. Where that cannot be done (a DAX device
//! can only be mapped shared), the child copies, and the parent waits for it.

use std::cell::UnsafeCell;

use tiermem_sys::gate::{self, Gate};
use tiermem_sys::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tiermem_sys::{process, thread};
use tiermem_tiers::{Addressable, Extent, ForkPlan};

use crate::control::{self, EventKind};
use crate::{arena, heap, meta, purge, recorder, startup, tiers};

/// Has the functions below run around every fork. Called again, does nothing.
///
/// Called with the first heap: the handlers that were registered first are the last to run before a fork, so nearly all of
/// the program's and its libraries' run while no lock is held. Those of a library that registered before the first block
/// was allocated run while this thread has every lock, and may allocate nevertheless: see [`is_under_way`].
pub fn register() {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    // Relaxed: once only; no data hangs on it.
    if REGISTERED.load(Ordering::Relaxed) || REGISTERED.swap(true, Ordering::Relaxed) {
        return;
    }
    // Without memory for three pointers the process would not get far; a fork would then be as unsafe as without us.
    let _ = thread::at_fork(prepare, parent, child);
}

/// What the handlers before a fork tell those after it.
struct UnderWay {
    /// Bytes made copy-on-write.
    converted: u64,
    /// Shut while the child copies what could not be converted.
    gate: Option<Gate>,
}

struct Shared(UnsafeCell<UnderWay>);
// SAFETY: used only by `prepare` and, in the same thread or its copy, by `parent`/`child` before they let the locks go.
unsafe impl Sync for Shared {}
static UNDER_WAY: Shared = Shared(UnsafeCell::new(UnderWay { converted: 0, gate: None }));

/// The thread that has every lock, around its fork; 0 for none.
static FORKING: AtomicUsize = AtomicUsize::new(0);

/// Whether this thread is between [`prepare`] and [`parent`] or [`child`]: somebody else's fork handler runs in it. It may
/// take each lock again (see `sync::Lock`), but gets nothing from providers that share memory with the child, and gives
/// nothing back to them: what they have has been made ready for the fork.
pub fn is_under_way() -> bool {
    // Relaxed: a thread looks for itself.
    let forking = FORKING.load(Ordering::Relaxed);
    forking != 0 && forking == thread::current()
}

extern "C" fn prepare() {
    // The order in which the allocator takes locks: the recorder's thread, segment's place, purger, registry, statistics, pools by number,
    // address space, records, trace, providers' own.
    recorder::hold_thread_for_fork();
    startup::lock_for_fork();
    purge::lock_for_fork();
    heap::lock_for_fork();
    control::lock_for_fork();
    for slot in tiers::all() {
        slot.pool.lock().acquire();
    }
    arena::SPACE.acquire();
    meta::lock_for_fork();
    recorder::lock_for_fork();
    providers().for_each(|provider| provider.prepare_fork());
    let mut converted = 0;
    let mut left = false;
    for_each_extent(|provider, extent, copied_in_child| {
        let shared = match provider.fork_plan() {
            ForkPlan::Inherent => false,
            ForkPlan::CopyOnWrite => provider.before_fork(extent).is_err(),
            _ => true,
        };
        copied_in_child.store(shared, Ordering::Relaxed);
        converted += if shared { 0 } else { extent.len().0 };
        left |= shared;
    });
    // Without a descriptor for the gate the child copies all the same; writes of the parent's other threads may then
    // slip into its copy.
    let gate = if left { Gate::new().ok() } else { None };
    // SAFETY: see `Shared`.
    unsafe { *UNDER_WAY.0.get() = UnderWay { converted, gate } };
    // Relaxed: read by this thread and its copy only.
    FORKING.store(thread::current(), Ordering::Relaxed);
}

/// Calls `visit` with each extent of a provider that is not plain anonymous memory, and the extent's mark for
/// [`copy_in_child`]. The locks are held.
fn for_each_extent(mut visit: impl FnMut(&'static dyn Addressable, &Extent, &AtomicBool)) {
    for slot in tiers::all() {
        let inherent = |provider: &dyn Addressable| provider.fork_plan() == ForkPlan::Inherent;
        if slot.pool.backing().provider().is_none_or(inherent) {
            continue;
        }
        // SAFETY: `prepare` took the pools' locks.
        unsafe {
            slot.pool.for_each_extent_locked(|provider, extent| {
                if let Some(at) = extent.address() {
                    visit(provider, extent, &arena::extent(arena::index_of(at.addr().get())).copied_in_child);
                }
            });
        }
    }
}

/// Gives the child copies of its own of what both processes would share.
fn copy_in_child() {
    for_each_extent(|_, extent, copied_in_child| {
        if !copied_in_child.load(Ordering::Relaxed) {
            return;
        }
        let Some(at) = extent.address() else { return };
        // SAFETY: the child has one thread, this one.
        let copied = unsafe { gate::replace_by_copy(at, extent.len().0 as usize) };
        if copied.is_err() {
            // Going on would write into the parent's memory.
            process::say(b"tiermem: no memory for the copy that a child of fork needs of its parent's extents\n");
            std::process::abort();
        }
    });
}

/// Lets every lock go, in the reverse order.
fn release_all() {
    // SAFETY: `prepare` took it.
    unsafe { recorder::unlock_after_fork() };
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
    // SAFETY: `prepare` took it.
    unsafe { recorder::let_thread_go_on() };
}

fn providers() -> impl Iterator<Item = &'static dyn Addressable> {
    tiers::all().iter().filter_map(|slot| slot.pool.backing().provider())
}

fn tell_providers(child: bool) {
    providers().for_each(|provider| provider.after_fork(child));
}

/// What `prepare` left.
fn under_way() -> UnderWay {
    // SAFETY: see `Shared`.
    unsafe { std::mem::replace(&mut *UNDER_WAY.0.get(), UnderWay { converted: 0, gate: None }) }
}

extern "C" fn parent() {
    FORKING.store(0, Ordering::Relaxed);
    tell_providers(false);
    let UnderWay { converted, gate } = under_way();
    if let Some(gate) = gate {
        gate.wait();
    }
    release_all();
    if converted > 0 {
        recorder::made_copy_on_write();
        control::event(EventKind::Forked, None, converted);
    }
}

extern "C" fn child() {
    FORKING.store(0, Ordering::Relaxed);
    tell_providers(true);
    copy_in_child();
    let UnderWay { converted, gate } = under_way();
    if let Some(gate) = gate {
        gate.open();
    }
    control::restart_in_child();
    release_all();
    recorder::restart_in_child();
    if converted > 0 {
        recorder::made_copy_on_write();
    }
    heap::restart_in_child();
    purge::restart_in_child();
    startup::expect_child();
    startup::restart_faults_in_child();
}

#[cfg(test)]
mod tests;
