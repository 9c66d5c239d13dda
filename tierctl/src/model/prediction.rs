//! `tierctl model predict`: known algorithms on each tier of a machine.

use serde::Serialize;
use tiermem_emulator::cache::CacheConfig;
use tiermem_emulator::model::TierIndex;
use tiermem_emulator::time::Mode;
use tiermem_emulator::workload::Core;
use tiermem_emulator::workload::kernel::Setting;
use tiermem_emulator::workload::predict::{Prediction, Sizes, predict};
use tiermem_topology::{DeviceKind, Topology};

use crate::exit::{Exit, Failure};
use crate::output::{Align, Table};

/// The name and version of the JSON form.
pub const FORMAT: &str = "tiermem-prediction/1";

/// The JSON.
#[derive(Debug, Serialize)]
pub struct Document {
    /// How time was told.
    mode: &'static str,
    topology: String,
    host: String,
    /// The caches, in the form of `--cache`.
    caches: String,
    /// Lines that a core has on their way at most.
    lines_in_flight: usize,
    /// One row a kernel and tier; the first tier is what slowdowns relate to.
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    kernel: &'static str,
    tier: String,
    ns_each: f64,
    misses_each: f64,
    slowdown: f64,
    closed_form_ns: Option<f64>,
    closed_form_error: Option<f64>,
}

/// What runs the kernels.
#[derive(Clone, Debug)]
pub struct Computer {
    /// Its caches.
    pub caches: CacheConfig,
    /// Its cores.
    pub core: Core,
}

/// Runs every kernel on every tier of memory that the host reaches.
///
/// # Errors
/// The topology cannot be modelled, there is no such host, or it reaches no memory.
pub fn document(
    topology: &Topology,
    host: Option<&str>,
    computer: &Computer,
    sizes: Sizes,
) -> Result<Document, Failure> {
    let (system, number) = super::system(topology, host)?;
    let memories = (0_u16..)
        .map(TierIndex)
        .zip(system.tiers())
        .filter(|(tier, info)| matches!(info.kind, None | Some(DeviceKind::Cxl)) && system.reaches(number, *tier));
    let mut rows: Vec<Row> = Vec::new();
    let mut first: Option<Vec<Prediction>> = None;
    for (tier, info) in memories {
        let Computer { caches, core } = computer.clone();
        let setting = Setting { host: number, tier, caches, core };
        let predictions = predict(topology, &setting, sizes)
            .ok_or_else(|| Failure::new(Exit::BadInput, format!("{} cannot be modelled", info.name)))?;
        let near = first.get_or_insert_with(|| predictions.clone());
        rows.extend(predictions.iter().zip(&*near).map(|(far, near)| Row::new(&info.name, far, near)));
    }
    if rows.is_empty() {
        return Err(Failure::new(Exit::Unsupported, "this host reaches no memory that its CPUs address"));
    }
    // A kernel's rows together: that is what one compares.
    let kernels: Vec<&str> = first.iter().flatten().map(|prediction| prediction.kernel).collect();
    rows.sort_by_key(|row| kernels.iter().position(|kernel| *kernel == row.kernel));
    Ok(Document {
        mode: Mode::Virtual.as_str(),
        topology: topology.name.clone(),
        host: system.hosts()[usize::from(number.0)].clone(),
        caches: computer.caches.to_string(),
        lines_in_flight: computer.core.lines_in_flight,
        rows,
    })
}

impl Row {
    fn new(tier: &str, far: &Prediction, near: &Prediction) -> Self {
        Self {
            kernel: far.kernel,
            tier: tier.to_owned(),
            ns_each: far.outcome.ns_each(),
            misses_each: far.outcome.misses_each(),
            slowdown: far.outcome.elapsed.over(near.outcome.elapsed).unwrap_or(1.0),
            closed_form_ns: far.closed_form_ns,
            closed_form_error: far.closed_form_ns.map(|form| far.outcome.ns_each() / form - 1.0),
        }
    }
}

impl Document {
    /// For people.
    pub fn text(&self) -> String {
        let mut table = Table::new(&[
            ("KERNEL", Align::Left),
            ("TIER", Align::Left),
            ("NS EACH", Align::Right),
            ("MISSES", Align::Right),
            ("SLOWDOWN", Align::Right),
            ("CLOSED FORM", Align::Right),
            ("ERROR", Align::Right),
        ]);
        let mut last = "";
        for row in &self.rows {
            table.row([
                if row.kernel == last { String::from(" ") } else { row.kernel.to_owned() },
                row.tier.clone(),
                format!("{:.2}", row.ns_each),
                format!("{:.2}", row.misses_each),
                format!("{:.2}", row.slowdown),
                row.closed_form_ns.map_or_else(String::new, |form| format!("{form:.2}")),
                row.closed_form_error.map_or_else(String::new, |error| format!("{:+.2} %", error * 100.0)),
            ]);
            last = row.kernel;
        }
        format!(
            "{}\n{} time, host {} of {}, caches {}, {} lines in flight a core\n",
            table.render(),
            self.mode,
            self.host,
            self.topology,
            self.caches,
            self.lines_in_flight
        )
    }
}
