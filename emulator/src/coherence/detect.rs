//! Judging what a host has just done.

use super::finding::Detector;
use super::history::{Clock, Place, Store, StoreId};
use super::machine::Machine;
use super::shadow::{Object, overlap};
use crate::cache::LINE;

impl Machine {
    /// A host uses a line: atomic operations need hardware that keeps it coherent.
    pub(super) fn touch(&mut self, host: usize, line: usize, atomic: bool) {
        let bit = 1_u8 << host;
        let state = &mut self.lines[line];
        state.users |= bit;
        state.atomic_users |= if atomic { bit } else { 0 };
        let others = state.users & !bit != 0;
        let broken = !state.coherent && ((atomic && others) || state.atomic_users & !bit != 0);
        if broken {
            let users = state.users & !bit;
            self.detect(Detector::CasOutsideCoherentRegion, |machine| {
                let (name, line) = (machine.name(host), machine.labels.line(line));
                let how = if atomic { "an atomic operation on" } else { "an access to" };
                let others: Vec<&str> =
                    (0..machine.hosts.len()).filter(|h| users & (1 << h) != 0).map(|h| machine.name(h)).collect();
                format!(
                    "{how} {line} by {name}, which {} use{} too: nothing makes atomic operations of several hosts \
                     atomic outside the coherent region",
                    others.join(" and "),
                    if others.len() == 1 { "s" } else { "" },
                )
            });
        }
    }

    /// Judges a load at `offset` whose bytes come from the stores `from`, by somebody with this clock.
    pub(super) fn judge_load(&mut self, host: usize, offset: u64, from: &[StoreId], clock: &Clock) {
        self.judge_torn(host, offset, from);
        for (line, span) in Self::spans(offset, from.len()) {
            let at = index_of(line, span.start, offset);
            if let Some((byte, got, missed)) = self.missed_store(line, span.start, &from[at..at + span.len()], clock) {
                self.tell_stale(host, line, byte, got, missed);
                return;
            }
        }
        if self.shadow.erased.is_empty() {
            return;
        }
        for (line, span) in Self::spans(offset, from.len()) {
            let at = index_of(line, span.start, offset);
            let whereabouts = format!("in what {} loads", self.name(host));
            self.find_secret(line, span.start, &from[at..at + span.len()], &whereabouts);
        }
    }

    /// A store that a load should have seen and did not: (byte of the line, what it got, what it missed).
    fn missed_store(
        &self,
        line: usize,
        first: usize,
        from: &[StoreId],
        clock: &Clock,
    ) -> Option<(usize, StoreId, StoreId)> {
        for &(id, start, len) in self.lines[line].stores.iter().rev() {
            let covered =
                usize::from(start).max(first)..(usize::from(start) + usize::from(len)).min(first + from.len());
            if covered.is_empty() || !self.stores.known(id, clock) {
                continue;
            }
            for byte in covered {
                let got = from[byte - first];
                if got != id && got < id && self.stores.ordered(got, id) {
                    return Some((byte, got, id));
                }
            }
        }
        None
    }

    fn tell_stale(&mut self, host: usize, line: usize, byte: usize, got: StoreId, missed: StoreId) {
        let Store { place, host: writer, index, .. } = *self.stores.get(missed);
        let writer = usize::from(writer);
        // It came to the pool only after the host had heard of it: no invalidation could have helped for sure.
        let late = |since: u32| self.hosts[host].heard_of(writer, index).is_some_and(|heard| heard < since);
        let offset = line as u64 * LINE + byte as u64;
        let in_pool = self.lines[line].newest().content.from[byte];
        let overwritten = in_pool < missed && self.stores.ordered(in_pool, missed);
        let detector = match place {
            Place::Cached | Place::Discarded if writer != host => Detector::PublishBeforeFlush,
            Place::Lost => Detector::LostAtCrash,
            Place::Pool { .. } if overwritten => Detector::WriteBackOverNewer,
            Place::Pool { since } if late(since) => Detector::PublishBeforeFlush,
            _ => Detector::StaleRead,
        };
        self.detect(detector, |machine| {
            let (name, got, missed) = (machine.name(host), machine.tell(got), machine.tell(missed));
            let at = machine.labels.byte(offset);
            let cause = match (detector, place) {
                (Detector::PublishBeforeFlush, Place::Cached) => "which has not left the writer's cache",
                (Detector::PublishBeforeFlush, Place::Discarded) => {
                    "which the writer has dropped instead of flushing it"
                }
                (Detector::PublishBeforeFlush, _) => "which had not left the writer's cache when it heard of it",
                (Detector::LostAtCrash, _) => "which was lost in a crash before it was flushed",
                (Detector::WriteBackOverNewer, _) => "which a write-back of an older copy has taken away",
                _ if writer == host => "which it has dropped itself",
                _ => "which is in the pool: its own copy is older",
            };
            format!("{name} reads {got} at {at}, and must have heard of {missed}, {cause}")
        });
    }

    /// A load over several lines of a published object sees one version of it.
    fn judge_torn(&mut self, host: usize, offset: u64, from: &[StoreId]) {
        let range = offset..offset + from.len() as u64;
        if Self::spans(offset, from.len()).count() < 2 {
            return;
        }
        let torn = self.shadow.objects.iter().find_map(|object| {
            let part = offset.max(object.range.start)..range.end.min(object.range.end);
            let several = part.start / LINE != (part.end.saturating_sub(1)) / LINE;
            if !overlap(&range, &object.range) || !several {
                return None;
            }
            self.mixture(object, part, offset, from)
        });
        let Some((old, new, at)) = torn else { return };
        self.detect(Detector::TornPublish, |machine| {
            format!(
                "{} reads a mixture of two versions of {}: {} was over before {} came",
                machine.name(host),
                machine.labels.place(&at),
                machine.tell(old),
                machine.tell(new),
            )
        });
    }

    /// Two stores in the part of a load that were never in the object at the same time.
    fn mixture(
        &self,
        object: &Object,
        part: std::ops::Range<u64>,
        offset: u64,
        from: &[StoreId],
    ) -> Option<(StoreId, StoreId, std::ops::Range<u64>)> {
        // In which version a store first appears; the contents before the run are version 0.
        let version = |id: StoreId| match id {
            StoreId::INITIAL => 0,
            id => 1 + object.published.iter().filter(|&&count| count <= id.0).count(),
        };
        let (mut newest, mut oldest_end) = ((0, StoreId::INITIAL), (usize::MAX, StoreId::INITIAL));
        for at in part {
            #[expect(clippy::cast_possible_truncation, reason = "pools are in memory")]
            let id = from[(at - offset) as usize];
            let begins = version(id);
            let next = self.lines[(at / LINE) as usize].next_store((at % LINE) as usize, id);
            let ends = next.map_or(usize::MAX, version);
            // Overwritten before it was published: part of no version, and nobody's business here.
            if begins == ends {
                continue;
            }
            if begins > newest.0 {
                newest = (begins, id);
            }
            if ends < oldest_end.0 {
                oldest_end = (ends, id);
            }
        }
        (oldest_end.0 <= newest.0).then(|| (oldest_end.1, newest.1, object.range.clone()))
    }
}

/// Where a byte of a line stands in a load at `offset`.
#[expect(clippy::cast_possible_truncation, reason = "pools are in memory")]
fn index_of(line: usize, byte: usize, offset: u64) -> usize {
    (line as u64 * LINE + byte as u64 - offset) as usize
}
