//! What no profile can mean.

use super::{Point, ProfileFigures};

/// Figures of different origin may contradict each other by this much.
const SLACK: f64 = 1.01;

/// What is wrong with a point of a curve after the one before it.
pub(super) fn point(before: Option<&Point>, point: Point) -> Option<String> {
    let Point { utilisation, latency_factor } = point;
    match before {
        None if utilisation != 0.0 || latency_factor != 1.0 => {
            Some("a curve begins with [0, 1]: the idle latency without load".to_owned())
        }
        Some(before) if utilisation.is_nan() || utilisation <= before.utilisation => {
            Some("the utilisation must rise from point to point".to_owned())
        }
        _ if utilisation > 1.0 => Some("a utilisation is a share of the bandwidth, 0 to 1".to_owned()),
        Some(before) if !latency_factor.is_finite() || latency_factor < before.latency_factor => {
            Some("the latency must not fall as the load rises".to_owned())
        }
        _ => None,
    }
}

/// Figures that contradict each other, by the key to blame.
pub(super) fn contradictions(figures: &ProfileFigures) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    match figures {
        ProfileFigures::Memory(memory) => {
            for mix in memory.mixed_bandwidth.iter().flat_map(|mixes| &mixes.value) {
                let reads = mix.total_bandwidth * mix.read_share;
                let (read, write) = (memory.read_bandwidth.value, memory.write_bandwidth.value);
                if reads > read * SLACK || mix.total_bandwidth - reads > write * SLACK {
                    let message = format!(
                        "a mix with {} reads has more of them, or of writes, than each gets alone",
                        mix.read_share
                    );
                    found.push(("mixed_bandwidth", message));
                }
            }
        }
        ProfileFigures::Nvme(nvme) => {
            let depth = f64::from(nvme.queue_depth.value);
            for (what, iops, latency) in [
                ("read", nvme.read_iops.value, nvme.read_latency_ns.value),
                ("write", nvme.write_iops.value, nvme.write_latency_ns.value),
            ] {
                let needed = (iops * latency / 1e9).ceil();
                if depth < needed {
                    let message = format!(
                        "{depth} commands in flight at {latency} ns each do not make {iops} {what}s a second: \
                         {needed} would"
                    );
                    found.push(("queue_depth", message));
                }
            }
        }
        _ => {}
    }
    found
}
