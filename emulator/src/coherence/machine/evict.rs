//! Dirty lines on their way to the pool.

use super::super::MAX_HOSTS;
use super::super::choice::Kind;
use super::super::finding::Detector;
use super::super::history::{Content, Place, StoreId, Write, mask, mix};
use super::{Dirty, HostState, Line, Machine, Version};
use crate::cache::LINE;

impl Machine {
    /// Before a host looks at a line of the pool: how much of the other hosts' dirty copies has got there by now?
    pub(super) fn observe(&mut self, by: usize, line: usize) {
        let mut left = Candidates::of(&self.hosts, |number, host| number != by && host.private[line].dirty.is_some());
        while !left.as_slice().is_empty() {
            let first = self.choose(by, Kind::WriteBack, left.as_slice());
            left.remove(first);
            let host = usize::from(first);
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
        self.rebase(host, line);
        let Some(mut dirty) = self.hosts[host].private[line].dirty.take() else { return };
        let count = count.min(dirty.writes.len());
        if let Some(last) = dirty.writes[..count].last() {
            self.drain_before(host, last);
            self.finish_due(host, last.fences);
        }
        dirty.open = false;
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
            if let Some((_, due)) = &mut pending.due {
                *due = due.saturating_sub(count);
            }
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
        let dirty = Candidates::of(&self.hosts, |_, host| host.private[line].dirty.is_some());
        let some = !dirty.as_slice().is_empty();
        some.then(|| usize::from(self.choose(usize::MAX, Kind::WriteBack, dirty.as_slice())))
    }

    /// Whether others use a line, so that it matters when it leaves this host's cache.
    pub(super) fn shared(&self, host: usize, line: usize) -> bool {
        self.lines[line].users & !(1 << host) != 0
    }

    /// Before a host uses a line that it has changed: has it been evicted meanwhile?
    pub(super) fn lose_hold(&mut self, host: usize, line: usize) {
        let stores = self.hosts[host].private[line].dirty.as_ref().map_or(0, |dirty| dirty.writes.len());
        if stores == 0 || !self.shared(host, line) {
            return;
        }
        let evicted = self.choose(host, Kind::Evict, &[0, 1]) == 1;
        self.saw(host, u64::from(evicted));
        if evicted {
            self.evict(host, line, stores);
        }
    }

    /// Stores wait in the processor until their line is there: until something shows that they have arrived, the line
    /// under them may be a newer one than when they were made.
    pub(super) fn rebase(&mut self, host: usize, line: usize) {
        let latest = self.lines[line].latest();
        let Some(dirty) = &self.hosts[host].private[line].dirty else { return };
        let ages = u8::try_from(latest - dirty.base_version).unwrap_or(u8::MAX).min(7);
        if !dirty.open || ages == 0 {
            return;
        }
        // The usual is the line as it was.
        let options: [u8; 8] = std::array::from_fn(|index| ages.saturating_sub(u8::try_from(index).unwrap_or(0)));
        let taken = self.choose(host, Kind::Version, &options[..=usize::from(ages)]);
        let version = latest - u32::from(taken);
        self.saw(host, u64::from(version));
        if taken == ages {
            return;
        }
        let base = self.lines[line].version(version).content.clone();
        if let Some(dirty) = &mut self.hosts[host].private[line].dirty {
            dirty.content = base.clone();
            dirty.writes.iter().for_each(|write| dirty.content.apply(write));
            (dirty.base, dirty.base_version) = (base, version);
        }
    }

    /// The stores that a host has made up to this one are in its cache, all of them.
    pub(in super::super) fn arrived(&mut self, host: usize, last: StoreId) {
        for index in 0..self.hosts[host].dirty.len() {
            let line = self.hosts[host].dirty[index] as usize;
            let first = |dirty: &Dirty| dirty.open && dirty.writes.first().is_some_and(|write| write.id <= last);
            if self.hosts[host].private[line].dirty.as_deref().is_some_and(first) {
                self.rebase(host, line);
                if let Some(dirty) = &mut self.hosts[host].private[line].dirty {
                    dirty.open = false;
                }
            }
        }
    }

    /// Writes a dirty line back at a time that the host itself decides; others may have come first.
    pub(in super::super) fn evict(&mut self, host: usize, line: usize, stores: usize) {
        self.observe(host, line);
        self.write_back(host, line, stores);
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
    /// None as the usual.
    pub(super) fn none_first(mut self) -> Self {
        self.codes[..self.len.min(2)].reverse();
        self
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.codes[..self.len]
    }
}

/// Hosts that may come first.
pub(super) struct Candidates {
    hosts: [u8; MAX_HOSTS],
    len: usize,
}

impl Candidates {
    pub(super) fn of(hosts: &[HostState], has: impl Fn(usize, &HostState) -> bool) -> Self {
        let mut all = Self { hosts: [0; MAX_HOSTS], len: 0 };
        for (host, number) in hosts.iter().zip(0_u8..) {
            if has(usize::from(number), host) {
                all.hosts[all.len] = number;
                all.len += 1;
            }
        }
        all
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.hosts[..self.len]
    }

    pub(super) fn remove(&mut self, host: u8) {
        if let Some(place) = self.as_slice().iter().position(|&other| other == host) {
            self.hosts.copy_within(place + 1..self.len, place);
            self.len -= 1;
        }
    }
}
