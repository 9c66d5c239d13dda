//! Decoder windows and regions, and what stands behind each device.

use tiermem_topology::{Exposure, MemoryFigures, Persistence, Profile, ProfileFigures};

use super::wiring::{Attached, Wiring};
use super::{Backing, CXL_STEP, LABELS, View, cdat};
use crate::error::Result;
use crate::guest::plan::{self, Region};

/// Granularity of a region over one device; nothing depends on it.
const GRANULARITY_ALONE: u32 = 256;
/// Regions that a bridge's decoders can hold (QEMU, `CXL_HDM_DECODER_COUNT`).
const REGIONS_MAX: usize = 4;

/// A part of the physical address space that goes to certain bridges (CFMWS). Each region has its own, because what lies in
/// one window is one NUMA node.
#[derive(Debug)]
pub struct Window {
    /// QEMU's names.
    bridges: Vec<String>,
    pub region: Region,
}

/// What QEMU needs for a device.
#[derive(Debug)]
pub struct Built {
    pub backends: Vec<String>,
    pub properties: String,
    pub files: Vec<Backing>,
}

/// The windows: one for each interleave set, and one for each device that is in none.
pub fn windows(view: &View<'_>, wiring: &Wiring) -> Result<Vec<Window>> {
    let attached = wiring.devices();
    let mut regions = Vec::new();
    let mut in_sets = Vec::new();
    for set in &view.topology.interleave_sets {
        let find = |name: &String| attached.iter().find(|device| device.name == *name).copied();
        let members: Vec<&Attached> = set.devices.iter().filter_map(find).collect();
        if members.len() != set.devices.len() || members.is_empty() {
            continue;
        }
        in_sets.extend(set.devices.iter().map(String::as_str));
        let persistent = set.devices.iter().all(|name| is_persistent(view, name));
        regions.push(region(&set.name, &members, set.granularity, persistent, set.exposure)?);
    }
    for device in attached.iter().filter(|device| !in_sets.contains(&device.name.as_str())) {
        let Some(data) = view.topology.devices.iter().find(|data| data.name == device.name) else { continue };
        let persistent = is_persistent(view, &device.name);
        regions.push(region(&device.name, &[device], GRANULARITY_ALONE, persistent, data.exposure)?);
    }
    for bridge in &wiring.bridges {
        let count = regions.iter().filter(|region| region.bridges.contains(&bridge.bus)).count();
        if count > REGIONS_MAX {
            return Err(View::bad(format!(
                "{count} devices and interleave sets hang at one host bridge, whose decoders hold {REGIONS_MAX}: name more bridges"
            )));
        }
    }
    let id = |bus: &u32| wiring.bridges.iter().find(|bridge| bridge.bus == *bus).map(|bridge| bridge.id.clone());
    let windows = (0..).zip(regions).map(|(number, region)| Window {
        bridges: region.bridges.iter().filter_map(id).collect(),
        region: Region { window: number, ..region },
    });
    Ok(windows.collect())
}

fn region(name: &str, members: &[&Attached], granularity: u32, persistent: bool, exposure: Exposure) -> Result<Region> {
    let bytes_each = members.iter().map(|member| member.bytes).min().unwrap_or(0);
    if members.iter().any(|member| member.bytes != bytes_each) {
        return Err(View::bad(format!("{name}: interleaved devices must be of one size")));
    }
    let exposure = match exposure {
        Exposure::Devdax => plan::Exposure::Devdax,
        Exposure::Fsdax => plan::Exposure::Fsdax,
        _ => plan::Exposure::Node,
    };
    if exposure == plan::Exposure::Fsdax && !persistent {
        return Err(View::bad(format!("{name}: only persistent memory can hold a file system")));
    }
    if exposure == plan::Exposure::Node && persistent {
        let why = "the kernel makes no NUMA node of persistent memory here; its exposure can be devdax or fsdax";
        return Err(View::bad(format!("{name}: {why}")));
    }
    let mut bridges: Vec<u32> = Vec::new();
    for member in members {
        if !bridges.contains(&member.bridge) {
            bridges.push(member.bridge);
        }
    }
    Ok(Region {
        name: name.into(),
        window: 0,
        devices: members.iter().map(|member| member.name.clone()).collect(),
        serials: members.iter().map(|member| member.serial).collect(),
        bridges,
        granularity,
        bytes_each,
        persistent,
        exposure,
    })
}

fn is_persistent(view: &View<'_>, name: &str) -> bool {
    view.topology.devices.iter().any(|device| device.name == name && device.persistence == Persistence::Persistent)
}

/// The windows as properties of the machine.
pub fn arguments(windows: &[Window]) -> String {
    let mut text = String::new();
    for Window { bridges, region } in windows {
        let window = format!("cxl-fmw.{}", region.window);
        for (target, bridge) in bridges.iter().enumerate() {
            text.push_str(&format!(",{window}.targets.{target}={bridge}"));
        }
        let used = region.bytes_each * region.serials.len() as u64;
        let step = CXL_STEP * bridges.len() as u64;
        text.push_str(&format!(",{window}.size={}M", used.next_multiple_of(step) >> 20));
        if bridges.len() > 1 {
            text.push_str(&format!(",{window}.interleave-granularity={}", region.granularity));
        }
    }
    text
}

/// The memory behind a device: anonymous, or a file where it must outlive the machine or is shared with another.
pub fn device(view: &View<'_>, device: &Attached) -> Result<Built> {
    let (id, bytes) = (&device.id, device.bytes);
    let persistent = is_persistent(view, &device.name);
    let pooled = view.shared || view.topology.pools.iter().any(|pool| pool.device == device.name);
    let mut built = Built { backends: Vec::new(), properties: String::new(), files: Vec::new() };
    let folder = if persistent { view.folders.state } else { view.folders.scratch };
    let mut file = |suffix: &str, bytes: u64| {
        let path = folder.join(format!("{}.{suffix}", device.name));
        built.backends.extend([
            "-object".into(),
            format!("memory-backend-file,id={id}.{suffix},share=on,mem-path={},size={bytes}", path.display()),
        ]);
        built.files.push(Backing { path, bytes, contents: Vec::new(), kept: persistent });
    };
    if persistent {
        file("memory", bytes);
        file("labels", LABELS);
        built.properties = format!("persistent-memdev={id}.memory,lsa={id}.labels");
    } else if pooled {
        file("memory", bytes);
        built.properties = format!("volatile-memdev={id}.memory");
    } else {
        let backend = format!("memory-backend-ram,id={id}.memory,share=on,size={bytes}");
        built.backends = vec!["-object".into(), backend];
        built.properties = format!("volatile-memdev={id}.memory");
    }
    if let Some(figures) = figures(view, device) {
        let path = view.folders.scratch.join(format!("{}.cdat", device.name));
        let contents = cdat::table(bytes, persistent, figures);
        built.properties.push_str(&format!(",cdat={}", path.display()));
        built.files.push(Backing { path, bytes: contents.len() as u64, contents, kept: false });
    }
    Ok(built)
}

fn figures<'a>(view: &View<'a>, device: &Attached) -> Option<&'a MemoryFigures> {
    let data = view.topology.devices.iter().find(|data| data.name == device.name)?;
    memory_figures(&view.topology.profiles, &data.profile)
}

/// The figures of a kind of memory.
pub fn memory_figures<'a>(profiles: &'a [Profile], name: &str) -> Option<&'a MemoryFigures> {
    match &profiles.iter().find(|profile| profile.name == name)?.figures {
        ProfileFigures::Memory(figures) => Some(figures),
        _ => None,
    }
}
