//! Private caches without coherence: loads and stores.

use super::super::choice::Kind;
use super::super::history::{Write, mix};
use super::super::medium::MediumError;
use super::line::Poison;
use super::{Dirty, Machine};
use crate::cache::LINE;

/// A line whose contents are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct PoisonHit;

impl Machine {
    /// The line as the host sees it, for some of its bytes.
    pub(in super::super) fn view(
        &mut self,
        host: usize,
        line: usize,
        span: std::ops::Range<usize>,
        into: &mut [u8],
    ) -> Result<(), PoisonHit> {
        if self.lines[line].coherent {
            self.coherent_view(host, line, span, into)?;
            return Ok(());
        }
        self.lose_hold(host, line);
        self.rebase(host, line);
        if let Some(dirty) = &self.hosts[host].private[line].dirty {
            into.copy_from_slice(&dirty.content.data[span.clone()]);
            self.loaded.extend_from_slice(&dirty.content.from[span]);
        } else {
            let version = self.fetch(host, line)?;
            let content = &self.lines[line].version(version).content;
            into.copy_from_slice(&content.data[span.clone()]);
            self.loaded.extend_from_slice(&content.from[span]);
        }
        Ok(())
    }

    /// Gets a clean copy of a line: some version that may have been fetched since the host last invalidated it.
    fn fetch(&mut self, host: usize, line: usize) -> Result<u32, PoisonHit> {
        self.observe(host, line);
        self.poison_strikes(host, line)?;
        let latest = self.lines[line].latest();
        let floor = self.hosts[host].private[line].floor;
        let ages = u8::try_from((latest - floor).min(7) + 1).unwrap_or(1);
        let options: [u8; 8] = std::array::from_fn(|age| u8::try_from(age).unwrap_or(0));
        let age = self.choose(host, Kind::Version, &options[..usize::from(ages)]);
        let version = latest - u32::from(age);
        if version > floor {
            self.hosts[host].private[line].floor = version;
            self.progressed();
        }
        if age > 0 {
            self.log.event(self.steps, host, || {
                format!("  {}: still an old copy ({age} behind the pool)", self.labels.line(line))
            });
        }
        let seen = self.lines[line].version(version).hash;
        self.saw(host, mix(line as u64, seen));
        Ok(version)
    }

    /// Decides whether the line is poisoned, and lets the host know if so.
    pub(super) fn poison_strikes(&mut self, host: usize, line: usize) -> Result<(), PoisonHit> {
        let at = line as u64 * LINE;
        if self.lines[line].poison == Poison::No && self.may_poison.iter().any(|range| range.contains(&at)) {
            let struck = self.choose(host, Kind::Poison, &[0, 1]) == 1;
            self.saw(host, u64::from(struck));
            if struck {
                self.may_poison.clear();
                self.lines[line].poison = Poison::Hidden;
            }
        }
        if self.lines[line].poison == Poison::No && !self.lines[line].coherent {
            match self.check_medium(line) {
                Err(MediumError::Poisoned) => self.lines[line].poison = Poison::Hidden,
                Err(error) => self.medium_failed(line, &error),
                Ok(()) => {}
            }
        }
        if self.lines[line].poison == Poison::No {
            return Ok(());
        }
        self.saw(host, u64::MAX);
        self.log.event(self.steps, host, || format!("  {} is POISONED", self.labels.line(line)));
        if self.lines[line].poison == Poison::Hidden {
            let index = self.hosts[host].op;
            self.lines[line].poison = Poison::Known { host: u8::try_from(host).unwrap_or(0), index };
        }
        Err(PoisonHit)
    }

    /// A store of a host to a line without coherence.
    pub(in super::super) fn private_store(
        &mut self,
        host: usize,
        line: usize,
        mut write: Write,
    ) -> Result<(), PoisonHit> {
        self.lose_hold(host, line);
        if self.hosts[host].private[line].dirty.is_none() {
            // A store over the whole line needs nothing of what was there.
            let version = if write.mask() == u64::MAX { self.lines[line].latest() } else { self.fetch(host, line)? };
            let base = self.lines[line].version(version).content.clone();
            let dirty = Dirty { content: base.clone(), base, base_version: version, open: true, writes: Vec::new() };
            self.hosts[host].private[line].dirty = Some(Box::new(dirty));
            #[expect(clippy::cast_possible_truncation, reason = "the pool is in memory")]
            self.hosts[host].dirty.push(line as u32);
        }
        write.seen = self.lines[line].latest();
        self.saw(host, u64::from(write.seen));
        if let Some(dirty) = &mut self.hosts[host].private[line].dirty {
            dirty.content.apply(&write);
            dirty.writes.push(write);
        }
        Ok(())
    }

    fn medium_failed(&mut self, line: usize, error: &MediumError) {
        let story = format!("line {line} could not be read: {error}");
        self.report(super::Finding { kind: super::FindingKind::Medium, story });
    }
}
