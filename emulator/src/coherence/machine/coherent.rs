//! Lines that the hardware keeps coherent (back-invalidation), behind each host's store buffer.

use super::super::choice::Kind;
use super::super::history::{Place, StoreId, Write, mask, mix};
use super::cache::PoisonHit;
use super::evict::{Candidates, amounts};
use super::{Architecture, HostState, Machine, Version};

/// A store that the others do not see yet.
#[derive(Clone, Debug)]
pub(in super::super) struct Buffered {
    line: usize,
    write: Write,
}

impl Buffered {
    pub(super) fn id(&self) -> super::super::history::StoreId {
        self.write.id
    }
}

impl HostState {
    /// How many of its stores to a coherent line are not visible yet.
    fn waiting(&self, line: usize) -> usize {
        self.buffer.iter().filter(|entry| entry.line == line).count()
    }
}

impl Machine {
    /// A coherent line as the host sees it: what all see, with its own buffered stores.
    pub(super) fn coherent_view(
        &mut self,
        host: usize,
        line: usize,
        span: std::ops::Range<usize>,
        into: &mut [u8],
    ) -> Result<(), PoisonHit> {
        self.drain_own(host, line);
        self.coherent_observe(host, line);
        self.poison_strikes(host, line)?;
        let version = self.lines[line].newest();
        let mut content = version.content.clone();
        let seen = version.hash;
        self.saw(host, mix(line as u64, seen));
        for entry in self.hosts[host].buffer.iter().filter(|entry| entry.line == line) {
            content.apply(&entry.write);
        }
        into.copy_from_slice(&content.data[span.clone()]);
        self.loaded.extend_from_slice(&content.from[span]);
        Ok(())
    }

    /// Before a host looks at a coherent line: which of the others' buffered stores to it are visible by now? A line
    /// that another host holds modified is written back to the pool on its way here.
    fn coherent_observe(&mut self, by: usize, line: usize) {
        let mut left = Candidates::of(&self.hosts, |number, host| number != by && host.waiting(line) > 0);
        while !left.as_slice().is_empty() {
            let first = self.choose(by, Kind::Drain, left.as_slice());
            left.remove(first);
            let host = usize::from(first);
            let waiting = self.hosts[host].waiting(line);
            let options = amounts(waiting);
            let taken = usize::from(self.choose(by, Kind::Drain, options.as_slice())).min(waiting);
            if taken == 0 {
                self.log.event(self.steps, host, || format!("  {}: still in the store buffer", self.labels.line(line)));
            }
            self.drain_line(host, line, taken);
        }
        let latest = self.lines[line].latest();
        let state = &mut self.lines[line];
        if state.owner.is_some_and(|owner| usize::from(owner) != by) {
            state.persisted = latest as usize;
            state.owner = None;
        }
    }

    /// Before a host loads from a coherent line to which it has stored: are its stores visible by now? It matters where
    /// those of others may have come after them.
    fn drain_own(&mut self, host: usize, line: usize) {
        let waiting = self.hosts[host].waiting(line);
        let others = self.hosts.iter().enumerate().any(|(other, state)| other != host && state.waiting(line) > 0);
        if waiting > 0 && others {
            let options = amounts(waiting).none_first();
            let taken = usize::from(self.choose(host, Kind::Drain, options.as_slice())).min(waiting);
            self.drain_line(host, line, taken);
        }
    }

    /// A store to a coherent line: into the buffer.
    pub(in super::super) fn buffer_store(&mut self, host: usize, line: usize, write: Write) {
        self.hosts[host].buffer.push(Buffered { line, write });
    }

    /// Makes the first `count` buffered stores to a line visible, and what must be visible before them.
    fn drain_line(&mut self, host: usize, line: usize, count: usize) {
        let buffer = &self.hosts[host].buffer;
        let Some(last) = buffer.iter().enumerate().filter(|(_, entry)| entry.line == line).nth(count.wrapping_sub(1))
        else {
            return;
        };
        let (last, fences) = (last.0, last.1.write.fences);
        let ordered = self.rules.architecture == Architecture::X86;
        let mut left = Vec::new();
        for (index, entry) in std::mem::take(&mut self.hosts[host].buffer).into_iter().enumerate() {
            if index <= last && (ordered || entry.line == line || entry.write.fences < fences) {
                self.make_visible(host, entry);
            } else {
                left.push(entry);
            }
        }
        self.hosts[host].buffer = left;
    }

    /// Makes those of a host's stores visible that must be so before a later one of it has left the processor: on x86
    /// all that come first, elsewhere those before the last fence.
    pub(super) fn drain_before(&mut self, host: usize, write: &Write) {
        if self.hosts[host].buffer.is_empty() {
            return;
        }
        let ordered = self.rules.architecture == Architecture::X86;
        let first = |entry: &Buffered| entry.write.id < write.id && (ordered || entry.write.fences < write.fences);
        let buffer = std::mem::take(&mut self.hosts[host].buffer);
        let (visible, left): (Vec<_>, Vec<_>) = buffer.into_iter().partition(first);
        self.hosts[host].buffer = left;
        for entry in visible {
            self.make_visible(host, entry);
        }
    }

    /// Makes all of a host's stores visible.
    pub(in super::super) fn drain_all(&mut self, host: usize) {
        for entry in std::mem::take(&mut self.hosts[host].buffer) {
            self.make_visible(host, entry);
        }
    }

    /// Makes a store visible; those of others to the line may have come before it.
    fn make_visible(&mut self, host: usize, entry: Buffered) {
        self.finish_due(host, entry.write.fences);
        if self.rules.architecture == Architecture::X86 {
            self.arrived(host, entry.write.id);
        }
        self.coherent_observe(host, entry.line);
        self.put(host, entry);
    }

    fn put(&mut self, host: usize, entry: Buffered) {
        self.own(host, entry.line);
        let mut content = self.lines[entry.line].newest().content.clone();
        content.apply(&entry.write);
        self.stores.get_mut(entry.write.id).place = Place::Pool { since: self.steps };
        let identity = self.stores.identity(entry.write.id);
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_HOSTS")]
        let version = Version { content, writer: Some(host as u8), meant: entry.write.mask(), hash: 0 };
        self.push_version(entry.line, version, identity);
    }

    /// The host takes the line to modify it; another owner's changes go to the pool first.
    fn own(&mut self, host: usize, line: usize) {
        let latest = self.lines[line].latest() as usize;
        let state = &mut self.lines[line];
        if state.owner.map(usize::from) != Some(host) {
            state.persisted = latest;
            state.owner = u8::try_from(host).ok();
        }
    }

    /// What comes before an atomic operation: the host's own stores become visible, and on x86 its flushes are done.
    pub(in super::super) fn before_atomic(&mut self, host: usize) {
        self.drain_all(host);
        self.finish_due(host, u32::MAX);
        self.arrived(host, StoreId(u32::MAX));
        if self.rules.architecture == Architecture::X86 {
            self.fence_flushes(host);
        }
    }

    /// The store half of an atomic operation on a coherent line: nothing comes between it and the load.
    pub(in super::super) fn store_now(&mut self, host: usize, line: usize, write: Write) {
        self.put(host, Buffered { line, write });
    }

    /// A coherent line goes to the pool itself.
    pub(super) fn persist(&mut self, host: usize, line: usize) {
        let waiting = self.hosts[host].waiting(line);
        self.drain_line(host, line, waiting);
        let latest = self.lines[line].latest() as usize;
        let state = &mut self.lines[line];
        if state.persisted < latest {
            state.persisted = latest;
            state.owner = None;
            let hash = state.hash;
            self.saw(host, hash);
            self.log.event(self.steps, host, || format!("  {}: in the pool itself", self.labels.line(line)));
        }
    }

    /// Takes a coherent line back to what the pool itself held.
    pub(super) fn revert(&mut self, line: usize) {
        let state = &self.lines[line];
        let old = u32::try_from(state.persisted).unwrap_or(0);
        for number in old + 1..=state.latest() {
            let version = self.lines[line].version(number);
            let written = (0..64_usize).find(|&byte| version.meant & mask(byte..byte + 1) != 0);
            if let Some(id) = written.map(|byte| version.content.from[byte]) {
                self.stores.get_mut(id).place = Place::Lost;
            }
        }
        let content = self.lines[line].version(old).content.clone();
        let version = Version { content, writer: None, meant: 0, hash: 0 };
        self.push_version(line, version, u64::from(old));
        self.own_nobody(line);
    }

    pub(super) fn own_nobody(&mut self, line: usize) {
        let latest = self.lines[line].latest() as usize;
        self.lines[line].persisted = latest;
        self.lines[line].owner = None;
    }
}
