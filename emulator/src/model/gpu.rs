//! An accelerator's memory, as the host sees it.

use tiermem_topology::GpuFigures;

use super::Direction;
use super::lane::Lane;
use crate::cache::LINE;
use crate::time::Time;

/// Copy engines, shared out between the directions where there are several, as drivers do
/// (<https://forums.developer.nvidia.com/t/365145>: with three engines, copies of one direction still take turns).
#[derive(Clone, Debug)]
pub(super) struct Gpu {
    /// From the call until the first line is there, picoseconds.
    latency: u64,
    to_device: Lane,
    from_device: Lane,
    /// When each engine is free again, picoseconds.
    engines: Vec<u64>,
    figures: GpuFigures,
}

impl Gpu {
    pub(super) fn new(figures: &GpuFigures) -> Self {
        let slot = Time::from_ns(figures.copy_latency_ns.value / 4.0).0;
        // The memory itself is a limit too, if it is slower than the way to it.
        let lane = |bandwidth: f64| Lane::new(bandwidth.min(figures.memory_bandwidth.value), slot);
        Self {
            latency: Time::from_ns(figures.copy_latency_ns.value).0,
            to_device: lane(figures.to_device_bandwidth.value),
            from_device: lane(figures.from_device_bandwidth.value),
            engines: vec![0; figures.copy_engines.value.max(1) as usize],
            figures: figures.clone(),
        }
    }

    /// From now on takes `factor` times as long as its figures say.
    pub(super) fn slow(&mut self, factor: f64) {
        let GpuFigures { copy_latency_ns, memory_bandwidth, to_device_bandwidth, from_device_bandwidth, .. } =
            &self.figures;
        self.latency = Time::from_ns(copy_latency_ns.value * factor).0;
        let slowed = |bandwidth: f64| bandwidth.min(memory_bandwidth.value) / factor;
        self.to_device.set_bandwidth(slowed(to_device_bandwidth.value));
        self.from_device.set_bandwidth(slowed(from_device_bandwidth.value));
    }

    /// When the copy that is asked for at `at` is done; picoseconds. Preparing a copy needs no engine, moving its bytes
    /// does.
    pub(super) fn serve(&mut self, at: u64, direction: Direction, len: u32) -> u64 {
        let upward = self.engines.len() / 2;
        let (engines, lane) = match direction {
            Direction::Read if upward > 0 => (&mut self.engines[..upward], &mut self.from_device),
            Direction::Read => (&mut self.engines[..], &mut self.from_device),
            Direction::Write => (&mut self.engines[upward..], &mut self.to_device),
        };
        let line = lane.work(LINE).time();
        let moving = lane.work(u64::from(len).max(LINE));
        let ready = at + self.latency.saturating_sub(line);
        let Some(engine) = engines.iter_mut().min() else { return ready };
        let begins = ready.max(*engine);
        *engine = begins + lane.admit(begins, moving) + moving.time();
        *engine
    }
}
