//! Profiles as text.

use std::fmt;

use tiermem_complaint::units::parse_bandwidth;

use super::{Baseline, Figure, Profile, ProfileFigures, Status};
use crate::quoted::Quoted;

impl Status {
    /// The word that profiles use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Simulated => "simulated",
            Self::Vendor => "vendor",
            Self::Assumed => "assumed",
        }
    }
}

/// A figure as tables for people show it.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownFigure {
    /// Its key in the file.
    pub key: &'static str,
    /// Its value as TOML.
    pub value: String,
    /// What it is worth.
    pub status: Status,
    /// Where it comes from.
    pub source: String,
    /// The keys that give the value instead of `value`, where it is given relative to another profile's.
    pub(crate) relative: Option<String>,
}

impl Profile {
    /// Every figure, in the order of the file.
    pub fn shown(&self) -> Vec<ShownFigure> {
        let ns = |key, figure: &Figure<f64>| shown(key, figure, figure.value.to_string(), |plus| plus.to_string());
        let rate = |key, figure: &Figure<f64>| shown(key, figure, bandwidth(figure.value), bandwidth);
        let count = |key, figure: &Figure<u32>| shown(key, figure, figure.value.to_string(), |plus| plus.to_string());
        match &self.figures {
            ProfileFigures::Memory(memory) => {
                let mut figures = vec![
                    ns("read_latency_ns", &memory.read_latency_ns),
                    ns("write_latency_ns", &memory.write_latency_ns),
                    rate("read_bandwidth", &memory.read_bandwidth),
                    rate("write_bandwidth", &memory.write_bandwidth),
                ];
                figures.extend(memory.mixed_bandwidth.as_ref().map(|mixes| {
                    let pairs =
                        mixes.value.iter().map(|m| format!("[{}, {}]", m.read_share, bandwidth(m.total_bandwidth)));
                    shown("mixed_bandwidth", mixes, list(pairs), |plus| plus.to_string())
                }));
                let points = memory.loaded.value.iter().map(|p| format!("[{}, {}]", p.utilisation, p.latency_factor));
                figures.push(shown("loaded", &memory.loaded, list(points), |plus| plus.to_string()));
                figures
            }
            ProfileFigures::Link(link) => vec![
                ns("latency_ns", &link.latency_ns),
                rate("down_bandwidth", &link.down_bandwidth),
                rate("up_bandwidth", &link.up_bandwidth),
            ],
            ProfileFigures::Nvme(nvme) => vec![
                ns("read_latency_ns", &nvme.read_latency_ns),
                ns("write_latency_ns", &nvme.write_latency_ns),
                rate("read_bandwidth", &nvme.read_bandwidth),
                rate("write_bandwidth", &nvme.write_bandwidth),
                ns("read_iops", &nvme.read_iops),
                ns("write_iops", &nvme.write_iops),
                count("queue_depth", &nvme.queue_depth),
            ],
            ProfileFigures::Gpu(gpu) => vec![
                ns("copy_latency_ns", &gpu.copy_latency_ns),
                rate("to_device_bandwidth", &gpu.to_device_bandwidth),
                rate("from_device_bandwidth", &gpu.from_device_bandwidth),
                count("copy_engines", &gpu.copy_engines),
                rate("memory_bandwidth", &gpu.memory_bandwidth),
            ],
        }
    }
}

fn shown<T>(key: &'static str, figure: &Figure<T>, value: String, unit: fn(f64) -> String) -> ShownFigure {
    let relative = figure.relative.as_ref().map(|relative| {
        let plus = if relative.plus == 0.0 { String::new() } else { format!(", plus = {}", unit(relative.plus)) };
        format!("of = {}, ratio = {}{plus}", Quoted(&relative.of), relative.ratio)
    });
    ShownFigure { key, value, status: figure.status, source: figure.source.clone(), relative }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// `value` bytes per second as a string that is read as the same number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bandwidths are positive and saturate")]
fn bandwidth(value: f64) -> String {
    let short = format!("{} GB/s", value / 1e9);
    let text =
        if parse_bandwidth(&short) == Ok(value as u64) { short } else { format!("{} B/s", value.round() as u64) };
    Quoted(&text).to_string()
}

/// As a line of a profile.
impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (latency, rate) = (self.read_latency_ns, bandwidth(self.read_bandwidth));
        write!(f, "baseline = {{ read_latency_ns = {latency}, read_bandwidth = {rate} }}")
    }
}

/// The profile as a file; parsing it gives the same profile.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version = 1\nname = {}", Quoted(&self.name))?;
        writeln!(f, "description = {}\nkind = {}", Quoted(&self.description), Quoted(self.kind()))?;
        if let Some(baseline) = self.baseline {
            writeln!(f, "{baseline}")?;
        }
        for figure in self.shown() {
            let value = figure.relative.unwrap_or_else(|| format!("value = {}", figure.value));
            let (status, source) = (figure.status.as_str(), Quoted(&figure.source));
            write!(
                f,
                "\n[{}]\n{}\nstatus = \"{status}\"\nsource = {source}\n",
                figure.key,
                value.replace(", ratio", "\nratio").replace(", plus", "\nplus")
            )?;
        }
        Ok(())
    }
}
