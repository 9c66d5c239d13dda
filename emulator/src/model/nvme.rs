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

impl Nvme {
    pub(super) fn new(figures: &NvmeFigures) -> Self {
        let slot = Time::from_ns(figures.read_latency_ns.value).0;
        let side = |latency_ns: f64, bandwidth: f64, iops: f64| Side {
            latency: Time::from_ns(latency_ns).0,
            command: Work::of_time(Time::from_ns(1e9 / iops.max(1e-3)).0),
            bytes: Lane::new(bandwidth, slot),
        };
        // What work is comes from each side, so their own bandwidth does not matter.
        let shared = || Lane::new(1.0, slot);
        Self {
            read: side(figures.read_latency_ns.value, figures.read_bandwidth.value, figures.read_iops.value),
            write: side(figures.write_latency_ns.value, figures.write_bandwidth.value, figures.write_iops.value),
            commands: shared(),
            bytes: shared(),
            servers: (0..figures.queue_depth.value.max(1)).map(|_| Reverse(0)).collect(),
        }
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
