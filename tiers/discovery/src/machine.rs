//! The whole of this machine.

use crate::report::{Machine, Report, TierReport};
use crate::roots::{number_list, text};
use crate::{Roots, cxl, dax, device, hwloc, mechanism, mount, node};

/// Finds every tier below `roots`. hwloc, the accelerators and the mechanisms are asked only if these are the trees
/// of the machine that this program runs on, since they cannot be pointed elsewhere.
pub fn machine(roots: &Roots) -> Report {
    let dax = dax::devices(roots);
    let mut tiers = node::find(roots, &dax);
    tiers.extend(dax::tiers(roots, &dax));
    tiers.extend(mount::find(roots));
    let mut report =
        Report { machine: describe(roots), tiers, cxl: cxl::find(roots), mechanisms: None, notes: Vec::new() };
    if roots.is_host() {
        // Starting the accelerators' runtimes takes longest, and waits for nothing here.
        let devices = std::thread::spawn(device::find);
        hwloc::enrich(&mut report);
        report.mechanisms = Some(mechanism::probe_all(&report));
        match devices.join() {
            Ok(devices) => {
                report.tiers.extend(devices.tiers);
                report.notes.extend(devices.notes);
            }
            Err(_) => report.notes.push("looking for accelerators failed".to_owned()),
        }
    }
    // Memory first, storage last; within a kind in the order found.
    report.tiers.sort_by_key(rank);
    if let Some(hypervisor) = &report.machine.hypervisor {
        report
            .notes
            .push(format!("virtual machine ({hypervisor}): topology and figures are what the hypervisor shows"));
    }
    report
}

fn rank(tier: &TierReport) -> usize {
    const ORDER: [&str; 6] = ["device", "dram", "cxl-node", "devdax", "dax-file", "nvme"];
    // A runtime that offers the CPU as a device has nothing faster than DRAM to offer.
    let is_cpu = tier.name.starts_with("opencl-cpu");
    ORDER.iter().position(|kind| *kind == tier.kind && !is_cpu).unwrap_or(ORDER.len())
}

fn describe(roots: &Roots) -> Machine {
    let cpuinfo = text(roots.proc.join("cpuinfo")).unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let is_virtual = field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let vendor = text(roots.sys.join("class/dmi/id/sys_vendor")).or_else(|| text(roots.sys.join("hypervisor/type")));
    let vendor = vendor.or_else(|| if roots.is_host() { tiermem_sys::cpu::hypervisor() } else { None });
    let online = text(roots.sys.join("devices/system/cpu/online"));
    Machine {
        origin: "this machine".to_owned(),
        kernel: text(roots.proc.join("sys/kernel/osrelease")),
        cpu_model: field("model name"),
        cpus: online.map(|list| number_list(&list).len() as u64),
        hypervisor: is_virtual.then(|| vendor.unwrap_or_else(|| "vendor unknown".to_owned())),
        last_level_cache_bytes: None,
        hwloc: None,
    }
}
