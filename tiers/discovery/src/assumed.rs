//! Typical figures for kinds of memory that nobody has described or measured. Each has its citation, and is shown as
//! assumed. Kinds for which no publication is at hand have none: an empty cell is better than an invented number.

use tiermem_tiers::Source;

use crate::report::{AttributesReport, Figure, Figures};

/// What kind of memory is assumed about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// DRAM on the processor's own channels.
    LocalDram,
    /// DRAM behind CXL.
    Cxl,
}

/// Fills read latency (and for CXL, bandwidth) where no other source gave one.
pub fn fill(kind: Kind, attributes: &mut AttributesReport) {
    const SLIDES: &str = "CXL Consortium, Hot Chips 34 tutorial";
    let (latency_ns, range) = match kind {
        Kind::LocalDram => (110.0, "80-140 ns"),
        Kind::Cxl => (210.0, "170-250 ns"),
    };
    if attributes.read_latency_ns.is_none() {
        let detail = format!("middle of {range}, {SLIDES}");
        Figures::add(&mut attributes.read_latency_ns, Figure::new(latency_ns, Source::Assumed, detail));
    }
    if kind == Kind::Cxl && attributes.read_bandwidth.is_none() {
        let figure = Figure::new(36e9, Source::Assumed, "Micron CZ120, vendor test at two reads to one write");
        Figures::add(&mut attributes.read_bandwidth, figure);
    }
}
