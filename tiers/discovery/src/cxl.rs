//! CXL memory devices, regions and decoders, as `/sys/bus/cxl` shows them.
//!
//! Kernel document: `ABI/testing/sysfs-bus-cxl`.

use std::fs;
use std::path::Path;

use crate::Roots;
use crate::report::{CxlDecoder, CxlDevice, CxlRegion, CxlReport};
use crate::roots::{entries, node_number, number, numbered, text};

/// Everything on the bus; all empty where there is none.
pub fn find(roots: &Roots) -> CxlReport {
    let folder = roots.sys.join("bus/cxl/devices");
    let mut report = CxlReport::default();
    for name in entries(&folder) {
        let home = folder.join(&name);
        if numbered::<u32>(&name, "mem").is_some() {
            report.devices.push(device(&home, name));
        } else if numbered::<u32>(&name, "region").is_some() {
            report.regions.push(region(&home, name));
        } else if name.starts_with("decoder") {
            report.decoders.push(decoder(&home, name));
        }
    }
    report
}

fn device(home: &Path, name: String) -> CxlDevice {
    // …/0000:0d:00.0/mem0: the parent is the PCI function.
    let real = fs::canonicalize(home).ok();
    let parent = real.as_deref().and_then(Path::parent).and_then(Path::file_name).and_then(|p| p.to_str());
    CxlDevice {
        name,
        serial: text(home.join("serial")),
        ram_bytes: number(home.join("ram/size")),
        pmem_bytes: number(home.join("pmem/size")),
        numa_node: node_number(home.join("numa_node")),
        firmware: text(home.join("firmware_version")),
        ram_qos_class: number(home.join("ram/qos_class")),
        pmem_qos_class: number(home.join("pmem/qos_class")),
        pci_address: parent.filter(|p| p.matches(':').count() == 2).map(str::to_owned),
    }
}

fn region(home: &Path, name: String) -> CxlRegion {
    let ways = number(home.join("interleave_ways"));
    let targets = (0..ways.unwrap_or(0).min(64)).filter_map(|i| text(home.join(format!("target{i}"))));
    CxlRegion {
        targets: targets.collect(),
        name,
        resource: number(home.join("resource")),
        size_bytes: number(home.join("size")),
        mode: text(home.join("mode")),
        interleave_ways: ways,
        interleave_granularity_bytes: number(home.join("interleave_granularity")),
        committed: number(home.join("commit")).map(|commit| commit == 1),
    }
}

fn decoder(home: &Path, name: String) -> CxlDecoder {
    let role = text(home.join("devtype")).map(|devtype| devtype.replace("cxl_decoder_", ""));
    let mut modes: Vec<String> = text(home.join("mode")).into_iter().filter(|mode| mode != "none").collect();
    for (file, mode) in [("cap_ram", "ram"), ("cap_pmem", "pmem")] {
        if number(home.join(file)) == Some(1) {
            modes.push(mode.to_owned());
        }
    }
    CxlDecoder {
        name,
        role,
        size_bytes: number(home.join("size")),
        modes,
        interleave_ways: number(home.join("interleave_ways")),
        qos_class: number(home.join("qos_class")),
    }
}
