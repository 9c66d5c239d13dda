//! How fast a kind of memory or link is, each figure with its source.
//!
//! Profiles are written in TOML, alone in a file ([`Profile::parse`]) or as `[profile.NAME]` of a topology
//! ([`Profile::parse_table`]); those that are shipped come from [`Profile::builtin`].

mod builtin;
mod check;
mod figure;
mod parse;
mod rebase;
mod show;

use std::ops::Range;

use tiermem_complaint::{Complaints, FileError};
use toml::de::DeTable;

pub use builtin::BUILTIN_NAMES;
pub use rebase::Baseline;
pub use show::ShownFigure;

/// How much a figure is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// Somebody measured it on hardware and published it, or `tierctl probe` did on this machine.
    Measured,
    /// It comes from a simulator.
    Simulated,
    /// The vendor says so.
    Vendor,
    /// Nobody says so: a plausible value.
    Assumed,
}

/// A value, where it comes from and what that is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure<T> {
    /// The value; its unit stands in the name of the field that holds the figure.
    pub value: T,
    /// What it is worth.
    pub status: Status,
    /// Where it comes from: a paper, a data sheet, a machine. For assumed figures, why this value.
    pub source: String,
    /// Where it was given in terms of another profile, how: then the value follows from that profile's.
    pub relative: Option<Relative>,
}

/// A figure in terms of the same figure of another profile: that one times `ratio` plus `plus`.
#[derive(Clone, Debug, PartialEq)]
pub struct Relative {
    /// The other profile, a shipped one.
    pub of: String,
    /// What its figure is multiplied by.
    pub ratio: f64,
    /// What is added to that, in the figure's unit.
    pub plus: f64,
}

impl Relative {
    /// The figure that belongs to a base of `base`.
    pub fn value(&self, base: f64) -> f64 {
        base * self.ratio + self.plus
    }
}

/// A point of a loaded-latency curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Share of the bandwidth of the mix at hand that is in use, 0 to 1.
    pub utilisation: f64,
    /// Read latency at that load over the idle one, 1 and more.
    pub latency_factor: f64,
}

/// The bandwidth of a mix of reads and writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// Share of the bytes that are read, over 0 and below 1.
    pub read_share: f64,
    /// Bytes per second, reads and writes together.
    pub total_bandwidth: f64,
}

/// A kind of memory or of link.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// As topologies name it.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// How fast it is.
    pub figures: ProfileFigures,
    /// The DRAM of the host that the figures were measured on, where that is known.
    pub baseline: Option<Baseline>,
}

impl Profile {
    /// Parses a profile file. `file_name` appears in complaints only.
    ///
    /// ```
    /// use tiermem_topology::Profile;
    /// let text = r#"
    /// version = 1
    /// name = "mine"
    /// description = "like the shipped one, but nearer"
    /// base = "cxl-asic"
    /// read_latency_ns = { value = 200, status = "assumed", source = "a wish" }
    /// "#;
    /// assert!(Profile::parse(text, "mine.toml").is_ok());
    /// let error = Profile::parse(&text.replace("200", "-200"), "mine.toml").unwrap_err();
    /// assert!(error.to_string().starts_with("mine.toml:6:29: "));
    /// ```
    ///
    /// # Errors
    /// Everything that is wrong with it, each at its line and column.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, FileError> {
        parse::file(text, file_name)
    }

    /// Parses the table `[profile.NAME]` of a larger file, which has neither `version` nor `name` of its own. `span` is
    /// where to complain about what is missing. `None` where there was so much to complain of that no profile is left;
    /// else what could be understood, which counts only if nothing was noted.
    pub fn parse_table(
        name: &str,
        entries: &DeTable<'_>,
        span: Range<usize>,
        complaints: &mut Complaints<'_>,
    ) -> Option<Self> {
        parse::table(name, entries, span, complaints)
    }

    /// The shipped profile of that name.
    pub fn builtin(name: &str) -> Option<Self> {
        builtin::get(name)
    }

    /// The kind word of its figures: `memory`, `link`, `nvme` or `gpu`.
    pub const fn kind(&self) -> &'static str {
        self.figures.kind()
    }
}

impl ProfileFigures {
    /// The kind word: `memory`, `link`, `nvme` or `gpu`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Link(_) => "link",
            Self::Nvme(_) => "nvme",
            Self::Gpu(_) => "gpu",
        }
    }
}

/// The figures of a [`Profile`], by what it is about.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ProfileFigures {
    /// Memory that the CPU addresses.
    Memory(MemoryFigures),
    /// A link or the hop through a switch.
    Link(LinkFigures),
    /// Block storage.
    Nvme(NvmeFigures),
    /// An accelerator's own memory.
    Gpu(GpuFigures),
}

/// Memory that the CPU addresses: DRAM, or a CXL type 3 device seen from a directly attached CPU (its own port
/// included; what lies between is added by links and switches).
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryFigures {
    /// Idle latency of a dependent load that misses all caches, nanoseconds.
    pub read_latency_ns: Figure<f64>,
    /// Idle latency until a written line is accepted, nanoseconds.
    pub write_latency_ns: Figure<f64>,
    /// Read bandwidth, bytes per second.
    pub read_bandwidth: Figure<f64>,
    /// Write bandwidth, bytes per second.
    pub write_bandwidth: Figure<f64>,
    /// What mixes of reads and writes get, by rising share of reads, reads alone and writes alone left out. In between,
    /// the bandwidth is interpolated. `None` where reads and writes do not get into each other's way.
    pub mixed_bandwidth: Option<Figure<Vec<Mix>>>,
    /// Latency under load, by rising utilisation, from 0 to 1.
    pub loaded: Figure<Vec<Point>>,
}

impl MemoryFigures {
    /// Bandwidth of a mix of which `read_share` (0 to 1) is read; bytes per second.
    ///
    /// ```
    /// use tiermem_topology::{Profile, ProfileFigures};
    /// let ProfileFigures::Memory(dram) = Profile::builtin("dram-ddr5").unwrap().figures else { unreachable!() };
    /// assert_eq!(dram.bandwidth(1.0), dram.read_bandwidth.value);
    /// assert!(dram.bandwidth(0.58) < dram.bandwidth(1.0));
    /// ```
    pub fn bandwidth(&self, read_share: f64) -> f64 {
        let (read, write) = (self.read_bandwidth.value, self.write_bandwidth.value);
        let Some(mixes) = &self.mixed_bandwidth else {
            let alone = |bandwidth: f64, share: f64| if share > 0.0 { bandwidth / share } else { f64::INFINITY };
            return alone(read, read_share).min(alone(write, 1.0 - read_share));
        };
        let mut before = Mix { read_share: 0.0, total_bandwidth: write };
        for &mix in mixes.value.iter().chain(&[Mix { read_share: 1.0, total_bandwidth: read }]) {
            if read_share <= mix.read_share {
                let part = (read_share - before.read_share) / (mix.read_share - before.read_share);
                return before.total_bandwidth + part.max(0.0) * (mix.total_bandwidth - before.total_bandwidth);
            }
            before = mix;
        }
        read
    }

    /// What the idle latency is multiplied by at `utilisation`, 0 to 1: straight lines between the points of the curve.
    pub fn latency_factor(&self, utilisation: f64) -> f64 {
        let mut before: Option<&Point> = None;
        for point in &self.loaded.value {
            if utilisation <= point.utilisation {
                let Some(before) = before else { return point.latency_factor };
                let part = (utilisation - before.utilisation) / (point.utilisation - before.utilisation);
                return before.latency_factor + part * (point.latency_factor - before.latency_factor);
            }
            before = Some(point);
        }
        before.map_or(1.0, |last| last.latency_factor)
    }
}

/// A link, or the hop through a switch. Directions are seen from the host: down is towards the device.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkFigures {
    /// What one hop adds to the latency of an access, both ways together, nanoseconds.
    pub latency_ns: Figure<f64>,
    /// Payload bandwidth from the host to the device (writes), bytes per second.
    pub down_bandwidth: Figure<f64>,
    /// Payload bandwidth from the device to the host (reads), bytes per second.
    pub up_bandwidth: Figure<f64>,
}

/// Block storage.
#[derive(Clone, Debug, PartialEq)]
pub struct NvmeFigures {
    /// Idle latency of a 4 KiB read, nanoseconds.
    pub read_latency_ns: Figure<f64>,
    /// Idle latency of a 4 KiB write, nanoseconds.
    pub write_latency_ns: Figure<f64>,
    /// Sequential read bandwidth, bytes per second.
    pub read_bandwidth: Figure<f64>,
    /// Sequential write bandwidth, bytes per second.
    pub write_bandwidth: Figure<f64>,
    /// Random 4 KiB reads a second with full queues.
    pub read_iops: Figure<f64>,
    /// Random 4 KiB writes a second with full queues.
    pub write_iops: Figure<f64>,
    /// Commands in flight that still raise the throughput.
    pub queue_depth: Figure<u32>,
}

/// An accelerator's own memory, reached through its copy engines.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuFigures {
    /// From the call until the copy of one line is done, nanoseconds.
    pub copy_latency_ns: Figure<f64>,
    /// Bandwidth to the device, bytes per second.
    pub to_device_bandwidth: Figure<f64>,
    /// Bandwidth from the device, bytes per second.
    pub from_device_bandwidth: Figure<f64>,
    /// Copies that run at the same time.
    pub copy_engines: Figure<u32>,
    /// Bandwidth of the memory itself, bytes per second.
    pub memory_bandwidth: Figure<f64>,
}
