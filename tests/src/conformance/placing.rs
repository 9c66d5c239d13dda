//! Addresses: only for tiers that the CPU can load from.

use std::ptr::NonNull;

use tiermem_sys::map;
use tiermem_tiers::{Access, Addressable, Bytes, GRANULE, Provenance, Provider};

use super::Outcome;
use super::tools::{Held, ensure, failed};

const NOT_ADDRESSABLE: Outcome = Ok(Some("the CPU cannot address this tier"));
const LEN: usize = 2 * GRANULE.0 as usize;

pub(super) fn access_and_interface_agree(provider: &dyn Provider) -> Outcome {
    let held = Held::one(provider, 1)?;
    let address = held.extents[0].address();
    match (provider.access(), provider.addressable().is_some(), address.is_some()) {
        (Access::Load, true, true) => Ok(None),
        (Access::Copy { unit }, false, false) if unit > Bytes::ZERO => Ok(None),
        other => Err(format!("access, interface and address do not agree: {other:?}")),
    }
}

pub(super) fn addresses_show_the_contents(provider: &dyn Provider) -> Outcome {
    if provider.addressable().is_none() {
        return NOT_ADDRESSABLE;
    }
    let held = Held::one(provider, 2)?;
    let extent = &held.extents[0];
    let at = extent.address().ok_or("no address")?;
    let misaligned = at.as_ptr().addr() % GRANULE.0 as usize;
    ensure(misaligned == 0, || format!("{at:p} is not aligned to a granule"))?;
    for offset in [0, 4096, LEN - 1] {
        // SAFETY: the byte lies in the extent, which we hold.
        let byte = unsafe { at.add(offset) };
        // SAFETY: as above; new extents are readable.
        ensure(unsafe { byte.read_volatile() } == 0, || format!("byte {offset:#x} is not zero"))?;
        // SAFETY: as above; new extents are writable.
        unsafe { byte.write_volatile(77) };
        let mut seen = [0];
        provider.read(extent, offset as u64, &mut seen).map_err(failed("read"))?;
        ensure(seen == [77], || format!("a store at {offset:#x} is not seen by read"))?;
        provider.write(extent, offset as u64, &[88]).map_err(failed("write"))?;
        // SAFETY: as above.
        ensure(unsafe { byte.read_volatile() } == 88, || format!("a write at {offset:#x} is not seen by a load"))?;
    }
    Ok(None)
}

/// Reserved address space that is given back.
struct Reservation {
    at: NonNull<u8>,
    len: usize,
}

impl Reservation {
    fn new() -> Result<Self, String> {
        let at = map::reserve(LEN, GRANULE.0 as usize).map_err(failed("reserving addresses"))?;
        Ok(Self { at, len: LEN })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: our own range; extents in it were released before.
        let _ = unsafe { map::unmap(self.at, self.len) };
    }
}

pub(super) fn reserve_at_and_release(provider: &dyn Provider) -> Outcome {
    let Some(tier) = provider.addressable() else { return NOT_ADDRESSABLE };
    let space = Reservation::new()?;
    for turn in 0..3 {
        // SAFETY: an inaccessible reservation of our own.
        let extent = unsafe { tier.reserve_at(space.at, Bytes(LEN as u64), false, Provenance::Tool) }
            .map_err(failed("reserve_at"))?;
        let placed = extent.address() == Some(space.at);
        // SAFETY: the extent is mapped there.
        let blank = unsafe { space.at.read_volatile() } == 0;
        // SAFETY: as above.
        unsafe { space.at.write_volatile(1) };
        provider.release(extent).map_err(failed("release"))?;
        ensure(placed, || "the extent is not where it was asked for".to_owned())?;
        ensure(blank, || format!("turn {turn}: not zeroed"))?;
        // The addresses must still be ours: nothing else can be mapped there without replacing.
        // SAFETY: an exclusive mapping replaces nothing.
        let taken = unsafe { map::anonymous_at(space.at, LEN, map::Placement::Exclusive) };
        ensure(taken.is_err(), || "released addresses are not a reservation any more".to_owned())?;
    }
    bad_length_leaves_the_range(tier, &space)
}

fn bad_length_leaves_the_range(tier: &dyn Addressable, space: &Reservation) -> Outcome {
    // SAFETY: an inaccessible reservation of our own, longer than the range.
    match unsafe { tier.reserve_at(space.at, Bytes(GRANULE.0 + 4096), false, Provenance::Tool) } {
        Err(_) => Ok(None),
        Ok(extent) => {
            let _ = tier.release(extent);
            Err("reserve_at took a bad length".to_owned())
        }
    }
}

pub(super) fn exclusive_replaces_nothing(provider: &dyn Provider) -> Outcome {
    let Some(tier) = provider.addressable() else { return NOT_ADDRESSABLE };
    let space = Reservation::new()?;
    // SAFETY: our own reservation.
    unsafe { map::anonymous_at(space.at, LEN, map::Placement::Replace) }.map_err(failed("mmap"))?;
    // SAFETY: mapped just now.
    unsafe { space.at.write_volatile(42) };
    let before = provider.usage().reserved;
    // SAFETY: an exclusive request replaces nothing.
    let answer = unsafe { tier.reserve_at(space.at, Bytes(LEN as u64), true, Provenance::Tool) };
    if let Ok(extent) = answer {
        let _ = provider.release(extent);
        return Err("an exclusive request replaced a mapping".to_owned());
    }
    // SAFETY: mapped above.
    ensure(unsafe { space.at.read_volatile() } == 42, || "a refused request changed memory".to_owned())?;
    let after = provider.usage().reserved;
    ensure(before == after, || format!("a refused request kept space: {before}, then {after}"))?;
    Ok(None)
}
