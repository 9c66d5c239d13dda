//! Faults on purpose, in a real program: what `tierctl run --faults PLAN.toml` asks for, and what `tierctl emulate fault`
//! does to the machine whose tiers it uses.

use std::path::Path;
use std::time::Duration;

use tiermem_sys::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use tiermem_sys::thread;
use tiermem_tiers::provider::fault::kept::{self, Kept};
use tiermem_tiers::provider::fault::{Clock, Faulty, Script};
use tiermem_tiers::{Provider, TierKind, TierSpec};

use super::FAULTS_VARIABLE;
use super::configure::{Outcome, variable};
use crate::control::{self, EventKind};
use crate::tiers::{self, TIERS_MAX};

/// Whether a thread looks at the clock.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// The faulty tiers by number; null for those that are not. Set before `main`, never changed.
static FAULTY: [AtomicPtr<Faulty>; TIERS_MAX] = [const { AtomicPtr::new(std::ptr::null_mut()) }; TIERS_MAX];
/// Of what has happened on each, how much was entered as events.
static TOLD: [AtomicU32; TIERS_MAX] = [const { AtomicU32::new(0) }; TIERS_MAX];

/// What the environment asks for; empty in nearly every process.
pub fn script(outcome: &mut Outcome) -> Script {
    let Some(text) = variable(FAULTS_VARIABLE) else { return Script::default() };
    text.parse().unwrap_or_else(|error| {
        outcome.complain(format_args!("{FAULTS_VARIABLE}: {error}; nothing goes wrong on purpose"));
        Script::default()
    })
}

/// Wraps a tier that the script has something for, and one of an emulated machine, to which faults may come at any time. Lives
/// for ever, as tiers do.
pub fn wrap(tier: Box<dyn Provider>, spec: &TierSpec, script: &Script) -> Result<&'static dyn Provider, String> {
    let has_file = matches!(spec.kind, TierKind::DaxFile | TierKind::Nvme);
    let kept = has_file.then(|| Kept::open(&kept::beside(Path::new(&spec.location)))).transpose();
    let kept = kept.map_err(|error| format!("the faults of its emulated machine: {error}"))?.flatten();
    if kept.is_none() && !script.concerns(tier.tier().name) {
        return Ok(Box::leak(tier));
    }
    let id = tier.tier().id;
    let faulty = Faulty::with_kept(tier, script, kept, Clock::Wall).map_err(|error| format!("its faults: {error}"))?;
    let faulty: &'static Faulty = Box::leak(Box::new(faulty));
    // Release pairs with the Acquire in `all`.
    FAULTY[id.index()].store(std::ptr::from_ref(faulty).cast_mut(), Ordering::Release);
    Ok(faulty)
}

fn all() -> impl Iterator<Item = (usize, &'static Faulty)> {
    // Acquire pairs with the Release in `wrap`.
    // SAFETY: null, or a tier that lives for ever.
    FAULTY.iter().enumerate().filter_map(|(i, at)| Some((i, unsafe { at.load(Ordering::Acquire).as_ref() }?)))
}

/// Starts to look at the clock, if a script waits for it, and for new faults of emulated machines. Operations on a tier may
/// be rare.
pub fn watch() {
    if poll().is_some() {
        // Relaxed: read in a child of fork, by the copy of a thread that runs after this.
        WATCHED.store(true, Ordering::Relaxed);
        // Without the thread, faults come with the next operation on the tier.
        let _ = thread::spawn_detached(c"tiermem-faults", run);
    }
}

/// A child of fork has none of its parent's threads.
pub fn restart_in_child() {
    if WATCHED.load(Ordering::Relaxed) {
        // As in `watch`.
        let _ = thread::spawn_detached(c"tiermem-faults", run);
    }
}

extern "C" fn run() {
    while let Some(pause) = poll() {
        thread::sleep_ms(pause.as_millis() as u32);
    }
    WATCHED.store(false, Ordering::Relaxed);
}

/// Brings what is due; says after how long to look again, if anything can still come by itself.
fn poll() -> Option<Duration> {
    let mut next: Option<Duration> = None;
    for (tier, faulty) in all() {
        let own = faulty.poll_again_in();
        tiers::pool(tier as u8).heed();
        next = next.into_iter().chain(own).min();
    }
    tell();
    next
}

/// Enters what has happened since the last time as events.
pub fn tell() {
    for (tier, faulty) in all() {
        let happened = faulty.happened_count();
        let told = TOLD[tier].swap(happened, Ordering::Relaxed);
        for _ in told..happened {
            control::event(EventKind::Injected, Some(tier as u8), 0);
        }
    }
}
