//! From what `tierctl probe` measured to a profile.

use tiermem_discovery::measure::{Measurement, Spread};
use tiermem_tiers::TierKind;
use tiermem_topology::{
    Baseline, Figure, GpuFigures, MemoryFigures, NvmeFigures, Point, Profile, ProfileFigures, Status,
};

/// The profile of a measured tier. `dram` is the same host's DRAM, if that was measured too: the profile remembers it, so
/// that it can move to other hosts. `None` where figures are missing.
pub fn profile(name: &str, measured: &Measurement, dram: Option<&Measurement>) -> Option<Profile> {
    let figures = match measured.small {
        Some(_) if measured.kind == TierKind::Device.as_str() => ProfileFigures::Gpu(gpu(measured)?),
        Some(_) => ProfileFigures::Nvme(drive(measured)?),
        None => ProfileFigures::Memory(memory(measured)?),
    };
    let baseline = dram.and_then(|dram| {
        let (latency, bandwidth) = (dram.read_latency_ns?, dram.read_bandwidth?);
        Some(Baseline { read_latency_ns: latency.median, read_bandwidth: bandwidth.median })
    });
    let description = format!("{}, measured by tierctl probe", measured.identity());
    Some(Profile { name: name.to_owned(), description, figures, baseline })
}

fn figure<T>(value: T, status: Status, source: String) -> Figure<T> {
    Figure { value, status, source, relative: None }
}

/// A measured figure with its spread.
fn taken(spread: Spread, measured: &Measurement) -> Figure<f64> {
    let off = spread.relative() * 100.0;
    let source = format!(
        "tierctl probe, Unix time {}, median of {} runs with {} threads, deviation {off:.1} %",
        measured.measured_at, spread.samples, measured.threads
    );
    figure(spread.median, Status::Measured, source)
}

fn memory(measured: &Measurement) -> Option<MemoryFigures> {
    let read_latency_ns = taken(measured.read_latency_ns?, measured);
    let why = "taken as equal to a read: the probe does not measure how long a store takes to be accepted";
    let write_latency_ns = figure(read_latency_ns.value, Status::Assumed, why.to_owned());
    let read_bandwidth = taken(measured.read_bandwidth?, measured);
    let write_bandwidth = taken(measured.write_bandwidth?, measured);
    let loaded = curve(measured, read_latency_ns.value, read_bandwidth.value);
    let mixed_bandwidth = None;
    Some(MemoryFigures { read_latency_ns, write_latency_ns, read_bandwidth, write_bandwidth, mixed_bandwidth, loaded })
}

/// Points of a curve are so far apart at least: closer ones would make a cliff out of the noise between two runs.
const STEP: f64 = 0.02;

/// The loaded-latency curve, made to rise: where noise lets latency fall as the load grows, it stays instead.
fn curve(measured: &Measurement, idle_ns: f64, most: f64) -> Figure<Vec<Point>> {
    let mut points: Vec<(f64, f64)> = measured
        .loaded
        .iter()
        .filter(|point| point.pause.is_some() && point.latency_ns.median > 0.0)
        .map(|point| {
            // The chase itself loads the memory a little, too.
            let bandwidth = point.bandwidth.median + 64e9 / point.latency_ns.median;
            (bandwidth / most, point.latency_ns.median / idle_ns)
        })
        .collect();
    if points.is_empty() {
        let flat = [(0.0, 1.0), (1.0, 1.0)].map(|(x, y)| Point { utilisation: x, latency_factor: y });
        let why = "not measured: it takes a second CPU to load memory while latency is measured. No load is modelled";
        return figure(flat.to_vec(), Status::Assumed, why.to_owned());
    }
    // Four decimals, as many as a file for people bears.
    let round = |value: f64| (value * 1e4).round() / 1e4;
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    // The idle latency was measured under the load that the chase itself makes.
    let own = round(64e9 / idle_ns / most).min(0.99);
    let mut curve = [0.0, own].map(|utilisation| Point { utilisation, latency_factor: 1.0 }).to_vec();
    for (utilisation, factor) in points {
        let last = curve[curve.len() - 1];
        let latency_factor = round(factor.max(last.latency_factor));
        let utilisation = round(utilisation).min(1.0);
        if utilisation >= last.utilisation + STEP || (utilisation == 1.0 && last.utilisation < 1.0) {
            curve.push(Point { utilisation, latency_factor });
        } else if let Some(last) = curve.last_mut().filter(|last| last.utilisation > own) {
            last.latency_factor = latency_factor;
        }
    }
    let last = curve[curve.len() - 1];
    let mut source = format!("tierctl probe, Unix time {}, {} threads", measured.measured_at, measured.threads);
    if last.utilisation < 1.0 {
        curve.push(Point { utilisation: 1.0, ..last });
        let reached = last.utilisation * 100.0;
        source.push_str(&format!(
            "; the load threads reached {reached:.0} % of the bandwidth, from there on it is level"
        ));
    }
    figure(curve, Status::Measured, source)
}

fn drive(measured: &Measurement) -> Option<NvmeFigures> {
    let (read_latency_ns, write_latency_ns) = (measured.read_latency_ns?, measured.write_latency_ns?);
    let rate = |latency: Spread| {
        let why = "one copy after the other, as the latency says: the probe does not fill queues".to_owned();
        figure((1e9 / latency.median).floor(), Status::Measured, why)
    };
    Some(NvmeFigures {
        read_latency_ns: taken(read_latency_ns, measured),
        write_latency_ns: taken(write_latency_ns, measured),
        read_bandwidth: taken(measured.read_bandwidth?, measured),
        write_bandwidth: taken(measured.write_bandwidth?, measured),
        read_iops: rate(read_latency_ns),
        write_iops: rate(write_latency_ns),
        queue_depth: figure(
            u32::try_from(measured.threads.max(1)).unwrap_or(1),
            Status::Assumed,
            "as many as the probe had threads; more was not tried".to_owned(),
        ),
    })
}

fn gpu(measured: &Measurement) -> Option<GpuFigures> {
    let (read, write) = (taken(measured.read_latency_ns?, measured), taken(measured.write_latency_ns?, measured));
    let (to, from) = (taken(measured.write_bandwidth?, measured), taken(measured.read_bandwidth?, measured));
    let middle =
        format!("{}; the middle of copies of 4 KiB to ({:.0} ns) and from the device", write.source, write.value);
    let engines = "one for each direction: the probe does not ask the device".to_owned();
    let memory = "as fast as copies over the link: the probe does not measure the device's own accesses".to_owned();
    Some(GpuFigures {
        copy_latency_ns: figure(read.value.midpoint(write.value), Status::Measured, middle),
        copy_engines: figure(2, Status::Assumed, engines),
        memory_bandwidth: figure(to.value.max(from.value), Status::Assumed, memory),
        to_device_bandwidth: to,
        from_device_bandwidth: from,
    })
}

#[cfg(test)]
mod tests {
    use tiermem_discovery::measure::{LoadPoint, SmallCopies};

    use super::*;

    fn spread(value: f64) -> Option<Spread> {
        Some(Spread::of(&[value]))
    }

    fn measured(points: &[(u32, f64, f64)]) -> Measurement {
        let point = |&(pause, gbs, ns): &(u32, f64, f64)| LoadPoint {
            pause: Some(pause),
            bandwidth: Spread::of(&[gbs * 1e9]),
            latency_ns: Spread::of(&[ns]),
        };
        Measurement {
            kind: "cxl-node".to_owned(),
            location: "2".to_owned(),
            threads: 8,
            read_latency_ns: spread(250.0),
            read_bandwidth: spread(20e9),
            write_bandwidth: spread(15e9),
            loaded: points.iter().map(point).collect(),
            ..Measurement::default()
        }
    }

    #[test]
    fn a_measured_tier_becomes_a_profile_that_can_be_read_back() {
        // The third point is noise: less latency at more load.
        let tier = measured(&[(100, 5.0, 260.0), (20, 10.0, 300.0), (10, 12.0, 290.0), (0, 19.7, 800.0)]);
        let dram = Measurement { read_latency_ns: spread(100.0), read_bandwidth: spread(80e9), ..measured(&[]) };
        let profile = profile("cxl2", &tier, Some(&dram)).unwrap();
        assert_eq!(profile.baseline, Some(Baseline { read_latency_ns: 100.0, read_bandwidth: 80e9 }));
        let ProfileFigures::Memory(memory) = &profile.figures else { panic!("{profile:?}") };
        assert_eq!((memory.read_latency_ns.value, memory.read_latency_ns.status), (250.0, Status::Measured));
        let factors: Vec<f64> = memory.loaded.value.iter().map(|point| point.latency_factor).collect();
        assert_eq!(factors, [1.0, 1.0, 1.04, 1.2, 1.2, 3.2, 3.2]);
        let text = profile.to_string();
        assert_eq!(Profile::parse(&text, "cxl2.toml").unwrap(), profile, "{text}");
    }

    #[test]
    fn a_drive_and_a_single_cpu_say_what_they_do_not_know() {
        let small = SmallCopies { read_bandwidth: Spread::of(&[1e9]), write_bandwidth: Spread::of(&[1e9]) };
        let tier = Measurement { small: Some(small), write_latency_ns: spread(30_000.0), ..measured(&[]) };
        let profile = profile("drive", &tier, None).unwrap();
        assert_eq!(Profile::parse(&profile.to_string(), "drive.toml").unwrap(), profile);
        let tier = Measurement { kind: "device".to_owned(), location: "cuda:0".to_owned(), ..tier };
        let profile = self::profile("gpu0", &tier, None).unwrap();
        let ProfileFigures::Gpu(gpu) = &profile.figures else { panic!("{profile:?}") };
        assert_eq!(gpu.copy_latency_ns.value, (250.0 + 30_000.0) / 2.0);
        assert_eq!((gpu.to_device_bandwidth.value, gpu.from_device_bandwidth.value), (15e9, 20e9));
        assert_eq!(Profile::parse(&profile.to_string(), "gpu0.toml").unwrap(), profile);
        let one_cpu = self::profile("dram0", &measured(&[]), None).unwrap();
        let ProfileFigures::Memory(memory) = &one_cpu.figures else { panic!("{one_cpu:?}") };
        assert_eq!(memory.loaded.status, Status::Assumed);
        assert!(self::profile("none", &Measurement::default(), None).is_none());
    }
}
