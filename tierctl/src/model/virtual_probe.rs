//! `tierctl probe --emulated`: the probe in virtual time, and how well it agrees with the profiles.

use serde::Serialize;
use tiermem_emulator::model::TierIndex;
use tiermem_emulator::time::Mode;
use tiermem_emulator::workload::probe::{Probed, fidelity, probe};
use tiermem_topology::Topology;

use crate::exit::{Exit, Failure};
use crate::output::{Align, Table};

/// The name and version of the JSON form.
pub const FORMAT: &str = "tiermem-emulated-probe/1";

/// How far a figure may be off.
const ERROR_MAX: f64 = 0.01;

/// The JSON: bandwidths in bytes per second, latencies in nanoseconds.
#[derive(Debug, Serialize)]
pub struct Document {
    /// How time was told.
    mode: &'static str,
    topology: String,
    host: String,
    tiers: Vec<TierDocument>,
    /// The largest error of any figure, as a part of what is expected.
    error_max: f64,
}

#[derive(Debug, Serialize)]
struct TierDocument {
    name: String,
    read_latency_ns: f64,
    write_latency_ns: f64,
    read_bandwidth: f64,
    write_bandwidth: f64,
    loaded: Vec<PointDocument>,
    read_iops: Option<f64>,
    write_iops: Option<f64>,
    /// Each figure of the profile beside what was found.
    checks: Vec<CheckDocument>,
}

#[derive(Debug, Serialize)]
struct PointDocument {
    bandwidth: f64,
    latency_ns: f64,
}

#[derive(Debug, Serialize)]
struct CheckDocument {
    figure: String,
    expected: f64,
    found: f64,
    error: f64,
}

/// Probes every tier that the host reaches, or those named.
///
/// # Errors
/// The topology cannot be modelled, or there is no such host or tier.
pub fn document(topology: &Topology, host: Option<&str>, wanted: &[String]) -> Result<Document, Failure> {
    let (system, number) = super::system(topology, host)?;
    let names: Vec<&str> = system.tiers().iter().map(|tier| tier.name.as_str()).collect();
    if let Some(unknown) = wanted.iter().find(|wanted| !names.contains(&wanted.as_str())) {
        return Err(Failure::new(Exit::NotFound, format!("no tier {unknown} in this topology: {}", names.join(", "))));
    }
    let mut document = Document {
        mode: Mode::Virtual.as_str(),
        topology: topology.name.clone(),
        host: system.hosts()[usize::from(number.0)].clone(),
        tiers: Vec::new(),
        error_max: 0.0,
    };
    for (index, name) in (0_u16..).zip(&names) {
        let tier = TierIndex(index);
        if !system.reaches(number, tier) || !(wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)) {
            continue;
        }
        let checks = fidelity(topology, number, tier)
            .map_err(|error| Failure::new(Exit::BadInput, error.to_string()))?
            .into_iter()
            .map(|check| CheckDocument {
                error: check.error(),
                figure: check.figure,
                expected: check.expected,
                found: check.found,
            });
        let tier = TierDocument::new(name, &probe(&system, number, tier), checks.collect());
        document.error_max = tier.checks.iter().map(|check| check.error.abs()).fold(document.error_max, f64::max);
        document.tiers.push(tier);
    }
    Ok(document)
}

impl TierDocument {
    fn new(name: &str, probed: &Probed, checks: Vec<CheckDocument>) -> Self {
        let point = |point: &tiermem_emulator::workload::probe::LoadedPoint| PointDocument {
            bandwidth: point.bandwidth,
            latency_ns: point.latency_ns,
        };
        Self {
            name: name.to_owned(),
            read_latency_ns: probed.read_latency_ns,
            write_latency_ns: probed.write_latency_ns,
            read_bandwidth: probed.read_bandwidth,
            write_bandwidth: probed.write_bandwidth,
            loaded: probed.loaded.iter().map(point).collect(),
            read_iops: probed.copied.map(|copied| copied.read_iops),
            write_iops: probed.copied.map(|copied| copied.write_iops),
            checks,
        }
    }
}

impl Document {
    /// For people.
    pub fn text(&self) -> String {
        let mut table = Table::new(&[
            ("TIER", Align::Left),
            ("FIGURE", Align::Left),
            ("BY THE PROFILE", Align::Right),
            ("BY THE PROBE", Align::Right),
            ("ERROR", Align::Right),
        ]);
        for tier in &self.tiers {
            for check in &tier.checks {
                table.row([
                    tier.name.clone(),
                    check.figure.clone(),
                    significant(check.expected),
                    significant(check.found),
                    format!("{:+.2} %", check.error * 100.0),
                ]);
            }
        }
        format!(
            "{}\n{} time, host {} of {}; the worst figure is off by {:.2} %\n",
            table.render(),
            self.mode,
            self.host,
            self.topology,
            self.error_max * 100.0
        )
    }

    /// A failure if a figure is off by more than a per cent.
    pub fn verdict(&self) -> Result<Exit, Failure> {
        if self.error_max <= ERROR_MAX {
            return Ok(Exit::Ok);
        }
        let off = self.error_max * 100.0;
        let why = "a curve with cliffs cannot be followed; with shipped profiles, please report it";
        Err(Failure::new(Exit::Failed, format!("the model is off by {off:.2} % from its profiles: {why}")))
    }
}

/// Five significant digits, large numbers in powers of ten.
fn significant(value: f64) -> String {
    if value >= 1e6 {
        return format!("{:.3}e{:.0}", value / 10_f64.powf(value.log10().floor()), value.log10().floor());
    }
    format!("{value:.1}")
}
