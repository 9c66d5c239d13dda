//! Starting: from plain DRAM, which works from the first `malloc` on, to the tiers and the policy that the user
//! asked for. Runs once, in an ordinary context (before `main`, or when the program calls [`start`]): it may allocate
//! and open files, and what it leaves behind lives for ever.

mod channel;
mod configure;
mod faults;
mod report;

use std::ptr::NonNull;

use tiermem_sys::map::{self, Advice};
use tiermem_sys::process;
use tiermem_sys::sync::atomic::{AtomicBool, Ordering};

use crate::control::{self, EventKind};
use crate::{harden, profile, recorder, sites};

pub(crate) use faults::{restart_in_child as restart_faults_in_child, tell as tell_of_faults};

pub use channel::{expect_child, lock_for_fork, publish_child_if_due, unlock_after_fork};

/// Where the policy file is.
pub const POLICY_VARIABLE: &str = "TIERMEM_POLICY";
/// Further tiers: `SPEC;SPEC;…`. A tier that the policy names gets the new source.
pub const TIERS_VARIABLE: &str = "TIERMEM_TIERS";
/// Limits: `TIER=SIZE;…`.
pub const LIMITS_VARIABLE: &str = "TIERMEM_LIMITS";
/// When extents of DRAM are backed by huge OS pages: `auto`, `never`, `always` or `hugetlb`.
pub const HUGE_VARIABLE: &str = "TIERMEM_HUGE";
/// Directory for the control segment, instead of `/dev/shm/tiermem-UID`. The segment then outlives the process, for
/// whoever made the directory; and the heap profile is sampled unless [`PROFILE_VARIABLE`] says otherwise.
pub const CONTROL_VARIABLE: &str = "TIERMEM_CONTROL_DIR";
/// Mean distance between two samples of the heap profile, as a size: `512K`; `off` for no profile.
pub const PROFILE_VARIABLE: &str = "TIERMEM_PROFILE";

/// Statistics at exit: `1` for text and `json` for JSON on standard error, or a file (with `/` or `.` in its name) to which
/// they are appended: a line of JSON for each process if its name ends in `.json`, else text.
pub const STATS_VARIABLE: &str = "TIERMEM_STATS";

/// What goes wrong on purpose, as `tierctl fault PLAN.toml --script` writes it.
pub const FAULTS_VARIABLE: &str = "TIERMEM_FAULTS";

/// Set once the user has been told what is wrong with the settings.
const TOLD_VARIABLE: &str = "TIERMEM_TOLD";

/// Sets the process up as its environment says. Called again, does nothing.
///
/// `libtiermem.so` does this before `main`; a program that links the crate calls it first thing, to be placed,
/// watched and tuned like one under the preload. Without it, all memory is DRAM.
///
/// Whatever is wrong with the settings is said in one line on standard error, and the program goes on without.
pub fn start() {
    static STARTED: AtomicBool = AtomicBool::new(false);
    // AcqRel: once only; no data hangs on it.
    if STARTED.swap(true, Ordering::AcqRel) {
        return;
    }
    if !has_memory() {
        process::say(b"tiermem: there is hardly any memory (see `ulimit -a`): no tiers are set up\n");
        return;
    }
    recorder::begin();
    channel::open();
    control::event(EventKind::Started, None, 0);
    let mut outcome = configure::from_environment();
    report::prepare(&mut outcome);
    profile::begin(configure::profile_interval(&mut outcome));
    outcome.complaints.extend(harden::complaint());
    tell(&outcome.complaints);
    control::set_policy(&outcome.policy_path, &outcome.complaints.join("\n"));
    faults::watch();
    control::publish();
}

/// Whether there is memory for setting up. The standard library ends the process where it gets none, and under a tight
/// enough limit that is here, before the program could hear of it.
fn has_memory() -> bool {
    // The first extent and the tables of records; reading a policy and opening its tiers takes far less.
    const NEEDED_BYTES: usize = 8 << 20;
    map::anonymous(NEEDED_BYTES).is_ok_and(|probe| {
        // SAFETY: mapped by the line above, and unused.
        unsafe { map::unmap(probe, NEEDED_BYTES) }.is_ok()
    })
}

/// Says what is wrong on standard error, once for the process and those that it starts: they inherit the settings, and
/// a script would otherwise be told by every program in it.
fn tell(complaints: &[String]) {
    if complaints.is_empty() || std::env::var_os(TOLD_VARIABLE).is_some() {
        return;
    }
    for complaint in complaints {
        eprintln!("tiermem: {complaint}");
    }
    // SAFETY: start-up runs before `main`, or as the first thing in it: no other thread reads the environment.
    unsafe { std::env::set_var(TOLD_VARIABLE, "1") };
}

/// Unmaps the library's own code and constants, of which starting has brought in far more than allocating needs; what is
/// needed comes back from the page cache.
///
/// Each process has the library, and whoever looks at its resident size would see half a megabyte of ours. `start` and
/// `end` are the addresses of the library's first byte and of the end of its code.
pub fn forget_code(start: usize, end: usize) {
    if let Some(at) = NonNull::new(std::ptr::with_exposed_provenance_mut(start)) {
        // SAFETY: read-only mappings of a file: what is dropped is read again. Failing only costs memory.
        let _ = unsafe { map::advise(at, end.saturating_sub(start), Advice::DontNeed) };
    }
}

/// Publishes the last figures. `libtiermem.so` does this when the process exits.
pub fn finish() {
    faults::tell();
    report::at_exit();
    harden::sweep();
    sites::record_modules();
    control::end();
    channel::close();
    recorder::conclude();
}
