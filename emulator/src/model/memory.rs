//! Memory that the CPU addresses.

use tiermem_topology::MemoryFigures;

use super::Direction;
use super::lane::Lane;
use crate::cache::LINE;
use crate::time::Time;

/// DRAM, or a CXL device behind its own port.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    read: Side,
    write: Side,
    /// What both directions share, where they share something. Its bandwidth follows the mix.
    total: Option<Lane>,
    figures: MemoryFigures,
    /// Newest slot of any lane when the latencies were computed; all lanes have slots of the same length.
    seen: u64,
    /// The same when the mix was looked at.
    mix_seen: u64,
    /// By how much it is slower than its figures say.
    slowdown: f64,
}

/// The mix of reads and writes is looked at once in so many slots: it changes slowly, and dividing takes time.
const MIX_SLOTS: u64 = 8;

/// What there is once for reads and once for writes.
#[derive(Clone, Debug)]
struct Side {
    lane: Lane,
    /// Idle latency, picoseconds.
    idle: u64,
    /// What the present load adds to it.
    extra: u64,
}

impl Side {
    fn new(latency_ns: f64, bandwidth: f64, slot: u64) -> Self {
        Self { lane: Lane::new(bandwidth, slot), idle: Time::from_ns(latency_ns).0, extra: 0 }
    }

    fn slow(&mut self, latency_ns: f64, bandwidth: f64, factor: f64) {
        self.idle = Time::from_ns(latency_ns * factor).0;
        self.lane.set_bandwidth(bandwidth / factor);
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both far below 2^53")]
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    fn load(&mut self, factor: f64) {
        self.extra = ((factor - 1.0) * self.idle as f64) as u64;
    }
}

impl Memory {
    pub(super) fn new(figures: &MemoryFigures) -> Self {
        // Long enough for a few dozen lines, short enough that sixty of them follow a change of load quickly.
        let slot = Time::from_ns(figures.read_latency_ns.value * 2.0).0;
        let side = |latency: f64, bandwidth: f64| Side::new(latency, bandwidth, slot);
        Self {
            read: side(figures.read_latency_ns.value, figures.read_bandwidth.value),
            write: side(figures.write_latency_ns.value, figures.write_bandwidth.value),
            total: figures.mixed_bandwidth.as_ref().map(|_| Lane::new(figures.read_bandwidth.value, slot)),
            figures: figures.clone(),
            seen: 0,
            mix_seen: 0,
            slowdown: 1.0,
        }
    }

    /// From now on takes `factor` times as long as its figures say, in latency and in bandwidth.
    pub(super) fn slow(&mut self, factor: f64) {
        let MemoryFigures { read_latency_ns, write_latency_ns, read_bandwidth, write_bandwidth, .. } = &self.figures;
        self.slowdown = factor;
        self.read.slow(read_latency_ns.value, read_bandwidth.value, factor);
        self.write.slow(write_latency_ns.value, write_bandwidth.value, factor);
        if let Some(total) = &mut self.total {
            total.set_bandwidth(read_bandwidth.value / factor);
        }
        // The mix is looked at again at once.
        self.mix_seen = self.seen.saturating_sub(MIX_SLOTS);
        self.recompute(self.seen);
    }

    /// As [`serve`](Self::serve) of a line for which every lane has room at once, which is nearly always so; `None` if not.
    #[inline]
    pub(super) fn serve_at_once(&mut self, at: u64, direction: Direction) -> Option<u64> {
        let side = match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
        let slot = side.lane.slot(at);
        let after = side.lane.with_line(slot);
        // All lanes have reached the slot that was seen, and are as wide as each other.
        if slot != self.seen || after > side.lane.width() {
            return None;
        }
        if let Some(total) = &mut self.total {
            let after = total.with_line(slot);
            if after > side.lane.width() {
                return None;
            }
            total.admit_line(slot, after);
        }
        side.lane.admit_line(slot, after);
        Some(at + side.idle + side.extra)
    }

    /// When what arrives at `at` is answered; picoseconds.
    pub(super) fn serve(&mut self, at: u64, direction: Direction, len: u32) -> u64 {
        let side = match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
        let work = side.lane.work(u64::from(len));
        let mut wait = side.lane.admit(at, work);
        let idle = side.idle;
        if let Some(total) = &mut self.total {
            let work = total.work(u64::from(len));
            wait = wait.max(total.admit(at, work));
        }
        self.follow_load();
        let extra = match direction {
            Direction::Read => self.read.extra,
            Direction::Write => self.write.extra,
        };
        at + idle + wait.max(extra)
    }

    /// Picoseconds that `len` bytes take beyond the first line.
    pub(super) fn transfer(&self, direction: Direction, len: u32) -> u64 {
        let side = match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        };
        side.lane.work(u64::from(len).saturating_sub(LINE)).time()
    }

    /// Brings the latencies up to date where a lane has begun a new slot.
    #[inline]
    fn follow_load(&mut self) {
        let newest = self.read.lane.newest().max(self.write.lane.newest());
        let newest = self.total.as_ref().map_or(newest, |total| total.newest().max(newest));
        if newest != self.seen {
            self.recompute(newest);
        }
    }

    #[inline(never)]
    fn recompute(&mut self, newest: u64) {
        self.seen = newest;
        // Of a mix, what is nearest to its limit bounds the whole.
        let mut utilisation: f64 = 0.0;
        for lane in [Some(&mut self.read.lane), Some(&mut self.write.lane), self.total.as_mut()].into_iter().flatten() {
            lane.reach(newest);
            utilisation = utilisation.max(lane.utilisation());
        }
        if newest >= self.mix_seen + MIX_SLOTS
            && let Some(total) = &mut self.total
        {
            self.mix_seen = newest;
            let (read, written) = (self.read.lane.bytes(), self.write.lane.bytes());
            if read + written > 0.0 {
                total.set_bandwidth(self.figures.bandwidth(read / (read + written)) / self.slowdown);
            }
        }
        let factor = self.figures.latency_factor(utilisation);
        self.read.load(factor);
        self.write.load(factor);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tiermem_topology::{Profile, ProfileFigures};

    use super::*;

    fn memory(profile: &str) -> Memory {
        match &Profile::builtin(profile).unwrap().figures {
            ProfileFigures::Memory(figures) => Memory::new(figures),
            _ => panic!("{profile} is no memory"),
        }
    }

    proptest! {
        /// Whether a line is served at once or the long way, it takes as long, and so do those after it.
        #[test]
        fn lines_take_as_long_either_way(
            with_total in any::<bool>(),
            steps in prop::collection::vec((0..40_000_u64, 0..1_000_000_u64, 0..3_u32, 1..200_u32), 1..300),
        ) {
            let mut short = memory("cxl-asic");
            if !with_total {
                short.total = None;
            }
            let mut long = short.clone();
            let (mut clock, mut at_once) = (0, 0);
            for (step, back, kind, count) in steps {
                clock += step;
                let direction = if kind == 0 { Direction::Write } else { Direction::Read };
                // Some come late, some many at once, and some are no lines.
                let at = if kind == 1 { clock.saturating_sub(back) } else { clock };
                for _ in 0..if step < 2000 { count } else { 1 } {
                    let done = short.serve_at_once(at, direction);
                    at_once += u32::from(done.is_some());
                    let done = done.unwrap_or_else(|| short.serve(at, direction, LINE as u32));
                    prop_assert_eq!(done, long.serve(at, direction, LINE as u32));
                }
                if step % 16 == 0 {
                    prop_assert_eq!(short.serve(at, direction, count), long.serve(at, direction, count));
                }
                if step % 1000 == 0 {
                    short.slow(2.0);
                    long.slow(2.0);
                }
            }
            prop_assert!(at_once > 0 || short.seen > 0);
        }
    }
}
