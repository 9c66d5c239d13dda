//! Poison.

use tiermem_tiers::{Bytes, ErrorKind, GRANULE, Health, Provenance, Provider};

use super::Subject;
use super::witness::Witnesses;
use crate::conformance::Outcome;
use crate::conformance::tools::{ensure, failed};

const LINE: u64 = 64;

pub(super) fn typed_and_local(subject: &Subject<'_>) -> Outcome {
    for (grain, len) in [("line", LINE), ("os-page", tiermem_sys::map::os_page_size() as u64)] {
        let granules = [1, 2, 1];
        // In the second granule of the second extent, when all of it is filled.
        let place = GRANULE.0 + 9 * 65536;
        let operation = Witnesses::operations(&granules) + 1;
        let script = format!("poison at-op={operation} extent=1 offset={place} grain={grain}");
        let tier = subject.under(&script)?;
        let tier = tier.as_ref();
        ensure(tier.health() == Health::Good, || format!("a new tier is {:?}", tier.health()))?;
        let witnesses = Witnesses::new(tier, &granules)?;
        let start = witnesses.extents[1].offset();
        let poisoned = |offset| ErrorKind::Poisoned { extent: start, offset };
        witnesses.expect(1, place, poisoned(place))?;
        witnesses.expect(1, place + len - 1, poisoned(place + len - 1))?;
        let mut across = vec![0; 4096];
        let read = tier.read(&witnesses.extents[1], place - 100, &mut across).map_err(|error| error.kind());
        ensure(read == Err(poisoned(place)), || format!("a read across the poison gave {read:?}"))?;
        let write = tier.write(&witnesses.extents[1], place, &[1]).map_err(|error| error.kind());
        ensure(write == Err(poisoned(place)), || format!("a write to the poison gave {write:?}"))?;
        witnesses.verify(1, place..place + len)?;
        witnesses.verify(0, 0..0)?;
        witnesses.verify(2, 0..0)?;
        ensure(tier.health() == Health::Degraded, || format!("with poison the tier is {:?}", tier.health()))?;
        // It goes on working: all but what is bad can be used.
        let fresh = tier.reserve(GRANULE, Provenance::Tool).map_err(failed("reserve beside the poison"))?;
        tier.write(&fresh, 0, &[1]).map_err(failed("write beside the poison"))?;
        tier.release(fresh).map_err(failed("release"))?;
    }
    Ok(None)
}

/// Offsets of all that can be had of a tier, granule by granule.
fn all_offsets(tier: &dyn Provider) -> Result<Vec<u64>, String> {
    let mut extents = Vec::new();
    let ended = loop {
        match tier.reserve(GRANULE, Provenance::Tool) {
            Ok(extent) => extents.push(extent),
            Err(error) => break error,
        }
    };
    let offsets = extents.iter().map(|extent| extent.offset()).collect();
    extents.into_iter().try_for_each(|extent| tier.release(extent)).map_err(failed("release"))?;
    match ended.kind() {
        ErrorKind::Full { .. } => Ok(offsets),
        _ => Err(format!("a full tier must answer Full, not: {ended}")),
    }
}

const BAD: &str = "poison at-op=3 extent=1 offset=5000";

/// A tier with one bad granule that was released, its offset, and the number of granules that can be had.
fn with_bad_granule(subject: &Subject<'_>) -> Result<(Box<dyn Provider>, u64, u64), String> {
    let tier = subject.under(BAD)?;
    let capacity = tier.usage().capacity.0 / GRANULE.0;
    let bad = {
        let reserve = || tier.reserve(GRANULE, Provenance::Tool).map_err(failed("reserve"));
        let (sound, bad) = (reserve()?, reserve()?);
        let offset = bad.offset();
        let read = tier.read(&bad, 5000, &mut [0]).map_err(|error| error.kind());
        ensure(matches!(read, Err(ErrorKind::Poisoned { .. })), || format!("a read of the poison gave {read:?}"))?;
        tier.release(sound).map_err(failed("release"))?;
        tier.release(bad).map_err(failed("release of the bad extent"))?;
        offset
    };
    Ok((tier, bad, capacity))
}

/// Whether the tier's memory has places: then the bad one can be told from others.
const fn has_places(kind: tiermem_tiers::TierKind) -> bool {
    use tiermem_tiers::TierKind;
    matches!(kind, TierKind::DaxFile | TierKind::Devdax | TierKind::Nvme)
}

const KERNEL_DOES: Outcome = Ok(Some("the kernel keeps bad OS pages of anonymous memory from being used again"));

pub(super) fn set_aside(subject: &Subject<'_>) -> Outcome {
    let (tier, bad, capacity) = with_bad_granule(subject)?;
    let quarantined = tier.quarantined();
    if tier.addressable().is_some() && !has_places(tier.tier().kind) {
        return KERNEL_DOES;
    }
    ensure(quarantined == GRANULE, || format!("{quarantined} are set aside, not one granule"))?;
    for _ in 0..2 {
        let offsets = all_offsets(tier.as_ref())?;
        ensure(offsets.len() as u64 == capacity - 1, || {
            format!("{} of {capacity} granules can be had", offsets.len())
        })?;
        let again = has_places(tier.tier().kind) && offsets.contains(&bad);
        ensure(!again, || format!("the granule at {bad:#x} is handed out again"))?;
    }
    ensure(tier.usage().reserved == quarantined, || "what is set aside must count as reserved".to_owned())?;
    ensure(tier.health() == Health::Degraded, || format!("the tier is {:?}", tier.health()))?;
    Ok(None)
}

pub(super) fn repaired(subject: &Subject<'_>) -> Outcome {
    let (tier, bad, capacity) = with_bad_granule(subject)?;
    if tier.addressable().is_some() && !has_places(tier.tier().kind) {
        return KERNEL_DOES;
    }
    let repaired = tier.repair().map_err(failed("repair"))?;
    ensure(repaired == GRANULE, || format!("{repaired} were repaired, not one granule"))?;
    ensure(tier.quarantined() == Bytes::ZERO, || "something is still set aside".to_owned())?;
    let offsets = all_offsets(tier.as_ref())?;
    ensure(offsets.len() as u64 == capacity, || format!("{} of {capacity} granules can be had", offsets.len()))?;
    ensure(!has_places(tier.tier().kind) || offsets.contains(&bad), || "the bad granule is not among them".to_owned())?;
    ensure(tier.health() == Health::Good, || format!("the tier is {:?}", tier.health()))?;
    Ok(None)
}
