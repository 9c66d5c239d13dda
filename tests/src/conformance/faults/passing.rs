//! Faults that pass: a device that goes and comes, room that is short, errors of the way to it.

use tiermem_tiers::{Bytes, ErrorKind, GRANULE, Health, Provenance};

use super::Subject;
use super::witness::{Witnesses, refused};
use crate::conformance::Outcome;
use crate::conformance::contents::all_zero;
use crate::conformance::tools::{ensure, failed};

const FULL: ErrorKind = ErrorKind::Full { wanted: GRANULE };

/// A script for a fault that comes right after the witnesses were made.
fn after(granules: &[u64], kind: &str, rest: &str) -> String {
    format!("{kind} at-op={} {rest}", Witnesses::operations(granules) + 1)
}

pub(super) fn removed(subject: &Subject<'_>) -> Outcome {
    let granules = [1, 1];
    let tier = subject.under(&after(&granules, "remove", "for-ops=3"))?;
    let tier = tier.as_ref();
    let mut lost = Witnesses::new(tier, &granules)?;
    lost.expect(0, 0, ErrorKind::Gone)?;
    refused(tier.reserve(GRANULE, Provenance::Tool), tier, ErrorKind::Gone)?;
    ensure(tier.health() == Health::Failed, || format!("a removed tier is {:?}", tier.health()))?;
    let write = tier.write(&lost.extents[1], 0, &[1]).map_err(|error| error.kind());
    ensure(write == Err(ErrorKind::Gone), || format!("a write to a removed tier gave {write:?}"))?;
    // It returns.
    let fresh = Witnesses::new(tier, &[1])?;
    ensure(tier.health() == Health::Good, || format!("a tier that is back is {:?}", tier.health()))?;
    lost.expect(0, 0, ErrorKind::Gone)?;
    lost.release_all()?;
    fresh.verify_all()?;
    let empty = tier.reserve(GRANULE, Provenance::Tool).map_err(failed("reserve"))?;
    let zero = all_zero(tier, &empty);
    tier.release(empty).map_err(failed("release"))?;
    zero.map(|()| None)
}

pub(super) fn link_down(subject: &Subject<'_>) -> Outcome {
    let granules = [2, 1];
    let tier = subject.under(&after(&granules, "link-down", "for-ops=3"))?;
    let tier = tier.as_ref();
    let witnesses = Witnesses::new(tier, &granules)?;
    witnesses.expect(0, 0, ErrorKind::Gone)?;
    witnesses.expect(1, 0, ErrorKind::Gone)?;
    refused(tier.reserve(GRANULE, Provenance::Tool), tier, ErrorKind::Gone)?;
    witnesses.verify_all()?;
    ensure(tier.health() == Health::Good, || format!("a link that is up again: {:?}", tier.health()))?;
    Ok(None)
}

pub(super) fn reset(subject: &Subject<'_>) -> Outcome {
    let granules = [1];
    let tier = subject.under(&after(&granules, "reset", ""))?;
    let tier = tier.as_ref();
    let mut lost = Witnesses::new(tier, &granules)?;
    lost.expect(0, 0, ErrorKind::Gone)?;
    ensure(tier.health() == Health::Good, || format!("a tier that was reset is {:?}", tier.health()))?;
    let fresh = Witnesses::new(tier, &[1, 1])?;
    lost.expect(0, 0, ErrorKind::Gone)?;
    lost.release_all()?;
    fresh.verify_all().map(|()| None)
}

pub(super) fn shrunk(subject: &Subject<'_>) -> Outcome {
    let granules = [1, 1];
    let tier = subject.under(&after(&granules, "shrink", "to=4194304 for-ops=2"))?;
    let tier = tier.as_ref();
    let before = tier.usage().capacity;
    let mut witnesses = Witnesses::new(tier, &granules)?;
    refused(tier.reserve(GRANULE, Provenance::Tool), tier, FULL)?;
    ensure(tier.usage().capacity == Bytes::mib(4), || format!("the capacity is {}", tier.usage().capacity))?;
    refused(tier.reserve(GRANULE, Provenance::Tool), tier, FULL)?;
    witnesses.extents.push(tier.reserve(GRANULE, Provenance::Tool).map_err(failed("reserve when it is over"))?);
    ensure(tier.usage().capacity == before, || format!("the capacity is {}", tier.usage().capacity))?;
    witnesses.verify(0, 0..0)?;
    witnesses.verify(1, 0..0).map(|()| None)
}

pub(super) fn full(subject: &Subject<'_>) -> Outcome {
    let granules = [1];
    let tier = subject.under(&after(&granules, "full", "for-ops=2"))?;
    let tier = tier.as_ref();
    let mut witnesses = Witnesses::new(tier, &granules)?;
    for _ in 0..2 {
        refused(tier.reserve(GRANULE, Provenance::Tool), tier, FULL)?;
    }
    witnesses.verify_all()?;
    witnesses.extents.push(tier.reserve(GRANULE, Provenance::Tool).map_err(failed("reserve when it is over"))?);
    Ok(None)
}

pub(super) fn io_error(subject: &Subject<'_>) -> Outcome {
    for (on, is_read) in [("read", true), ("write", false)] {
        let granules = [1];
        let tier = subject.under(&after(&granules, "io-error", &format!("on={on} for-ops=1")))?;
        let tier = tier.as_ref();
        let witnesses = Witnesses::new(tier, &granules)?;
        let outcome = match is_read {
            true => tier.read(&witnesses.extents[0], 4096, &mut [0; 64]),
            false => tier.write(&witnesses.extents[0], 4096, &[0; 64]),
        };
        let Err(error) = outcome else { return Err(format!("{on}: an I/O error was passed over")) };
        let typed = matches!(error.kind(), ErrorKind::System { .. }) && error.os_code().is_some();
        ensure(typed, || format!("{on}: an I/O error is `{error}`"))?;
        witnesses.verify_all()?;
    }
    Ok(None)
}
