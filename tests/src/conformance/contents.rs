//! What is in an extent.

use tiermem_tiers::{ErrorKind, Extent, GRANULE, Provenance, Provider, TierId};

use super::Outcome;
use super::tools::{Held, check_mark, ensure, failed, mark};

pub(super) fn new_extents_are_zeroed(provider: &dyn Provider) -> Outcome {
    let held = Held::one(provider, 2)?;
    all_zero(provider, &held.extents[0])?;
    Ok(None)
}

pub(super) fn all_zero(provider: &dyn Provider, extent: &Extent) -> Result<(), String> {
    let mut block = vec![1; 1 << 20];
    for at in (0..extent.len().0).step_by(block.len()) {
        provider.read(extent, at, &mut block).map_err(failed("read"))?;
        if let Some(dirty) = block.iter().position(|&byte| byte != 0) {
            return Err(format!("byte {:#x} of a new extent is {:#x}", at + dirty as u64, block[dirty]));
        }
        block.fill(1);
    }
    Ok(())
}

pub(super) fn reads_back(provider: &dyn Provider) -> Outcome {
    let held = Held::one(provider, 2)?;
    let extent = &held.extents[0];
    let end = extent.len().0;
    // Places and lengths that no transfer unit likes: odd, across granules and OS pages, at both ends.
    let places =
        [(0, 1), (1, 511), (4095, 2), (GRANULE.0 - 3, 4099), (65_537, 70_001), (end - 1, 1), (end - 5000, 5000)];
    for (turn, (at, len)) in places.into_iter().enumerate() {
        let data: Vec<u8> = (0..len).map(|i| (i * 7 + turn + 1) as u8).collect();
        provider.write(extent, at, &data).map_err(failed("write"))?;
        let mut back = vec![0; len];
        provider.read(extent, at, &mut back).map_err(failed("read"))?;
        ensure(back == data, || format!("{len} bytes at {at:#x} do not read back"))?;
    }
    // Neighbours of a small write are untouched.
    provider.write(extent, 100_000, &[9; 64]).map_err(failed("write"))?;
    provider.write(extent, 100_020, &[1; 3]).map_err(failed("write"))?;
    let mut back = [0; 64];
    provider.read(extent, 100_000, &mut back).map_err(failed("read"))?;
    let expected: [u8; 64] = std::array::from_fn(|i| if (20..23).contains(&i) { 1 } else { 9 });
    ensure(back == expected, || "a small write changed its neighbours".to_owned())?;
    provider.write(extent, 0, &[]).map_err(failed("write of nothing"))?;
    Ok(None)
}

pub(super) fn extents_do_not_share_bytes(provider: &dyn Provider) -> Outcome {
    let mut held = Held::new(provider);
    for granules in [1, 2, 1] {
        held.add(granules).map_err(failed("reserve"))?;
    }
    for (tag, extent) in (1..).zip(&held.extents) {
        mark(provider, extent, tag)?;
    }
    for (tag, extent) in (1..).zip(&held.extents) {
        check_mark(provider, extent, tag)?;
    }
    Ok(None)
}

pub(super) fn out_of_range_is_an_error(provider: &dyn Provider) -> Outcome {
    let held = Held::one(provider, 1)?;
    let extent = &held.extents[0];
    for (at, len) in [(GRANULE.0, 1), (GRANULE.0 - 1, 2), (u64::MAX, 1), (u64::MAX - 3, 8), (GRANULE.0 * 9, 64)] {
        let mut into = vec![0; len];
        let read = provider.read(extent, at, &mut into).map_err(|error| error.kind());
        let write = provider.write(extent, at, &into).map_err(|error| error.kind());
        ensure(read == Err(ErrorKind::OutOfRange), || format!("read of {len} at {at:#x} gave {read:?}"))?;
        ensure(write == Err(ErrorKind::OutOfRange), || format!("write of {len} at {at:#x} gave {write:?}"))?;
    }
    Ok(None)
}

pub(super) fn foreign_extent_is_an_error(provider: &dyn Provider) -> Outcome {
    let other = TierId(provider.tier().id.0 ^ 1);
    let foreign = || Extent::from_parts(other, 0, GRANULE, None, Provenance::Tool);
    ensure(provider.read(&foreign(), 0, &mut [0]).is_err(), || "read from another tier's extent".to_owned())?;
    ensure(provider.write(&foreign(), 0, &[0]).is_err(), || "wrote to another tier's extent".to_owned())?;
    ensure(provider.release(foreign()).is_err(), || "released another tier's extent".to_owned())?;
    Ok(None)
}
