//! `tierctl probe`.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tiermem_discovery::measure::{self, Effort, Measurement, Spread};
use tiermem_discovery::report::TierReport;
use tiermem_discovery::{Report, cache};
use tiermem_sys::cpu;
use tiermem_tiers::provider::{Obstacle, OpenError, open};
use tiermem_tiers::{Attribute, Bytes, GRANULE, Source, TierId, TierKind, TierSpec};

use super::list::{bandwidth, failure, latency};
use crate::curves;
use crate::exit::{Exit, Failure};
use crate::model::{self, from_probe, virtual_probe};
use crate::output::{Align, Output, Table};
use crate::tiers_here;

/// Measure tiers: idle latency, bandwidth, latency under load. `tierctl list` and policies use the figures afterwards.
///
/// Without --tier and --spec, every tier that `tierctl list` shows is measured. Memory and file space are taken while
/// it runs and given back. Run it on an otherwise idle machine.
#[derive(Debug, clap::Args)]
pub struct Probe {
    /// Measure this tier of `tierctl list` only (may be repeated).
    #[arg(long = "tier", value_name = "NAME")]
    tiers: Vec<String>,

    /// Measure the tier that this SPEC describes (may be repeated).
    #[arg(long = "spec", value_name = "SPEC")]
    specs: Vec<String>,

    /// Draw the loaded-latency curves as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Write a profile of each tier into this folder, for topologies and `tierctl model`; DRAM that is measured in the
    /// same run becomes the baseline of the others.
    #[arg(long, value_name = "DIR")]
    profiles: Option<PathBuf>,

    /// Measure the tiers of a modelled machine instead, in virtual time, and compare them with its profiles: a topology
    /// or profile, shipped or in a file. With --tier, only these.
    #[arg(long, value_name = "TOPOLOGY|PROFILE", conflicts_with_all = ["specs", "plot", "quick", "size", "profiles"])]
    emulated: Option<String>,

    /// The host to measure from, with --emulated.
    #[arg(long, value_name = "HOST", requires = "emulated")]
    host: Option<String>,

    /// Rough figures in a few seconds a tier.
    #[arg(long)]
    quick: bool,

    /// Memory for the latency measurement (default: four times the last-level cache, between 64 MiB and 1 GiB).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<Bytes>,
}

/// The JSON of `tierctl probe`.
#[derive(Debug, Serialize)]
struct Probed {
    /// One measurement a tier; bandwidths in bytes per second, latencies in nanoseconds, as median and median
    /// absolute deviation.
    tiers: Vec<Measurement>,
    /// Tiers that could not be measured, and why.
    skipped: Vec<Skipped>,
    /// The file that keeps the measurements.
    cache: Option<PathBuf>,
    /// What makes all figures rough.
    notes: Vec<String>,
}

/// A tier that could not be measured.
#[derive(Debug, Serialize)]
struct Skipped {
    name: String,
    reason: String,
}

/// A tier to measure.
struct Target {
    spec: TierSpec,
    /// As `tierctl list` names the place.
    location: String,
    /// CPUs to measure from.
    cpus: Vec<u32>,
    /// Memory that may be used at most, so that the rest of the machine keeps enough.
    room: Option<Bytes>,
    /// A folder that exists for the measurement only.
    scratch: Option<Scratch>,
}

/// A folder that is removed, with all that is in it, when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn make(under: &Path) -> Result<Self, String> {
        let path = under.join(format!("tiermem-probe-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It was ours alone. If removing it fails, the user sees it in the directory that was measured.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const FORMAT: &str = "tiermem-probe-result/1";

impl Probe {
    /// Measures, prints and keeps.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        if let Some(which) = &self.emulated {
            let document = virtual_probe::document(&model::machine(which)?, self.host.as_deref(), &self.tiers)?;
            if output.is_json() {
                output.json(virtual_probe::FORMAT, &document)?;
            } else {
                output.text(&document.text())?;
            }
            return document.verdict();
        }
        let report = tiers_here::report();
        let working_set = self.effort(&report, Vec::new()).working_set;
        let mut probed =
            Probed { tiers: Vec::new(), skipped: Vec::new(), cache: None, notes: notes(&report, working_set) };
        for mut target in self.targets(&report, working_set, &mut probed.skipped)? {
            let mut effort = self.effort(&report, target.cpus.clone());
            if let Some(room) = target.room.filter(|&room| room < effort.working_set) {
                probed.notes.push(format!("{}: a quarter of what is free, {room}, is measured", target.spec.name));
                effort.working_set = room;
            }
            match measure_one(&mut target, &effort) {
                Ok(measurement) => probed.tiers.push(measurement),
                Err(refusal) if self.names_tiers() => return Err(refusal),
                Err(refusal) => {
                    probed.skipped.push(Skipped { name: target.spec.name.to_string(), reason: refusal.message });
                }
            }
        }
        probed.cache = Some(cache::store(&probed.tiers).map_err(failure)?);
        if let Some(folder) = &self.profiles {
            write_profiles(folder, &probed.tiers, &report)?;
        }
        if let Some(file) = &self.plot {
            let drawn = curves::draw(&probed.tiers);
            std::fs::write(file, drawn?)
                .map_err(|e| Failure::from_io(format!("cannot write {}", file.display()), &e))?;
        }
        if output.is_json() {
            output.json(FORMAT, &probed)?;
        } else {
            output.text(&render(&probed))?;
        }
        Ok(Exit::Ok)
    }

    fn names_tiers(&self) -> bool {
        !self.tiers.is_empty() || !self.specs.is_empty()
    }

    fn effort(&self, report: &Report, cpus: Vec<u32>) -> Effort {
        let cache = report.machine.last_level_cache_bytes;
        let effort = if self.quick { Effort::quick(cache, cpus) } else { Effort::thorough(cache, cpus) };
        Effort { working_set: self.size.unwrap_or(effort.working_set), ..effort }
    }

    fn targets(&self, report: &Report, room: Bytes, skipped: &mut Vec<Skipped>) -> Result<Vec<Target>, Failure> {
        let mut targets = Vec::new();
        for name in &self.tiers {
            let tier =
                report.tiers.iter().find(|tier| tier.name == *name).ok_or_else(|| tiers_here::unknown(name, report))?;
            targets.push(listed(tier, report, room).map_err(|why| Failure::new(Exit::Unsupported, why))?);
        }
        for text in &self.specs {
            let spec: TierSpec = text.parse().map_err(|e| Failure::new(Exit::BadInput, format!("{e}")))?;
            let location = spec.location.clone();
            let node = report.tiers.iter().find(|t| t.kind == spec.kind.as_str() && t.location == location);
            targets.push(Target { spec, location, cpus: near(node, report), room: None, scratch: None });
        }
        if !self.names_tiers() {
            for tier in &report.tiers {
                if is_emulated(tier) {
                    let reason = "emulated: name it with --tier to measure the memory behind it".to_owned();
                    skipped.push(Skipped { name: tier.name.clone(), reason });
                    continue;
                }
                match listed(tier, report, room) {
                    Ok(target) => targets.push(target),
                    Err(reason) => skipped.push(Skipped { name: tier.name.clone(), reason }),
                }
            }
        }
        Ok(targets)
    }
}

/// One file for each tier, named as `tierctl list` names it.
fn write_profiles(folder: &Path, measured: &[Measurement], report: &Report) -> Result<(), Failure> {
    let unwritable = |path: &Path, error| Failure::from_io(format!("cannot write {}", path.display()), &error);
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
    let dram = measured.iter().find(|tier| tier.kind == TierKind::Dram.as_str());
    for tier in measured {
        let listed = report.tiers.iter().find(|listed| listed.identity() == tier.identity());
        let name = listed.map_or_else(|| tier.identity().replace([':', '/'], "-"), |listed| listed.name.clone());
        let beside = dram.filter(|dram| dram.identity() != tier.identity());
        let Some(profile) = from_probe::profile(&name, tier, beside.or(dram)) else { continue };
        let path = folder.join(format!("{name}.toml"));
        std::fs::write(&path, profile.to_string()).map_err(|error| unwritable(&path, error))?;
    }
    Ok(())
}

fn parse_size(text: &str) -> Result<Bytes, String> {
    let size = Bytes::parse(text)?;
    let whole = Bytes(size.0 / GRANULE.0 * GRANULE.0);
    if whole < Bytes::mib(16) { Err("at least 16M are needed".to_owned()) } else { Ok(whole) }
}

/// Whether it stands for hardware that is not there.
fn is_emulated(tier: &TierReport) -> bool {
    tier.attributes.read_latency_ns.as_ref().is_some_and(|f| f.chosen.source == Source::Emulated.as_str())
}

/// How a listed tier is opened for measuring: with no more space than is needed, in a file of its own.
fn listed(tier: &TierReport, report: &Report, room: Bytes) -> Result<Target, String> {
    let text = tier.spec.as_deref().ok_or_else(|| tier.notes.join("; "))?;
    let mut spec: TierSpec = text.parse().map_err(|e| format!("{e}"))?;
    let mut scratch = None;
    if matches!(spec.kind, TierKind::DaxFile | TierKind::Nvme) && !is_emulated(tier) {
        let free = tier.free_bytes.map_or(room, Bytes);
        // A quarter of what is left stays free for others.
        let size = Bytes(room.0.min(free.0 / 4 * 3) / GRANULE.0 * GRANULE.0);
        spec.attributes.capacity = Some(Attribute::new(size, Source::Configured));
        let folder = Scratch::make(Path::new(&tier.location))?;
        let inside = if spec.kind == TierKind::DaxFile { folder.0.join("memory") } else { folder.0.clone() };
        spec.location = inside.to_string_lossy().into_owned();
        scratch = Some(folder);
    }
    let room = tier.node.as_ref().and(tier.free_bytes).map(|free| quarter(Bytes(free)));
    Ok(Target { spec, location: tier.location.clone(), cpus: near(Some(tier), report), room, scratch })
}

/// A quarter, in whole granules, at least 16 MiB.
fn quarter(free: Bytes) -> Bytes {
    Bytes(free.0 / 4 / GRANULE.0 * GRANULE.0).max(Bytes::mib(16))
}

/// CPUs that reach the tier fastest and that we may use: the node's own, else those of its initiators, else all.
fn near(tier: Option<&TierReport>, report: &Report) -> Vec<u32> {
    let allowed = cpu::allowed().unwrap_or_default();
    let node = tier.and_then(|tier| tier.node.as_ref());
    let own = node.map(|node| node.cpus.clone()).unwrap_or_default();
    let initiators = node.map(|n| if n.cpu_initiators.is_empty() { &n.initiators } else { &n.cpu_initiators });
    let theirs =
        report.tiers.iter().filter_map(|t| t.node.as_ref()).filter(|n| initiators.is_some_and(|i| i.contains(&n.node)));
    let theirs: Vec<u32> = theirs.flat_map(|n| n.cpus.iter().copied()).collect();
    let usable = |cpus: Vec<u32>| -> Vec<u32> { cpus.into_iter().filter(|cpu| allowed.contains(cpu)).collect() };
    [usable(own), usable(theirs)].into_iter().find(|cpus| !cpus.is_empty()).unwrap_or(allowed)
}

fn measure_one(target: &mut Target, effort: &Effort) -> Result<Measurement, Failure> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{prefix:>12} {bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(target.spec.name.to_string());
    let provider = open(&target.spec, TierId(0)).map_err(open_failure);
    if target.spec.kind == TierKind::DaxFile {
        // An open file needs no name, and without one it cannot be left behind, whatever happens.
        target.scratch = None;
    }
    let measured = provider.and_then(|provider| {
        let mut progress = |done: usize, all: usize, what: &str| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            bar.set_message(what.to_owned());
        };
        measure::tier(&*provider, &target.location, effort, &mut progress)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))
    });
    bar.finish_and_clear();
    measured
}

fn open_failure(error: OpenError) -> Failure {
    let exit = match error.obstacle() {
        Obstacle::Missing => Exit::NotFound,
        Obstacle::NoRights => Exit::NoRights,
        Obstacle::Unsupported => Exit::Unsupported,
        Obstacle::BadSize | Obstacle::Unsuitable => Exit::BadInput,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

/// What makes all figures rough.
fn notes(report: &Report, working_set: Bytes) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(hypervisor) = &report.machine.hypervisor {
        notes.push(format!("virtual machine ({hypervisor}): neighbours and nested paging disturb every figure"));
    }
    if let Some(cache) = report.machine.last_level_cache_bytes.filter(|&cache| cache * 3 > working_set.0) {
        let cache = Bytes(cache);
        notes.push(format!(
            "a working set of {working_set} is near the last-level cache ({cache}): latency may be too low"
        ));
    }
    notes
}

fn render(probed: &Probed) -> String {
    let mut table = Table::new(&[
        ("TIER", Align::Left),
        ("LATENCY", Align::Right),
        ("READ", Align::Right),
        ("WRITE", Align::Right),
        ("LATENCY UNDER FULL LOAD", Align::Left),
    ]);
    let cell = |spread: Option<Spread>, show: fn(f64) -> String| {
        spread.map_or_else(String::new, |s| format!("{} ±{:.0}%", show(s.median), s.relative() * 100.0))
    };
    for tier in &probed.tiers {
        let full = tier.loaded.last().filter(|point| point.pause.is_some());
        table.row([
            tier.identity(),
            cell(tier.read_latency_ns, latency),
            cell(tier.read_bandwidth, bandwidth),
            cell(tier.write_bandwidth, bandwidth),
            full.map_or_else(String::new, |p| {
                format!("{} at {}", latency(p.latency_ns.median), bandwidth(p.bandwidth.median))
            }),
        ]);
    }
    let mut lines: Vec<String> = probed.skipped.iter().map(|s| format!("skipped {}: {}", s.name, s.reason)).collect();
    for tier in &probed.tiers {
        lines.extend(tier.notes.iter().map(|note| format!("note: {}: {note}", tier.identity())));
    }
    lines.extend(probed.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(probed.cache.iter().map(|path| format!("kept in {}", path.display())));
    format!("{}\n± is the median absolute deviation\n{}\n", table.render(), lines.join("\n"))
}
