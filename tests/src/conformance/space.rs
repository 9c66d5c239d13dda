//! How much there is, and that it is really there.

use std::sync::atomic::{AtomicBool, Ordering};

use tiermem_tiers::{Bytes, ErrorKind, Extent, GRANULE, Provenance, Provider};

use super::Outcome;
use super::contents::all_zero;
use super::tools::{Held, Random, check_mark, ensure, failed, mark};

pub(super) fn bad_length_is_unsuitable(provider: &dyn Provider) -> Outcome {
    for len in [0, 1, 4096, GRANULE.0 - 1, GRANULE.0 + 1, u64::MAX] {
        match provider.reserve(Bytes(len), Provenance::Tool).map_err(|error| error.kind()) {
            Err(ErrorKind::Unsuitable { .. }) => {}
            Err(other) => return Err(format!("{len} bytes gave {other:?} instead of Unsuitable")),
            Ok(extent) => {
                let _ = provider.release(extent);
                return Err(format!("{len} bytes were handed out"));
            }
        }
    }
    Ok(None)
}

pub(super) fn too_large_is_full(provider: &dyn Provider) -> Outcome {
    for granules in [provider.usage().capacity.0 / GRANULE.0 + 1, u64::MAX / GRANULE.0] {
        let answer = provider.reserve(Bytes(granules * GRANULE.0), Provenance::Tool).map_err(|error| error.kind());
        match answer {
            Err(ErrorKind::Full { .. }) => {}
            other => return Err(format!("{granules} granules of too few gave {other:?}")),
        }
    }
    Ok(None)
}

pub(super) fn usage_follows(provider: &dyn Provider) -> Outcome {
    let before = provider.usage();
    ensure(before.capacity.0 >= 4 * GRANULE.0, || format!("the suite needs 8 MiB, {} are there", before.capacity))?;
    let mut held = Held::one(provider, 2)?;
    let during = provider.usage().reserved;
    ensure(during.0 == before.reserved.0 + 2 * GRANULE.0, || format!("{} became {during}", before.reserved))?;
    held.release_all()?;
    let after = provider.usage().reserved;
    ensure(after == before.reserved, || format!("{} before, {after} after release", before.reserved))?;
    Ok(None)
}

/// Fills the tier, uses every OS page of it, gives it all back, and does so again.
pub(super) fn full_is_full_and_no_signal(provider: &dyn Provider) -> Outcome {
    let capacity = provider.usage().capacity.0 / GRANULE.0;
    for round in 0..2 {
        let mut held = Held::new(provider);
        held.fill()?;
        let got = held.extents.len() as u64;
        ensure(got == capacity, || format!("round {round}: {got} of {capacity} granules before Full"))?;
        let block = vec![0xa5; 1 << 20];
        for extent in &held.extents {
            for at in (0..extent.len().0).step_by(block.len()) {
                provider.write(extent, at, &block).map_err(failed("write to reserved space"))?;
            }
        }
        held.release_all()?;
    }
    Ok(None)
}

pub(super) fn released_space_is_blank(provider: &dyn Provider) -> Outcome {
    let mut held = Held::new(provider);
    held.fill()?;
    held.extents.iter().try_for_each(|extent| mark(provider, extent, u64::MAX))?;
    held.release_all()?;
    held.fill()?;
    held.extents.iter().try_for_each(|extent| all_zero(provider, extent))?;
    Ok(None)
}

/// Threads reserve, mark, check and release at random, close to the limit.
pub(super) fn threads_do_not_collide(provider: &dyn Provider) -> Outcome {
    const THREADS: u64 = 4;
    const STEPS: u64 = 150;
    let before = provider.usage().reserved;
    let stop = AtomicBool::new(false);
    let work = |thread: u64| -> Result<(), String> {
        let mut random = Random(0x9e37_79b9 + thread);
        let mut mine: Vec<(u64, Extent)> = Vec::new();
        for step in 0..STEPS {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let tag = thread << 32 | (step + 1);
            match provider.reserve(Bytes((1 + random.below(2)) * GRANULE.0), Provenance::Tool) {
                Ok(extent) => {
                    mark(provider, &extent, tag)?;
                    mine.push((tag, extent));
                }
                Err(error) if matches!(error.kind(), ErrorKind::Full { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
            while mine.len() as u64 > random.below(4) {
                let (tag, extent) = mine.swap_remove(random.below(mine.len() as u64) as usize);
                let intact = check_mark(provider, &extent, tag);
                provider.release(extent).map_err(failed("release"))?;
                intact?;
            }
        }
        mine.into_iter().try_for_each(|(_, extent)| provider.release(extent)).map_err(failed("release"))
    };
    let guarded = |thread| work(thread).inspect_err(|_| stop.store(true, Ordering::Relaxed));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || guarded(thread))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    })?;
    let after = provider.usage().reserved;
    ensure(after == before, || format!("{before} reserved before, {after} after"))?;
    Ok(None)
}
