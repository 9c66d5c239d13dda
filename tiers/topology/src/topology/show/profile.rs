//! Profiles that a file itself brings along.

use std::fmt;

use super::{Key, Quoted};
use crate::{Figure, Point, Profile, ProfileFigures, Status};

/// A profile as the table `[profile.NAME]`.
pub(super) struct Shown<'a>(pub(super) &'a Profile);

/// How the value of a figure is written.
type Write<T> = fn(&T) -> String;

fn figure<T>(f: &mut fmt::Formatter<'_>, key: &str, figure: &Figure<T>, write: Write<T>) -> fmt::Result {
    let status = match figure.status {
        Status::Measured => "measured",
        Status::Simulated => "simulated",
        Status::Vendor => "vendor",
        Status::Assumed => "assumed",
    };
    let value = match &figure.relative {
        Some(relative) => {
            let plus = if relative.plus == 0.0 { String::new() } else { format!(", plus = {}", relative.plus) };
            format!("of = {}, ratio = {:?}{plus}", Quoted(&relative.of), relative.ratio)
        }
        None => format!("value = {}", write(&figure.value)),
    };
    writeln!(f, "{key} = {{ {value}, status = \"{status}\", source = {} }}", Quoted(&figure.source))
}

fn number(value: &f64) -> String {
    format!("{value:?}")
}

fn count(value: &u32) -> String {
    value.to_string()
}

/// Whole bytes: that is how they are read.
fn bandwidth(value: &f64) -> String {
    format!("\"{value:.0} B/s\"")
}

#[expect(clippy::ptr_arg, reason = "the type of a figure's value")]
fn curve(points: &Vec<Point>) -> String {
    let points = points.iter().map(|point| format!("[{:?}, {:?}]", point.utilisation, point.latency_factor));
    format!("[{}]", points.collect::<Vec<_>>().join(", "))
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Profile { name, description, figures } = self.0;
        writeln!(f, "\n[profile.{}]\nkind = \"{}\"\ndescription = {}", Key(name), self.0.kind(), Quoted(description))?;
        match figures {
            ProfileFigures::Memory(memory) => {
                figure(f, "read_latency_ns", &memory.read_latency_ns, number)?;
                figure(f, "write_latency_ns", &memory.write_latency_ns, number)?;
                figure(f, "read_bandwidth", &memory.read_bandwidth, bandwidth)?;
                figure(f, "write_bandwidth", &memory.write_bandwidth, bandwidth)?;
                if let Some(total) = &memory.total_bandwidth {
                    figure(f, "total_bandwidth", total, bandwidth)?;
                }
                figure(f, "loaded", &memory.loaded, curve)
            }
            ProfileFigures::Link(link) => {
                figure(f, "latency_ns", &link.latency_ns, number)?;
                figure(f, "down_bandwidth", &link.down_bandwidth, bandwidth)?;
                figure(f, "up_bandwidth", &link.up_bandwidth, bandwidth)
            }
            ProfileFigures::Nvme(nvme) => {
                figure(f, "read_latency_ns", &nvme.read_latency_ns, number)?;
                figure(f, "write_latency_ns", &nvme.write_latency_ns, number)?;
                figure(f, "read_bandwidth", &nvme.read_bandwidth, bandwidth)?;
                figure(f, "write_bandwidth", &nvme.write_bandwidth, bandwidth)?;
                figure(f, "read_iops", &nvme.read_iops, number)?;
                figure(f, "write_iops", &nvme.write_iops, number)?;
                figure(f, "queue_depth", &nvme.queue_depth, count)
            }
            ProfileFigures::Gpu(gpu) => {
                figure(f, "copy_latency_ns", &gpu.copy_latency_ns, number)?;
                figure(f, "to_device_bandwidth", &gpu.to_device_bandwidth, bandwidth)?;
                figure(f, "from_device_bandwidth", &gpu.from_device_bandwidth, bandwidth)?;
                figure(f, "copy_engines", &gpu.copy_engines, count)?;
                figure(f, "memory_bandwidth", &gpu.memory_bandwidth, bandwidth)
            }
        }
    }
}
