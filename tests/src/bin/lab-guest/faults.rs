//! Memory that breaks and devices that go: what a tier's users see of it.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use tiermem_sys::map::{self, Advice};
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

/// An OS page of a DAX device breaks (`MADV_HWPOISON`): the tier's users get a typed error at that place and no signal, the
/// granule is set aside, everything else stays; a plain load gets SIGBUS.
pub fn poisoned(arguments: &Arguments<'_>) -> Outcome {
    let (spec, tier) = open(arguments.text(0)?)?;
    let device = spec.location.as_str();
    let (whole, broken) = (extent(tier.as_ref())?, extent(tier.as_ref())?);
    let place = broken.offset();
    let struck = again(&["break", device, &place.to_string()])?;
    let mut into = [0; 4096];
    let error = tier.read(&broken, 0, &mut into).err().ok_or(format!("it reads as before (broken by {struck})"))?;
    let expected = ErrorKind::Poisoned { extent: place, offset: 0 };
    ensure(error.kind() == expected, || format!("{expected:?} expected: {error}"))?;
    let died = again(&["load", device, &place.to_string()])?;
    ensure(died.signal() == Some(SIGBUS), || format!("a plain load ends with {died}"))?;
    tier.read(&whole, 0, &mut into).map_err(failed("reading another extent"))?;
    ensure(into == [7; 4096], || "another extent changed".into())?;
    ensure(tier.health() == Health::Degraded, || format!("the tier says {:?}", tier.health()))?;
    ensure(tier.quarantined() == GRANULE, || format!("{} are set aside", tier.quarantined()))?;
    tier.release(broken).map_err(failed("release"))?;
    tier.release(whole).map_err(failed("release"))?;
    never_handed_out(tier.as_ref(), place)?;
    Ok(format!("typed error at {place:#x}, SIGBUS for a plain load, {GRANULE} set aside"))
}

/// What somebody set aside from outside is so for every process: the tier is degraded and the granule is not handed out.
pub fn set_aside(arguments: &Arguments<'_>) -> Outcome {
    let (_, tier) = open(arguments.text(0)?)?;
    let offset: u64 = arguments.number(1)?;
    ensure(tier.health() == Health::Degraded, || format!("the tier says {:?}", tier.health()))?;
    ensure(tier.quarantined() == GRANULE, || format!("{} are set aside", tier.quarantined()))?;
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
    ensure(Bytes((count + 1) * GRANULE.0) == capacity, || format!("{count} granules of {capacity} can be had"))
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
    Ok(format!("Gone after {} ms, no signal", start.elapsed().as_millis()))
}

/// Runs this program again with another check; it may die of it.
fn again(arguments: &[&str]) -> Result<ExitStatus, String> {
    let own = std::env::current_exe().map_err(failed("this program"))?;
    Command::new(own).args(arguments).status().map_err(failed("this program again"))
}

/// Makes the kernel believe that the hardware reported an uncorrectable error here.
pub fn break_page(arguments: &Arguments<'_>) -> Outcome {
    let (memory, offset) = whole(arguments)?;
    let at = memory.address(offset);
    // SAFETY: an OS page of our own mapping; nobody here looks at it afterwards.
    unsafe { map::advise(at, map::os_page_size(), Advice::Poison) }.map_err(failed("MADV_HWPOISON"))?;
    Ok("broken".into())
}

/// A plain load.
pub fn load(arguments: &Arguments<'_>) -> Outcome {
    let (memory, offset) = whole(arguments)?;
    Ok(format!("{:#x}", memory.word(offset).load(std::sync::atomic::Ordering::Relaxed)))
}

fn whole(arguments: &Arguments<'_>) -> Result<(Memory, usize), String> {
    let offset: usize = arguments.number(1)?;
    Ok((Memory::of_file(arguments.text(0)?, offset + (2 << 20))?, offset))
}
