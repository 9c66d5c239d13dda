//! Machines as data: what hosts, nodes, devices, links and interleave sets there are, and how fast each of them is.
//!
//! One TOML file describes a machine, real or not. The emulator builds models and tiers from it, the QEMU lab a virtual
//! machine; both read it through this crate, so they mean the same by it.

mod profile;
mod quoted;
mod topology;

pub use profile::{
    BUILTIN_NAMES, Baseline, Figure, GpuFigures, LinkFigures, MemoryFigures, Mix, NvmeFigures, Point, Profile,
    ProfileFigures, Relative, ShownFigure, Status,
};
pub use topology::{
    Bridge, Coherence, Device, DeviceKind, Exposure, Host, InterleaveSet, Link, LoadError, Node, Persistence, Pool,
    SHIPPED, Switch, TierFigures, TierView, Topology,
};
