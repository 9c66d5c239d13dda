//! Persistent regions: a namespace on them, and on that a device or a file system (Linux
//! `Documentation/driver-api/nvdimm/nvdimm.rst`).

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;

use super::cxl::{self, Committed};
use super::plan::{Exposure, Region};
use super::sysfs::{entries, name, number, read, refused, target, wait_for, write};
use super::{dax, modules};
use crate::error::{Context, Result};

const DEVICES: &str = "/sys/bus/nd/devices";
/// The modules that persistent regions need beside those of CXL; before the region is set up.
pub const MODULES: [&str; 5] = ["libnvdimm", "cxl_pmem", "nd_pmem", "dax_pmem", "device_dax"];
/// Mappings begin and end at multiples of this many bytes.
const ALIGN: u64 = 2 << 20;

/// Brings a persistent region up; what an earlier guest left on it is found again.
///
/// # Errors
/// [`crate::ErrorKind::BringUp`] with what the kernel refused.
pub fn bring_up(region: &Region, committed: &Committed) -> Result<String> {
    // The region of libnvdimm lies elsewhere in sysfs than the one of CXL: the place in memory is what they share.
    let nd_region = wait_for(&format!("the namespaces of {}", committed.name), || {
        let regions = entries(DEVICES).into_iter().filter(|path| name(path).starts_with("region"));
        regions.into_iter().find(|path| number(path.join("resource")) == Some(committed.address))
    })?;
    wait_for(&format!("the driver of {}", name(&nd_region)), || nd_region.join("driver").exists().then_some(()))?;
    let folder = target(&nd_region).unwrap_or_else(|| nd_region.clone());
    // What is on the device already comes up on its own; reading this waits for it.
    let _ = folder.parent().and_then(|bus| read(bus.join("wait_probe")));
    let label = cxl::uuid(region, 1);
    let spaces = entries(&folder).into_iter().filter(|path| name(path).starts_with("namespace"));
    let known = spaces.into_iter().find(|path| read(path.join("uuid")).as_deref() == Some(label.as_str()));
    let existing = known.filter(|path| number(path.join("size")).is_some_and(|size| size > 0));
    if existing.is_none() {
        let space = create(&nd_region, &label)?;
        claim(region, &nd_region, &space)?;
    }
    match region.exposure {
        Exposure::Fsdax => {
            let disk = wait_for("the disk of the namespace", || {
                let disks = entries("/sys/block").into_iter().filter(|path| name(path).starts_with("pmem"));
                disks.into_iter().find(|path| target(path).is_some_and(|real| real.starts_with(&folder)))
            })?;
            mount(&region.name, &Path::new("/dev").join(name(&disk)))
        }
        _ => {
            let device = dax::device_below(&folder)?;
            dax::give(&device, dax::Driver::Device)?;
            Ok(format!("/dev/{device}"))
        }
    }
}

/// Makes a namespace of the whole region.
fn create(nd_region: &Path, label: &str) -> Result<String> {
    let space = wait_for("a namespace to set up", || {
        read(nd_region.join("namespace_seed")).filter(|seed| !seed.is_empty() && seed != "0")
    })?;
    let folder = Path::new(DEVICES).join(&space);
    write(folder.join("uuid"), label)?;
    let bytes = number(nd_region.join("available_size")).unwrap_or(0);
    write(folder.join("size"), bytes.to_string())?;
    Ok(space)
}

/// Says what the namespace is for.
fn claim(region: &Region, nd_region: &Path, space: &str) -> Result<()> {
    let (seed, driver) = match region.exposure {
        Exposure::Fsdax => ("pfn_seed", "nd_pmem"),
        _ => ("dax_seed", "dax_pmem"),
    };
    let claimer = wait_for(&format!("{seed} of {}", name(nd_region)), || {
        read(nd_region.join(seed)).filter(|seed| !seed.is_empty())
    })?;
    let folder = Path::new(DEVICES).join(&claimer);
    write(folder.join("mode"), "pmem")?;
    write(folder.join("uuid"), cxl::uuid(region, 2))?;
    write(folder.join("align"), ALIGN.to_string())?;
    write(folder.join("namespace"), space)?;
    if !folder.join("driver").exists() {
        write(format!("/sys/bus/nd/drivers/{driver}/bind"), &claimer)?;
    }
    Ok(())
}

/// Makes a file system unless there is one, and mounts it.
fn mount(called: &str, disk: &Path) -> Result<String> {
    modules::load(&["ext4"])?;
    if !has_file_system(disk)? {
        make_file_system(disk)?;
    }
    let place = format!("/mnt/{called}");
    fs::create_dir_all(&place).at(Path::new(&place))?;
    run(Command::new("/bin/busybox").args(["mount", "-t", "ext4", "-o", "dax=always"]).arg(disk).arg(&place))?;
    Ok(place)
}

/// Whether the magic of ext2, ext3 and ext4 is where they have it.
fn has_file_system(disk: &Path) -> Result<bool> {
    const MAGIC_AT: u64 = 1024 + 56;
    let mut file = fs::File::open(disk).at(disk)?;
    let mut magic = [0; 2];
    file.seek(SeekFrom::Start(MAGIC_AT)).and_then(|_| file.read_exact(&mut magic)).at(disk)?;
    Ok(magic == [0x53, 0xef])
}

fn make_file_system(disk: &Path) -> Result<()> {
    let best = Path::new("/usr/sbin/mke2fs");
    if best.exists() {
        return run(Command::new(best).args(["-q", "-F", "-t", "ext4", "-b", "4096"]).arg(disk));
    }
    // Without a journal, but mounted by the same driver, and mapped in the same way.
    run(Command::new("/bin/busybox").args(["mke2fs", "-F", "-b", "4096"]).arg(disk))
}

/// Runs a tool; what it says when it fails is the reason.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.output().context(&shown)?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(refused(&shown, String::from_utf8_lossy(&said).trim()))
}
