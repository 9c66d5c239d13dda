//! Extents whose every byte is known.

use tiermem_tiers::{Bytes, Error, ErrorKind, Extent, GRANULE, Provenance, Provider};

use crate::conformance::tools::{ensure, failed};

/// Bytes that are written and compared at once.
const PIECE: usize = 64 << 10;

/// Extents filled with patterns of their own, given back whatever happens.
pub(super) struct Witnesses<'a> {
    pub(super) tier: &'a dyn Provider,
    pub(super) extents: Vec<Extent>,
}

/// Fills `into` with what an extent of this tag holds from byte `offset` on; no two 8-byte words of a tier are the same.
fn pattern(tag: u64, offset: u64, into: &mut [u8]) {
    for (i, word) in into.chunks_mut(8).enumerate() {
        let value = (tag << 40 | (offset / 8 + i as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
    }
}

impl<'a> Witnesses<'a> {
    /// Reserves and fills extents with this many granules each. One reserve each comes first, then the writes.
    pub(super) fn new(tier: &'a dyn Provider, granules: &[u64]) -> Result<Self, String> {
        let mut this = Self { tier, extents: Vec::new() };
        for &count in granules {
            let extent = tier.reserve(Bytes(count * GRANULE.0), Provenance::Tool).map_err(failed("reserve"))?;
            this.extents.push(extent);
        }
        for tag in 0..this.extents.len() {
            this.fill(tag)?;
        }
        Ok(this)
    }

    /// Operations on the tier that [`new`](Self::new) takes for these granules.
    pub(super) fn operations(granules: &[u64]) -> u64 {
        granules.len() as u64 + granules.iter().sum::<u64>() * (GRANULE.0 / PIECE as u64)
    }

    pub(super) fn fill(&self, tag: usize) -> Result<(), String> {
        let extent = &self.extents[tag];
        let mut piece = vec![0; PIECE];
        for offset in (0..extent.len().0).step_by(PIECE) {
            pattern(tag as u64 + 1, offset, &mut piece);
            self.tier.write(extent, offset, &piece).map_err(failed("write"))?;
        }
        Ok(())
    }

    /// Compares every byte of an extent outside `except`.
    pub(super) fn verify(&self, tag: usize, except: std::ops::Range<u64>) -> Result<(), String> {
        let extent = &self.extents[tag];
        let (mut found, mut expected) = (vec![0; PIECE], vec![0; PIECE]);
        let mut offset = 0;
        while offset < extent.len().0 {
            if except.contains(&offset) {
                offset = except.end;
                continue;
            }
            let next = offset / PIECE as u64 * PIECE as u64 + PIECE as u64;
            let end = if except.contains(&(next - 1)) || (offset < except.start && except.start < next) {
                except.start
            } else {
                next
            };
            let len = (end - offset) as usize;
            self.tier.read(extent, offset, &mut found[..len]).map_err(failed("read of what is not affected"))?;
            pattern(tag as u64 + 1, offset, &mut expected[..len]);
            if let Some(at) = (0..len).find(|&at| found[at] != expected[at]) {
                return Err(format!(
                    "byte {:#x} of extent {tag}, which is not affected, has changed",
                    offset + at as u64
                ));
            }
            offset = end;
        }
        Ok(())
    }

    pub(super) fn verify_all(&self) -> Result<(), String> {
        (0..self.extents.len()).try_for_each(|tag| self.verify(tag, 0..0))
    }

    /// Reads a byte and wants this error.
    pub(super) fn expect(&self, tag: usize, offset: u64, kind: ErrorKind) -> Result<(), String> {
        let found = self.tier.read(&self.extents[tag], offset, &mut [0]).map_err(|error| error.kind());
        ensure(found == Err(kind), || {
            format!("a read of byte {offset:#x} of extent {tag} gave {found:?}, not {kind:?}")
        })
    }

    pub(super) fn release_all(&mut self) -> Result<(), String> {
        std::mem::take(&mut self.extents)
            .into_iter()
            .try_for_each(|extent| self.tier.release(extent))
            .map_err(failed("release"))
    }
}

impl Drop for Witnesses<'_> {
    fn drop(&mut self) {
        for extent in self.extents.drain(..) {
            let _ = self.tier.release(extent);
        }
    }
}

/// Wants a refusal of this kind.
pub(super) fn refused(outcome: Result<Extent, Error>, tier: &dyn Provider, kind: ErrorKind) -> Result<(), String> {
    match outcome {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(format!("reserve gave `{error}`, not {kind:?}")),
        Ok(extent) => {
            let _ = tier.release(extent);
            Err(format!("reserve gave an extent, not {kind:?}"))
        }
    }
}
