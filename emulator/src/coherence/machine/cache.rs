//! Private caches without coherence: loads, stores, write-backs, flushes, fences.

use super::super::choice::Kind;
use super::super::finding::Detector;
use super::super::history::{Content, Place, StoreId, Write, mask, mix};
use super::super::medium::MediumError;
use super::line::Poison;
use super::{Dirty, Line, Machine, Version};
use crate::cache::LINE;

/// What is asked of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Flush {
    /// Write back, keep (CLWB, DC CVAC).
    WriteBack,
    /// Write back, drop (CLFLUSHOPT, DC CIVAC).
    WriteBackAndDrop,
    /// Drop (DC IVAC); dirty data may be written back or not.
    Drop,
}

/// A flush that the next fence waits for.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct PendingFlush {
    kind: Flush,
    /// How many of the dirty line's stores were made before it: these are written back by the next fence.
    marked: usize,
    /// Newest version when it was asked for: the copy is that old at most after the next fence.
    floor: u32,
}

/// A line whose contents are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct PoisonHit;

impl Machine {
    /// Whether the host would look at the pool to load from the line.
    pub(in super::super) fn load_looks(&self, host: usize, line: usize) -> bool {
        self.lines[line].coherent || self.hosts[host].private[line].dirty.is_none()
    }

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
        } else if let Some(dirty) = &self.hosts[host].private[line].dirty {
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
                format!("  {}: still an old copy ({age} write-backs behind the pool)", self.labels.line(line))
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

    /// Before a host looks at a line of the pool: how much of the other hosts' dirty copies has got there by now?
    pub(super) fn observe(&mut self, by: usize, line: usize) {
        let mut order: [usize; super::super::MAX_HOSTS] = std::array::from_fn(|host| host);
        let mut count = 0;
        for host in 0..self.hosts.len() {
            if host != by && self.hosts[host].private[line].dirty.is_some() {
                order[count] = host;
                count += 1;
            }
        }
        if count > 1 && self.choose(by, Kind::WriteBack, &[0, 1]) == 1 {
            order[..count].reverse();
        }
        for &host in &order[..count] {
            let stores = self.hosts[host].private[line].dirty.as_ref().map_or(0, |dirty| dirty.writes.len());
            let options = amounts(stores);
            let taken = self.choose(by, Kind::WriteBack, options.as_slice());
            if taken == 0 {
                self.log.event(self.steps, host, || format!("  {}: still only in the cache", self.labels.line(line)));
            } else {
                self.write_back(host, line, usize::from(taken).min(stores));
            }
        }
    }

    /// Writes a dirty line with its first `count` stores back to the pool.
    pub(in super::super) fn write_back(&mut self, host: usize, line: usize, count: usize) {
        let Some(mut dirty) = self.hosts[host].private[line].dirty.take() else { return };
        let count = count.min(dirty.writes.len());
        if let Some(last) = dirty.writes[..count].last() {
            self.drain_before(host, last);
        }
        let mut content = dirty.base.clone();
        let mut meant = 0;
        for write in &dirty.writes[..count] {
            content.apply(write);
            meant |= write.mask();
        }
        self.check_newer(host, line, &dirty, &content, count);
        let mut identity = u64::from(meant.count_ones());
        for write in dirty.writes.drain(..count) {
            self.stores.get_mut(write.id).place = Place::Pool { since: self.steps };
            identity = mix(identity, self.stores.identity(write.id));
        }
        let left = dirty.writes.len();
        self.log.event(self.steps, host, || match left {
            0 => format!("  {}: written back", self.labels.line(line)),
            _ => format!("  {}: written back as it was {left} stores ago", self.labels.line(line)),
        });
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_HOSTS")]
        let version = Version { content, writer: Some(host as u8), meant, hash: 0 };
        self.push_version(line, version, identity);
        let latest = self.lines[line].latest();
        let private = &mut self.hosts[host].private[line];
        private.floor = private.floor.max(latest);
        if let Some(pending) = &mut private.pending {
            pending.marked = pending.marked.saturating_sub(count);
        }
        if dirty.writes.is_empty() {
            self.hosts[host].dirty.retain(|&other| other as usize != line);
        } else {
            dirty.base = self.lines[line].newest().content.clone();
            dirty.base_version = latest;
            self.hosts[host].private[line].dirty = Some(dirty);
        }
    }

    /// Detects a write-back that takes away what another host has put there since the line was fetched.
    fn check_newer(&mut self, host: usize, line: usize, dirty: &Dirty, content: &Content, count: usize) {
        let found = lost_update(&self.lines[line], host, dirty, content, &dirty.writes[..count], |theirs, mine| {
            self.stores.ordered(theirs, mine)
        });
        let Some((byte, theirs)) = found else { return };
        self.detect(Detector::WriteBackOverNewer, |machine| {
            let meant = dirty.writes[..count].iter().any(|write| write.span().contains(&byte));
            let how = if meant {
                "an old store of its own"
            } else {
                "bytes that it never wrote, which came along with the line"
            };
            format!(
                "{} wrote {} back and put {how} over {}, at {}",
                machine.name(host),
                machine.labels.line(line),
                machine.tell(theirs),
                machine.labels.byte(line as u64 * LINE + byte as u64),
            )
        });
    }

    /// A store of a host to a line without coherence.
    pub(in super::super) fn private_store(
        &mut self,
        host: usize,
        line: usize,
        mut write: Write,
    ) -> Result<(), PoisonHit> {
        if self.hosts[host].private[line].dirty.is_none() {
            // A store over the whole line needs nothing of what was there.
            let version = if write.mask() == u64::MAX { self.lines[line].latest() } else { self.fetch(host, line)? };
            let base = self.lines[line].version(version).content.clone();
            let dirty = Dirty { content: base.clone(), base, base_version: version, writes: Vec::new() };
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

    /// Asks for a line to be flushed; the next fence waits for it.
    pub(in super::super) fn flush_line(&mut self, host: usize, line: usize, kind: Flush) {
        let latest = self.lines[line].latest();
        let hash = self.lines[line].hash;
        self.saw(host, hash);
        let state = &mut self.hosts[host];
        let private = &mut state.private[line];
        let marked = private.dirty.as_ref().map_or(0, |dirty| dirty.writes.len());
        match &mut private.pending {
            Some(pending) => {
                pending.marked = marked;
                if kind != Flush::WriteBack {
                    pending.floor = latest;
                    pending.kind = if pending.kind == Flush::WriteBack { kind } else { pending.kind };
                }
            }
            None => {
                let floor = if kind == Flush::WriteBack { private.floor } else { latest };
                private.pending = Some(PendingFlush { kind, marked, floor });
                #[expect(clippy::cast_possible_truncation, reason = "the pool is in memory")]
                state.pending.push(line as u32);
            }
        }
    }

    /// Waits until all flushes are done. A full fence also keeps later loads behind them; a store fence does not.
    pub(in super::super) fn fence_flushes(&mut self, host: usize, full: bool) {
        let pending = std::mem::take(&mut self.hosts[host].pending);
        for &line in &pending {
            let line = line as usize;
            let Some(flush) = self.hosts[host].private[line].pending else { continue };
            if self.lines[line].coherent {
                self.persist(host, line);
            } else if flush.marked > 0 {
                let kept = flush.kind != Flush::Drop || self.choose(host, Kind::Invalidate, &[0, 1]) == 1;
                self.saw(host, u64::from(kept));
                if kept {
                    self.write_back(host, line, flush.marked);
                } else {
                    self.discard(host, line);
                }
            }
            if full {
                let private = &mut self.hosts[host].private[line];
                private.pending = None;
                private.floor = private.floor.max(flush.floor);
            } else if let Some(pending) = &mut self.hosts[host].private[line].pending {
                pending.marked = 0;
            }
        }
        if !full {
            self.hosts[host].pending = pending;
        }
    }

    /// Drops a dirty line.
    fn discard(&mut self, host: usize, line: usize) {
        if let Some(dirty) = self.hosts[host].private[line].dirty.take() {
            for write in &dirty.writes {
                self.stores.get_mut(write.id).place = Place::Discarded;
            }
            self.log.event(self.steps, host, || format!("  {}: dropped, with its stores", self.labels.line(line)));
        }
        self.hosts[host].dirty.retain(|&other| other as usize != line);
    }

    /// At the end, every dirty line is evicted at last. Where several hosts have the same one, the last of them wins.
    pub(in super::super) fn settle(&mut self) {
        for host in 0..self.hosts.len() {
            self.drain_all(host);
        }
        for line in 0..self.lines.len() {
            while let Some(host) = self.next_to_evict(line) {
                self.write_back(host, line, usize::MAX);
            }
        }
    }

    /// One of the hosts that have the line dirty.
    fn next_to_evict(&mut self, line: usize) -> Option<usize> {
        let mut options = [0; super::super::MAX_HOSTS];
        let mut count = 0;
        for host in (0..=u8::MAX).take(self.hosts.len()) {
            if self.hosts[usize::from(host)].private[line].dirty.is_some() {
                options[count] = host;
                count += 1;
            }
        }
        (count > 0).then(|| usize::from(self.choose(usize::MAX, Kind::WriteBack, &options[..count])))
    }

    fn medium_failed(&mut self, line: usize, error: &MediumError) {
        let story = format!("line {line} could not be read: {error}");
        self.report(super::Finding { kind: super::FindingKind::Medium, story });
    }
}

/// Which byte of another host a write-back would take away: one that the line brings along with an old value, or one
/// that was stored here before the other host's version got to the pool, and not in knowledge of it.
fn lost_update(
    line: &Line,
    host: usize,
    dirty: &Dirty,
    content: &Content,
    writes: &[Write],
    ordered: impl Fn(StoreId, StoreId) -> bool,
) -> Option<(usize, StoreId)> {
    let newest = line.newest();
    for number in dirty.base_version + 1..=line.latest() {
        let version = line.version(number);
        if version.writer.map(usize::from) == Some(host) {
            continue;
        }
        for byte in (0..LINE as usize).filter(|byte| version.meant & mask(*byte..byte + 1) != 0) {
            let theirs = version.content.from[byte];
            if newest.content.from[byte] != theirs || content.data[byte] == version.content.data[byte] {
                continue;
            }
            let mine = writes.iter().rev().find(|write| write.span().contains(&byte));
            if mine.is_none_or(|mine| mine.seen < number && !ordered(theirs, mine.id)) {
                return Some((byte, theirs));
            }
        }
    }
    None
}

/// Options for "how many of `all`": all, none, then those between.
pub(super) fn amounts(all: usize) -> Amounts {
    let mut options = Amounts { codes: [0; 8], len: 0 };
    let all = u8::try_from(all).unwrap_or(u8::MAX);
    for code in [all, 0].into_iter().chain((1..all).rev()).take(8) {
        options.codes[options.len] = code;
        options.len += 1;
    }
    options
}

/// See [`amounts`].
pub(super) struct Amounts {
    codes: [u8; 8],
    len: usize,
}

impl Amounts {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.codes[..self.len]
    }
}
