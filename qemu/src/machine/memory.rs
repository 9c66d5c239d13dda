//! Decoder windows and regions, and what stands behind each device.

use tiermem_topology::{Exposure, MemoryFigures, Persistence, Profile, ProfileFigures};

use super::wiring::{Attached, Wiring};
use super::{Backing, CXL_STEP, LABELS, View, cdat};
use crate::error::Result;
use crate::guest::plan::{self, Region};

/// A part of the physical address space that goes to certain bridges (CFMWS).
#[derive(Debug)]
pub struct Window {
    /// Numbers in ACPI, and QEMU's names.
    bridges: Vec<(u32, String)>,
    granularity: u32,
    pub regions: Vec<Region>,
}

/// What QEMU needs for a device.
#[derive(Debug)]
pub struct Built {
    pub backends: Vec<String>,
    pub properties: String,
    pub files: Vec<Backing>,
}

/// The windows: one over several bridges for each interleave set that spans them, and one for each bridge that has
/// anything else.
pub fn windows(view: &View<'_>, wiring: &Wiring) -> Result<Vec<Window>> {
    let attached = wiring.devices();
    let find = |name: &str| attached.iter().find(|device| device.name == name).copied();
    let bridge_id = |bus: u32| wiring.bridges.iter().find(|b| b.bus == bus).map(|b| b.id.clone()).unwrap_or_default();
    let mut windows: Vec<Window> = Vec::new();
    let mut place = |bridges: Vec<u32>, granularity: u32, region: Region| {
        let same = |w: &&mut Window| w.bridges.iter().map(|(bus, _)| *bus).eq(bridges.iter().copied());
        match windows.iter_mut().find(|w| same(w) && (bridges.len() == 1 || w.granularity == granularity)) {
            Some(window) => window.regions.push(region),
            None => windows.push(Window {
                bridges: bridges.iter().map(|&bus| (bus, bridge_id(bus))).collect(),
                granularity,
                regions: vec![region],
            }),
        }
    };
    let mut in_sets = Vec::new();
    for set in &view.topology.interleave_sets {
        let members: Vec<&Attached> = set.devices.iter().filter_map(|name| find(name)).collect();
        if members.len() != set.devices.len() || members.is_empty() {
            continue;
        }
        in_sets.extend(set.devices.iter().map(String::as_str));
        let mut bridges: Vec<u32> = Vec::new();
        members.iter().for_each(|m| {
            if !bridges.contains(&m.bridge) {
                bridges.push(m.bridge)
            }
        });
        let persistent = set.devices.iter().all(|name| is_persistent(view, name));
        let region = region(&set.name, &members, &bridges, set.granularity, persistent, set.exposure)?;
        place(bridges, set.granularity, region);
    }
    for device in attached.iter().filter(|device| !in_sets.contains(&device.name.as_str())) {
        let Some(data) = view.topology.devices.iter().find(|data| data.name == device.name) else { continue };
        let persistent = is_persistent(view, &device.name);
        let region = region(&device.name, &[device], &[device.bridge], 256, persistent, data.exposure)?;
        place(vec![device.bridge], 256, region);
    }
    Ok(windows)
}

fn region(
    name: &str,
    members: &[&Attached],
    bridges: &[u32],
    granularity: u32,
    persistent: bool,
    exposure: Exposure,
) -> Result<Region> {
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
    Ok(Region {
        name: name.into(),
        serials: members.iter().map(|member| member.serial).collect(),
        bridges: bridges.to_vec(),
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
    for (number, window) in windows.iter().enumerate() {
        for (target, (_, bridge)) in window.bridges.iter().enumerate() {
            text.push_str(&format!(",cxl-fmw.{number}.targets.{target}={bridge}"));
        }
        let used: u64 = window.regions.iter().map(|region| region.bytes_each * region.serials.len() as u64).sum();
        let step = CXL_STEP * window.bridges.len() as u64;
        text.push_str(&format!(",cxl-fmw.{number}.size={}M", used.next_multiple_of(step) >> 20));
        if window.bridges.len() > 1 {
            text.push_str(&format!(",cxl-fmw.{number}.interleave-granularity={}", window.granularity));
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
