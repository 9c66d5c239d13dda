//! All faults at once, at random, against a model of what is held.

use tiermem_tiers::{Bytes, ErrorKind, Extent, GRANULE, Provenance, Provider};

use super::Subject;
use crate::conformance::Outcome;
use crate::conformance::tools::{Random, ensure, failed};

const BLOCK: u64 = 64 << 10;
const STEPS: u64 = 1500;
/// Bytes of a read.
const PROBE: usize = 32 << 10;

/// What an extent is known to hold: a tag at the start of each block, `None` where a write failed.
struct Held {
    extent: Extent,
    tags: Vec<Option<u64>>,
}

fn script(seed: u64) -> String {
    format!(
        "seed={seed};poison probability=0.02 grain=line;poison probability=0.005;remove probability=0.001 for-ops=9;\
         link-down probability=0.003 for-ops=7;shrink probability=0.003 to=8388608 for-ops=40;full probability=0.005 for-ops=9;\
         io-error probability=0.01 for-ops=2;reset probability=0.001;slow probability=0.01 factor=3 for-ops=5"
    )
}

/// Is an answer of a faulty tier.
const fn is_expected(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Full { .. } | ErrorKind::Poisoned { .. } | ErrorKind::Gone | ErrorKind::System { .. })
}

fn step(tier: &dyn Provider, held: &mut Vec<Held>, random: &mut Random, turn: u64) -> Result<u64, String> {
    let unexpected = |what: &str, error: tiermem_tiers::Error| {
        if is_expected(error.kind()) { Ok(1) } else { Err(format!("turn {turn}: {what} gave `{error}`")) }
    };
    let choice = random.below(10);
    if choice < 2 || held.is_empty() {
        let granules = 1 + random.below(2);
        return match tier.reserve(Bytes(granules * GRANULE.0), Provenance::Tool) {
            Ok(extent) => {
                let tags = vec![Some(0); (granules * GRANULE.0 / BLOCK) as usize];
                held.push(Held { extent, tags });
                Ok(0)
            }
            Err(error) => unexpected("reserve", error),
        };
    }
    let at = random.below(held.len() as u64) as usize;
    if choice == 2 {
        let gone = held.swap_remove(at);
        return tier.release(gone.extent).map(|()| 0).or_else(|error| unexpected("release", error));
    }
    let Held { extent, tags } = &mut held[at];
    let block = random.below(tags.len() as u64) as usize;
    let offset = block as u64 * BLOCK;
    if choice < 6 {
        let written = tier.write(extent, offset, &turn.to_le_bytes());
        tags[block] = written.is_ok().then_some(turn);
        return written.map(|()| 0).or_else(|error| unexpected("write", error));
    }
    // Far enough to meet poison that nothing was written over.
    let mut found = vec![0; PROBE];
    match tier.read(extent, offset, &mut found) {
        Err(error) => unexpected("read", error),
        Ok(()) => {
            let found = found.first_chunk().map_or(0, |tag| u64::from_le_bytes(*tag));
            let right = tags[block].is_none_or(|tag| tag == found);
            ensure(right, || format!("turn {turn}: {:?} was written, {found} is read", tags[block]))?;
            Ok(0)
        }
    }
}

/// Errors met, and offsets of what was held at the end.
fn storm(subject: &Subject<'_>, seed: u64) -> Result<(u64, Vec<u64>), String> {
    let tier = subject.under(&script(seed))?;
    let mut random = Random(seed + 1);
    let (mut held, mut errors) = (Vec::new(), 0);
    let outcome = (1..=STEPS).try_for_each(|turn| {
        errors += step(tier.as_ref(), &mut held, &mut random, turn)?;
        if turn % 200 == 0 {
            tier.repair().map(drop).map_err(failed("repair"))?;
        }
        Ok::<(), String>(())
    });
    let offsets = held.iter().map(|held| held.extent.offset()).collect();
    let released = held.into_iter().try_for_each(|held| tier.release(held.extent)).map_err(failed("release"));
    outcome?;
    released?;
    let repaired = tier.repair().map_err(failed("repair"))?;
    let left = tier.usage().reserved;
    ensure(left == Bytes::ZERO, || format!("{left} stay reserved when all is released and {repaired} repaired"))?;
    Ok((errors, offsets))
}

pub(super) fn everything(subject: &Subject<'_>) -> Outcome {
    let mut errors = 0;
    for seed in 1..=3 {
        errors += storm(subject, seed).map_err(failed(&format!("seed {seed}")))?.0;
    }
    ensure(errors > 100, || format!("a storm with {errors} errors is none"))?;
    Ok(None)
}

pub(super) fn repeats(subject: &Subject<'_>) -> Outcome {
    let (first, again) = (storm(subject, 9)?, storm(subject, 9)?);
    ensure(first == again, || format!("seed 9 gave {} errors, then {}", first.0, again.0))?;
    Ok(None)
}
