//! Flushes, and the fences that wait for them.

use super::super::choice::Kind;
use super::super::history::Place;
use super::Machine;

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
    pub(super) marked: usize,
    /// How many a store fence has put before later stores, and which fence of the host's that was.
    pub(super) due: Option<(u32, usize)>,
    /// Newest version when it was asked for: the copy is that old at most after the next fence.
    floor: u32,
}

impl Machine {
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
                private.pending = Some(PendingFlush { kind, marked, due: None, floor });
                #[expect(clippy::cast_possible_truncation, reason = "the pool is in memory")]
                state.pending.push(line as u32);
            }
        }
    }

    /// Waits until all flushes are done, and keeps later loads behind them.
    pub(in super::super) fn fence_flushes(&mut self, host: usize) {
        for line in std::mem::take(&mut self.hosts[host].pending) {
            let line = line as usize;
            let Some(flush) = self.hosts[host].private[line].pending else { continue };
            self.finish_flush(host, line, flush.marked);
            let private = &mut self.hosts[host].private[line];
            private.pending = None;
            private.floor = private.floor.max(flush.floor);
        }
    }

    /// Keeps later stores behind the flushes: they are finished before any of these leaves the processor. Loads pass.
    pub(in super::super) fn store_fence_flushes(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        for &line in &state.pending {
            if let Some(flush) = &mut state.private[line as usize].pending {
                flush.due = Some((state.fences, flush.marked));
            }
        }
    }

    /// Before something that comes after so many fences leaves the processor: finishes the flushes that a store fence
    /// has put before it.
    pub(in super::super) fn finish_due(&mut self, host: usize, fences: u32) {
        for index in 0..self.hosts[host].pending.len() {
            let line = self.hosts[host].pending[index] as usize;
            let Some(flush) = &mut self.hosts[host].private[line].pending else { continue };
            if let Some((_, marked)) = flush.due.take_if(|(since, _)| *since <= fences) {
                self.finish_flush(host, line, marked);
            }
        }
    }

    /// Writes back what a flush found: so many stores of a dirty line.
    fn finish_flush(&mut self, host: usize, line: usize, marked: usize) {
        if self.lines[line].coherent {
            return self.persist(host, line);
        }
        let flush = self.hosts[host].private[line].pending;
        if marked == 0 {
            return;
        }
        let drops = flush.is_some_and(|flush| flush.kind == Flush::Drop);
        let kept = !drops || self.choose(host, Kind::Invalidate, &[0, 1]) == 1;
        self.saw(host, u64::from(kept));
        if kept {
            self.evict(host, line, marked);
        } else {
            self.discard(host, line);
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
}
