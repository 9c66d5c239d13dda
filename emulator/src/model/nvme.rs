//! Block storage.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tiermem_topology::NvmeFigures;

use super::Direction;
use super::lane::{Lane, Work};
use crate::time::Time;

/// Bytes of the commands that latencies and commands a second are about; a smaller one costs as much.
const BLOCK: u64 = 4096;

/// A drive: as many servers as commands may be in flight, behind a limit of commands a second and one of bandwidth.
/// Reads and writes share each limit in proportion, as they share the flash behind it.
#[derive(Clone, Debug)]
pub(super) struct Nvme {
    read: Side,
    write: Side,
    /// A second of the drive's time, as commands use it up.
    commands: Lane,
    /// The same for bytes.
    bytes: Lane,
    /// When each server is free again.
    servers: BinaryHeap<Reverse<u64>>,
    figures: NvmeFigures,
}

/// What there is once for reads and once for writes; picoseconds.
#[derive(Clone, Debug)]
struct Side {
    latency: u64,
    /// What a command takes of the drive's time.
    command: Work,
    /// Bandwidth, to say how long bytes take.
    bytes: Lane,
}

impl Side {
    fn of(figures: &NvmeFigures, direction: Direction, slowdown: f64) -> Self {
        let (latency, bandwidth, iops) = match direction {
            Direction::Read => (&figures.read_latency_ns, &figures.read_bandwidth, &figures.read_iops),
            Direction::Write => (&figures.write_latency_ns, &figures.write_bandwidth, &figures.write_iops),
        };
        Self {
            latency: Time::from_ns(latency.value * slowdown).0,
            command: Work::of_time(Time::from_ns(1e9 / iops.value.max(1e-3) * slowdown).0),
            bytes: Lane::new(bandwidth.value / slowdown, Time::from_ns(figures.read_latency_ns.value).0),
        }
    }
}

impl Nvme {
    pub(super) fn new(figures: &NvmeFigures) -> Self {
        let slot = Time::from_ns(figures.read_latency_ns.value).0;
        // What work is comes from each side, so their own bandwidth does not matter.
        let shared = || Lane::new(1.0, slot);
        Self {
            read: Side::of(figures, Direction::Read, 1.0),
            write: Side::of(figures, Direction::Write, 1.0),
            commands: shared(),
            bytes: shared(),
            servers: (0..figures.queue_depth.value.max(1)).map(|_| Reverse(0)).collect(),
            figures: figures.clone(),
        }
    }

    /// From now on takes `factor` times as long as its figures say.
    pub(super) fn slow(&mut self, factor: f64) {
        self.read = Side::of(&self.figures, Direction::Read, factor);
        self.write = Side::of(&self.figures, Direction::Write, factor);
    }

    /// When the command that arrives at `at` is done; picoseconds.
    pub(super) fn serve(&mut self, at: u64, direction: Direction, len: u32) -> u64 {
        let side = match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        };
        let Reverse(free) = self.servers.pop().unwrap_or(Reverse(at));
        let begins = free.max(at);
        let transfer = side.bytes.work(u64::from(len).max(BLOCK));
        let waits = [self.commands.admit(begins, side.command), self.bytes.admit(begins, transfer)];
        let beyond = side.bytes.work(u64::from(len).saturating_sub(BLOCK)).time();
        let done = begins + waits.into_iter().max().unwrap_or(0) + side.latency + beyond;
        self.servers.push(Reverse(done));
        done
    }
}
