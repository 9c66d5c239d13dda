//! Accelerators, as the CUDA and OpenCL runtimes offer them.

use std::collections::BTreeSet;

use tiermem_tiers::provider::device::{DeviceClass, DeviceFound, runtimes};
use tiermem_tiers::{Source, TierKind};

use crate::report::{Figure, Figures, TierReport, tier_spec};

/// What was found, and what was looked for in vain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Devices {
    /// One entry a device.
    pub tiers: Vec<TierReport>,
    /// Why there is nothing, or less than there might be.
    pub notes: Vec<String>,
}

/// Devices of both runtimes. A GPU that both offer is listed once, under CUDA. Emulated devices and test doubles of a
/// driver are never listed.
pub fn find() -> Devices {
    let mut devices = Devices::default();
    let mut found = Vec::new();
    for status in runtimes() {
        let name = status.runtime.as_str();
        devices.notes.extend(status.absent.map(|why| format!("{name}: {why}")));
        devices.notes.extend(status.problems.into_iter().map(|problem| format!("{name}: {problem}")));
        found.extend(status.devices);
    }
    devices.tiers = list(&found);
    devices
}

fn list(found: &[DeviceFound]) -> Vec<TierReport> {
    let mut addresses = BTreeSet::new();
    let real = found.iter().filter(|device| !device.double);
    // `insert` is false for an address that was there already: the same device under the other runtime.
    let once = real.filter(|device| device.pci.as_ref().is_none_or(|address| addresses.insert(address.clone())));
    once.enumerate().map(|(number, device)| describe(number, device)).collect()
}

fn describe(number: usize, device: &DeviceFound) -> TierReport {
    let location = device.location.to_string();
    let name = format!("{}{number}", device.class.as_str());
    let name = if device.class == DeviceClass::Cpu { format!("opencl-{name}") } else { name };
    let mut tier = TierReport::new(TierKind::Device, name, location, &device.name);
    tier.spec = tier_spec(TierKind::Device, &tier.name, &tier.location, None);
    #[expect(clippy::cast_precision_loss, reason = "no device has 2^53 bytes")]
    let size = Figure::new(device.memory.0 as f64, Source::Kernel, device.driver.clone());
    Figures::add(&mut tier.attributes.capacity_bytes, size);
    tier.notes.push(format!("copies only; driver {}", device.driver));
    if device.class == DeviceClass::Cpu {
        tier.notes.push("an OpenCL runtime on the CPU: its device memory is host DRAM".to_owned());
    }
    tier.notes.extend(device.pci.as_ref().map(|address| format!("PCI {address}")));
    tier
}

#[cfg(test)]
mod tests {
    use tiermem_tiers::Bytes;
    use tiermem_tiers::provider::device::Location;

    use super::*;

    fn device(location: Location, pci: Option<&str>, double: bool) -> DeviceFound {
        DeviceFound {
            location,
            class: DeviceClass::Gpu,
            name: "Example".to_owned(),
            memory: Bytes::gib(8),
            driver: "driver 1".to_owned(),
            pci: pci.map(str::to_owned),
            double,
        }
    }

    #[test]
    fn a_device_is_listed_once_and_a_double_never() {
        let cuda = Location::Cuda { device: 0 };
        let opencl = |device| Location::OpenCl { platform: 0, device };
        let found = [
            device(cuda, Some("0000:65:00.0"), false),
            device(Location::Cuda { device: 1 }, None, true),
            device(opencl(0), Some("0000:65:00.0"), false),
            device(opencl(1), None, false),
        ];
        let listed = list(&found);
        let places: Vec<&str> = listed.iter().map(|tier| tier.location.as_str()).collect();
        assert_eq!(places, ["cuda:0", "opencl:0:1"]);
        assert_eq!(listed[0].spec.as_deref(), Some("gpu0=device:cuda:0"));
    }
}
