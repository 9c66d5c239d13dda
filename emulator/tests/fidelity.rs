//! A probe in virtual time gives every shipped profile back, within one per cent; and a model that is off by two is
//! caught.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use tiermem_emulator::model::{HostIndex, System, TierIndex};
use tiermem_emulator::workload::probe::{Check, around, expected, fidelity};
use tiermem_topology::{BUILTIN_NAMES, MemoryFigures, Profile, ProfileFigures, Topology};

/// What is promised.
const ERROR_MAX: f64 = 0.01;

/// A host with one device of that profile.
fn with(profile: Profile) -> Topology {
    around(profile).unwrap()
}

fn worst(checks: &[Check]) -> f64 {
    checks.iter().map(|check| check.error().abs()).fold(0.0, f64::max)
}

#[test]
fn every_shipped_profile_comes_back() {
    let mut checked = 0;
    for &name in BUILTIN_NAMES {
        let profile = Profile::builtin(name).unwrap();
        if profile.kind() == "link" {
            continue;
        }
        let idle = match &profile.figures {
            ProfileFigures::Memory(figures) => Some(figures.read_latency_ns.value),
            _ => None,
        };
        let checks = fidelity(&with(profile), HostIndex(0), TierIndex(0)).unwrap();
        // By the plain figure, too, without the little that a chase loads the memory with.
        assert!(idle.is_none_or(|idle| (checks[0].found / idle - 1.0).abs() <= ERROR_MAX), "{name}");
        for check in &checks {
            println!(
                "{name}: {}: {} expected, {} found, {:+.2} %",
                check.figure,
                check.expected,
                check.found,
                check.error() * 100.0
            );
        }
        assert!(checks.len() >= 4, "{name}");
        assert!(worst(&checks) <= ERROR_MAX, "{name}: {:.2} %", worst(&checks) * 100.0);
        checked += 1;
    }
    assert_eq!(checked, 13);
}

#[test]
fn every_tier_of_every_shipped_topology_is_as_its_profiles_and_ways_say() {
    for (name, _) in tiermem_topology::SHIPPED {
        let topology = Topology::load(name).unwrap();
        let system = System::new(&topology).unwrap();
        for (index, tier) in system.tiers().iter().enumerate() {
            let (host, number) = (HostIndex(0), TierIndex(u16::try_from(index).unwrap()));
            // The profiles themselves are checked above; here it is the ways that count.
            let directly = system.way(host, number).is_none_or(|way| way.latency.0 == 0 && tier.devices.len() == 1);
            if directly {
                continue;
            }
            let checks = fidelity(&topology, host, number).unwrap();
            assert!(worst(&checks) <= ERROR_MAX, "{name}, {}: {checks:#?}", tier.name);
        }
    }
}

/// The figures of `cxl-asic`, changed.
fn wrong(change: impl FnOnce(&mut MemoryFigures)) -> Topology {
    let mut profile = Profile::builtin("cxl-asic").unwrap();
    if let ProfileFigures::Memory(figures) = &mut profile.figures {
        change(figures);
    }
    with(profile)
}

#[test]
fn a_model_that_is_off_by_two_per_cent_is_caught() {
    let right = with(Profile::builtin("cxl-asic").unwrap());
    let (host, tier) = (HostIndex(0), TierIndex(0));
    let reference = System::new(&right).unwrap();
    let expected = expected(&right, &reference, host, tier).unwrap();
    let found = |topology: &Topology| worst(&expected.compare(&System::new(topology).unwrap(), host, tier));
    assert!(found(&right) <= ERROR_MAX);
    let wrongs = [
        ("read latency", wrong(|figures| figures.read_latency_ns.value *= 1.02)),
        ("write latency", wrong(|figures| figures.write_latency_ns.value *= 0.98)),
        ("read bandwidth", wrong(|figures| figures.read_bandwidth.value *= 0.98)),
        ("write bandwidth", wrong(|figures| figures.write_bandwidth.value *= 1.02)),
        ("mix", wrong(|figures| figures.mixed_bandwidth.as_mut().unwrap().value[0].total_bandwidth *= 0.98)),
        (
            "curve",
            wrong(|figures| figures.loaded.value.iter_mut().skip(1).for_each(|point| point.latency_factor *= 1.02)),
        ),
        ("one point", wrong(|figures| figures.loaded.value[9].latency_factor *= 1.02)),
    ];
    for (what, topology) in &wrongs {
        assert!(found(topology) > ERROR_MAX, "{what}: nobody noticed");
    }
}
