//! What the program has said about its memory: who has what, until when, and what must come true.

use std::ops::Range;

use super::choice::Kind;
use super::finding::Detector;
use super::history::{StoreId, mix};
use super::machine::{Machine, Poison, State};
use crate::cache::LINE;

/// An object that is published as a whole.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) range: Range<u64>,
    /// How many stores there were at each publication.
    pub(super) published: Vec<u32>,
}

/// A lease or a generation of a range.
#[derive(Clone, Debug)]
struct Tenure {
    range: Range<u64>,
    id: u64,
    /// When it ended, and by whom.
    ended: Option<(u32, usize)>,
}

/// A byte that must outlive a crash of its host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub(super) line: usize,
    pub(super) byte: usize,
    pub(super) store: StoreId,
    pub(super) host: u8,
}

/// A range that must not show again what it held.
#[derive(Clone, Debug)]
pub(super) struct Erased {
    range: Range<u64>,
    /// How many stores there were by then.
    before: u32,
    by: usize,
    step: u32,
}

/// All that has been said.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadow {
    /// Order of what was said.
    pub(super) hash: u64,
    pub(super) objects: Vec<Object>,
    tenures: Vec<Tenure>,
    /// Which host uses which range under which tenure.
    uses: Vec<(usize, Range<u64>, u64)>,
    allocated: Vec<(Range<u64>, usize, u32)>,
    pub(super) promises: Vec<Promise>,
    pub(super) erased: Vec<Erased>,
    quarantined: Vec<Range<u64>>,
}

impl Shadow {
    pub(super) fn said(&mut self, what: u64, range: &Range<u64>, id: u64) {
        self.hash = mix(mix(mix(self.hash, what), range.start), mix(range.end, id));
    }

    /// Whether lines of the range have leases, so that their order against accesses matters.
    pub(super) fn governs(&self, offset: u64) -> bool {
        self.tenures.iter().any(|tenure| tenure.range.contains(&offset))
    }
}

pub(super) fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Machine {
    pub(super) fn lease_begin(&mut self, host: usize, range: &Range<u64>, id: u64) {
        self.shadow.said(1, range, id);
        self.shadow.tenures.retain(|tenure| !(tenure.range == *range && tenure.id == id));
        self.shadow.tenures.push(Tenure { range: range.clone(), id, ended: None });
        self.declare_use(host, range, id);
    }

    pub(super) fn lease_end(&mut self, host: usize, range: &Range<u64>, id: u64) {
        self.shadow.said(2, range, id);
        let step = self.steps;
        for tenure in &mut self.shadow.tenures {
            if tenure.range == *range && tenure.id == id && tenure.ended.is_none() {
                tenure.ended = Some((step, host));
            }
        }
    }

    pub(super) fn declare_use(&mut self, host: usize, range: &Range<u64>, id: u64) {
        self.shadow.said(3, range, id ^ ((host as u64) << 56));
        self.undeclare_use(host, range);
        self.shadow.uses.push((host, range.clone(), id));
    }

    pub(super) fn undeclare_use(&mut self, host: usize, range: &Range<u64>) {
        self.shadow.uses.retain(|(user, used, _)| *user != host || !overlap(used, range));
    }

    /// Whether a host may use a range at this time.
    pub(super) fn check_use(&mut self, host: usize, range: &Range<u64>) {
        if self.shadow.uses.is_empty() {
            return;
        }
        let declared = self.shadow.uses.iter().find(|(user, used, _)| *user == host && overlap(used, range));
        let Some((_, used, id)) = declared.cloned() else { return };
        let hash = self.shadow.hash;
        self.saw(host, hash);
        let tenure = self.shadow.tenures.iter().rev().find(|tenure| tenure.range == used && tenure.id == id);
        let ended = match tenure {
            Some(tenure) => tenure.ended,
            None => Some((0, usize::MAX)),
        };
        let Some((step, by)) = ended else { return };
        self.detect(Detector::UseAfterEnd, |machine| {
            let whose =
                format!("{} uses {} under lease or generation {id}", machine.name(host), machine.labels.place(range));
            match by {
                usize::MAX => format!("{whose}, which never began"),
                by => format!("{whose}, which {} ended at step {step}", machine.name(by)),
            }
        });
    }

    pub(super) fn allocated(&mut self, host: usize, range: &Range<u64>) {
        self.shadow.said(4, range, host as u64);
        let other = self.shadow.allocated.iter().find(|(other, ..)| overlap(other, range)).cloned();
        if let Some((other, owner, step)) = other {
            self.detect(Detector::DoubleAllocation, |machine| {
                let (name, owner) = (machine.name(host), machine.name(owner));
                let [range, other] = [range, &other].map(|range| machine.labels.place(range));
                format!("{range} was handed out to {name}, but {owner} has {other} since step {step}")
            });
        }
        if let Some(bad) = self.shadow.quarantined.iter().find(|bad| overlap(bad, range)).cloned() {
            self.detect(Detector::PoisonNotQuarantined, |machine| {
                let [range, bad] = [range, &bad].map(|range| machine.labels.place(range));
                format!("{range} was handed out to {}, but {bad} is quarantined", machine.name(host))
            });
        }
        self.check_known_poison(host, range, "was handed");
        self.shadow.allocated.push((range.clone(), host, self.steps));
    }

    pub(super) fn freed(&mut self, host: usize, range: &Range<u64>) {
        self.shadow.said(5, range, host as u64);
        let before = self.shadow.allocated.len();
        self.shadow.allocated.retain(|(other, ..)| other != range);
        self.drop_promises(range);
        if self.shadow.allocated.len() == before {
            self.detect(Detector::DoubleAllocation, |machine| {
                format!("{} gave {} back, which nobody had", machine.name(host), machine.labels.place(range))
            });
        }
    }

    /// A range is free again, whether or not its dead holder had got as far as to say that it had it.
    pub(super) fn reclaimed(&mut self, host: usize, range: &Range<u64>) {
        self.shadow.said(12, range, host as u64);
        let alive = |owner: usize| self.hosts[owner].state != State::Dead;
        let robbed = self.shadow.allocated.iter().find(|(other, owner, _)| overlap(other, range) && alive(*owner));
        if let Some((other, owner, step)) = robbed.cloned() {
            self.detect(Detector::DoubleAllocation, |machine| {
                let (name, owner) = (machine.name(host), machine.name(owner));
                let [range, other] = [range, &other].map(|range| machine.labels.place(range));
                format!("{name} reclaimed {range}, but {owner} lives and has {other} since step {step}")
            });
        }
        self.shadow.allocated.retain(|(other, ..)| !overlap(other, range));
        self.drop_promises(range);
    }

    fn drop_promises(&mut self, range: &Range<u64>) {
        let inside = |promise: &Promise| range.contains(&(promise.line as u64 * LINE + promise.byte as u64));
        self.shadow.promises.retain(|promise| !inside(promise));
    }

    pub(super) fn publish(&mut self, host: usize, range: &Range<u64>) {
        self.shadow.said(6, range, host as u64);
        for (line, span) in Self::spans(range.start, range_len(range)) {
            let dirty = self.hosts[host].private[line].dirty.as_ref();
            let unflushed = dirty.and_then(|dirty| {
                dirty.writes.iter().find(|write| write.span().start < span.end && span.start < write.span().end)
            });
            let Some(id) = unflushed.map(|write| write.id) else { continue };
            self.detect(Detector::PublishBeforeFlush, |machine| {
                let (name, store) = (machine.name(host), machine.tell(id));
                let (range, line) = (machine.labels.place(range), machine.labels.line(line));
                format!("{name} publishes {range}, but {store} to {line} is still in its cache")
            });
        }
        let now = self.stores.len();
        match self.shadow.objects.iter_mut().find(|object| object.range == *range) {
            Some(object) => object.published.push(now),
            None => self.shadow.objects.push(Object { range: range.clone(), published: vec![now] }),
        }
    }

    pub(super) fn promise(&mut self, host: usize, range: &Range<u64>) {
        self.shadow.said(7, range, host as u64);
        self.drop_promises(range);
        for (line, span) in Self::spans(range.start, range_len(range)) {
            let from = self.had_by(host, line);
            for byte in span {
                let host = u8::try_from(host).unwrap_or(0);
                self.shadow.promises.push(Promise { line, byte, store: from[byte], host });
            }
        }
    }

    /// Where the bytes of a line come from, as far as a host can know.
    fn had_by(&self, host: usize, line: usize) -> [StoreId; LINE as usize] {
        let state = &self.lines[line];
        let private = &self.hosts[host].private[line];
        match &private.dirty {
            Some(dirty) => dirty.content.from,
            None if state.coherent => state.newest().content.from,
            None => state.version(private.floor).content.from,
        }
    }

    /// The stores whose bytes a host has in the range are secret.
    pub(super) fn secret(&mut self, host: usize, range: &Range<u64>) {
        self.shadow.said(8, range, 0);
        for (line, span) in Self::spans(range.start, range_len(range)) {
            for id in self.had_by(host, line)[span].iter().copied().filter(|&id| id != StoreId::INITIAL) {
                self.stores.get_mut(id).secret = true;
            }
        }
    }

    pub(super) fn erased(&mut self, host: usize, range: &Range<u64>) {
        self.shadow.said(9, range, host as u64);
        self.drop_promises(range);
        let erased = Erased { range: range.clone(), before: self.stores.len(), by: host, step: self.steps };
        self.shadow.erased.push(erased);
        for (line, _) in Self::spans(range.start, range_len(range)) {
            self.check_erased(line);
            for other in 0..self.hosts.len() {
                let dirty = self.hosts[other].private[line].dirty.as_ref();
                let from = dirty.map(|dirty| dirty.content.from);
                if let Some(from) = from {
                    self.find_secret(line, 0, &from, &format!("in the cache of {}", self.name(other)));
                }
            }
        }
    }

    /// Whether the newest version of a line shows what was erased.
    pub(super) fn check_erased(&mut self, line: usize) {
        if !self.shadow.erased.is_empty() {
            let from = self.lines[line].newest().content.from;
            self.find_secret(line, 0, &from, "in the pool");
        }
    }

    /// Looks for erased secrets among bytes of a line, from byte `first` on.
    pub(super) fn find_secret(&mut self, line: usize, first: usize, from: &[StoreId], whereabouts: &str) {
        let at = |byte: usize| line as u64 * LINE + (first + byte) as u64;
        let found = self.shadow.erased.iter().find_map(|erased| {
            let plain = |&byte: &usize| {
                let id = from[byte];
                erased.range.contains(&at(byte)) && id.0 < erased.before && self.stores.get(id).secret
            };
            (0..from.len()).find(plain).map(|byte| (at(byte), from[byte], erased.clone()))
        });
        let Some((offset, id, erased)) = found else { return };
        self.detect(Detector::PlaintextAfterErase, |machine| {
            let (by, step) = (machine.name(erased.by), erased.step);
            let store = machine.tell(id);
            let (range, at) = (machine.labels.place(&erased.range), machine.labels.byte(offset));
            format!("{by} erased {range} at step {step}, but {store} is {whereabouts} at {at}")
        });
    }

    pub(super) fn quarantined(&mut self, range: &Range<u64>) {
        self.shadow.said(10, range, 0);
        self.shadow.quarantined.push(range.clone());
    }

    /// Poison is over: the line has been overwritten as a whole, by the device's own command.
    pub(super) fn clear_poison(&mut self, range: &Range<u64>) {
        self.shadow.said(11, range, 0);
        for (line, _) in Self::spans(range.start, range_len(range)) {
            self.lines[line].poison = Poison::No;
        }
        self.shadow.quarantined.retain(|bad| !overlap(bad, range));
    }

    /// Whether a host uses lines of which it knows, or could know, that they are poisoned.
    pub(super) fn check_known_poison(&mut self, host: usize, range: &Range<u64>, how: &str) {
        for (line, _) in Self::spans(range.start, range_len(range)) {
            let Poison::Known { host: told, index } = self.lines[line].poison else { continue };
            let knows = usize::from(told) == host || self.hosts[host].clock.knows(usize::from(told), index);
            let first = usize::from(told) == host && self.hosts[host].op == index;
            if knows && !first {
                self.detect(Detector::PoisonNotQuarantined, |machine| {
                    let (name, told) = (machine.name(host), machine.name(told));
                    format!("{name} {how} {}, which {told} has found to be poisoned", machine.labels.line(line))
                });
            }
        }
    }

    /// At the end of a run, all known poison is quarantined.
    pub(super) fn check_quarantine(&mut self) {
        for line in 0..self.lines.len() {
            let Poison::Known { host, .. } = self.lines[line].poison else { continue };
            let at = line as u64 * LINE..(line as u64 + 1) * LINE;
            let done = self.shadow.quarantined.iter().any(|bad| overlap(bad, &at));
            if !done && self.hosts[usize::from(host)].state != State::Dead {
                self.detect(Detector::PoisonNotQuarantined, |machine| {
                    let line = machine.labels.line(line);
                    format!("{} found {line} poisoned, and nobody has quarantined it", machine.name(host))
                });
            }
        }
    }

    /// Lets a choice of the program's own be explored, such as when a timer fires.
    pub(super) fn decide(&mut self, host: usize, options: u8) -> u8 {
        let codes: Vec<u8> = (0..options).collect();
        let taken = self.choose(host, Kind::Program, &codes);
        self.saw(host, u64::from(taken));
        taken
    }
}

#[expect(clippy::cast_possible_truncation, reason = "pools are in memory")]
pub(super) fn range_len(range: &Range<u64>) -> usize {
    (range.end - range.start) as usize
}
