//! Faults on purpose, in a real program: what `tierctl run --faults PLAN.toml` asks for.

use tiermem_sys::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use tiermem_sys::thread;
use tiermem_tiers::Provider;
use tiermem_tiers::provider::fault::{Clock, Faulty, Script};

use super::FAULTS_VARIABLE;
use super::configure::{Outcome, variable};
use crate::control::{self, EventKind};
use crate::tiers::{self, TIERS_MAX};

/// How often time is looked at, milliseconds.
const POLL_MS: u32 = 2;

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

/// Wraps a tier that the script has something for. Lives for ever, as tiers do.
pub fn wrap(tier: Box<dyn Provider>, script: &Script) -> Result<&'static dyn Provider, String> {
    if !script.concerns(tier.tier().name) {
        return Ok(Box::leak(tier));
    }
    let id = tier.tier().id;
    let faulty = Faulty::new(tier, script, Clock::Wall).map_err(|error| format!("its faults: {error}"))?;
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

/// Starts to look at the clock, if the script waits for it. Operations on a tier may be rare.
pub fn watch() {
    if poll() {
        // Without the thread, time brings its faults with the next operation on the tier.
        let _ = thread::spawn_detached(c"tiermem-faults", run);
    }
}

extern "C" fn run() {
    while poll() {
        thread::sleep_ms(POLL_MS);
    }
}

/// Brings what is due; whether anything waits for time.
fn poll() -> bool {
    let mut waits = false;
    for (tier, faulty) in all() {
        waits |= faulty.poll();
        tiers::pool(tier as u8).heed();
    }
    tell();
    waits
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
