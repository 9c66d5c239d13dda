//! Crashes of hosts and loss of power.

use super::super::choice::Kind;
use super::super::finding::Detector;
use super::super::history::{Place, mask, mix};
use super::evict::amounts;
use super::{Dirty, Machine, State, Version};
use crate::cache::LINE;

/// What of a dirty line is in the pool after a loss of power: none of it, all of it, or one half (a line is written in
/// units of eight bytes; two halves stand for all the ways to divide it).
const TORN: [u8; 4] = [0, 1, 2, 3];

/// Which of a dying host's stores may still get to the pool: those with fewer fences before them. What a store fence had
/// put before the others is lost.
#[derive(Clone, Copy, Debug)]
struct Cut(u32);

impl Cut {
    /// How many stores of a dirty line there are before it.
    fn of(self, dirty: Option<&Dirty>) -> usize {
        dirty.map_or(0, |dirty| dirty.writes.iter().take_while(|write| write.fences < self.0).count())
    }
}

impl Machine {
    /// A host dies with all that was only in its cache or store buffer.
    pub(in super::super) fn crash(&mut self, host: usize) {
        self.crashes_left = self.crashes_left.saturating_sub(1);
        self.log.event(self.steps, host, || "CRASHES".to_owned());
        self.lose_buffer(host);
        let mut cut = Cut(u32::MAX);
        for line in std::mem::take(&mut self.hosts[host].dirty) {
            let line = line as usize;
            let stores = cut.of(self.hosts[host].private[line].dirty.as_deref());
            let options = amounts(stores).none_first();
            let survives = self.choose(host, Kind::Survives, options.as_slice());
            self.saw(host, u64::from(survives));
            if survives > 0 {
                self.evict_dying(host, line, usize::from(survives));
            }
            self.lose_dirty(host, line, &mut cut);
        }
        self.hosts[host].dirty.clear();
        self.lose_coherent(Some(host));
        self.die(host);
        self.check_promises();
    }

    /// All hosts die at once, and lines may be torn.
    pub(in super::super) fn lose_power(&mut self) {
        self.crashes_left = 0;
        self.power_may_fail = false;
        for host in 0..self.hosts.len() {
            if matches!(self.hosts[host].state, State::Dead) {
                continue;
            }
            self.log.event(self.steps, host, || "LOSES POWER".to_owned());
            self.lose_buffer(host);
            let mut cut = Cut(u32::MAX);
            for line in std::mem::take(&mut self.hosts[host].dirty) {
                let line = line as usize;
                let dirty = self.hosts[host].private[line].dirty.as_deref();
                let (stores, all) = (cut.of(dirty), dirty.map_or(0, |dirty| dirty.writes.len()));
                // A line with only some of its stores is not torn as well.
                let ways = if stores == 0 {
                    1
                } else if stores < all {
                    2
                } else {
                    TORN.len()
                };
                let survives = self.choose(host, Kind::Survives, &TORN[..ways]);
                self.saw(host, u64::from(survives));
                match survives {
                    0 => {}
                    1 => self.evict_dying(host, line, stores),
                    half => self.write_torn(host, line, half),
                }
                self.lose_dirty(host, line, &mut cut);
            }
        }
        self.lose_coherent(None);
        for host in 0..self.hosts.len() {
            if self.hosts[host].state != State::Dead {
                self.die(host);
            }
        }
        self.check_promises();
    }

    fn die(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        state.state = State::Dead;
        state.pending.clear();
        for private in &mut state.private {
            private.pending = None;
        }
        self.progressed();
    }

    fn evict_dying(&mut self, host: usize, line: usize, stores: usize) {
        self.hosts[host].dirty.push(u32::try_from(line).unwrap_or(0));
        self.evict(host, line, stores);
    }

    /// What of the store buffer is lost. It does not bind what else may be: what has left it may be lost with the cache.
    fn lose_buffer(&mut self, host: usize) {
        let waiting = self.hosts[host].buffer.len();
        if waiting > 0 {
            // Those that leave the buffer in time are visible, and live on in the hardware's own coherence.
            let options: Vec<u8> = (0..=u8::try_from(waiting.min(7)).unwrap_or(7)).collect();
            let drained = usize::from(self.choose(host, Kind::Survives, &options));
            self.saw(host, drained as u64);
            let lost = self.hosts[host].buffer.split_off(drained);
            self.drain_all(host);
            for entry in lost {
                self.stores.get_mut(entry.id()).place = Place::Lost;
            }
        }
    }

    /// Writes back one half of a dirty line.
    fn write_torn(&mut self, host: usize, line: usize, how: u8) {
        let dirty = self.hosts[host].private[line].dirty.as_deref();
        if let Some(fences) = dirty.and_then(|dirty| dirty.writes.last()).map(|write| write.fences) {
            self.finish_due(host, fences);
        }
        let Some(dirty) = self.hosts[host].private[line].dirty.take() else { return };
        let half = if how == 2 { 0..LINE as usize / 2 } else { LINE as usize / 2..LINE as usize };
        let mut content = self.lines[line].newest().content.clone();
        content.take(&dirty.content, half.clone());
        let mut meant = 0;
        for write in &dirty.writes {
            meant |= write.mask() & mask(half.clone());
            let kept = write.span().start < half.end && half.start < write.span().end;
            self.stores.get_mut(write.id).place = if kept { Place::Pool { since: self.steps } } else { Place::Lost };
        }
        self.log.event(self.steps, host, || {
            format!("  {}: TORN, bytes {half:?} of it are in the pool", self.labels.line(line))
        });
        let version = Version { content, writer: u8::try_from(host).ok(), meant, hash: 0 };
        self.push_version(line, version, mix(u64::from(how), meant));
    }

    fn lose_dirty(&mut self, host: usize, line: usize, cut: &mut Cut) {
        let due = self.hosts[host].private[line].pending.and_then(|pending| pending.due);
        if let Some((fences, 1..)) = due {
            cut.0 = cut.0.min(fences);
        }
        if let Some(dirty) = self.hosts[host].private[line].dirty.take() {
            for write in &dirty.writes {
                self.stores.get_mut(write.id).place = Place::Lost;
            }
            self.log.event(self.steps, host, || format!("  {}: lost with the cache", self.labels.line(line)));
        }
    }

    /// Coherent lines that one host (or any) holds modified go back to what the pool has, or not.
    fn lose_coherent(&mut self, owner: Option<usize>) {
        for line in 0..self.lines.len() {
            let state = &self.lines[line];
            let concerned = state.coherent
                && state.persisted < state.latest() as usize
                && owner.is_none_or(|host| state.owner.map(usize::from) == Some(host));
            if !concerned {
                continue;
            }
            let host = owner.or(state.owner.map(usize::from)).unwrap_or(0);
            let survives = self.choose(host, Kind::Survives, &[0, 1]) == 1;
            self.saw(host, u64::from(survives));
            if survives {
                self.own_nobody(line);
            } else {
                self.log.event(self.steps, host, || format!("  {}: back to what the pool had", self.labels.line(line)));
                self.revert(line);
            }
        }
    }

    /// What dead hosts had promised must be in the pool.
    fn check_promises(&mut self) {
        let dead = |machine: &Self, host: u8| machine.hosts[usize::from(host)].state == State::Dead;
        let broken = self.shadow.promises.iter().find_map(|promise| {
            let there = self.lines[promise.line].newest().content.from[promise.byte];
            let kept = there == promise.store || self.stores.ordered(promise.store, there);
            (dead(self, promise.host) && !kept).then_some(*promise)
        });
        let Some(promise) = broken else { return };
        self.detect(Detector::LostAtCrash, |machine| {
            format!(
                "{} had promised that what is at {} outlives a crash, but {} was still in its cache",
                machine.name(promise.host),
                machine.labels.byte(promise.line as u64 * LINE + promise.byte as u64),
                machine.tell(promise.store),
            )
        });
    }
}
