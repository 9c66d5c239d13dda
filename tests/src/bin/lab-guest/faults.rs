//! Memory that breaks and devices that go: what a tier's users see of it.

use std::process::{Command, ExitStatus};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tiermem_sys::guarded;
use tiermem_sys::map::{self, Advice};
use tiermem_sys::process::{self, Ended};
use tiermem_sys::signal::Signals;
use tiermem_tiers::{Bytes, ErrorKind, Extent, GRANULE, Health, Provenance, Provider, TierId, TierSpec, provider};

use crate::memory::Memory;
use crate::{Arguments, Outcome, ensure, failed};

const SIGBUS: i32 = 7;
const PATIENCE: Duration = Duration::from_secs(120);

fn open(text: &str) -> Result<(TierSpec, Box<dyn Provider>), String> {
    let spec: TierSpec = text.parse().map_err(failed("the SPEC"))?;
    let tier = provider::open(&spec, TierId(0)).map_err(failed("opening it"))?;
    Ok((spec, tier))
}

fn extent(tier: &dyn Provider) -> Result<Extent, String> {
    let extent = tier.reserve(GRANULE, Provenance::Tool).map_err(failed("reserve"))?;
    tier.write(&extent, 0, &[7; 4096]).map_err(failed("write"))?;
    Ok(extent)
}

/// Which OS page of an extent is broken.
const BROKEN: u64 = 3 << 12;

/// An OS page of the tier breaks, by the kernel's own hand: guarded access answers with a typed error at that place and no
/// signal, what comes before it is copied, a plain load gets SIGBUS, other extents stay, the tier counts as degraded.
pub fn poisoned(arguments: &Arguments<'_>) -> Outcome {
    let (_, tier) = open(arguments.text(0)?)?;
    let (whole, broken) = (extent(tier.as_ref())?, extent(tier.as_ref())?);
    let at = broken.address().ok_or("it has no address")?;
    // SAFETY: inside the extent.
    let page = unsafe { at.add(BROKEN as usize) };
    // The kernel kills whoever does this, so a child does it to the OS page that it shares with us.
    child(|| {
        // SAFETY: an OS page of our own extent; it is looked at only where that may fail.
        let _ = unsafe { map::advise(page, map::os_page_size(), Advice::Poison) };
    })?;
    let mut into = vec![0; 8 * 4096];
    let error = tier.read(&broken, 0, &mut into).err().ok_or("it reads as before")?;
    let expected = ErrorKind::Poisoned { extent: broken.offset(), offset: BROKEN };
    ensure(error.kind() == expected, || format!("{expected:?} expected: {error}"))?;
    ensure(into[..4096] == [7; 4096], || "what comes before is not copied".into())?;
    let ended = child(|| {
        // SAFETY: mapped memory, though loads from it raise a signal: that is what is looked at.
        std::hint::black_box(unsafe { page.read_volatile() });
    })?;
    ensure(ended == Ended::Killed(SIGBUS), || format!("a plain load ends with {ended:?}"))?;
    tier.read(&whole, 0, &mut into[..4096]).map_err(failed("reading another extent"))?;
    ensure(into[..4096] == [7; 4096], || "another extent changed".into())?;
    ensure(tier.health() == Health::Degraded, || format!("the tier says {:?}", tier.health()))?;
    tier.release(broken).map_err(failed("release"))?;
    tier.release(whole).map_err(failed("release"))?;
    Ok(format!("{error}; SIGBUS for a plain load"))
}

/// An OS page of a DAX device breaks under this very process. The kernel says so once, by SIGBUS, which ends nobody, and maps the
/// OS page again at the next touch: a copy that knows nothing of it reads as before. Guarded access remembers.
pub fn poisoned_device(arguments: &Arguments<'_>) -> Outcome {
    let (_, tier) = open(arguments.text(0)?)?;
    let (whole, broken) = (extent(tier.as_ref())?, extent(tier.as_ref())?);
    let at = broken.address().ok_or("it has no address")?;
    tier.write(&broken, BROKEN, &[8; 4096]).map_err(failed("write"))?;
    // SAFETY: inside the extent.
    let page = unsafe { at.add(BROKEN as usize) };
    // SAFETY: an OS page of our own extent; it is looked at only where that may fail.
    unsafe { map::advise(page, map::os_page_size(), Advice::Poison) }.map_err(failed("MADV_HWPOISON"))?;

    let mut control = [0; 4096];
    // SAFETY: mapped for as long as the extent is held.
    let unaware = unsafe { guarded::read(page, &mut control) };
    ensure(unaware.is_ok() && control == [8; 4096], || format!("the kernel keeps it from being read: {unaware:?}"))?;
    let mut said = Vec::new();
    for _ in 0..2 {
        let error = tier.read(&broken, BROKEN, &mut control).err().ok_or("it reads as before")?;
        let expected = ErrorKind::Poisoned { extent: broken.offset(), offset: BROKEN };
        ensure(error.kind() == expected, || format!("{expected:?} expected: {error}"))?;
        said.push(error);
    }
    let refused = tier.write(&broken, BROKEN, &control);
    ensure(refused.as_ref().is_err_and(|error| error.kind() == said[0].kind()), || format!("written: {refused:?}"))?;
    tier.read(&whole, 0, &mut control).map_err(failed("reading another extent"))?;
    ensure(control == [7; 4096], || "another extent changed".into())?;
    ensure(tier.health() == Health::Degraded, || format!("the tier says {:?}", tier.health()))?;
    // How much of the extent the kernel gave up.
    let sound = (0..GRANULE.0).step_by(4096).filter(|&offset| tier.read(&broken, offset, &mut control).is_ok()).count();

    let place = broken.offset();
    [broken, whole].into_iter().try_for_each(|extent| tier.release(extent)).map_err(failed("release"))?;
    never_handed_out(tier.as_ref(), place)?;
    let repaired = tier.repair().map_err(failed("repair"))?;
    ensure(repaired == GRANULE, || format!("{repaired} are repaired"))?;
    let mut held = Vec::new();
    while held.iter().all(|extent: &Extent| extent.offset() != place) {
        held.push(extent(tier.as_ref())?);
    }
    held.iter().try_for_each(|extent| tier.read(extent, 0, &mut control)).map_err(failed("reading it repaired"))?;
    held.into_iter().try_for_each(|extent| tier.release(extent)).map_err(failed("release"))?;
    Ok(format!("{}; {sound} of 512 OS pages of its granule are sound; the process goes on", said[0]))
}

/// Does something in a child process and says how that ended.
fn child(deed: impl FnOnce()) -> Result<Ended, String> {
    // SAFETY: this process has one thread, and the child ends without destructors.
    match unsafe { process::fork() }.map_err(failed("fork"))? {
        Some(pid) => process::wait(pid).map_err(failed("waitpid")),
        None => {
            deed();
            process::exit_now(0)
        }
    }
}

/// What somebody set aside from outside is so for every process: the tier is degraded and the granule is not handed out.
pub fn set_aside(arguments: &Arguments<'_>) -> Outcome {
    let (_, tier) = open(arguments.text(0)?)?;
    let offset: u64 = arguments.number(1)?;
    let granules: u64 = arguments.number(2)?;
    ensure(tier.health() == Health::Degraded, || format!("the tier says {:?}", tier.health()))?;
    let aside = tier.quarantined();
    ensure(aside == Bytes(granules * GRANULE.0), || format!("{aside} are set aside"))?;
    never_handed_out(tier.as_ref(), offset / GRANULE.0 * GRANULE.0)?;
    Ok(format!("the granule of {offset:#x} is set aside"))
}

/// Takes all that the tier has; this granule must not be among it.
fn never_handed_out(tier: &dyn Provider, place: u64) -> Result<(), String> {
    let mut held = Vec::new();
    let full = loop {
        match tier.reserve(GRANULE, Provenance::Tool) {
            Ok(extent) => held.push(extent),
            Err(error) => break error,
        }
    };
    ensure(matches!(full.kind(), ErrorKind::Full { .. }), || format!("filling it: {full}"))?;
    let found = held.iter().any(|extent| extent.offset() == place);
    let (count, capacity) = (held.len() as u64, tier.usage().capacity);
    held.into_iter().try_for_each(|extent| tier.release(extent)).map_err(failed("release"))?;
    ensure(!found, || format!("the bad granule {place:#x} is handed out again"))?;
    let expected = Bytes(count * GRANULE.0 + tier.quarantined().0);
    ensure(expected == capacity, || format!("{count} granules of {capacity} can be had"))
}

/// The host takes the device away while it is in use: accesses say that it is gone, and nobody dies of it.
pub fn removed(arguments: &Arguments<'_>) -> Outcome {
    let (_, tier) = open(arguments.text(0)?)?;
    let extent = extent(tier.as_ref())?;
    let asked = Command::new("tierctl").args(["qemu", "guest", "remove", arguments.text(1)?]).status();
    ensure(asked.as_ref().is_ok_and(ExitStatus::success), || format!("asking the host: {asked:?}"))?;
    let start = Instant::now();
    let error = loop {
        if let Err(error) = tier.read(&extent, 0, &mut [0; 64]) {
            break error;
        }
        ensure(start.elapsed() < PATIENCE, || format!("still there after {PATIENCE:?}"))?;
        std::thread::sleep(Duration::from_millis(20));
    };
    ensure(error.kind() == ErrorKind::Gone, || format!("Gone expected: {error}"))?;
    ensure(tier.health() == Health::Failed, || format!("the tier says {:?}", tier.health()))?;
    Ok(format!("Gone after {} ms, no signal", start.elapsed().as_millis()))
}

/// Makes the kernel believe that the hardware reported an uncorrectable error at an offset of a DAX device. It sends SIGBUS to
/// the one who was there; later loads pass, because nothing is really broken.
pub fn break_page(arguments: &Arguments<'_>) -> Outcome {
    let offset: usize = arguments.number(1)?;
    let memory = Memory::of_file(arguments.text(0)?, offset + (2 << 20))?;
    memory.word(offset).store(1, Ordering::Relaxed);
    let at = memory.address(offset);
    let signals = Signals::receive(&[SIGBUS]).map_err(failed("receiving signals"))?;
    // SAFETY: an OS page of our own mapping; nobody here looks at it afterwards.
    unsafe { map::advise(at, map::os_page_size(), Advice::Poison) }.map_err(failed("MADV_HWPOISON"))?;
    let received = signals.wait(Duration::from_secs(5)).map_err(failed("waiting for SIGBUS"))?;
    ensure(!received.is_empty(), || "no SIGBUS came".into())?;
    Ok("the kernel took it for broken and sent SIGBUS, which was handled".into())
}
