//! `tierctl list`.

use std::path::PathBuf;

use tiermem_discovery::mechanism::Mechanism;
use tiermem_discovery::report::{CxlReport, FORMAT, Figures, Machine, TierReport};
use tiermem_discovery::{Error, Report, foreign};
use tiermem_tiers::Bytes;

use crate::exit::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::tiers_here;

/// Show the tiers of this machine, their figures, and which mechanisms work.
///
/// Every figure says where it comes from: HMAT or CDAT (firmware and device tables), kernel, measured (`tierctl
/// probe`), configured, or assumed (a typical figure from a publication).
#[derive(Debug, clap::Args)]
pub struct List {
    /// Show another machine, from hwloc's XML export (`lstopo --of xml FILE`).
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

impl List {
    /// Finds and prints.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        let report = match &self.from {
            Some(file) => foreign::from_xml(file).map_err(failure)?,
            None => tiers_here::report(),
        };
        if output.is_json() {
            output.json(FORMAT, &report)?;
        } else {
            output.text(&render(&report))?;
        }
        Ok(Exit::Ok)
    }
}

/// A discovery error with its exit code.
pub(super) fn failure(error: Error) -> Failure {
    match &error {
        Error::Unreadable { path, cause } => Failure::from_io(format!("cannot read {}", path.display()), cause),
        Error::Unwritable { path, cause } => Failure::from_io(format!("cannot write {}", path.display()), cause),
        Error::Malformed { .. } => Failure::new(Exit::BadInput, error.to_string()),
        _ => Failure::new(Exit::Failed, error.to_string()),
    }
}

fn render(report: &Report) -> String {
    let mut text = format!("{}\n\n{}", headline(&report.machine), tiers(&report.tiers));
    text.push_str(&tier_notes(&report.tiers));
    text.push_str(&cxl(&report.cxl));
    if let Some(mechanisms) = &report.mechanisms {
        text.push_str(&section("TELEMETRY", &mechanisms.telemetry));
        text.push_str(&section("MIGRATION", &mechanisms.migration));
    }
    if !report.notes.is_empty() {
        text.push('\n');
        report.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    }
    text
}

fn headline(machine: &Machine) -> String {
    let mut parts = vec![machine.origin.clone()];
    parts.extend(machine.cpu_model.clone());
    parts.extend(machine.cpus.map(|cpus| format!("{cpus} CPUs")));
    parts.extend(machine.last_level_cache_bytes.map(|size| format!("last-level cache {}", Bytes(size))));
    parts.extend(machine.kernel.as_ref().map(|release| format!("Linux {release}")));
    parts.join(", ")
}

fn tiers(tiers: &[TierReport]) -> String {
    let mut table = Table::new(&[
        ("TIER", Align::Left),
        ("KIND", Align::Left),
        ("WHERE", Align::Left),
        ("WHAT", Align::Left),
        ("SIZE", Align::Right),
        ("FREE", Align::Right),
        ("LATENCY", Align::Right),
        ("READ", Align::Right),
        ("WRITE", Align::Right),
    ]);
    for tier in tiers {
        let a = &tier.attributes;
        table.row([
            tier.name.clone(),
            tier.kind.clone(),
            tier.location.clone(),
            tier.description.clone(),
            a.capacity_bytes.as_ref().map_or_else(String::new, |f| bytes(f.chosen.value)),
            tier.free_bytes.map_or_else(String::new, |free| Bytes(free).to_string()),
            figure(a.read_latency_ns.as_ref(), latency),
            figure(a.read_bandwidth.as_ref(), bandwidth),
            figure(a.write_bandwidth.as_ref(), bandwidth),
        ]);
    }
    table.render()
}

/// `110 ns assumed`, with a star where other sources differ.
fn figure(figures: Option<&Figures>, show: fn(f64) -> String) -> String {
    figures.map_or_else(String::new, |f| {
        let star = if f.others.is_empty() { "" } else { "*" };
        format!("{} {}{star}", show(f.chosen.value), f.chosen.source)
    })
}

/// What the other sources say, and why they were not chosen; then each tier's own notes.
fn tier_notes(tiers: &[TierReport]) -> String {
    let mut lines = Vec::new();
    for tier in tiers {
        let a = &tier.attributes;
        let all = [
            ("latency", &a.read_latency_ns, latency as fn(f64) -> String),
            ("write latency", &a.write_latency_ns, latency),
            ("read", &a.read_bandwidth, bandwidth),
            ("write", &a.write_bandwidth, bandwidth),
        ];
        for (what, figures, show) in all {
            let Some(figures) = figures.as_ref().filter(|f| !f.others.is_empty()) else { continue };
            let others: Vec<String> =
                figures.others.iter().map(|f| format!("{} {}", show(f.value), f.source)).collect();
            let why = figures.why.as_deref().unwrap_or_default();
            lines.push(format!("* {}: {what} also {}; {why}", tier.name, others.join(", ")));
        }
        if let Some(tier_of_kernel) = tier.node.as_ref().and_then(|node| node.memory_tier) {
            lines.push(format!("  {}: memory tier {tier_of_kernel} of the kernel", tier.name));
        }
        lines.extend(tier.notes.iter().map(|note| format!("  {}: {note}", tier.name)));
    }
    if lines.is_empty() { String::new() } else { format!("\n{}\n", lines.join("\n")) }
}

fn cxl(cxl: &CxlReport) -> String {
    if cxl.devices.is_empty() && cxl.regions.is_empty() {
        return String::new();
    }
    let size =
        |size: Option<u64>| size.filter(|&size| size > 0).map_or_else(String::new, |size| Bytes(size).to_string());
    let mut devices = Table::new(&[
        ("CXL DEVICE", Align::Left),
        ("SERIAL", Align::Left),
        ("RAM", Align::Right),
        ("PMEM", Align::Right),
        ("NODE", Align::Right),
        ("FIRMWARE", Align::Left),
    ]);
    for device in &cxl.devices {
        let node = device.numa_node.map_or_else(String::new, |node| node.to_string());
        let (serial, firmware) = (device.serial.clone(), device.firmware.clone());
        let (ram, pmem) = (size(device.ram_bytes), size(device.pmem_bytes));
        devices.row([device.name.clone(), serial.unwrap_or_default(), ram, pmem, node, firmware.unwrap_or_default()]);
    }
    let mut regions = Table::new(&[
        ("CXL REGION", Align::Left),
        ("MODE", Align::Left),
        ("SIZE", Align::Right),
        ("WAYS", Align::Right),
        ("TARGETS", Align::Left),
    ]);
    for region in &cxl.regions {
        let ways = region.interleave_ways.map_or_else(String::new, |ways| ways.to_string());
        let mode = region.mode.clone().unwrap_or_default();
        regions.row([region.name.clone(), mode, size(region.size_bytes), ways, region.targets.join(" ")]);
    }
    format!("\n{}\n{}", devices.render(), regions.render())
}

fn section(title: &str, mechanisms: &[Mechanism]) -> String {
    let mut table = Table::new(&[(title, Align::Left), ("STATE", Align::Left), ("ABOUT", Align::Left)]);
    for mechanism in mechanisms {
        let why = mechanism.reason.as_deref().unwrap_or(&mechanism.gives);
        table.row([mechanism.name.as_str(), mechanism.verdict.as_str(), why]);
        if let Some(remedy) = &mechanism.remedy {
            table.row([" ", " ", &format!("-> {remedy}")]);
        }
    }
    format!("\n{}", table.render())
}

fn bytes(value: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes are positive and below 2^53")]
    Bytes(value as u64).to_string()
}

/// `110 ns`, `97 us`.
pub(super) fn latency(ns: f64) -> String {
    if ns < 10_000.0 { format!("{ns:.0} ns") } else { format!("{:.0} us", ns / 1e3) }
}

/// `16.4 GB/s`.
pub(super) fn bandwidth(bytes_per_second: f64) -> String {
    format!("{:.1} GB/s", bytes_per_second / 1e9)
}
