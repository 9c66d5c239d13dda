//! `/dev/dax*`: memory that a program maps directly, from CXL regions, persistent memory or firmware-reserved ranges.
//!
//! Kernel document: `ABI/testing/sysfs-bus-dax`.

use std::fs;
use std::path::Path;

use tiermem_tiers::{Source, TierKind};

use crate::Roots;
use crate::assumed;
use crate::node::region_figures;
use crate::report::{DaxReport, Figure, Figures, TierReport, tier_spec};
use crate::roots::{entries, node_number, number};

/// Every DAX device with a size, whichever driver holds it.
pub fn devices(roots: &Roots) -> Vec<DaxReport> {
    let folder = roots.sys.join("bus/dax/devices");
    let names = entries(&folder);
    names.iter().filter_map(|name| describe(&folder.join(name), name)).collect()
}

fn describe(home: &Path, name: &str) -> Option<DaxReport> {
    // A device of size zero is the seed that a new device is made from.
    let size_bytes = number(home.join("size")).filter(|&size| size > 0)?;
    let driver = fs::read_link(home.join("driver")).ok();
    let driver = driver.and_then(|link| Some(link.file_name()?.to_str()?.to_owned()));
    let (backing, region) = backing(home);
    Some(DaxReport {
        device: name.to_owned(),
        size_bytes,
        align_bytes: number(home.join("align")),
        target_node: node_number(home.join("target_node")),
        driver,
        backing,
        region,
    })
}

/// What is behind the device, read from the path of the device that it is a child of:
/// `…/decoder0.0/region0/dax_region0/dax0.0`, `…/ndbus0/region1/dax1.0`, `…/hmem.0/dax2.0`.
fn backing(home: &Path) -> (Option<String>, Option<String>) {
    let Ok(real) = fs::canonicalize(home) else { return (None, None) };
    let parts: Vec<&str> = real.iter().filter_map(|part| part.to_str()).collect();
    let part = |wanted: fn(&str) -> bool| parts.iter().copied().find(|&part| wanted(part));
    let region =
        part(|p| p.strip_prefix("region").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())));
    let is_cxl = part(|p| p.starts_with("dax_region") || p.starts_with("decoder")).is_some();
    let hmem = part(|p| p.starts_with("hmem"));
    let kind = match (region, hmem) {
        _ if part(|p| p.starts_with("ndbus")).is_some() => Some("pmem"),
        (Some(_), _) if is_cxl => Some("cxl"),
        (_, Some(_)) => Some("hmem"),
        _ => None,
    };
    (kind.map(str::to_owned), region.or(hmem).map(str::to_owned))
}

/// The devices that can be mapped, or could be. Those that `kmem` made into a node are shown as that node.
pub fn tiers(roots: &Roots, devices: &[DaxReport]) -> Vec<TierReport> {
    devices.iter().filter(|d| d.driver.as_deref() != Some("kmem")).map(|d| tier(roots, d)).collect()
}

fn tier(roots: &Roots, dax: &DaxReport) -> TierReport {
    let node = roots.dev.join(&dax.device);
    let backing = match dax.backing.as_deref() {
        Some("cxl") => "CXL memory",
        Some("pmem") => "persistent memory",
        Some("hmem") => "memory set aside by the firmware",
        _ => "memory",
    };
    let region = dax.region.as_ref().map(|r| format!(", {r}")).unwrap_or_default();
    let description = format!("{backing} (devdax{region})");
    let location = format!("/dev/{}", dax.device);
    let mut tier = TierReport::new(TierKind::Devdax, dax.device.clone(), location, &description);
    #[expect(clippy::cast_precision_loss, reason = "no device has 2^53 bytes")]
    let size = Figure::new(dax.size_bytes as f64, Source::Kernel, "dax size");
    Figures::add(&mut tier.attributes.capacity_bytes, size);
    if dax.backing.as_deref() == Some("cxl") {
        if let Some(region) = &dax.region {
            region_figures(roots, region, &mut tier.attributes);
        }
        assumed::fill(assumed::Kind::Cxl, &mut tier.attributes);
    }
    match dax.driver.as_deref() {
        Some("device_dax") if !node.exists() => {
            tier.notes.push(format!("{} does not exist: is udev running?", tier.location))
        }
        Some("device_dax") => match fs::OpenOptions::new().read(true).write(true).open(&node) {
            Ok(_) => tier.spec = tier_spec(TierKind::Devdax, &tier.name, &tier.location, None),
            Err(error) => tier
                .notes
                .push(format!("{} cannot be opened ({error}): run as root or change its owner", tier.location)),
        },
        Some(other) => tier.notes.push(format!("held by the driver {other}: bind it to device_dax to map it")),
        None => tier.notes.push("no driver holds it: `modprobe device_dax` or bind it in /sys/bus/dax/drivers".into()),
    }
    if let Some(target) = dax.target_node {
        tier.notes.push(format!("would be node {target} in system-ram mode (daxctl reconfigure-device)"));
    }
    tier.dax = Some(dax.clone());
    tier
}
