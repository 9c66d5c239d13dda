//! How fast tiers are in the guest. A guest's figures are no figures of CXL; they say what the lab's users wait for.

use std::time::Instant;

use tiermem_tiers::{Bytes, Extent, GRANULE, Provenance, Provider, TierId, provider};

use crate::{Arguments, Outcome, failed};

const PIECE: usize = 256 << 10;
/// Repetitions go on for so long, seconds.
const TIME_S: f64 = 0.5;

/// Each tier, and DRAM first: MB/s of copies out of it and into it.
pub fn beside_dram(arguments: &Arguments<'_>) -> Outcome {
    let mut lines = String::new();
    for text in std::iter::once("dram=dram:0").chain(arguments.0.iter().map(String::as_str)) {
        let spec = text.parse().map_err(failed(text))?;
        let tier = provider::open(&spec, TierId(0)).map_err(failed(text))?;
        let extent = tier.reserve(GRANULE, Provenance::Tool).map_err(failed(text))?;
        let mut piece = vec![1; PIECE];
        let written = best(&extent, |offset| tier.write(&extent, offset, &piece))?;
        let read = best(&extent, |offset| tier.read(&extent, offset, &mut piece))?;
        tier.release(extent).map_err(failed(text))?;
        lines.push_str(&format!(" {text} reads {read:.0} writes {written:.0} MB/s;"));
        forget(tier.as_ref());
    }
    Ok(lines.trim().trim_end_matches(';').to_owned())
}

/// The best of several runs over the extent.
fn best(extent: &Extent, mut copy: impl FnMut(u64) -> Result<(), tiermem_tiers::Error>) -> Result<f64, String> {
    let (start, mut best) = (Instant::now(), 0f64);
    while start.elapsed().as_secs_f64() < TIME_S || best == 0.0 {
        let run = Instant::now();
        (0..extent.len().0).step_by(PIECE).try_for_each(&mut copy).map_err(failed("a copy"))?;
        #[expect(clippy::cast_precision_loss, reason = "a few MiB")]
        let rate = extent.len().0 as f64 / 1e6 / run.elapsed().as_secs_f64();
        best = best.max(rate);
    }
    Ok(best)
}

/// The tier must be as free as before.
fn forget(tier: &dyn Provider) {
    debug_assert_eq!(tier.usage().reserved, Bytes::ZERO);
}
