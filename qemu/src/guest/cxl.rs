//! Setting up CXL regions through sysfs (Linux `Documentation/ABI/testing/sysfs-bus-cxl`).

use std::path::{Path, PathBuf};

use super::plan::Region;
use super::sysfs::{entries, name, number, read, target, wait_for, write};
use crate::error::{Error, ErrorKind, Result};

const DEVICES: &str = "/sys/bus/cxl/devices";
/// The modules that find memory devices and their decoders.
pub const MODULES: [&str; 3] = ["cxl_acpi", "cxl_pci", "cxl_mem"];

/// A region that the kernel has committed.
#[derive(Clone, Debug)]
pub struct Committed {
    /// As the kernel calls it.
    pub name: String,
    /// Its folder in sysfs.
    pub path: PathBuf,
    /// Where it begins in the physical address space.
    pub address: u64,
    /// Its size, bytes.
    pub bytes: u64,
}

/// Sets a region up and lets its driver have it.
///
/// # Errors
/// [`ErrorKind::BringUp`] with the attribute that the kernel refused and its reason.
pub fn commit(region: &Region) -> Result<Committed> {
    let kind = if region.persistent { "pmem" } else { "ram" };
    let memories: Vec<String> = region.serials.iter().map(|&serial| memory(serial)).collect::<Result<_>>()?;
    let window = window(region, kind)?;
    let create = window.join(format!("create_{kind}_region"));
    let called = read(&create).ok_or_else(|| missing(&create))?;
    write(&create, &called)?;
    let path = Path::new(DEVICES).join(&called);
    if region.persistent {
        // Here the kernel insists on the newline.
        write(path.join("uuid"), format!("{}\n", uuid(region, 0)))?;
    }
    write(path.join("interleave_granularity"), region.granularity.to_string())?;
    write(path.join("interleave_ways"), region.serials.len().to_string())?;
    let mut decoders = Vec::new();
    for memory in &memories {
        let decoder = endpoint_decoder(memory)?;
        let folder = Path::new(DEVICES).join(&decoder);
        write(folder.join("mode"), kind)?;
        write(folder.join("dpa_size"), format!("{:#x}", region.bytes_each))?;
        decoders.push(decoder);
    }
    write(path.join("size"), format!("{:#x}", region.bytes_each * region.serials.len() as u64))?;
    for (position, decoder) in decoders.iter().enumerate() {
        write(path.join(format!("target{position}")), decoder)?;
    }
    write(path.join("commit"), "1")?;
    write("/sys/bus/cxl/drivers/cxl_region/bind", &called)?;
    let attribute = |attribute: &str| number(path.join(attribute)).ok_or_else(|| missing(&path.join(attribute)));
    Ok(Committed { address: attribute("resource")?, bytes: attribute("size")?, name: called, path })
}

/// A number for `what` of this region that is the same at each start, in the form of a UUID: labels on persistent devices
/// must be found again.
pub fn uuid(region: &Region, what: u16) -> String {
    let serial = region.serials.first().copied().unwrap_or(0);
    format!("7465726d-6c61-4{what:03x}-8000-{serial:012x}")
}

/// The memory device with this serial number, once its decoders are there.
fn memory(serial: u64) -> Result<String> {
    wait_for(&format!("the CXL device with serial number {serial:#x}"), || {
        let memories = entries(DEVICES).into_iter().filter(|path| name(path).starts_with("mem"));
        let found =
            memories.filter(|path| number(path.join("serial")) == Some(serial)).map(|path| name(&path)).next()?;
        endpoint(&found).map(|_| found)
    })
}

/// The port behind which a memory device's own decoders lie.
fn endpoint(memory: &str) -> Option<PathBuf> {
    let device = target(Path::new(DEVICES).join(memory))?;
    let ports = entries(DEVICES).into_iter().filter(|path| name(path).starts_with("endpoint"));
    let found = ports.into_iter().find(|path| target(path.join("uport")).as_ref() == Some(&device))?;
    found.join("driver").exists().then_some(found)
}

fn endpoint_decoder(memory: &str) -> Result<String> {
    let found = endpoint(memory).and_then(|port| {
        let number = name(&port).strip_prefix("endpoint")?.to_owned();
        let decoder = format!("decoder{number}.0");
        Path::new(DEVICES).join(&decoder).exists().then_some(decoder)
    });
    found.ok_or_else(|| Error::new(ErrorKind::BringUp, format!("{memory} has no decoder in the guest")))
}

/// The root decoder of the region's window. The kernel numbers them as the firmware's table (CEDT) lists them; that it goes
/// to the region's bridges is checked all the same.
fn window(region: &Region, kind: &str) -> Result<PathBuf> {
    let wanted = region.bridges.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let path = Path::new(DEVICES).join(format!("decoder0.{}", region.window));
    wait_for(&format!("{} over the host bridges {wanted}", path.display()), || {
        let fits = read(path.join("target_list")).as_deref() == Some(wanted.as_str())
            && path.join(format!("create_{kind}_region")).exists();
        fits.then(|| path.clone())
    })
}

fn missing(path: &Path) -> Error {
    Error::new(ErrorKind::BringUp, format!("{} is not there: this kernel cannot do it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::uuid;
    use crate::guest::plan::{Exposure, Region};

    #[test]
    fn identifiers_are_stable_and_distinct() {
        let region = Region {
            name: "p".into(),
            window: 0,
            devices: vec!["p".into()],
            serials: vec![7],
            bridges: vec![12],
            granularity: 256,
            bytes_each: 1 << 28,
            persistent: true,
            exposure: Exposure::Fsdax,
        };
        assert_eq!(uuid(&region, 0), "7465726d-6c61-4000-8000-000000000007");
        assert_ne!(uuid(&region, 0), uuid(&region, 1));
        assert_eq!(uuid(&region, 2).len(), 36);
    }
}
