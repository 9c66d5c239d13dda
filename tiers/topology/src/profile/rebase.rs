//! Profiles on other hosts than the one they were measured on.

use super::{Figure, MemoryFigures, Profile, ProfileFigures};

/// What a host's own DRAM looks like. Absolute figures mislead where hosts differ much (virtual machines, for example);
/// what carries over is how other memory relates to that host's DRAM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Baseline {
    /// Idle latency of a dependent load, nanoseconds.
    pub read_latency_ns: f64,
    /// Read bandwidth, bytes per second.
    pub read_bandwidth: f64,
}

impl From<&MemoryFigures> for Baseline {
    fn from(dram: &MemoryFigures) -> Self {
        Self { read_latency_ns: dram.read_latency_ns.value, read_bandwidth: dram.read_bandwidth.value }
    }
}

impl Profile {
    /// The same kind of memory beside the DRAM `host`, keeping its relation to DRAM: figures that are given relative to
    /// the shipped `dram-ddr5` follow from `host`, and those of a profile that knows its baseline (one that
    /// `tierctl probe` made) are scaled as `host` is to it. Figures that say nothing about DRAM stay as they are, so do
    /// links, drives and accelerators.
    ///
    /// ```
    /// use tiermem_topology::{Baseline, Profile, ProfileFigures};
    /// let slow_host = Baseline { read_latency_ns: 150.0, read_bandwidth: 20e9 };
    /// let asic = Profile::builtin("cxl-asic").unwrap().rebased(slow_host);
    /// let ProfileFigures::Memory(figures) = asic.figures else { unreachable!() };
    /// assert_eq!(figures.read_latency_ns.value, 2.18 * 150.0);
    /// ```
    #[must_use]
    pub fn rebased(&self, host: Baseline) -> Self {
        let mut profile = self.clone();
        let ProfileFigures::Memory(figures) = &mut profile.figures else { return profile };
        let scale = self.baseline.map(|baseline| {
            (host.read_latency_ns / baseline.read_latency_ns, host.read_bandwidth / baseline.read_bandwidth)
        });
        let latencies = [&mut figures.read_latency_ns, &mut figures.write_latency_ns];
        latencies
            .into_iter()
            .for_each(|figure| rebase(figure, host.read_latency_ns, scale.map(|(latency, _)| latency)));
        let bandwidths = [&mut figures.read_bandwidth, &mut figures.write_bandwidth];
        bandwidths
            .into_iter()
            .for_each(|figure| rebase(figure, host.read_bandwidth, scale.map(|(_, bandwidth)| bandwidth)));
        if let (Some(mixes), Some((_, bandwidth))) = (&mut figures.mixed_bandwidth, scale) {
            mixes.value.iter_mut().for_each(|mix| mix.total_bandwidth *= bandwidth);
        }
        profile.baseline = self.baseline.map(|_| host);
        profile
    }
}

fn rebase(figure: &mut Figure<f64>, dram: f64, scale: Option<f64>) {
    match &figure.relative {
        Some(relative) if relative.of == "dram-ddr5" => figure.value = relative.value(dram),
        _ => figure.value *= scale.unwrap_or(1.0),
    }
}
